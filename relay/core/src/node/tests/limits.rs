//! What a peer may use, and what is kept: quotas, rates, sizes, retention, slow readers.

use proto::{
    Chunk, Fields, Frame, Grant, GrantId, Limits as GrantLimits, Name, Path, Pattern, Prefix,
    Refused, Revocation, Rule, Signer, Start, Tier, Verbs,
};

use super::super::{Closed, Limits, Retention};
use super::world::World;
use super::{REFUSED, STORED};
use crate::store::Store as _;

const HOUR: u64 = 3_600_000;

/// A device's grant with these limits, and chunks of that device.
struct Device {
    grant: Chunk,
    key: Signer,
    number: u32,
}

impl Device {
    fn new(world: &World, number: u32, limits: GrantLimits) -> Self {
        let key = Signer::from_seed(&[number as u8 + 50; 32]);
        let pattern = Pattern::of_device(world.place(), Path::Message, number);
        let grant = Grant {
            subject: key.public_key(),
            not_after: world.now.plus_millis(100 * HOUR),
            limits,
            rules: vec![Rule {
                verbs: Verbs::PUBLISH,
                pattern,
            }],
        };
        let parent = GrantId::of(&world.registration.grant);
        let grant = grant.sign(world.place(), number, parent, &world.founder());
        Self {
            grant: grant.unwrap(),
            key,
            number,
        }
    }

    fn chunk(&self, world: &World, number: u32, life_ms: u64) -> Chunk {
        let fields = Fields::Message {
            channel: 1,
            device: self.number,
            number,
        };
        let name = Name::new(world.place(), fields);
        let expiry = world.now.plus_millis(life_ms);
        let grant = GrantId::of(&self.grant);
        Chunk::sign(name, expiry, grant, &[1; 902], &self.key).unwrap()
    }

    /// A client that has shown this device's grant.
    fn join(&self, world: &mut World, node: usize) -> usize {
        let client = world.client(node);
        let chain = vec![world.registration.grant.clone(), self.grant.clone()];
        world.say(client, &Frame::Grant(chain));
        client
    }
}

#[test]
fn a_grant_keeps_so_many_bytes_for_so_long_also_after_a_restart() {
    let mut world = World::new(&[Tier::Origin]);
    let limits = GrantLimits {
        // Three chunks of 1,000 bytes for an hour.
        byte_seconds: 3 * 1000 * 3600,
        ..GrantLimits::default()
    };
    let device = Device::new(&world, 7, limits);
    let writer = device.join(&mut world, 0);
    let all: Vec<Chunk> = (0..5).map(|n| device.chunk(&world, n, HOUR)).collect();
    assert_eq!(all[0].encoded().len(), 1000);
    world.publish(writer, &all);
    world.settle();
    let last = |world: &World, client: usize, chunk: &Chunk| {
        world.clients[client].outcomes(chunk.name()).pop().unwrap()
    };
    for (at, chunk) in all.iter().enumerate() {
        let expected = if at < 3 {
            STORED(Tier::Origin)
        } else {
            REFUSED(Refused::Quota)
        };
        assert_eq!(last(&world, writer, chunk), expected);
    }
    world.restart(0, true);
    let writer = device.join(&mut world, 0);
    world.publish(writer, &all[2..4]);
    world.settle();
    assert_eq!(
        last(&world, writer, &all[2]),
        STORED(Tier::Origin),
        "known, so free"
    );
    assert_eq!(last(&world, writer, &all[3]), REFUSED(Refused::Quota));
    // Half the time is over, and with it half of what they use.
    world.wait(HOUR / 2);
    let short = device.chunk(&world, 9, HOUR);
    world.publish(writer, &[short.clone(), device.chunk(&world, 10, HOUR)]);
    world.settle();
    assert_eq!(last(&world, writer, &short), STORED(Tier::Origin));
    let name = device.chunk(&world, 10, HOUR);
    assert_eq!(last(&world, writer, &name), REFUSED(Refused::Quota));
}

