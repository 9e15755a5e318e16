//! One list of kills: at each write of an addition, a removal, a message, and of coming in. And what
//! becomes of the key packages then.

use endpoint_secure_api::{Answer, Command};
use proto::{Fields, Name};
use sha2::Digest;

use super::world::{Template, World};
use crate::device::{Asker, Event};
use crate::naming;
use crate::store::Kind;

/// What is killed at each of its writes.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Add,
    Remove,
    Send,
    /// The one who comes in is killed.
    Join,
}

impl Deed {
    fn victim(self) -> usize {
        match self {
            Self::Join => 4,
            _ => 0,
        }
    }
}

#[test]
fn a_kill_at_each_write_of_an_addition_a_removal_a_message_and_a_join_tears_nothing() {
    let template = Template::new(4, 1);
    for deed in [Deed::Add, Deed::Remove, Deed::Send, Deed::Join] {
        let mut point = 0;
        while killed_at(&template, deed, point) {
            point += 1;
        }
        println!("{deed:?}: killed at each of {point} writes");
        assert!(point > 3);
    }
}

/// Does it with a kill at one of its writes, and looks whether all is well. `false` if it has fewer.
fn killed_at(template: &Template, deed: Deed, point: u32) -> bool {
    let mut world = template.world();
    world.settle();
    let (team, gone) = (world.team, world.number(3));
    let victim = deed.victim();
    let session = world.session(victim).unwrap();
    session.store.crash_after(point);
    let ask = |world: &mut World| match deed {
        Deed::Add | Deed::Join => world.bring_in(0, 4),
        Deed::Remove => {
            world
                .ask(0, Command::RemoveDevice { team, device: gone })
                .ok();
        }
        Deed::Send => {
            world.say(0, "once", 77);
        }
    };
    ask(&mut world);
    for _ in 0..80 {
        world.step(250);
    }
    let killed = world.peers[victim].device.is_none();
    if killed {
        world.start(victim);
        ask(&mut world);
    } else {
        world.disarm(victim);
    }
    world.settle();
    let before = template.world().tip(0).unwrap().epoch;
    check_deed(&mut world, deed, point, before);
    killed
}

/// It was done once, all are in the same state, and nothing is torn.
fn check_deed(world: &mut World, deed: Deed, point: u32, before: u64) {
    let truth = world.tip(0).unwrap();
    let (devices, epochs) = match deed {
        Deed::Add | Deed::Join => (5, 1),
        Deed::Remove => (3, 1),
        Deed::Send => (4, 0),
    };
    assert_eq!(truth.devices.len(), devices, "{deed:?} at {point}");
    assert_eq!(
        truth.epoch,
        before + epochs,
        "{deed:?} at {point}: done twice, or torn"
    );
    for at in 0..5 {
        let number = world.number(at);
        let inside = world.team_of(at).is_some() && truth.devices.contains(&number);
        if inside && world.tip(at).is_some() {
            assert_eq!(
                world.tip(at).unwrap().id,
                truth.id,
                "{deed:?} at {point}: {at}"
            );
            assert!(world.say(at, &format!("from {at}"), 5));
        }
    }
    world.settle();
    for at in [0, 1, 2] {
        let texts = world.texts(at);
        let once = texts.iter().filter(|(text, _)| text == "once").count();
        assert_eq!(
            once,
            usize::from(matches!(deed, Deed::Send)),
            "{deed:?} at {point}: {at}"
        );
        assert!(
            texts.iter().all(|(_, gap)| !gap),
            "{deed:?} at {point}: {at}"
        );
        assert!(texts.iter().any(|(text, _)| text == "from 1"));
    }
    let answer = world.ask(0, Command::Connectivity).unwrap();
    let Answer::Connectivity(state) = answer else {
        panic!("no connectivity");
    };
    assert_eq!(state.queued, 0, "{deed:?} at {point}");
    if matches!(deed, Deed::Add | Deed::Join) {
        check_packages(world, 4, point);
    }
}

/// The one-time key package that was used is gone on both sides, and another one took its place.
fn check_packages(world: &mut World, at: usize, point: u32) {
    let (team, number) = (world.team, world.number(at));
    let welcomed = packages_of(world, 0, number);
    let session = world.session(at).unwrap();
    let offers = &session.memory.joining[&team].offers;
    let kinds = offers.iter().filter(|one| one.last_resort).count();
    assert_eq!((offers.len(), kinds), (4, 1), "at {point}");
    let own = session.memory.signer.public_key().fingerprint().0;
    let welcome = session.memory.joining[&team].welcome.clone();
    let joining = session.memory.joining[&team].clone();
    let opened = session.open_welcome(&joining, &welcome).unwrap();
    assert!(opened.is_none(), "at {point}: it opens again");
    let admin = world.session(0).unwrap();
    let next = admin.package_for(team, own).unwrap();
    let next: [u8; 32] = sha2::Sha256::digest(&next).into();
    assert!(!welcomed.contains(&next), "at {point}: it is used again");
}

