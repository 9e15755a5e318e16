//! The way up: connects to a relay by the transport that gets through (`super::choice` decides), and
//! moves a link from TCP to QUIC once UDP gets through. Which relay is another's decision.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use proto::{FrameDecoder, Hello, Signer};
use relay_core::Role;
use thiserror::Error;
use tokio::task::JoinSet;
use tokio::time::{sleep_until, timeout};

use super::choice::{Memory, Race, Step, Transport};
use super::offers::{Downgrade, Offers};
use super::quic::{self, QuicSink, QuicSource};
use super::tcp::{self, TcpSink, TcpSource};
use super::{Greeted, Sink, Source};
use crate::address::RelayAddress;
use crate::discovery;
use crate::driver::{Handle, Stopped};

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the transports to one address are waited for, so that there is time to say what they said.
const ANSWER: Duration = Duration::from_millis(4_700);
/// How long UDP is left alone where TCP got through and it did not, at first.
const UDP_RETRY: Duration = Duration::from_secs(30);

/// Why there is no connection. One line: what, where.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// Nobody answers there.
    #[error("cannot reach the relay {place}: {why}; check the address and that it is running")]
    Unreachable {
        /// Where.
        place: String,
        /// Why.
        why: String,
    },
    /// Somebody else answers there.
    #[error(
        "the relay at {0} shows another key than the address says; do not use it until its operator explains"
    )]
    WrongKey(String),
}

/// Why one transport did not come up.
#[derive(Debug)]
pub enum Failure {
    /// Another key was shown.
    WrongKey,
    /// Anything else, in words.
    Other(String),
}

impl Failure {
    pub(super) fn other(error: impl ToString) -> Self {
        Self::Other(error.to_string())
    }
}

/// Connects to relays, and remembers where UDP does not get through. Cheap to clone.
#[derive(Clone)]
pub struct Connector {
    own: Arc<Signer>,
    memory: Arc<Mutex<Memory>>,
    offers: Arc<Mutex<Offers>>,
}

/// A connection to a relay, by either transport.
pub struct Connected {
    /// What carries it.
    pub transport: Transport,
    /// What the relay sends.
    pub source: NetSource,
    /// What we send.
    pub sink: NetSink,
    /// What it stands on.
    pub ground: Ground,
    connector: Connector,
    relay: RelayAddress,
    address: SocketAddr,
}

/// What a connection stands on; dropping it ends the connection at once.
pub struct Ground(Option<quic::Ground>);

impl Ground {
    /// Ends the connection, and waits until the relay knows.
    pub async fn close(self) {
        if let Some(quic) = self.0 {
            quic.close().await;
        }
    }
}

/// The reading half, over either transport.
pub enum NetSource {
    /// Over QUIC.
    Quic(QuicSource),
    /// Over TCP.
    Tcp(TcpSource),
}

/// The writing half, over either transport.
pub enum NetSink {
    /// Over QUIC.
    Quic(QuicSink),
    /// Over TCP.
    Tcp(TcpSink),
}

impl Source for NetSource {
    async fn read(&mut self, into: &mut FrameDecoder) -> io::Result<bool> {
        match self {
            Self::Quic(source) => source.read(into).await,
            Self::Tcp(source) => source.read(into).await,
        }
    }

    async fn linger(&mut self) {
        match self {
            Self::Quic(source) => source.linger().await,
            Self::Tcp(source) => source.linger().await,
        }
    }
}

impl Sink for NetSink {
    async fn write(&mut self, frames: &mut [Bytes]) -> io::Result<()> {
        match self {
            Self::Quic(sink) => sink.write(frames).await,
            Self::Tcp(sink) => sink.write(frames).await,
        }
    }

    async fn finish(&mut self) {
        match self {
            Self::Quic(sink) => sink.finish().await,
            Self::Tcp(sink) => sink.finish().await,
        }
    }
}

type Halves = (NetSource, NetSink, Ground);

/// Connects once to a relay, which has to show its key. Who connects again and again keeps a
/// [`Connector`].
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(relay: &RelayAddress, own: &Signer) -> Result<Connected, ConnectError> {
    Connector::new(own.clone()).connect(relay).await
}

impl Connector {
    /// One that shows this key, and knows nothing yet.
    pub fn new(own: Signer) -> Self {
        Self::with_udp_retry(own, UDP_RETRY)
    }

    /// As [`Connector::new`], with another first pause before UDP is tried again where it failed.
    pub fn with_udp_retry(own: Signer, pause: Duration) -> Self {
        Self {
            own: Arc::new(own),
            memory: Arc::new(Mutex::new(Memory::new(pause))),
            offers: Arc::default(),
        }
    }

