//! The states of a team that this device keeps: which is in use, which lost, and when their secrets
//! go.
//!
//! Which one wins is `branch`'s business; here its input is kept and its verdict is carried out.
//! Nothing is ever rolled back: each state has a namespace of its own, and a verdict only names
//! another tip. Source: docs/architecture.md, "State, commits".

use std::collections::{BTreeMap, BTreeSet};

use endpoint_secure_api::{ChannelId, TeamId};
use serde::{Deserialize, Serialize};

use crate::branch::{self, Class, Commit, Known, StateId, Verdict};
use crate::device::session::{Failure, Session};
use crate::evidence::Misdeed;
use crate::fault::{Fault, planted};
use crate::group::{Group, Leaf};
use crate::naming;
use crate::orgs::OrgId;
use crate::roles::Roles;
use crate::store::{Kind, StoreError};
use crate::team::{Member, Team, state_bytes};

/// States that are kept of a team, at most, and for how long: late messages and late commits need
/// their state.
const KEPT: usize = 64;
const KEPT_MS: u64 = 30 * proto::limits::DAY_MS;
/// How long a state is kept after it was left, if the choice among its children is settled, in
/// milliseconds.
const SETTLED_MS: u64 = 7 * proto::limits::DAY_MS;
/// Losing states that are remembered, so that their messages stay marked.
const REMEMBERED: usize = 4096;
static NOBODY: BTreeSet<u32> = BTreeSet::new();

/// A state of a team's group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The team.
    pub team: TeamId,
    /// The state.
    pub id: StateId,
    /// What people compare, see [`Group::code`]; empty if this device is not in it.
    pub code: String,
    /// Where its MLS state lies; none if this device is not in it.
    pub namespace: Option<i64>,
    /// Its epoch.
    pub epoch: u64,
    /// When it was made here.
    pub made_ms: u64,
    /// How it came about; none where this device came in.
    pub commit: Option<Done>,
    /// Its devices.
    pub devices: BTreeSet<u32>,
    /// Its roles.
    pub roles: Roles,
    /// Its devices of other organisations than the team's.
    #[serde(default)]
    pub foreign: BTreeMap<u32, OrgId>,
    /// All device numbers that were used up to here, with their publishing keys.
    pub used: Used,
    /// Who has written a message in it.
    pub witnesses: BTreeSet<u32>,
    /// How often this device had been welcomed when it came in here; 0 elsewhere. The last one counts.
    pub turn: u32,
}

/// A valid commit.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Done {
    /// The state it follows.
    pub parent: StateId,
    /// Its author.
    pub author: u32,
    /// What it does.
    pub class: Class,
    /// Whom it removes.
    pub removed: Vec<u32>,
    /// Whom it adds or welcomes again.
    pub welcomed: Vec<Welcomed>,
    /// The SHA-256 of the MLS message.
    pub digest: [u8; 32],
    /// What its author wrote beside it.
    pub notes: Notes,
}

/// A device that a commit has welcomed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Welcomed {
    /// Its number.
    pub device: u32,
    /// The SHA-256 of its key package, which is used no more: on a branch that loses, the device needs
    /// another welcome with another one.
    pub package: [u8; 32],
}

/// What travels, signed, beside a commit.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Notes {
    /// How far the feeds of those who are removed were accepted: nothing later is.
    pub fences: Vec<Fence>,
    /// Grants for those who become admins.
    pub grants: Vec<(u32, Vec<Vec<u8>>)>,
    /// How often those it adds have been welcomed; the last welcome counts for them.
    pub turn: u32,
    /// The invite of the device that it adds, and the key under which its key packages are sealed: with
    /// them any admin may welcome it again.
    pub invite: Option<(crate::invite::InviteId, crate::team::Seed)>,
}

/// Where a removed device's feed of a channel ends.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fence {
    /// The device.
    pub device: u32,
    /// The channel.
    pub channel: u16,
    /// The number after its last accepted entry.
    pub next: u32,
    /// That entry's hash.
    pub hash: [u8; 16],
}

