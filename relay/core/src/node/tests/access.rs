//! Who may fill which names: grants, key packages, and what happens to those who try without.

use proto::{Chunk, Fields, Frame, GrantId, Misbehaved, Name, Refused, Signer, Tier};

use super::super::{Closed, Event, Limits};
use super::world::{START_MS, World, hello};
use super::{REFUSED, STORED};
use crate::store::Store as _;

#[test]
fn grants_decide_who_fills_what() {
    let mut world = World::new(&[Tier::Origin]);
    let writer = world.client(0);
    let (grant, key) = world.device(7);
    let id = GrantId::of(&grant);
    let place = world.place();
    let name = |device, number| {
        Name::new(
            place,
            Fields::Message {
                channel: 1,
                device,
                number,
            },
        )
    };
    let hour = 3_600_000;
    let sign = |name, life_ms: u64, by: &Signer| {
        let expiry = proto::Timestamp::from_millis(START_MS + life_ms);
        Chunk::sign(name, expiry, id, b"x", by).unwrap()
    };
    let good = sign(name(7, 1), hour, &key);
    let outside = sign(name(8, 1), hour, &key);
    let long = sign(name(7, 2), 11 * hour, &key);
    let expired = sign(name(7, 3), 0, &key);
    world.publish(writer, std::slice::from_ref(&good));
    world.settle();
    assert_eq!(
        world.clients[writer].outcomes(good.name()),
        [REFUSED(Refused::NoGrant)]
    );
    world.say(
        writer,
        &Frame::Grant(vec![world.registration.grant.clone(), grant.clone()]),
    );
    let all = [good.clone(), outside.clone(), long.clone(), expired.clone()];
    world.publish(writer, &all);
    world.settle();
    for (chunk, expected) in [
        (&good, STORED(Tier::Origin)),
        (&outside, REFUSED(Refused::OutsideGrant)),
        (&long, REFUSED(Refused::TooLongLived)),
        (&expired, REFUSED(Refused::Expired)),
    ] {
        assert_eq!(
            world.clients[writer].outcomes(chunk.name()).last(),
            Some(&expected)
        );
    }
    // Grants survive a restart, for they are chunks like others.
    world.restart(0, true);
    let writer = world.stranger(0);
    world.say(writer, &hello(world.now, Tier::Device));
    let more = sign(name(7, 5), hour, &key);
    world.publish(writer, std::slice::from_ref(&more));
    world.settle();
    assert_eq!(
        world.clients[writer].outcomes(more.name()),
        [STORED(Tier::Origin)]
    );
}

#[test]
fn an_ended_grant_stays_ended_over_a_restart() {
    let mut world = World::new(&[Tier::Origin]);
    let writer = world.client(0);
    let (grant, key) = world.device(7);
    let (place, registration) = (world.place(), world.registration.clone());
    let expiry = proto::Timestamp::from_millis(START_MS + 3_600_000);
    let sign = |number| {
        let fields = Fields::Message {
            channel: 1,
            device: 7,
            number,
        };
        let name = Name::new(place, fields);
        Chunk::sign(name, expiry, GrantId::of(&grant), b"x", &key).unwrap()
    };
    let issuer = Signer::from_seed(&registration.seed);
    let issuer = (GrantId::of(&registration.grant), &issuer);
    let record = proto::Revocation::Device(7).sign(place, expiry, issuer);
    let chain = vec![registration.grant.clone(), grant.clone()];
    world.say(writer, &Frame::Grant(chain));
    let good = sign(1);
    world.publish(writer, &[good.clone(), record.unwrap()]);
    world.settle();
    assert_eq!(
        world.clients[writer].outcomes(good.name()),
        [STORED(Tier::Origin)]
    );
    world.restart(0, true);
    let writer = world.stranger(0);
    world.say(writer, &hello(world.now, Tier::Device));
    let late = sign(2);
    world.publish(writer, std::slice::from_ref(&late));
    world.settle();
    assert_eq!(
        world.clients[writer].outcomes(late.name()),
        [REFUSED(Refused::GrantExpired)]
    );
}

