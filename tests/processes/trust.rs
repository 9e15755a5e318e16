//! Whom relays and devices trust, told to programs that run: pins of a relay, a record that the origin
//! signs, and what a person says of a relay of the local network.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use endpoint_secure_api::Standing;
use serde_json::Value;
use tempfile::TempDir;
use xtask::people::Person;
use xtask::process::{Process, signal};
use xtask::tree;

use crate::network::machines::Machine;
use crate::network::members::Member;
use crate::page::under;
use crate::scene::{built, command, until};

fn printed(out: &Output) -> String {
    let errors = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{errors}");
    String::from_utf8(out.stdout.clone()).unwrap()
}

fn relay_command(directory: &Path, words: &[&str]) -> String {
    let place = ["--directory", directory.to_str().unwrap()];
    printed(&command("treeline-relay", &[words, &place].concat()))
}

fn status(directory: &Path) -> Value {
    serde_json::from_str(&relay_command(directory, &["status", "--json"])).unwrap()
}

/// A domain with one relay, served by a real DNS server on loopback.
struct Domain(Child);

impl Domain {
    fn new(dns: &str, relay: &str) -> Self {
        let (place, key) = relay.split_once('#').unwrap();
        let (_, port) = place.rsplit_once(':').unwrap();
        let (_, own_port) = dns.rsplit_once(':').unwrap();
        let child = Command::new("dnsmasq")
            .args([
                "--no-daemon",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--pid-file=",
            ])
            .args([&format!("--port={own_port}"), "--local=/treeline.test/"])
            .arg(format!(
                "--srv-host=_treeline._udp.treeline.test,a.treeline.test,{port},0,0"
            ))
            .arg(format!(
                "--txt-record=_treeline._udp.treeline.test,treeline1 relay={key}"
            ))
            .arg("--host-record=a.treeline.test,127.0.0.1")
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed: Debian package dnsmasq-base");
        Self(child)
    }
}

impl Drop for Domain {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A relay takes over what `trust` writes while it runs: a pin that lets its parent in, and one that
/// keeps it out.
#[test]
fn a_pin_is_in_force_without_a_restart() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let [top, low] = ["origin", "local"].map(|name| folder.path().join(name));
    let (_origin, above, key) = tree::relay(folder.path(), "origin", "127.0.0.1:0", &[]).unwrap();
    let dns = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let dns = dns.to_string();
    let _domain = Domain::new(&dns, &above);
    let (place, shown) = above.split_once('#').unwrap();
    let name = format!("a.treeline.test:{}", place.rsplit_once(':').unwrap().1);
    let another = "ab".repeat(32);
    let pin = |key: &str| {
        relay_command(&low, &["trust", "add", key, "--name", &name]);
    };
    pin(&another);
    let more = ["--parent", "treeline.test", "--dns", &dns, "--origin", &key];
    let (_local, _, _) = tree::relay(folder.path(), "local", "127.0.0.1:0", &more).unwrap();
    let blocked = || {
        let parent = &status(&low)["parents"][0];
        let error = parent["error"].as_str().unwrap_or_default();
        parent["state"] == "away" && error.contains("another key than the one that is pinned")
    };
    until("the other key is refused", blocked);
    let process = status(&low)["pid"].clone();

    relay_command(&low, &["trust", "remove", &name]);
    pin(shown);
    until("the parent is used", || status(&low)["ready"] == true);
    assert_eq!(status(&low)["parents"][0]["state"], "connected");
    assert_eq!(status(&top)["links"], 1);

    relay_command(&low, &["trust", "remove", &name]);
    pin(&another);
    until("it is refused now", blocked);
    until("its link has ended", || status(&top)["links"] == 0);
    assert_eq!(status(&low)["pid"], process, "it has run all the time");
}

/// A local network with an origin that does not say that it is there and a relay that does, and a desk.
struct Lan {
    server: Machine,
    desk: Machine,
    above: String,
    local: Process,
    local_key: String,
    registration: String,
    _origin: Process,
    folder: TempDir,
}

