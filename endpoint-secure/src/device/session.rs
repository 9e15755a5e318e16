//! An unlocked device: its open store, what is mirrored of it in memory, and the transaction frame.
//!
//! What an event means is decided in `team`, `admission`, `join`, `commit`, `feed`, `pending`, `outbox` and
//! `history`; here is only what they share. Memory is a mirror: after a roll-back it is read anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use endpoint_secure_api::{
    Answer, ChannelId, Code, Command, Event as ApiEvent, Locking, Profile, Refusal, TeamId,
};
use proto::{Name, Signer, Timestamp};

use super::Effect;
use crate::admission::{Adding, Request};
use crate::branch::Verdict;
use crate::evidence::{Evidence, EvidenceKey};
use crate::feed::{Feed, Fenced};
use crate::group::{Crypto, Group, GroupError, Provider, StateId};
use crate::hold::Held;
use crate::invite::InviteId;
use crate::issued::Issued;
use crate::join::Joining;
use crate::operation::Operation;
use crate::orgs::{Certificate, OrgId, Revoked};
use crate::outbox::Link;
use crate::relays::Found;
use crate::seen::Seen;
use crate::states::State;
use crate::store::{Kind, Store, StoreError};
use crate::team::{Channel, Counters, Founding, Network, Organisation, Subscription, Team};
use crate::waiting::Waiting;

pub use crate::team::Identity;

/// MLS states that stay loaded, beside the tip of each team.
const LOADED_STATES: usize = 32;
/// Lines that are said once, at most.
const SAID: usize = 256;

/// Why a step was not done.
#[derive(Debug)]
pub enum Failure {
    /// For a reason that the person may know.
    Refused(Refusal),
    /// Because the disk failed.
    Store(StoreError),
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<GroupError> for Failure {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::Store(error) => Self::Store(error),
            other => Self::Refused(Refusal::new(Code::Verification, other.to_string())),
        }
    }
}

pub(crate) fn refuse<T>(code: Code, text: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Refused(Refusal::new(code, text)))
}

/// What is mirrored of the store.
pub(crate) struct Memory {
    pub identity: Identity,
    pub signer: Signer,
    pub network: Network,
    pub locking: Locking,
    pub counters: Counters,
    pub organisations: BTreeMap<(u32, u32), Organisation>,
    pub teams: BTreeMap<TeamId, Team>,
    pub states: BTreeMap<(TeamId, StateId), State>,
    pub channels: BTreeMap<ChannelId, Channel>,
    pub feeds: BTreeMap<(i64, u32), Feed>,
    pub joining: BTreeMap<TeamId, Joining>,
    pub adding: BTreeMap<(TeamId, String), Adding>,
    pub issued: BTreeMap<(TeamId, InviteId), Issued>,
    pub requests: BTreeMap<(TeamId, [u8; 32]), Request>,
    pub subscriptions: BTreeMap<(u128, u8), Subscription>,
    pub operations: BTreeMap<(TeamId, u64), Operation>,
    pub held: BTreeMap<(TeamId, u64), Held>,
    pub fenced: BTreeMap<(i64, u32, u32), Fenced>,
    pub evidence: BTreeMap<EvidenceKey, Evidence>,
    pub seen: BTreeMap<(TeamId, u32), u64>,
    pub founding: Option<Founding>,
    pub certificates: BTreeMap<OrgId, Certificate>,
    pub revoked: BTreeMap<(OrgId, [u8; 32]), Revoked>,
    pub waiting: Waiting,
    /// Derived of the states, and not on disk.
    pub verdicts: BTreeMap<TeamId, Verdict>,
}

