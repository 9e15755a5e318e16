//! Insiders who would make others deaf: what they send costs nobody else anything.

use std::collections::BTreeSet;

use endpoint_secure_api::{Answer, Code, Command};
use proto::limits::DAY_MS;
use proto::{Chunk, Fields, Name, split};

use super::world::{Template, World};
use crate::device::Event;
use crate::message::kind;
use crate::naming;
use crate::operation::What;

/// Where in its feed the insider goes on: what it says honestly stays before it.
const FAR: u32 = 1_000;

fn name(world: &World, device: u32, number: u32) -> Name {
    let fields = Fields::Message {
        channel: world.channel().channel,
        device,
        number,
    };
    Name::new(naming::place(world.team), fields)
}

/// Fragments whose first never comes.
fn pieces(world: &mut World, at: usize, count: usize) -> Vec<Chunk> {
    let device = world.number(at);
    let (first, team) = (name(world, device, FAR), world.team);
    let session = world.session(at).unwrap();
    let team = session.team(team).unwrap().clone();
    let parts = vec![vec![2; 40]; count];
    session.sign_run(&team, first, &parts, 30 * DAY_MS).unwrap()
}

/// Messages of a state that nobody has.
fn astray(world: &mut World, at: usize, count: u32) -> Vec<Chunk> {
    let (device, channel, now) = (world.number(at), world.channel(), world.now);
    let names: Vec<Name> = (0..count)
        .map(|index| name(world, device, FAR / 2 + index))
        .collect();
    let session = world.session(at).unwrap();
    session.begin(now).unwrap();
    let mut team = session.team(channel.team).unwrap().clone();
    let row = session.know_channel(team.id, channel.channel, "").unwrap();
    let feed = session.feed(row, device);
    let namespace = session.tip_namespace(&team).unwrap();
    session.load_group(team.id, namespace).unwrap();
    let text = (kind::TEXT, &b"astray"[..]);
    let entry = session.compose(&team, &feed, namespace, text).unwrap();
    team.tip = [9; 8];
    let mut chunks = Vec::new();
    for name in names {
        let sealed = session.encrypt(&team, namespace, name, &entry.encode());
        let parts = split(&sealed.unwrap(), 1).unwrap();
        chunks.extend(session.sign_run(&team, name, &parts, DAY_MS).unwrap());
    }
    session.commit().unwrap();
    chunks
}

fn waiting(world: &mut World, at: usize) -> usize {
    world.session(at).unwrap().memory.waiting.len()
}

#[test]
fn a_member_who_floods_a_team_makes_nobody_deaf() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    assert!(world.say(3, "honest", 9));
    world.settle();
    let chunks = pieces(&mut world, 3, 20_500);
    world.publish_as(3, chunks);
    let chunks = astray(&mut world, 3, 400);
    world.publish_as(3, chunks);
    world.settle();
    assert_eq!(waiting(&mut world, 1), 7_500);
    let told = |world: &World, at: usize| {
        let lines = world.peers[at].told.iter();
        lines.filter(|line| line.contains("too many")).count()
    };
    assert_eq!(told(&world, 1), 1, "{:?}", world.peers[1].told);

    // A message of one chunk, one of many, and a change of the team.
    assert!(world.say(2, "still heard", 1));
    let long = "long ".repeat(1_000);
    assert!(world.say(2, &long, 2));
    let (channel, on) = (world.channel(), true);
    world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
    world.settle();
    for at in [0, 1] {
        let texts: Vec<String> = world.texts(at).into_iter().map(|one| one.0).collect();
        assert_eq!(texts, ["honest", "still heard", long.as_str()]);
        assert!(world.tip(at).unwrap().roles.announce.contains(&1));
    }
    // Also for who was started anew, and knows only what is on its disk.
    world.restart(1);
    assert!(world.say(0, "and later", 3));
    world.settle();
    assert_eq!(world.texts(1).len(), 4);
    assert!(waiting(&mut world, 1) <= 7_500);

    // What relays keep no longer waits no longer.
    world.now = world.now.plus_millis(31 * DAY_MS);
    world.settle();
    assert_eq!(waiting(&mut world, 1), 0);
}

