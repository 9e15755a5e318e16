//! The lock, and what stands on the disk.

use std::fs;

use endpoint_secure::device::{Asker, Device, Effect, Event};
use endpoint_secure_api::{
    Answer, Code, Command, Connectivity, Lock, LockCause, Locking, Passphrase, Reach, Suite,
};
use proto::{Frame, Reconcile, Tier, Timestamp};

use crate::hub::{CHEAP, PASSPHRASE, World};

fn unlock(passphrase: &str) -> Command {
    Command::Unlock {
        passphrase: Passphrase::new(passphrase.into()),
    }
}

#[test]
fn a_locked_device_answers_three_commands() {
    let (mut world, channel) = World::pair(Suite::Classic);
    world.ask(0, Command::Lock).unwrap();
    for command in [
        Command::Teams,
        Command::Connectivity,
        Command::Channels { team: channel.team },
    ] {
        assert_eq!(world.ask(0, command).unwrap_err().code, Code::Locked);
    }
    let Answer::Status(status) = world.ask(0, Command::Status).unwrap() else {
        panic!("no status");
    };
    assert_eq!((status.lock, status.profile), (Lock::Locked, None));
    assert_eq!(status.lock_cause, LockCause::Person);
    let wrong = world.ask(0, unlock("wrong")).unwrap_err();
    assert_eq!(wrong.code, Code::WrongPassphrase);
    world.ask(0, unlock(PASSPHRASE)).unwrap();
    // The link is the same as before, and goes on.
    world.say(1, channel, "are you there");
    world.settle();
    assert_eq!(world.texts(0, channel), ["are you there"]);
}

fn is_locked(world: &mut World) -> bool {
    match world.ask(0, Command::Status).unwrap() {
        Answer::Status(status) => status.lock == Lock::Locked,
        other => panic!("{other:?}"),
    }
}

