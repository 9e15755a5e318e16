//! Bad input, one kind after the other: each gives one clear line and the right exit code, and
//! nothing that was accepted before is lost.

use std::net::UdpSocket;
use std::process::Output;

use proto::limits::{CHUNK_BYTES, CLOCK_SKEW_MS, FRAME_BODY_BYTES, LIFE_MS};
use proto::{Frame, Name, Outcome, Prefix, Refused, Tier};
use relay::driver::now;
use xtask::people::CHANNEL;
use xtask::tree::Tree;

use crate::client::{Alone, HOUR_MS, client, end_of, message, publish, read, run, signed};
use crate::scene::{Scene, command, refused};

/// What is no frame, and what the relay says of it.
fn malformed(alone: &Alone) -> Vec<(Vec<u8>, &'static str)> {
    let head = |kind: u8, length: usize| {
        let length = u32::try_from(length).unwrap();
        [[kind].as_slice(), &length.to_be_bytes()].concat()
    };
    let publish = |length: usize, bytes: &[u8]| {
        let count_and_length = [0, 1, (length >> 8) as u8, length as u8];
        let body = [count_and_length.as_slice(), bytes].concat();
        [head(3, body.len()), body].concat()
    };
    let chunk = alone.chunk(9);
    let mut short = chunk.encoded().to_vec();
    short.pop();
    vec![
        (head(99, 0), "sent bytes that are not a frame"),
        (
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            "sent a frame above the limit",
        ),
        (
            head(3, FRAME_BODY_BYTES + 1),
            "sent a frame above the limit",
        ),
        (
            publish(short.len(), &short),
            "sent bytes that are not a frame",
        ),
        // A chunk of one byte more than there can be.
        (
            publish(CHUNK_BYTES + 1, &vec![1; CHUNK_BYTES + 1]),
            "sent a frame above the limit",
        ),
    ]
}

#[test]
fn a_malformed_frame_ends_its_own_link_only() {
    let alone = Alone::new();
    run(async {
        let mut honest = alone.publisher().await;
        assert_eq!(
            publish(&mut honest, &alone.chunk(0)).await,
            Outcome::Stored(Tier::Origin)
        );
        for (number, (bytes, reason)) in malformed(&alone).into_iter().enumerate() {
            let before = alone.log().lines().count();
            let mut link = client(&alone.address).await;
            link.send_bytes(bytes.into()).await.unwrap();
            assert_eq!(end_of(&mut link).await, reason);
            let log = alone.log();
            let fresh: Vec<_> = log.lines().skip(before).collect();
            assert_eq!(fresh.len(), 1, "{log}");
            assert!(
                fresh[0].contains(reason) && fresh[0].contains("127.0.0.1:"),
                "{log}"
            );
            let next = alone.chunk(number as u32 + 1);
            assert_eq!(
                publish(&mut honest, &next).await,
                Outcome::Stored(Tier::Origin)
            );
        }
        // A second greeting is a frame, but not at that place.
        let mut link = client(&alone.address).await;
        let hello = Frame::Hello(link.hello().clone());
        link.send(&hello).await.unwrap();
        assert_eq!(end_of(&mut link).await, "did not begin with one HELLO");
        let prefix = Prefix::of(alone.chunk(0).name(), Name::TEAM_BITS);
        assert_eq!(read(&alone.address, prefix).await.len(), 6);
    });
}

#[test]
fn chunks_outside_their_grant_or_time_are_refused_by_name() {
    let alone = Alone::new();
    let mine = &alone.registration;
    let name = alone.chunk(0).name();
    let foreign = Name::new(
        proto::Place {
            org: mine.org + 1,
            ..name.place()
        },
        name.fields(),
    );
    let elsewhere = Name::new(
        proto::Place {
            origin: proto::OriginId::new(7),
            ..name.place()
        },
        name.fields(),
    );
    let later = now().plus_millis(HOUR_MS);
    let long = now().plus_millis(LIFE_MS + CLOCK_SKEW_MS + HOUR_MS);
    let just = proto::Timestamp::from_millis(now().millis() - 1000);
    let bad = [
        (signed(mine, foreign, later), Refused::OutsideGrant),
        (signed(mine, elsewhere, later), Refused::UnknownOrigin),
        (signed(mine, name, just), Refused::Expired),
        (signed(mine, name, long), Refused::TooLongLived),
    ];
    run(async {
        let mut link = alone.publisher().await;
        assert_eq!(
            publish(&mut link, &message(mine, 2, 1)).await,
            Outcome::Stored(Tier::Origin)
        );
        for (chunk, reason) in &bad {
            let before = alone.log().lines().count();
            assert_eq!(publish(&mut link, chunk).await, Outcome::Refused(*reason));
            let log = alone.log();
            let fresh: Vec<_> = log.lines().skip(before).collect();
            assert_eq!(fresh.len(), 1, "{log}");
            assert!(fresh[0].contains(&reason.to_string()), "{reason}: {log}");
            assert!(fresh[0].contains(&chunk.name().to_string()), "{log}");
        }
        // The same link goes on, and nothing refused is there.
        assert_eq!(
            publish(&mut link, &message(mine, 2, 2)).await,
            Outcome::Stored(Tier::Origin)
        );
        let team = Prefix::of(name, Name::TEAM_BITS);
        assert_eq!(read(&alone.address, team).await.len(), 2);
    });
}

