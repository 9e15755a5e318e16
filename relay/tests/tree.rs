//! Three real relays, as processes, over QUIC on loopback: origin, cloud, local, and clients at them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::{
    Chunk, Fields, GrantId, Name, Order, Outcome, Path as NamePath, Place, Prefix, Refused,
    Registration, Signer, Start, Tier, Timestamp,
};
use relay::address::RelayAddress;
use relay::client::{Client, ClientError, Said};
use relay::link::connect::ConnectError;

const PROGRAM: &str = env!("CARGO_BIN_EXE_treeline-relay");
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay process; killed when dropped.
struct Process {
    child: Child,
    address: RelayAddress,
    origin: String,
}

impl Process {
    fn start(directory: &Path, listen: &str, more: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--listen", listen, "--directory"])
            .arg(directory)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> = out
            .lines()
            .map(Result::unwrap)
            .take_while(|line| line != "ready")
            .collect();
        let value = |key: &str| {
            lines
                .iter()
                .find_map(|line| line.strip_prefix(key))
                .expect("a line")
                .to_owned()
        };
        let address = value("relay ").parse().unwrap();
        Self {
            child,
            address,
            origin: value("origin "),
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn register(origin: &Path) -> Registration {
    let mut command = Command::new(PROGRAM);
    let made = command
        .args(["org", "register", "--directory"])
        .arg(origin)
        .output()
        .unwrap();
    assert!(made.status.success());
    Registration::from_text(&String::from_utf8(made.stdout).unwrap()).unwrap()
}

struct Tree {
    directory: tempfile::TempDir,
    origin: Option<Process>,
    cloud: Option<Process>,
    local: Option<Process>,
    registration: Registration,
}

impl Tree {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let origin = Process::start(&at("origin"), "127.0.0.1:0", &[]);
        let below = |name: &str, parent: &Process| {
            let parent = parent.address.to_string();
            let more = [
                "--tier",
                name,
                "--parent",
                &parent,
                "--origin",
                &origin.origin,
            ];
            Process::start(&at(name), "127.0.0.1:0", &more)
        };
        let cloud = below("cloud", &origin);
        let local = below("local", &cloud);
        let registration = register(&at("origin"));
        Self {
            directory,
            origin: Some(origin),
            cloud: Some(cloud),
            local: Some(local),
            registration,
        }
    }

    /// The words of a tree for a single relay that somebody else holds.
    fn alone(directory: &Path) -> Self {
        let (origin, cloud, local) = (None, None, None);
        let registration = register(directory);
        let directory = tempfile::tempdir().unwrap();
        Self {
            directory,
            origin,
            cloud,
            local,
            registration,
        }
    }

    fn place(&self) -> Place {
        Place {
            origin: self.registration.origin.origin_id(),
            org: self.registration.org,
            team: 2,
        }
    }

    fn chunks(&self, numbers: std::ops::Range<u32>) -> Vec<Chunk> {
        let signer = Signer::from_seed(&self.registration.seed);
        let grant = GrantId::of(&self.registration.grant);
        let expiry = relay::driver::now().plus_millis(86_400_000);
        let sign = |number| {
            let name = Name::new(
                self.place(),
                Fields::Message {
                    channel: 1,
                    device: 3,
                    number,
                },
            );
            Chunk::sign(name, expiry, grant, &[number as u8; 900], &signer).unwrap()
        };
        numbers.map(sign).collect()
    }

    fn prefix(&self) -> Prefix {
        Name::team_prefix(self.place(), NamePath::Message)
    }

    async fn client(&self, relay: &Option<Process>) -> Client {
        let own = relay::tls::random_signer().unwrap();
        Client::connect(&relay.as_ref().unwrap().address, &own)
            .await
            .unwrap()
    }

    async fn publisher(&self, relay: &Option<Process>) -> Client {
        let mut client = self.client(relay).await;
        client
            .grant(std::slice::from_ref(&self.registration.grant))
            .await
            .unwrap();
        client
    }

    fn restart_cloud(&mut self, listen: &str) {
        let parent = self.origin.as_ref().unwrap();
        let (address, origin) = (parent.address.to_string(), parent.origin.clone());
        let more = ["--tier", "cloud", "--parent", &address, "--origin", &origin];
        self.cloud = Some(Process::start(
            &self.directory.path().join("cloud"),
            listen,
            &more,
        ));
    }
}

/// Waits for the future, but not for ever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it takes too long")
}

/// Collects chunks of a subscription until there are so many.
async fn collect(client: &mut Client, count: usize) -> Vec<Chunk> {
    let mut all = Vec::new();
    while all.len() < count {
        if let Said::Chunks { chunks, .. } = soon(client.next()).await.unwrap() {
            all.extend(chunks);
        }
    }
    all
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

#[test]
fn a_chunk_goes_up_three_tiers_and_comes_down_to_every_reader() {
    run(async {
        let tree = Tree::start();
        let mut readers = Vec::new();
        for relay in [&tree.local, &tree.cloud, &tree.origin] {
            let mut reader = tree.client(relay).await;
            reader
                .subscribe(tree.prefix(), Start::All, Order::OldestFirst)
                .await
                .unwrap();
            readers.push(reader);
        }
        let chunks = tree.chunks(0..100);
        let mut publisher = tree.publisher(&tree.local).await;
        publisher.publish(&chunks).await.unwrap();
        let mut tiers: std::collections::BTreeMap<Name, Vec<Tier>> = Default::default();
        let done = |tiers: &Vec<Tier>| tiers.last() == Some(&Tier::Origin);
        while tiers.len() < 100 || !tiers.values().all(done) {
            if let Said::Acks(acks) = soon(publisher.next()).await.unwrap() {
                for (name, outcome) in acks {
                    let Outcome::Stored(tier) = outcome else {
                        panic!("{name} {outcome:?}")
                    };
                    tiers.entry(name).or_default().push(tier);
                }
            }
        }
        for tiers in tiers.values() {
            assert_eq!(tiers[0], Tier::Local);
            assert!(tiers.is_sorted(), "{tiers:?}");
        }
        for reader in &mut readers {
            assert_eq!(collect(reader, 100).await, chunks);
        }
        // A publisher at the top is read at the bottom, and a late reader gets the backlog.
        let more = tree.chunks(100..150);
        let mut publisher = tree.publisher(&tree.origin).await;
        let outcomes = soon(publisher.publish_and_wait(&more, Tier::Origin))
            .await
            .unwrap();
        assert!(
            outcomes
                .values()
                .all(|outcome| *outcome == Outcome::Stored(Tier::Origin))
        );
        assert_eq!(collect(&mut readers[0], 50).await, more);
        let mut late = tree.client(&tree.local).await;
        let mut all = Vec::new();
        soon(late.read(tree.prefix(), |chunk| all.push(chunk)))
            .await
            .unwrap();
        all.sort_by_key(Chunk::name);
        assert_eq!(all, [chunks, more].concat());
        publisher.close().await;
    });
}

impl Tree {
    fn other_bytes(&self, chunk: &Chunk) -> Chunk {
        let signer = Signer::from_seed(&self.registration.seed);
        let expiry = Timestamp::from_millis(chunk.expiry().millis() - 1);
        Chunk::sign(chunk.name(), expiry, chunk.grant(), b"other", &signer).unwrap()
    }
}

#[test]
fn a_killed_relay_in_the_middle_loses_nothing() {
    run(async {
        let mut tree = Tree::start();
        let mut reader = tree.client(&tree.origin).await;
        reader
            .subscribe(tree.prefix(), Start::All, Order::OldestFirst)
            .await
            .unwrap();
        let mut low = tree.client(&tree.local).await;
        low.subscribe(tree.prefix(), Start::All, Order::OldestFirst)
            .await
            .unwrap();
        let mut publisher = tree.publisher(&tree.local).await;
        let before = tree.chunks(0..40);
        soon(publisher.publish_and_wait(&before, Tier::Origin))
            .await
            .unwrap();
        let cloud = tree.cloud.take().unwrap();
        let listen = cloud.address.place.clone();
        cloud.kill();
        let during = tree.chunks(40..90);
        let outcomes = soon(publisher.publish_and_wait(&during, Tier::Local))
            .await
            .unwrap();
        assert!(
            outcomes
                .values()
                .all(|outcome| *outcome == Outcome::Stored(Tier::Local))
        );
        // What is published at the top meanwhile has to come down afterwards.
        let above = tree.chunks(90..120);
        let mut top = tree.publisher(&tree.origin).await;
        soon(top.publish_and_wait(&above, Tier::Origin))
            .await
            .unwrap();
        tree.restart_cloud(&listen);
        let mut all = collect(&mut reader, 120).await;
        all.sort_by_key(Chunk::name);
        assert_eq!(
            all,
            [before.clone(), during.clone(), above.clone()].concat()
        );
        let mut all = collect(&mut low, 120).await;
        all.sort_by_key(Chunk::name);
        assert_eq!(all, [before, during.clone(), above].concat());
        soon(publisher.publish_and_wait(&during, Tier::Origin))
            .await
            .unwrap();
    });
}

#[test]
fn known_names_are_answered_and_missing_chunks_are_fetched_from_above() {
    run(async {
        let tree = Tree::start();
        let chunks = tree.chunks(0..2);
        let mut again = tree.publisher(&tree.local).await;
        soon(again.publish_and_wait(&chunks[..1], Tier::Origin))
            .await
            .unwrap();
        // Published again, it is answered with the farthest tier; other bytes are refused.
        let mut again = tree.publisher(&tree.local).await;
        let outcomes = soon(again.publish_and_wait(&chunks[..1], Tier::Origin))
            .await
            .unwrap();
        assert_eq!(outcomes[&chunks[0].name()], Outcome::Stored(Tier::Origin));
        let other = tree.other_bytes(&chunks[0]);
        let outcomes = soon(again.publish_and_wait(&[other], Tier::Local))
            .await
            .unwrap();
        assert_eq!(
            outcomes[&chunks[0].name()],
            Outcome::Refused(Refused::Conflict)
        );
        // A reader who fetches at the bottom what is only at the top.
        let mut top = tree.publisher(&tree.origin).await;
        soon(top.publish_and_wait(&chunks[1..], Tier::Origin))
            .await
            .unwrap();
        let mut reader = tree.client(&tree.local).await;
        let found = soon(reader.fetch(&[chunks[1].name(), Name(1 << 104)]))
            .await
            .unwrap();
        assert_eq!(found, chunks[1..]);
    });
}

#[test]
fn a_wrong_key_and_a_relay_that_is_not_there_are_told_apart() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let relay = Process::start(directory.path(), "127.0.0.1:0", &[]);
        let own = relay::tls::random_signer().unwrap();
        let mut address = relay.address.clone();
        address.key = own.public_key();
        let wrong = soon(Client::connect(&address, &own))
            .await
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(wrong, ClientError::Connect(ConnectError::WrongKey(_))),
            "{wrong}"
        );
        let address = relay.address.clone();
        relay.kill();
        let away = soon(Client::connect(&address, &own))
            .await
            .map(drop)
            .unwrap_err();
        assert!(
            matches!(away, ClientError::Connect(ConnectError::Unreachable { .. })),
            "{away}"
        );
    });
}

