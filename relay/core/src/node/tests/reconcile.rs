//! Reconciliation: after a parent was replaced or lost its store, exactly what is missing moves.

use proptest::prelude::*;
use proto::{
    Chunk, Frame, Hello, Holds, Misbehaved, Name, Part, Prefix, Reconcile, Refused, Span, Start,
    Summary, Tier,
};

use super::super::{Closed, Event, LinkId, Note, Role};
use super::world::{World, hello};
use super::{REFUSED, STORED};
use crate::store::Store as _;

/// Chunks that went between nodes, and bytes of RECONCILE.
fn traffic(world: &World) -> (usize, usize) {
    let chunks = world.between.iter().map(|(_, _, frame)| match frame {
        Frame::Chunks { chunks, .. } | Frame::Publish(chunks) => chunks.len(),
        _ => 0,
    });
    let bytes = world.between.iter().map(|(_, _, frame)| match frame {
        Frame::Reconcile(_) => frame.to_bytes().len(),
        _ => 0,
    });
    (chunks.sum(), bytes.sum())
}

/// Two origins of one key, as before and after a repair: 0 and 1; a relay below, 2.
fn world() -> World {
    World::new(&[Tier::Origin, Tier::Origin, Tier::Local])
}

#[test]
fn a_parent_that_lost_its_store_gets_back_all_that_is_here() {
    let mut world = world();
    world.join(2, 0);
    let (writer, reader) = (world.client(2), world.client(2));
    world.subscribe(reader, 1, world.team(), Start::All);
    let chunks = world.chunks(0..300);
    world.publish(writer, &chunks);
    world.settle();
    world.lose_store(0, 99);
    assert_eq!(world.held(0), []);
    world.between.clear();
    world.join(2, 0);
    world.settle();
    assert_eq!(world.held(0), chunks);
    assert_eq!(traffic(&world).0, 301, "each chunk and its grant, once");
    world.wait(300);
    // The same store again: nothing is asked.
    world.part(2, 0);
    world.between.clear();
    world.join(2, 0);
    world.settle();
    assert_eq!(traffic(&world), (0, 0));
    let again = world.client(2);
    world.publish(again, &chunks[..1]);
    world.settle();
    let last = world.clients[again].outcomes(chunks[0].name()).pop();
    assert_eq!(last, Some(STORED(Tier::Origin)));
}