#[test]
fn an_organisation_has_a_quota_above_its_devices() {
    let mut world = World::new(&[Tier::Origin]);
    let devices = [7, 8].map(|number| Device::new(&world, number, GrantLimits::default()));
    let writers = [0, 1].map(|at: usize| devices[at].join(&mut world, 0));
    world.settle();
    let origin = world.place().origin;
    let account = crate::store::Account::Org(origin, 1);
    let used = |world: &mut World| {
        let usage = world.nodes[0].store().usage(account).unwrap();
        usage.byte_seconds(world.now)
    };
    // Room for five chunks of 1,000 bytes for an hour, beside the grants.
    let most = used(&mut world) + 5 * 1000 * 3600;
    world.nodes[0].config.limits.orgs = [((origin, 1), most)].into();
    for number in 0..4 {
        for (device, writer) in devices.iter().zip(writers) {
            let chunk = device.chunk(&world, number, HOUR);
            world.publish(writer, std::slice::from_ref(&chunk));
            world.settle();
        }
    }
    assert_eq!(world.held(0).len(), 5);
    assert_eq!(used(&mut world), most);
    assert_eq!(world.nodes[0].counters().refused[&Refused::Quota], 3);
}

#[test]
fn a_grants_rate_counts_over_all_its_links() {
    let mut world = World::new(&[Tier::Origin]);
    let limits = GrantLimits {
        chunks_per_second: 3,
        ..GrantLimits::default()
    };
    let device = Device::new(&world, 7, limits);
    let writers = [0, 1].map(|_| device.join(&mut world, 0));
    let all: Vec<Chunk> = (0..8).map(|n| device.chunk(&world, n, HOUR)).collect();
    world.publish(writers[0], &all[..2]);
    world.publish(writers[1], &all[2..5]);
    world.settle();
    assert_eq!(world.held(0).len(), 3);
    world.wait(1000);
    world.publish(writers[0], &all[5..]);
    world.settle();
    assert_eq!(world.held(0).len(), 6);
}

