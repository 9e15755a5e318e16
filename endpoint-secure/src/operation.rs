//! Changes of a team that this device is to make: kept until they are settled, made in turn, and
//! made again where the branch that held them has lost.
//!
//! A change is what is wanted; a commit is one attempt at it. Before a commit a device that is
//! connected waits until it has heard everything, and admins take turns. Source:
//! docs/architecture.md, "Which commit wins".

use endpoint_secure_api::{Answer, Code, Device as ApiDevice, Role, TeamId};
use proto::limits::DAY_MS;
use proto::{Fingerprint, PublicKey};
use serde::{Deserialize, Serialize};

use crate::branch::{StateId, Verdict};
use crate::commit::Parcel;
use crate::device::session::{Failure, Session, refuse};
use crate::fault::{Fault, planted};
use crate::group::{Candidate, Change, Leaf};
use crate::orgs::OrgId;
use crate::roles::Roles;
use crate::states::{State, numbered};
use crate::store::Kind;
use crate::team::Team;

/// The turn of one admin, in milliseconds.
const TURN_MS: u64 = 1_500;
/// Turns that are waited for, at most: more admins than that may meet, and one of them wins.
const TURNS: u64 = 8;
/// How long after an event a device is quiet, in milliseconds.
pub(crate) const QUIET_MS: u64 = 1_000;
/// How long a device that is connected waits for the end of its backlog, in milliseconds.
pub(crate) const BACKLOG_MS: u64 = 5_000;
/// How long outgoing messages wait for a lost removal to be made again, in milliseconds.
pub(crate) const HOLD_MS: u64 = 30_000;
/// Changes that are not in effect, at most.
const WAITING: usize = 256;

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    /// Add a device.
    Add {
        /// The whole fingerprint.
        fingerprint: [u8; 32],
    },
    /// Remove a device.
    Remove {
        /// Its number.
        device: u32,
    },
    /// Give a device another role.
    Role {
        /// Its number.
        device: u32,
        /// The role.
        role: Role,
    },
    /// Let only admins write into a channel, or everybody.
    Announce {
        /// The channel.
        channel: u16,
        /// Whether only admins write.
        on: bool,
    },
    /// Let devices of another organisation in as guests, or no longer.
    Allow {
        /// Which.
        org: OrgId,
        /// Its key.
        key: [u8; 32],
        /// Whether they may come.
        on: bool,
    },
    /// Renew this device's leaf.
    Renew,
}

impl What {
    /// Whether a later change decides what this one has decided.
    fn is_undone_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Role { device, .. }, Self::Role { device: same, .. }) => device == same,
            (Self::Announce { channel, .. }, Self::Announce { channel: same, .. }) => {
                channel == same
            }
            (Self::Allow { org, .. }, Self::Allow { org: same, .. }) => org == same,
            _ => false,
        }
    }
}

/// A change of a team.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Operation {
    /// The team.
    pub team: TeamId,
    /// Its place in the order of asking.
    pub number: u64,
    /// What.
    pub what: What,
    /// The state that its last commit made; none before the first.
    pub made: Option<StateId>,
    /// How often a commit was made for it.
    pub turn: u32,
}

/// What a commit does, and what goes with its welcome.
type Deed = (Change, Option<Parcel>);

/// The key of an operation, and what a commit for it does.
type Next = ((TeamId, u64), Deed);

/// What is to become of an operation.
enum Step {
    /// Its turn has come.
    Make(Box<Deed>),
    /// Something that it needs has not come yet.
    Wait,
    /// It makes no sense any more.
    Drop,
}

impl From<Option<Change>> for Step {
    fn from(change: Option<Change>) -> Self {
        change.map_or(Self::Drop, |change| Self::Make(Box::new((change, None))))
    }
}

