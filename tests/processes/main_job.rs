//! The README's main job: a book, line by line, both ways; and the same while everything is killed.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use xtask::process::binary;

use crate::scene::{book, built};

fn run(input: &Path, directory: &Path, more: &[&str]) -> String {
    built();
    let out = Command::new(binary("xtask").unwrap())
        .args(["run", "--headless", "--no-build", "--input"])
        .arg(input)
        .arg("--directory")
        .arg(directory)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(
        out.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&out.stderr)
    );
    said
}

/// In each direction the process was shown with its id.
fn runs_twice(said: &str, name: &str) {
    assert_eq!(
        said.matches(&format!("{name:<14} pid ")).count(),
        2,
        "{name}: {said}"
    );
}

/// P2: every message arrives exactly once, in order, with the bytes that were sent. P6: under the
/// filters, which end a process that makes another system call than it may.
#[test]
fn a_book_of_3200_lines_arrives_equal_in_both_directions() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("book.txt");
    fs::write(&input, book(3200)).unwrap();
    let said = run(&input, &folder.path().join("run"), &[]);
    assert!(said.contains("equal in both directions"), "{said}");
    // All nine processes run while it happens, in both directions.
    for part in ["client", "secure", "net"] {
        for person in ["alice", "bob"] {
            runs_twice(&said, &format!("{part}-{person}"));
        }
    }
    for relay in ["relay-origin", "relay-cloud", "relay-local"] {
        runs_twice(&said, relay);
    }
    let filtered = said.lines().filter(|line| line.ends_with(" filtered"));
    let open = said.lines().filter(|line| line.ends_with("not filtered"));
    assert!(filtered.count() >= 18 && open.count() == 0, "{said}");
    assert!(
        said.contains("no process was ended by its filter"),
        "{said}"
    );
}

/// P1, P2: kill -9 of each of the nine processes in turn, in the middle of the run, loses nothing.
#[test]
fn kill_9_of_any_process_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("book.txt");
    fs::write(&input, book(1200)).unwrap();
    let victims = [
        "net-alice",
        "net-bob",
        "secure-alice",
        "secure-bob",
        "relay-local",
        "relay-cloud",
        "relay-origin",
        "client-alice",
        "client-bob",
    ];
    let kills: Vec<_> = victims.iter().flat_map(|name| ["--kill", name]).collect();
    let said = run(&input, &folder.path().join("run"), &kills);
    assert!(said.contains("equal in both directions"), "{said}");
    assert_eq!(
        said.matches("kill -9 ").count(),
        2 * victims.len(),
        "{said}"
    );
}
