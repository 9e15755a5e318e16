//! Links over QUIC: one connection with one bidirectional stream each. Every window is bounded, there
//! is no 0-RTT, and the peer's key is known before the first byte (`crate::tls`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::{FrameDecoder, PublicKey, Signer};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, Incoming, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
};
use relay_core::Role;
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::time::timeout;

use super::{Sink, Source};
use crate::address::RelayAddress;
use crate::driver::{Handle, Stopped};
use crate::tls;

/// Bytes in flight to us on a link, at most.
const RECEIVE_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Bytes that wait for a peer's acknowledgement, at most.
const SEND_WINDOW_BYTES: u64 = 4 * 1024 * 1024;
/// Silence after which a peer counts as gone.
const IDLE: Duration = Duration::from_secs(5);
/// How often a client breaks the silence.
const KEEP_ALIVE: Duration = Duration::from_millis(1500);
/// How long a connection may take to come up, on either side.
const CONNECT: Duration = Duration::from_secs(5);
/// The first and the longest pause between two attempts to connect.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Bytes of the connection ids that we give.
const CONNECTION_ID_BYTES: usize = 8;
/// Half-open connections above which a client has to show that its address is its own.
const RETRY_ABOVE: usize = 64;

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

/// A listening socket.
///
/// # Errors
/// When the address is in use or not ours.
pub fn listen(address: SocketAddr, own: &Signer) -> io::Result<Endpoint> {
    let tls = tls::server_config(own).map_err(io::Error::other)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(transport(None));
    let mut endpoint = EndpointConfig::new(Arc::new(ResetKey::of(own)));
    endpoint.cid_generator(|| Box::new(RandomIds));
    let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("no async runtime"))?;
    Endpoint::new(endpoint, Some(config), UdpSocket::bind(address)?, runtime)
}

/// What a relay resets connections with that it does not know any more (RFC 9000, section 10.3). It
/// is the same after a restart, so that clients see at their next packet that they have to connect
/// again, and need not wait for the silence to be long enough.
struct ResetKey([u8; 32]);

impl ResetKey {
    fn of(own: &Signer) -> Self {
        let hash = Sha256::new()
            .chain_update(b"treeline reset key")
            .chain_update(own.seed());
        Self(hash.finalize().into())
    }

    fn mac(&self, data: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.chain_update(data)
    }
}

/// Random connection ids. Those of quinn's default carry a check that a restarted relay would fail.
struct RandomIds;

impl ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let mut id = [0; CONNECTION_ID_BYTES];
        getrandom::fill(&mut id).expect("a system that has started a relay has randomness");
        ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        CONNECTION_ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], out: &mut [u8]) {
        out.copy_from_slice(&self.mac(data).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(data)
            .verify_slice(signature)
            .map_err(|_| CryptoError)
    }
}

/// Accepts links for a node until the endpoint is closed.
pub async fn accept(endpoint: Endpoint, handle: Handle, connections: usize) {
    while let Some(incoming) = endpoint.accept().await {
        if endpoint.open_connections() > connections {
            incoming.refuse();
        } else if endpoint.open_connections() > RETRY_ABOVE && incoming.may_retry() {
            let _ = incoming.retry();
        } else {
            tokio::spawn(serve(incoming, handle.clone()));
        }
    }
}

async fn serve(incoming: Incoming, handle: Handle) {
    let remote = incoming.remote_address();
    let Ok(Ok(connection)) = timeout(CONNECT, async { incoming.await }).await else {
        tracing::debug!(%remote, "a handshake failed");
        return;
    };
    let Ok(Ok((sink, source))) = timeout(CONNECT, connection.accept_bi()).await else {
        return;
    };
    let key = peer_key(&connection).map(|key| key.to_hex());
    tracing::debug!(%remote, key, "link up");
    let (source, sink) = halves(source, sink);
    let _ = super::run(
        &handle,
        (Role::Downstream, remote.to_string()),
        source,
        sink,
    )
    .await;
    connection.close(VarInt::from_u32(0), b"");
}

