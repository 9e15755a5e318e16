//! A copied profile with the real binaries: two copies run at once, and one of them gives way.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use xtask::people::{CHANNEL, Person, TEAM};
use xtask::process::{NO_KEYRING, binary};

use crate::scene::{Scene, until};

/// Somebody who chats in a terminal; ended when dropped.
struct Chatting {
    client: Child,
    out: PathBuf,
}

impl Chatting {
    fn start(person: &Person, out: PathBuf) -> Self {
        let client = Command::new(binary("treeline-chat").unwrap())
            .args(person.arguments(&[]))
            .envs(NO_KEYRING)
            .stdin(Stdio::piped())
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { client, out }
    }

    fn says(&self, words: &str) -> bool {
        fs::read_to_string(&self.out).is_ok_and(|text| text.contains(words))
    }

    fn line(&mut self, text: &str) {
        let input = self.client.stdin.as_mut().unwrap();
        writeln!(input, "{text}").unwrap();
    }

    fn leave(mut self) {
        self.line("/quit");
        self.client.wait().unwrap();
    }
}

impl Drop for Chatting {
    fn drop(&mut self) {
        self.client.kill().ok();
        self.client.wait().ok();
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let kind = entry.file_type().unwrap();
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_file() {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[test]
fn of_two_copies_that_run_at_once_one_becomes_a_new_device() {
    let scene = Scene::new();
    scene.say(0, "good morning");
    scene.history(1, 1);
    let [alice, bob] = &scene.people;
    let elsewhere = scene.folder().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let again = Person::new("bob", "Bob", &elsewhere).unwrap();
    copy(&bob.directory, &again.directory);

    let mut first = Chatting::start(bob, scene.folder().join("first.out"));
    let mut second = Chatting::start(&again, scene.folder().join("second.out"));
    for one in [&first, &second] {
        until("both are there", || one.says("good morning"));
    }
    first.line("from the one");
    until("the other knows what it is", || {
        second.says("this profile is a copy")
    });
    second.line("from the other");
    until("it may not write", || {
        second.says("! this profile is a copy")
    });
    first.line("from the one again");
    assert!(scene.history(0, 3).contains("from the one again"));
    assert!(!first.says("this profile is a copy"));
    first.leave();
    second.leave();

    // It asks to come in again, and is another device then.
    let asks = alice
        .tool(
            "treeline-member",
            &["invite", "requests", TEAM, "--wait", "60", "--json"],
        )
        .unwrap();
    let asks: serde_json::Value = serde_json::from_str(asks.lines().next().unwrap()).unwrap();
    let fingerprint = asks["fingerprint"].as_str().unwrap();
    let add = ["device", "add", TEAM, fingerprint, "--wait", "120"];
    alice.tool("treeline-member", &add).unwrap();
    again.tool("treeline-chat", &["enter"]).unwrap();
    let say = |text| ["send", "--channel", CHANNEL, text, "--wait", "origin"];
    again
        .tool("treeline-chat", &say("as another device"))
        .unwrap();
    bob.tool("treeline-chat", &say("as ever")).unwrap();
    let history = scene.history(0, 5);
    assert!(history.contains("as another device") && history.contains("as ever"));
    assert!(!history.contains("from the other"));
    let devices = alice
        .tool("treeline-member", &["device", "list", TEAM])
        .unwrap();
    assert_eq!(devices.matches("Bob / ").count(), 2, "{devices}");
}
