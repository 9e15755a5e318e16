//! Clients of ours at a real relay, in tests that are not asynchronous themselves.

use std::time::Duration;

use proto::{
    Chunk, Fields, GrantId, Name, Order, Outcome, Place, Prefix, Registration, Signer, Start, Tier,
    Timestamp,
};
use relay::client::{Client, ClientError, Said};
use relay::driver::now;
use tempfile::TempDir;
use xtask::process::Process;
use xtask::tree;

use crate::scene::built;

const PATIENCE: Duration = Duration::from_secs(60);
/// An hour, in milliseconds: the life of a test's chunks.
pub const HOUR_MS: u64 = 60 * 60 * 1000;

/// Runs an asynchronous test to its end.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { soon(test).await })
}

/// Waits for the future, but not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, what).await;
    result.expect("it takes too long")
}

/// A client with a key that nobody knows, at `HOST:PORT#KEY`.
pub async fn client(relay: &str) -> Client {
    let own = relay::tls::random_signer().unwrap();
    Client::connect(&relay.parse().unwrap(), &own)
        .await
        .unwrap()
}

/// Publishes one chunk and returns what the first answer says of it.
pub async fn publish(client: &mut Client, chunk: &Chunk) -> Outcome {
    let chunks = std::slice::from_ref(chunk);
    let answers = client.publish_and_wait(chunks, Tier::Device).await;
    answers.unwrap()[&chunk.name()]
}

/// Why the relay ended the link; fails when it does not.
pub async fn end_of(client: &mut Client) -> String {
    loop {
        match soon(client.next()).await {
            Ok(_) => {}
            Err(ClientError::Closed { reason, .. }) => return reason,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything that a relay gives under a prefix now.
pub async fn read(relay: &str, prefix: Prefix) -> Vec<Chunk> {
    let mut client = client(relay).await;
    let mut all = Vec::new();
    client.read(prefix, |chunk| all.push(chunk)).await.unwrap();
    client.close().await;
    all
}

/// Subscribes to a prefix and takes chunks until they are enough.
pub async fn watch(
    client: &mut Client,
    prefix: Prefix,
    enough: impl Fn(&[Chunk]) -> bool,
) -> Vec<Chunk> {
    let all = Order::OldestFirst;
    client.subscribe(prefix, Start::All, all).await.unwrap();
    let mut seen = Vec::new();
    while !enough(&seen) {
        if let Said::Chunks { chunks, .. } = soon(client.next()).await.unwrap() {
            seen.extend(chunks);
        }
    }
    seen
}

/// One relay that is its own origin, with one organisation of ours.
pub struct Alone {
    pub relay: Process,
    pub address: String,
    pub registration: Registration,
    pub folder: TempDir,
}

impl Alone {
    pub fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let (relay, address, _) = tree::relay(folder.path(), "origin", "127.0.0.1:0", &[]).unwrap();
        let text = tree::register(&folder.path().join("origin")).unwrap();
        let registration = Registration::from_text(&text).unwrap();
        Self {
            relay,
            address,
            registration,
            folder,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("origin.log")).unwrap()
    }

    /// A client that has shown the organisation's grant.
    pub async fn publisher(&self) -> Client {
        publisher(&self.address, &self.registration).await
    }

    /// A valid chunk of our organisation.
    pub fn chunk(&self, number: u32) -> Chunk {
        message(&self.registration, 2, number)
    }
}

/// A client that has shown an organisation's grant.
pub async fn publisher(relay: &str, registration: &Registration) -> Client {
    let mut client = client(relay).await;
    let chain = std::slice::from_ref(&registration.grant);
    client.grant(chain).await.unwrap();
    client
}

/// A valid chunk of an organisation.
pub fn message(registration: &Registration, team: u32, number: u32) -> Chunk {
    let place = Place {
        origin: registration.origin.origin_id(),
        org: registration.org,
        team,
    };
    let fields = Fields::Message {
        channel: 1,
        device: 3,
        number,
    };
    signed(
        registration,
        Name::new(place, fields),
        now().plus_millis(HOUR_MS),
    )
}

/// A chunk of any name, signed with an organisation's key and its grant.
pub fn signed(registration: &Registration, name: Name, expiry: Timestamp) -> Chunk {
    let signer = Signer::from_seed(&registration.seed);
    let grant = GrantId::of(&registration.grant);
    Chunk::sign(name, expiry, grant, &[7; 900], &signer).unwrap()
}
