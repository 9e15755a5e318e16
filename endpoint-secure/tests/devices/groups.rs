//! Roles, removals and branches: who may do what, who reads what, and which change wins.

use endpoint_secure_api::{Answer, ChannelId, Code, Command, Device, Event, Role, Suite, TeamId};

use crate::hub::World;

impl World {
    pub fn devices(&mut self, at: usize, team: TeamId) -> Vec<Device> {
        match self.ask(at, Command::Devices { team }).unwrap() {
            Answer::Devices(devices) => devices,
            other => panic!("{other:?}"),
        }
    }

    pub fn number(&mut self, at: usize, team: TeamId) -> u32 {
        self.team_of(at, team).own_device
    }

    pub fn set_role(&mut self, at: usize, team: TeamId, device: u32, role: Role) {
        self.ask(at, Command::SetRole { team, device, role })
            .unwrap();
        self.settle();
    }

    pub fn remove(&mut self, at: usize, team: TeamId, device: u32) {
        self.ask(at, Command::RemoveDevice { team, device })
            .unwrap();
        self.settle();
    }

    /// All these devices see the same members, roles and epoch, and read each other.
    pub fn agree(&mut self, all: &[usize], channel: ChannelId) {
        let seen = |world: &mut Self, at| {
            let devices = world.devices(at, channel.team).into_iter();
            let devices: Vec<_> = devices
                .map(|one| (one.device, one.role, one.rank))
                .collect();
            (devices, world.team_of(at, channel.team).epoch)
        };
        let first = seen(self, all[0]);
        assert_eq!(first.0.len(), all.len());
        for at in &all[1..] {
            assert_eq!(seen(self, *at), first, "device {at}");
        }
        for at in all {
            self.say(*at, channel, &format!("from {at}"));
        }
        self.settle();
        for at in all {
            let texts = self.texts(*at, channel);
            for from in all {
                assert!(texts.contains(&format!("from {from}")), "{at} lacks {from}");
            }
        }
    }
}

/// A team of four: Ada the owner, Bob an admin, Cem and Dora members.
pub fn four() -> (World, ChannelId) {
    let (mut world, channel) = World::pair(Suite::Classic);
    for name in ["Cem", "Dora"] {
        let at = world.member(name);
        world.bring_in(0, channel.team, at);
    }
    let bob = world.number(1, channel.team);
    world.set_role(0, channel.team, bob, Role::Admin);
    (world, channel)
}

#[test]
fn a_second_admin_goes_on_when_the_owners_laptop_is_lost() {
    let (mut world, channel) = four();
    world.kill(0);
    let eve = world.member("Eve");
    world.bring_in(1, channel.team, eve);
    let cem = world.number(2, channel.team);
    world.set_role(1, channel.team, cem, Role::Admin);
    let late = world.member("Finn");
    world.bring_in(2, channel.team, late);
    let name = "Tides".to_string();
    let team = channel.team;
    world.ask(2, Command::CreateChannel { team, name }).unwrap();
    let dora = world.number(3, channel.team);
    world.remove(2, channel.team, dora);
    world.start(0);
    world.settle();
    world.agree(&[0, 1, 2, eve, late], channel);
    for at in [0, 1, 2, eve, late] {
        assert_eq!(world.channels(at, team).len(), 2);
    }
}

#[test]
fn only_admins_act_and_only_on_lower_ranks() {
    let (mut world, channel) = four();
    let team = channel.team;
    let numbers: Vec<u32> = (0..4).map(|at| world.number(at, team)).collect();
    let cases = [(1, numbers[0]), (2, numbers[3]), (3, numbers[1])];
    for (at, device) in cases {
        let remove = Command::RemoveDevice { team, device };
        assert_eq!(world.ask(at, remove).unwrap_err().code, Code::Forbidden);
        for role in [Role::Admin, Role::Member, Role::Guest] {
            let set = Command::SetRole { team, device, role };
            assert_eq!(world.ask(at, set).unwrap_err().code, Code::Forbidden);
        }
    }
    let set = Command::SetRole {
        team,
        device: numbers[0],
        role: Role::Member,
    };
    world.set_role(0, team, numbers[2], Role::Guest);
    let roles: Vec<Role> = world.devices(3, team).iter().map(|one| one.role).collect();
    assert_eq!(roles.iter().filter(|role| **role == Role::Guest).count(), 1);
    // The owner may step down, for there is another admin; then nobody stands above Bob.
    world.ask(0, set).unwrap();
    world.settle();
    world.agree(&[0, 1, 2, 3], channel);
    assert!(world.team_of(1, team).admin && !world.team_of(0, team).admin);
    let last = Command::SetRole {
        team,
        device: numbers[1],
        role: Role::Member,
    };
    assert_eq!(world.ask(1, last).unwrap_err().code, Code::Forbidden);
}

