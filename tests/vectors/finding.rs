//! What docs/protocol.md demands for finding relays.

use proto::{Frame, FrameDecoder, PublicKey, RelayRecord, Signer, Tier, Timestamp};
use relay::address::Upstream;
use relay::discovery::dns::{Said, Service, ordered};
use relay::discovery::mdns::{Advert, Found, Heard};
use relay::discovery::{Plan, Search, Trust};
use relay::pins::Pin;
use relay_core::store::{MemoryStore, StoreId};
use relay_core::{Config, Effect, Event, Limits, LinkId, Node, Role};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
const DAY: u64 = proto::limits::DAY_MS;

/// P-FIND-1: a client that stands by hears where the relay stands, and may ask for nothing for long.
#[test]
fn a_relay_greets_unasked_and_keeps_a_link_that_asks_for_nothing() {
    let config = Config {
        tier: Tier::Cloud,
        origins: Vec::new(),
        limits: Limits::default(),
    };
    let mut node = Node::new(config, MemoryStore::new(StoreId([1; 16])), NOW).unwrap();
    let (link, role) = (LinkId(1), Role::Downstream);
    node.handle(Event::Connected { link, role }, NOW);
    let mut decoder = FrameDecoder::default();
    let mut greeting = None;
    while let Some(effect) = node.next_effect() {
        if let Effect::Send { bytes, .. } = effect {
            decoder.push(&bytes);
            greeting = greeting.or(decoder.next_frame().unwrap());
        }
    }
    let Some(Frame::Hello(hello)) = greeting else {
        panic!("no HELLO")
    };
    assert_eq!(hello.tier, Tier::Cloud);
    let frame = Frame::Hello(hello);
    node.handle(Event::Received { link, frame }, NOW);
    for day in 1..4 {
        node.handle_timeout(NOW.plus_millis(day * DAY));
        while let Some(effect) = node.next_effect() {
            assert!(!matches!(effect, Effect::Close { .. }));
        }
    }
}

/// P-FIND-2: RFC 2782, with the draw in our hands.
#[test]
fn service_records_are_tried_by_priority_and_weight() {
    let service = |priority, weight, target: &str| Service {
        priority,
        weight,
        port: 4470,
        target: target.into(),
    };
    let all = vec![
        service(20, 0, "c"),
        service(10, 1, "a"),
        service(10, 9, "b"),
        service(1, 0, ""),
    ];
    let names = |draw: fn(u32) -> u32| -> String {
        ordered(all.clone(), draw)
            .into_iter()
            .map(|service| service.target)
            .collect()
    };
    assert_eq!(
        (names(|_| 1), names(|most| most)),
        ("abc".into(), "bac".into())
    );
}

/// P-FIND-3
#[test]
fn txt_records_of_a_domain_have_one_form() {
    let key = PublicKey([7; 32]);
    let relay = format!("treeline1 relay={} host=a.example.org", key.to_hex());
    let host = Some("a.example.org".to_owned());
    assert_eq!(
        Said::decode(relay.as_bytes()),
        Some(Said::Relay { key, host })
    );
    for wrong in [
        relay.replace("1 ", "2 "),
        format!("{relay} x"),
        relay.replace(' ', "  "),
    ] {
        assert_eq!(Said::decode(wrong.as_bytes()), None, "{wrong}");
    }
}

/// P-FIND-4
#[test]
fn a_relay_on_the_local_network_says_four_things() {
    let key = PublicKey([7; 32]);
    let hex = key.to_hex();
    let good = [
        ("v", "1"),
        ("k", &hex),
        ("o", "000001,abcdef"),
        ("t", "cloud"),
    ];
    let decode = |texts: &[(&str, &str)]| {
        Advert::decode(texts.iter().map(|(name, value)| (*name, value.as_bytes())))
    };
    let advert = decode(&good).unwrap();
    assert_eq!(
        (advert.key, advert.tier, advert.origins.len()),
        (key, Tier::Cloud, 2)
    );
    let twice = [
        good[0],
        good[1],
        good[2],
        good[3],
        ("t", "moon"),
        ("x", "y"),
    ];
    assert_eq!(decode(&twice), Some(advert));
    for part in 0..4 {
        let mut less = good.to_vec();
        less.remove(part);
        assert_eq!(decode(&less), None);
    }
}

