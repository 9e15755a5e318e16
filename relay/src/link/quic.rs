//! Links over QUIC: one connection with one bidirectional stream each. Every window is bounded, there
//! is no 0-RTT, and the peer's key is known before the first byte (`crate::tls`).

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proto::{FrameDecoder, PublicKey, Signer};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{
    ClientConfig, Connection, ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig,
    IdleTimeout, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt,
};
use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};

use super::connect::Failure;
use super::settings::Settings;
use super::{Sink, Source};
use crate::tls;

/// Bytes in flight to us on the way up, and bytes that wait for an acknowledgement there, at most.
const WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// Silence after which a relay counts as gone.
pub const IDLE: Duration = Duration::from_secs(5);
/// How often the side that connected breaks the silence, so that it notices in time that nobody
/// answers (`crate::parents`). It costs a packet of about 30 bytes each way.
pub const KEEP_ALIVE: Duration = Duration::from_millis(600);
/// Bytes kept of one who waits to be looked at: two first packets.
const INCOMING_BYTES: u64 = 4096;
/// Bytes kept of all of them.
const INCOMING_TOTAL_BYTES: u64 = 1024 * 1024;
/// Bytes of the connection ids that we give.
const CONNECTION_ID_BYTES: usize = 8;

/// A listening socket.
///
/// # Errors
/// When the address is in use or not ours.
pub fn listen(address: SocketAddr, own: &Signer, settings: &Settings) -> io::Result<Endpoint> {
    let mut config = server_config(own, settings, settings.window_bytes)?;
    // What quinn keeps for those who have not been looked at yet.
    config
        .max_incoming(settings.handshakes)
        .incoming_buffer_size(INCOMING_BYTES)
        .incoming_buffer_size_total(INCOMING_TOTAL_BYTES);
    let mut endpoint = EndpointConfig::new(Arc::new(ResetKey::of(own)));
    endpoint.cid_generator(|| Box::new(RandomIds));
    let runtime = quinn::default_runtime().ok_or_else(|| io::Error::other("no async runtime"))?;
    Endpoint::new(endpoint, Some(config), UdpSocket::bind(address)?, runtime)
}

/// How a connection with windows of this size is served.
///
/// # Errors
/// When TLS refuses the key, which it never does.
pub fn server_config(own: &Signer, settings: &Settings, window: u32) -> io::Result<ServerConfig> {
    let tls = tls::server_config(own).map_err(io::Error::other)?;
    let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ServerConfig::with_crypto(Arc::new(crypto));
    config.transport_config(Arc::new(transport(window, settings.idle())));
    Ok(config)
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

/// The side that connects, to a peer who has to show its key: the connection with its one stream.
///
/// # Errors
/// [`Failure`].
pub async fn connect(
    address: SocketAddr,
    own: &Signer,
    expected: PublicKey,
) -> Result<(Ground, QuicSource, QuicSink), Failure> {
    let from: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let tls = tls::client_config(own, expected).map_err(Failure::other)?;
    let crypto = QuicClientConfig::try_from(tls).map_err(Failure::other)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    let mut transport = transport(WINDOW_BYTES, IDLE);
    transport.keep_alive_interval(Some(KEEP_ALIVE));
    config.transport_config(Arc::new(transport));
    let endpoint = Endpoint::client(from).map_err(Failure::other)?;
    // The name is not looked at: the key is.
    let connecting = endpoint
        .connect_with(config, address, "treeline")
        .map_err(Failure::other)?;
    let connection = connecting.await.map_err(|error| failed(&error))?;
    let (sink, source) = connection.open_bi().await.map_err(|error| failed(&error))?;
    let ground = Ground {
        endpoint,
        connection,
    };
    let (source, sink) = halves(source, sink);
    Ok((ground, source, sink))
}

/// What a link stands on: its socket and its connection.
pub struct Ground {
    endpoint: Endpoint,
    connection: Connection,
}

impl Ground {
    /// The connection.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Ends the connection, and waits until the peer knows.
    pub async fn close(self) {
        self.connection.close(VarInt::from_u32(0), b"");
        self.endpoint.wait_idle().await;
    }
}

/// TLS alerts come as codes 0x100 to 0x1ff; ours for a key that is not the pinned one is
/// "certificate unknown" or a neighbour of it (42 to 49).
fn failed(error: &quinn::ConnectionError) -> Failure {
    match error {
        quinn::ConnectionError::TransportError(error)
            if (0x100 + 42..=0x100 + 49).contains(&u64::from(error.code)) =>
        {
            Failure::WrongKey
        }
        error => Failure::other(error),
    }
}

fn transport(window: u32, idle: Duration) -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(window))
        .receive_window(VarInt::from_u32(window))
        .send_window(window.into())
        .datagram_receive_buffer_size(None)
        .max_idle_timeout(IdleTimeout::try_from(idle).ok());
    config
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

/// Both halves of a stream.
pub fn halves(source: RecvStream, sink: SendStream) -> (QuicSource, QuicSink) {
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
