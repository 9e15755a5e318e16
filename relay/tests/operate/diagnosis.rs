//! `doctor` names the cause: a network, a clock, a disk or a key that is wrong, each made on purpose.

use std::fs;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::process::{PROGRAM, Process, output, text};

/// The codes of the findings that are not fine.
fn codes(said: &Output) -> Vec<String> {
    let json: serde_json::Value = serde_json::from_slice(&said.stdout)
        .unwrap_or_else(|_| panic!("{}{}", text(&said.stdout), text(&said.stderr)));
    assert_eq!(json["version"], 1);
    let findings = json["findings"].as_array().unwrap().iter();
    let bad = findings.filter(|finding| finding["state"] != "ok");
    bad.inspect(|finding| assert!(!finding["cause"].as_str().unwrap().is_empty()))
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

fn doctor(directory: &Path, more: &[&str]) -> Output {
    let directory = directory.to_str().unwrap();
    output(
        &[
            &[
                "doctor",
                "--json",
                "--listen",
                "127.0.0.1:0",
                "--directory",
                directory,
            ],
            more,
        ]
        .concat(),
    )
}

fn below(origin: &Process, place: Option<SocketAddr>, key: Option<&str>) -> Vec<String> {
    let relay = origin.line("relay ");
    let (own_place, own_key) = relay.split_once('#').unwrap();
    let place = place.map_or(own_place.to_owned(), |place| place.to_string());
    let key = key.unwrap_or(own_key);
    [
        "--parent",
        &format!("{place}#{key}"),
        "--origin",
        &origin.line("origin "),
    ]
    .map(str::to_owned)
    .to_vec()
}

fn diagnose(directory: &Path, below: &[String]) -> Vec<String> {
    let more: Vec<&str> = below.iter().map(String::as_str).collect();
    codes(&doctor(directory, &more))
}

/// Forwards TCP, and nothing else, to a relay: a network that blocks UDP.
fn without_udp(relay: &str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = listener.local_addr().unwrap();
    let relay: SocketAddr = relay.split_once('#').unwrap().0.parse().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let server = TcpStream::connect(relay).unwrap();
            for (mut from, mut to) in [
                (client.try_clone().unwrap(), server.try_clone().unwrap()),
                (server, client),
            ] {
                thread::spawn(move || {
                    let _ = io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Both);
                });
            }
        }
    });
    place
}

#[test]
fn blocked_udp_a_missing_parent_and_a_changed_key_are_told_apart() {
    let directory = tempfile::tempdir().unwrap();
    let origin = Process::start(&directory.path().join("origin"), &[]);
    let low = directory.path().join("low");
    fs::create_dir(&low).unwrap();
    let network = [
        "mdns-blocked",
        "no-interface",
        "disk-scarce",
        "few-files",
        "mtu-small",
    ];
    let mine = |below: &[String]| {
        let mut codes = diagnose(&low, below);
        codes.retain(|code| !network.contains(&code.as_str()));
        codes
    };
    assert_eq!(mine(&below(&origin, None, None)), [""; 0]);
    let tcp_only = without_udp(&origin.line("relay "));
    assert_eq!(mine(&below(&origin, Some(tcp_only), None)), ["udp-blocked"]);
    let other = "ab".repeat(32);
    assert_eq!(
        mine(&below(&origin, None, Some(&other))),
        ["key-changed", "no-parent"]
    );
    let unnamed = ["--parent".into(), format!("no.such.invalid:1#{other}")];
    let unnamed = [unnamed.as_slice(), &["--origin".into(), other.clone()]].concat();
    assert_eq!(mine(&unnamed), ["dns-failed", "no-parent"]);
    let at = below(&origin, None, None);
    drop(origin);
    assert_eq!(mine(&at), ["unreachable", "no-parent"]);
}

#[test]
fn a_wrong_clock_a_damaged_store_and_a_lost_key_are_named() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("relay");
    let relay = Process::start(&at, &[]);
    fs::rename(at.join("relay.key"), at.join("hidden")).unwrap();
    assert!(codes(&doctor(&at, &[])).contains(&"key-changed".to_owned()));
    fs::rename(at.join("hidden"), at.join("relay.key")).unwrap();
    assert!(!codes(&doctor(&at, &[])).contains(&"key-changed".to_owned()));
    relay.signal("TERM");
    relay.ends_with();
    let later = SystemTime::now() + Duration::from_secs(3600);
    let store = fs::File::options()
        .write(true)
        .open(at.join("store.db"))
        .unwrap();
    store.set_modified(later).unwrap();
    let said = doctor(&at, &[]);
    assert!(codes(&said).contains(&"clock-wrong".to_owned()));
    assert_eq!(said.status.code(), Some(1));
    fs::write(at.join("store.db"), vec![7; 16_384]).unwrap();
    let codes = codes(&doctor(&at, &[]));
    assert!(codes.contains(&"store-damaged".to_owned()), "{codes:?}");
}

/// Runs a script in namespaces of its own, where it may mount and filter.
fn alone(script: &str, directory: &Path) -> Output {
    Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "sh", "-euc", script])
        .env("RELAY", PROGRAM)
        .env("DIR", directory)
        .output()
        .unwrap()
}

#[test]
fn a_full_disk_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$DIR\"
        \"$RELAY\" doctor --json --listen 127.0.0.1:0 --directory \"$DIR\"";
    let codes = codes(&alone(script, directory.path()));
    assert!(codes.contains(&"disk-full".to_owned()), "{codes:?}");
}

#[test]
fn blocked_mdns_is_named_and_open_mdns_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let open = "ip link set lo up
        ip link add lan0 type veth peer name lan1
        ip address add 10.99.0.1/24 dev lan0
        ip link set lan0 up
        ip link set lan1 up
        \"$RELAY\" doctor --json --listen 127.0.0.1:0 --directory \"$DIR\"";
    let said = codes(&alone(open, directory.path()));
    assert!(
        !said.iter().any(|code| code.starts_with("mdns")),
        "{said:?}"
    );
    let block = "nft add table inet filter
        nft add chain inet filter input '{ type filter hook input priority 0; }'
        nft add rule inet filter input udp dport 5353 drop\n";
    let blocked = codes(&alone(&format!("{block}{open}"), directory.path()));
    assert!(blocked.contains(&"mdns-blocked".to_owned()), "{blocked:?}");
}
