//! A relay with two parents, as processes: traffic goes through the nearer one, moves when it goes
//! silent without a word, loses nothing, and moves back when it speaks again.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use proto::{
    Chunk, Fields, GrantId, Name, Order, Path as NamePath, Place, Prefix, Registration, Signer,
    Start, Tier,
};
use relay::client::{Client, Said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_treeline-relay");
const PATIENCE: Duration = Duration::from_secs(60);

/// A relay process; killed when dropped.
struct Process {
    child: Child,
    address: String,
    origin: String,
}

impl Process {
    fn start(directory: &Path, more: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["run", "--listen", "127.0.0.1:0", "--directory"])
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
            let found = lines.iter().find_map(|line| line.strip_prefix(key));
            found.expect("a line").to_owned()
        };
        Self {
            child,
            address: value("relay "),
            origin: value("origin "),
        }
    }

    fn place(&self) -> &str {
        self.address.split('#').next().unwrap()
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn chunk(registration: &Registration, number: u32) -> Chunk {
    let place = Place {
        origin: registration.origin.origin_id(),
        org: registration.org,
        team: 2,
    };
    let fields = Fields::Message {
        channel: 1,
        device: 3,
        number,
    };
    let expiry = relay::driver::now().plus_millis(86_400_000);
    let signer = Signer::from_seed(&registration.seed);
    let grant = GrantId::of(&registration.grant);
    Chunk::sign(Name::new(place, fields), expiry, grant, &[1; 300], &signer).unwrap()
}

fn prefix(registration: &Registration) -> Prefix {
    let place = chunk(registration, 0).name().place();
    Name::team_prefix(place, NamePath::Message)
}

async fn client(relay: &Process, registration: &Registration) -> Client {
    let own = relay::tls::random_signer().unwrap();
    let address = relay.address.parse().unwrap();
    let mut client = Client::connect(&address, &own).await.unwrap();
    client
        .grant(std::slice::from_ref(&registration.grant))
        .await
        .unwrap();
    client
}

/// Waits until the relay says that it goes up through this one.
async fn goes_through(client: &mut Client, parent: &Process) -> Duration {
    let began = Instant::now();
    while !matches!(client.next().await.unwrap(), Said::Reach(_, at) if at == parent.place()) {}
    began.elapsed()
}

/// Reads a subscription until it has `count` chunks; each comes once.
async fn all(client: &mut Client, id: u32, count: usize) -> Vec<Name> {
    let mut names = Vec::new();
    while names.len() < count {
        if let Said::Chunks { id: of, chunks } = client.next().await.unwrap()
            && of == id
        {
            names.extend(chunks.iter().map(Chunk::name));
        }
    }
    names
}

#[test]
fn traffic_moves_from_a_silent_parent_and_back_without_loss_or_duplicate() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let origin = Process::start(&at("origin"), &[]);
    let made = Command::new(PROGRAM)
        .args(["org", "register", "--directory"])
        .arg(at("origin"))
        .output()
        .unwrap();
    let registration = Registration::from_text(&String::from_utf8(made.stdout).unwrap()).unwrap();
    let key = origin.origin.clone();
    let below = |name: &str, tier: &str, parents: &str| {
        let more = ["--tier", tier, "--parent", parents, "--origin", &key];
        Process::start(&at(name), &more)
    };
    let cloud = below("cloud", "cloud", &origin.address);
    let near = below("near", "local", &origin.address);
    // The farther one is named first: nearness counts, not the order.
    let parents = format!("{},{}", cloud.address, near.address);
    let own = below("own", "local", &parents);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let story = async {
        let mut writer = client(&own, &registration).await;
        let mut reader = client(&own, &registration).await;
        let mut far = client(&origin, &registration).await;
        let start = (Start::All, Order::OldestFirst);
        let here = reader
            .subscribe(prefix(&registration), start.0, start.1)
            .await
            .unwrap();
        let there = far
            .subscribe(prefix(&registration), Start::All, start.1)
            .await
            .unwrap();
        goes_through(&mut writer, &near).await;
        let say = |number| chunk(&registration, number);
        writer
            .publish_and_wait(&[say(1)], Tier::Origin)
            .await
            .unwrap();

        near.signal("STOP");
        // One is written into the silence, another comes from the other side.
        writer.publish(&[say(2)]).await.unwrap();
        far.publish(&[say(3)]).await.unwrap();
        goes_through(&mut writer, &cloud).await;
        writer
            .publish_and_wait(&[say(4)], Tier::Origin)
            .await
            .unwrap();

        near.signal("CONT");
        goes_through(&mut writer, &near).await;
        writer
            .publish_and_wait(&[say(5)], Tier::Origin)
            .await
            .unwrap();

        for (client, id) in [(&mut reader, here), (&mut far, there)] {
            let mut names = all(client, id, 5).await;
            names.sort();
            let expected: Vec<Name> = (1..=5).map(|number| say(number).name()).collect();
            assert_eq!(names, expected);
        }
    };
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, story)
            .await
            .expect("in time")
    });
}
