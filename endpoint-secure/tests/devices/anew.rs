//! Devices over time: copies and restored profiles, renewed leaves, and devices that stay away.

use std::fs;

use endpoint_secure_api::{Answer, Code, Command, Delivery, Event, JoinStage, TeamId};
use proto::Fields;

use crate::groups::four;
use crate::hub::{World, team as team_answer};

impl World {
    /// What a device knows at this moment, for a later [`World::restore`].
    fn back_up(&self, at: usize) -> tempfile::TempDir {
        let copy = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.members[at].directory.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
        copy
    }

    fn restore(&mut self, at: usize, copy: &tempfile::TempDir) {
        self.kill(at);
        let directory = self.members[at].directory.path().to_owned();
        for entry in fs::read_dir(&directory).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for entry in fs::read_dir(copy.path()).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), directory.join(entry.file_name())).unwrap();
        }
        self.start(at);
    }

    /// The fingerprints of devices that ask to be added.
    fn asking(&mut self, at: usize, team: TeamId) -> Vec<String> {
        let Ok(Answer::Requests(all)) = self.ask(at, Command::Requests { team }) else {
            panic!("no requests");
        };
        all.into_iter().map(|one| one.fingerprint).collect()
    }

    fn told(&self, at: usize, words: &str) -> bool {
        let told = |event: &Event| matches!(event, Event::Notice(line) if line.contains(words));
        self.members[at].events.iter().any(told)
    }
}

#[test]
fn a_restored_profile_sends_nothing_and_becomes_a_new_device() {
    let (mut world, channel) = four();
    let team = channel.team;
    let copy = world.back_up(3);
    for text in ["one", "two"] {
        world.say(3, channel, text);
    }
    world.settle();
    let (old, old_print) = (world.number(3, team), world.fingerprint(3));
    world.restore(3, &copy);
    world.settle();
    assert!(world.told(3, "copy"));
    let seen = world.team_of(3, team);
    assert!(seen.removed && seen.stage == JoinStage::WaitingForAdmin);
    let send = Command::Send {
        channel,
        text: "as if nothing had happened".into(),
        token: 77,
    };
    assert_eq!(world.ask(3, send).unwrap_err().code, Code::Forbidden);
    let fingerprint = world.fingerprint(3);
    assert_ne!(fingerprint, old_print);
    // Every admin is shown that it asks, not only the one to whom its invite leads.
    for at in [0, 1] {
        assert_eq!(
            world.asking(at, team),
            std::slice::from_ref(&fingerprint),
            "{at}"
        );
    }
    world
        .ask(1, Command::AddDevice { team, fingerprint })
        .unwrap();
    world.settle();
    assert_ne!(world.number(3, team), old);
    world.remove(1, team, old);
    world.agree(&[0, 1, 2, 3], channel);
    for at in 0..3 {
        let texts = world.texts(at, channel);
        assert_eq!(texts[..2], ["one", "two"], "{at}");
    }
}

#[test]
fn a_copy_that_has_written_meanwhile_fills_no_number_twice() {
    let (mut world, channel) = four();
    let team = channel.team;
    let copy = world.back_up(3);
    world.say(3, channel, "from the true one");
    world.settle();
    // Restored where nobody hears it, it writes under a number that is taken.
    world.restore(3, &copy);
    world.unlink(3);
    world.say(3, channel, "from the copy");
    world.link(3);
    world.settle();
    assert!(world.told(3, "copy"));
    let page = world.page(3, channel);
    let own = page.iter().find(|one| one.text == "from the copy").unwrap();
    assert_eq!(own.delivery, Delivery::Failed);
    let own = world.number(3, team);
    let under =
        |fields| matches!(fields, Fields::Message { device, channel: 1, .. } if device == own);
    let count = world.hub.names.keys().filter(|name| under(name.fields()));
    assert_eq!(count.count(), 1);
    assert_eq!(world.texts(0, channel), ["from the true one"]);
}

/// Some days pass; every device that runs has its turn on each.
fn days(world: &mut World, count: u64) {
    for _ in 0..count {
        world.hub.now = world.hub.now.plus_millis(24 * 3600 * 1000);
        world.settle();
    }
}

