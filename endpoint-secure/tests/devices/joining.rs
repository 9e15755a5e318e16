//! Coming into a team: invites that are good once, digits that both sides compare, a look at who is
//! inside, and what is told to whoever is refused.

use std::collections::BTreeSet;

use endpoint_secure_api::{
    Answer, Code, Command, Event, Fate, Invite, Issued, JoinStage, Preview, Request, Role, Suite,
    TeamId,
};
use proto::{Fields, Fingerprint, Path};

use crate::hub::World;

const HOUR_MS: u64 = 3_600_000;

impl World {
    fn new_invite(&mut self, at: usize, team: TeamId, hours: u32) -> Invite {
        let hours = Some(hours);
        match self.ask(at, Command::CreateInvite { team, hours }) {
            Ok(Answer::Invite(invite)) => invite,
            other => panic!("{other:?}"),
        }
    }

    fn invites(&mut self, at: usize, team: TeamId) -> Vec<Issued> {
        match self.ask(at, Command::Invites { team }) {
            Ok(Answer::Invites(invites)) => invites,
            other => panic!("{other:?}"),
        }
    }

    fn requests(&mut self, at: usize, team: TeamId) -> Vec<Request> {
        match self.ask(at, Command::Requests { team }) {
            Ok(Answer::Requests(requests)) => requests,
            other => panic!("{other:?}"),
        }
    }

    fn preview(&mut self, at: usize, team: TeamId) -> Preview {
        match self.ask(at, Command::Preview { team }) {
            Ok(Answer::Preview(preview)) => preview,
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, at: usize, invite: &str) {
        let invite = invite.to_owned();
        self.ask(at, Command::Join { invite }).unwrap();
        self.settle();
    }

    fn add(&mut self, at: usize, team: TeamId, device: &str) -> Result<Answer, Code> {
        let fingerprint = device.to_owned();
        let added = self.ask(at, Command::AddDevice { team, fingerprint });
        self.settle();
        added.map_err(|refusal| refusal.code)
    }

    fn digits(&mut self, at: usize) -> String {
        Fingerprint::from_hex(&self.fingerprint(at))
            .unwrap()
            .digits()
    }

    fn was_told(&self, at: usize, words: &str) -> bool {
        let told = |event: &Event| matches!(event, Event::Notice(line) if line.contains(words));
        self.members[at].events.iter().any(told)
    }

    /// Objects on the key package path that a device has published.
    fn key_packages(&mut self, at: usize) -> BTreeSet<u64> {
        let own = Fingerprint::from_hex(&self.fingerprint(at)).unwrap();
        let fields = self.hub.names.keys().map(|name| name.fields());
        let ours = fields.filter_map(|fields| match fields {
            Fields::KeyPackage { fingerprint, .. } => Some(fingerprint),
            _ => None,
        });
        ours.filter(|bits| own.finds(*bits)).collect()
    }
}

#[test]
fn both_sides_see_each_others_digits_and_any_text_of_an_invite_will_do() {
    let (mut world, channel) = World::pair(Suite::PostQuantum);
    let team = channel.team;
    type Text = fn(Invite) -> String;
    let texts: [Text; 3] = [|one| one.text, |one| one.qr, |one| one.words];
    for (number, text) in texts.into_iter().enumerate() {
        let late = world.member(&format!("Late {number}"));
        let invite = world.new_invite(0, team, 24);
        assert_eq!(invite.admin_digits, world.digits(0));
        world.join(late, &text(invite));
        let requests = world.requests(0, team);
        let own = world.digits(late);
        let shown: Vec<_> = requests
            .iter()
            .map(|one| (one.digits.as_str(), one.user.as_str()))
            .collect();
        assert_eq!(shown, [(own.as_str(), format!("Late {number}").as_str())]);
        assert_eq!(world.team_of(late, team).stage, JoinStage::WaitingForAdmin);
        world.add(0, team, &own).unwrap();
        assert_eq!(world.team_of(late, team).stage, JoinStage::Joined);
        assert_eq!(world.team_of(late, team).name, "Night watch");
        assert!(world.requests(0, team).is_empty());
    }
    world.say(4, channel, "all here");
    world.settle();
    for at in 0..4 {
        assert_eq!(world.texts(at, channel).last().unwrap(), "all here");
    }
}

#[test]
fn digits_that_are_given_before_the_request_let_nobody_else_in() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let (cem, eve) = (world.member("Cem"), world.member("Eve"));
    let invite = world.new_invite(0, channel.team, 24).text;
    let digits = world.digits(cem);
    world.add(0, channel.team, &digits).unwrap();
    world.join(eve, &invite);
    assert_eq!(world.team_of(0, channel.team).devices, 2);
    world.join(cem, &invite);
    assert_eq!(world.team_of(cem, channel.team).stage, JoinStage::Joined);
    assert_eq!(world.team_of(eve, channel.team).stage, JoinStage::Refused);
    for wrong in ["", "12", &digits[1..], "zz"] {
        assert_eq!(
            world.add(0, channel.team, wrong),
            Err(Code::Usage),
            "{wrong}"
        );
    }
}

