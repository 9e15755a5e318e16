//! Flipped bits in the store files of real relays: named, counted, never served, and mended from the
//! parent; an origin, which has none, gets them back from below.

use std::fs;

use proto::{Chunk, Name, Prefix, Registration, Tier};
use serde_json::Value;
use tempfile::TempDir;
use xtask::process::Process;
use xtask::tree::{self, free_address};

use crate::client::{message, publisher, read, run};
use crate::scene::{built, command, until};

/// How many chunks there are, and which of them are damaged.
const COUNT: u32 = 200;
const DAMAGED: [usize; 3] = [3, 90, 199];

/// An origin and a relay below it, which both have the same chunks.
struct Pair {
    origin: Option<Process>,
    local: Option<Process>,
    origin_at: String,
    below: Vec<String>,
    chunks: Vec<Chunk>,
    folder: TempDir,
}

impl Pair {
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let origin_at = free_address().unwrap();
        let (origin, above, key) = tree::relay(folder.path(), "origin", &origin_at, &[]).unwrap();
        let text = tree::register(&folder.path().join("origin")).unwrap();
        let registration = Registration::from_text(&text).unwrap();
        let chunks: Vec<Chunk> = (0..COUNT)
            .map(|number| message(&registration, 2, number))
            .collect();
        let mut pair = Self {
            origin: Some(origin),
            local: None,
            origin_at,
            below: ["--parent", &above, "--origin", &key]
                .map(str::to_owned)
                .into(),
            chunks,
            folder,
        };
        let address = pair.start_local(&[]);
        run(async {
            let mut link = publisher(&address, &registration).await;
            let answers = link.publish_and_wait(&pair.chunks, Tier::Origin).await;
            assert_eq!(answers.unwrap().len(), COUNT as usize);
        });
        pair
    }

    fn start_local(&mut self, more: &[&str]) -> String {
        let below = self.below.iter().map(String::as_str);
        let more: Vec<&str> = below.chain(more.iter().copied()).collect();
        let started = tree::relay(self.folder.path(), "local", "127.0.0.1:0", &more);
        let (local, address, _) = started.unwrap();
        self.local = Some(local);
        address
    }

    fn start_origin(&mut self) -> String {
        let started = tree::relay(self.folder.path(), "origin", &self.origin_at, &[]);
        let (origin, address, _) = started.unwrap();
        self.origin = Some(origin);
        address
    }

    /// Flips a bit of some chunks in the file of a relay that does not run.
    fn damage(&self, relay: &str) {
        let path = self.folder.path().join(relay).join("store.db");
        let mut file = fs::read(&path).unwrap();
        for chunk in DAMAGED.map(|at| &self.chunks[at]) {
            // Where SQLite has moved a row, its old bytes may lie in the file, too.
            let bytes = chunk.encoded();
            let places: Vec<usize> = (0..file.len() - bytes.len())
                .filter(|from| file[*from..].starts_with(bytes))
                .collect();
            assert!(!places.is_empty());
            for from in places {
                file[from + bytes.len() / 2] ^= 0x10;
            }
        }
        fs::write(path, file).unwrap();
    }

    fn log(&self, relay: &str) -> String {
        fs::read_to_string(self.folder.path().join(relay).with_extension("log")).unwrap()
    }

    fn ask(&self, words: &[&str], relay: &str) -> Value {
        let place = self.folder.path().join(relay);
        let place = ["--json", "--directory", place.to_str().unwrap()];
        let out = command("treeline-relay", &[words, &place].concat());
        serde_json::from_slice(&out.stdout)
            .unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&out.stderr)))
    }

    /// Everything is served as it was written, by who reads all and by who asks again.
    fn serves_all(&self, address: &str) {
        let team = Prefix::of(self.chunks[0].name(), Name::TEAM_BITS);
        let held = || {
            let mut seen = run(read(address, team));
            let genuine = |chunk: &Chunk| self.chunks.contains(chunk);
            assert!(seen.iter().all(genuine), "a chunk is not what was written");
            seen.sort_by_key(Chunk::name);
            seen == self.chunks
        };
        until("everything is there", held);
    }

    fn names_all(&self, log: &str) {
        for chunk in DAMAGED.map(|at| &self.chunks[at]) {
            let name = chunk.name().to_string();
            let line = log.lines().find(|line| line.contains(&name));
            let line = line.unwrap_or_else(|| panic!("{name} is not in: {log}"));
            assert!(line.contains("was damaged"), "{line}");
        }
    }
}