/// Device numbers with publishing keys, packed: a team of 1,000 devices writes this with each state.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Used(#[serde(with = "crate::store::bytes")] Vec<u8>);

const USED_BYTES: usize = 4 + 32;

impl Used {
    /// All of them, by number.
    pub fn iter(&self) -> impl Iterator<Item = (u32, [u8; 32])> {
        self.0.chunks_exact(USED_BYTES).filter_map(|entry| {
            let (number, key) = entry.split_first_chunk::<4>()?;
            Some((u32::from_be_bytes(*number), key.try_into().ok()?))
        })
    }

    /// The key of a number.
    pub fn key(&self, device: u32) -> Option<[u8; 32]> {
        self.iter()
            .find(|(number, _)| *number == device)
            .map(|(_, key)| key)
    }

    /// Adds numbers; known ones stay as they are.
    pub fn with(&self, more: impl IntoIterator<Item = (u32, [u8; 32])>) -> Self {
        let mut all: BTreeMap<u32, [u8; 32]> = self.iter().collect();
        for (device, key) in more {
            all.entry(device).or_insert(key);
        }
        let entries = all.iter();
        Self(
            entries
                .flat_map(|(number, key)| [&number.to_be_bytes()[..], key].concat())
                .collect(),
        )
    }
}

impl State {
    /// A state in which this device came in. Its devices and their numbers are the caller's.
    pub fn root(
        team: TeamId,
        group: &Group,
        namespace: i64,
        now: proto::Timestamp,
    ) -> Result<Self, Failure> {
        Ok(Self {
            team,
            id: group.state_id(),
            code: group.code(),
            namespace: Some(namespace),
            epoch: group.epoch(),
            made_ms: now.millis(),
            commit: None,
            devices: BTreeSet::new(),
            roles: group.roles()?,
            foreign: foreign(team, &group.leaves()),
            used: Used::default(),
            witnesses: BTreeSet::new(),
            turn: 0,
        })
    }

    /// The organisation that a device is of.
    pub fn org_of(&self, device: u32) -> OrgId {
        let foreign = self.foreign.get(&device).copied();
        foreign.unwrap_or((self.team.origin, self.team.org))
    }

    fn parent(&self) -> Option<StateId> {
        self.commit.as_ref().map(|commit| commit.parent)
    }

    fn known(&self) -> Known<'_> {
        Known {
            id: self.id,
            commit: self.commit.as_ref().map(|commit| Commit {
                parent: commit.parent,
                author: commit.author,
                class: commit.class,
                removed: &commit.removed,
                digest: commit.digest,
            }),
            admins: &self.roles.admins,
            devices: &self.devices,
            witnesses: if planted(Fault::VoicesUnheard) {
                &NOBODY
            } else {
                &self.witnesses
            },
        }
    }
}

impl Session {
    pub(crate) fn states(&self, team: TeamId) -> impl Iterator<Item = &State> {
        let range = (team, StateId::default())..=(team, [u8::MAX; 8]);
        self.memory.states.range(range).map(|(_, state)| state)
    }

    /// The state in use.
    pub(crate) fn tip(&self, team: &Team) -> Result<&State, Failure> {
        let state = self.memory.states.get(&(team.id, team.tip));
        Ok(state.ok_or(StoreError::Corrupt)?)
    }

    /// Takes a state in, and does what follows from knowing it.
    pub(crate) fn add_state(&mut self, state: State) -> Result<(), Failure> {
        let (team, id) = (state.team, state.id);
        let new = state.devices.iter().copied();
        let new = new.filter(|one| !self.memory.seen.contains_key(&(team, *one)));
        self.saw(team, new.collect::<Vec<u32>>(), self.now.millis())?;
        self.put_state(state)?;
        self.settle(team)?;
        self.retry_waiting(team, id)
    }

