//! What showing grants may cost the node.

use proto::{
    Chunk, Frame, Grant, GrantId, Limits as GrantLimits, Pattern, Refused, Registration, Rule,
    Signer, Tier, Verbs,
};

use super::super::Limits;
use super::world::World;

const HOUR: u64 = 3_600_000;

/// A grant for all of an organisation below another, with this number for its device and its key.
fn below(world: &World, device: u32, parent: &Chunk, by: &Signer) -> (Chunk, Signer) {
    let place = parent.name().place();
    let key = Signer::from_seed(&[device as u8 ^ 128; 32]);
    let grant = Grant {
        subject: key.public_key(),
        not_after: world.now.plus_millis(HOUR),
        limits: GrantLimits::default(),
        rules: vec![Rule {
            verbs: Verbs::ALL,
            pattern: Pattern::of_org(place.origin, place.org),
        }],
    };
    let grant = grant.sign(place, device, GrantId::of(parent), by).unwrap();
    (grant, key)
}

/// So many grants that the organisation's own has given.
fn many(world: &World, count: u32) -> Vec<Chunk> {
    let root = &world.registration.grant;
    let key = world.founder();
    let grants = (1..=count).map(|device| below(world, device, root, &key).0);
    grants.collect()
}

fn show(world: &mut World, client: usize, grants: &[Chunk]) {
    for part in grants.chunks(8) {
        world.say(client, &Frame::Grant(part.to_vec()));
    }
    world.settle();
}

fn known(world: &World) -> usize {
    world.nodes[0].snapshot().grants
}

fn refused(world: &World, reason: Refused) -> u64 {
    let counters = world.nodes[0].counters();
    counters.refused.get(&reason).copied().unwrap_or(0)
}

#[test]
fn a_full_table_is_seen_before_a_signature() {
    let limits = Limits {
        grants: 1,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let client = world.client(0);
    let unsigned = below(
        &world,
        1,
        &world.registration.grant,
        &Signer::from_seed(&[77; 32]),
    );
    show(&mut world, client, &[unsigned.0]);
    assert_eq!(world.clients[client].closed, None);
    assert_eq!(refused(&world, Refused::Quota), 1);
}

#[test]
fn a_long_chain_is_seen_before_a_signature() {
    let mut world = World::new(&[Tier::Origin]);
    let client = world.client(0);
    let (mut grant, mut key) = (world.registration.grant.clone(), world.founder());
    for device in 2..=8 {
        (grant, key) = below(&world, device, &grant, &key);
        show(&mut world, client, std::slice::from_ref(&grant));
    }
    assert_eq!(known(&world), 8);
    let unsigned = below(&world, 9, &grant, &Signer::from_seed(&[77; 32])).0;
    show(&mut world, client, &[unsigned]);
    assert_eq!(world.clients[client].closed, None);
    assert_eq!(refused(&world, Refused::BadGrant), 1);
}

#[test]
fn new_grants_come_at_the_rate_of_chunks_and_known_ones_at_any() {
    let limits = Limits {
        chunks_per_second: 2,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let client = world.client(0);
    let grants = many(&world, 6);
    for expected in [2, 4, 6, 7, 7] {
        show(&mut world, client, &grants);
        assert_eq!(known(&world), expected);
        world.wait(1000);
    }
    assert_eq!(world.clients[client].closed, None);
}

#[test]
fn an_organisation_cannot_fill_the_table_for_others() {
    let limits = Limits {
        grants: 1100,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let client = world.client(0);
    let grants = many(&world, 1100);
    for part in grants.chunks(8) {
        show(&mut world, client, part);
    }
    assert_eq!(known(&world), 1024);
    let not_after = world.now.plus_millis(HOUR);
    let other = Registration::issue(&world.origin, 2, [4; 32], not_after).unwrap();
    show(&mut world, client, &[other.grant]);
    assert_eq!(known(&world), 1025);
    // What has gone makes room.
    world.wait(HOUR);
    world.wait(60_000);
    let more = many(&world, 3);
    show(&mut world, client, &more);
    assert_eq!(known(&world), 4);
}
