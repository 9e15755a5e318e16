//! The node against pretended clients, and small trees of nodes.

use proptest::prelude::*;
use proto::{Chunk, Frame, Misbehaved, Name, Order, Outcome, Path, Prefix, Refused, Start, Tier};

use super::{Closed, Limits, Note};
use world::{World, hello};

mod access;
mod grants;
mod interest;
mod limits;
mod mend;
mod reconcile;
mod refused;
mod world;

const TREE: [Tier; 3] = [Tier::Origin, Tier::Cloud, Tier::Local];
const STORED: fn(Tier) -> Outcome = Outcome::Stored;
const REFUSED: fn(Refused) -> Outcome = Outcome::Refused;

fn tree() -> World {
    let mut world = World::new(&TREE);
    world.join(1, 0);
    world.join(2, 1);
    world.settle();
    world
}

#[test]
fn backlog_then_live_without_hole_or_duplicate() {
    let mut world = World::new(&[Tier::Origin]);
    let (writer, reader) = (world.client(0), world.client(0));
    let chunks = world.chunks(0..100);
    world.publish(writer, &chunks[..50]);
    world.settle();
    world.subscribe(reader, 1, world.team(), Start::All);
    world.publish(writer, &chunks[50..]);
    world.settle();
    assert_eq!(world.clients[reader].chunks(), chunks);
    let marks = world.clients[reader].heard.iter();
    assert!(
        marks
            .clone()
            .any(|frame| matches!(frame, Frame::CaughtUp { live: true, .. }))
    );
    let grants = marks
        .filter(|frame| matches!(frame, Frame::Grant(_)))
        .count();
    assert_eq!(grants, 1, "a chain is sent once on a link");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever comes between, each subscription yields each chunk exactly once, in order.
    #[test]
    fn the_seam_holds(steps in prop::collection::vec(0u8..6, 1..60), window in 1usize..4) {
        let limits = Limits { window_bytes: window * 2000, ..Limits::default() };
        let mut world = World::with_limits(&[Tier::Origin], &limits);
        let (writer, reader) = (world.client(0), world.client(0));
        let mut published = Vec::new();
        let mut subscriptions = 0;
        for step in steps {
            match step {
                0 | 1 => {
                    let next = published.len() as u32;
                    let new = world.chunks(next..next + 1 + u32::from(step) * 5);
                    world.publish(writer, &new);
                    published.extend(new);
                }
                2 => {
                    subscriptions += 1;
                    world.subscribe(reader, subscriptions, world.team(), Start::All);
                }
                3 => { world.turn(); }
                4 => world.clients[reader].slow = true,
                _ => world.catch_up(reader),
            }
        }
        world.catch_up(reader);
        world.settle();
        for id in 1..=subscriptions {
            let mut got = Vec::new();
            for frame in &world.clients[reader].heard {
                if let Frame::Chunks { id: of, chunks } = frame && *of == id {
                    got.extend(chunks.clone());
                }
            }
            prop_assert_eq!(&got, &published);
        }
        prop_assert_eq!(world.clients[reader].closed, None);
    }

    /// Whatever is subscribed and unsubscribed below, above stands exactly the union, each part once.
    #[test]
    fn interest_above_is_the_union_below(steps in prop::collection::vec((0u32..8, 0u8..5, 0u8..2), 1..40)) {
        let mut world = World::new(&[Tier::Origin, Tier::Local]);
        world.join(1, 0);
        let client = world.client(1);
        world.settle();
        let mut below = std::collections::BTreeMap::new();
        for (id, bits, value) in steps {
            let name = Name(world.team().first().0 | u128::from(value) << 49);
            let prefix = Prefix::of(name, 76 + bits);
            if below.remove(&id).is_some() {
                world.say(client, &Frame::Unsubscribe { id });
            } else {
                below.insert(id, prefix);
                world.subscribe(client, id, prefix, Start::All);
            }
            world.settle();
            let mut above = std::collections::BTreeMap::new();
            for (_, to, frame) in &world.between {
                match frame {
                    Frame::Subscribe { id, prefix, .. } if *to == 0 => { above.insert(*id, *prefix); }
                    Frame::Unsubscribe { id } if *to == 0 => { above.remove(id); }
                    _ => {}
                }
            }
            let above: Vec<Prefix> = above.into_values().collect();
            for wanted in below.values() {
                prop_assert_eq!(above.iter().filter(|own| own.covers(*wanted)).count(), 1);
            }
            for own in &above {
                prop_assert!(below.values().any(|wanted| wanted == own));
            }
        }
    }
}

