//! The way in: one port number for QUIC and for TLS over TCP, and a link for each peer that has shown
//! its key there.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::{FrameDecoder, Signer};
use quinn::{Endpoint, Incoming, ServerConfig, VarInt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;

use super::admission::{Admission, Place, Verdict};
use super::settings::{LEAST_WINDOW_BYTES, Settings};
use super::{Source, quic, tcp};
use crate::driver::Handle;
use crate::tls;

/// How often a number is looked for that is free for both transports.
const PORTS_TRIED: usize = 16;
/// Descriptors for everything that is no connection: files, sockets, the runtime.
#[cfg(unix)]
const OTHER_DESCRIPTORS: u64 = 128;
/// A pause when the system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both sockets of a relay, with one port number.
pub struct Listener {
    quic: Endpoint,
    tcp: TcpListener,
    door: Arc<Door>,
}

/// What every connection goes through.
struct Door {
    admission: Admission,
    tls: TlsAcceptor,
    /// By window, the largest first, each half of the one before.
    quic: Vec<(u32, Arc<ServerConfig>)>,
}

impl Listener {
    /// Binds both. Port 0 becomes a number that is free for both.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr, own: &Signer, settings: Settings) -> io::Result<Self> {
        let mut left = if address.port() == 0 { PORTS_TRIED } else { 1 };
        let (quic, tcp) = loop {
            left -= 1;
            let tcp = tcp::listen(address)?;
            match quic::listen(tcp.local_addr()?, own, &settings) {
                Ok(quic) => break (quic, tcp),
                Err(error) if left == 0 => return Err(error),
                Err(_) => {}
            }
        };
        allow_descriptors(settings.connections);
        let door = Arc::new(Door::new(own, settings)?);
        Ok(Self { quic, tcp, door })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// What the system says.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.quic.local_addr()
    }

    /// The QUIC half, for its end.
    pub fn endpoint(&self) -> &Endpoint {
        &self.quic
    }

    /// Accepts links for a node until the endpoint is closed.
    pub async fn accept(self, handle: Handle) {
        let Self { quic, tcp, door } = self;
        loop {
            tokio::select! {
                incoming = quic.accept() => match incoming {
                    Some(incoming) => door.quic(incoming, &handle),
                    None => return,
                },
                accepted = tcp.accept() => match accepted {
                    Ok((stream, remote)) => door.tcp(stream, remote, &handle),
                    Err(error) => {
                        tracing::warn!("cannot accept over TCP: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

/// Each connection over TCP is a descriptor. A system that allows too few refuses connections later,
/// which is no reason not to begin.
fn allow_descriptors(connections: usize) {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        let mut limit = getrlimit(Resource::Nofile);
        let wanted = connections as u64 + OTHER_DESCRIPTORS;
        if limit.current.is_some_and(|current| current < wanted) {
            limit.current = Some(limit.maximum.map_or(wanted, |maximum| maximum.min(wanted)));
            if setrlimit(Resource::Nofile, limit).is_err() {
                tracing::warn!("the system allows few open files: fewer connections over TCP");
            }
        }
    }
}

impl Door {
    fn new(own: &Signer, settings: Settings) -> io::Result<Self> {
        let tls = tls::server_config(own).map_err(io::Error::other)?;
        let mut quic = Vec::new();
        let mut window = settings.window_bytes;
        while window >= LEAST_WINDOW_BYTES {
            let config = quic::server_config(own, &settings, window)?;
            quic.push((window, Arc::new(config)));
            window /= 2;
        }
        Ok(Self {
            admission: Admission::new(settings),
            tls: TlsAcceptor::from(Arc::new(tls)),
            quic,
        })
    }

    fn quic(self: &Arc<Self>, incoming: Incoming, handle: &Handle) {
        let remote = incoming.remote_address();
        // Who came back with what Retry gave him cannot be asked again.
        let proven = incoming.remote_address_validated() || !incoming.may_retry();
        match self.admission.ask(remote.ip(), proven) {
            Verdict::Welcome(place) => {
                let (door, handle) = (self.clone(), handle.clone());
                tokio::spawn(async move { door.serve_quic(incoming, place, &handle).await });
            }
            Verdict::Prove => {
                // It fails only for those who have been asked before.
                let _ = incoming.retry();
            }
            Verdict::Refuse => incoming.refuse(),
        }
    }

    /// Over TCP an address is proven by the connection itself.
    fn tcp(self: &Arc<Self>, stream: TcpStream, remote: SocketAddr, handle: &Handle) {
        if let Verdict::Welcome(place) = self.admission.ask(remote.ip(), true) {
            let (door, handle) = (self.clone(), handle.clone());
            tokio::spawn(async move { door.serve_tcp(stream, (remote, place), &handle).await });
        }
    }

    async fn serve_quic(&self, incoming: Incoming, mut place: Place, handle: &Handle) {
        let remote = incoming.remote_address();
        let config = self
            .quic
            .iter()
            .find(|(window, _)| *window <= place.window())
            .or(self.quic.last())
            .map(|(_, config)| config.clone());
        let shake_hands = async {
            let connection = match config {
                Some(config) => incoming.accept_with(config)?.await?,
                None => incoming.await?,
            };
            let (sink, source) = connection.accept_bi().await?;
            Ok::<_, quinn::ConnectionError>((connection, sink, source))
        };
        let shaken = self.in_time(remote, &mut place, shake_hands).await;
        let Some((connection, sink, source)) = shaken else {
            return;
        };
        place.established();
        let key = quic::peer_key(&connection).map(|key| key.to_hex());
        tracing::debug!(%remote, key, "link up over QUIC");
        let (source, sink) = quic::halves(source, sink);
        let peer = (handle.guests(), remote.to_string());
        let _ = super::run(handle, peer, self.patient(source), sink).await;
        connection.close(VarInt::from_u32(0), b"");
    }

    async fn serve_tcp(
        &self,
        stream: TcpStream,
        (remote, mut place): (SocketAddr, Place),
        handle: &Handle,
    ) {
        let accepted = tcp::accept(stream, &self.tls);
        let Some(stream) = self.in_time(remote, &mut place, accepted).await else {
            return;
        };
        place.established();
        let key = tcp::peer_key(&stream).map(|key| key.to_hex());
        tracing::debug!(%remote, key, "link up over TCP");
        let (source, sink) = tcp::halves(stream, self.admission.settings().idle());
        let peer = (handle.guests(), remote.to_string());
        let _ = super::run(handle, peer, self.patient(source), sink).await;
    }

    async fn in_time<T, E>(
        &self,
        remote: SocketAddr,
        place: &mut Place,
        shake_hands: impl Future<Output = Result<T, E>>,
    ) -> Option<T> {
        let limit = self.admission.settings().handshake();
        let done = tokio::select! {
            done = timeout(limit, shake_hands) => done.ok().and_then(Result::ok),
            () = place.lost() => None,
        };
        if done.is_none() {
            tracing::debug!(%remote, "a handshake failed");
        }
        done
    }

    fn patient<S: Source>(&self, source: S) -> Patient<S> {
        let limit = self.admission.settings().frame();
        let due = (0, Instant::now() + limit);
        Patient { source, limit, due }
    }
}

/// A source that gives each frame a limited time, so that nobody can hold a link open with a byte now
/// and then. Only waiting for the peer counts.
struct Patient<S> {
    source: S,
    limit: Duration,
    /// An unfinished frame, and when it has to be complete.
    due: (u64, Instant),
}

impl<S: Source> Source for Patient<S> {
    async fn read(&mut self, into: &mut FrameDecoder) -> io::Result<bool> {
        let Some(frame) = into.unfinished() else {
            return self.source.read(into).await;
        };
        if self.due.0 != frame {
            self.due = (frame, Instant::now() + self.limit);
        }
        timeout_at(self.due.1, self.source.read(into)).await?
    }

    async fn linger(&mut self) {
        self.source.linger().await;
    }
}
