//! When a device commits, and how long its messages wait.

use std::collections::BTreeSet;

use endpoint_secure_api::{Answer, ChannelId, Command, Event, Role, Suite, TeamId};
use proto::limits::DAY_MS;
use proto::{Fields, Timestamp};

use crate::hub::World;

/// Steps of time in here, in milliseconds.
const STEP_MS: u64 = 100;

impl World {
    /// The parents of the commits that the hub has, one each.
    fn parents(&self) -> Vec<[u8; 8]> {
        let commits =
            self.hub.log.iter().filter(|chunk| {
                matches!(chunk.name().fields(), Fields::Commit { fragment: 0, .. })
            });
        let parent = |data: &[u8]| {
            // In front of an object stands 0, of one in fragments 1, its length and its hash.
            let head = if data[0] == 0 { 1 } else { 37 };
            data[head..head + 8].try_into().unwrap()
        };
        commits.map(|chunk| parent(&chunk.data())).collect()
    }

    fn messages_of(&self, number: u32) -> usize {
        let names = self.hub.names.keys();
        let own = names.filter(
            |name| matches!(name.fields(), Fields::Message { device, .. } if device == number),
        );
        own.count()
    }

    fn since(&self, begin: Timestamp) -> u64 {
        self.hub.now.since(begin)
    }

    fn remove_at(&mut self, at: usize, team: TeamId, device: u32) {
        self.ask(at, Command::RemoveDevice { team, device })
            .unwrap();
    }
}

/// Alice's and Bob's team, and Bob's number; Alice comes back and wants to remove him.
fn owner_returns() -> (World, ChannelId, Timestamp) {
    let (mut world, channel) = World::pair(Suite::Classic);
    let bob = world.team_of(1, channel.team).own_device;
    world.unlink(0);
    for text in ["one", "two", "three"] {
        world.say(1, channel, text);
    }
    world.settle();
    world.link(0);
    world.remove_at(0, channel.team, bob);
    let begin = world.hub.now;
    (world, channel, begin)
}

#[test]
fn a_commit_waits_for_the_end_of_the_backlog_and_a_second_of_quiet() {
    let (mut world, _, begin) = owner_returns();
    let before = world.parents().len();
    // The backlog comes late, and in one piece.
    world.hub.links[0].silent = true;
    while world.since(begin) < 600 {
        world.step(STEP_MS);
    }
    world.hub.links[0].silent = false;
    while world.since(begin) < 1_600 {
        assert_eq!(world.parents().len(), before, "{} ms", world.since(begin));
        world.step(STEP_MS);
    }
    world.step(STEP_MS);
    world.step(STEP_MS);
    assert_eq!(world.parents().len(), before + 1);
}

#[test]
fn five_seconds_of_talk_or_of_silence_are_waited_at_most() {
    for silent in [false, true] {
        let (mut world, channel, begin) = owner_returns();
        let before = world.parents().len();
        world.hub.links[0].silent = silent;
        while world.since(begin) < 4_900 {
            world.say(1, channel, "and another thing");
            world.step(STEP_MS);
            assert_eq!(world.parents().len(), before, "{} ms", world.since(begin));
        }
        world.step(STEP_MS);
        world.step(STEP_MS);
        assert_eq!(world.parents().len(), before + 1, "silent: {silent}");
    }
}

/// A team of five whose first three are admins.
fn three_admins() -> (World, ChannelId) {
    let (mut world, channel) = World::pair(Suite::Classic);
    for user in ["Cem", "Dora", "Eve"] {
        let at = world.member(user);
        world.bring_in(0, channel.team, at);
    }
    for at in [1, 2] {
        let (team, role) = (channel.team, Role::Admin);
        let device = world.team_of(at, team).own_device;
        let set = Command::SetRole { team, device, role };
        world.ask(0, set).unwrap();
        world.settle();
    }
    (world, channel)
}

#[test]
fn admins_who_hear_each_other_take_turns() {
    let (mut world, channel) = three_admins();
    let team = channel.team;
    let [dora, eve] = [3, 4].map(|at| world.team_of(at, team).own_device);
    // All at one moment.
    let (on, role) = (true, Role::Guest);
    world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
    world.remove_at(1, team, dora);
    let guest = Command::SetRole {
        team,
        device: eve,
        role,
    };
    world.ask(2, guest).unwrap();
    world.settle();
    let parents = world.parents();
    let apart: BTreeSet<_> = parents.iter().collect();
    assert_eq!(apart.len(), parents.len(), "two commits of one state");
    let Answer::Devices(devices) = world.ask(0, Command::Devices { team }).unwrap() else {
        panic!("no devices");
    };
    assert!(devices.iter().all(|one| one.device != dora));
    assert!(
        devices
            .iter()
            .any(|one| one.device == eve && one.role == role)
    );
    assert!(world.channels(0, team)[0].announce);
}