    /// Takes in a state to which this device has been welcomed again.
    pub(crate) fn return_to(&mut self, state: State) -> Result<(), Failure> {
        let known = self.memory.states.get(&(state.team, state.id));
        let state = match known {
            // Its own commit was heard of, and could not be entered.
            Some(known) if known.commit.is_some() => State {
                code: state.code,
                namespace: state.namespace,
                turn: state.turn,
                ..known.clone()
            },
            _ => state,
        };
        self.add_state(state)
    }

    fn put_state(&mut self, state: State) -> Result<(), Failure> {
        let key = (state.team, state.id);
        self.store
            .put(Kind::State, &state_bytes(key.0, key.1), &state)?;
        self.memory.states.insert(key, state);
        Ok(())
    }

    /// Notes that a device has written in a state: it may settle which branch wins.
    pub(crate) fn witness(
        &mut self,
        team: TeamId,
        id: StateId,
        device: u32,
    ) -> Result<(), Failure> {
        let Some(state) = self.memory.states.get_mut(&(team, id)) else {
            return Ok(());
        };
        if !state.witnesses.insert(device) {
            return Ok(());
        }
        self.store.put(Kind::State, &state_bytes(team, id), state)?;
        self.settle(team)
    }

    /// Judges anew, and follows the verdict.
    pub(crate) fn settle(&mut self, id: TeamId) -> Result<(), Failure> {
        let Some(team) = self.memory.teams.get(&id) else {
            return Ok(());
        };
        let verdict = self.verdict(id);
        let mut next = team.clone();
        for state in self.states(id) {
            if verdict.holds(state.id) {
                next.lost.remove(&state.id);
            } else if next.lost.len() < REMEMBERED {
                next.lost.insert(state.id);
            }
        }
        next.tip = verdict.tip();
        let moved = next.tip != team.tip || next.lost != team.lost;
        let left = !verdict.holds(team.tip) && self.memory.states.contains_key(&(id, team.tip));
        if moved {
            self.take_over(&verdict, &mut next);
            let own = next.device;
            let inside = self.states(id).find(|one| one.id == next.tip);
            next.removed = inside.is_none_or(|state| !state.devices.contains(&own));
            let news = match (team.removed, next.removed, left) {
                (false, true, _) => Some(self.farewell(&verdict, &next)),
                (_, false, true) => Some(format!(
                    "{}: changes that were made apart from each other have been brought together",
                    next.name
                )),
                _ => None,
            };
            self.told.notices.extend(news);
            self.tell_all(id);
            self.link.turn_ms.insert(id, self.now.millis());
            self.put_team(next)?;
        }
        self.memory.verdicts.insert(id, verdict.clone());
        if moved {
            let team = self.team(id)?.clone();
            self.lift_fences(&team)?;
            self.raise_fences(&team)?;
            self.follow_requests()?;
        }
        self.carry_over(id, &verdict)?;
        self.end_grants(id)?;
        self.prune_states(id)
    }

    /// Members and grants as the path to the tip says.
    fn take_over(&self, verdict: &Verdict, team: &mut Team) {
        for id in &verdict.path {
            let Some(state) = self.memory.states.get(&(team.id, *id)) else {
                continue;
            };
            let commit = state.commit.as_ref();
            for (device, chain) in commit.into_iter().flat_map(|one| &one.notes.grants) {
                if *device == team.device {
                    team.take_chain(chain);
                }
            }
        }
        if let Some(tip) = self.memory.states.get(&(team.id, team.tip)) {
            for (device, publishing) in tip.used.iter() {
                let since = tip.epoch;
                let member = team
                    .members
                    .entry(device)
                    .or_insert(Member { publishing, since });
                member.publishing = publishing;
            }
        }
    }

