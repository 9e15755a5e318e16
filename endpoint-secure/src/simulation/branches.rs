//! Which branch wins and what all then show, where one thing decides it: voices, and fences.

use endpoint_secure_api::{Command, Role};

use super::world::{Template, World};

/// The owner apart from all others, with what each side does.
fn apart(world: &mut World, alone: impl FnOnce(&mut World), others: impl FnOnce(&mut World)) {
    world.settle();
    world.peers[0].island = 1;
    alone(world);
    others(world);
    world.settle();
    world.peers[0].island = 0;
    world.settle();
}

/// The owner outranks the other admin, but most have spoken on the other's side.
pub(super) fn voices_decide() {
    let mut world = Template::new(5, 0).world();
    let (team, channel) = (world.team, world.channel());
    let mut forked = None;
    let device = world.number(4);
    apart(
        &mut world,
        |world| {
            let role = Role::Guest;
            world
                .ask(0, Command::SetRole { team, device, role })
                .unwrap();
        },
        |world| {
            let on = true;
            world.ask(1, Command::SetAnnounce { channel, on }).unwrap();
            world.settle();
            let on = false;
            world.ask(1, Command::SetAnnounce { channel, on }).unwrap();
            world.settle();
            forked = world.tip(1).map(|tip| tip.id);
            for at in 1..5 {
                assert!(world.say(at, &format!("from {at}"), 5));
            }
        },
    );
    for at in 0..5 {
        let session = world.session(at).unwrap();
        assert!(
            session.on_path(team, forked.unwrap()),
            "{at} has left what most were on"
        );
        let roles = world.tip(at).unwrap().roles;
        assert!(
            roles.guests.contains(&device),
            "{at}: the owner's change was not made again"
        );
    }
}

/// What the one who was removed wrote apart from the remover came to some before the removal did.
pub(super) fn all_show_the_same() {
    let mut world = Template::new(5, 0).world();
    let team = world.team;
    world.settle();
    assert!(world.say(4, "before", 5));
    let device = world.number(4);
    apart(
        &mut world,
        |world| {
            world
                .ask(0, Command::RemoveDevice { team, device })
                .unwrap();
        },
        |world| {
            assert!(world.say(4, "behind the fence", 6));
            world.settle();
            let texts = world.texts(1);
            assert!(texts.iter().any(|(text, _)| text == "behind the fence"));
        },
    );
    for at in 0..4 {
        let texts: Vec<String> = world.texts(at).into_iter().map(|one| one.0).collect();
        assert_eq!(texts, ["before"], "{at}");
    }
}

/// Two admins who are apart add the same device; it comes in where it loses, and who let it in is away.
pub(super) fn somebody_is_welcomed_again() {
    let mut world = Template::new(5, 1).world();
    world.settle();
    let (team, by) = (world.team, world.number(1));
    let session = world.session(0).unwrap();
    let known = session.team(team).unwrap().clone();
    let invite = session.standing_invite(&known, by).unwrap().to_text();
    world.ask(5, Command::Join { invite }).unwrap();
    world.settle();
    let session = world.session(5).unwrap();
    let fingerprint = session.profile().fingerprint;
    world.peers[1].island = 1;
    world.peers[5].island = 1;
    for admin in [0, 1] {
        let fingerprint = fingerprint.clone();
        world
            .ask(admin, Command::AddDevice { team, fingerprint })
            .unwrap();
    }
    world.settle();
    let number = world.number(5);
    assert_eq!(world.tip(5).unwrap().id, world.tip(1).unwrap().id);
    assert_ne!(world.tip(5).unwrap().id, world.tip(0).unwrap().id);
    world.peers[1].island = 2;
    world.peers[5].island = 0;
    world.settle();
    let truth = world.tip(0).unwrap();
    assert!(truth.devices.contains(&number));
    let shown = world.tip(5).unwrap().id == truth.id;
    assert!(shown, "nobody has shown it the way");
    world.peers[1].island = 0;
    world.settle();
    assert_eq!(world.tip(1).unwrap().id, world.tip(5).unwrap().id);
    assert!(world.say(5, "here I am", 5));
    world.settle();
    assert!(world.texts(1).iter().any(|(text, _)| text == "here I am"));
}

#[test]
fn who_came_in_where_the_branch_lost_is_welcomed_again() {
    somebody_is_welcomed_again();
}

#[test]
fn voices_outweigh_rank() {
    voices_decide();
}

#[test]
fn what_lies_behind_a_fence_is_shown_to_nobody_also_where_it_came_first() {
    all_show_the_same();
}

/// A removal that loses takes its fence with it.
#[test]
fn what_a_lost_fence_hid_is_shown_again() {
    let mut world = Template::new(5, 0).world();
    let team = world.team;
    world.settle();
    let (low, mid) = (world.number(2), world.number(1));
    // An admin removes somebody and is removed by the owner meanwhile: the first removal is void.
    assert!(world.say(2, "one", 5));
    world.settle();
    let gone = world.number(3);
    assert!(world.say(3, "before", 6));
    world.settle();
    world.peers[1].island = 1;
    world.peers[2].island = 2;
    world.peers[3].island = 2;
    assert!(world.say(3, "meanwhile", 7));
    let device = gone;
    world
        .ask(1, Command::RemoveDevice { team, device })
        .unwrap();
    world.settle();
    world.peers[2].island = 1;
    world.peers[3].island = 1;
    world.settle();
    let shown = |world: &mut World, at| world.texts(at).iter().any(|(text, _)| text == "meanwhile");
    assert!(!shown(&mut world, 1) && !shown(&mut world, 2));
    let device = mid;
    world
        .ask(0, Command::RemoveDevice { team, device })
        .unwrap();
    world.settle();
    world.peers.iter_mut().for_each(|peer| peer.island = 0);
    world.settle();
    let truth = world.tip(0).unwrap();
    assert!(truth.devices.contains(&gone) && truth.devices.contains(&low));
    for at in [0, 2, 3, 4] {
        assert!(shown(&mut world, at), "{at}");
    }
}
