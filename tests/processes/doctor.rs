//! `treeline-relay doctor` names the cause: each of the six that people have, made on purpose between
//! two machines, or by a parent whose clock is wrong.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use proto::{Tier, Timestamp};
use relay::driver::{self, Clock, now};
use relay::link::listen::Listener;
use relay::link::settings::Settings;
use relay_core::store::{MemoryStore, StoreId};
use relay_core::{Config, Limits, Node};
use serde_json::Value;
use tempfile::TempDir;
use xtask::process::{Process, binary};
use xtask::tree;

use crate::client::run;
use crate::network::machines::Machine;
use crate::scene::built;

const PLACE: &str = "10.97.0.1:4470";

/// The findings that are not fine, by code: each says the cause and what to do.
fn findings(said: &Output) -> Vec<(String, String)> {
    let printed = String::from_utf8_lossy(&said.stdout);
    let told: Value = serde_json::from_str(&printed)
        .unwrap_or_else(|_| panic!("{printed}{}", String::from_utf8_lossy(&said.stderr)));
    let findings = told["findings"].as_array().unwrap().iter();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    findings
        .filter(|finding| finding["state"] != "ok")
        .map(|finding| {
            let cause = text(finding, "cause");
            assert!(
                !cause.is_empty() && !text(finding, "action").is_empty(),
                "{finding}"
            );
            (text(finding, "code"), cause)
        })
        .collect()
}

fn names(found: &[(String, String)], code: &str) -> bool {
    found.iter().any(|(named, _)| named == code)
}

/// A relay on one machine, and another machine that would be below it.
struct Pair {
    server: Machine,
    desk: Machine,
    origin: Option<Process>,
    above: String,
    key: String,
    folder: TempDir,
}

impl Pair {
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let [server, desk] = ["server", "desk"].map(Machine::new);
        server.cable("lan", &desk, "lan");
        for (machine, address) in [(&server, "10.97.0.1/24"), (&desk, "10.97.0.2/24")] {
            machine.run(&format!(
                "ip addr add {address} dev lan
                 ip route add 224.0.0.0/4 dev lan"
            ));
        }
        let mut pair = Self {
            server,
            desk,
            origin: None,
            above: String::new(),
            key: String::new(),
            folder,
        };
        pair.start();
        pair
    }

    fn start(&mut self) {
        let path = self.folder.path();
        let start = || tree::relay(path, "origin", PLACE, &["--mdns", "off"]);
        let (origin, above, key) = self.server.inside(start).unwrap();
        self.origin = Some(origin);
        if self.above.is_empty() {
            (self.above, self.key) = (above, key);
        }
    }

    /// What the doctor finds on the other machine.
    fn diagnosed(&self) -> Vec<(String, String)> {
        let directory = self.folder.path().join("desk");
        let parent = ["--parent", &self.above, "--origin", &self.key];
        let command = || doctor(&directory, &parent);
        findings(&self.desk.inside(command))
    }
}

fn doctor(directory: &Path, more: &[&str]) -> Output {
    Command::new(binary("treeline-relay").unwrap())
        .args(["doctor", "--json", "--listen", "127.0.0.1:0", "--directory"])
        .arg(directory)
        .args(more)
        .output()
        .unwrap()
}

fn block(machine: &Machine, hook: &str, port: u16) {
    machine.run(&format!(
        "nft add table inet doctor
         nft add chain inet doctor {hook} {{ type filter hook {hook} priority 0 ; }}
         nft add rule inet doctor {hook} udp dport {port} drop"
    ));
}