impl Session {
    pub(crate) fn remove_device(&mut self, id: TeamId, device: u32) -> Result<Answer, Failure> {
        let team = self.administered(id)?;
        let tip = self.tip(team)?;
        if device == team.device {
            return refuse(
                Code::Usage,
                "a device cannot remove itself; ask another admin",
            );
        }
        if !tip.devices.contains(&device) {
            return refuse(Code::NotFound, "no such device is in the team");
        }
        if !tip.roles.outranks(team.device, device) {
            return refuse(
                Code::Forbidden,
                "an admin removes only devices of lower rank",
            );
        }
        self.ask_for(id, What::Remove { device })
    }

    pub(crate) fn set_role(
        &mut self,
        id: TeamId,
        device: u32,
        role: Role,
    ) -> Result<Answer, Failure> {
        let team = self.administered(id)?;
        let tip = self.tip(team)?;
        if !tip.devices.contains(&device) {
            return refuse(Code::NotFound, "no such device is in the team");
        }
        if role == Role::Owner {
            return refuse(
                Code::Usage,
                "the owner is whoever stands first; there is one",
            );
        }
        if device != team.device && !tip.roles.outranks(team.device, device) {
            return refuse(
                Code::Forbidden,
                "an admin changes only devices of lower rank",
            );
        }
        if tip.foreign.contains_key(&device) {
            return refuse(
                Code::Forbidden,
                "devices of other organisations are guests, and stay guests",
            );
        }
        let Some(roles) = changed(&tip.roles, device, role) else {
            // What was asked before and waits would come after this.
            self.supersede(id, &What::Role { device, role })?;
            return Ok(Answer::Done);
        };
        if roles.admins.is_empty() {
            return refuse(
                Code::Forbidden,
                "the last admin stays; name another one first",
            );
        }
        if !roles.fit() {
            return refuse(
                Code::Forbidden,
                "a team has at most 64 admins and 1,024 guests",
            );
        }
        if role == Role::Admin && !team.may_make_admins() {
            return refuse(
                Code::Forbidden,
                "too many admins stand between the founder and this device; ask one of higher rank",
            );
        }
        self.ask_for(id, What::Role { device, role })
    }

    pub(crate) fn set_announce(
        &mut self,
        id: TeamId,
        channel: u16,
        on: bool,
    ) -> Result<Answer, Failure> {
        self.administered(id)?;
        let known = self.channels_of(id).any(|one| one.id.channel == channel);
        if channel == 0 || !known {
            return refuse(Code::NotFound, "the team has no such channel");
        }
        self.ask_for(id, What::Announce { channel, on })
    }

    /// A team that this device is an admin of.
    pub(crate) fn administered(&self, id: TeamId) -> Result<&Team, Failure> {
        let team = self.team(id)?;
        if team.is_out() {
            return refuse(Code::Forbidden, team.farewell());
        }
        if self.tip(team)?.roles.rank(team.device).is_none() {
            return refuse(Code::Forbidden, "only the team's admins may do that");
        }
        Ok(team)
    }

    /// Notes a change, unless the same one waits already.
    pub(crate) fn ask_for(&mut self, team: TeamId, what: What) -> Result<Answer, Failure> {
        let mut own = self.memory.operations.values();
        if own.any(|one| one.team == team && one.what == what && self.waits(one)) {
            return Ok(Answer::Done);
        }
        self.supersede(team, &what)?;
        self.room_for(1)?;
        if self.count_waiting(team) == 0 {
            self.link.asked_ms.insert(team, self.now.millis());
        }
        self.memory.counters.operation += 1;
        self.store.put(Kind::Counters, b"", &self.memory.counters)?;
        let number = self.memory.counters.operation;
        self.put_operation(Operation {
            team,
            number,
            what,
            made: None,
            turn: 0,
        })?;
        Ok(Answer::Done)
    }

