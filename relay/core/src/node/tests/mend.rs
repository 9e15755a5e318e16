//! What becomes of chunks that the store has found damaged.

use proto::{Start, Tier};

use super::super::Note;
use super::tree;
use super::world::World;

#[test]
fn a_damaged_chunk_comes_back_from_above_and_goes_to_who_waits() {
    let mut world = tree();
    let writer = world.client(2);
    let chunks = world.chunks(0..20);
    world.publish(writer, &chunks);
    world.settle();
    let lost = [&chunks[3], &chunks[11]];
    for chunk in lost {
        world.nodes[2].store().damage(chunk.name());
    }
    let reader = world.client(2);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    let mut held = world.held(2);
    held.sort_by_key(|chunk| chunk.name());
    assert_eq!(held, chunks);
    let mut seen = world.clients[reader].chunks();
    seen.sort_by_key(|chunk| chunk.name());
    assert_eq!(seen, chunks);
    assert_eq!(world.nodes[2].counters().damaged, 2);
    let told = lost.map(|chunk| {
        let note = Note::Damaged {
            name: chunk.name(),
            asked: true,
        };
        world
            .notes
            .iter()
            .filter(|told| **told == (2, note.clone()))
            .count()
    });
    assert_eq!(told, [1, 1]);
}

#[test]
fn what_was_damaged_while_the_parent_was_away_is_asked_for_when_it_is_back() {
    let mut world = tree();
    let writer = world.client(2);
    let chunks = world.chunks(0..5);
    world.publish(writer, &chunks);
    world.settle();
    world.part(2, 1);
    world.nodes[2].store().damage(chunks[1].name());
    world.restart(2, false);
    world.settle();
    assert_eq!(world.held(2).len(), 4);
    world.join(2, 1);
    world.settle();
    assert_eq!(world.held(2).len(), 5);
    // Nothing remembers the name: subscriptions reconcile, because none resumes where it was.
    world.nodes[2].store().damage(chunks[2].name());
    let _ = crate::store::Store::take_damage(world.nodes[2].store());
    world.restart(2, false);
    world.join(2, 1);
    let reader = world.client(2);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    assert_eq!(world.held(2).len(), 5);
}

#[test]
fn an_origin_has_nobody_to_ask_and_says_so() {
    let mut world = World::new(&[Tier::Origin]);
    let writer = world.client(0);
    let chunks = world.chunks(0..2);
    world.publish(writer, &chunks);
    world.settle();
    world.nodes[0].store().damage(chunks[0].name());
    world.publish(writer, &chunks[1..]);
    world.settle();
    let note = Note::Damaged {
        name: chunks[0].name(),
        asked: false,
    };
    assert!(world.notes.contains(&(0, note)));
    world.publish(writer, &chunks);
    world.settle();
    assert_eq!(world.held(0).len(), 2, "it takes it again");
}
