//! One process at a time works in a directory: two Secures with one ratchet, or two nodes with one
//! store, must not be, whoever was killed and however slow the other is to end.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use xtask::people::{CHANNEL, Person};
use xtask::process::{NO_KEYRING, binary, child_of, signal};

use crate::client::Alone;
use crate::scene::{Scene, command, refused, until};

/// A client that waits for messages, with its Secure and its Net; ended when it is dropped.
struct Waiting {
    client: Child,
    starter: u32,
    secure: u32,
    net: u32,
}

impl Waiting {
    /// Returns when one message is shown: the profile is open.
    fn start(person: &Person, out: &Path) -> Self {
        let tail = [
            "tail",
            "--channel",
            CHANNEL,
            "--from-oldest",
            "--count",
            "99",
        ];
        let client = Command::new(binary("treeline-chat").unwrap())
            .args(person.arguments(&tail))
            .envs(NO_KEYRING)
            .stdin(Stdio::null())
            .stdout(File::create(out).unwrap())
            .spawn()
            .unwrap();
        until("a message is shown", || {
            fs::read(out).unwrap().contains(&b'\n')
        });
        let part = |name| child_of(client.id(), name).unwrap();
        Self {
            starter: part("treeline-starter"),
            secure: part("treeline-secure"),
            net: part("treeline-net"),
            client,
        }
    }

    /// And its starter, which would end a Secure or a Net that does not end.
    fn kill_client(&mut self) {
        signal(self.starter, "KILL");
        self.client.kill().unwrap();
        self.client.wait().unwrap();
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // The client's own end ends its children, but for those that a failed test has stopped.
        self.client.kill().ok();
        self.client.wait().ok();
        for pid in [self.secure, self.net] {
            signal(pid, "CONT");
        }
    }
}

fn teams(person: &Person) -> std::process::Output {
    let arguments = person.arguments(&["teams"]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    command("treeline-chat", &arguments)
}

#[test]
fn a_profile_in_use_is_refused_by_name() {
    let scene = Scene::new();
    let alice = &scene.people[0];
    scene.say(1, "good morning");
    let waiting = Waiting::start(alice, &scene.folder().join("waiting.out"));
    let pid = waiting.client.id().to_string();
    let path = alice.directory.to_str().unwrap();
    refused(&teams(alice), 2, &[path, "in use by process", &pid]);
    drop(waiting);
    assert!(teams(alice).status.success());
}

/// A client that was killed leaves a starter that ends by itself, and Secure and Net with it.
#[test]
fn after_a_killed_client_the_next_one_starts() {
    let scene = Scene::new();
    let alice = &scene.people[0];
    scene.say(1, "good morning");
    for _ in 0..5 {
        let mut waiting = Waiting::start(alice, &scene.folder().join("waiting.out"));
        waiting.client.kill().unwrap();
        waiting.client.wait().unwrap();
        let next = teams(alice);
        let line = String::from_utf8_lossy(&next.stderr);
        assert!(next.status.success(), "{line}");
    }
}

/// A starter that was killed too leaves a Secure and a Net that end by themselves. A new client waits for
/// them; when they do not end, it says so and touches nothing.
#[test]
fn what_a_killed_client_leaves_does_not_overlap_with_the_next() {
    let scene = Scene::new();
    let alice = &scene.people[0];
    scene.say(1, "good morning");
    for part in ["secure", "net"] {
        let mut waiting = Waiting::start(alice, &scene.folder().join("waiting.out"));
        let pid = if part == "secure" {
            waiting.secure
        } else {
            waiting.net
        };
        signal(pid, "STOP");
        waiting.kill_client();
        let own = format!("treeline-{part}");
        refused(&teams(alice), 2, &[&own, &pid.to_string(), "end it"]);
        // It ends as soon as it can, and the next client waits for that.
        signal(pid, "CONT");
        let next = teams(alice);
        assert!(
            next.status.success(),
            "{}",
            String::from_utf8_lossy(&next.stderr)
        );
    }
    scene.say(0, "and good night");
    assert!(scene.history(1, 2).contains("good night"));
}

#[test]
fn a_relays_directory_serves_one_relay() {
    let alone = Alone::new();
    let directory = alone.folder.path().join("origin");
    let directory = directory.to_str().unwrap();
    let second = ["run", "--directory", directory, "--listen", "127.0.0.1:0"];
    let pid = alone.relay.pid().unwrap().to_string();
    refused(
        &command("treeline-relay", &second),
        2,
        &[directory, "in use", &pid],
    );
}
