//! The choice of the transport: TCP where UDP is lost, and back to QUIC when it is not.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::{Chunk, Order, Outcome, Start, Tier};
use relay::client::{Client, Said};
use relay::driver::{self, now};
use relay::link::choice::Transport;
use relay::link::connect::Connector;
use relay::link::listen::Listener;
use relay::link::settings::Settings;
use relay_core::store::{MemoryStore, StoreId};
use relay_core::{Limits, Node, Role};

use crate::network::{HERE, Network};
use crate::{Origin, run, soon, until};

fn connector() -> Connector {
    let own = relay::tls::random_signer().unwrap();
    Connector::with_udp_retry(own, Duration::from_millis(50))
}

#[test]
fn quic_is_chosen_where_udp_works_and_tcp_where_it_is_lost() {
    run(async {
        let origin = Origin::start(Settings::default()).await;
        let network = Network::before(origin.socket()).await;
        let connector = connector();
        // On a busy machine TCP may be up first for once.
        let by_quic = async {
            while connector.connect(origin.address()).await.unwrap().transport != Transport::Quic {}
        };
        soon(by_quic).await;
        let around = soon(connector.connect(&origin.at(network.place)))
            .await
            .unwrap();
        assert_eq!(around.transport, Transport::Tcp);
        let mut client = soon(Client::greet(around)).await.unwrap();
        let grant = std::slice::from_ref(&origin.registration.grant);
        client.grant(grant).await.unwrap();
        let chunks = origin.chunks(0..300);
        let outcomes = soon(client.publish_and_wait(&chunks, Tier::Origin)).await;
        let stored = Outcome::Stored(Tier::Origin);
        assert!(outcomes.unwrap().values().all(|outcome| *outcome == stored));
        let mut read = Vec::new();
        soon(client.read(origin.prefix(), |chunk| read.push(chunk)))
            .await
            .unwrap();
        read.sort_by_key(Chunk::name);
        assert_eq!(read, chunks);
        soon(client.close()).await;
        until(|| network.tcp_links() == 0).await;
    });
}

/// A node of its own below the origin: who connects there publishes through the link under test.
async fn below(origin: &Origin) -> (driver::Handle, Client) {
    let config = relay_core::Config {
        tier: Tier::Local,
        origins: origin.relay.origins().to_vec(),
        limits: Limits::default(),
    };
    let node = Node::new(config, MemoryStore::new(StoreId([9; 16])), now()).unwrap();
    let (handle, _thread) = driver::start(node, (Tier::Local, String::new())).unwrap();
    let own = relay::tls::random_signer().unwrap();
    let listener = Listener::bind(HERE.into(), &own, Settings::default()).unwrap();
    let mut address = origin.at(listener.local_addr().unwrap());
    address.key = own.public_key();
    tokio::spawn(listener.accept(handle.clone()));
    let mut client = soon(Client::connect(&address, &own)).await.unwrap();
    let grant = std::slice::from_ref(&origin.registration.grant);
    client.grant(grant).await.unwrap();
    (handle, client)
}

#[test]
fn a_link_moves_back_to_quic_and_every_chunk_arrives_once() {
    run(async {
        let origin = Origin::start(Settings::default()).await;
        let network = Network::before(origin.socket()).await;
        let (handle, mut publisher) = below(&origin).await;
        let mut reader = origin.client().await;
        reader
            .subscribe(origin.prefix(), Start::All, Order::OldestFirst)
            .await
            .unwrap();
        let way = soon(connector().connect(&origin.at(network.place)))
            .await
            .unwrap();
        assert_eq!(way.transport, Transport::Tcp);
        let role = Role::Upstream {
            relay: network.place.to_string(),
            key: way.relay().key,
        };
        let way = soon(way.greet(handle.hello())).await.unwrap();
        let up = tokio::spawn(async move { way.run(&handle, role).await });
        let before = origin.chunks(0..200);
        soon(publisher.publish_and_wait(&before, Tier::Origin))
            .await
            .unwrap();
        assert_eq!(network.tcp_links(), 1);
        network.set_udp(true);
        // Half of what follows is under way while the link moves.
        let during = origin.chunks(200..600);
        soon(publisher.publish_and_wait(&during, Tier::Origin))
            .await
            .unwrap();
        until(|| network.tcp_links() == 0).await;
        let after = origin.chunks(600..800);
        soon(publisher.publish_and_wait(&after, Tier::Origin))
            .await
            .unwrap();
        let mut seen: BTreeMap<_, usize> = BTreeMap::new();
        while seen.len() < 800 {
            if let Said::Chunks { chunks, .. } = soon(reader.next()).await.unwrap() {
                for chunk in chunks {
                    *seen.entry(chunk.name()).or_default() += 1;
                }
            }
        }
        assert!(seen.values().all(|count| *count == 1));
        up.abort();
    });
}

#[test]
fn a_dead_tcp_link_is_noticed_by_both_sides() {
    run(async {
        let origin = Origin::start(Settings::default()).await;
        let network = Network::before(origin.socket()).await;
        let (handle, _publisher) = below(&origin).await;
        let way = soon(connector().connect(&origin.at(network.place)))
            .await
            .unwrap();
        let role = Role::Upstream {
            relay: network.place.to_string(),
            key: way.relay().key,
        };
        let mut reach = handle.reach();
        let way = soon(way.greet(handle.hello())).await.unwrap();
        let link = tokio::spawn(async move { way.run(&handle, role).await });
        soon(reach.wait_for(|(tier, _)| *tier == Tier::Origin))
            .await
            .unwrap();
        network.lose_tcp();
        soon(reach.wait_for(|(tier, _)| *tier == Tier::Local))
            .await
            .unwrap();
        soon(link).await.unwrap().unwrap();
    });
}