#[test]
fn a_wrong_passphrase_is_told_and_the_right_one_still_opens() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(at("right"), "six words that nobody can guess\n").unwrap();
    std::fs::write(at("wrong"), "six words that somebody did guess\n").unwrap();
    let chat = |pass: &str, job: &[&str]| {
        let own = [
            "--directory",
            &at("profile"),
            "--passphrase-file",
            &at(pass),
        ];
        command("treeline-chat", &[own.as_slice(), job].concat())
    };
    refused(&chat("right", &["teams"]), 10, &["no profile", "init"]);
    let init = ["init", "--user", "Alice", "--device", "desk"];
    assert!(chat("right", &init).status.success());
    refused(
        &chat("wrong", &["teams"]),
        12,
        &["passphrase", "does not open"],
    );
    refused(
        &chat("missing", &["teams"]),
        2,
        &[&at("missing"), "No such file"],
    );
    assert!(chat("right", &["teams"]).status.success());
    refused(
        &chat("right", &["tail", "--channel", "nowhere/general"]),
        10,
        &["nowhere"],
    );
    refused(
        &chat("right", &["join", "treeline-invite-nonsense"]),
        15,
        &["invite"],
    );
    // After some slips the answer is to wait, each time longer: at last longer than a start takes here.
    for _ in 0..4 {
        refused(&chat("wrong", &["teams"]), 12, &["passphrase"]);
    }
    let slips = (0..6).map(|_| chat("wrong", &["teams"]));
    let waits = |out: &Output| String::from_utf8_lossy(&out.stderr).contains("too many");
    let told = { slips }.find(waits).expect("it never has to wait");
    refused(&told, 12, &["too many", "try again in"]);
}

/// A relay that is not there: the message is kept, said so, and delivered once when it is back.
#[test]
fn without_a_relay_a_message_waits_and_is_delivered_once() {
    let mut scene = Scene::new();
    scene.say(0, "before the relay went away");
    drop(scene.tree.relays.drain(..));
    let send = |scene: &Scene, text: &str, more: &[&str]| {
        let job = ["send", "--channel", CHANNEL, text];
        let arguments = scene.people[0].arguments(&[job.as_slice(), more].concat());
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        command("treeline-chat", &arguments)
    };
    let waiting = send(
        &scene,
        "while it was away",
        &["--wait", "origin", "--limit", "2"],
    );
    refused(
        &waiting,
        13,
        &[
            "no relay can be reached",
            "1 message is not at the origin",
            "nothing is lost",
        ],
    );
    scene.tree = Tree::restart(&scene.folder().join("relays"), &scene.tree).unwrap();
    scene.say(0, "when it was back");
    let seen = scene.history(1, 3);
    for text in [
        "before the relay went away",
        "while it was away",
        "when it was back",
    ] {
        assert_eq!(seen.matches(text).count(), 1, "{seen}");
    }
    let all = ["history", "--channel", CHANNEL];
    let kept = scene.people[1].tool("treeline-chat", &all).unwrap();
    let said = kept.lines().filter(|line| line.contains("Alice: "));
    assert_eq!(said.count(), 3, "{kept}");
}

#[test]
fn a_client_names_a_relay_that_is_not_there() {
    let alone = Alone::new();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let place = silent.local_addr().unwrap().to_string();
    let key = alone.address.split_once('#').unwrap().1;
    let error = run(async {
        let own = relay::tls::random_signer().unwrap();
        let absent = format!("{place}#{key}").parse().unwrap();
        relay::client::Client::connect(&absent, &own)
            .await
            .err()
            .unwrap()
    });
    let line = error.to_string();
    assert!(
        line.contains(&place) && line.contains("cannot reach the relay"),
        "{line}"
    );
    assert!(line.contains("check the address"), "{line}");
}

#[test]
fn an_occupied_port_is_named_and_its_holder_goes_on() {
    let alone = Alone::new();
    let folder = tempfile::tempdir().unwrap();
    let place = alone.address.split_once('#').unwrap().0;
    let directory = folder.path().join("second");
    let second = [
        "run",
        "--directory",
        directory.to_str().unwrap(),
        "--listen",
        place,
    ];
    refused(
        &command("treeline-relay", &second),
        2,
        &[place, "in use", "--listen"],
    );
    run(async {
        let mut link = alone.publisher().await;
        assert_eq!(
            publish(&mut link, &alone.chunk(0)).await,
            Outcome::Stored(Tier::Origin)
        );
    });
}

#[test]
fn a_text_above_the_limit_is_refused_before_it_is_sent() {
    let scene = Scene::new();
    let long = scene.folder().join("long.txt");
    std::fs::write(&long, ["short\n", &"x".repeat(70_000)].concat()).unwrap();
    let send = [
        "send",
        "--channel",
        CHANNEL,
        "--lines",
        long.to_str().unwrap(),
    ];
    let arguments = scene.people[0].arguments(&send);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    refused(
        &command("treeline-chat", &arguments),
        2,
        &["long.txt", "line 2", "64 KiB"],
    );
    let text = "y".repeat(70_000);
    let arguments = scene.people[0].arguments(&["send", "--channel", CHANNEL, &text]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    refused(&command("treeline-chat", &arguments), 2, &["64 KiB"]);
    scene.say(0, "a message of a usual length");
    assert!(scene.history(1, 1).contains("usual length"));
}
