//! How long the secrets of a state stay, and that they are gone then: from the table and from the files.

use endpoint_secure_api::Command;
use proto::limits::DAY_MS;

use super::world::{Template, World};
use crate::device::Event;

/// One more state, made by the owner.
fn move_on(world: &mut World, on: bool) {
    let channel = world.channel();
    world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
    world.settle();
}

/// Namespaces of the states that a device keeps, and all namespaces on its disk.
fn namespaces(world: &mut World, at: usize) -> (Vec<i64>, usize) {
    let team = world.team;
    let device = world.peers[at].device.as_mut();
    let session = device.and_then(|one| one.open_session()).unwrap();
    let mut states: Vec<_> = session.states(team).collect();
    states.sort_by_key(|state| state.epoch);
    let kept = states.iter().filter_map(|state| state.namespace).collect();
    (kept, session.store.namespaces().len())
}

/// The rows of a namespace, and whether a file of the device holds any of them.
fn sealed_rows(world: &mut World, at: usize, namespace: i64) -> Vec<Vec<u8>> {
    let device = world.peers[at].device.as_mut();
    let session = device.and_then(|one| one.open_session()).unwrap();
    session.store.sealed_rows(namespace)
}

#[test]
fn each_state_has_a_namespace_and_keeps_it_a_week_after_its_child_is_sealed() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    // Sealed is what more than half have spoken in.
    for at in 0..4 {
        assert!(world.say(at, &format!("from {at}"), 5));
    }
    world.settle();
    let old = world.tip(3).unwrap().namespace.unwrap();
    move_on(&mut world, true);
    move_on(&mut world, false);
    for at in 0..4 {
        assert!(world.say(at, &format!("later {at}"), 6));
    }
    world.settle();
    let tip = world.tip(3).unwrap().namespace.unwrap();
    let (kept, _) = namespaces(&mut world, 3);
    assert!(kept.contains(&old) && kept.contains(&tip) && old != tip);
    world.now = world.now.plus_millis(6 * DAY_MS);
    assert!(world.say(0, "six days on", 7));
    world.settle();
    assert!(namespaces(&mut world, 3).0.contains(&old));
    let rows = sealed_rows(&mut world, 3, old);
    assert!(rows.len() > 5 && world.files_hold(3, &rows[0]));
    world.now = world.now.plus_millis(2 * DAY_MS);
    for at in 0..4 {
        assert!(world.say(at, &format!("eight days on {at}"), 8));
    }
    move_on(&mut world, true);
    let (kept, _) = namespaces(&mut world, 3);
    assert!(!kept.contains(&old) && kept.contains(&tip));
    assert!(sealed_rows(&mut world, 3, old).is_empty());
    for row in rows {
        assert!(
            !world.files_hold(3, &row),
            "a deleted secret stands in a file"
        );
    }
    // What is in use is not touched.
    assert!(world.say(0, "still here", 9));
    world.settle();
    assert!(world.texts(3).iter().any(|(text, _)| text == "still here"));
}

#[test]
fn no_state_is_kept_over_thirty_days_and_no_more_than_sixty_four_are() {
    let mut world = Template::new(3, 0).world();
    world.settle();
    // Two of three are silent: nothing is ever sealed by them.
    world.peers[1].island = 1;
    world.peers[2].island = 1;
    let first = world.tip(0).unwrap().namespace.unwrap();
    for turn in 0..70 {
        move_on(&mut world, turn % 2 == 0);
    }
    let (kept, all) = namespaces(&mut world, 0);
    assert_eq!(kept.len(), 64);
    assert!(!kept.contains(&first));
    assert!(all <= 64 + 8, "{all} namespaces for 64 states");
    world.now = world.now.plus_millis(31 * DAY_MS);
    move_on(&mut world, true);
    move_on(&mut world, false);
    let (kept, _) = namespaces(&mut world, 0);
    assert!(
        kept.len() <= 4,
        "{} states are older than a month",
        kept.len() - 2
    );
}

/// Only the clock of a device goes on: nobody writes, and nothing comes.
fn only_tick(world: &mut World, at: usize, days: u64) {
    let then = world.now.plus_millis(days * DAY_MS);
    while let Some(due) = world.next_timeout(at)
        && due <= then
    {
        world.now = world.now.max(due);
        world.handle(at, Event::Tick);
    }
    world.now = then;
}

#[test]
fn secrets_go_in_a_team_where_nothing_happens() {
    for (sealed, days) in [(true, 7), (false, 30)] {
        let mut world = Template::new(4, 0).world();
        world.settle();
        let speakers = if sealed { 4 } else { 1 };
        move_on(&mut world, true);
        let old = namespaces(&mut world, 3).0;
        move_on(&mut world, false);
        for at in 0..speakers {
            assert!(world.say(3 - at, &format!("from {at}"), 5));
        }
        world.settle();
        let tip = world.tip(3).unwrap().namespace.unwrap();
        let rows = sealed_rows(&mut world, 3, old[0]);
        assert!(rows.len() > 5);
        only_tick(&mut world, 3, days - 1);
        assert!(namespaces(&mut world, 3).0.contains(&old[0]));
        only_tick(&mut world, 3, 2);
        let (kept, _) = namespaces(&mut world, 3);
        // A renewed leaf may have made one more.
        assert!(kept.contains(&tip), "after {days} days");
        assert!(old.iter().all(|one| !kept.contains(one)));
        for row in rows {
            assert!(!world.files_hold(3, &row));
        }
        // The others have heard nothing of that day, and all go on together.
        assert!(world.say(0, "good morning", 9));
        world.settle();
        assert!(
            world
                .texts(3)
                .iter()
                .any(|(text, _)| text == "good morning")
        );
    }
}

#[test]
fn who_was_away_is_told_why_no_more_messages_wait() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    world.handle(3, Event::NetDown);
    world.now = world.now.plus_millis(7 * DAY_MS);
    for number in 0..256 {
        assert!(world.say(3, &format!("message {number}"), number));
    }
    let (channel, text, token) = (world.channel(), "one more".to_owned(), 256);
    let send = Command::Send {
        channel,
        text,
        token,
    };
    let refusal = world.ask(3, send.clone()).unwrap_err();
    assert!(refusal.text.contains("was away for days"), "{refusal:?}");
    // What it says to do helps.
    world.restart(3);
    world.settle();
    world.ask(3, send).unwrap();
    world.settle();
    assert_eq!(world.texts(0).len(), 257);
}