#[test]
fn what_a_device_sends_that_was_removed_long_ago_does_not_wait() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    assert!(world.say(3, "honest", 9));
    world.settle();
    let (team, device) = (world.team, world.number(3));
    world
        .ask(0, Command::RemoveDevice { team, device })
        .unwrap();
    world.settle();
    let mut chunks = pieces(&mut world, 3, 100);
    let later = chunks.split_off(50);
    world.publish_as(3, chunks);
    for at in 0..3 {
        assert!(world.say(at, "bye", 2));
    }
    world.settle();
    assert_eq!(waiting(&mut world, 1), 50);
    world.now = world.now.plus_millis(8 * DAY_MS);
    world.handle(1, Event::Tick);
    world.publish_as(3, later);
    world.settle();
    // What came before goes when it expires.
    assert_eq!(waiting(&mut world, 1), 50);
    assert!(world.say(0, "later", 3));
    world.settle();
    assert!(world.texts(1).iter().any(|(text, _)| text == "later"));
}

/// A relay that keeps the first of many changes of a team back until the others are there.
#[test]
fn a_long_chain_of_changes_whose_first_comes_last_is_used_to_its_end() {
    let mut world = Template::new(3, 0).world();
    world.settle();
    world.peers[0].island = 1;
    let before = world.chunks(0).len();
    let (channel, changes) = (world.channel(), 200);
    for turn in 0..changes {
        let on = turn % 2 == 0;
        world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
        world.settle();
    }
    let chain: Vec<Chunk> = world.chunks(0)[before..]
        .iter()
        .filter(|chunk| matches!(chunk.name().fields(), Fields::Commit { .. }))
        .cloned()
        .collect();
    assert!(chain.len() >= changes);
    let (first, rest) = chain.split_at(1);
    world.publish_as(1, rest.to_vec());
    world.settle();
    assert_eq!(waiting(&mut world, 1), rest.len());
    world.publish_as(1, first.to_vec());
    world.settle();
    assert_eq!(waiting(&mut world, 1), 0);
    let [theirs, ours] = [0, 1].map(|at| world.tip(at).unwrap().id);
    assert_eq!(theirs, ours);
}

/// The owner hears both what was said by who asks for the impossible, and what others say after it.
fn is_heard(world: &mut World, from: usize) {
    assert!(world.say(from, "and this", 1));
    assert!(world.say(2, "still heard", 2));
    world.settle();
    let texts: BTreeSet<String> = world.texts(0).into_iter().map(|one| one.0).collect();
    assert_eq!(
        texts,
        BTreeSet::from(["and this", "still heard"].map(String::from))
    );
    let lines = world.peers[0].told.iter();
    let told = lines.filter(|line| line.contains("too many")).count();
    assert_eq!(told, 1, "{:?}", world.peers[0].told);
}

#[test]
fn a_request_that_is_refused_holds_up_nothing() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    let (team, number) = (world.team, world.number(3));
    for index in 0..256 {
        let fingerprint = format!("{index:064x}");
        world
            .ask(0, Command::AddDevice { team, fingerprint })
            .unwrap();
    }
    for _ in 0..3 {
        let fingerprint = "ab".repeat(32);
        world.ask(3, Command::LinkDevice { fingerprint }).unwrap();
    }
    world.settle();
    is_heard(&mut world, 3);
    assert!(world.tip(0).unwrap().devices.contains(&number));
}

/// Notes as many changes as may wait, none of which can be made.
fn fill_changes(world: &mut World, at: usize) {
    let (team, now) = (world.team, world.now);
    let session = world.session(at).unwrap();
    session.begin(now).unwrap();
    for index in 0..=u8::MAX {
        let fingerprint = [index; 32];
        session.ask_for(team, What::Add { fingerprint }).unwrap();
    }
    session.commit().unwrap();
}

#[test]
fn changes_in_effect_take_no_room_from_those_that_wait() {
    let mut world = Template::new(4, 0).world();
    world.settle();
    let team = world.team;
    let changes = &world.session(0).unwrap().memory.operations;
    assert!(changes.values().any(|one| one.made.is_some()));
    fill_changes(&mut world, 0);
    let device = world.number(3);
    let remove = Command::RemoveDevice { team, device };
    assert_eq!(world.ask(0, remove).unwrap_err().code, Code::Usage);
}

