//! Three relays on loopback with chunks in them, and `treeline-dump` at them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use proto::{
    Chunk, Fields, Grant, GrantId, Limits, Name, Outcome, Pattern, Place, Prefix, Registration,
    Rule, Signer, Tier, Verbs,
};
use relay::address::RelayAddress;
use relay::address::Upstream;
use relay::client::Client;
use relay::config::{Admin, Config};
use relay::driver::now;
use relay::relay::{ORIGIN_KEY, Relay, STORE};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(60);
pub const LIFE_MS: u64 = 86_400_000;

/// Origin, cloud and local, in this process.
pub struct Tree {
    pub runtime: tokio::runtime::Runtime,
    folder: TempDir,
    pub relays: Vec<Relay>,
    pub registration: Registration,
}

impl Tree {
    pub fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let origin = folder.path().join("origin");
        let root = runtime.block_on(relay(&origin, Tier::Origin, None));
        let key = relay::tls::load(&origin.join(ORIGIN_KEY)).unwrap().unwrap();
        let until = now().plus_millis(10 * LIFE_MS);
        let registration = Registration::issue(&key, 3, [9; 32], until).unwrap();
        let mut tree = Self {
            runtime,
            folder,
            relays: vec![root],
            registration,
        };
        tree.start_below();
        tree
    }

    fn start_below(&mut self) {
        for (name, tier) in [("cloud", Tier::Cloud), ("local", Tier::Local)] {
            let parent = self.relays.last();
            let directory = self.folder.path().join(name);
            let below = relay(&directory, tier, parent);
            let below = self.runtime.block_on(below);
            self.relays.push(below);
        }
    }

    /// Stops all relays and removes their stores: only their keys stay.
    pub fn wipe(&mut self) {
        for relay in std::mem::take(&mut self.relays) {
            self.runtime.block_on(relay.stop());
        }
        for name in ["origin", "cloud", "local"] {
            for ending in ["", "-wal", "-shm"] {
                let file = self
                    .folder
                    .path()
                    .join(name)
                    .join(format!("{STORE}{ending}"));
                let _ = fs::remove_file(file);
            }
        }
        let origin = self.folder.path().join("origin");
        let root = self.runtime.block_on(relay(&origin, Tier::Origin, None));
        self.relays.push(root);
        self.start_below();
    }

    pub fn address(&self, tier: Tier) -> String {
        let relay = self.relays.iter().find(|relay| relay.tier() == tier);
        relay.unwrap().address().to_string()
    }

    pub fn prefix(&self) -> String {
        let origin = self.registration.origin.origin_id();
        format!("treeline://{:06x}", origin.get())
    }

    fn place(&self, team: u32) -> Place {
        Place {
            origin: self.registration.origin.origin_id(),
            org: self.registration.org,
            team,
        }
    }

    /// A device's grant in a team, below an organisation's key of its own.
    pub fn chain(&self, team: u32, life_ms: u64) -> Vec<Chunk> {
        let issuer = Signer::from_seed(&self.registration.seed);
        let not_after = now().plus_millis(life_ms);
        let sign = |subject: &Signer, verbs, place, device, parent: &Chunk, signer| {
            let grant = Grant {
                subject: subject.public_key(),
                not_after,
                limits: Limits {
                    life_ms,
                    ..Limits::default()
                },
                rules: vec![Rule {
                    verbs,
                    pattern: Pattern::of_org(self.place(0).origin, self.registration.org),
                }],
            };
            grant
                .sign(place, device, GrantId::of(parent), signer)
                .unwrap()
        };
        let root = self.registration.grant.clone();
        let org = sign(
            &organisation(),
            Verbs::ALL,
            self.place(0),
            0,
            &root,
            &issuer,
        );
        let place = self.place(team);
        let device = sign(&device(), Verbs::PUBLISH, place, 5, &org, &organisation());
        vec![root, org, device]
    }

    /// Publishes messages of a device in a team, and waits until they are at the origin.
    pub fn say(
        &self,
        chain: &[Chunk],
        team: u32,
        numbers: std::ops::Range<u32>,
        at: Tier,
    ) -> Vec<Chunk> {
        let grant = chain.last().unwrap();
        let sign = |number| {
            let fields = Fields::Message {
                channel: 1,
                device: 5,
                number,
            };
            let name = Name::new(self.place(team), fields);
            Chunk::sign(
                name,
                grant.expiry(),
                GrantId::of(grant),
                &[7; 600],
                &device(),
            )
            .unwrap()
        };
        let mut chunks: Vec<Chunk> = numbers.map(sign).collect();
        chunks.extend(chain.iter().cloned());
        self.publish(chain, &chunks, at);
        chunks
    }

    /// As many fragments of a key package as there may be.
    pub fn key_packages(&self, seed: u8) -> Vec<Chunk> {
        let signer = Signer::from_seed(&[seed; 32]);
        let key = signer.public_key();
        let sign = |fragment| {
            let fields = Fields::KeyPackage {
                fingerprint: key.fingerprint().name_bits(),
                fragment,
            };
            let name = Name::new(self.place(0), fields);
            let expiry = now().plus_millis(LIFE_MS);
            Chunk::sign(name, expiry, GrantId::NONE, &key.0, &signer).unwrap()
        };
        (0..16).map(sign).collect()
    }

    /// Publishes chunks, and waits until they are at the origin.
    pub fn publish(&self, chain: &[Chunk], chunks: &[Chunk], at: Tier) {
        let address: RelayAddress = self.address(at).parse().unwrap();
        self.runtime.block_on(async {
            let own = relay::tls::random_signer().unwrap();
            let mut client = Client::connect(&address, &own).await.unwrap();
            if !chain.is_empty() {
                client.grant(chain).await.unwrap();
            }
            let published = client.publish_and_wait(chunks, Tier::Origin);
            let outcomes = tokio::time::timeout(PATIENCE, published)
                .await
                .unwrap()
                .unwrap();
            let all = Outcome::Stored(Tier::Origin);
            assert!(
                outcomes.values().all(|outcome| *outcome == all),
                "{outcomes:?}"
            );
            client.close().await;
        });
    }

    /// Everything that a relay has of this origin.
    pub fn content(&self, tier: Tier) -> Vec<Chunk> {
        let address: RelayAddress = self.address(tier).parse().unwrap();
        let prefix: Prefix = self.prefix().parse().unwrap();
        let mut all = Vec::new();
        self.runtime.block_on(async {
            let own = relay::tls::random_signer().unwrap();
            let mut client = Client::connect(&address, &own).await.unwrap();
            client.read(prefix, |chunk| all.push(chunk)).await.unwrap();
        });
        all.sort_by_key(Chunk::name);
        all
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_treeline-dump"))
            .args(arguments)
            .env("XDG_STATE_HOME", self.at("state"))
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    pub fn dump(&self, prefix: &str, dir: &Path, tier: Tier) -> Output {
        let dir = dir.to_str().unwrap();
        self.run(&[
            "dump",
            prefix,
            dir,
            "--relay",
            &self.address(tier),
            "--json",
        ])
    }

    pub fn undump(&self, dir: &Path, tier: Tier, more: &[&str]) -> Output {
        let dir = dir.to_str().unwrap();
        let address = self.address(tier);
        self.run(&[&["undump", dir, "--relay", &address, "--json"], more].concat())
    }

    pub fn verify(&self, dir: &Path, more: &[&str]) -> Output {
        self.run(&[&["verify", dir.to_str().unwrap(), "--json"], more].concat())
    }
}

async fn relay(directory: &Path, tier: Tier, parent: Option<&Relay>) -> Relay {
    let config = Config {
        directory: directory.to_owned(),
        listen: "127.0.0.1:0".parse().unwrap(),
        tier,
        parents: parent
            .iter()
            .map(|parent| Upstream::Relay(parent.address().clone()))
            .collect(),
        origins: parent.map_or_else(Vec::new, |parent| parent.origins().to_vec()),
        admin: Admin::Off,
        dns: None,
        mdns: None,
        log: String::new(),
        log_json: false,
        check_store: false,
        transport: Default::default(),
        limits: Default::default(),
    };
    Relay::start(&config).await.unwrap()
}

pub fn organisation() -> Signer {
    Signer::from_seed(&[11; 32])
}

pub fn device() -> Signer {
    Signer::from_seed(&[12; 32])
}