#[test]
fn no_chunk_lives_longer_than_the_relay_allows() {
    let limits = Limits {
        life_ms: HOUR / 2,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let writer = world.client(0);
    let chunk = world.chunk(1, 0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let outcomes = world.clients[writer].outcomes(chunk.name());
    assert_eq!(outcomes, [REFUSED(Refused::TooLongLived)]);
}

#[test]
fn an_origin_refuses_above_its_size_and_drops_nothing() {
    let limits = Limits {
        store_bytes: 10_000,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let writer = world.client(0);
    let chunks = world.chunks(0..30);
    world.publish(writer, &chunks);
    world.settle();
    let held = world.held(0).len();
    assert!((9..=11).contains(&held), "{held}");
    assert!(world.nodes[0].store().bytes() <= 10_000);
    let last = world.clients[writer].outcomes(chunks[29].name());
    assert_eq!(last, [REFUSED(Refused::StoreFull)]);
    assert_eq!(world.nodes[0].counters().evicted, 0);
    // It takes again when there is room.
    world.wait(HOUR);
    world.publish(writer, &[world.chunk(1, 99)]);
    world.settle();
    assert_eq!(world.held(0).len(), 1);
    assert_eq!(world.nodes[0].counters().expired, held as u64);
}

#[test]
fn an_organisation_has_a_quota_of_records_that_nothing_evicts() {
    let limits = Limits {
        grants: 8,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let writer = world.client(0);
    let issuer = (GrantId::of(&world.registration.grant), &world.founder());
    let end = world.now.plus_millis(HOUR);
    let record = |number, end| Revocation::Device(number).sign(world.place(), end, issuer);
    let records = (0..1030).filter_map(|number| record(number, end));
    let records: Vec<Chunk> = records.collect();
    let late = record(2000, end.plus_millis(HOUR)).unwrap();
    world.publish(writer, &records[..1000]);
    world.settle();
    world.restart(0, true);
    let writer = world.client(0);
    world.publish(writer, &records[1000..]);
    world.publish(writer, std::slice::from_ref(&late));
    world.settle();
    let counters = world.nodes[0].counters();
    assert_eq!(counters.refused.get(&Refused::Quota), Some(&7));
    // Their number falls with time.
    world.now = end;
    world.wait(60_000);
    world.publish(writer, std::slice::from_ref(&late));
    world.settle();
    let outcomes = world.clients[writer].outcomes(late.name());
    assert_eq!(outcomes.last(), Some(&STORED(Tier::Origin)));
}

#[test]
fn a_relay_evicts_only_what_its_parent_has() {
    let limits = Limits {
        store_bytes: 20_000,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Local], &limits);
    let writer = world.client(0);
    let chunks = world.chunks(0..60);
    for part in chunks.chunks(5) {
        world.publish(writer, part);
        world.settle();
    }
    // Nobody above has anything: all that was acknowledged is still here, the rest was refused.
    let held = world.held(0);
    assert!((19..=26).contains(&held.len()), "{}", held.len());
    for chunk in &chunks {
        let stored = world.clients[writer].outcomes(chunk.name()) == [STORED(Tier::Local)];
        assert_eq!(stored, held.contains(chunk));
    }
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    world.nodes[1].config.limits.store_bytes = 20_000;
    world.join(1, 0);
    let writer = world.client(1);
    for part in chunks.chunks(5) {
        world.publish(writer, part);
        world.settle();
    }
    assert_eq!(world.held(0), chunks);
    let held = world.held(1);
    assert!(
        held.len() >= 15 && world.nodes[1].store().bytes() <= 20_000,
        "{}",
        held.len()
    );
    assert_eq!(held, chunks[60 - held.len()..], "the newest");
    assert!(world.nodes[1].counters().evicted > 20);
    // What is gone is found above.
    let names = vec![chunks[0].name()];
    world.say(writer, &Frame::Fetch { id: 1, names });
    world.settle();
    assert_eq!(world.clients[writer].chunks(), chunks[..1]);
}

#[test]
fn retention_drops_here_what_lives_above() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    let channel = world.channel(1);
    let rule = |prefix, keep_ms| Retention { prefix, keep_ms };
    let rules = vec![rule(channel, 10_000), rule(world.team(), 1_800_000)];
    for node in &mut world.nodes {
        node.config.limits.retention = rules.clone();
    }
    let writer = world.client(1);
    let chunks = [1, 2].map(|channel| world.chunk(channel, 0));
    world.publish(writer, &chunks);
    world.wait(120_000);
    assert_eq!(world.held(1).len(), 2, "nobody above has them");
    world.join(1, 0);
    world.settle();
    world.wait(120_000);
    assert_eq!(world.held(1), chunks[1..]);
    world.wait(1_800_000);
    assert_eq!(world.held(1), []);
    assert_eq!(world.held(0), chunks);
}

#[test]
fn any_number_of_slow_readers_costs_a_known_amount() {
    let (window, total, readers) = (32_000, 100_000, 40);
    let limits = Limits {
        window_bytes: window,
        total_window_bytes: total,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let writer = world.client(0);
    let slow: Vec<usize> = (0..readers).map(|_| world.client(0)).collect();
    for reader in &slow {
        world.subscribe(*reader, 1, world.team(), Start::All);
    }
    world.settle();
    slow.iter()
        .for_each(|reader| world.clients[*reader].slow = true);
    let chunks = world.chunks(0..2000);
    for part in chunks.chunks(32) {
        world.publish(writer, part);
        world.settle();
    }
    let frame = 32 * 1200;
    let waiting: usize = slow
        .iter()
        .map(|reader| world.clients[*reader].undrained())
        .sum();
    let most = total + readers * (window / 16 + frame);
    assert!(
        waiting < most,
        "{waiting} of {most}; the backlog is {}",
        2000 * 900 * readers
    );
    assert_eq!(world.nodes[0].snapshot().waiting_bytes, waiting);
    for reader in slow {
        world.catch_up(reader);
        world.settle();
        assert_eq!(world.clients[reader].chunks(), chunks);
    }
    assert_eq!(world.nodes[0].snapshot().waiting_bytes, 0);
}

#[test]
fn a_used_up_quota_refuses_chunks_and_no_grants() {
    let origin = World::new(&[Tier::Origin]).place().origin;
    let limits = Limits {
        orgs: [((origin, 1), 1)].into(),
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let writer = world.client(0);
    let chunk = world.chunk(1, 0);
    world.settle();
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let outcomes = world.clients[writer].outcomes(chunk.name());
    assert_eq!(outcomes, [REFUSED(Refused::Quota)]);
}

#[test]
fn room_is_not_looked_for_again_while_nothing_can_make_any() {
    let limits = Limits {
        store_bytes: 5_000,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin, Tier::Local], &limits);
    world.nodes[0].config.limits.store_bytes = 0;
    let writer = world.client(1);
    let chunks = world.chunks(0..200);
    world.publish(writer, &chunks[..20]);
    world.settle();
    let looks = world.nodes[1].store().evictions();
    for chunk in &chunks[20..] {
        world.publish(writer, std::slice::from_ref(chunk));
        world.settle();
    }
    // Neither is there after a chunk that is here already, or a fetch.
    world.publish(writer, &chunks[..1]);
    world.settle();
    world.say(
        writer,
        &Frame::Fetch {
            id: 1,
            names: vec![world.name(9, 9)],
        },
    );
    world.settle();
    assert_eq!(world.nodes[1].store().evictions(), looks);
    // What the parent takes may go.
    world.join(1, 0);
    world.settle();
    assert!(world.nodes[1].store().bytes() <= 5_000);
    world.publish(writer, &chunks[20..21]);
    world.settle();
    let last = world.clients[writer].outcomes(chunks[20].name()).pop();
    assert_eq!(last, Some(STORED(Tier::Origin)));
}

#[test]
fn a_relay_that_is_full_of_links_still_gets_its_own() {
    let limits = Limits {
        links: 3,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin, Tier::Local], &limits);
    let strangers: Vec<usize> = (0..4).map(|_| world.stranger(1)).collect();
    world.settle();
    let closed = strangers.iter().map(|one| world.clients[*one].closed);
    let closed: Vec<Option<Closed>> = closed.collect();
    assert_eq!(closed, [None, None, None, Some(Closed::TooMany)]);
    world.join(1, 0);
    world.settle();
    let parent = world.nodes[1].snapshot().parent;
    assert_eq!(parent.and_then(|parent| parent.tier), Some(Tier::Origin));
    // On a device what comes from below over no network is its own Secure.
    let mut world = World::with_limits(&[Tier::Device], &limits);
    let guests: Vec<usize> = (0..4).map(|_| world.neighbour(0)).collect();
    let own = world.client(0);
    world.settle();
    assert_eq!(world.clients[guests[3]].closed, Some(Closed::TooMany));
    assert_eq!(world.clients[own].closed, None);
}

#[test]
fn what_trust_rests_on_is_neither_evicted_nor_kept_for_less() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    let everything = Prefix::of(world.team().first(), 24);
    world.nodes[1].config.limits.retention = vec![Retention {
        prefix: everything,
        keep_ms: 1000,
    }];
    world.join(1, 0);
    let writer = world.client(1);
    let fields = Fields::Record {
        kind: 1,
        serial: 77,
    };
    let place = world.place();
    let expiry = world.now.plus_millis(HOUR);
    let grant = GrantId::of(&world.registration.grant);
    let name = Name::new(place, fields);
    let record = Chunk::sign(name, expiry, grant, b"who", &world.founder()).unwrap();
    let chunk = world.chunk(1, 0);
    world.publish(writer, &[record.clone(), chunk.clone()]);
    world.settle();
    let outcomes = world.clients[writer].outcomes(record.name());
    assert_eq!(outcomes.last(), Some(&STORED(Tier::Origin)));
    world.wait(120_000);
    assert_eq!(world.held(1), []);
    world.nodes[1].config.limits.store_bytes = 1;
    world.wait(120_000);
    let kept = [world.registration.grant.name(), record.name()];
    for name in kept {
        assert!(world.nodes[1].store().get(name).unwrap().is_some());
    }
}

#[test]
fn who_asks_for_very_much_makes_nobody_else_wait() {
    let mut world = World::new(&[Tier::Origin]);
    let writer = world.client(0);
    let chunks = world.chunks(0..300);
    world.publish(writer, &chunks);
    world.settle();
    let (greedy, modest) = (world.client(0), world.client(0));
    for id in 0..500 {
        world.subscribe(greedy, id, world.team(), Start::All);
        let names = vec![world.name(9, id)];
        if id < 60 {
            world.say(
                greedy,
                &Frame::Fetch {
                    id: 1000 + id,
                    names,
                },
            );
        }
    }
    world.turn();
    world.subscribe(modest, 1, world.team(), Start::All);
    for _ in 0..5 {
        world.turn();
    }
    assert_eq!(world.clients[modest].chunks(), chunks);
    assert!(world.clients[greedy].chunks().len() < 2_000);
}