#[test]
fn junk_under_a_good_grant_ends_the_link_and_the_truth_gets_through() {
    let mut world = World::new(&[Tier::Origin]);
    let writer = world.client(0);
    let truth = world.chunk(1, 0);
    let thief = Signer::from_seed(&[66; 32]);
    let junk = Chunk::sign(truth.name(), truth.expiry(), truth.grant(), b"junk", &thief).unwrap();
    let squatter = world.client(0);
    // Both wait for the same commit.
    world.publish(squatter, &[junk.clone(), world.chunk(1, 1)]);
    world.publish(writer, std::slice::from_ref(&truth));
    world.settle();
    let closed = Some(Closed::Misbehaved(Misbehaved::BadSignature));
    assert_eq!(world.clients[squatter].closed, closed);
    assert_eq!(
        world.clients[squatter].outcomes(junk.name()),
        [REFUSED(Refused::BadSignature)]
    );
    assert_eq!(
        world.clients[writer].outcomes(truth.name()),
        [STORED(Tier::Origin)]
    );
    let next = world.name(1, 1);
    assert_eq!(
        world.nodes[0].store().get(next),
        Ok(None),
        "nothing more is taken from the thief"
    );
}

#[test]
fn a_grant_that_widens_or_is_another_origins_is_refused() {
    let mut world = World::new(&[Tier::Origin]);
    let (device, key) = world.device(7);
    let writer = world.client(0);
    world.say(writer, &Frame::Grant(vec![device.clone()]));
    let (inner, _) = world.device(8);
    let inner = proto::Grant::decode(&inner).unwrap();
    let wider = inner
        .sign(world.place(), 8, GrantId::of(&device), &key)
        .unwrap();
    world.publish(writer, std::slice::from_ref(&wider));
    let stranger = Signer::from_seed(&[99; 32]);
    let not_after = world.now.plus_millis(1000);
    let foreign = proto::Registration::issue(&stranger, 1, [5; 32], not_after)
        .unwrap()
        .grant;
    world.publish(writer, std::slice::from_ref(&foreign));
    world.settle();
    assert_eq!(
        world.clients[writer].outcomes(wider.name()),
        [REFUSED(Refused::BadGrant)]
    );
    assert_eq!(
        world.clients[writer].outcomes(foreign.name()),
        [REFUSED(Refused::UnknownOrigin)]
    );
}

fn key_package(world: &World, seed: u8, fragment: u8) -> Chunk {
    let key = Signer::from_seed(&[seed; 32]);
    let fingerprint = key.public_key().fingerprint().name_bits();
    let name = Name::new(
        world.place(),
        Fields::KeyPackage {
            fingerprint,
            fragment,
        },
    );
    let data = [key.public_key().0.as_slice(), b"package"].concat();
    Chunk::sign(
        name,
        world.now.plus_millis(1000),
        GrantId::NONE,
        &data,
        &key,
    )
    .unwrap()
}

#[test]
fn a_key_package_needs_no_grant_and_has_a_quota() {
    let limits = Limits {
        key_packages_per_minute: 3,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin], &limits);
    let joiner = world.stranger(0);
    world.say(joiner, &hello(world.now, Tier::Device));
    let packages: Vec<Chunk> = (0..4)
        .map(|fragment| key_package(&world, 9, fragment))
        .collect();
    world.publish(joiner, &packages);
    world.settle();
    let outcome = |world: &World, chunk: &Chunk| world.clients[joiner].outcomes(chunk.name());
    assert_eq!(outcome(&world, &packages[2]), [STORED(Tier::Origin)]);
    assert_eq!(outcome(&world, &packages[3]), [REFUSED(Refused::Quota)]);
    world.wait(20_000);
    let name = key_package(&world, 10, 0).name();
    let key = Signer::from_seed(&[9; 32]);
    let squat = Chunk::sign(
        name,
        world.now.plus_millis(1000),
        GrantId::NONE,
        &key.public_key().0,
        &key,
    );
    let squat = squat.unwrap();
    world.publish(joiner, std::slice::from_ref(&squat));
    world.settle();
    assert_eq!(outcome(&world, &squat), [REFUSED(Refused::OutsideGrant)]);
}

#[test]
fn a_device_waits_for_the_origin_that_its_configuration_brings() {
    let mut world = World::new(&[Tier::Device]);
    world.nodes[0].handle(Event::Origins(Vec::new()), world.now);
    let writer = world.client(0);
    let chunk = world.chunk(1, 0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let origin = world.origin.public_key();
    world.nodes[0].handle(Event::Origins(vec![origin]), world.now);
    let grant = world.registration.grant.clone();
    world.say(writer, &Frame::Grant(vec![grant]));
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let outcomes = [REFUSED(Refused::NoGrant), STORED(Tier::Device)];
    assert_eq!(world.clients[writer].outcomes(chunk.name()), outcomes);
}