#[test]
fn leaves_are_renewed_every_30_days() {
    let (mut world, channel) = four();
    let team = channel.team;
    let epoch = |world: &mut World| world.team_of(0, team).epoch;
    let before = epoch(&mut world);
    days(&mut world, 29);
    assert_eq!(epoch(&mut world), before);
    days(&mut world, 3);
    assert_eq!(epoch(&mut world), before + 4, "each has renewed its leaf");
    days(&mut world, 27);
    assert_eq!(epoch(&mut world), before + 4);
    world.agree(&[0, 1, 2, 3], channel);
}

#[test]
fn a_device_that_nobody_has_seen_for_84_days_is_removed() {
    let (mut world, channel) = four();
    let team = channel.team;
    let (cem, dora) = (world.number(2, team), world.number(3, team));
    world.unlink(2);
    world.kill(3);
    days(&mut world, 80);
    // Cem comes back in time; what he missed is applied commit by commit.
    world.link(2);
    world.settle();
    days(&mut world, 3);
    assert_eq!(world.team_of(0, team).devices, 4);
    days(&mut world, 3);
    let left = world.devices(0, team);
    assert!(left.iter().all(|one| one.device != dora));
    let seen = left.iter().find(|one| one.device == cem).unwrap();
    assert!(seen.last_seen_ms + 10 * 24 * 3600 * 1000 > world.hub.now.millis());
    world.agree(&[0, 1, 2], channel);
    world.start(3);
    world.settle();
    assert!(world.team_of(3, team).removed);
}

#[test]
fn a_removed_device_comes_back_under_a_number_of_its_own() {
    let (mut world, channel) = four();
    let team = channel.team;
    let before = world.number(3, team);
    world.say(3, channel, "first life");
    world.settle();
    world.remove(0, team, before);
    world.say(0, channel, "while she was out");
    world.settle();
    assert!(world.team_of(3, team).removed);

    let invite = world.invite(1, team);
    let asked = team_answer(world.ask(3, Command::Join { invite }));
    assert_eq!(asked.stage, JoinStage::WaitingForAdmin);
    // A kill in between changes nothing.
    world.kill(3);
    world.start(3);
    let fingerprint = world.fingerprint(3);
    world
        .ask(1, Command::AddDevice { team, fingerprint })
        .unwrap();
    world.settle();
    let after = world.number(3, team);
    assert_ne!(before, after, "a number is never used again");
    assert!(!world.team_of(3, team).removed);
    world.agree(&[0, 1, 2, 3], channel);
    let texts = world.texts(3, channel);
    assert!(texts.contains(&"first life".to_string()));
    assert!(!texts.contains(&"while she was out".to_string()));
    // What she was out for is no gap in the feeds of those who wrote meanwhile.
    assert!(
        world
            .page(3, channel)
            .iter()
            .all(|one| one.missing_before == 0)
    );
    // And once more.
    world.remove(1, team, after);
    let invite = world.invite(0, team);
    team_answer(world.ask(3, Command::Join { invite }));
    let fingerprint = world.fingerprint(3);
    world
        .ask(0, Command::AddDevice { team, fingerprint })
        .unwrap();
    world.settle();
    assert_ne!(world.number(3, team), after);
    world.agree(&[0, 1, 2, 3], channel);
}

#[test]
fn a_copy_asks_again_when_its_invite_has_ended() {
    let (mut world, channel) = four();
    let team = channel.team;
    let copy = world.back_up(3);
    world.say(3, channel, "from the true one");
    world.settle();
    let old = world.number(3, team);
    world.restore(3, &copy);
    world.settle();
    let fingerprint = world.fingerprint(3);
    // Standing invites are good for two weeks at most.
    days(&mut world, 40);
    assert_eq!(world.asking(0, team), std::slice::from_ref(&fingerprint));
    world
        .ask(0, Command::AddDevice { team, fingerprint })
        .unwrap();
    world.settle();
    assert_ne!(world.number(3, team), old);
    world.remove(0, team, old);
    world.agree(&[0, 1, 2, 3], channel);
}