    /// Connects to a relay, which has to show its key.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(&self, relay: &RelayAddress) -> Result<Connected, ConnectError> {
        match timeout(CONNECT, self.first(relay)).await {
            Ok(result) => result,
            Err(_) => Err(unreachable(relay, "no answer")),
        }
    }

    /// The first of the relay's addresses that answers.
    async fn first(&self, relay: &RelayAddress) -> Result<Connected, ConnectError> {
        let found = tokio::net::lookup_host(&relay.place).await;
        let found = found.map_err(|error| unreachable(relay, error))?;
        let attempt = |address| {
            let (this, relay) = (self.clone(), relay.clone());
            async move { this.race(&relay, address).await }
        };
        discovery::race(discovery::interleave(found), attempt)
            .await
            .map_err(|error| error.unwrap_or_else(|| unreachable(relay, "the name has no address")))
    }

    /// The first transport that gets through to an address.
    async fn race(
        &self,
        relay: &RelayAddress,
        address: SocketAddr,
    ) -> Result<Connected, ConnectError> {
        let began = Instant::now();
        let mut race = Race::new(self.memory().is_blocked(&relay.place, began));
        let mut lanes = JoinSet::new();
        let mut quic_runs = false;
        let mut why: Vec<String> = Vec::new();
        loop {
            if began.elapsed() >= ANSWER {
                return Err(unreachable(relay, reasons(&why)));
            }
            let until = match race.next(began.elapsed()) {
                Step::Begin(transport) => {
                    quic_runs |= transport == Transport::Quic;
                    let lane = lane(transport, address, self.own.clone(), relay.clone());
                    lanes.spawn(lane);
                    continue;
                }
                Step::Wait(until) => until.unwrap_or(ANSWER).min(ANSWER),
                Step::Lost => return Err(unreachable(relay, reasons(&why))),
            };
            let done = tokio::select! {
                Some(Ok(done)) = lanes.join_next() => done,
                () = sleep_until((began + until).into()) => continue,
            };
            match done {
                (transport, Ok(halves)) => {
                    match transport {
                        Transport::Quic => self.memory().works(&relay.place),
                        Transport::Tcp if quic_runs => {
                            self.memory().blocked(&relay.place, Instant::now());
                        }
                        Transport::Tcp => {}
                    }
                    return Ok(self.connected(transport, halves, (relay, address)));
                }
                (_, Err(Failure::WrongKey)) => {
                    return Err(ConnectError::WrongKey(relay.place.clone()));
                }
                (transport, Err(Failure::Other(error))) => {
                    race.failed(transport, began.elapsed());
                    why.push(format!("{transport}: {error}"));
                }
            }
        }
    }

    fn connected(
        &self,
        transport: Transport,
        (source, sink, ground): Halves,
        (relay, address): (&RelayAddress, SocketAddr),
    ) -> Connected {
        tracing::debug!(relay = relay.place, %transport, "connected");
        Connected {
            transport,
            source,
            sink,
            ground,
            connector: self.clone(),
            relay: relay.clone(),
            address,
        }
    }

    /// Waits until QUIC gets through to where a link runs over TCP.
    async fn better(&self, relay: &RelayAddress, address: SocketAddr) -> Connected {
        loop {
            let retry = self.memory().retry_at(&relay.place);
            sleep_until(retry.unwrap_or_else(Instant::now).into()).await;
            let lane = lane(Transport::Quic, address, self.own.clone(), relay.clone());
            if let Ok((transport, Ok(halves))) = timeout(CONNECT, lane).await {
                self.memory().works(&relay.place);
                return self.connected(transport, halves, (relay, address));
            }
            self.memory().blocked(&relay.place, Instant::now());
        }
    }

    /// A relay has greeted: may it be used?
    fn check(&self, relay: &RelayAddress, hello: &Hello) -> Result<(), Downgrade> {
        let mut offers = self.offers.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = offers.check(relay.key, hello, Instant::now());
        if let Err(downgrade) = checked {
            tracing::warn!(relay = relay.place, "refused a downgrade: {downgrade}");
        }
        checked
    }

    /// Nothing is half-done when a thread panics with it.
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What both transports said, if anything.
fn reasons(said: &[String]) -> String {
    match said {
        [] => "no answer".into(),
        [one] => format!("{one}; no answer over the other transport"),
        both => both.join(", "),
    }
}

async fn lane(
    transport: Transport,
    address: SocketAddr,
    own: Arc<Signer>,
    relay: RelayAddress,
) -> (Transport, Result<Halves, Failure>) {
    let result = match transport {
        Transport::Quic => quic::connect(address, &own, relay.key).await.map(by_quic),
        Transport::Tcp => tcp::connect(address, &own, relay.key).await.map(by_tcp),
    };
    (transport, result)
}

fn by_quic((ground, source, sink): (quic::Ground, QuicSource, QuicSink)) -> Halves {
    let ground = Ground(Some(ground));
    (NetSource::Quic(source), NetSink::Quic(sink), ground)
}

