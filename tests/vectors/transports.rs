//! What docs/protocol.md demands of links on real connections: both transports, and peers of a later
//! version, whose HELLOs are written by hand.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use proto::{Frame, FrameDecoder, Hello, Name, Signer, Tier};
use relay::address::RelayAddress;
use relay::client::{Client, ClientError};
use relay::driver;
use relay::link::connect::{Connector, Standby};
use relay::link::listen::Listener;
use relay::link::settings::Settings;
use relay::link::{Sink, Source, quic, tcp};
use relay_core::store::{MemoryStore, StoreId};
use relay_core::{Config, Limits, Node};

const HERE: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), what)
        .await
        .expect("it takes too long")
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}

fn hello(oldest: u16, newest: u16, features: u64) -> Hello {
    Hello {
        oldest,
        newest,
        features,
        tier: Tier::Cloud,
        time: driver::now(),
        store: [3; 16],
    }
}

/// A HELLO of version 2, which has learnt to say more.
fn longer(oldest: u16, features: u64) -> Bytes {
    let mut bytes = Frame::Hello(hello(oldest, 2, features)).to_bytes().to_vec();
    bytes.extend_from_slice(b"of version 2");
    let length = (bytes.len() - 5) as u32;
    bytes[1..5].copy_from_slice(&length.to_be_bytes());
    bytes.into()
}

/// A relay of ours, with a node.
fn relay() -> (RelayAddress, SocketAddr) {
    let own = Signer::from_seed(&[8; 32]);
    let config = Config {
        tier: Tier::Origin,
        origins: Vec::new(),
        limits: Limits::default(),
    };
    let node = Node::new(config, MemoryStore::new(StoreId([1; 16])), driver::now()).unwrap();
    let (handle, _thread) = driver::start(node, (Tier::Origin, String::new())).unwrap();
    let listener = Listener::bind(HERE.into(), &own, Settings::default()).unwrap();
    let place = listener.local_addr().unwrap();
    tokio::spawn(listener.accept(handle));
    let key = own.public_key();
    let address = RelayAddress {
        place: place.to_string(),
        key,
    };
    (address, place)
}

async fn next(source: &mut impl Source, decoder: &mut FrameDecoder) -> Option<Frame> {
    loop {
        if let Some(frame) = decoder.next_frame().unwrap() {
            return Some(frame);
        }
        if !soon(source.read(decoder)).await.unwrap_or(false) {
            return None;
        }
    }
}

/// Says a HELLO and asks for a chunk, as a client of a later version would.
async fn visit(mut source: impl Source, mut sink: impl Sink, hello: Bytes) -> Vec<Frame> {
    let (id, names) = (1, vec![Name(1)]);
    let ask = Frame::Fetch { id, names }.to_bytes();
    soon(sink.write(&mut [hello, ask])).await.unwrap();
    let (mut decoder, mut heard) = (FrameDecoder::default(), Vec::new());
    while let Some(frame) = next(&mut source, &mut decoder).await {
        let last = matches!(frame, Frame::CaughtUp { .. } | Frame::Close { .. });
        heard.push(frame);
        if last {
            break;
        }
    }
    heard
}

/// P-LINK-4: one port number, both transports, the same keys and frames. P-HELLO-2, P-HELLO-3: a client
/// of the next version is served in this one; a client that has left this one behind is told so.
#[test]
fn a_client_of_the_next_version_is_served_over_both_transports() {
    run(async {
        let (address, place) = relay();
        let own = Signer::from_seed(&[9; 32]);
        for (oldest, served) in [(1, true), (2, false)] {
            let up = soon(quic::connect(place, &own, address.key)).await;
            let (_ground, source, sink) = up.unwrap();
            let by_quic = visit(source, sink, longer(oldest, Hello::TRANSPORTS)).await;
            let (source, sink) = soon(tcp::connect(place, &own, address.key)).await.unwrap();
            let by_tcp = visit(source, sink, longer(oldest, Hello::TRANSPORTS)).await;
            for heard in [by_quic, by_tcp] {
                let Some(Frame::Hello(hello)) = heard.first() else {
                    panic!("{heard:?}")
                };
                assert_eq!(hello.version_in_force(), Some(1));
                // P-HELLO-4: both transports are offered.
                assert_eq!(hello.features, Hello::FEATURES);
                let fetched = matches!(heard.last(), Some(Frame::CaughtUp { .. }));
                assert_eq!(fetched, served, "{heard:?}");
            }
        }
    });
}