    fn farewell(&self, verdict: &Verdict, team: &Team) -> String {
        let by = verdict.path.iter().rev().find_map(|id| {
            let commit = self.memory.states.get(&(team.id, *id))?.commit.as_ref()?;
            commit
                .removed
                .contains(&team.device)
                .then_some(commit.author)
        });
        match by {
            Some(device) => format!(
                "{}: device {device} has removed this device from the team; it reads nothing newer",
                team.name
            ),
            None => format!("{}: this device is no longer in the team", team.name),
        }
    }

    fn tell_all(&mut self, team: TeamId) {
        self.told.teams = true;
        self.told.channels.insert(team);
        let channels: Vec<_> = self.channels_of(team).map(|one| one.id).collect();
        self.told
            .messages
            .extend(channels.into_iter().filter(|id| id.channel > 0));
    }

    fn verdict(&self, team: TeamId) -> Verdict {
        let known: Vec<Known<'_>> = self.states(team).map(State::known).collect();
        let mut turns: BTreeMap<StateId, (u32, u64)> = BTreeMap::new();
        for state in self.states(team) {
            let root = self.root_of(state);
            let (turn, epoch) = turns.entry(root.id).or_default();
            *turn = state.turn.max(*turn);
            *epoch = root.epoch;
        }
        // Several only where this device was welcomed again.
        let root = turns
            .iter()
            .max_by_key(|(id, (turn, epoch))| (*turn, std::cmp::Reverse((*epoch, **id))))
            .map(|(id, _)| *id);
        root.map_or_else(Verdict::default, |root| branch::judge(root, &known))
    }

    /// The oldest state that is known and leads to a state.
    fn root_of<'a>(&'a self, state: &'a State) -> &'a State {
        let mut at = state;
        while let Some(parent) = at
            .parent()
            .and_then(|id| self.memory.states.get(&(at.team, id)))
        {
            at = parent;
        }
        at
    }

    /// Whether a state is on the way to the one in use.
    pub(crate) fn on_path(&self, team: TeamId, state: StateId) -> bool {
        let verdict = self.memory.verdicts.get(&team);
        verdict.is_some_and(|verdict| verdict.holds(state))
    }

    /// Whether the choice that led to a state is settled.
    pub(crate) fn is_sealed(&self, team: TeamId, state: StateId) -> bool {
        let verdict = self.memory.verdicts.get(&team);
        verdict.is_some_and(|verdict| verdict.sealed.contains(&state))
    }

    /// Whether a device may have come in where the branch lost. Admins who were apart may have welcomed it
    /// equally often: it follows the first that it hears of.
    pub(crate) fn is_astray(&self, team: TeamId, device: u32) -> bool {
        let last = self.last_welcome(team, device).map(|(turn, _)| turn);
        self.states(team).any(|state| {
            let commit = state.commit.as_ref();
            commit.is_some_and(|commit| {
                let it = commit.welcomed.iter().any(|one| one.device == device);
                it && Some(commit.notes.turn) == last && !self.on_path(team, state.id)
            })
        })
    }

    /// The last welcome of a device that is known: how often it was welcomed then, and where to.
    pub(crate) fn last_welcome(&self, team: TeamId, device: u32) -> Option<(u32, &State)> {
        let welcomes = self.states(team).filter_map(|state| {
            let commit = state.commit.as_ref()?;
            let it = commit.welcomed.iter().any(|one| one.device == device);
            it.then_some((commit.notes.turn, state))
        });
        welcomes.max_by_key(|(turn, state)| (*turn, state.id))
    }

    /// Where the feed of somebody who was removed ends; none for somebody who was not.
    pub(crate) fn fence(&self, team: &Team, device: u32, channel: u16) -> Option<u32> {
        let tip = self.memory.states.get(&(team.id, team.tip))?;
        if tip.devices.contains(&device) {
            let channel = ChannelId {
                team: team.id,
                channel,
            };
            let row = self.memory.channels.get(&channel)?.row;
            return self.cut(tip, device, row);
        }
        let path = &self.memory.verdicts.get(&team.id)?.path;
        let removal = path.iter().rev().find_map(|id| {
            let commit = self.memory.states.get(&(team.id, *id))?.commit.as_ref()?;
            commit.removed.contains(&device).then_some(commit)
        })?;
        let mut fences = removal.notes.fences.iter();
        let found = fences.find(|one| (one.device, one.channel) == (device, channel));
        Some(found.map_or(0, |fence| fence.next))
    }