    /// The same for a change that no person asks for: without room it is wanted again later.
    pub(crate) fn want(&mut self, team: TeamId, what: What) -> Result<(), Failure> {
        match self.ask_for(team, what) {
            Ok(_) | Err(Failure::Refused(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Whether so many more changes may wait.
    pub(crate) fn room_for(&self, more: usize) -> Result<(), Failure> {
        let all = self.memory.operations.values();
        if all.filter(|one| self.waits(one)).count() + more <= WAITING {
            return Ok(());
        }
        refuse(
            Code::Usage,
            "too many changes wait to be made; connect first",
        )
    }

    /// Forgets earlier changes of what this one changes: were they made again, they would undo it.
    fn supersede(&mut self, team: TeamId, what: &What) -> Result<(), Failure> {
        for key in self.operations_of(team) {
            if self.memory.operations[&key].what.is_undone_by(what) {
                self.drop_operation(key)?;
            }
        }
        Ok(())
    }

    fn put_operation(&mut self, operation: Operation) -> Result<(), Failure> {
        let key = numbered(operation.team, operation.number);
        self.store.put(Kind::Operation, &key, &operation)?;
        self.memory
            .operations
            .insert((operation.team, operation.number), operation);
        self.link.pursue_ms = Some(0);
        self.follow_requests()
    }

    pub(crate) fn drop_operation(&mut self, key: (TeamId, u64)) -> Result<(), Failure> {
        self.store
            .delete(Kind::Operation, &numbered(key.0, key.1))?;
        self.memory.operations.remove(&key);
        // Somebody may have waited for the room.
        self.link.pursue_ms = Some(0);
        self.follow_requests()
    }

    /// After a verdict: removals of losing branches, which any admin who may makes again, and
    /// changes of this device's own that have lost.
    pub(crate) fn carry_over(&mut self, id: TeamId, verdict: &Verdict) -> Result<(), Failure> {
        self.link.pursue_ms = Some(0);
        let team = self.team(id)?;
        let Some(tip) = self.memory.states.get(&(id, verdict.tip())) else {
            return Ok(());
        };
        let still_in = verdict.carried.intersection(&tip.devices).copied();
        let own: Vec<u32> = still_in
            .filter(|target| !team.is_out() && tip.roles.outranks(team.device, *target))
            .collect();
        self.hold_for(id, self.has_lost_removal(id, verdict));
        for device in own {
            self.want(id, What::Remove { device })?;
        }
        self.welcome_again(id, verdict)
    }

    fn hold_for(&mut self, id: TeamId, lost: bool) {
        if lost {
            let until = self.now.millis() + HOLD_MS;
            self.link.hold_sending_ms.entry(id).or_insert(until);
        } else {
            self.link.hold_sending_ms.remove(&id);
        }
    }

    /// As after the verdicts that this device knows from before it was started: who can read a message
    /// has not changed since.
    pub(crate) fn hold_again(&mut self) {
        let verdicts = self.memory.verdicts.iter();
        let lost = verdicts.filter(|(id, verdict)| self.has_lost_removal(**id, verdict));
        let lost: Vec<TeamId> = lost.map(|(id, _)| *id).collect();
        for id in lost {
            self.hold_for(id, true);
        }
    }

    /// Whether somebody else is in a team whose removal stands on a branch that has lost.
    fn has_lost_removal(&self, id: TeamId, verdict: &Verdict) -> bool {
        let team = self.memory.teams.get(&id);
        let tip = self.memory.states.get(&(id, verdict.tip()));
        team.zip(tip).is_some_and(|(team, tip)| {
            let mut still_in = verdict.carried.intersection(&tip.devices);
            still_in.any(|target| *target != team.device)
        })
    }

    /// Devices that are in, and whose last welcome led to a branch that lost: they do not know the
    /// way back, and any admin shows it to them.
    fn welcome_again(&mut self, id: TeamId, verdict: &Verdict) -> Result<(), Failure> {
        let team = self.team(id)?;
        let Some(tip) = self.memory.states.get(&(id, verdict.tip())) else {
            return Ok(());
        };
        let is_admin = !team.is_out() && tip.roles.rank(team.device).is_some();
        if !is_admin || planted(Fault::NobodyWelcomedAgain) {
            return Ok(());
        }
        let lost = self.states(id).filter(|state| !verdict.holds(state.id));
        let again: Vec<What> = lost
            .filter_map(|state| state.commit.as_ref())
            .flat_map(|commit| &commit.welcomed)
            .filter(|one| tip.devices.contains(&one.device) && self.is_astray(id, one.device))
            .filter_map(|one| {
                let key = tip.used.key(one.device)?;
                let fingerprint = PublicKey(key).fingerprint().0;
                Some(What::Add { fingerprint })
            })
            .collect();
        for what in again {
            self.want(id, what)?;
        }
        Ok(())
    }

    /// Makes one change whose turn has come.
    pub(crate) fn pursue(&mut self) -> Result<(), Failure> {
        self.link.pursue_ms = None;
        self.release_sending()?;
        self.admit_expected()?;
        self.renew_leaves()?;
        self.remove_unseen()?;
        self.remove_revoked()?;
        self.subscribe_records()?;
        self.wake_for_pursuit(self.now.millis() + DAY_MS);
        let teams: std::collections::BTreeSet<TeamId> =
            self.memory.operations.keys().map(|key| key.0).collect();
        for team in teams {
            let Some((key, deed)) = self.next_change(team)? else {
                continue;
            };
            let due = self.due_ms(team);
            if due <= self.now.millis() {
                self.carry_out(key, deed)?;
                // What is left is looked at in an event of its own.
                self.link.pursue_ms = Some(0);
            } else {
                self.wake_for_pursuit(due);
            }
        }
        Ok(())
    }

    /// Whether [`Session::pursue`] has something to look at.
    pub(crate) fn pursuit_is_due(&self) -> bool {
        self.link
            .pursue_ms
            .is_some_and(|at| at <= self.now.millis())
    }

    pub(crate) fn wake_for_pursuit(&mut self, at_ms: u64) {
        let at = self.link.pursue_ms.map_or(at_ms, |known| known.min(at_ms));
        self.link.pursue_ms = Some(at);
    }

    fn carry_out(&mut self, key: (TeamId, u64), deed: Deed) -> Result<(), Failure> {
        let mut operation = self.memory.operations[&key].clone();
        match self.make(key.0, deed) {
            Ok(state) => {
                operation.made = Some(state);
                operation.turn += 1;
                self.put_operation(operation)
            }
            Err(Failure::Refused(refusal)) => {
                self.notice(format!(
                    "a change of a team could not be made: {}",
                    refusal.text
                ));
                self.drop_operation(key)
            }
            Err(error) => Err(error),
        }
    }

    /// The first change of a team that is not on the way to its tip and makes sense there. Those
    /// that are settled, or make no sense any more, are forgotten.
    fn next_change(&mut self, id: TeamId) -> Result<Option<Next>, Failure> {
        for key in self.operations_of(id) {
            let operation = self.memory.operations[&key].clone();
            let Some(team) = self.memory.teams.get(&id).cloned() else {
                self.drop_operation(key)?;
                continue;
            };
            if let Some(made) = operation.made {
                let known = self.memory.states.contains_key(&(id, made));
                if !known || self.is_settled(id, made) || planted(Fault::ChangesLost) {
                    self.drop_operation(key)?;
                    continue;
                }
                if self.on_path(id, made) {
                    continue;
                }
            }
            match self.step(&team, &operation)? {
                Step::Make(deed) => return Ok(Some((key, *deed))),
                Step::Wait => {}
                Step::Drop => self.drop_operation(key)?,
            }
        }
        Ok(None)
    }

    /// The keys of all changes of a team.
    pub(crate) fn operations_of(&self, id: TeamId) -> Vec<(TeamId, u64)> {
        let own = self.memory.operations.range((id, 0)..=(id, u64::MAX));
        own.map(|(key, _)| *key).collect()
    }

    fn is_settled(&self, team: TeamId, state: StateId) -> bool {
        let kept = self.memory.states.get(&(team, state));
        let old = kept.is_some_and(|one| one.made_ms + DAY_MS < self.now.millis());
        old && self.on_path(team, state) && self.is_sealed(team, state)
    }

    /// What a commit on the tip has to do for this.
    fn step(&self, team: &Team, operation: &Operation) -> Result<Step, Failure> {
        let tip = self.tip(team)?;
        let roles = &tip.roles;
        if team.is_out() || tip.namespace.is_none() {
            return Ok(Step::Drop);
        }
        if operation.what == What::Renew {
            return Ok(Some(Change::default()).into());
        }
        if roles.rank(team.device).is_none() {
            return Ok(Step::Drop);
        }
        let change = match &operation.what {
            What::Add { fingerprint } => return self.addition(team, tip, *fingerprint),
            What::Remove { device } => {
                let sense = tip.devices.contains(device) && roles.outranks(team.device, *device);
                let after = roles.without(&[*device]);
                let listed = !planted(Fault::NobodyRemoved);
                sense.then(|| Change {
                    remove: listed.then_some(*device).into_iter().collect(),
                    roles: (after != *roles).then_some(after),
                    ..Change::default()
                })
            }
            // On this branch it has not come in yet.
            What::Role { device, .. } if self.comes_again(tip, *device) => return Ok(Step::Wait),
            What::Role { device, role } => {
                let may = *device == team.device || roles.outranks(team.device, *device);
                let sense = may && tip.devices.contains(device);
                let after = changed(roles, *device, *role);
                after
                    .filter(|after| sense && !after.admins.is_empty() && after.fit())
                    .map(with_roles)
            }
            What::Announce { channel, on } => {
                let mut after = roles.clone();
                if *on {
                    after.announce.insert(*channel);
                } else {
                    after.announce.remove(channel);
                }
                (after != *roles).then(|| with_roles(after))
            }
            What::Allow { org, key, on } => {
                let mut after = roles.clone();
                if *on {
                    after.orgs.insert(*org, *key);
                } else {
                    after.orgs.remove(org);
                }
                let in_use = tip.foreign.values().any(|one| one == org);
                let sense = after != *roles && after.fit() && (*on || !in_use);
                sense.then(|| with_roles(after))
            }
            What::Renew => None,
        };
        Ok(change.into())
    }

    /// Whether a device came in on a branch that lost, and will be added again.
    fn comes_again(&self, tip: &State, device: u32) -> bool {
        let unknown = tip.used.key(device).is_none();
        unknown
            && self
                .states(tip.team)
                .any(|state| state.devices.contains(&device))
    }

    /// An addition, or another welcome for a device whose first one led to a branch that lost.
    fn addition(&self, team: &Team, tip: &State, device: [u8; 32]) -> Result<Step, Failure> {
        let inside = tip.used.iter().find(|(number, key)| {
            tip.devices.contains(number) && PublicKey(*key).fingerprint().0 == device
        });
        let is_in = inside.is_some();
        if let Some((number, _)) = inside
            && !self.is_astray(team.id, number)
        {
            return Ok(Step::Drop);
        }
        let Some(package) = self.package_for(team.id, device) else {
            return Ok(Step::Wait);
        };
        let Ok(candidate) = Candidate::read(&self.crypto, team.id, team.suite, &package) else {
            return Ok(Step::Drop);
        };
        // Removed since, or the number is another device's: it has to join anew.
        let number = candidate.leaf.device;
        if inside.map_or(tip.used.key(number).is_some(), |(known, _)| known != number) {
            return Ok(Step::Drop);
        }
        let certificate = candidate.leaf.credential.certificate.as_ref();
        let objection = self.certificate_objection(team, certificate, Fingerprint(device))?;
        if objection.is_some() {
            return Ok(Step::Drop);
        }
        let mut roles = tip.roles.clone();
        if certificate.is_some_and(|one| one.org != (team.id.origin, team.id.org)) {
            roles.guests.insert(number);
        }
        let turn = self.next_turn(team.id, number);
        let parcel = self.parcel(team, tip, &candidate.leaf, turn)?;
        let change = Change {
            add: vec![candidate],
            remove: is_in.then_some(number).into_iter().collect(),
            roles: (roles != tip.roles).then_some(roles),
        };
        Ok(Step::Make(Box::new((change, Some(parcel)))))
    }

    /// When this device may commit in a team: at once where nobody hears it; else when it has heard
    /// everything, and in its turn among the admins.
    fn due_ms(&self, id: TeamId) -> u64 {
        let Some(ready) = self.ready_ms(id) else {
            return 0;
        };
        let Some(team) = self.memory.teams.get(&id) else {
            return 0;
        };
        let Ok(tip) = self.tip(team) else {
            return 0;
        };
        let count = tip.roles.admins.len() as u64;
        let slot = match tip.roles.rank(team.device) {
            Some(rank) => (rank as u64 + count - tip.epoch % count) % count,
            // Others renew their leaves after all admins had their turns.
            None => count + u64::from(team.device % 8),
        };
        let begun = [&self.link.turn_ms, &self.link.asked_ms];
        let begun = begun.iter().filter_map(|times| times.get(&id).copied());
        if slot == 0 {
            ready
        } else {
            begun.fold(ready, u64::max) + slot.min(TURNS) * TURN_MS
        }
    }

    /// Own changes that are not in effect.
    pub(crate) fn count_waiting(&self, team: TeamId) -> u32 {
        let own = self.memory.operations.range((team, 0)..=(team, u64::MAX));
        own.filter(|(_, one)| self.waits(one)).count() as u32
    }

    /// Whether a change is not in effect.
    pub(crate) fn waits(&self, one: &Operation) -> bool {
        one.made.is_none_or(|made| !self.on_path(one.team, made))
    }

    pub(crate) fn devices(&mut self, id: TeamId) -> Result<Answer, Failure> {
        let team = self.team(id)?.clone();
        let tip = self.tip(&team)?;
        let (roles, namespace) = (tip.roles.clone(), tip.namespace);
        let foreign = tip.foreign.clone();
        let Some(namespace) = namespace else {
            return refuse(Code::Forbidden, "this device was removed from the team");
        };
        self.load_group(id, namespace)?;
        let mut devices: Vec<ApiDevice> = self.groups[&namespace]
            .leaves()
            .into_iter()
            .map(|leaf| ApiDevice {
                warning: self.warning(id, leaf.device),
                guest_of: foreign.get(&leaf.device).map(|org| org.1),
                last_seen_ms: if leaf.device == team.device {
                    self.now.millis()
                } else {
                    self.last_seen_ms(id, leaf.device)
                },
                since_epoch: team
                    .members
                    .get(&leaf.device)
                    .map_or(0, |member| member.since),
                ..device_answer(leaf, &roles, team.device)
            })
            .collect();
        devices.sort_by_key(|device| device.device);
        Ok(Answer::Devices(devices))
    }
}

/// A device as people see it; since when it is in, and what speaks against it, the caller knows.
pub(crate) fn device_answer(leaf: Leaf, roles: &Roles, own: u32) -> ApiDevice {
    let fingerprint = leaf.credential.publishing_key().fingerprint();
    ApiDevice {
        device: leaf.device,
        fingerprint: fingerprint.to_hex(),
        digits: fingerprint.digits(),
        user: leaf.credential.user,
        name: leaf.credential.device_name,
        admin: roles.rank(leaf.device).is_some(),
        own: leaf.device == own,
        role: role_of(roles, leaf.device),
        rank: roles.rank(leaf.device).map(|rank| rank as u32),
        warning: String::new(),
        since_epoch: 0,
        guest_of: None,
        last_seen_ms: 0,
    }
}

fn with_roles(roles: Roles) -> Change {
    Change {
        roles: Some(roles),
        ..Change::default()
    }
}

pub(crate) fn role_of(roles: &Roles, device: u32) -> Role {
    match roles.rank(device) {
        Some(0) => Role::Owner,
        Some(_) => Role::Admin,
        None if roles.guests.contains(&device) => Role::Guest,
        None => Role::Member,
    }
}

/// Roles with another one for a device; none if it has that role.
fn changed(roles: &Roles, device: u32, role: Role) -> Option<Roles> {
    let now = role_of(roles, device);
    if now == role || (now == Role::Owner && role == Role::Admin) {
        return None;
    }
    let mut after = roles.without(&[device]);
    match role {
        Role::Owner | Role::Admin => after.admins.push(device),
        Role::Guest => {
            after.guests.insert(device);
        }
        Role::Member => {}
    }
    Some(after)
}