impl Lan {
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let [server, desk] = ["server", "desk"].map(Machine::new);
        server.cable("lan", &desk, "lan");
        for (machine, address) in [(&server, "10.98.0.1/24"), (&desk, "10.98.0.2/24")] {
            machine.run(&format!(
                "ip addr add {address} dev lan
                 ip route add 224.0.0.0/4 dev lan"
            ));
        }
        let quiet = ["--mdns", "off"];
        let start = || tree::relay(path, "origin", "10.98.0.1:4471", &quiet);
        let (origin, above, key) = server.inside(start).unwrap();
        let below = ["--parent", &above, "--origin", &key];
        let start = || tree::relay(path, "local", "10.98.0.1:4470", &below);
        let (local, address, _) = server.inside(start).unwrap();
        let registration = tree::register(&path.join("origin")).unwrap();
        Self {
            server,
            desk,
            above,
            local,
            local_key: address.split_once('#').unwrap().1.to_owned(),
            registration,
            _origin: origin,
            folder,
        }
    }

    fn links(&self) -> u64 {
        let directory = self.folder.path().join("local");
        let told = self.server.inside(|| status(&directory));
        told["links"].as_u64().unwrap()
    }
}

/// The origin's record of a relay, shown over real mDNS, is as good as a person's word.
#[test]
fn a_record_signed_by_the_origin_needs_no_question() {
    let lan = Lan::new();
    let path = lan.folder.path();
    let alice = Member::new(&lan.desk, path, "alice");
    alice.found(&lan.registration, &[&lan.above]);
    alice.until("the relay is found", || {
        alice.sees(&lan.local_key) == Some(Standing::Unknown)
    });
    assert_eq!(lan.links(), 0, "nobody has judged it");
    let record = relay_command(&path.join("origin"), &["trust", "sign", &lan.local_key]);
    relay_command(&path.join("local"), &["trust", "record", record.trim()]);
    signal(lan.local.pid().unwrap(), "HUP");
    alice.until("the relay is used", || lan.links() > 0);
    alice.until("nobody is asked", || {
        alice.sees(&lan.local_key) != Some(Standing::Unknown)
    });
    alice.refuse(&lan.local_key);
    alice.until("a person's word goes before it", || lan.links() == 0);
}

/// What the page has a person type who finds a relay on the local network.
#[test]
fn a_person_compares_the_words_and_trusts_the_relay() {
    let lan = Lan::new();
    let path = lan.folder.path();
    let alice = Person::new("alice", "Alice", path).unwrap();
    let tool = |program: &str, words: &[&str]| {
        let run = || alice.tool(program, words).unwrap();
        lan.desk.inside(run)
    };
    let registration = path.join("registration");
    std::fs::write(&registration, &lan.registration).unwrap();
    let file = registration.to_str().unwrap();
    let found = ["org", "create", "Acme", "--registration-file", file];
    let who = ["--relay", &lan.above, "--user", "Alice", "--device", "desk"];
    tool("treeline-member", &[&found[..], &who].concat());

    let block = under("On the local network").remove(0);
    let lines: Vec<&str> = block.lines().collect();
    let [list, shown, trust] = &lines[..] else {
        panic!("{block}");
    };
    let mut words = list.split(' ');
    let program = words.next().unwrap();
    let list: Vec<&str> = words.chain(["--wait", "60"]).collect();
    let said = tool(program, &list);
    let line = said.lines().find(|line| line.contains(&lan.local_key));
    let parts: Vec<&str> = line.unwrap().split("  ").collect();
    let sample: Vec<&str> = shown.split("  ").collect();
    assert_eq!((parts[0], parts.len()), (sample[0], sample.len()), "{said}");
    let identity = relay_command(&path.join("local"), &["identity"]);
    assert!(
        identity.contains(&format!("words {}\n", parts[1])),
        "{identity}"
    );

    let trust = trust.replace("<64 hex digits>", parts[2]);
    let words: Vec<&str> = trust.split(' ').collect();
    tool(words[0], &words[1..]);
    let said = tool(program, &list);
    let line = said.lines().find(|line| line.contains(&lan.local_key));
    assert!(line.unwrap().starts_with("trusted"), "{said}");
}