#[test]
fn blocked_udp_no_parent_and_a_changed_certificate_are_named() {
    let mut pair = Pair::new();
    let codes = [
        "udp-blocked",
        "no-parent",
        "unreachable",
        "key-changed",
        "mdns-blocked",
    ];
    let fine = pair.diagnosed();
    assert!(!codes.iter().any(|code| names(&fine, code)), "{fine:?}");

    block(&pair.server, "input", 4470);
    let found = pair.diagnosed();
    let (_, cause) = found
        .iter()
        .find(|(code, _)| code == "udp-blocked")
        .unwrap();
    assert!(cause.contains("UDP") && cause.contains(PLACE), "{cause}");
    assert!(!names(&found, "no-parent"), "TCP is open: {found:?}");
    pair.server.run("nft delete table inet doctor");

    pair.origin = None;
    let found = pair.diagnosed();
    assert!(
        names(&found, "no-parent") && names(&found, "unreachable"),
        "{found:?}"
    );

    fs::remove_file(pair.folder.path().join("origin/relay.key")).unwrap();
    pair.start();
    let found = pair.diagnosed();
    let (_, cause) = found
        .iter()
        .find(|(code, _)| code == "key-changed")
        .unwrap();
    assert!(
        cause.contains("another key") && cause.contains(PLACE),
        "{cause}"
    );
}

#[test]
fn blocked_mdns_is_named() {
    let pair = Pair::new();
    assert!(!names(&pair.diagnosed(), "mdns-blocked"));
    block(&pair.desk, "input", 5353);
    let found = pair.diagnosed();
    let (_, cause) = found
        .iter()
        .find(|(code, _)| code == "mdns-blocked")
        .unwrap();
    assert!(cause.contains("lan"), "{cause}");
}

#[test]
fn a_full_disk_is_named() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$1\"
        exec \"$2\" doctor --json --listen 127.0.0.1:0 --directory \"$1\"";
    let out = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-euc", script, "sh"])
        .arg(folder.path())
        .arg(binary("treeline-relay").unwrap())
        .output()
        .unwrap();
    let found = findings(&out);
    assert!(names(&found, "disk-full"), "{found:?}");
    assert_eq!(out.status.code(), Some(1));
}

fn an_hour_ahead() -> Timestamp {
    now().plus_millis(3_600_000)
}

fn an_hour_behind() -> Timestamp {
    Timestamp::from_millis(now().millis() - 3_600_000)
}

fn a_minute_ahead() -> Timestamp {
    now().plus_millis(60_000)
}

/// What the doctor says of a parent with this clock.
fn beside(clock: Clock) -> Vec<(String, String)> {
    built();
    let own = relay::tls::random_signer().unwrap();
    let config = Config {
        tier: Tier::Origin,
        origins: vec![own.public_key()],
        limits: Limits::default(),
    };
    let node = Node::new(config, MemoryStore::new(StoreId([1; 16])), clock()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    run(async {
        let any = "127.0.0.1:0".parse().unwrap();
        let listener = Listener::bind(any, &own, Settings::default()).unwrap();
        let place = listener.local_addr().unwrap();
        let reach = (Tier::Origin, String::new());
        let (handle, thread) = driver::start_by(clock, node, reach).unwrap();
        let accepting = tokio::spawn(listener.accept(handle.clone()));
        let key = own.public_key().to_hex();
        let directory = folder.path().to_owned();
        let said = tokio::task::spawn_blocking(move || {
            let parent = format!("{place}#{key}");
            doctor(&directory, &["--parent", &parent, "--origin", &key])
        });
        let said = said.await.unwrap();
        accepting.abort();
        handle.stop().await;
        tokio::task::spawn_blocking(|| thread.join())
            .await
            .unwrap()
            .unwrap();
        findings(&said)
    })
}

#[test]
fn a_clock_that_is_wrong_beside_the_parents_is_named() {
    for (clock, code, direction) in [
        (an_hour_ahead as Clock, "clock-wrong", "behind"),
        (an_hour_behind, "clock-wrong", "ahead of"),
        (a_minute_ahead, "clock-drifts", "behind"),
    ] {
        let found = beside(clock);
        let (_, cause) = found.iter().find(|(named, _)| named == code).unwrap();
        assert!(cause.contains(direction), "{cause}");
    }
    let fine = beside(now);
    assert!(
        !fine.iter().any(|(code, _)| code.starts_with("clock")),
        "{fine:?}"
    );
}
