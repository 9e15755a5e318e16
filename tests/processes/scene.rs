//! A tree of relays with two people on it, in a folder that is removed afterwards.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use xtask::people::{CHANNEL, Person, provision};
use xtask::process::{NO_KEYRING, binary};
use xtask::tree::Tree;

const PROGRAMS: [&str; 9] = [
    "treeline-relay",
    "treeline-net",
    "treeline-secure",
    "treeline-keyring",
    "treeline-starter",
    "treeline-chat",
    "treeline-member",
    "treeline-dump",
    "xtask",
];

/// Relays and people.
pub struct Scene {
    pub people: [Person; 2],
    pub tree: Tree,
    folder: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::start(&folder.path().join("relays")).unwrap();
        let people = provision(folder.path(), &tree).unwrap();
        Self {
            people,
            tree,
            folder,
        }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn store_of(&self, relay: &str) -> PathBuf {
        self.folder().join("relays").join(relay)
    }

    /// Sends one message and waits until it is at the origin.
    pub fn say(&self, who: usize, text: &str) {
        let arguments = ["send", "--channel", CHANNEL, text, "--wait", "origin"];
        self.people[who].tool("treeline-chat", &arguments).unwrap();
    }

    /// What a person's client shows of so many messages, as JSON lines.
    pub fn history(&self, who: usize, count: usize) -> String {
        let count = count.to_string();
        // Waits until there are so many.
        let tail = [
            "tail",
            "--channel",
            CHANNEL,
            "--from-oldest",
            "--count",
            &count,
            "--json",
        ];
        self.people[who].tool("treeline-chat", &tail).unwrap()
    }
}

/// Asserts that the binaries are those of the sources: `cargo test` alone does not build them.
pub fn built() {
    static CHECKED: OnceLock<()> = OnceLock::new();
    CHECKED.get_or_init(|| {
        PROGRAMS
            .iter()
            .for_each(|program| built_from_sources(program))
    });
}

/// Cargo lists the sources of a binary beside it.
fn built_from_sources(program: &str) {
    let path = binary(program).unwrap();
    let changed = |path: &Path| path.metadata().and_then(|file| file.modified());
    let built = changed(&path).unwrap();
    let list = fs::read_to_string(path.with_extension("d")).unwrap_or_default();
    for source in list.split_ascii_whitespace().skip(1) {
        let newer = changed(source.as_ref()).is_ok_and(|at| at > built);
        assert!(
            !newer,
            "{program} is older than {source}; run `cargo build --workspace --bins` first"
        );
    }
}

/// Runs a product binary to its end.
pub fn command(program: &str, arguments: &[&str]) -> Output {
    built();
    Command::new(binary(program).unwrap())
        .args(arguments)
        .envs(NO_KEYRING)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Asserts that a command ended with this code and one clear line that says these words.
pub fn refused(out: &Output, code: i32, words: &[&str]) {
    let line = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{line}");
    assert_eq!(line.trim_end().lines().count(), 1, "not one line: {line}");
    for word in words {
        assert!(
            line.to_lowercase().contains(&word.to_lowercase()),
            "no {word:?} in: {line}"
        );
    }
}

/// Waits for a condition, but not for ever.
pub fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < end, "waited for a minute until {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// A real text of more than 3,000 lines, from documentation that every Debian has.
pub fn book(lines: usize) -> Vec<u8> {
    let mut names: Vec<_> = fs::read_dir("/usr/share/common-licenses")
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.symlink_metadata().is_ok_and(|file| file.is_file()))
        .collect();
    names.sort();
    let text: String = names
        .iter()
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    let book: String = text.split_inclusive('\n').take(lines).collect();
    assert_eq!(
        book.lines().count(),
        lines,
        "the documentation here is too short"
    );
    book.into_bytes()
}

/// Every file below a folder, with its content.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push((entry.path(), fs::read(entry.path()).unwrap()));
            }
        }
    }
    found
}
