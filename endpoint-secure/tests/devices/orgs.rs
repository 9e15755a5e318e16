//! Several organisations: guests, and what their own organisation takes back.

use endpoint_secure_api::{
    Answer, ChannelId, Code, Command, Event, Organisation, Role, Suite, Team, TeamId,
};
use proto::Path;

use crate::hub::{World, team};

const ADA: usize = 0;
const BOB: usize = 1;
const GINA: usize = 2;
const HUGO: usize = 3;

impl World {
    fn found(&mut self, at: usize, org: u32, name: &str) -> Team {
        let registration = self.hub.registration(org);
        let create = Command::CreateOrganisation {
            name: name.into(),
            registration,
            relays: Vec::new(),
        };
        team(self.ask(at, create))
    }

    fn introduction(&mut self, at: usize, team: TeamId) -> Organisation {
        match self.ask(at, Command::Organisation { team }).unwrap() {
            Answer::Organisation(it) => it,
            other => panic!("{other:?}"),
        }
    }

    fn allow(&mut self, at: usize, team: TeamId, organisation: &str, on: bool) -> Option<Code> {
        let allow = Command::AllowOrganisation {
            team,
            organisation: organisation.into(),
            on,
        };
        let answer = self.ask(at, allow);
        self.settle();
        answer.err().map(|refusal| refusal.code)
    }

    fn noticed(&self, at: usize, words: &str) -> bool {
        let told = |event: &Event| matches!(event, Event::Notice(line) if line.contains(words));
        self.members[at].events.iter().any(told)
    }

    fn revoke(&mut self, at: usize, fingerprint: String) {
        self.ask(at, Command::RevokeDevice { fingerprint }).unwrap();
        self.settle();
    }
}

/// Ada's organisation 5 with a team of hers and Bob's; Gina's organisation 6, in a team of which Hugo is,
/// and its introduction.
fn two() -> (World, ChannelId, String) {
    let mut world = World::new();
    for name in ["Ada", "Bob", "Gina", "Hugo"] {
        world.member(name);
    }
    world.found(ADA, 5, "Lighthouse keepers");
    let here = world.team(ADA, Suite::Classic).id;
    world.bring_in(ADA, here, BOB);
    world.found(GINA, 6, "Pilots");
    let there = world.team(GINA, Suite::Classic).id;
    world.bring_in(GINA, there, HUGO);
    let introduction = world.introduction(HUGO, there);
    assert_eq!(
        (introduction.org, introduction.name.as_str()),
        (6, "Pilots")
    );
    let channel = ChannelId {
        team: here,
        channel: 1,
    };
    (world, channel, introduction.text)
}

/// The same, with Hugo in Ada's team.
fn with_guest() -> (World, ChannelId) {
    let (mut world, channel, pilots) = two();
    assert_eq!(world.allow(ADA, channel.team, &pilots, true), None);
    world.bring_in(ADA, channel.team, HUGO);
    (world, channel)
}

#[test]
fn a_device_of_another_organisation_comes_in_as_a_guest_where_that_is_allowed() {
    let (mut world, channel, pilots) = two();
    let id = channel.team;
    world.bring_in(ADA, id, HUGO);
    assert_eq!(world.team_of(ADA, id).devices, 2);
    assert!(world.noticed(ADA, "does not let in"));

    let cut = &pilots[..pilots.len() - 4];
    assert_eq!(world.allow(ADA, id, cut, true), Some(Code::Configuration));
    assert_eq!(world.allow(BOB, id, &pilots, true), Some(Code::Forbidden));
    assert_eq!(world.allow(ADA, id, &pilots, true), None);
    let fingerprint = world.fingerprint(HUGO);
    let add = Command::AddDevice {
        team: id,
        fingerprint,
    };
    world.ask(ADA, add).unwrap();
    world.settle();
    let hugo = world.number(HUGO, id);
    let seen = world.devices(BOB, id);
    let guest = seen.iter().find(|one| one.device == hugo).unwrap();
    assert_eq!((guest.role, guest.guest_of), (Role::Guest, Some(6)));
    assert!(seen.iter().filter(|one| one.guest_of.is_some()).count() == 1);
    // He sees the team that he is in, and no other of that organisation.
    let orgs = |world: &mut World| {
        let teams = world.teams(HUGO).into_iter();
        teams.map(|one| one.id.org).collect::<Vec<_>>()
    };
    assert_eq!(orgs(&mut world), [5, 6]);
    for role in [Role::Member, Role::Admin] {
        let promote = Command::SetRole {
            team: id,
            device: hugo,
            role,
        };
        let refused = world.ask(ADA, promote).unwrap_err();
        assert_eq!(refused.code, Code::Forbidden);
    }
    assert_eq!(world.allow(ADA, id, &pilots, false), Some(Code::Usage));
    world.agree(&[ADA, BOB, HUGO], channel);
}

