//! Those who do not belong: they watch and read nothing, they forge and are refused.

use proto::{
    Chunk, Fields, GrantId, Name, OriginId, Outcome, Path, Place, Prefix, Refused, Registration,
    Signer,
};
use relay::driver::now;
use xtask::people::{CHANNEL, TEAM};
use xtask::tree::Tree;

use crate::client::{HOUR_MS, client, end_of, publish, publisher, read, run, watch};
use crate::scene::{Scene, command, files, refused};
use crate::words::without;

const TEXTS: [&str; 3] = [
    "the quarantine begins at seventeen hundred",
    "Zweibettzimmer vierhundertzwölf bleibt gesperrt",
    "the harbour pilot waits for the breakfast tray",
];
/// What would be seen if anything were: words that no chunk has by chance.
const WORDS: &[&str] = &[
    "quarantine",
    "seventeen",
    "Zweibett",
    "vierhundert",
    "gesperrt",
    "harbour",
    "pilot",
    "breakfast",
    "Ward 3",
    "general",
    "Alice",
];

/// Where the team of a scene stands; its number is drawn at random.
fn team(scene: &Scene) -> Place {
    let list = ["team", "list", "--json"];
    let lines = scene.people[0].tool("treeline-member", &list).unwrap();
    let line = lines.lines().find(|line| line.contains(TEAM)).unwrap();
    let team: serde_json::Value = serde_json::from_str(line).unwrap();
    let number = |key: &str| u32::try_from(team["id"][key].as_u64().unwrap()).unwrap();
    Place {
        origin: OriginId::new(number("origin")),
        org: number("org"),
        team: number("team"),
    }
}

fn messages(chunks: &[Chunk]) -> usize {
    let channel = |chunk: &&Chunk| matches!(chunk.name().fields(), Fields::Message { channel, .. } if channel > 0);
    chunks.iter().filter(channel).count()
}

/// P5: a client of ours that was never admitted gets every chunk of the team, and no word.
#[test]
fn a_stranger_gets_chunks_and_no_text() {
    let scene = Scene::new();
    let place = team(&scene);
    let feeds = Name::team_prefix(place, Path::Message);
    for (turn, text) in TEXTS[..2].iter().enumerate() {
        scene.say(turn % 2, text);
    }
    run(async {
        let mut stranger = client(&scene.tree.local).await;
        let before = watch(&mut stranger, feeds, |seen| messages(seen) >= 2).await;
        scene.say(0, TEXTS[2]);
        // What is said while it listens comes too.
        let mut after = client(&scene.tree.local).await;
        let live = watch(&mut after, feeds, |seen| messages(seen) >= 3).await;
        for chunk in before.iter().chain(&live) {
            without(WORDS, chunk.encoded(), &chunk.name().to_string());
        }
        // Commits, welcomes, key packages and grants tell no more than messages.
        let origin: Prefix = format!("treeline://{:06x}", place.origin.get())
            .parse()
            .unwrap();
        let all = read(&scene.tree.local, origin).await;
        for path in [
            Path::Message,
            Path::KeyPackage,
            Path::Welcome,
            Path::Commit,
            Path::Grant,
        ] {
            assert!(
                all.iter().any(|chunk| chunk.name().path() == path),
                "{path:?}"
            );
        }
        all.iter()
            .for_each(|chunk| without(WORDS, chunk.encoded(), &chunk.name().to_string()));
    });
    assert!(scene.history(1, 3).contains("harbour pilot"));
}

/// A real profile with a real invite, whom no admin adds, has no channel to read and keeps no word.
#[test]
fn an_invite_alone_opens_nothing() {
    let scene = Scene::new();
    scene.say(0, TEXTS[0]);
    let invite = scene.people[0]
        .tool("treeline-member", &["invite", "create", TEAM])
        .unwrap();
    let directory = scene.folder().join("mallory");
    let (directory, pass) = (
        directory.to_str().unwrap(),
        scene.folder().join("mallory.passphrase"),
    );
    std::fs::write(&pass, "a passphrase of her own\n").unwrap();
    let own = [
        "--directory",
        directory,
        "--passphrase-file",
        pass.to_str().unwrap(),
    ];
    let mallory = |more: &[&str]| command("treeline-chat", &[&own, more].concat());
    assert!(
        mallory(&["init", "--user", "Mallory", "--device", "phone"])
            .status
            .success()
    );
    refused(
        &mallory(&["join", invite.trim(), "--wait", "3"]),
        13,
        &["fingerprint", "admin"],
    );
    for job in [["tail", "--count", "1"], ["history", "--count", "1"]] {
        let out = mallory(&[job.as_slice(), &["--channel", CHANNEL]].concat());
        assert_eq!(out.status.code(), Some(10));
        assert!(out.stdout.is_empty());
    }
    for (path, content) in files(directory.as_ref()) {
        without(
            &["quarantine", "seventeen"],
            &content,
            &path.display().to_string(),
        );
    }
}

