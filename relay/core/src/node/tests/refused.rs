//! Chunks that the parent refuses for good.

use proto::{Chunk, Frame, Outcome, PublicKey, Refused, Tier};

use super::super::Event;
use super::world::World;
use super::{REFUSED, STORED};

fn serve(world: &mut World, origins: Vec<PublicKey>) {
    let now = world.now;
    world.nodes[0].handle(Event::Origins(origins), now);
}

/// How often the chunk has been sent from the relay to its parent.
fn sent_up(world: &World, chunk: &Chunk) -> usize {
    let published = world.between.iter().filter(|(_, to, frame)| {
        *to == 0 && matches!(frame, Frame::Publish(chunks) if chunks.contains(chunk))
    });
    published.count()
}

#[test]
fn a_parent_that_is_mended_gets_what_it_refused() {
    for reconnects in [true, false] {
        let mut world = World::new(&[Tier::Origin, Tier::Local]);
        serve(&mut world, vec![]);
        world.join(1, 0);
        let writer = world.client(1);
        let chunks = world.chunks(0..200);
        world.publish(writer, &chunks);
        world.settle();
        for _ in 0..20 {
            world.wait(7_000);
        }
        // No busy loop: a few go with each sweep.
        let sent = (sent_up(&world, &chunks[0]), sent_up(&world, &chunks[199]));
        assert_eq!(sent, (3, 1));
        // All and the grant; 64 of them go again with each of two sweeps.
        let refused = &world.nodes[1].counters().refused_above;
        assert_eq!(refused.get(&Refused::UnknownOrigin), Some(&(201 + 2 * 64)));
        let origin = world.origin.public_key();
        serve(&mut world, vec![origin]);
        if reconnects {
            world.part(0, 1);
            world.join(1, 0);
            world.settle();
        } else {
            world.wait(60_000);
        }
        for chunk in &chunks {
            let outcomes = world.clients[writer].outcomes(chunk.name());
            assert_eq!(outcomes, [STORED(Tier::Local), STORED(Tier::Origin)]);
        }
    }
}

#[test]
fn a_lying_parent_loses_no_chunk() {
    let lies = [
        Refused::Expired,
        Refused::BadSignature,
        Refused::TooLongLived,
    ];
    for reason in lies {
        let mut world = World::new(&[Tier::Origin, Tier::Local]);
        let liar = world.impostor(1, [9; 16]);
        let writer = world.client(1);
        let chunk = world.chunk(1, 0);
        world.publish(writer, std::slice::from_ref(&chunk));
        world.settle();
        let refused = vec![(chunk.name(), Outcome::Refused(reason))];
        world.say(liar, &Frame::Ack(refused));
        world.settle();
        world.leave(liar);
        world.join(1, 0);
        world.settle();
        let outcomes = world.clients[writer].outcomes(chunk.name());
        assert_eq!(outcomes, [STORED(Tier::Local), STORED(Tier::Origin)]);
    }
}

#[test]
fn what_has_expired_here_too_is_refused_for_good() {
    let mut world = World::new(&[Tier::Local]);
    let parent = world.impostor(0, [9; 16]);
    let writer = world.client(0);
    let chunk = world.chunk(1, 0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    world.now = chunk.expiry();
    let refused = vec![(chunk.name(), Outcome::Refused(Refused::Expired))];
    world.say(parent, &Frame::Ack(refused));
    world.settle();
    let last = world.clients[writer].outcomes(chunk.name()).pop();
    assert_eq!(last, Some(REFUSED(Refused::Expired)));
}

#[test]
fn who_publishes_hears_what_this_relay_refuses_for_good() {
    let mut world = World::new(&[Tier::Local]);
    let writer = world.client(0);
    serve(&mut world, vec![]);
    let chunk = world.chunk(1, 0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let outcomes = world.clients[writer].outcomes(chunk.name());
    assert_eq!(outcomes, [REFUSED(Refused::UnknownOrigin)]);
}
