//! An organisation whose grant asks for long prefixes, at a relay that serves no prefix of several
//! organisations: its own devices work as ever, and nobody watches more than a team's path at once.

use proto::{Name, Order, Prefix, Registration, Start};
use serde_json::Value;
use xtask::people::Person;
use xtask::tree;

use crate::client::{client, end_of, message, run};
use crate::scene::{built, command};

#[test]
fn an_organisation_may_forbid_short_prefixes_of_its_names() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("origin");
    let place = directory.to_str().unwrap();
    let config = folder.path().join("relay.toml");
    std::fs::write(&config, "[limits]\nprefix_bits = 58\n").unwrap();
    let more = ["--config", config.to_str().unwrap()];
    let (_relay, address, _) = tree::relay(folder.path(), "origin", "127.0.0.1:0", &more).unwrap();
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
    let status = ["status", "--json", "--directory", place];
    let told = command("treeline-relay", &status).stdout;
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["counters"]["misbehaved"]["prefix_too_short"], 4);
}