fn cause(world: &mut World) -> LockCause {
    match world.ask(0, Command::Status).unwrap() {
        Answer::Status(status) => status.lock_cause,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_machine_that_slept_and_a_person_who_left_lock_it() {
    let (mut world, channel) = World::pair(Suite::Classic);
    world.handle(0, Event::Resumed);
    assert!(is_locked(&mut world));
    assert_eq!(cause(&mut world), LockCause::Sleep);
    assert_eq!(world.ask(0, Command::Teams).unwrap_err().code, Code::Locked);
    world.ask(0, unlock(PASSPHRASE)).unwrap();
    let set = |world: &mut World, idle_minutes, on_suspend| {
        let locking = Locking {
            idle_minutes,
            on_suspend,
        };
        world.ask(0, Command::SetLocking { locking }).unwrap();
    };
    set(&mut world, 10, false);
    world.handle(0, Event::Resumed);
    assert!(!is_locked(&mut world));
    let wait = |world: &mut World, minutes: u64| {
        world.hub.now = world.hub.now.plus_millis(minutes * 60_000);
        world.handle(0, Event::Tick);
    };
    // What a person writes puts it off; what a front end asks, and what others write, does not.
    wait(&mut world, 9);
    world.say(0, channel, "still here");
    wait(&mut world, 9);
    world.say(1, channel, "good");
    world.settle();
    assert!(!is_locked(&mut world));
    // Who only reads is there.
    world.ask(0, Command::Present).unwrap();
    wait(&mut world, 9);
    // What an open dialog asks by itself after each change of the team.
    let team = channel.team;
    world.ask(0, Command::Teams).unwrap();
    world.ask(0, Command::Requests { team }).unwrap();
    world.ask(0, Command::Invites { team }).unwrap();
    world.ask(0, Command::Preview { team }).unwrap_err();
    assert!(!is_locked(&mut world));
    wait(&mut world, 2);
    assert!(is_locked(&mut world));
    assert_eq!(cause(&mut world), LockCause::Idle);
    assert_eq!(
        world.ask(0, Command::Present).unwrap_err().code,
        Code::Locked
    );
    // A clock that is set back gives nobody more time.
    world.ask(0, unlock(PASSPHRASE)).unwrap();
    world.hub.now = Timestamp::from_millis(world.hub.now.millis() - 24 * 3600 * 1000);
    wait(&mut world, 0);
    wait(&mut world, 9);
    assert!(!is_locked(&mut world));
    wait(&mut world, 2);
    assert!(is_locked(&mut world));
    // It is kept.
    world.ask(0, unlock(PASSPHRASE)).unwrap();
    wait(&mut world, 11);
    assert!(is_locked(&mut world));
    world.ask(0, unlock(PASSPHRASE)).unwrap();
    set(&mut world, 0, false);
    wait(&mut world, 1000);
    assert!(!is_locked(&mut world));
}

#[test]
fn an_empty_directory_can_only_be_filled() {
    let directory = tempfile::tempdir().unwrap();
    let mut device = Device::open(directory.path(), CHEAP).unwrap();
    let asker = Asker { door: 1, id: 1 };
    let now = proto::Timestamp::from_millis(1);
    device.handle(Event::Command(asker, unlock("x")), now);
    let Some(Effect::Answer(_, Err(refusal))) = device.next_effect() else {
        panic!("no refusal");
    };
    assert_eq!(refusal.code, Code::NotFound);
}

#[test]
fn no_word_stands_in_the_files() {
    let (mut world, channel) = World::pair(Suite::PostQuantum);
    world.say(0, channel, "marmalade for the keepers");
    world.settle();
    let words = [
        "marmalade",
        "keepers",
        "Lighthouse",
        "Night watch",
        "general",
        "Ada",
        "laptop",
        "127.0.0.1",
    ];
    for member in &mut world.members {
        let mut files = 0;
        for entry in fs::read_dir(member.directory.path()).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            files += 1;
            for word in words {
                let found = bytes.windows(word.len()).any(|at| at == word.as_bytes());
                assert!(!found, "{word}");
            }
        }
        assert!(files >= 2);
    }
    for chunk in &world.hub.log {
        for word in words {
            let bytes = chunk.encoded();
            assert!(!bytes.windows(word.len()).any(|at| at == word.as_bytes()));
        }
    }
}

#[test]
fn a_link_that_breaks_the_protocol_is_closed() {
    let (world, _) = World::pair(Suite::Classic);
    let now = world.hub.now;
    for frame in [
        Frame::Publish(Vec::new()),
        Frame::Unsubscribe { id: 1 },
        Frame::Reconcile(Reconcile::Tell {
            id: 1,
            parts: Vec::new(),
        }),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let mut device = Device::open(directory.path(), CHEAP).unwrap();
        device.handle(Event::NetUp, now);
        device.handle(Event::Net(frame), now);
        let effects: Vec<Effect> = std::iter::from_fn(|| device.next_effect()).collect();
        assert!(matches!(effects.last(), Some(Effect::CloseNet(_))));
    }
}

fn reach(world: &mut World, relay: &str) {
    let (tier, relay) = (Tier::Cloud, relay.to_owned());
    world.handle(0, Event::Net(Frame::Reach { tier, relay }));
}

fn connectivity(world: &mut World) -> Connectivity {
    match world.ask(0, Command::Status).unwrap() {
        Answer::Status(status) => status.connectivity,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_name_of_a_relay_steers_no_terminal() {
    let (mut world, _) = World::pair(Suite::Classic);
    for (told, shown) in [
        ("relay.example:4470", "relay.example:4470"),
        ("relay\u{1b}[2J", ""),
        ("relay\nall is well", ""),
        (&"r".repeat(300), ""),
    ] {
        reach(&mut world, told);
        let state = connectivity(&mut world);
        assert_eq!((state.reach, state.relay.as_str()), (Reach::Cloud, shown));
    }
}

#[test]
fn while_it_is_locked_it_says_nothing_of_what_the_network_process_says() {
    let (mut world, _) = World::pair(Suite::Classic);
    reach(&mut world, "");
    world.ask(0, Command::Lock).unwrap();
    let before = world.members[0].events.len();
    reach(&mut world, "relay.example:4470");
    let key = "ab".repeat(32);
    let found = format!(
        r#"[{{"name":"hall","place":"10.0.0.1:4470","key":"{key}","changed":false,"own":false}}]"#
    );
    world.handle(0, Event::Found(found.into_bytes()));
    assert_eq!(world.members[0].events.len(), before);
    assert_eq!(connectivity(&mut world), Connectivity::default());
    // It is there when it is unlocked.
    world.ask(0, unlock(PASSPHRASE)).unwrap();
    assert_eq!(connectivity(&mut world).relay, "relay.example:4470");
    let Answer::Relays(relays) = world.ask(0, Command::Relays).unwrap() else {
        panic!("no relays");
    };
    assert!(relays.iter().any(|relay| relay.key == key), "{relays:?}");
}

#[test]
fn debug_of_what_goes_through_shows_no_secret() {
    let shown = format!("{:?}", unlock("marmalade"));
    assert!(!shown.contains("marmalade"), "{shown}");
}