#[test]
fn only_admins_write_announcements() {
    let (mut world, channel) = four();
    let on = |on| Command::SetAnnounce { channel, on };
    assert_eq!(world.ask(2, on(true)).unwrap_err().code, Code::Forbidden);
    world.ask(1, on(true)).unwrap();
    world.settle();
    let send = Command::Send {
        channel,
        text: "me too".into(),
        token: 9,
    };
    assert_eq!(world.ask(2, send).unwrap_err().code, Code::Forbidden);
    world.say(1, channel, "storm tonight");
    world.settle();
    assert_eq!(world.texts(3, channel), ["storm tonight"]);
    world.ask(0, on(false)).unwrap();
    world.settle();
    world.agree(&[0, 1, 2, 3], channel);
}

#[test]
fn who_is_removed_knows_it_and_reads_nothing_newer() {
    let (mut world, channel) = four();
    let team = channel.team;
    world.say(3, channel, "before");
    world.settle();
    let dora = world.number(3, team);
    // She is cut off, and writes on without knowing.
    world.unlink(3);
    for text in ["late 1", "late 2"] {
        world.say(3, channel, text);
    }
    world.remove(1, team, dora);
    world.say(0, channel, "she is gone");
    world.settle();
    world.link(3);
    world.settle();
    let seen = world.team_of(3, team);
    assert!(seen.removed && !seen.admin);
    let told = |event: &Event| matches!(event, Event::Notice(line) if line.contains("removed"));
    assert!(world.members[3].events.iter().any(told));
    let send = Command::Send {
        channel,
        text: "still here".into(),
        token: 99,
    };
    assert_eq!(world.ask(3, send).unwrap_err().code, Code::Forbidden);
    assert!(!world.texts(3, channel).contains(&"she is gone".to_string()));
    for at in [0, 1, 2] {
        assert_eq!(world.texts(at, channel), ["before", "she is gone"], "{at}");
    }
    world.kill(3);
    world.start(3);
    world.settle();
    assert!(world.team_of(3, team).removed);
    world.agree(&[0, 1, 2], channel);
}

#[test]
fn changes_made_apart_come_together() {
    let (mut world, channel) = four();
    let team = channel.team;
    let (cem, dora) = (world.number(2, team), world.number(3, team));
    let eve = world.member("Eve");
    world.bring_in(0, team, eve);
    world.unlink(1);
    world
        .ask(1, Command::RemoveDevice { team, device: dora })
        .unwrap();
    world.say(1, channel, "on my own");
    world.remove(0, team, cem);
    world.say(0, channel, "without Cem");
    world.settle();
    world.link(1);
    world.settle();
    world.agree(&[0, 1, eve], channel);
    for at in [2, 3] {
        assert!(world.team_of(at, team).removed);
    }
    // Bob's branch lost: what he said on it is read, and marked.
    for at in [0, 1] {
        let page = world.page(at, channel);
        let marked: Vec<&str> = page
            .iter()
            .filter(|one| one.disconnected)
            .map(|one| one.text.as_str())
            .collect();
        assert_eq!(marked, ["on my own"], "{at}");
    }
}

#[test]
fn who_was_added_on_a_branch_that_lost_is_welcomed_again() {
    let (mut world, channel) = four();
    let team = channel.team;
    let dora = world.number(3, team);
    world.unlink(0);
    world
        .ask(0, Command::RemoveDevice { team, device: dora })
        .unwrap();
    let eve = world.member("Eve");
    world.bring_in(1, team, eve);
    assert_eq!(world.devices(eve, team).len(), 5);
    world.link(0);
    world.settle();
    world.agree(&[0, 1, 2, eve], channel);
    assert!(world.team_of(3, team).removed);
}

#[test]
fn a_removal_that_lost_is_made_again_and_messages_wait_for_it() {
    let (mut world, channel) = four();
    let team = channel.team;
    let dora = world.number(3, team);
    // Bob removes Dora alone; the others settle another change by a majority that speaks.
    world.unlink(1);
    world
        .ask(1, Command::RemoveDevice { team, device: dora })
        .unwrap();
    world
        .ask(0, Command::SetAnnounce { channel, on: true })
        .unwrap();
    world.settle();
    world
        .ask(0, Command::SetAnnounce { channel, on: false })
        .unwrap();
    world.settle();
    for at in [0, 2, 3] {
        world.say(at, channel, &format!("we are here {at}"));
    }
    world.settle();
    world.link(1);
    world.settle();
    world.agree(&[0, 1, 2], channel);
    assert!(world.team_of(3, team).removed);
}
