//! Links by TLS 1.3 over TCP, for networks that block UDP: the same keys, the same frames, the same
//! port number as QUIC. TLS here as in `crate::tls`.
//!
//! QUIC tells within seconds that a peer is gone, TCP does not: whoever has nothing to say for a while
//! says KEEP-ALIVE, and who hears nothing for long enough gives up, so both notice equally fast.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use proto::{Frame, FrameDecoder, PublicKey, Signer};
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use super::connect::Failure;
use super::quic::{IDLE, KEEP_ALIVE};
use super::{Sink, Source};
use crate::tls::{self, ALPN};

/// Connections that the system may hold for us until we accept them.
const BACKLOG: u32 = 1024;
/// Bytes read at once, at most: one TLS record.
const READ_BYTES: usize = 16 * 1024;
/// Bytes given to TLS at once: four records.
const WRITE_BYTES: usize = 64 * 1024;

/// A listening socket.
///
/// # Errors
/// When the address is in use or not ours.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // Links of a relay that has just ended may still be closing on this port.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The side that was connected to: the handshake, to its end.
///
/// # Errors
/// When the peer goes away or does not speak as we do.
pub async fn accept(stream: TcpStream, acceptor: &TlsAcceptor) -> io::Result<TlsStream<TcpStream>> {
    stream.set_nodelay(true)?;
    greeted(acceptor.accept(stream).await?.into())
}

/// The side that connects, to a peer who has to show its key.
///
/// # Errors
/// [`Failure`].
pub async fn connect(
    address: SocketAddr,
    own: &Signer,
    expected: PublicKey,
) -> Result<(TcpSource, TcpSink), Failure> {
    let config = tls::client_config(own, expected).map_err(Failure::other)?;
    let name = ServerName::try_from("treeline").map_err(Failure::other)?;
    let stream = TcpStream::connect(address).await.map_err(Failure::other)?;
    stream.set_nodelay(true).map_err(Failure::other)?;
    // The name is not looked at: the key is.
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.map_err(failed)?;
    let stream = greeted(stream.into()).map_err(Failure::other)?;
    Ok(halves(stream, IDLE))
}

fn failed(error: io::Error) -> Failure {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(_)) => Failure::WrongKey,
        _ => Failure::other(error),
    }
}

/// Over TCP, TLS alone would let a peer pass that names no protocol.
fn greeted(stream: TlsStream<TcpStream>) -> io::Result<TlsStream<TcpStream>> {
    if stream.get_ref().1.alpn_protocol() == Some(ALPN) {
        Ok(stream)
    } else {
        Err(io::Error::other("it does not speak treeline/1"))
    }
}

/// The key that the peer of a connection has shown.
pub fn peer_key(stream: &TlsStream<TcpStream>) -> Option<PublicKey> {
    let keys: &[CertificateDer<'_>] = stream.get_ref().1.peer_certificates()?;
    tls::key_of(keys.first()?)
}

/// The reading half.
pub struct TcpSource {
    half: ReadHalf<TlsStream<TcpStream>>,
    buffer: Box<[u8]>,
    idle: Duration,
    heard: Arc<AtomicU64>,
}

impl TcpSource {
    /// Counts what comes.
    pub fn heard(&self) -> Arc<AtomicU64> {
        self.heard.clone()
    }
}

/// The writing half.
pub struct TcpSink {
    writer: Arc<Mutex<Writer>>,
    keeper: JoinHandle<()>,
}

struct Writer {
    half: WriteHalf<TlsStream<TcpStream>>,
    batch: Vec<u8>,
    last: Instant,
}

/// Both halves of a connection; a peer that is silent for so long counts as gone.
pub fn halves(stream: TlsStream<TcpStream>, idle: Duration) -> (TcpSource, TcpSink) {
    let (read, write) = tokio::io::split(stream);
    let writer = Arc::new(Mutex::new(Writer {
        half: write,
        batch: Vec::new(),
        last: Instant::now(),
    }));
    let source = TcpSource {
        half: read,
        buffer: vec![0; READ_BYTES].into(),
        idle,
        heard: Arc::default(),
    };
    let keeper = tokio::spawn(keep_alive(writer.clone(), KEEP_ALIVE));
    (source, TcpSink { writer, keeper })
}

/// Breaks the silence, until the link ends.
async fn keep_alive(writer: Arc<Mutex<Writer>>, every: Duration) {
    let frame = Bytes::from_static(&Frame::KEEP_ALIVE);
    loop {
        let last = writer.lock().await.last;
        tokio::time::sleep_until(last + every).await;
        let mut writer = writer.lock().await;
        if writer.last == last {
            // An idle link holds no memory for its writes.
            writer.batch = Vec::new();
            if writer.write(std::slice::from_ref(&frame)).await.is_err() {
                return;
            }
        }
    }
}

impl Writer {
    /// Small frames share a TLS record: sealing and sending cost by the record.
    async fn write(&mut self, frames: &[Bytes]) -> io::Result<()> {
        for frame in frames {
            if !self.batch.is_empty() && self.batch.len() + frame.len() > WRITE_BYTES {
                self.half.write_all(&self.batch).await?;
                self.batch.clear();
            }
            self.batch.extend_from_slice(frame);
        }
        self.half.write_all(&self.batch).await?;
        self.batch.clear();
        self.half.flush().await?;
        self.last = Instant::now();
        Ok(())
    }
}

impl TcpSink {
    /// Breaks the silence no more: for tests of the other side.
    pub fn mute(&self) {
        self.keeper.abort();
    }
}

impl Drop for TcpSink {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Source for TcpSource {
    async fn read(&mut self, into: &mut FrameDecoder) -> io::Result<bool> {
        let count = timeout(self.idle, self.half.read(&mut self.buffer)).await??;
        self.heard.fetch_add(1, Ordering::Relaxed);
        into.push(&self.buffer[..count]);
        Ok(count > 0)
    }

    /// Closing with unread bytes would reset the connection, and the peer might lose our last words.
    async fn linger(&mut self) {
        while let Ok(1..) = self.half.read(&mut self.buffer).await {}
    }
}

impl Sink for TcpSink {
    async fn write(&mut self, frames: &mut [Bytes]) -> io::Result<()> {
        self.writer.lock().await.write(frames).await
    }

    async fn finish(&mut self) {
        self.keeper.abort();
        let _ = self.writer.lock().await.half.shutdown().await;
    }
}
