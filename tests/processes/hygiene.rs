//! P7, P8: what is in memory after a lock, and what stands in the files.
//!
//! The real treeline-secure cannot be looked into, so its code runs in this program once more: the
//! same device, shell and allocator, without confinement, in a process that the test may read.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use ciborium::Value;
use confinement::Isolation;
use endpoint_secure::device::Device;
use endpoint_secure::lock::{Cost, Lock};
use endpoint_secure::shell::Shell;
use endpoint_secure_api::control::Control;
use endpoint_secure_api::{Answer, ChannelId, Command as Ask, Passphrase};
use rusqlite::{Connection, OpenFlags};

use crate::alone::{Alone, PASSPHRASE, Seen, unlock};
use crate::scene::{files, until};
use crate::taken_over::found;
use crate::words::without;

const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
};
const DIRECTORY: &str = "TREELINE_TEST_DIRECTORY";
const WORDS: &[&str] = &["quarantine", "gesperrt", "Lighthouse", "Night watch"];
/// Keys and secret values of the group's library that are planted at least.
const LEAST: usize = 10;

/// Secure's own part of the test; does nothing where a test run meets it.
#[test]
#[ignore = "it is a process of the others"]
fn as_secure() {
    let Some(directory) = std::env::var_os(DIRECTORY) else {
        return;
    };
    let device = Device::open(directory.as_ref(), CHEAP).unwrap();
    let shell = Shell::new(device, Control::inherited().unwrap()).unwrap();
    shell.run(Isolation::None("a test looks into it".into()));
}

fn open_to_the_test(directory: &Path) -> Alone {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "hygiene::as_secure", "--ignored", "--nocapture"])
        .env(DIRECTORY, directory);
    Alone::of(command, &directory.with_extension("log"))
}

/// Everything that a process has in memory and may write to.
fn memory(pid: u32) -> Vec<(String, Vec<u8>)> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut areas = Vec::new();
    for line in maps.lines() {
        let mut words = line.split(' ');
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        if !rights.starts_with("rw") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let number = |hex| u64::from_str_radix(hex, 16).unwrap();
        let (start, end) = (number(start), number(end));
        let mut area = vec![0; (end - start) as usize];
        // A page that nobody has touched, or may touch, holds nothing.
        if memory.read_exact_at(&mut area, start).is_ok() {
            areas.push((line.to_owned(), area));
        }
    }
    areas
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    let first = needle[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(needle) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// What is looked for: a name for the report, and the bytes.
type Planted = Vec<(String, Vec<u8>)>;

/// What is there, and in which area of memory.
fn found_in(areas: &[(String, Vec<u8>)], planted: &Planted) -> Vec<(String, String)> {
    let place = |needle: &[u8]| areas.iter().find(|(_, area)| holds(area, needle));
    let found = planted
        .iter()
        .filter_map(|(name, needle)| Some((name.clone(), place(needle)?.0.clone())));
    found.collect()
}

/// Opens the database beside the process that works in it, and the sealed values in it with the key
/// that the passphrase gives: every run of 32 bytes in them that looks like a key.
fn keys(directory: &Path) -> Planted {
    let lock = Lock::open(directory, CHEAP).unwrap();
    let master = lock.unlock(&Passphrase::new(PASSPHRASE.into()), 1).unwrap();
    let values = master.derive("treeline store values 1");
    let mut planted = vec![
        ("the key of values".to_owned(), values.to_vec()),
        (
            "the key of rows".to_owned(),
            master.derive("treeline store rows 1").to_vec(),
        ),
    ];
    let cipher = XChaCha20Poly1305::new((&*values).into());
    let database = database(directory);
    for (table, owner, bytes) in [("record", "kind", 1), ("mls", "namespace", 8)] {
        let sql = format!("SELECT {owner}, row, value FROM {table}");
        let mut statement = database.prepare(&sql).unwrap();
        let mut rows = statement.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let (owner, key, sealed): (i64, Vec<u8>, Vec<u8>) = (
                row.get(0).unwrap(),
                row.get(1).unwrap(),
                row.get(2).unwrap(),
            );
            let owner = &owner.to_be_bytes()[8 - bytes..];
            let place = [&[1], table.as_bytes(), &[0], owner, &key].concat();
            let payload = Payload {
                msg: &sealed[24..],
                aad: &place,
            };
            let plain = cipher.decrypt(XNonce::from_slice(&sealed[..24]), payload);
            let value = ciborium::from_reader(&plain.unwrap()[..]).unwrap();
            gather(&value, &mut |key| {
                planted.push((format!("a key in {table}"), key))
            });
        }
    }
    planted
}

fn database(directory: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(directory.join("secure.db"), flags).unwrap()
}

fn gather(value: &Value, take: &mut impl FnMut(Vec<u8>)) {
    match value {
        Value::Bytes(bytes) => plausible(bytes.clone(), take),
        Value::Array(parts) => {
            let bytes = parts.iter().map(|part| match part {
                Value::Integer(number) => u8::try_from(*number).ok(),
                _ => None,
            });
            if let Some(bytes) = bytes.collect::<Option<Vec<u8>>>() {
                plausible(bytes, take);
            }
            parts.iter().for_each(|part| gather(part, take));
        }
        Value::Map(entries) => entries.iter().for_each(|(key, value)| {
            gather(key, take);
            gather(value, take);
        }),
        Value::Tag(_, value) => gather(value, take),
        _ => {}
    }
}

