//! The way in: one port number for QUIC and for TLS over TCP, and a link for each peer that has shown
//! its key there.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use proto::Signer;
use quinn::{Endpoint, Incoming, VarInt};
use relay_core::Role;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::{quic, tcp};
use crate::driver::Handle;
use crate::tls;

/// How long a connection may take to come up.
const CONNECT: Duration = Duration::from_secs(5);
/// Half-open connections above which a client has to show that its address is its own.
const RETRY_ABOVE: usize = 64;
/// How often a number is looked for that is free for both transports.
const PORTS_TRIED: usize = 16;
/// A pause when the system has no descriptor for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Both sockets of a relay, with one port number.
pub struct Listener {
    quic: Endpoint,
    tcp: TcpListener,
    tls: TlsAcceptor,
}

impl Listener {
    /// Binds both. Port 0 becomes a number that is free for both.
    ///
    /// # Errors
    /// When the address is in use or not ours.
    pub fn bind(address: SocketAddr, own: &Signer) -> io::Result<Self> {
        let config = tls::server_config(own).map_err(io::Error::other)?;
        let tls = TlsAcceptor::from(std::sync::Arc::new(config));
        let mut left = if address.port() == 0 { PORTS_TRIED } else { 1 };
        loop {
            left -= 1;
            let tcp = tcp::listen(address)?;
            match quic::listen(tcp.local_addr()?, own) {
                Ok(quic) => return Ok(Self { quic, tcp, tls }),
                Err(error) if left == 0 => return Err(error),
                Err(_) => {}
            }
        }
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
    pub async fn accept(self, handle: Handle, connections: usize) {
        let Self { quic, tcp, tls } = self;
        loop {
            tokio::select! {
                incoming = quic.accept() => match incoming {
                    None => return,
                    Some(incoming) if quic.open_connections() > connections => incoming.refuse(),
                    Some(incoming) if quic.open_connections() > RETRY_ABOVE && incoming.may_retry() => {
                        let _ = incoming.retry();
                    }
                    Some(incoming) => drop(tokio::spawn(serve_quic(incoming, handle.clone()))),
                },
                accepted = tcp.accept() => match accepted {
                    Ok((stream, remote)) => {
                        tokio::spawn(serve_tcp(stream, remote, (tls.clone(), handle.clone())));
                    }
                    Err(error) => {
                        tracing::warn!("cannot accept over TCP: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }
}

async fn serve_quic(incoming: Incoming, handle: Handle) {
    let remote = incoming.remote_address();
    let Ok(Ok(connection)) = timeout(CONNECT, async { incoming.await }).await else {
        tracing::debug!(%remote, "a handshake failed");
        return;
    };
    let Ok(Ok((sink, source))) = timeout(CONNECT, connection.accept_bi()).await else {
        return;
    };
    let key = quic::peer_key(&connection).map(|key| key.to_hex());
    tracing::debug!(%remote, key, "link up over QUIC");
    let (source, sink) = quic::halves(source, sink);
    let peer = (Role::Downstream, remote.to_string());
    let _ = super::run(&handle, peer, source, sink).await;
    connection.close(VarInt::from_u32(0), b"");
}

async fn serve_tcp(stream: TcpStream, remote: SocketAddr, (tls, handle): (TlsAcceptor, Handle)) {
    let Ok(Ok(stream)) = timeout(CONNECT, tcp::accept(stream, &tls)).await else {
        tracing::debug!(%remote, "a handshake failed");
        return;
    };
    let key = tcp::peer_key(&stream).map(|key| key.to_hex());
    tracing::debug!(%remote, key, "link up over TCP");
    let (source, sink) = tcp::halves(stream, tcp::PULSE);
    let peer = (Role::Downstream, remote.to_string());
    let _ = super::run(&handle, peer, source, sink).await;
}
