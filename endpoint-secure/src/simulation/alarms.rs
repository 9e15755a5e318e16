//! What a changed client does is kept, said once, and shown beside its device.

use endpoint_secure_api::{Answer, Command};
use proto::limits::{DAY_MS, MESSAGE_FRAGMENTS};
use proto::{Fields, Name, split};

use super::world::{Template, World};
use crate::device::Event;
use crate::group::Change;
use crate::message::{Entry, kind};
use crate::naming;
use crate::store::outbox::NO_MESSAGE;

/// What a peer is shown beside another's device.
fn warning(world: &mut World, at: usize, of: usize) -> String {
    let (team, number) = (world.team, world.number(of));
    let Ok(Answer::Devices(devices)) = world.ask(at, Command::Devices { team }) else {
        panic!("no devices");
    };
    let mut found = devices.into_iter().filter(|one| one.device == number);
    found.next().unwrap().warning
}

/// The others were told once, and are shown it still after they were started anew.
fn is_known(world: &mut World, liar: usize, words: &str) {
    world.settle();
    for at in (0..4).filter(|at| *at != liar) {
        let told = world.peers[at].told.clone();
        let count = told.iter().filter(|line| line.contains(words)).count();
        assert_eq!(count, 1, "{told:?}");
        world.restart(at);
        world.settle();
        assert!(warning(world, at, liar).contains(words), "{at}");
        assert_eq!(warning(world, at, (liar + 1) % 4), "");
    }
}

/// Writes an entry that is changed before it is encrypted.
fn write_changed(world: &mut World, at: usize, change: impl FnOnce(&mut Entry)) {
    let (channel, now) = (world.channel(), world.now);
    let session = world.session(at).unwrap();
    session.begin(now).unwrap();
    let team = session.team(channel.team).unwrap().clone();
    let row = session.know_channel(team.id, channel.channel, "").unwrap();
    let feed = session.feed(row, team.device);
    let fields = Fields::Message {
        channel: channel.channel,
        device: team.device,
        number: feed.next,
    };
    let name = Name::new(naming::place(team.id), fields);
    let namespace = session.tip_namespace(&team).unwrap();
    session.load_group(team.id, namespace).unwrap();
    let text = (kind::TEXT, &b"changed"[..]);
    let mut entry = session.compose(&team, &feed, namespace, text).unwrap();
    change(&mut entry);
    let sealed = session
        .encrypt(&team, namespace, name, &entry.encode())
        .unwrap();
    let parts = split(&sealed, MESSAGE_FRAGMENTS).unwrap();
    for chunk in session.sign_run(&team, name, &parts, DAY_MS).unwrap() {
        session.store.post(&chunk, (NO_MESSAGE, 0, 0)).unwrap();
    }
    session.commit().unwrap();
    world.handle(at, Event::Tick);
}

#[test]
fn other_secrets_for_one_state_raise_the_alarm() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    write_changed(&mut world, 1, |entry| entry.auth_tag[0] ^= 1);
    is_known(&mut world, 1, "other secrets");
}

#[test]
fn an_entry_that_does_not_follow_the_one_before_is_evidence() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    assert!(world.say(3, "first", 1));
    world.settle();
    write_changed(&mut world, 3, |entry| entry.prev_hash[0] ^= 1);
    is_known(&mut world, 3, "do not follow each other");
}

#[test]
fn two_commits_of_one_state_are_evidence() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    let (team, now) = (world.team, world.now);
    let session = world.session(1).unwrap();
    let parent = session.memory.teams[&team].tip;
    for _ in 0..2 {
        session.begin(now).unwrap();
        session.memory.teams.get_mut(&team).unwrap().tip = parent;
        session.make(team, (Change::default(), None)).unwrap();
        session.commit().unwrap();
    }
    world.handle(1, Event::Tick);
    is_known(&mut world, 1, "two different changes");
}