fn by_tcp((source, sink): (TcpSource, TcpSink)) -> Halves {
    (NetSource::Tcp(source), NetSink::Tcp(sink), Ground(None))
}

fn unreachable(relay: &RelayAddress, why: impl ToString) -> ConnectError {
    ConnectError::Unreachable {
        place: relay.place.clone(),
        why: why.to_string(),
    }
}

/// Hears whether anything comes on a link, whichever transport it is on. Cheap to clone.
#[derive(Clone)]
pub struct Ear(Arc<Mutex<Sound>>);

enum Sound {
    Quic(quinn::Connection),
    Tcp(Arc<AtomicU64>),
}

impl Ear {
    fn of(ground: &Ground, source: &NetSource) -> Option<Sound> {
        Some(match (ground, source) {
            (Ground(Some(ground)), _) => Sound::Quic(ground.connection().clone()),
            (_, NetSource::Tcp(source)) => Sound::Tcp(source.heard()),
            _ => return None,
        })
    }

    /// A number that changes when something has come.
    pub fn heard(&self) -> u64 {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Sound::Quic(connection) => connection.stats().udp_rx.datagrams,
            Sound::Tcp(count) => count.load(Ordering::Relaxed),
        }
    }

    fn turn(&self, sound: Option<Sound>) {
        if let Some(sound) = sound {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = sound;
        }
    }
}

/// A connection on which both sides have greeted, and which the node does not have yet.
pub struct Standby {
    greeted: Greeted<NetSource, NetSink>,
    ear: Ear,
    transport: Transport,
    ground: Ground,
    connector: Connector,
    relay: RelayAddress,
    address: SocketAddr,
}

impl Standby {
    /// Where it leads.
    pub fn relay(&self) -> &RelayAddress {
        &self.relay
    }

    /// What the relay has said.
    pub fn hello(&self) -> &Hello {
        self.greeted.hello()
    }

    /// Hears the link, for as long as it runs.
    pub fn ear(&self) -> Ear {
        self.ear.clone()
    }

    /// Waits until the relay ends the link. Dropping the future loses nothing.
    pub async fn ended(&mut self) {
        self.greeted.ended().await;
    }

    /// Ends it.
    pub async fn close(self) {
        self.ground.close().await;
    }

    /// Hands the link to the node, and runs it until either side ends it. Over TCP, it moves to QUIC
    /// when that gets through: a new link takes the place of the old one, and the node goes on with
    /// what is not acknowledged and behind its cursors.
    ///
    /// # Errors
    /// [`Stopped`] when there is no node any more.
    pub async fn run(mut self, handle: &Handle, role: Role) -> Result<(), Stopped> {
        loop {
            let may_move =
                self.transport == Transport::Tcp && self.hello().features & Hello::QUIC != 0;
            let who = (role.clone(), self.relay.place.clone());
            let link = self.greeted.run(handle, who);
            let better = async {
                match may_move {
                    true => upgrade(&self.connector, (&self.relay, self.address), handle).await,
                    false => std::future::pending().await,
                }
            };
            let better = tokio::select! {
                ended = link => {
                    self.ground.close().await;
                    return ended;
                }
                better = better => better,
            };
            tracing::info!(relay = self.relay.place, "UDP gets through: moved to QUIC");
            let sound = Ear::of(&better.ground, &better.greeted.source);
            self.ear.turn(sound);
            self = Self {
                ear: self.ear,
                ..better
            };
        }
    }
}

/// Waits until QUIC gets through, and the relay has greeted there.
async fn upgrade(
    connector: &Connector,
    (relay, address): (&RelayAddress, SocketAddr),
    handle: &Handle,
) -> Standby {
    loop {
        let better = connector.better(relay, address).await;
        if let Ok(Ok(standby)) = timeout(CONNECT, better.greet(handle.hello())).await {
            return standby;
        }
        connector.memory().blocked(&relay.place, Instant::now());
    }
}

impl Connected {
    /// Says HELLO, and waits for the relay's.
    ///
    /// # Errors
    /// When the relay ends the link, begins it with something else, or offers less than before.
    pub async fn greet(self, own: Hello) -> io::Result<Standby> {
        let sound = Ear::of(&self.ground, &self.source);
        let sound = sound.ok_or_else(|| io::Error::other("the link has no ground"))?;
        let greeted = Greeted::greet(self.source, self.sink, own).await?;
        if let Err(downgrade) = self.connector.check(&self.relay, greeted.hello()) {
            greeted.refuse(downgrade.to_string()).await;
            return Err(io::Error::other(downgrade));
        }
        Ok(Standby {
            greeted,
            ear: Ear(Arc::new(Mutex::new(sound))),
            transport: self.transport,
            ground: self.ground,
            connector: self.connector,
            relay: self.relay,
            address: self.address,
        })
    }

    /// Where it leads.
    pub fn relay(&self) -> &RelayAddress {
        &self.relay
    }
}
