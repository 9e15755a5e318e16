//! An organisation whose grant asks for long prefixes, at a relay that serves no prefix of several
//! organisations: its own devices work as ever, and nobody watches more than a team's path at once.

use std::path::Path;

use proto::{Name, Order, Prefix, Registration, Start};
use serde_json::Value;
use xtask::people::Person;
use xtask::tree;

use crate::client::{client, end_of, message, run};
use crate::scene::{built, command, until};

#[test]
fn an_organisation_may_forbid_short_prefixes_of_its_names() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("origin");
    let place = directory.to_str().unwrap();
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, "[limits]\nprefix_bits = 58\n").unwrap();
    let more = ["--config", config.to_str().unwrap()];
    let (_relay, address, key) =
        tree::relay(folder.path(), "origin", "127.0.0.1:0", &more).unwrap();
    let register = [
        "org",
        "register",
        "--subscription-bits",
        "78",
        "--directory",
        place,
    ];
    let text = String::from_utf8(command("treeline-relay", &register).stdout).unwrap();
    let registration = Registration::from_text(&text).unwrap();
    let file = folder.path().join("registration");
    std::fs::write(&file, &text).unwrap();

    let alice = Person::new("alice", "Alice", folder.path()).unwrap();
    let found = [
        "org",
        "create",
        "Acme",
        "--registration-file",
        file.to_str().unwrap(),
    ];
    let who = ["--relay", &address, "--user", "Alice", "--device", "desk"];
    alice
        .tool("treeline-member", &[&found[..], &who].concat())
        .unwrap();
    alice
        .tool("treeline-member", &["team", "create", "Kitchen"])
        .unwrap();
    let say = [
        "send",
        "--channel",
        "Kitchen/general",
        "tea",
        "--wait",
        "origin",
    ];
    alice.tool("treeline-chat", &say).unwrap();

    let name = message(&registration, 2, 0).name();
    run(async {
        let all = Order::OldestFirst;
        let mut link = client(&address).await;
        let team = Prefix::of(name, Name::TEAM_BITS);
        link.subscribe(team, Start::All, all).await.unwrap();
        // The whole origin, two organisations, this one, and all but a team's path.
        for bits in [24, 57, 58, 77] {
            let mut link = client(&address).await;
            let short = Prefix::of(name, bits);
            link.subscribe(short, Start::All, all).await.unwrap();
            let reason = end_of(&mut link).await;
            assert!(reason.contains("a prefix that is shorter than"), "{reason}");
        }
    });
    assert_eq!(too_short(place), 4);

    learnt_below(folder.path(), [&address, &key], name);
    assert_eq!(too_short(place), 5);
}

/// A relay below that does not know the grant passes such a prefix on once, and learns from it.
fn learnt_below(folder: &Path, [above, origin]: [&str; 2], name: Name) {
    let above = ["--parent", above, "--origin", origin];
    let (_below, below, _) = tree::relay(folder, "cloud", "127.0.0.1:0", &above).unwrap();
    let [place, store] = ["origin", "cloud"].map(|tier| folder.join(tier));
    let [place, store] = [&place, &store].map(|path| path.to_str().unwrap());
    run(async {
        let short = Prefix::of(name, 58);
        let mut first = client(&below).await;
        first
            .subscribe(short, Start::All, Order::OldestFirst)
            .await
            .unwrap();
        first.next().await.unwrap();
        until("the origin has closed the relay's link", || {
            too_short(place) == 5
        });
        let mut second = client(&below).await;
        second
            .subscribe(short, Start::All, Order::OldestFirst)
            .await
            .unwrap();
        let reason = end_of(&mut second).await;
        assert!(reason.contains("a prefix that is shorter than"), "{reason}");
        // The link is there again, with the first one still asking.
        until("the relay below has its parent", || {
            status(store)["ready"] == true
        });
    });
    assert_eq!(too_short(store), 1);
}

fn status(directory: &str) -> Value {
    let status = ["status", "--json", "--directory", directory];
    let told = command("treeline-relay", &status).stdout;
    serde_json::from_slice(&told).unwrap()
}

/// How many links a relay has ended because they asked for too short a prefix.
fn too_short(directory: &str) -> u64 {
    let refused = &status(directory)["counters"]["misbehaved"]["prefix_too_short"];
    refused.as_u64().unwrap_or(0)
}
