//! The floor: copies what a publisher sends to every reader, over the same transport with the same
//! settings as the relay. It checks nothing, keeps nothing, and knows nothing of names.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use bytes::{Bytes, BytesMut};
use proto::{Cursor, Frame, FrameDecoder};
use relay::link::settings::Settings;
use relay::link::{quic, tcp};
use relay::tls;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;

use crate::link::Transport;

/// Pieces that may wait for one reader; then the publisher waits, too.
const WAITING: usize = 64;
/// What QUIC hands over in one packet each is passed on together, up to so many.
const PACKETS: usize = 64;
/// Bytes read at once.
const READ: usize = 64 * 1024;

/// What was read at once, shared by all readers.
type Piece = Arc<[Bytes]>;
type Readers = Arc<Mutex<Vec<mpsc::Sender<Piece>>>>;

/// Serves until it is killed.
pub async fn run(transport: Transport) -> Result<()> {
    let own = tls::random_signer()?;
    let readers = Readers::default();
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    match transport {
        Transport::Quic => {
            let endpoint = quic::listen(any, &own, &Settings::default())?;
            ready(endpoint.local_addr()?, &own);
            while let Some(incoming) = endpoint.accept().await {
                tokio::spawn(serve_quic(incoming, readers.clone()));
            }
        }
        Transport::Tls => {
            let listener = tcp::listen(any)?;
            ready(listener.local_addr()?, &own);
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls::server_config(&own)?));
            loop {
                let (stream, _) = listener.accept().await?;
                let (acceptor, readers) = (acceptor.clone(), readers.clone());
                tokio::spawn(async move {
                    let stream = tcp::accept(stream, &acceptor).await?;
                    serve_tls(stream, readers).await
                });
            }
        }
    }
    Ok(())
}

fn ready(address: std::net::SocketAddr, own: &proto::Signer) {
    println!("relay {address}#{}\nready", own.public_key().to_hex());
}

/// The first frame says what a client is: who subscribes is a reader.
fn is_reader(first: &[u8]) -> bool {
    let mut decoder = FrameDecoder::default();
    decoder.push(first);
    matches!(decoder.next_frame(), Ok(Some(Frame::Subscribe { .. })))
}

fn welcome() -> Result<Bytes> {
    let frame = Frame::CaughtUp {
        id: 1,
        cursor: Cursor::new(Bytes::new()).context("an empty cursor")?,
        live: true,
    };
    Ok(frame.to_bytes())
}

fn join(readers: &Readers) -> mpsc::Receiver<Piece> {
    let (sender, queue) = mpsc::channel(WAITING);
    readers.lock().expect("nobody panics with it").push(sender);
    queue
}

async fn copy(readers: &[mpsc::Sender<Piece>], piece: &Piece) {
    for reader in readers {
        // A reader that has gone misses nothing that anybody counts.
        reader.send(piece.clone()).await.ok();
    }
}

fn now_there(readers: &Readers) -> Vec<mpsc::Sender<Piece>> {
    readers.lock().expect("nobody panics with it").clone()
}

async fn serve_quic(incoming: quinn::Incoming, readers: Readers) -> Result<()> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let Some(first) = receive.read_chunk(READ, true).await? else {
        return Ok(());
    };
    if is_reader(&first.bytes) {
        let mut queue = join(&readers);
        send.write_all(&welcome()?).await?;
        let mut pieces = Vec::with_capacity(WAITING);
        while queue.recv_many(&mut pieces, WAITING).await > 0 {
            let mut packets: Vec<Bytes> =
                pieces.drain(..).flat_map(|piece| piece.to_vec()).collect();
            send.write_all_chunks(&mut packets).await?;
        }
        return Ok(());
    }
    let there = now_there(&readers);
    copy(&there, &Piece::from([first.bytes])).await;
    let mut packets = vec![Bytes::new(); PACKETS];
    while let Some(count) = receive.read_chunks(&mut packets).await? {
        copy(&there, &Piece::from(&packets[..count])).await;
    }
    Ok(())
}

async fn serve_tls(
    stream: tokio_rustls::TlsStream<tokio::net::TcpStream>,
    readers: Readers,
) -> Result<()> {
    let (mut receive, mut send) = tokio::io::split(stream);
    let mut buffer = BytesMut::with_capacity(READ);
    receive.read_buf(&mut buffer).await?;
    if is_reader(&buffer) {
        let mut queue = join(&readers);
        send.write_all(&welcome()?).await?;
        send.flush().await?;
        let mut pieces = Vec::with_capacity(WAITING);
        let mut whole = Vec::new();
        while queue.recv_many(&mut pieces, WAITING).await > 0 {
            whole.clear();
            pieces
                .drain(..)
                .for_each(|piece| whole.extend_from_slice(&piece[0]));
            send.write_all(&whole).await?;
            send.flush().await?;
        }
        return Ok(());
    }
    let there = now_there(&readers);
    loop {
        copy(&there, &Piece::from([buffer.split().freeze()])).await;
        buffer.reserve(READ);
        if receive.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}