impl Memory {
    fn load(store: &Store) -> Result<Self, StoreError> {
        let identity: Identity = store.get(Kind::Identity, b"")?.ok_or(StoreError::Corrupt)?;
        let channels: Vec<Channel> = store.all(Kind::Channel)?;
        let feeds: Vec<Feed> = store.all(Kind::Feed)?;
        let states: Vec<State> = store.all(Kind::State)?;
        let adding: Vec<Adding> = store.all(Kind::Adding)?;
        let issued: Vec<Issued> = store.all(Kind::Issued)?;
        let requests: Vec<Request> = store.all(Kind::Request)?;
        let joining: Vec<Joining> = store.all(Kind::Joining)?;
        let held: Vec<Held> = store.all(Kind::Held)?;
        let fenced: Vec<Fenced> = store.all(Kind::Fenced)?;
        let evidence: Vec<Evidence> = store.all(Kind::Evidence)?;
        let certificates: Vec<Certificate> = store.all(Kind::Certificate)?;
        let revoked: Vec<Revoked> = store.all(Kind::Revoked)?;
        let seen: Vec<Seen> = store.all(Kind::Seen)?;
        let operations: Vec<Operation> = store.all(Kind::Operation)?;
        let teams: Vec<Team> = store.all(Kind::Team)?;
        let organisations: Vec<Organisation> = store.all(Kind::Organisation)?;
        let subscriptions: Vec<Subscription> = store.all(Kind::Subscription)?;
        let teams: BTreeMap<TeamId, Team> = by(teams, |one| one.id);
        Ok(Self {
            waiting: Waiting::load(store, &teams)?,
            signer: identity.signer(),
            identity,
            network: store.get(Kind::Network, b"")?.unwrap_or_default(),
            locking: store.get(Kind::Locking, b"")?.unwrap_or_default(),
            counters: store.get(Kind::Counters, b"")?.unwrap_or_default(),
            organisations: by(organisations, |one| one.key()),
            teams,
            states: by(states, |one| (one.team, one.id)),
            channels: by(channels, |one| one.id),
            feeds: by(feeds, |one| (one.channel, one.device)),
            joining: by(joining, |one| one.team),
            adding: by(adding, |one| (one.team, one.digits.clone())),
            issued: by(issued, |one| one.key()),
            requests: by(requests, |one| (one.team, one.fingerprint)),
            subscriptions: by(subscriptions, |one| (one.first, one.bits)),
            operations: by(operations, |one| (one.team, one.number)),
            fenced: by(fenced, |one| (one.row, one.device, one.number)),
            held: by(held, |one| (one.channel.team, one.order)),
            evidence: by(evidence, Evidence::key),
            founding: store.get(Kind::Founding, b"")?,
            certificates: by(certificates, |one| one.org),
            revoked: by(revoked, |one| (one.org, one.device)),
            seen: seen.into_iter().map(|one| one.entry()).collect(),
            verdicts: BTreeMap::new(),
        })
    }
}

fn by<K: Ord, V>(values: Vec<V>, key: impl Fn(&V) -> K) -> BTreeMap<K, V> {
    values
        .into_iter()
        .map(|value| (key(&value), value))
        .collect()
}

/// What the front end is told at the end of an event.
#[derive(Default)]
pub(crate) struct Told {
    pub teams: bool,
    pub channels: BTreeSet<TeamId>,
    pub messages: BTreeSet<ChannelId>,
    pub notices: Vec<String>,
    /// Lines that are not said again.
    pub once: BTreeSet<String>,
    pub configure: bool,
    pub queue_moved: bool,
    pub relays: bool,
}

/// An unlocked device.
pub struct Session {
    pub(crate) store: Store,
    pub(crate) crypto: Crypto,
    pub(crate) now: Timestamp,
    pub(crate) memory: Memory,
    pub(crate) groups: HashMap<i64, Group>,
    pub(crate) link: Link,
    pub(crate) told: Told,
    /// Relays that the network process has found.
    pub(crate) found: Vec<Found>,
    /// Names whose objects are to be tried, and whether somebody is at it.
    pub(crate) to_try: BTreeSet<Name>,
    pub(crate) trying: bool,
    pub(crate) releasing_all: bool,
    /// The channel and token of a message for which there was no room, and what was said of it.
    pub(crate) no_room: Option<(ChannelId, u64, Refusal)>,
    /// Lines that were said and are not said again.
    said: BTreeSet<String>,
    changes: u64,
    effects: Vec<Effect>,
    queue_moved: bool,
}

