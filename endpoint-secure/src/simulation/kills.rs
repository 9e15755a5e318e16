//! One list of kills: at each write of an addition, a removal and a message.

use endpoint_secure_api::{Answer, Command};

use super::world::{Template, World};

/// What is killed at each of its writes.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Add,
    Remove,
    Send,
}

#[test]
fn a_kill_at_each_write_of_an_addition_a_removal_and_a_message_tears_nothing() {
    let template = Template::new(4, 1);
    for deed in [Deed::Add, Deed::Remove, Deed::Send] {
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
    let session = world.session(0).unwrap();
    session.store.crash_after(point);
    let ask = |world: &mut World| match deed {
        Deed::Add => world.bring_in(0, 4),
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
    let killed = world.peers[0].device.is_none();
    if killed {
        world.start(0);
        ask(&mut world);
    } else {
        world.disarm(0);
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
        Deed::Add => (5, 1),
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
}
