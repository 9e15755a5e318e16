//! What docs/protocol.md demands for finding relays.

use proto::{Frame, FrameDecoder, Tier, Timestamp};
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