#[test]
fn acknowledgements_name_each_tier_in_order() {
    let mut world = tree();
    let writer = world.client(2);
    let chunk = world.chunk(1, 0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let tiers = [Tier::Local, Tier::Cloud, Tier::Origin].map(STORED);
    assert_eq!(world.clients[writer].outcomes(chunk.name()), tiers);
    let again = world.client(2);
    world.publish(again, std::slice::from_ref(&chunk));
    world.settle();
    assert_eq!(
        world.clients[again].outcomes(chunk.name()),
        [STORED(Tier::Origin)]
    );
    assert_eq!(
        world.nodes[0].counters().stored,
        2,
        "the chunk, and the grant that it needs"
    );
}

#[test]
fn a_chunk_is_not_sent_back_to_the_relay_it_came_from() {
    let mut world = tree();
    let (writer, reader) = (world.client(2), world.client(2));
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    world.between.clear();
    world.publish(writer, &world.chunks(0..3));
    world.settle();
    assert_eq!(world.clients[reader].chunks().len(), 3);
    let down = world
        .between
        .iter()
        .filter(|(from, to, frame)| from < to && matches!(frame, Frame::Chunks { .. }));
    assert_eq!(down.count(), 0);
    let up = world
        .between
        .iter()
        .filter(|(_, _, frame)| matches!(frame, Frame::Publish(_)));
    assert_eq!(
        up.count(),
        2,
        "once to the cloud, once to the origin, and never back"
    );
}

#[test]
fn other_bytes_under_a_name_are_refused_and_counted() {
    let mut world = World::new(&[Tier::Origin]);
    let writer = world.client(0);
    let chunk = world.chunk(1, 0);
    let grant = chunk.grant();
    let other = Chunk::sign(
        chunk.name(),
        chunk.expiry(),
        grant,
        b"other",
        &world.founder(),
    )
    .unwrap();
    world.publish(writer, &[chunk.clone(), other.clone(), chunk.clone()]);
    world.settle();
    world.publish(writer, &[other]);
    world.settle();
    let (stored, conflict) = (STORED(Tier::Origin), REFUSED(Refused::Conflict));
    assert_eq!(
        world.clients[writer].outcomes(chunk.name()),
        [stored, conflict, stored, conflict]
    );
    assert_eq!(world.nodes[0].counters().refused[&Refused::Conflict], 2);
    assert_eq!(world.clients[writer].closed, None);
}

#[test]
fn what_the_parent_has_not_acknowledged_goes_up_after_a_restart() {
    let mut world = World::new(&TREE);
    let writer = world.client(2);
    let chunks = world.chunks(0..70);
    world.publish(writer, &chunks);
    world.settle();
    world.restart(2, true);
    world.join(2, 1);
    world.settle();
    assert_eq!(world.nodes[1].counters().stored, 71);
    // The cloud has them now; the origin gets them when it is there, from the cloud alone.
    world.join(1, 0);
    world.settle();
    assert_eq!(world.nodes[0].counters().stored, 71);
    world.restart(2, false);
    world.between.clear();
    world.join(2, 1);
    world.settle();
    let writer = world.client(2);
    world.publish(writer, &chunks[..1]);
    world.settle();
    let last = world.clients[writer].outcomes(chunks[0].name()).pop();
    assert_eq!(last, Some(STORED(Tier::Origin)));
}

#[test]
fn nothing_acknowledged_is_lost_in_a_crash_and_a_store_that_does_not_sync_is_found_out() {
    for syncs in [true, false] {
        let mut world = World::new(&[Tier::Origin]);
        if !syncs {
            world.nodes[0].store().stop_syncing();
        }
        let writer = world.client(0);
        let chunks = world.chunks(0..10);
        world.publish(writer, &chunks);
        world.settle();
        let acknowledged =
            |chunk: &&Chunk| world.clients[writer].outcomes(chunk.name()) == [STORED(Tier::Origin)];
        assert_eq!(chunks.iter().filter(acknowledged).count(), 10);
        world.restart(0, true);
        let reader = world.client(0);
        world.subscribe(reader, 1, world.team(), Start::All);
        world.settle();
        assert_eq!(world.clients[reader].chunks() == chunks, syncs);
    }
}

#[test]
fn a_full_store_refuses_what_is_new_and_serves_what_it_has() {
    let mut world = tree();
    let (writer, top) = (world.client(2), world.client(0));
    let chunks = world.chunks(0..6);
    world.publish(writer, &chunks[..2]);
    world.settle();
    let room = world.nodes[2].store().len();
    world.nodes[2].store().limit(room);
    world.publish(writer, &chunks[2..3]);
    world.settle();
    let full = [REFUSED(Refused::StoreFull)];
    assert_eq!(world.clients[writer].outcomes(chunks[2].name()), full);
    assert!(
        world
            .notes
            .iter()
            .any(|(node, note)| *node == 2 && matches!(note, Note::Store(_)))
    );
    let reader = world.client(2);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    assert_eq!(world.clients[reader].chunks(), chunks[..2]);
    // What the parent sends meanwhile is neither kept nor skipped: it comes after a reconnect.
    world.publish(top, &chunks[3..]);
    world.settle();
    assert_eq!(world.clients[reader].chunks(), chunks[..2]);
    world.nodes[2].store().limit(usize::MAX);
    world.join(2, 1);
    world.settle();
    assert_eq!(
        world.clients[reader].chunks(),
        [&chunks[..2], &chunks[3..]].concat()
    );
    world.publish(writer, &chunks[2..3]);
    world.settle();
    let last = world.clients[writer].outcomes(chunks[2].name()).pop();
    assert_eq!(last, Some(STORED(Tier::Origin)));
}

#[test]
fn a_slow_reader_costs_a_fixed_amount_and_slows_nobody() {
    let limits = Limits {
        window_bytes: 10_000,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let (writer, slow, quick) = (world.client(0), world.client(0), world.client(0));
    for reader in [slow, quick] {
        world.subscribe(reader, 1, world.team(), Start::All);
    }
    world.settle();
    world.clients[slow].slow = true;
    let chunks = world.chunks(0..300);
    for part in chunks.chunks(10) {
        world.publish(writer, part);
        world.settle();
    }
    assert_eq!(world.clients[quick].chunks(), chunks);
    assert!(world.clients[slow].undrained() < 10_000 + 32 * 1200);
    assert!(world.clients[slow].chunks().len() < 60);
    world.catch_up(slow);
    world.settle();
    assert_eq!(world.clients[slow].chunks(), chunks);
}

#[test]
fn a_peer_that_reads_no_answers_is_cut_off() {
    let limits = Limits {
        outstanding_bytes: 5_000,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let writer = world.client(0);
    world.clients[writer].slow = true;
    let chunks = world.chunks(0..30);
    for _ in 0..20 {
        world.publish(writer, &chunks);
        world.settle();
    }
    let closed = Some(Closed::Misbehaved(Misbehaved::OverLimit));
    assert_eq!(world.clients[writer].closed, closed);
}

#[test]
fn a_reconnect_transfers_only_what_is_missing() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    world.join(1, 0);
    let (reader, writer) = (world.client(1), world.client(0));
    world.subscribe(reader, 1, world.team(), Start::All);
    let chunks = world.chunks(0..60);
    world.publish(writer, &chunks[..40]);
    world.settle();
    world.wait(300);
    world.part(0, 1);
    world.publish(writer, &chunks[40..]);
    world.settle();
    world.between.clear();
    world.join(1, 0);
    world.settle();
    world.wait(300);
    let count = |frame: &Frame| match frame {
        Frame::Chunks { chunks, .. } => chunks.len(),
        _ => 0,
    };
    assert_eq!(
        world
            .between
            .iter()
            .map(|(_, _, frame)| count(frame))
            .sum::<usize>(),
        20
    );
    assert_eq!(world.clients[reader].chunks(), chunks);
    // A client that resumes behind its cursor gets only what came later.
    let cursor = world.clients[reader].cursor().unwrap();
    world.publish(writer, &[world.chunk(1, 100)]);
    let back = world.client(1);
    world.subscribe(back, 1, world.team(), Start::After(cursor));
    world.settle();
    assert_eq!(world.clients[back].chunks(), [world.chunk(1, 100)]);
}

#[test]
fn a_subscription_begins_where_it_is_told() {
    let mut world = World::new(&[Tier::Origin]);
    let (writer, reader) = (world.client(0), world.client(0));
    let chunks = world.chunks(0..50);
    world.publish(writer, &chunks);
    world.settle();
    let prefix = world.team();
    let mut heard = |start, order| {
        world.clients[reader].heard.clear();
        let id = world.now.millis() as u32;
        world.now = world.now.plus_millis(1);
        world.say(
            reader,
            &Frame::Subscribe {
                id,
                prefix,
                start,
                order,
            },
        );
        world.settle();
        world.say(reader, &Frame::Unsubscribe { id });
        world.clients[reader].chunks()
    };
    let reversed: Vec<Chunk> = chunks.iter().rev().cloned().collect();
    let foreign = crate::store::StoreId([77; 16]).cursor(40);
    let own = crate::store::StoreId([1; 16]).cursor(41);
    let beyond = crate::store::StoreId([1; 16]).cursor(4100);
    assert_eq!(heard(Start::Newest(7), Order::OldestFirst), chunks[43..]);
    assert_eq!(heard(Start::Newest(0), Order::OldestFirst), []);
    assert_eq!(heard(Start::Newest(99), Order::OldestFirst), chunks);
    assert_eq!(heard(Start::Newest(40), Order::NewestFirst), reversed[..40]);
    assert_eq!(heard(Start::All, Order::NewestFirst), reversed);
    assert_eq!(
        heard(Start::After(own.clone()), Order::OldestFirst),
        chunks[40..]
    );
    assert_eq!(heard(Start::After(own), Order::NewestFirst), reversed[..10]);
    assert_eq!(heard(Start::After(foreign), Order::OldestFirst), chunks);
    assert_eq!(heard(Start::After(beyond), Order::OldestFirst), chunks);
}

#[test]
fn expired_chunks_are_not_served_and_go() {
    let mut world = World::new(&[Tier::Origin]);
    let (writer, reader) = (world.client(0), world.client(0));
    world.publish(writer, &world.chunks(0..3));
    world.settle();
    world.wait(3_600_000);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    assert_eq!(world.clients[reader].chunks(), []);
    assert_eq!(world.nodes[0].store().len(), 1, "the grant is left");
}

#[test]
fn a_fetch_is_answered_from_above_once() {
    let mut world = tree();
    let (writer, reader) = (world.client(0), world.client(2));
    let chunks = world.chunks(0..3);
    world.publish(writer, &chunks);
    world.settle();
    let nowhere = world.name(9, 9);
    let names = vec![chunks[0].name(), nowhere, chunks[2].name()];
    world.say(
        reader,
        &Frame::Fetch {
            id: 5,
            names: names.clone(),
        },
    );
    world.settle();
    assert_eq!(
        world.clients[reader].chunks(),
        [chunks[0].clone(), chunks[2].clone()]
    );
    let ended = |frame: &&Frame| matches!(frame, Frame::CaughtUp { id: 5, .. });
    assert_eq!(world.clients[reader].heard.iter().filter(ended).count(), 1);
    world.between.clear();
    world.say(
        reader,
        &Frame::Fetch {
            id: 6,
            names: vec![chunks[0].name()],
        },
    );
    world.settle();
    assert_eq!(world.between.len(), 0, "it is here now");
    world.part(1, 2);
    world.say(reader, &Frame::Fetch { id: 7, names });
    world.settle();
    let ended = |frame: &&Frame| matches!(frame, Frame::CaughtUp { id: 7, .. });
    assert_eq!(world.clients[reader].heard.iter().filter(ended).count(), 1);
}

#[test]
fn reach_is_told_downwards() {
    let mut world = World::new(&TREE);
    let client = world.client(2);
    world.join(2, 1);
    world.settle();
    world.join(1, 0);
    world.settle();
    world.part(1, 0);
    world.settle();
    world.part(2, 1);
    world.settle();
    let reach = world.clients[client]
        .heard
        .iter()
        .filter_map(|frame| match frame {
            Frame::Reach { tier, .. } => Some(*tier),
            _ => None,
        });
    let mut reach: Vec<Tier> = reach.collect();
    reach.dedup();
    assert_eq!(
        reach,
        [
            Tier::Local,
            Tier::Cloud,
            Tier::Origin,
            Tier::Cloud,
            Tier::Local
        ]
    );
}

#[test]
fn what_the_parent_will_never_take_is_told_and_not_sent_again() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    let (low, high) = (world.client(1), world.client(0));
    let chunk = world.chunk(1, 0);
    let other = Chunk::sign(
        chunk.name(),
        chunk.expiry(),
        chunk.grant(),
        b"2",
        &world.founder(),
    );
    world.publish(high, &[other.unwrap()]);
    world.publish(low, std::slice::from_ref(&chunk));
    world.settle();
    world.join(1, 0);
    world.settle();
    let outcomes = [STORED(Tier::Local), REFUSED(Refused::Conflict)];
    assert_eq!(world.clients[low].outcomes(chunk.name()), outcomes);
    world.part(1, 0);
    world.between.clear();
    world.join(1, 0);
    world.settle();
    let published = world
        .between
        .iter()
        .any(|(_, _, frame)| matches!(frame, Frame::Publish(_)));
    assert!(!published);
}

#[test]
fn every_misbehaviour_has_its_name() {
    let subscribe = |id, prefix| Frame::Subscribe {
        id,
        prefix,
        start: Start::All,
        order: Order::OldestFirst,
    };
    let cases = [
        (vec![Frame::Ack(vec![])], Misbehaved::NotAllowed),
        (
            vec![hello(proto::Timestamp::default(), Tier::Device)],
            Misbehaved::HelloMisplaced,
        ),
        (vec![subscribe(1, Prefix::ALL)], Misbehaved::PrefixTooShort),
        (
            vec![
                Frame::Fetch {
                    id: 1,
                    names: vec![Name(1)],
                },
                Frame::Fetch {
                    id: 1,
                    names: vec![],
                },
            ],
            Misbehaved::IdReused,
        ),
    ];
    for (frames, expected) in cases {
        let mut world = World::new(&[Tier::Origin]);
        let client = world.client(0);
        frames.iter().for_each(|frame| world.say(client, frame));
        world.settle();
        assert_eq!(
            world.clients[client].closed,
            Some(Closed::Misbehaved(expected))
        );
        assert_eq!(world.nodes[0].counters().misbehaved[&expected], 1);
        let last = world.clients[client].heard.last();
        assert!(matches!(last, Some(Frame::Close { .. })), "{last:?}");
    }
    let mut world = World::new(&[Tier::Origin]);
    let client = world.stranger(0);
    world.say(
        client,
        &Frame::Fetch {
            id: 1,
            names: vec![],
        },
    );
    world.settle();
    let closed = Some(Closed::Misbehaved(Misbehaved::HelloMisplaced));
    assert_eq!(world.clients[client].closed, closed);
}

#[test]
fn links_that_go_leave_nothing_behind() {
    let mut world = tree();
    let reader = world.client(2);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.subscribe(reader, 2, world.channel(1), Start::All);
    world.subscribe(
        reader,
        3,
        Name::team_prefix(world.place(), Path::Commit),
        Start::All,
    );
    world.settle();
    world.leave(reader);
    world.settle();
    let mut above = 0;
    for (_, to, frame) in &world.between {
        match frame {
            Frame::Subscribe { .. } if *to == 0 => above += 1,
            Frame::Unsubscribe { .. } if *to == 0 => above -= 1,
            _ => {}
        }
    }
    assert_eq!(above, 0);
}

#[test]
fn a_patient_sender_gets_through_a_small_quota() {
    let limits = Limits {
        // Five chunks of a writer, and the grant that it shows.
        chunks_per_second: 6,
        in_flight: 4,
        ..Limits::default()
    };
    let mut world = World::with_limits(&TREE, &limits);
    // The origin takes nothing, so the cloud's answers stay below what the sender hopes for.
    world.nodes[0].store().limit(0);
    world.join(1, 0);
    let mut chunks = Vec::new();
    for part in 0..5 {
        let writer = world.client(2);
        let new = world.chunks(part * 5..part * 5 + 5);
        world.publish(writer, &new);
        world.settle();
        chunks.extend(new);
    }
    world.join(2, 1);
    for _ in 0..8 {
        world.wait(6_000);
    }
    assert_eq!(world.nodes[1].counters().stored, chunks.len() as u64 + 1);
}

#[test]
fn a_relay_that_claims_another_ones_store_sets_no_marks_for_it() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    let (reader, writer) = (world.client(1), world.client(0));
    world.subscribe(reader, 1, world.team(), Start::All);
    let chunks = world.chunks(0..5);
    world.publish(writer, &chunks);
    world.settle();
    let impostor = world.impostor(1, [1; 16]);
    let cursor = crate::store::StoreId([1; 16]).cursor(5);
    world.say(
        impostor,
        &Frame::CaughtUp {
            id: 1,
            cursor,
            live: true,
        },
    );
    world.settle();
    world.leave(impostor);
    world.join(1, 0);
    world.settle();
    assert_eq!(world.clients[reader].chunks(), chunks);
}