#[test]
fn another_parent_exchanges_only_the_difference_both_ways() {
    let mut world = world();
    let (one, other) = (world.client(0), world.client(1));
    let feed = |world: &World, channel, numbers: std::ops::Range<u32>| -> Vec<Chunk> {
        numbers.map(|number| world.chunk(channel, number)).collect()
    };
    let mut both = Vec::new();
    for channel in 0..8 {
        both.extend(feed(&world, channel, 0..200));
    }
    world.publish(one, &both);
    world.publish(other, &both);
    world.settle();
    world.join(2, 0);
    let reader = world.client(2);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    world.wait(300);
    world.part(2, 0);
    // What each side of the partition gets alone: the ends of two feeds each.
    let above = [feed(&world, 1, 200..400), feed(&world, 5, 200..400)].concat();
    let below = [feed(&world, 1, 500..700), feed(&world, 3, 200..400)].concat();
    let writer = world.client(2);
    world.publish(writer, &below[..200]);
    world.settle();
    world.join(2, 0);
    world.settle();
    world.part(2, 0);
    world.publish(writer, &below[200..]);
    world.publish(other, &above);
    world.settle();
    world.between.clear();
    world.join(2, 1);
    world.settle();
    world.wait(300);
    let (chunks, bytes) = traffic(&world);
    assert_eq!(chunks, above.len() + below.len());
    let missing: usize = above
        .iter()
        .chain(&below)
        .map(|chunk| chunk.encoded().len())
        .sum();
    assert!(bytes < missing / 100 + 4096, "{bytes} for {missing}");
    let mut all = [both, above, below].concat();
    all.sort_by_key(Chunk::name);
    assert_eq!(world.held(1), all);
    assert_eq!(world.held(2), all);
    let mut got = world.clients[reader].chunks();
    got.sort_by_key(Chunk::name);
    assert_eq!(got, all, "each once, whatever the way");
    // From now on the cursor leads.
    world.part(2, 1);
    world.between.clear();
    world.publish(other, &feed(&world, 7, 900..901));
    world.join(2, 1);
    world.settle();
    assert_eq!(traffic(&world), (1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever the two sides hold, both hold everything afterwards, and nothing moved that was there.
    #[test]
    fn any_two_stores_become_the_same(
        held in prop::collection::vec(0u8..4, 1..400),
        subscribed in any::<bool>(),
    ) {
        let mut world = world();
        world.join(2, 0);
        world.settle();
        world.part(2, 0);
        let (above, below) = (world.client(1), world.client(2));
        let mut counts = [0; 4];
        for (number, side) in held.iter().enumerate() {
            let chunk = world.chunk(number as u16 % 7, number as u32);
            counts[usize::from(*side)] += 1;
            if *side & 1 != 0 { world.publish(above, std::slice::from_ref(&chunk)); }
            if *side & 2 != 0 { world.publish(below, std::slice::from_ref(&chunk)); }
        }
        world.settle();
        // The old parent acknowledges everything, and is gone for good.
        world.join(2, 0);
        world.settle();
        world.part(2, 0);
        if subscribed {
            world.subscribe(below, 1, world.team(), Start::All);
            world.settle();
        }
        world.between.clear();
        world.join(2, 1);
        world.settle();
        world.wait(300);
        let all = counts[1] + counts[2] + counts[3];
        prop_assert_eq!(world.held(1).len(), all);
        prop_assert_eq!(world.held(2).len(), if subscribed { all } else { counts[2] + counts[3] });
        let moved = world.between.iter().map(|(_, _, frame)| match frame {
            Frame::Chunks { chunks, .. } | Frame::Publish(chunks) => {
                chunks.iter().filter(|chunk| chunk.name().path() == proto::Path::Message).count()
            }
            _ => 0,
        });
        let expected = counts[2] + if subscribed { counts[1] } else { 0 };
        prop_assert_eq!(moved.sum::<usize>(), expected);
    }
}

#[test]
fn what_is_published_meanwhile_moves_once_too() {
    let mut world = world();
    world.join(2, 0);
    let (writer, reader) = (world.client(2), world.client(2));
    world.subscribe(reader, 1, world.team(), Start::All);
    let chunks = world.chunks(0..400);
    world.publish(writer, &chunks[..100]);
    world.settle();
    world.part(2, 0);
    world.between.clear();
    world.join(2, 1);
    let above = world.client(1);
    for at in 100..400 {
        let side = if at % 2 == 0 { writer } else { above };
        world.publish(side, &chunks[at..=at]);
        world.turn();
    }
    world.settle();
    assert_eq!(world.held(1), chunks);
    assert_eq!(world.held(2), chunks);
    let moved = traffic(&world).0;
    assert!((400..=410).contains(&moved), "{moved}");
}

#[test]
fn a_conflict_is_kept_on_both_sides_and_reported_once() {
    let mut world = world();
    world.join(2, 0);
    let (below, above) = (world.client(2), world.client(1));
    let chunk = world.chunk(1, 50);
    let key = world.founder();
    let other = Chunk::sign(chunk.name(), chunk.expiry(), chunk.grant(), b"other", &key).unwrap();
    let chunks = world.chunks(0..50);
    world.publish(below, &[&chunks[..], std::slice::from_ref(&chunk)].concat());
    world.publish(above, &[&chunks[..], std::slice::from_ref(&other)].concat());
    world.subscribe(below, 1, world.team(), Start::All);
    world.settle();
    for _ in 0..3 {
        for parent in [0, 1] {
            world.part(2, 1 - parent);
            world.join(2, parent);
            world.settle();
            world.wait(300);
        }
    }
    let first = |world: &mut World, node: usize| {
        let found = world.nodes[node].store().get(chunk.name()).unwrap();
        found.unwrap().chunk
    };
    assert_eq!(first(&mut world, 1), other);
    assert_eq!(first(&mut world, 2), chunk);
    let told = |node: usize| {
        let about = world.notes.iter().filter(|(of, note)| match note {
            Note::Refused { name, reason } | Note::RefusedAbove { name, reason } => {
                (*of, *name, *reason) == (node, chunk.name(), Refused::Conflict)
            }
            _ => false,
        });
        about.count()
    };
    assert_eq!((told(1), told(2)), (1, 1));
    let outcomes = world.clients[below].outcomes(chunk.name());
    assert!(
        outcomes.contains(&REFUSED(Refused::Conflict)) || outcomes.contains(&STORED(Tier::Origin))
    );
    world.between.clear();
    world.wait(60_000);
    assert_eq!(traffic(&world), (0, 0), "no endless exchange");
}

fn ask(id: u32, spans: Vec<Span>) -> Frame {
    Frame::Reconcile(Reconcile::Ask { id, spans })
}

#[test]
fn a_hostile_asker_is_cut_off() {
    let own = |world: &World| Span::from(world.team());
    type Says = Box<dyn Fn(&World) -> Vec<Frame>>;
    let cases: Vec<(Says, Misbehaved)> = vec![
        (
            Box::new(move |world| vec![ask(1, vec![own(world)]), ask(2, vec![own(world)])]),
            Misbehaved::OverLimit,
        ),
        (
            Box::new(move |world| vec![ask(1, vec![own(world)]), ask(1, vec![own(world)])]),
            Misbehaved::IdReused,
        ),
        (
            Box::new(|_| vec![ask(1, vec![Span::ALL])]),
            Misbehaved::PrefixTooShort,
        ),
        (
            Box::new(move |world| {
                let spans = vec![own(world)];
                (0..65)
                    .map(|id| {
                        let spans = spans.clone();
                        Frame::Reconcile(Reconcile::Want { id, spans })
                    })
                    .collect()
            }),
            Misbehaved::OverLimit,
        ),
        (
            Box::new(|_| {
                let (id, parts) = (1, Vec::new());
                vec![Frame::Reconcile(Reconcile::Tell { id, parts })]
            }),
            Misbehaved::NotAllowed,
        ),
    ];
    for (frames, expected) in cases {
        let mut world = World::new(&[Tier::Origin]);
        let client = world.client(0);
        frames(&world)
            .iter()
            .for_each(|frame| world.say(client, frame));
        world.settle();
        let closed = Some(Closed::Misbehaved(expected));
        assert_eq!(world.clients[client].closed, closed);
    }
}

#[test]
fn a_question_is_answered_without_a_trace() {
    let mut world = World::new(&[Tier::Origin]);
    let client = world.client(0);
    let chunks = world.chunks(0..40);
    world.publish(client, &chunks);
    world.settle();
    let span = Span::from(world.team());
    for id in 1..4 {
        world.say(client, &ask(id, vec![span]));
        world.settle();
    }
    world.say(client, &ask(4, Vec::new()));
    world.settle();
    let told: Vec<Reconcile> = world.clients[client]
        .heard
        .iter()
        .filter_map(|frame| match frame {
            Frame::Reconcile(told) => Some(told.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 4);
    let Reconcile::Tell { parts, .. } = &told[0] else {
        panic!("an answer")
    };
    let mut whole = Summary::default();
    for part in parts {
        match &part.holds {
            Holds::Summary(held) => whole.join(*held),
            Holds::Names(_) => panic!("more than are listed"),
        }
    }
    let mut expected = Summary::default();
    chunks.iter().for_each(|chunk| expected.add(chunk.digest()));
    assert_eq!(whole, expected);
    // A wish yields every chunk of its spans once, and an end.
    let (one, two) = (chunks[3].name(), chunks[30].name());
    let spans = vec![
        Span::new(one, one).unwrap(),
        Span::new(chunks[7].name(), two).unwrap(),
    ];
    world.say(client, &Frame::Reconcile(Reconcile::Want { id: 9, spans }));
    world.settle();
    let expected = [&chunks[3..4], &chunks[7..31]].concat();
    assert_eq!(world.clients[client].chunks(), expected);
    let end = |frame: &&Frame| matches!(frame, Frame::CaughtUp { id: 9, .. });
    assert_eq!(world.clients[client].heard.iter().filter(end).count(), 1);
}

/// A parent that answers as it likes. Returns why the link was closed.
fn answered(parts: impl Fn(&[Span]) -> (u32, Vec<Part>), rounds: usize) -> Option<Closed> {
    let mut world = world();
    world.join(2, 0);
    let client = world.client(2);
    world.publish(client, &world.chunks(0..100));
    world.settle();
    world.part(2, 0);
    let link = LinkId(7000);
    let role = Role::Upstream {
        relay: "liar".into(),
        key: proto::PublicKey([9; 32]),
    };
    let now = world.now;
    let node = &mut world.nodes[2];
    node.handle(Event::Connected { link, role }, now);
    let Frame::Hello(greeting) = hello(now, Tier::Origin) else {
        panic!("a HELLO")
    };
    let frame = Frame::Hello(Hello {
        features: Hello::RECONCILES,
        store: [66; 16],
        ..greeting
    });
    node.handle(Event::Received { link, frame }, now);
    let mut decoder = proto::FrameDecoder::default();
    for _ in 0..rounds {
        while node.next_timeout().is_some_and(|at| at <= now) {
            node.handle_timeout(now);
        }
        let mut asked = None;
        while let Some(effect) = node.next_effect() {
            match effect {
                super::super::Effect::Send { link: to, bytes } if to == link => {
                    decoder.push(&bytes);
                    while let Ok(Some(frame)) = decoder.next_frame() {
                        if let Frame::Reconcile(Reconcile::Ask { id, spans }) = frame {
                            asked = Some((id, spans));
                        }
                    }
                    let (sends, bytes) = (1, bytes.len());
                    node.handle(Event::Drained { link, sends, bytes }, now);
                }
                super::super::Effect::Close { link: of, reason } if of == link => {
                    return Some(reason);
                }
                _ => {}
            }
        }
        let (id, spans) = asked?;
        let (wrong, parts) = parts(&spans);
        let id = id.wrapping_add(wrong);
        let frame = Frame::Reconcile(Reconcile::Tell { id, parts });
        node.handle(Event::Received { link, frame }, now);
    }
    None
}

#[test]
fn a_lying_parent_is_cut_off_or_believed_at_a_fixed_cost() {
    let summary = |count| Holds::Summary(Summary { count, sum: 5 });
    let part = |span: Span, holds| Part { span, holds };
    let nonsense = Some(Closed::Misbehaved(Misbehaved::NotAsked));
    let whole = |spans: &[Span]| -> Vec<Part> {
        spans.iter().map(|span| part(*span, summary(9))).collect()
    };
    assert_eq!(
        answered(|spans| (1, whole(spans)), 9),
        nonsense,
        "another id"
    );
    assert_eq!(answered(|_| (0, Vec::new()), 9), nonsense, "nothing");
    let short = |spans: &[Span]| {
        let first = spans[0].first();
        let one = Span::new(first, first).unwrap();
        (0, vec![part(one, summary(1))])
    };
    assert_eq!(answered(short, 9), nonsense, "not all of it");
    let beyond = |spans: &[Span]| {
        let span = Span::new(spans[0].first(), Name(u128::MAX)).unwrap();
        (0, vec![part(span, summary(1))])
    };
    assert_eq!(answered(beyond, 9), nonsense, "more than was asked");
    // One that never divides: after so many rounds it is found out.
    assert_eq!(answered(|spans| (0, whole(spans)), 100), nonsense);
    // One that says it has nothing gets everything.
    let empty = |spans: &[Span]| {
        let parts = spans
            .iter()
            .map(|span| part(*span, Holds::Names(Vec::new())));
        (0, parts.collect())
    };
    assert_eq!(answered(empty, 100), None);
}

#[test]
fn a_parent_that_cannot_reconcile_is_subscribed_to_from_the_beginning() {
    let mut world = world();
    let client = world.client(2);
    world.publish(client, &world.chunks(0..3));
    world.subscribe(client, 1, world.team(), Start::All);
    world.settle();
    let link = LinkId(7000);
    let role = Role::Upstream {
        relay: "old".into(),
        key: proto::PublicKey([9; 32]),
    };
    let now = world.now;
    let node = &mut world.nodes[2];
    node.handle(Event::Connected { link, role }, now);
    let frame = hello(now, Tier::Origin);
    node.handle(Event::Received { link, frame }, now);
    node.handle_timeout(now);
    let mut decoder = proto::FrameDecoder::default();
    let mut starts = Vec::new();
    while let Some(effect) = node.next_effect() {
        if let super::super::Effect::Send { link: to, bytes } = effect
            && to == link
        {
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                if let Frame::Subscribe { prefix, start, .. } = frame {
                    starts.push((prefix, start));
                }
            }
        }
    }
    let team: Prefix = world.team();
    assert_eq!(starts, [(team, Start::All)]);
}
