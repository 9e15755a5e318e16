//! The transports on real sockets: QUIC and TLS over TCP on one port, networks that lose UDP, peers
//! that stop in the middle, and many of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hostile;
mod moving;
mod network;

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use proto::{
    Chunk, Fields, GrantId, Name, Path as NamePath, Place, Prefix, Registration, Signer, Tier,
};
use relay::address::RelayAddress;
use relay::client::Client;
use relay::config::Config;
use relay::driver::now;
use relay::link::settings::Settings;
use relay::relay::{ORIGIN_KEY, Relay};

const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for the future, but not for ever.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what)
        .await
        .expect("it takes too long")
}

/// Waits until something holds, but not for ever.
async fn until(mut holds: impl FnMut() -> bool) {
    soon(async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

/// An origin in this process.
struct Origin {
    _directory: tempfile::TempDir,
    relay: Relay,
    registration: Registration,
}

impl Origin {
    async fn start(transport: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = Config {
            directory: directory.path().to_owned(),
            listen: network::HERE.into(),
            tier: Tier::Origin,
            parents: Vec::new(),
            origins: Vec::new(),
            dns: None,
            mdns: None,
            admin: relay::config::Admin::Off,
            log: String::new(),
            log_json: false,
            check_store: false,
            transport,
            limits: relay_core::Limits::default(),
        };
        let relay = Relay::start(&config).await.unwrap();
        let key = relay::tls::load(&directory.path().join(ORIGIN_KEY)).unwrap();
        let until = now().plus_millis(86_400_000);
        let registration = Registration::issue(&key.unwrap(), 1, [7; 32], until).unwrap();
        Self {
            _directory: directory,
            relay,
            registration,
        }
    }

    fn address(&self) -> &RelayAddress {
        self.relay.address()
    }

    fn socket(&self) -> SocketAddr {
        self.address().place.parse().unwrap()
    }

    fn at(&self, place: SocketAddr) -> RelayAddress {
        RelayAddress {
            place: place.to_string(),
            key: self.address().key,
        }
    }

    fn place(&self) -> Place {
        Place {
            origin: self.registration.origin.origin_id(),
            org: self.registration.org,
            team: 2,
        }
    }

    fn prefix(&self) -> Prefix {
        Name::team_prefix(self.place(), NamePath::Message)
    }

    fn chunks(&self, numbers: Range<u32>) -> Vec<Chunk> {
        let signer = Signer::from_seed(&self.registration.seed);
        let grant = GrantId::of(&self.registration.grant);
        let expiry = now().plus_millis(3_600_000);
        let sign = |number| {
            let fields = Fields::Message {
                channel: 1,
                device: 3,
                number,
            };
            let name = Name::new(self.place(), fields);
            Chunk::sign(name, expiry, grant, &[number as u8; 900], &signer).unwrap()
        };
        numbers.map(sign).collect()
    }

    async fn client(&self) -> Client {
        let own = relay::tls::random_signer().unwrap();
        soon(Client::connect(self.address(), &own)).await.unwrap()
    }
}
