//! What strangers may use up: handshakes, connections, frames that never end.

use std::time::Duration;

use bytes::Bytes;
use proto::{Frame, FrameDecoder, Hello, Name, Outcome, Tier};
use relay::client::Client;
use relay::link::choice::Transport;
use relay::link::connect::{NetSink, NetSource};
use relay::link::quic::Ground;
use relay::link::settings::Settings;
use relay::link::{Sink, Source, quic, tcp};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::network::Network;
use crate::{Origin, run, soon};

/// How many slow peers there are at once.
const SLOW: usize = 1000;
/// How many honest ones there are at once.
const CROWD: usize = 300;

/// Reads until the relay ends the connection.
async fn ended(mut source: impl Source) {
    let mut decoder = FrameDecoder::default();
    while let Ok(true) = source.read(&mut decoder).await {
        while let Ok(Some(_)) = decoder.next_frame() {}
    }
}

#[test]
fn whoever_does_not_finish_a_handshake_is_let_go_and_makes_room() {
    run(async {
        let settings = Settings {
            handshakes: 4,
            retry_above: 4,
            handshake_ms: 1000,
            ..Settings::default()
        };
        let origin = Origin::start(settings).await;
        let mut mute = Vec::new();
        for _ in 0..12 {
            mute.push(TcpStream::connect(origin.socket()).await.unwrap());
        }
        // All are ended: eleven at once, the address's share after its time.
        for stream in &mut mute {
            let _ = soon(stream.read(&mut [0])).await;
        }
        let mut honest = origin.client().await;
        assert_eq!(soon(honest.fetch(&[Name(1)])).await.unwrap(), []);
    });
}

/// One host opens more than it may of each address, all silent: whoever comes from elsewhere gets in.
#[cfg(target_os = "linux")]
#[test]
fn silent_handshakes_of_one_host_keep_nobody_else_out() {
    run(async {
        let settings = Settings {
            handshakes: 32,
            retry_above: 8,
            handshake_ms: 600_000,
            ..Settings::default()
        };
        let (all, share) = (settings.handshakes, 4);
        assert_eq!(share, settings.handshakes_per_address());
        let origin = Origin::start(settings).await;
        let mut held = silent(&origin, 2, all, share).await;
        drop(origin.client().await);
        // As many addresses as fill all places.
        for address in 3..=9 {
            held.extend(silent(&origin, address, 2 * share, share).await);
        }
        let mut honest = origin.client().await;
        assert_eq!(soon(honest.fetch(&[Name(1)])).await.unwrap(), []);
    });
}

/// So many silent connections of the address 127.0.0.N; returns those, of which there are as many as
/// its share, that are let in.
#[cfg(target_os = "linux")]
async fn silent(origin: &Origin, n: u8, count: usize, share: usize) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..count {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, n], 0).into()).unwrap();
        held.push(soon(socket.connect(origin.socket())).await.unwrap());
    }
    for mut stream in held.split_off(share) {
        let ended = soon(stream.read(&mut [0])).await;
        assert!(matches!(ended, Ok(0) | Err(_)));
    }
    held
}