fn plausible(bytes: Vec<u8>, take: &mut impl FnMut(Vec<u8>)) {
    let kinds: std::collections::BTreeSet<_> = bytes.iter().collect();
    if bytes.len() == 32 && kinds.len() > 20 {
        take(bytes);
    }
}

/// P7: a lock leaves no text, no passphrase and no key in memory; what it had of keys and text is found
/// before.
#[test]
fn a_lock_leaves_nothing_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("secure");
    fs::create_dir(&directory).unwrap();
    leaves_nothing(&open_to_the_test(&directory), &directory);
}

/// The same of treeline-secure itself, into which nobody but root can look.
#[test]
fn a_lock_of_the_real_secure_leaves_nothing_in_memory() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("secure");
    let secure = Alone::start(&directory);
    secure.ask(&Ask::Status).unwrap();
    let memory = format!("/proc/{}/mem", secure.process.id());
    if rustix::process::geteuid().is_root() {
        leaves_nothing(&secure, &directory);
    } else {
        let refused = File::open(memory).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    }
}

fn leaves_nothing(secure: &Alone, directory: &Path) {
    let channel = found(secure);
    say_and_read(secure, channel);
    let mut planted = keys(directory);
    let text = |word: &&str| ((*word).to_owned(), word.as_bytes().to_vec());
    planted.extend(WORDS.iter().map(text));
    let pid = secure.process.id();

    let open = found_in(&memory(pid), &planted);
    for name in [
        "the key of values",
        "a key in record",
        "a key in mls",
        "Night watch",
    ] {
        assert!(
            open.iter().any(|(found, _)| found == name),
            "{name} is not found: {open:?}"
        );
    }
    assert!(open.len() > LEAST, "{open:?}");

    secure.ask(&Ask::Lock).unwrap();
    planted.push(text(&PASSPHRASE));
    let left = found_in(&memory(pid), &planted);
    assert!(left.is_empty(), "of {}: {left:#?}", planted.len());
    println!(
        "{} of {} were found before the lock, none after",
        open.len(),
        planted.len()
    );
}

fn say_and_read(secure: &Alone, channel: ChannelId) {
    let (anchor, count) = (endpoint_secure_api::Anchor::Newest, 10);
    let timeline = Ask::Timeline {
        channel,
        anchor,
        count,
    };
    let Answer::Page(page) = secure.ask(&timeline).unwrap() else {
        panic!("no page");
    };
    assert!(!page.messages.is_empty());
}

/// P8: a used message key stands in no file soon after, in the real process.
#[test]
fn a_used_key_is_written_over_in_every_file() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("secure");
    let secure = Alone::start(&directory);
    let channel = found(&secure);
    let sealed = || -> Vec<Vec<u8>> {
        let database = database(&directory);
        let mut statement = database.prepare("SELECT value FROM mls").unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.map(Result::unwrap).collect()
    };
    let before = sealed();
    let text = "one more turn of the ratchet".to_owned();
    let send = Ask::Send {
        channel,
        text,
        token: 99,
    };
    secure.ask(&send).unwrap();
    let after = sealed();
    let used: Vec<_> = before.iter().filter(|old| !after.contains(old)).collect();
    assert!(!used.is_empty() && !after.is_empty());
    // Long values lie in pieces; each begins with 24 random bytes.
    let there = |value: &[u8]| {
        let files = files(&directory);
        files.iter().any(|(_, file)| holds(file, &value[..24]))
    };
    assert!(
        after.iter().all(|value| there(value)),
        "the control finds too little"
    );
    until("used keys are in no file", || {
        !used.iter().any(|old| there(old))
    });
}

/// P7: of a copied directory without its passphrase neither a word nor a key can be had.
#[test]
fn a_copied_directory_gives_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("secure");
    let secure = Alone::start(&directory);
    found(&secure);
    let seen = Arc::new(Mutex::new(Seen::default()));
    drop(secure.link(&seen));
    // As a thief would who does not wait until it is closed: with its log.
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for (path, content) in files(&directory) {
        fs::write(copy.join(path.file_name().unwrap()), content).unwrap();
    }
    drop(secure);
    let all: Vec<u8> = files(&copy)
        .into_iter()
        .flat_map(|(_, bytes)| bytes)
        .collect();
    assert!(all.len() > 50_000);
    without(WORDS, &all, "a copied directory");
    let names = ["Bienenstock", "general", "ward laptop", PASSPHRASE];
    without(&names, &all, "a copied directory");
    let planted = keys_of_a_full_lock(&copy);
    assert!(planted.len() > LEAST);
    for (name, key) in &planted {
        assert!(!holds(&all, key), "{name}");
    }

    let thief = Alone::start(&copy);
    for command in [Ask::Teams, Ask::Relays, Ask::Connectivity] {
        thief.ask(&command).unwrap_err();
    }
    let passphrase = Passphrase::new("quinces ripen late behind the lighthouse".into());
    thief.ask(&Ask::Unlock { passphrase }).unwrap_err();
    unlock(&thief);
    let Answer::Teams(teams) = thief.ask(&Ask::Teams).unwrap() else {
        panic!("no teams");
    };
    assert_eq!(teams.len(), 2, "the control opens it");
}

/// The real process's profile has the real cost, which stands in it.
fn keys_of_a_full_lock(directory: &Path) -> Planted {
    let start = Instant::now();
    let planted = keys(directory);
    assert!(start.elapsed() < Duration::from_secs(60));
    planted
}
