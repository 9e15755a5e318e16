//! Several devices of one person.

use endpoint_secure_api::{Answer, Code, Command, Role};

use crate::groups::four;
use crate::hub::World;

impl World {
    /// A new device that a device of the same person lets in.
    fn link_next(&mut self, from: usize) -> usize {
        let next = self.member("the same");
        let Answer::Link(link) = self.ask(from, Command::CreateLink).unwrap() else {
            panic!("no link");
        };
        self.ask(next, Command::JoinLink { link }).unwrap();
        let fingerprint = self.fingerprint(next);
        self.ask(from, Command::LinkDevice { fingerprint }).unwrap();
        self.settle();
        next
    }
}

#[test]
fn a_link_ends_after_two_weeks() {
    let (mut world, _) = four();
    let next = world.member("the same");
    let Answer::Link(link) = world.ask(2, Command::CreateLink).unwrap() else {
        panic!("no link");
    };
    world.hub.now = world.hub.now.plus_millis(15 * 24 * 3600 * 1000);
    let late = Command::JoinLink { link };
    assert_eq!(world.ask(next, late).unwrap_err().code, Code::Configuration);
}

#[test]
fn a_persons_next_device_comes_into_all_teams_with_the_same_role() {
    let (mut world, channel) = four();
    let team = channel.team;
    let other = world.team(0, endpoint_secure_api::Suite::Classic).id;
    world.bring_in(0, other, 2);
    let cem = world.number(2, team);
    world.set_role(0, team, cem, Role::Guest);
    // Cem's, whom an admin's device adds without being asked by a person; and Bob's, an admin's.
    let (cems, bobs) = (world.link_next(2), world.link_next(1));
    let role = |world: &mut World, at: usize| {
        let own = world.number(at, team);
        let all = world.devices(0, team);
        all.into_iter().find(|one| one.device == own).unwrap().role
    };
    assert_eq!(role(&mut world, cems), Role::Guest);
    assert_eq!(role(&mut world, bobs), Role::Admin);
    assert_eq!(world.team_of(cems, other).devices, 3);
    world.agree(&[0, 1, 2, 3, cems, bobs], channel);

    // Nobody has another person's device removed in this way.
    let fingerprint = world.fingerprint(cems);
    let unlink = Command::UnlinkDevice { fingerprint };
    world.ask(3, unlink.clone()).unwrap();
    world.settle();
    assert_eq!(world.team_of(0, team).devices, 6);
    world.ask(2, unlink).unwrap();
    world.settle();
    assert!(world.team_of(cems, team).removed && world.team_of(cems, other).removed);
    world.agree(&[0, 1, 2, 3, bobs], channel);
    let fingerprint = world.fingerprint(cems);
    let gone = Command::UnlinkDevice { fingerprint };
    assert_eq!(world.ask(2, gone).unwrap_err().code, Code::NotFound);
}