/// The start's walk through the store finds it, names it and counts it; the parent gives it back.
#[test]
fn flipped_bits_are_found_at_the_start_and_come_back_from_the_parent() {
    let mut pair = Pair::new();
    pair.local = None;
    pair.damage("local");
    let told = pair.ask(&["doctor", "--listen", "127.0.0.1:0"], "local");
    let findings = told["findings"].as_array().unwrap();
    let finding = findings.iter().find(|finding| finding["check"] == "store");
    let finding = finding.unwrap();
    assert_eq!(finding["code"], "store-damaged");
    let cause = finding["cause"].as_str().unwrap();
    let first = pair.chunks[DAMAGED[0]].name().to_string();
    assert!(
        cause.starts_with("3 chunks") && cause.contains(&first),
        "{cause}"
    );

    let address = pair.start_local(&[]);
    until("it is counted", || {
        pair.ask(&["status"], "local")["counters"]["damaged"] == 3
    });
    pair.names_all(&pair.log("local"));
    pair.serves_all(&address);
}

/// Without that walk, whoever reads finds it, and gets nothing that is wrong.
#[test]
fn flipped_bits_are_found_when_they_are_read_and_never_served() {
    let mut pair = Pair::new();
    pair.local = None;
    pair.damage("local");
    let file = pair.folder.path().join("relay.toml");
    fs::write(&file, "check_store = false\n").unwrap();
    let address = pair.start_local(&["--config", file.to_str().unwrap()]);
    assert_eq!(pair.ask(&["status"], "local")["counters"]["damaged"], 0);
    pair.serves_all(&address);
    assert_eq!(pair.ask(&["status"], "local")["counters"]["damaged"], 3);
    pair.names_all(&pair.log("local"));
}

/// Garbage collection finds it, too; then the next start has nothing to find, and asks all the same.
#[test]
fn gc_lists_and_drops_what_is_damaged() {
    let mut pair = Pair::new();
    pair.local = None;
    pair.damage("local");
    let place = pair.folder.path().join("local");
    let dry = ["gc", "--dry-run", "--directory", place.to_str().unwrap()];
    let listed = String::from_utf8(command("treeline-relay", &dry).stdout).unwrap();
    let expected = DAMAGED.map(|at| {
        let chunk = &pair.chunks[at];
        format!("{} {}\n", chunk.name(), chunk.encoded().len())
    });
    assert_eq!(listed, expected.concat());
    let done = pair.ask(&["gc"], "local");
    assert_eq!((&done["damaged"], &done["chunks"]), (&3.into(), &0.into()));
    assert_eq!(pair.ask(&["gc"], "local")["damaged"], 0);
    let address = pair.start_local(&[]);
    pair.serves_all(&address);
    assert_eq!(pair.ask(&["status"], "local")["counters"]["damaged"], 0);
}

/// An origin has no parent: what is below it sends up what it lacks.
#[test]
fn an_origin_gets_back_from_below_what_was_damaged() {
    let mut pair = Pair::new();
    pair.origin = None;
    pair.damage("origin");
    let address = pair.start_origin();
    until("it is counted", || {
        pair.ask(&["status"], "origin")["counters"]["damaged"] == 3
    });
    pair.names_all(&pair.log("origin"));
    pair.serves_all(&address);
}