#[test]
fn an_invite_is_good_for_one_device() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let team = channel.team;
    let (cem, eve, late) = (
        world.member("Cem"),
        world.member("Eve"),
        world.member("Finn"),
    );
    let invite = world.new_invite(0, team, 24);
    world.join(cem, &invite.text);
    world.join(eve, &invite.text);
    assert_eq!(world.requests(0, team).len(), 2);
    let digits = world.digits(cem);
    world.add(0, team, &digits).unwrap();
    let fate = world.invites(0, team).remove(0);
    assert_eq!(
        (fate.fate, fate.used_by),
        (Fate::Used, world.fingerprint(cem))
    );
    // Who asked before and who asks now are told the same, and the admin cannot add them by mistake.
    world.join(late, &invite.text);
    for at in [eve, late] {
        let told = world.team_of(at, team);
        assert_eq!(told.stage, JoinStage::Refused);
        assert!(
            told.refused.contains("used by another device"),
            "{}",
            told.refused
        );
        let digits = world.digits(at);
        assert_eq!(world.add(0, team, &digits), Err(Code::Forbidden));
    }
    assert!(world.was_told(0, "used by another device"));
    assert_eq!(world.team_of(0, team).devices, 3);
    // An invite of its own opens the door.
    world.bring_in(0, team, eve);
    assert_eq!(world.team_of(eve, team).stage, JoinStage::Joined);
    // Restarted, the admin still knows which are used.
    world.kill(0);
    world.start(0);
    world.settle();
    assert!(
        world
            .invites(0, team)
            .iter()
            .all(|one| one.fate == Fate::Used)
    );
}

#[test]
fn an_expired_or_revoked_invite_is_refused_on_both_sides() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let team = channel.team;
    let (cem, dora, eve) = (
        world.member("Cem"),
        world.member("Dora"),
        world.member("Eve"),
    );
    let revoked = world.new_invite(0, team, 24);
    world.join(cem, &revoked.text);
    let id = revoked.id.clone();
    world
        .ask(
            0,
            Command::RevokeInvite {
                team,
                id: id.clone(),
            },
        )
        .unwrap();
    world.join(dora, &revoked.text);
    for at in [cem, dora] {
        assert!(world.team_of(at, team).refused.contains("revoked"));
        assert!(world.was_told(at, "revoked"));
    }
    let short = world.new_invite(0, team, 1);
    world.unlink(eve);
    let invite = short.text.clone();
    world
        .ask(
            eve,
            Command::Join {
                invite: invite.clone(),
            },
        )
        .unwrap();
    world.hub.now = world.hub.now.plus_millis(2 * HOUR_MS);
    world.link(eve);
    world.settle();
    assert!(world.team_of(eve, team).refused.contains("expired"));
    // Whose clock says so refuses it at once.
    let refusal = world.ask(cem, Command::Join { invite }).unwrap_err();
    assert!(refusal.text.contains("expired") && refusal.code == Code::Configuration);
    let fates: Vec<Fate> = world.invites(0, team).iter().map(|one| one.fate).collect();
    assert_eq!(fates, [Fate::Expired, Fate::Revoked, Fate::Used]);
    let again = Command::RevokeInvite {
        team,
        id: "00".repeat(8),
    };
    assert_eq!(world.ask(0, again).unwrap_err().code, Code::NotFound);
    assert_eq!(world.team_of(0, team).devices, 2);
    for hours in [0, 721] {
        let hours = Some(hours);
        let wrong = Command::CreateInvite { team, hours };
        assert_eq!(world.ask(0, wrong).unwrap_err().code, Code::Usage);
    }
}

#[test]
fn who_was_added_sees_team_roles_and_inviter_before_going_in() {
    let (mut world, channel) = World::pair(Suite::PostQuantum);
    let team = channel.team;
    let bob = world.team_of(1, team).own_device;
    let role = Role::Admin;
    world
        .ask(
            0,
            Command::SetRole {
                team,
                device: bob,
                role,
            },
        )
        .unwrap();
    world.settle();
    let cem = world.member("Cem");
    world.looks.insert(cem);
    world.bring_in(1, team, cem);
    world.say(0, channel, "before");
    world.settle();
    assert_eq!(world.team_of(cem, team).stage, JoinStage::Admitted);
    let seen = world.preview(cem, team);
    assert_eq!(
        (seen.name.as_str(), seen.organisation.as_str()),
        ("Night watch", "Lighthouse keepers")
    );
    assert_eq!(
        (seen.by.user.as_str(), seen.by.digits.clone()),
        ("Bob", world.digits(1))
    );
    assert_eq!(seen.role, Role::Member);
    let roles: BTreeSet<_> = seen
        .devices
        .iter()
        .map(|one| (one.user.as_str(), one.role, one.own))
        .collect();
    let expected = [
        ("Ada", Role::Owner, false),
        ("Bob", Role::Admin, false),
        ("Cem", Role::Member, true),
    ];
    assert_eq!(roles, BTreeSet::from(expected));
    // Outside nothing is read and nothing is written, also after a restart.
    world.kill(cem);
    world.start(cem);
    world.settle();
    let send = Command::Send {
        channel,
        text: "me".into(),
        token: 1,
    };
    assert!(world.ask(cem, send).is_err());
    assert!(world.ask(cem, Command::Channels { team }).is_err());
    assert_eq!(world.preview(cem, team), seen);
    world.ask(cem, Command::Enter { team }).unwrap();
    world.settle();
    assert_eq!(world.texts(cem, channel), ["before"]);
    assert_eq!(
        world.ask(cem, Command::Preview { team }).unwrap_err().code,
        Code::NotFound
    );
}