#[test]
fn bytes_that_are_no_frame_end_the_link_and_nothing_else() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let relay = Process::start(directory.path(), "127.0.0.1:0", &[]);
        let own = relay::tls::random_signer().unwrap();
        let mut honest = Client::connect(&relay.address, &own).await.unwrap();
        let long = [[3, 0, 1, 0, 1].as_slice(), &[0; 40]].concat();
        let oversized = [[3, 0, 0, 5, 0].as_slice(), &[0, 1, 4, 99], &[0; 1276]].concat();
        for junk in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), long, oversized] {
            let mut hostile = Client::connect(&relay.address, &own).await.unwrap();
            // The greeting's REACH comes first, then the end with its reason.
            hostile.send_bytes(junk.into()).await.unwrap();
            let closed = loop {
                if let Err(closed) = soon(hostile.next()).await {
                    break closed.to_string();
                }
            };
            assert!(closed.contains("sent"), "{closed}");
        }
        let found = soon(honest.fetch(&[Name(1)])).await.unwrap();
        assert_eq!(found, []);
    });
}

#[test]
fn whatever_was_acknowledged_survives_kill_9() {
    run(async {
        let directory = tempfile::tempdir().unwrap();
        let mut relay = Process::start(directory.path(), "127.0.0.1:0", &[]);
        let listen = relay.address.place.clone();
        let tree = Tree::alone(directory.path());
        let mut acknowledged = std::collections::BTreeSet::new();
        for round in 0..5 {
            let chunks = tree.chunks(round * 2000..round * 2000 + 2000);
            let own = relay::tls::random_signer().unwrap();
            let mut client = Client::connect(&relay.address, &own).await.unwrap();
            client
                .grant(std::slice::from_ref(&tree.registration.grant))
                .await
                .unwrap();
            client.publish(&chunks).await.unwrap();
            let enough = acknowledged.len() + 300;
            while acknowledged.len() < enough {
                if let Said::Acks(acks) = soon(client.next()).await.unwrap() {
                    acknowledged.extend(acks.into_iter().map(|(name, _)| name));
                }
            }
            // In the middle of the work: more is published than has been acknowledged.
            relay.kill();
            relay = Process::start(directory.path(), &listen, &[]);
        }
        let own = relay::tls::random_signer().unwrap();
        let mut client = Client::connect(&relay.address, &own).await.unwrap();
        let mut there = std::collections::BTreeSet::new();
        soon(client.read(tree.prefix(), |chunk| there.extend([chunk.name()])))
            .await
            .unwrap();
        assert_eq!(acknowledged.difference(&there).count(), 0);
    });
}