/// The key packages with which a device was welcomed, as another one knows.
fn packages_of(world: &mut World, at: usize, number: u32) -> Vec<[u8; 32]> {
    let team = world.team;
    let session = world.session(at).unwrap();
    let commits = session
        .states(team)
        .filter_map(|state| state.commit.as_ref());
    let welcomed = commits.flat_map(|commit| &commit.welcomed);
    let of_it = welcomed.filter(|one| one.device == number);
    of_it.map(|one| one.package).collect()
}

#[test]
fn who_is_welcomed_again_by_another_admin_gets_another_key_package() {
    let mut world = Template::new(5, 1).world();
    world.settle();
    let (team, gone) = (world.team, world.number(4));
    // The owner removes somebody apart from the others, which wins; they add one meanwhile.
    world.peers[0].island = 1;
    let remove = Command::RemoveDevice { team, device: gone };
    world.ask(0, remove).unwrap();
    world.bring_in(1, 5);
    world.settle();
    let number = world.number(5);
    assert_eq!(packages_of(&mut world, 1, number).len(), 1);
    // The one who has invited it is away, so that somebody else has to welcome it.
    world.peers[1].island = 2;
    world.peers[0].island = 0;
    world.settle();
    world.peers[1].island = 0;
    world.settle();
    let truth = world.tip(0).unwrap();
    for at in [1, 2, 3, 5] {
        assert_eq!(world.tip(at).unwrap().id, truth.id, "{at}");
    }
    assert!(truth.devices.contains(&number) && !truth.devices.contains(&gone));
    for at in [0, 1, 2] {
        let mut packages = packages_of(&mut world, at, number);
        assert!(packages.len() >= 2, "{at}");
        let count = packages.len();
        packages.sort();
        packages.dedup();
        assert_eq!(packages.len(), count, "{at}: one was used twice");
    }
}

#[test]
fn what_follows_a_message_without_room_does_not_overtake_it() {
    let mut world = Template::new(2, 1).world();
    world.settle();
    let (channel, text, now) = (world.channel(), "first".to_owned(), world.now);
    let send = Command::Send {
        channel,
        text,
        token: 100,
    };
    let device = world.peers[0].device.as_mut().unwrap();
    device.open_session().unwrap().store.crash_after(0);
    device.handle(Event::Command(Asker { door: 1, id: 9000 }, send), now);
    device.open_session().unwrap().store.crash_never();
    // There is room again, before the front end knows that there was none.
    assert!(!world.say(0, "second", 101));
    assert!(!world.say(0, "third", 100 + Command::SEND_WINDOW));
    assert!(world.say(0, "of another sending", 9000));
    for (text, token) in [("first", 100), ("second", 101), ("third", 102)] {
        assert!(world.say(0, text, token));
    }
    world.settle();
    let texts: Vec<String> = world.texts(1).into_iter().map(|one| one.0).collect();
    assert_eq!(texts, ["of another sending", "first", "second", "third"]);
}

#[test]
fn a_key_package_never_takes_a_name_that_an_earlier_one_had() {
    let mut world = Template::new(2, 1).world();
    world.settle();
    let (team, now) = (world.team, world.now.millis());
    let session = world.session(2).unwrap();
    let own = session.memory.signer.public_key().fingerprint();
    let is_free = |tag: u16| tag.is_multiple_of(1024);
    let taken: Vec<(u128, u64)> = (0..=u16::MAX)
        .filter(|tag| !is_free(*tag))
        .map(|tag| {
            let fingerprint = own.tagged(tag);
            let fields = Fields::KeyPackage {
                fingerprint,
                fragment: 0,
            };
            (Name::new(naming::place(team), fields).0, now + 1000)
        })
        .collect();
    let key = naming::team_bytes(team);
    session.store.put(Kind::Offered, &key, &taken).unwrap();
    world.bring_in(0, 2);
    world.settle();
    let tags: Vec<u16> = world
        .names(2)
        .filter_map(|name| match name.fields() {
            Fields::KeyPackage { fingerprint, .. } if own.finds(fingerprint) => {
                Some(fingerprint as u16)
            }
            _ => None,
        })
        .collect();
    assert!(tags.len() >= 4 && tags.into_iter().all(is_free));
}

#[test]
fn a_welcome_that_cannot_be_made_leaves_no_commit_behind() {
    let mut world = Template::new(2, 1).world();
    world.settle();
    let (team, before) = (world.team, world.commits(0));
    let tip = world.tip(0).unwrap().id;
    // A blob's number has 30 bits: only one chunk of the tree has a name.
    let last = (1 << 30) - 1;
    let session = world.session(0).unwrap();
    session.memory.teams.get_mut(&team).unwrap().next_blob = last;
    world.bring_in(0, 2);
    world.settle();
    let told = &world.peers[0].told;
    let said = told
        .iter()
        .any(|line| line.contains("does not fit its names"));
    assert!(said, "{told:?}");
    assert_eq!(world.commits(0), before);
    assert_eq!(world.tip(0).unwrap().id, tip);
    let device = world.number(1);
    world
        .ask(0, Command::RemoveDevice { team, device })
        .unwrap();
    world.settle();
    let devices = world.tip(0).unwrap().devices.clone();
    assert_eq!(devices.into_iter().collect::<Vec<_>>(), [world.number(0)]);
}
