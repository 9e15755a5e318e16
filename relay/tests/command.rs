//! The command line of `treeline-relay`: one clear line and the right exit code for each mistake.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use proto::Registration;

fn relay(arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_treeline-relay"));
    command.args(arguments).arg("--directory").arg(directory);
    command
}

fn output(arguments: &[&str], directory: &Path) -> Output {
    relay(arguments, directory).output().unwrap()
}

/// It fails with this code, and says one line with these words.
fn fails(output: &Output, code: i32, words: &[&str]) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(text.starts_with("treeline-relay: "), "{text}");
    for word in words {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
}

fn start(directory: &Path) -> (Child, Vec<String>) {
    let mut command = relay(&["run", "--listen", "127.0.0.1:0"], directory);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let lines = lines.take_while(|line| line != "ready").collect();
    (child, lines)
}

#[test]
fn it_says_where_it_is_and_ends_cleanly_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, lines) = start(directory.path());
        let key = lines[0]
            .strip_prefix("relay 127.0.0.1:")
            .unwrap()
            .split_once('#')
            .unwrap()
            .1;
        let origin = lines[1].strip_prefix("origin ").unwrap();
        assert_eq!(lines[2], "tier origin");
        let identity = output(&["identity"], directory.path());
        let identity = String::from_utf8(identity.stdout).unwrap();
        let said: Vec<_> = identity.lines().collect();
        assert_eq!(said[0], format!("key {key}"));
        assert_eq!(
            said[1].strip_prefix("words ").unwrap().split(' ').count(),
            6
        );
        assert_eq!(said[2..], [format!("origin {origin}")]);
        let identity = output(&["identity", "--json"], directory.path());
        let json: serde_json::Value = serde_json::from_slice(&identity.stdout).unwrap();
        assert_eq!(
            (&json["key"], &json["origin"]),
            (&key.into(), &origin.into())
        );
        let pid = child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", signal, &pid])
                .status()
                .unwrap()
                .success()
        );
        assert_eq!(child.wait().unwrap().code(), Some(0));
        let (mut child, again) = start(directory.path());
        assert_eq!(again[1], lines[1], "the identity stays");
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

#[test]
fn organisations_are_registered_while_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    fails(
        &output(&["org", "register"], directory.path()),
        10,
        &["origin"],
    );
    let (mut child, lines) = start(directory.path());
    let text = |more: &[&str]| {
        let made = output(
            &[["org", "register"].as_slice(), more].concat(),
            directory.path(),
        );
        assert!(made.status.success());
        Registration::from_text(&String::from_utf8(made.stdout).unwrap()).unwrap()
    };
    let (first, fifth, sixth) = (text(&[]), text(&["--number", "5"]), text(&[]));
    assert_eq!([first.org, fifth.org, sixth.org], [1, 5, 6]);
    assert_eq!(lines[1], format!("origin {}", first.origin.to_hex()));
    let twice = output(&["org", "register", "--number", "5"], directory.path());
    fails(&twice, 2, &["5", "already"]);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn mistakes_are_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = taken.local_addr().unwrap().to_string();
    fails(
        &output(&["run", "--listen", &place], path),
        2,
        &[&place, "in use", "--listen"],
    );
    fails(
        &output(&["run", "--listen", "nowhere"], path),
        15,
        &["nowhere"],
    );
    fails(
        &output(&["run", "--tier", "moon"], path),
        15,
        &["moon", "cloud"],
    );
    fails(
        &output(&["run", "--parent", "somewhere"], path),
        15,
        &["somewhere", "HOST:PORT#KEY"],
    );
    let parent = format!("127.0.0.1:1#{}", "ab".repeat(32));
    fails(
        &output(&["run", "--parent", &parent], path),
        15,
        &["--origin"],
    );
    fails(
        &output(&["run", "--config", "/nowhere/at.all"], path),
        15,
        &["/nowhere/at.all"],
    );
    fails(
        &output(&["identity"], &path.join("empty")),
        10,
        &["no relay has run"],
    );
    let file = path.join("file");
    fs::write(&file, "no directory").unwrap();
    fails(&output(&["run"], &file), 2, &["file", "--directory"]);
    let damaged = path.join("damaged");
    fs::create_dir(&damaged).unwrap();
    fs::write(damaged.join("relay.key"), "short").unwrap();
    fails(&output(&["run"], &damaged), 12, &["relay.key", "32 bytes"]);
    let broken = path.join("broken");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("store.db"), vec![9; 20_000]).unwrap();
    fails(
        &output(&["run", "--listen", "127.0.0.1:0"], &broken),
        2,
        &["store.db", "damaged"],
    );
}

#[test]
fn a_directory_serves_one_relay() {
    let directory = tempfile::tempdir().unwrap();
    let (mut child, _) = start(directory.path());
    let second = output(&["run", "--listen", "127.0.0.1:0"], directory.path());
    fails(&second, 2, &["in use", &child.id().to_string()]);
    child.kill().unwrap();
    child.wait().unwrap();
}