/// Keeps one of these relays connected as the node's parent, the first that answers, for ever. The
/// pause between two rounds grows.
///
/// # Errors
/// [`Stopped`] when there is no node any more.
pub async fn keep_parent(
    handle: &Handle,
    relays: &[RelayAddress],
    own: &Signer,
) -> Result<(), Stopped> {
    let mut pause = PAUSES.0;
    loop {
        for relay in relays {
            match connect(relay, own).await {
                Ok(connected) => {
                    let Connected {
                        endpoint,
                        connection,
                        source,
                        sink,
                    } = connected;
                    let role = Role::Upstream {
                        relay: relay.place.clone(),
                    };
                    let began = Instant::now();
                    let place = relay.place.clone();
                    super::run(handle, (role, place), source, sink).await?;
                    // A parent that ends each link at once is not asked ten times a second.
                    if began.elapsed() > PAUSES.1 {
                        pause = PAUSES.0;
                    }
                    connection.close(VarInt::from_u32(0), b"");
                    endpoint.wait_idle().await;
                    tracing::info!(relay = relay.place, "the link to the parent is gone");
                    break;
                }
                Err(error) => tracing::info!("{error}"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
}

/// A connection from our side, with its one stream.
pub struct Connected {
    /// The socket it uses.
    pub endpoint: Endpoint,
    /// The connection.
    pub connection: Connection,
    /// What the relay sends.
    pub source: QuicSource,
    /// What we send.
    pub sink: QuicSink,
}

/// Connects to a relay, which has to show its key.
///
/// # Errors
/// [`ConnectError`].
pub async fn connect(relay: &RelayAddress, own: &Signer) -> Result<Connected, ConnectError> {
    match timeout(CONNECT, attempt(relay, own)).await {
        Ok(result) => result,
        Err(_) => Err(unreachable(relay, "no answer")),
    }
}

async fn attempt(relay: &RelayAddress, own: &Signer) -> Result<Connected, ConnectError> {
    let found = tokio::net::lookup_host(&relay.place).await;
    let mut places = found.map_err(|error| unreachable(relay, error))?;
    let place = places
        .next()
        .ok_or_else(|| unreachable(relay, "the name has no address"))?;
    let from: SocketAddr = if place.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let tls = tls::client_config(own, relay.key).map_err(|error| unreachable(relay, error))?;
    let crypto = QuicClientConfig::try_from(tls).map_err(|error| unreachable(relay, error))?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(transport(Some(KEEP_ALIVE)));
    let endpoint = Endpoint::client(from).map_err(|error| unreachable(relay, error))?;
    // The name is not looked at: the key is.
    let connecting = endpoint
        .connect_with(config, place, "treeline")
        .map_err(|error| unreachable(relay, error))?;
    let connection = connecting.await.map_err(|error| failed(relay, &error))?;
    let (sink, source) = connection
        .open_bi()
        .await
        .map_err(|error| failed(relay, &error))?;
    let (source, sink) = halves(source, sink);
    Ok(Connected {
        endpoint,
        connection,
        source,
        sink,
    })
}

fn unreachable(relay: &RelayAddress, why: impl ToString) -> ConnectError {
    ConnectError::Unreachable {
        place: relay.place.clone(),
        why: why.to_string(),
    }
}

/// TLS alerts come as codes 0x100 to 0x1ff; ours for a key that is not the pinned one is
/// "certificate unknown" or a neighbour of it (42 to 49).
fn failed(relay: &RelayAddress, error: &quinn::ConnectionError) -> ConnectError {
    if let quinn::ConnectionError::TransportError(error) = error
        && (0x100 + 42..=0x100 + 49).contains(&u64::from(error.code))
    {
        return ConnectError::WrongKey(relay.place.clone());
    }
    unreachable(relay, error)
}

fn transport(keep_alive: Option<Duration>) -> Arc<TransportConfig> {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(IDLE).ok())
        .keep_alive_interval(keep_alive);
    Arc::new(config)
}

/// The key that the peer of a connection has shown.
pub fn peer_key(connection: &Connection) -> Option<PublicKey> {
    let identity = connection.peer_identity()?;
    let keys = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    tls::key_of(keys.first()?)
}

/// The reading half of a stream.
pub struct QuicSource(RecvStream);

/// The writing half of a stream.
pub struct QuicSink(SendStream);

fn halves(source: RecvStream, sink: SendStream) -> (QuicSource, QuicSink) {
    (QuicSource(source), QuicSink(sink))
}

/// Bytes taken from a stream at once, at most.
const READ_BYTES: usize = 64 * 1024;

impl Source for QuicSource {
    async fn read(&mut self, into: &mut FrameDecoder) -> io::Result<bool> {
        let chunk = self
            .0
            .read_chunk(READ_BYTES, true)
            .await
            .map_err(io::Error::other)?;
        if let Some(chunk) = &chunk {
            into.push(&chunk.bytes);
        }
        Ok(chunk.is_some())
    }
}

impl Sink for QuicSink {
    async fn write(&mut self, frames: &mut [Bytes]) -> io::Result<()> {
        self.0
            .write_all_chunks(frames)
            .await
            .map_err(io::Error::other)
    }

    async fn finish(&mut self) {
        if self.0.finish().is_ok() {
            let _ = self.0.stopped().await;
        }
    }
}