#[test]
fn who_declines_keeps_nothing_and_may_be_invited_again() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let team = channel.team;
    let cem = world.member("Cem");
    world.looks.insert(cem);
    world.bring_in(0, team, cem);
    let number = world.team_of(cem, team).own_device;
    world.ask(cem, Command::Decline { team }).unwrap();
    world.settle();
    assert!(world.teams(cem).is_empty());
    world
        .ask(
            0,
            Command::RemoveDevice {
                team,
                device: number,
            },
        )
        .unwrap();
    world.settle();
    world.looks.clear();
    world.bring_in(0, team, cem);
    assert_eq!(world.team_of(cem, team).stage, JoinStage::Joined);
    assert_ne!(world.team_of(cem, team).own_device, number);
}

#[test]
fn who_was_removed_comes_back_with_another_invite_under_another_number() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let team = channel.team;
    world.say(1, channel, "at first");
    world.settle();
    let number = world.team_of(1, team).own_device;
    world
        .ask(
            0,
            Command::RemoveDevice {
                team,
                device: number,
            },
        )
        .unwrap();
    world.settle();
    assert!(world.team_of(1, team).removed);
    world.say(0, channel, "not for Bob");
    world.settle();
    world.bring_in(0, team, 1);
    let again = world.team_of(1, team);
    assert!(!again.removed && again.own_device != number);
    for (at, text) in [(1, "back again"), (0, "welcome")] {
        world.say(at, channel, text);
        world.settle();
    }
    assert_eq!(
        world.texts(0, channel),
        ["at first", "not for Bob", "back again", "welcome"]
    );
    assert_eq!(
        world.texts(1, channel),
        ["at first", "back again", "welcome"]
    );
}

#[test]
fn several_key_packages_stand_at_relays_and_a_used_one_is_replaced() {
    let (mut world, channel) = World::pair(Suite::PostQuantum);
    let cem = world.member("Cem");
    let invite = world.new_invite(0, channel.team, 24).text;
    world.join(cem, &invite);
    let offered = world.key_packages(cem);
    assert_eq!(offered.len(), 4, "three one-time ones, and the last resort");
    let digits = world.digits(cem);
    world.add(0, channel.team, &digits).unwrap();
    let after = world.key_packages(cem);
    assert!(after.is_superset(&offered) && after.len() == 5);
    // Those of who waits for long are replaced when relays drop them.
    let dora = world.member("Dora");
    let invite = world.new_invite(0, channel.team, 24).text;
    world.join(dora, &invite);
    world.hub.now = world.hub.now.plus_millis(84 * 24 * HOUR_MS);
    world.settle();
    assert_eq!(world.key_packages(dora).len(), 8);
}

#[test]
fn a_stranger_with_junk_on_the_key_package_path_keeps_nobody_out() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let team = channel.team;
    let (cem, invite) = (world.member("Cem"), world.new_invite(0, team, 24));
    let place = world.hub.log[0].name().place();
    for seed in 0..80u8 {
        let key = proto::Signer::from_seed(&[seed; 32]);
        let own = key.public_key().fingerprint();
        for fragment in 0..16 {
            let fields = Fields::KeyPackage {
                fingerprint: own.tagged(7),
                fragment,
            };
            let place = proto::Place {
                team: team.team,
                ..place
            };
            let name = proto::Name::new(place, fields);
            let head: &[u8] = if fragment == 0 {
                &[1, 0, 1, 0, 0]
            } else {
                &[2]
            };
            let data = [&key.public_key().0[..], head, &[9; 40]].concat();
            let end = world.hub.now.plus_millis(HOUR_MS);
            let junk = proto::Chunk::sign(name, end, proto::GrantId::NONE, &data, &key).unwrap();
            world.hub.store(None, junk);
        }
    }
    world.settle();
    world.join(cem, &invite.text);
    let digits = world.digits(cem);
    world.add(0, team, &digits).unwrap();
    assert_eq!(world.team_of(cem, team).stage, JoinStage::Joined);
    assert_eq!(world.requests(0, team), []);
    assert!(
        world
            .hub
            .log
            .iter()
            .any(|one| one.name().path() == Path::KeyPackage)
    );
}