#[test]
fn a_removal_for_which_there_is_no_room_holds_up_nothing() {
    let mut world = Template::new(5, 0).world();
    world.settle();
    fill_changes(&mut world, 0);
    let Ok(Answer::Status(status)) = world.ask(4, Command::Status) else {
        panic!("no status");
    };
    let fingerprint = status.profile.unwrap().fingerprint;
    let link = Command::LinkDevice {
        fingerprint: fingerprint.clone(),
    };
    world.ask(3, link).unwrap();
    world.settle();
    world.ask(3, Command::UnlinkDevice { fingerprint }).unwrap();
    world.settle();
    is_heard(&mut world, 3);
}

#[test]
fn who_is_expected_comes_in_when_there_is_room_for_it() {
    let mut world = Template::new(4, 1).world();
    world.settle();
    fill_changes(&mut world, 0);
    world.bring_in(0, 4);
    world.settle();
    assert_eq!(world.tip(0).unwrap().devices.len(), 4);
    let (team, now) = (world.team, world.now);
    let session = world.session(0).unwrap();
    session.begin(now).unwrap();
    for key in session.operations_of(team) {
        session.drop_operation(key).unwrap();
    }
    session.commit().unwrap();
    world.settle();
    assert_eq!(world.tip(0).unwrap().devices.len(), 5);
}

/// What lies at a relay in another order than it was written: its author's first messages were refused at
/// first. More comes before them than keys of skipped messages are kept.
#[test]
fn a_backlog_whose_beginning_comes_last_is_read_whole() {
    let mut world = Template::new(3, 0).world();
    world.settle();
    world.peers[0].island = 1;
    let before = world.chunks(0).len();
    for number in 0..1_100 {
        assert!(world.say(0, &number.to_string(), number));
        if number % 200 == 0 {
            world.settle();
        }
    }
    world.settle();
    let said: Vec<Chunk> = world.chunks(0)[before..].to_vec();
    assert_eq!(said.len(), 1_100);
    world.restart(1);
    world.settle();
    let (late, early) = said.split_at(20);
    for page in early.chunks(200) {
        world.deliver(1, page, false);
    }
    world.now = world.now.plus_millis(1_000);
    world.handle(1, Event::Tick);
    world.deliver(1, late, true);
    assert_eq!(waiting(&mut world, 1), 0);
    let (device, channel) = (world.number(0), world.channel());
    let session = world.session(1).unwrap();
    let row = session.memory.channels[&channel].row;
    assert_eq!(session.feed(row, device).base, 0);
    let read = (0..1_100).filter(|one| session.store.message(row, device, *one).unwrap().is_some());
    assert_eq!(read.count(), 1_100);
}

/// What a device asked before it was removed is over: who names it again means what it asks then.
#[test]
fn who_was_removed_comes_in_again_also_when_it_is_named_before_it_asks() {
    let mut world = Template::new(2, 1).world();
    world.settle();
    world.bring_in(0, 2);
    world.settle();
    assert_eq!(world.tip(0).unwrap().devices.len(), 3);
    let (team, device) = (world.team, world.number(2));
    let Ok(Answer::Status(status)) = world.ask(2, Command::Status) else {
        panic!("no status");
    };
    let fingerprint = status.profile.unwrap().fingerprint;
    world
        .ask(0, Command::RemoveDevice { team, device })
        .unwrap();
    world.settle();
    assert_eq!(world.tip(0).unwrap().devices.len(), 2);
    world
        .ask(0, Command::AddDevice { team, fingerprint })
        .unwrap();
    world.settle();
    assert_eq!(world.tip(0).unwrap().devices.len(), 2);
    let create = Command::CreateInvite { team, hours: None };
    let Ok(Answer::Invite(invite)) = world.ask(0, create) else {
        panic!("no invite");
    };
    let invite = invite.text;
    world.ask(2, Command::Join { invite }).unwrap();
    world.settle();
    assert_eq!(world.tip(0).unwrap().devices.len(), 3);
}