/// A relay of a later version: greets each link with the next of these, answers fetches with nothing,
/// and tells what it hears last.
fn later(greetings: Vec<Bytes>) -> (RelayAddress, tokio::sync::mpsc::Receiver<Frame>) {
    let own = Signer::from_seed(&[7; 32]);
    let endpoint = quic::listen(HERE.into(), &own, &Settings::default()).unwrap();
    let address = RelayAddress {
        place: endpoint.local_addr().unwrap().to_string(),
        key: own.public_key(),
    };
    let (tell, heard) = tokio::sync::mpsc::channel(64);
    tokio::spawn(async move {
        for greeting in greetings {
            let connection = endpoint.accept().await.unwrap().await.unwrap();
            let (sink, source) = connection.accept_bi().await.unwrap();
            let (mut source, mut sink) = quic::halves(source, sink);
            sink.write(&mut [greeting]).await.unwrap();
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut decoder = FrameDecoder::default();
                while let Some(frame) = next(&mut source, &mut decoder).await {
                    if let Frame::Fetch { id, .. } = frame {
                        let cursor = proto::Cursor::new(vec![]).unwrap();
                        let live = true;
                        let caught_up = Frame::CaughtUp { id, cursor, live };
                        let _ = sink.write(&mut [caught_up.to_bytes()]).await;
                    }
                    let _ = tell.send(frame).await;
                }
                drop(connection);
            });
        }
        std::future::pending::<()>().await;
    });
    (address, heard)
}

/// P-HELLO-2, P-HELLO-3, the other way round.
#[test]
fn a_relay_of_the_next_version_is_used_in_this_one_or_not_at_all() {
    run(async {
        let (address, _heard) = later(vec![
            longer(1, Hello::TRANSPORTS),
            longer(2, Hello::TRANSPORTS),
        ]);
        let own = Signer::from_seed(&[9; 32]);
        let mut client = soon(Client::connect(&address, &own)).await.unwrap();
        assert_eq!(client.hello().version_in_force(), Some(1));
        assert_eq!(soon(client.fetch(&[Name(1)])).await.unwrap(), []);
        let refused = soon(Client::connect(&address, &own)).await.map(drop);
        let Err(ClientError::Closed { reason, .. }) = refused else {
            panic!("it was used")
        };
        assert!(reason.contains("no version"), "{reason}");
    });
}

async fn greet(connector: &Connector, address: &RelayAddress) -> std::io::Result<Standby> {
    let up = soon(connector.connect(address)).await.unwrap();
    soon(up.greet(hello(1, 1, Hello::TRANSPORTS))).await
}

/// P-VER-1: a relay that offered more before is refused and told why; who remembers nothing uses it.
#[test]
fn a_relay_that_suddenly_offers_less_is_refused() {
    run(async {
        let older = Frame::Hello(hello(1, 1, Hello::TRANSPORTS)).to_bytes();
        let greetings = vec![
            longer(1, Hello::TRANSPORTS),
            older.clone(),
            longer(1, Hello::TCP),
            longer(1, Hello::TRANSPORTS),
            older,
        ];
        let (address, mut heard) = later(greetings);
        let connector = Connector::new(Signer::from_seed(&[9; 32]));
        drop(greet(&connector, &address).await.unwrap());
        for words in ["version 1 and offered 2", "fewer transports"] {
            let error = greet(&connector, &address).await.map(drop).unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
        drop(greet(&connector, &address).await.unwrap());
        let newcomer = Connector::new(Signer::from_seed(&[9; 32]));
        drop(greet(&newcomer, &address).await.unwrap());
        let mut told = 0;
        while told < 2 {
            if let Frame::Close { reason } = soon(heard.recv()).await.unwrap() {
                assert!(reason.contains("before"), "{reason}");
                told += 1;
            }
        }
    });
}

/// P-LINK-5: over TCP a silent link is kept by KEEP-ALIVE alone, and a peer that says nothing is let go.
#[test]
fn over_tcp_silence_is_broken_and_a_mute_peer_is_let_go() {
    run(async {
        let (address, place) = relay();
        let own = Signer::from_seed(&[9; 32]);
        let (mut source, mut sink) = soon(tcp::connect(place, &own, address.key)).await.unwrap();
        let said = [Frame::Hello(hello(1, 1, Hello::TRANSPORTS)).to_bytes()];
        sink.write(&mut said.clone()).await.unwrap();
        let mut decoder = FrameDecoder::default();
        let idle = async {
            loop {
                assert!(source.read(&mut decoder).await.unwrap());
                while let Some(frame) = decoder.next_frame().unwrap() {
                    let greeting = matches!(frame, Frame::Hello(_) | Frame::Reach { .. });
                    assert!(greeting, "{frame:?}");
                }
            }
        };
        // Longer than a peer may be silent.
        let idle = tokio::time::timeout(quic::IDLE * 3 / 2, idle).await;
        assert!(idle.is_err(), "the link ended");
        // Without its keeper a peer is mute.
        sink.mute();
        while soon(source.read(&mut decoder)).await.unwrap_or(false) {}
    });
}