/// P-FIND-5
#[test]
fn a_relay_that_was_heard_of_is_used_only_with_a_known_key() {
    let signer = Signer::from_seed(&[1; 32]);
    let (origin, key) = (signer.public_key(), PublicKey([7; 32]));
    let heard = |record| {
        Heard::Here(Found {
            name: "ward".into(),
            places: vec!["10.0.0.1:4470".into()],
            advert: Advert {
                key,
                origins: vec![origin.origin_id()],
                tier: Tier::Local,
                record,
            },
        })
    };
    let judge_with = |record, upstreams: Vec<Upstream>, trust: &Trust| {
        let origins = vec![origin];
        let mut search = Search::new(Plan {
            upstreams,
            origins,
            ..Plan::default()
        });
        search.hear(heard(record), trust);
        let (used, asked) = search.judge(trust);
        (
            used.iter().any(|it| it.address.place == "10.0.0.1:4470"),
            asked.len(),
        )
    };
    let pinned = |key| Trust {
        pins: [Pin {
            name: "ward".into(),
            key,
        }]
        .into_iter()
        .collect(),
        ..Trust::default()
    };
    let judge = |upstreams, trust: &Trust| judge_with(None, upstreams, trust);
    let configured = format!("relay.example.org:1#{}", key.to_hex())
        .parse()
        .unwrap();
    assert_eq!(judge(vec![], &Trust::default()), (false, 1));
    assert_eq!(judge(vec![configured], &Trust::default()), (true, 0));
    let later = relay::driver::now().plus_millis(DAY);
    let record = |by: &Signer, of| Some(RelayRecord::sign(by, of, later).unwrap());
    for (record, used) in [
        (record(&signer, key), (true, 0)),
        (record(&signer, origin), (false, 1)),
        (record(&Signer::from_seed(&[2; 32]), key), (false, 1)),
    ] {
        assert_eq!(judge_with(record, vec![], &Trust::default()), used);
    }
    assert_eq!(
        judge_with(record(&signer, key), vec![], &pinned(origin)),
        (false, 1)
    );
    assert_eq!(judge(vec![], &pinned(key)), (true, 0));
    assert_eq!(judge(vec![], &pinned(origin)), (false, 1));
}

/// P-FIND-6
#[test]
fn a_device_is_a_local_relay_to_its_neighbours_and_a_device_to_itself() {
    let config = Config {
        tier: Tier::Device,
        origins: Vec::new(),
        limits: Limits::default(),
    };
    let mut node = Node::new(config, MemoryStore::new(StoreId([1; 16])), NOW).unwrap();
    for (number, role, tier) in [
        (1, Role::Downstream, Tier::Device),
        (2, Role::Neighbour, Tier::Local),
    ] {
        let link = LinkId(number);
        node.handle(Event::Connected { link, role }, NOW);
        let hello = Frame::Hello(node.hello());
        node.handle(Event::Received { link, frame: hello }, NOW);
        let mut decoder = FrameDecoder::default();
        while let Some(effect) = node.next_effect() {
            if let Effect::Send { bytes, .. } = effect {
                decoder.push(&bytes);
            }
        }
        let Some(Frame::Hello(hello)) = decoder.next_frame().unwrap() else {
            panic!("no HELLO")
        };
        let reach = decoder.next_frame().unwrap();
        assert_eq!(hello.tier, tier);
        let relay = String::new();
        assert_eq!(reach, Some(Frame::Reach { tier, relay }));
    }
}

/// P-RELAY-1, P-RELAY-2: the bytes of a relay record, and whose word counts for how long.
#[test]
fn a_relay_record_is_the_origins_word_for_a_time() {
    let origin = Signer::from_seed(&[1; 32]);
    let relay = PublicKey([7; 32]);
    let end = NOW.plus_millis(DAY);
    let record = RelayRecord::sign(&origin, relay, end).unwrap();
    let text = record.to_text();
    let body = text.strip_prefix("treeline-relay-").unwrap();
    let bytes = data_encoding::BASE64URL_NOPAD
        .decode(body.as_bytes())
        .unwrap();
    let chunk = proto::Chunk::decode(bytes.into()).unwrap();
    assert_eq!(chunk.data()[..], [&[1], &relay.0[..]].concat());
    let name = chunk.name().to_string();
    assert!(name.contains("/record/org-0/team-0/kind-1/"), "{name}");
    assert_eq!((chunk.grant(), chunk.expiry()), (proto::GrantId::NONE, end));
    let ours = [origin.public_key()];
    let theirs = [PublicKey([1; 32])];
    assert_eq!(record.verify(&ours, NOW), Some(relay));
    assert_eq!(record.verify(&theirs, NOW), None);
    assert_eq!(record.verify(&ours, end), None);
    assert_eq!(RelayRecord::from_text(&text[..text.len() - 2]), None);
}