#[test]
fn what_an_organisation_revokes_leaves_every_team_and_is_shown_nowhere() {
    let (mut world, channel) = with_guest();
    let id = channel.team;
    let own = world
        .teams(GINA)
        .into_iter()
        .find(|one| one.name == "Night watch");
    let own = own.unwrap().id;
    world.say(HUGO, channel, "before");
    world.settle();
    // The team's admin is away: nobody removes him yet, and every Secure refuses what he writes.
    world.kill(ADA);
    let fingerprint = world.fingerprint(HUGO);
    assert_eq!(
        world
            .ask(
                BOB,
                Command::RevokeDevice {
                    fingerprint: fingerprint.clone()
                }
            )
            .unwrap_err()
            .code,
        Code::Forbidden
    );
    world.revoke(GINA, fingerprint.clone());
    assert!(world.noticed(BOB, "revoked"));
    world.say(HUGO, channel, "after");
    world.settle();
    assert_eq!(world.texts(BOB, channel), ["before"]);
    assert_eq!(world.team_of(GINA, own).devices, 1);
    // The revocation outlives a restart.
    world.kill(BOB);
    world.start(BOB);
    world.say(HUGO, channel, "still");
    world.settle();
    assert_eq!(world.texts(BOB, channel), ["before"]);
    world.start(ADA);
    world.settle();
    for at in [ADA, BOB] {
        assert_eq!(world.team_of(at, id).devices, 2, "{at}");
        assert_eq!(world.texts(at, channel), ["before"], "{at}");
    }
    assert!(world.team_of(HUGO, id).removed);
    world.agree(&[ADA, BOB], channel);
    // He does not come back under the same key.
    let invite = world.invite(ADA, id);
    world.ask(HUGO, Command::Join { invite }).unwrap();
    let add = Command::AddDevice {
        team: id,
        fingerprint,
    };
    world.ask(ADA, add).unwrap();
    world.settle();
    assert_eq!(world.team_of(ADA, id).devices, 2);
}

#[test]
fn a_removal_in_a_team_ends_the_devices_grants() {
    let (mut world, channel) = with_guest();
    let bob = world.number(BOB, channel.team);
    world.remove(ADA, channel.team, bob);
    for at in [ADA, HUGO] {
        world.say(at, channel, "settled");
    }
    world.settle();
    let records = world
        .hub
        .names
        .keys()
        .filter(|name| name.path() == Path::Record);
    let records: Vec<String> = records.map(ToString::to_string).collect();
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(
        records[0].ends_with(&format!("kind-2/{bob}")),
        "{records:?}"
    );
}

#[test]
fn members_found_conversations_that_no_admin_is_in() {
    let (mut world, channel, _) = two();
    let late = world.member("Cem");
    world.bring_in(ADA, channel.team, late);
    let create = |name: &str| Command::CreateDirect { name: name.into() };
    let direct = team(world.ask(BOB, create("Bob and Cem")));
    assert!(direct.direct && direct.admin);
    world.bring_in(BOB, direct.id, late);
    let talk = ChannelId {
        team: direct.id,
        channel: 1,
    };
    world.agree(&[BOB, late], talk);
    assert!(world.teams(ADA).iter().all(|one| one.id != direct.id));
    // The founder of the organisation has conversations too, and a second one is another team.
    let own = team(world.ask(ADA, create("Ada and Bob")));
    world.bring_in(ADA, own.id, BOB);
    assert_eq!(world.team_of(BOB, own.id).devices, 2);
    let second = team(world.ask(BOB, create("Bob alone")));
    assert_ne!(second.id, direct.id);
    // Who is of no organisation founds none.
    let stranger = world.member("Mallory");
    let refused = world.ask(stranger, create("mine")).unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
}