/// Bob has removed Dora on a branch that lost, the others have heard of it, and no admin is here.
fn removal_is_lost() -> (World, ChannelId) {
    let (mut world, channel) = three_admins();
    let team = channel.team;
    let dora = world.team_of(3, team).own_device;
    world.unlink(1);
    world.remove_at(1, team, dora);
    for on in [true, false] {
        world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
        world.settle();
    }
    for at in [0, 2, 3, 4] {
        world.say(at, channel, &format!("we are here {at}"));
    }
    world.settle();
    for at in [0, 2] {
        world.unlink(at);
    }
    world.link(1);
    // What Bob has made is taken, and he hears of nothing.
    world.hub.links[1].silent = true;
    world.step(STEP_MS);
    world.unlink(1);
    world.hub.links[1].silent = false;
    for _ in 0..5 {
        world.step(STEP_MS);
    }
    (world, channel)
}

fn warned(world: &World, at: usize) -> bool {
    let told =
        |event: &Event| matches!(event, Event::Notice(line) if line.contains("removal was lost"));
    world.members[at].events.iter().any(told)
}

#[test]
fn messages_wait_half_a_minute_for_a_lost_removal_and_leave_with_a_warning() {
    let (mut world, channel) = removal_is_lost();
    let eve = world.team_of(4, channel.team).own_device;
    let before = world.messages_of(eve);
    world.say(4, channel, "held");
    let begin = world.hub.now;
    while world.since(begin) < 28_000 {
        world.step(1_000);
        assert_eq!(world.messages_of(eve), before, "{} ms", world.since(begin));
        assert!(!warned(&world, 4));
    }
    for _ in 0..4 {
        world.step(1_000);
    }
    assert!(warned(&world, 4));
    assert!(world.messages_of(eve) > before);
    world.settle();
    assert!(world.texts(3, channel).contains(&"held".to_owned()));
}

#[test]
fn a_message_that_waits_goes_on_waiting_after_a_restart() {
    let (mut world, channel) = removal_is_lost();
    let eve = world.team_of(4, channel.team).own_device;
    let before = world.messages_of(eve);
    world.say(4, channel, "held");
    world.step(1_000);
    world.kill(4);
    world.start(4);
    world.say(4, channel, "held too");
    let begin = world.hub.now;
    while world.since(begin) < 15_000 {
        world.step(1_000);
        assert_eq!(world.messages_of(eve), before, "{} ms", world.since(begin));
    }
    world.link(0);
    world.settle();
    assert!(!warned(&world, 4));
    for text in ["held", "held too"] {
        assert!(world.texts(0, channel).contains(&text.to_owned()));
        assert!(!world.texts(3, channel).contains(&text.to_owned()));
    }
}

#[test]
fn a_message_that_waited_leaves_when_the_removal_was_made_again() {
    let (mut world, channel) = removal_is_lost();
    world.say(4, channel, "held");
    world.step(1_000);
    world.link(0);
    world.settle();
    assert!(!warned(&world, 4));
    assert!(world.team_of(3, channel.team).removed);
    assert!(world.texts(0, channel).contains(&"held".to_owned()));
    assert!(!world.texts(3, channel).contains(&"held".to_owned()));
}

#[test]
fn who_was_away_for_weeks_is_understood() {
    let (mut world, channel) = three_admins();
    world.say(1, channel, "off to sea");
    world.settle();
    world.unlink(1);
    for on in [true, false] {
        world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
        world.settle();
        for at in [0, 2, 3, 4] {
            if !on {
                world.say(at, channel, &format!("ashore {at}"));
            }
        }
        world.settle();
        // States that all have left are kept for a week.
        world.hub.now = world.hub.now.plus_millis(8 * DAY_MS);
    }
    world.say(0, channel, "where is Bob?");
    world.settle();
    world.say(1, channel, "written on the ship");
    world.link(1);
    world.say(1, channel, "written on the quay");
    world.settle();
    for at in 0..5 {
        let texts = world.texts(at, channel);
        let of_bob = texts.iter().filter(|text| text.starts_with("written"));
        assert_eq!(of_bob.count(), 2, "{at}: {texts:?}");
    }
}