#[test]
fn what_came_from_above_goes_up_again_when_it_comes_from_below() {
    // A parent that got it by another way has it, but tells nobody here how far it comes.
    let mut world = World::new(&TREE);
    world.join(2, 1);
    let (early, writer, reader) = (world.client(1), world.client(2), world.client(2));
    world.subscribe(reader, 1, world.team(), Start::All);
    let chunk = world.chunk(1, 0);
    world.publish(early, std::slice::from_ref(&chunk));
    world.settle();
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    world.join(1, 0);
    world.settle();
    let tiers = [Tier::Cloud, Tier::Cloud, Tier::Origin].map(STORED);
    assert_eq!(world.clients[writer].outcomes(chunk.name()), tiers);
}

#[test]
fn a_grant_that_was_dropped_with_its_link_is_stored_when_another_shows_it() {
    let mut world = World::new(&[Tier::Origin]);
    let rude = world.client(0);
    world.say(rude, &Frame::Ack(vec![]));
    let writer = world.client(0);
    let chunk = world.chunk(1, 0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    assert_eq!(
        world.clients[writer].outcomes(chunk.name()),
        [STORED(Tier::Origin)]
    );
    assert_eq!(
        world.nodes[0].store().len(),
        2,
        "the chunk, and the grant that it needs"
    );
}