/// What somebody without Bob's key can make for the next name of Bob's feed.
struct Forger {
    /// An organisation of its own, at the same origin.
    own: Registration,
    key: Signer,
}

impl Forger {
    fn new(tree: &Tree) -> Self {
        let own = Registration::from_text(&tree.register().unwrap()).unwrap();
        Self {
            own,
            key: Signer::from_seed(&[0x66; 32]),
        }
    }

    fn chunk(&self, name: Name, grant: GrantId, signer: &Signer) -> Chunk {
        Chunk::sign(name, now().plus_millis(HOUR_MS), grant, b"\0junk", signer).unwrap()
    }

    /// Publishes every forgery at a relay; `genuine` is a chunk of the same feed.
    async fn attack(&self, relay: &str, name: Name, genuine: &Chunk) {
        let mut link = publisher(relay, &self.own).await;
        let registered = Signer::from_seed(&self.own.seed);
        let forgeries = [
            (GrantId::NONE, &self.key, Refused::NoGrant),
            (GrantId([9; 8]), &self.key, Refused::NoGrant),
            // A grant that verifies, for another organisation's names.
            (
                GrantId::of(&self.own.grant),
                &registered,
                Refused::OutsideGrant,
            ),
        ];
        for (grant, signer, reason) in forgeries {
            let said = publish(&mut link, &self.chunk(name, grant, signer)).await;
            assert_eq!(said, Outcome::Refused(reason), "at {relay}");
        }
        let copied = self.chunk(name, genuine.grant(), &self.key);
        let said = publish(&mut link, &copied).await;
        assert_eq!(said, Outcome::Refused(Refused::BadSignature), "at {relay}");
        assert!(end_of(&mut link).await.contains("bad signature"));
    }
}

/// P4: junk under the next name of another device is refused at every relay, and what that device
/// then says under the name arrives.
#[test]
fn only_its_device_fills_a_name() {
    let scene = Scene::new();
    scene.say(0, TEXTS[0]);
    let feeds = Name::team_prefix(team(&scene), Path::Message);
    let known: Vec<_> = run(read(&scene.tree.local, feeds))
        .iter()
        .map(Chunk::name)
        .collect();
    scene.say(1, TEXTS[1]);
    let genuine = run(async {
        let new = |chunk: &Chunk| {
            !known.contains(&chunk.name()) && messages(std::slice::from_ref(chunk)) == 1
        };
        let mut link = client(&scene.tree.local).await;
        let seen = watch(&mut link, feeds, |seen| seen.iter().any(new)).await;
        let mut of_bob: Vec<_> = seen.into_iter().filter(new).collect();
        of_bob.sort_by_key(Chunk::name);
        of_bob.pop().unwrap()
    });
    let next = genuine.name().offset(1).unwrap();
    let forger = Forger::new(&scene.tree);
    run(async {
        for relay in &scene.tree.places {
            forger.attack(relay, next, &genuine).await;
        }
    });
    scene.say(1, TEXTS[2]);
    assert!(scene.history(0, 3).contains("harbour pilot"));
    let stored = run(read(&scene.tree.local, Prefix::of(next, 128)));
    assert_eq!(stored.len(), 1, "the true message stands under the name");
    assert_eq!(stored[0].grant(), genuine.grant());
    // Behind the true one, nobody replaces it.
    let late = forger.chunk(next, genuine.grant(), &forger.key);
    let said = run(async { publish(&mut client(&scene.tree.local).await, &late).await });
    assert_eq!(said, Outcome::Refused(Refused::Conflict));
}
