//! Guessing and changing a passphrase, with kill -9 in between.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use endpoint_secure::lock::{Cost, FILE, Lock, LockError, MasterKey};
use endpoint_secure_api::{Command as Ask, Passphrase};
use rusqlite::{Connection, OpenFlags};
use xtask::process::binary;

use crate::alone::Alone;
use crate::scene::{built, refused, until};

/// Long enough to be killed in the middle of.
const SLOW: Cost = Cost {
    memory_kib: 256 * 1024,
    passes: 8,
};
const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
};
const DIRECTORY: &str = "TREELINE_TEST_DIRECTORY";
const NOW: &str = "TREELINE_TEST_NOW";
const RIGHT: &str = "the right one has six words";
const OTHER: &str = "another one that has six words";
/// More than the longest wait between two attempts, in milliseconds.
const STEP: u64 = 3_600_000;

fn words(text: &str) -> Passphrase {
    Passphrase::new(text.into())
}

/// This program as a process that does one of the parts below.
fn start(part: &str, directory: &Path, now: u64) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", part, "--ignored", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(NOW, now.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

fn lock_of_the_environment() -> Option<(Lock, u64)> {
    let directory = std::env::var_os(DIRECTORY)?;
    let now = std::env::var(NOW).ok()?.parse().ok()?;
    Some((Lock::open(directory.as_ref(), CHEAP).unwrap(), now))
}

#[test]
#[ignore = "it is a process of the others"]
fn as_guesser() {
    if let Some((lock, now)) = lock_of_the_environment() {
        assert!(matches!(
            lock.unlock(&words("not the right one"), now),
            Err(LockError::Wrong)
        ));
    }
}

#[test]
#[ignore = "it is a process of the others"]
fn as_changer() {
    while let Some((lock, now)) = lock_of_the_environment() {
        // Whichever the last one left.
        lock.change(&words(RIGHT), &words(OTHER), now).ok();
        lock.change(&words(OTHER), &words(RIGHT), now).ok();
    }
}

fn failures(directory: &Path) -> i64 {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    let database = Connection::open_with_flags(directory.join(FILE), flags).unwrap();
    database
        .query_row("SELECT failures FROM key", [], |row| row.get(0))
        .unwrap_or(-1)
}

/// P7: an attempt is on disk before it is tried, so that killing the process buys none.
#[test]
fn ten_wrong_passphrases_with_kill_9_between_count_as_ten() {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::open(folder.path(), SLOW).unwrap();
    let key = MasterKey::random().unwrap();
    lock.set(&key, &words(RIGHT)).unwrap();
    for turn in 1..=10 {
        let mut guesser = start("passphrase::as_guesser", folder.path(), turn * STEP);
        until("the attempt is counted", || {
            failures(folder.path()) == turn as i64
        });
        // In the middle of the derivation.
        assert!(guesser.try_wait().unwrap().is_none(), "it was too fast");
        guesser.kill().unwrap();
        guesser.wait().unwrap();
    }
    let soon = lock.unlock(&words(RIGHT), 10 * STEP + 1000);
    // Three are free; then 1 s, doubling: the tenth costs 64 s.
    assert!(matches!(soon, Err(LockError::TooSoon(63_000))), "{soon:?}");
    let back = lock.unlock(&words(RIGHT), 11 * STEP).unwrap();
    assert_eq!(back.derive("x"), key.derive("x"));
}

/// P7: the real process, with a stand-in for the keyring: a profile that was made with its secret opens
/// with it alone, and a short passphrase is refused where there is none.
#[test]
fn a_profile_of_a_keyring_opens_with_it_alone() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("treeline-secure");
    built();
    fs::copy(binary("treeline-secure").unwrap(), &program).unwrap();
    let keyring = folder.path().join("treeline-keyring");
    let gives = |script: &str| {
        fs::write(&keyring, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&keyring, Permissions::from_mode(0o700)).unwrap();
    };
    let start = |name: &str| {
        let mut command = Command::new(&program);
        command.arg("--directory").arg(folder.path().join(name));
        Alone::of(command, &folder.path().join("log"))
    };
    let create = |passphrase: &str| Ask::CreateProfile {
        passphrase: words(passphrase),
        user: "Ada".into(),
        device: "desk".into(),
    };
    let unlock = || Ask::Unlock {
        passphrase: words("hunter22"),
    };

    gives("echo no session bus here >&2; exit 2");
    let short = start("without").ask(&create("hunter22")).unwrap_err();
    assert!(short.text.contains("six words"), "{short}");

    gives(&format!("echo {}", "0a".repeat(32)));
    start("with").ask(&create("hunter22")).unwrap();
    start("with").ask(&unlock()).unwrap();
    gives(&format!("echo {}", "0b".repeat(32)));
    let other = start("with").ask(&unlock()).unwrap_err();
    assert!(other.text.contains("keyring of another system"), "{other}");
    gives("echo no session bus here >&2; exit 2");
    let none = start("with").ask(&unlock()).unwrap_err();
    assert!(none.text.contains("(no session bus here)"), "{none}");
    gives(&format!("echo {}", "0a".repeat(32)));
    start("with").ask(&unlock()).unwrap();
}

/// Without a bus the real program says so, and starts none.
#[test]
fn a_machine_without_a_bus_has_no_keyring() {
    let mut command = Command::new(binary("treeline-keyring").unwrap());
    let out = command
        .args(["make", "0123456789abcdef0123456789abcdef"])
        .env_remove("DBUS_SESSION_BUS_ADDRESS")
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    refused(&out, 2, &["no session bus", "no keyring"]);
    assert!(out.stdout.is_empty());
}

/// Killed at any moment of a change, the profile opens with exactly one of the two.
#[test]
fn a_change_is_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let lock = Lock::open(folder.path(), CHEAP).unwrap();
    let key = MasterKey::random().unwrap();
    lock.set(&key, &words(RIGHT)).unwrap();
    let mut opened = [0, 0];
    for turn in 0..24 {
        let now = turn * 3 * STEP;
        let mut changer = start("passphrase::as_changer", folder.path(), now);
        // Different lives, so that it is hit in different places.
        thread::sleep(Duration::from_millis(60 + turn * 7));
        changer.kill().unwrap();
        changer.wait().unwrap();
        let opens = [RIGHT, OTHER].map(|text| {
            // Each try at a time at which no wait is left of the one before.
            let now = now + STEP + STEP * u64::from(text == OTHER);
            let back = lock.unlock(&words(text), now);
            back.is_ok_and(|back| back.derive("x") == key.derive("x"))
        });
        assert_eq!(opens.iter().filter(|open| **open).count(), 1, "turn {turn}");
        opened[usize::from(opens[1])] += 1;
    }
    println!("{} times the one, {} times the other", opened[0], opened[1]);
}