impl Session {
    /// Writes the identity of a new profile.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn found(store: &Store, identity: &Identity) -> Result<(), StoreError> {
        store.begin()?;
        store.put(Kind::Identity, b"", identity)?;
        store.commit()
    }

    /// Loads everything. `last_id` is the last subscription id of the link.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn load(store: Store, last_id: u32) -> Result<Self, StoreError> {
        let mut this = Self {
            memory: Memory::load(&store)?,
            store,
            crypto: Crypto::default(),
            now: Timestamp::default(),
            groups: HashMap::new(),
            link: Link::after(last_id),
            told: Told::default(),
            found: Vec::new(),
            to_try: BTreeSet::new(),
            trying: false,
            releasing_all: false,
            said: BTreeSet::new(),
            changes: 0,
            effects: Vec::new(),
            no_room: None,
            queue_moved: false,
        };
        this.judge_all();
        Ok(this)
    }

    /// The last subscription id of the link.
    pub fn last_id(&self) -> u32 {
        self.link.last_id
    }

    /// Who this device is.
    pub fn profile(&self) -> Profile {
        Profile {
            user: self.memory.identity.user.clone(),
            device: self.memory.identity.device.clone(),
            fingerprint: self.memory.signer.public_key().fingerprint().to_hex(),
            digits: self.memory.signer.public_key().fingerprint().digits(),
        }
    }

    /// Opens the transaction of an event.
    ///
    /// # Errors
    /// [`Failure::Store`].
    pub fn begin(&mut self, now: Timestamp) -> Result<(), Failure> {
        let first = std::mem::replace(&mut self.now, now) == Timestamp::default();
        if first {
            self.hold_again();
        }
        self.changes = self.store.changes();
        self.store.begin()?;
        Ok(())
    }

    /// Puts the event on disk; only then its effects exist.
    ///
    /// # Errors
    /// [`Failure::Store`].
    pub fn commit(&mut self) -> Result<(), Failure> {
        self.memory.waiting.flush(&self.store)?;
        if self.store.changes() != self.changes {
            self.write_cursors()?;
        }
        self.store.commit()?;
        self.tell();
        self.synchronise();
        if self.groups.len() > LOADED_STATES + self.memory.teams.len() {
            self.groups.clear();
        }
        Ok(())
    }

    /// Forgets the event.
    pub fn roll_back(&mut self) {
        let wrote = self.store.changes() != self.changes;
        self.store.roll_back();
        self.told = Told::default();
        self.to_try.clear();
        self.releasing_all = false;
        self.groups.clear();
        if wrote || self.memory.waiting.is_dirty() {
            // When even reading fails, the next event fails too, and says so.
            if let Ok(memory) = Memory::load(&self.store) {
                self.memory = memory;
                self.judge_all();
            }
            self.link.start_over(self.now);
        }
    }

    /// What has become of the events since the last call.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether the number of queued messages may have changed.
    pub fn take_queue_moved(&mut self) -> bool {
        std::mem::take(&mut self.queue_moved)
    }

    /// Carries out a command of an unlocked device.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn command(&mut self, command: Command) -> Result<Answer, Failure> {
        match command {
            Command::CreateOrganisation {
                name,
                registration,
                relays,
            } => self.create_organisation(&name, &registration, &relays),
            Command::CreateTeam { name, suite } => self.create_team(&name, suite),
            Command::CreateChannel { team, name } => self.create_channel(team, &name),
            Command::CreateInvite { team, hours } => self.create_invite(team, hours),
            Command::Invites { team } => self.invites(team),
            Command::RevokeInvite { team, id } => self.revoke_invite(team, &id),
            Command::Requests { team } => self.requests(team),
            Command::ReadInvite { invite } => self.read_invite(&invite),
            Command::Join { invite } => self.join(&invite),
            Command::Preview { team } => self.preview(team),
            Command::Enter { team } => self.enter_team(team),
            Command::Decline { team } => self.decline(team),
            Command::AddDevice { team, fingerprint } => self.add_device(team, &fingerprint),
            Command::RemoveDevice { team, device } => self.remove_device(team, device),
            Command::SetRole { team, device, role } => self.set_role(team, device, role),
            Command::SetAnnounce { channel, on } => {
                self.set_announce(channel.team, channel.channel, on)
            }
            Command::CreateLink => self.create_link(),
            Command::JoinLink { link } => self.join_link(&link),
            Command::LinkDevice { fingerprint } => self.link_device(&fingerprint),
            Command::UnlinkDevice { fingerprint } => self.unlink_device(&fingerprint),
            Command::CreateDirect { name } => self.create_direct(&name),
            Command::Organisation { team } => self.organisation(team),
            Command::AllowOrganisation {
                team,
                organisation,
                on,
            } => self.allow_organisation(team, &organisation, on),
            Command::RevokeDevice { fingerprint } => self.revoke_device(&fingerprint),
            Command::Teams => Ok(self.teams()),
            Command::Channels { team } => self.channels(team),
            Command::Devices { team } => self.devices(team),
            Command::Send {
                channel,
                text,
                token,
            } => self.send(channel, &text, token),
            Command::Timeline {
                channel,
                anchor,
                count,
            } => self.timeline(channel, anchor, count),
            Command::MarkRead { up_to } => self.mark_read(up_to),
            Command::Relays => Ok(self.relays()),
            Command::TrustRelay { key } => self.trust_relay(&key),
            Command::RefuseRelay { key } => self.refuse_relay(&key),
            Command::ForgetRelay { key } => self.forget_relay(&key),
            Command::ServeLan { serve } => self.serve_lan(serve),
            Command::Locking => Ok(self.locking()),
            Command::SetLocking { locking } => self.set_locking(locking),
            Command::Status
            | Command::CreateProfile { .. }
            | Command::Unlock { .. }
            | Command::ChangePassphrase { .. }
            | Command::Lock
            | Command::Present
            | Command::Connectivity => refuse(Code::Usage, "that is not for an open profile"),
        }
    }

    /// Loads a state's group, unless it is loaded.
    pub(crate) fn load_group(&mut self, team: TeamId, namespace: i64) -> Result<(), Failure> {
        if !self.groups.contains_key(&namespace) {
            let provider = Provider::new(&self.store, &self.crypto, namespace);
            let group = Group::load(&provider, team)?;
            self.groups.insert(namespace, group);
        }
        Ok(())
    }

    /// A namespace that was never used.
    pub(crate) fn new_namespace(&mut self) -> Result<i64, Failure> {
        self.memory.counters.namespace += 1;
        self.store.put(Kind::Counters, b"", &self.memory.counters)?;
        Ok(self.memory.counters.namespace)
    }

    pub(crate) fn notice(&mut self, text: impl Into<String>) {
        self.told.notices.push(text.into());
    }

    /// What one thing that came cannot do concerns that thing alone: it is said, and the rest goes on. Only
    /// the disk's failures end an event.
    pub(crate) fn contain<T>(&mut self, done: Result<T, Failure>) -> Result<Option<T>, Failure> {
        match done {
            Ok(value) => Ok(Some(value)),
            Err(Failure::Refused(refusal)) => {
                self.notice_once(format!("something that came was left: {}", refusal.text));
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// A line that others can cause as often as they like: it is said once until the profile is locked.
    pub(crate) fn notice_once(&mut self, text: String) {
        if self.told.once.len() < SAID {
            self.told.once.insert(text);
        }
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    fn tell(&mut self) {
        let mut told = std::mem::take(&mut self.told);
        for line in std::mem::take(&mut told.once) {
            if self.said.len() < SAID && self.said.insert(line.clone()) {
                told.notices.push(line);
            }
        }
        let events = told
            .teams
            .then_some(ApiEvent::Teams)
            .into_iter()
            .chain(told.channels.into_iter().map(ApiEvent::Channels))
            .chain(told.messages.into_iter().map(ApiEvent::Messages))
            .chain(told.relays.then_some(ApiEvent::Relays))
            .chain(told.notices.into_iter().map(ApiEvent::Notice));
        self.effects.extend(events.map(Effect::Event));
        if told.configure {
            self.effects
                .push(Effect::Configure(self.memory.network.to_json()));
        }
        self.link.queue_moved |= told.queue_moved;
        if self.link.queue_moved && self.now.millis() >= self.link.queue_tell_ms {
            self.link.queue_moved = false;
            self.link.queue_tell_ms = self.now.millis() + crate::outbox::QUEUE_TELL_MS;
            self.queue_moved = true;
        }
    }
}