    /// Who was removed on the way to the tip.
    pub(crate) fn removed_on_path(&self, team: TeamId) -> BTreeSet<u32> {
        let path = self.memory.verdicts.get(&team);
        let path = path.into_iter().flat_map(|verdict| &verdict.path);
        path.filter_map(|id| self.memory.states.get(&(team, *id))?.commit.as_ref())
            .flat_map(|commit| commit.removed.iter().copied())
            .collect()
    }

    /// Deletes the secrets of all teams' states whose time is over.
    pub(crate) fn prune_all(&mut self) -> Result<(), Failure> {
        let teams: Vec<TeamId> = self.memory.teams.keys().copied().collect();
        teams.into_iter().try_for_each(|id| self.prune_states(id))
    }

    /// When the next state's time is over.
    pub(crate) fn prune_ms(&self) -> Option<u64> {
        let teams = self.memory.verdicts.keys();
        teams.filter_map(|id| Some(self.next_end(*id)?.0)).min()
    }

    /// Deletes the secrets of states that are settled, too many, or too old: oldest first, and with
    /// each state the branches that lost against the way to the tip.
    fn prune_states(&mut self, team: TeamId) -> Result<(), Failure> {
        while let Some(keep) = self.kept_from(team) {
            let oldest = self.memory.verdicts[&team].path[0];
            self.hand_on_turn(team, oldest, keep)?;
            self.forget_fenced(team, oldest)?;
            let gone: Vec<StateId> = self
                .states(team)
                .filter(|state| !self.is_from(state, keep))
                .map(|state| state.id)
                .collect();
            for id in gone {
                self.drop_state(team, id)?;
            }
            let verdict = self.verdict(team);
            self.memory.verdicts.insert(team, verdict);
        }
        Ok(())
    }

    /// The removals of a state that goes are final: what is behind their fences is never shown.
    fn forget_fenced(&mut self, team: TeamId, state: StateId) -> Result<(), Failure> {
        let state = self.memory.states.get(&(team, state));
        let commit = state.and_then(|state| state.commit.as_ref());
        let removed = commit.map_or_else(Vec::new, |commit| commit.removed.clone());
        for device in removed {
            self.drop_fenced(team, device)?;
        }
        Ok(())
    }

    /// The next state becomes where this device came in.
    fn hand_on_turn(&mut self, team: TeamId, from: StateId, to: StateId) -> Result<(), Failure> {
        let turn = self
            .memory
            .states
            .get(&(team, from))
            .map_or(0, |state| state.turn);
        let next = self.memory.states.get(&(team, to));
        match next {
            Some(next) if next.turn < turn => {
                let next = State {
                    turn,
                    ..next.clone()
                };
                self.put_state(next)
            }
            _ => Ok(()),
        }
    }

    /// The state from which on all are kept from now on, if that is another one than before.
    fn kept_from(&self, team: TeamId) -> Option<StateId> {
        let path = &self.memory.verdicts.get(&team)?.path;
        let next = path.get(1).copied();
        let full = self.states(team).count() > KEPT || planted(Fault::SecretsForgotten);
        next.filter(|_| full).or_else(|| {
            let (at_ms, keep) = self.next_end(team)?;
            (at_ms < self.now.millis()).then_some(keep)
        })
    }