/// All devices behind one address come back at once, as after a restart of their relay.
#[test]
fn a_crowd_behind_one_address_gets_in() {
    run(async {
        let settings = Settings::default();
        assert!(CROWD > 4 * settings.handshakes_per_address());
        let origin = Origin::start(settings).await;
        let began = std::time::Instant::now();
        let mut crowd = tokio::task::JoinSet::new();
        for _ in 0..CROWD {
            let address = origin.address().clone();
            crowd.spawn(async move {
                let own = relay::tls::random_signer().unwrap();
                loop {
                    if let Ok(client) = Client::connect(&address, &own).await {
                        return client;
                    }
                    // The shortest pause of those who want a relay (`relay::parents`).
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            });
        }
        let clients = soon(crowd.join_all()).await;
        println!("{} came in within {:?}", clients.len(), began.elapsed());
    });
}

#[test]
fn an_address_gets_no_more_connections_than_its_share() {
    run(async {
        let settings = Settings {
            connections_per_address: 2,
            ..Settings::default()
        };
        let origin = Origin::start(settings).await;
        let own = relay::tls::random_signer().unwrap();
        let mut first = origin.client().await;
        let second = origin.client().await;
        assert!(soon(Client::connect(origin.address(), &own)).await.is_err());
        assert_eq!(soon(first.fetch(&[Name(1)])).await.unwrap(), []);
        soon(second.close()).await;
        soon(async { while Client::connect(origin.address(), &own).await.is_err() {} }).await;
    });
}

#[test]
fn under_load_a_quic_client_proves_its_address_first() {
    run(async {
        for (retry_above, retried) in [(0, true), (64, false)] {
            let settings = Settings {
                retry_above,
                ..Settings::default()
            };
            let origin = Origin::start(settings).await;
            let network = Network::before(origin.socket()).await;
            network.set_udp(true);
            let own = relay::tls::random_signer().unwrap();
            let key = origin.address().key;
            let up = soon(quic::connect(network.place, &own, key)).await;
            assert!(up.is_ok());
            // RFC 9000, section 17.2.5: a long header of type 3.
            let first = network.first_bytes_from_relay()[0];
            assert_eq!(first & 0xf0 == 0xf0, retried, "{first:#x}");
        }
    });
}

#[test]
fn a_frame_that_does_not_end_ends_the_link() {
    run(async {
        let settings = Settings {
            frame_ms: 300,
            ..Settings::default()
        };
        let origin = Origin::start(settings).await;
        let mut patient = origin.client().await;
        // One stops in the middle of HELLO, one says nothing, one goes on byte by byte.
        let mut slow = Vec::new();
        for begin in [&[1_u8, 0, 0][..], &[]] {
            for over in [Transport::Quic, Transport::Tcp] {
                let (source, mut sink, ground) = raw(&origin, over).await;
                let mut bytes = [Bytes::copy_from_slice(begin)];
                sink.write(&mut bytes).await.unwrap();
                slow.push((source, (sink, ground)));
            }
        }
        for (source, _held) in slow {
            soon(ended(source)).await;
        }
        let (source, mut sink, _ground) = raw(&origin, Transport::Quic).await;
        let ends = tokio::spawn(ended(source));
        // The head of a HELLO, then its body, a byte now and then.
        let mut bytes = [1, 0, 0, 0, 34].into_iter().chain(std::iter::repeat(0));
        let dripping = async {
            let mut byte = || Bytes::copy_from_slice(&[bytes.next().unwrap_or_default()]);
            while sink.write(&mut [byte()]).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::select! {
            _ = ends => {}
            () = soon(dripping) => {}
        }
        // One who has said everything may be silent for as long as it likes.
        assert_eq!(soon(patient.fetch(&[Name(1)])).await.unwrap(), []);
    });
}

/// A connection on which nothing has been said. Without its ground it ends.
async fn raw(origin: &Origin, over: Transport) -> (NetSource, NetSink, Option<Ground>) {
    let own = relay::tls::random_signer().unwrap();
    match over {
        Transport::Quic => {
            let key = origin.address().key;
            let up = soon(quic::connect(origin.socket(), &own, key)).await;
            let (ground, source, sink) = up.unwrap();
            (NetSource::Quic(source), NetSink::Quic(sink), Some(ground))
        }
        Transport::Tcp => {
            let key = origin.address().key;
            let up = soon(tcp::connect(origin.socket(), &own, key)).await;
            let (source, sink) = up.unwrap();
            (NetSource::Tcp(source), NetSink::Tcp(sink), None)
        }
    }
}

/// The memory of this process, in bytes.
#[cfg(target_os = "linux")]
fn memory() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = text.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[cfg(target_os = "linux")]
#[test]
fn a_thousand_slow_peers_cost_bounded_memory_and_slow_nobody() {
    run(async {
        let origin = Origin::start(Settings::default()).await;
        let mut honest = origin.client().await;
        let grant = std::slice::from_ref(&origin.registration.grant);
        honest.grant(grant).await.unwrap();
        let before = memory();
        let mut slow = Vec::new();
        let hello = Hello {
            oldest: 1,
            newest: 1,
            features: 0,
            tier: Tier::Device,
            time: relay::driver::now(),
            store: [0; 16],
        };
        let begin = [vec![3, 0, 0, 0xff, 0xff], vec![0; 60_000]].concat();
        for number in 0..SLOW {
            let over = [Transport::Quic, Transport::Tcp][number % 2];
            let (source, mut sink, ground) = raw(&origin, over).await;
            let mut said = [Frame::Hello(hello.clone()).to_bytes(), begin.clone().into()];
            soon(sink.write(&mut said)).await.unwrap();
            slow.push((source, sink, ground));
        }
        let chunks = origin.chunks(0..500);
        let outcomes = soon(honest.publish_and_wait(&chunks, Tier::Origin)).await;
        let stored = Outcome::Stored(Tier::Origin);
        assert!(outcomes.unwrap().values().all(|outcome| *outcome == stored));
        let each = (memory() - before) / SLOW;
        println!("{} KB for each, of both sides", each / 1024);
        assert!(each < 512 * 1024, "{each} bytes for each");
        drop(slow);
    });
}