    /// When the next state of a team goes, and from which on all stay then.
    fn next_end(&self, team: TeamId) -> Option<(u64, StateId)> {
        let verdict = self.memory.verdicts.get(&team)?;
        let oldest = *verdict.path.first()?;
        let made = |id| Some(self.memory.states.get(&(team, id))?.made_ms);
        // From when it was left, not made: in a team that was quiet for long, changes made apart still
        // have to come together.
        let left = verdict.path.get(1).and_then(|next| {
            let settled = verdict.sealed.contains(next);
            let stays = if settled { SETTLED_MS } else { KEPT_MS };
            Some((made(*next)? + stays, *next))
        });
        // Where this device was before it was welcomed anew.
        let is_root = |state: &State| {
            let parent = state.parent();
            parent.is_none_or(|id| !self.memory.states.contains_key(&(team, id)))
        };
        let mut roots = self.states(team).filter(|state| is_root(state));
        let beside = roots.any(|state| state.id != oldest);
        let beside = beside.then_some((made(oldest)? + KEPT_MS, oldest));
        left.into_iter().chain(beside).min()
    }

    /// Whether a state is another, or follows it.
    fn is_from(&self, state: &State, first: StateId) -> bool {
        let mut at = Some(state);
        while let Some(state) = at.filter(|state| state.id != first) {
            let parent = state.parent();
            at = parent.and_then(|id| self.memory.states.get(&(state.team, id)));
        }
        at.is_some()
    }

    fn drop_state(&mut self, team: TeamId, id: StateId) -> Result<(), Failure> {
        self.store.delete(Kind::State, &state_bytes(team, id))?;
        if let Some(namespace) = self
            .memory
            .states
            .remove(&(team, id))
            .and_then(|one| one.namespace)
        {
            self.store.delete_mls(namespace)?;
            self.groups.remove(&namespace);
        }
        Ok(())
    }

    /// Forgets all states of a team.
    pub(crate) fn forget_states(&mut self, team: TeamId) -> Result<(), Failure> {
        let all: Vec<StateId> = self.states(team).map(|state| state.id).collect();
        self.memory.verdicts.remove(&team);
        all.into_iter().try_for_each(|id| self.drop_state(team, id))
    }

    /// Reads the verdicts of all teams, when the store was opened.
    pub(crate) fn judge_all(&mut self) {
        let teams: Vec<TeamId> = self.memory.teams.keys().copied().collect();
        for team in teams {
            let verdict = self.verdict(team);
            self.memory.verdicts.insert(team, verdict);
        }
    }

    /// Whether a commit is known already.
    pub(crate) fn knows_commit(&self, team: TeamId, digest: [u8; 32]) -> bool {
        let mut states = self.states(team);
        states.any(|state| {
            state
                .commit
                .as_ref()
                .is_some_and(|one| one.digest == digest)
        })
    }

    /// Notes that a device has signed two commits of one state, which no honest one does.
    pub(crate) fn look_for_equivocation(&mut self, state: &State) -> Result<(), Failure> {
        let Some(commit) = &state.commit else {
            return Ok(());
        };
        let other = self.states(state.team).find_map(|one| {
            let other = one.commit.as_ref().filter(|_| one.id != state.id)?;
            let same = (other.parent, other.author) == (commit.parent, commit.author);
            same.then_some(other.digest)
        });
        let Some(other) = other else {
            return Ok(());
        };
        let what = Misdeed::TwoCommits {
            parent: commit.parent,
            digests: [other, commit.digest],
        };
        self.accuse(state.team, commit.author, what)
    }
}

/// Those of some leaves that another organisation than the team's has certified.
pub(crate) fn foreign(team: TeamId, leaves: &[Leaf]) -> BTreeMap<u32, OrgId> {
    let of = |leaf: &Leaf| {
        let org = leaf.credential.certificate.as_ref()?.org;
        (org != (team.origin, team.org)).then_some((leaf.device, org))
    };
    leaves.iter().filter_map(of).collect()
}

/// The key of rows that belong to a team and a number.
pub(crate) fn numbered(team: TeamId, number: u64) -> Vec<u8> {
    [&naming::team_bytes(team)[..], &number.to_be_bytes()].concat()
}
