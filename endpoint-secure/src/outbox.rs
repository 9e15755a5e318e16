//! The link to the network process: what is published, what is subscribed to, and what comes back.
//!
//! After each event the link is brought in line with the store ([`Session::synchronise`]): nothing
//! is sent from memory, so a crash or a new link only repeats what relays take as a no-op. Source:
//! docs/protocol.md, "Links".

use std::collections::{BTreeMap, BTreeSet};

use endpoint_secure_api::{Delivery, TeamId};
use proto::limits::{CHUNKS_PER_FRAME, DAY_MS};
use proto::{
    Chunk, Cursor, Frame, GrantId, Name, Order, Outcome, Path, Prefix, Refused, Start, Tier,
    Timestamp,
};

use crate::device::Effect;
use crate::device::session::{Failure, Session};
use crate::naming;
use crate::operation::{BACKLOG_MS, QUIET_MS};
use crate::store::outbox::NO_MESSAGE;
use crate::store::{Kind, StoreError};
use crate::team::Subscription;

/// Chunks that wait for their first acknowledgement, at most.
const WINDOW: usize = 256;
/// How long a full relay, or a failing disk of ours, is left alone, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// How often a chunk is answered "no such grant" before that is believed.
const GRANT_ATTEMPTS: u32 = 3;
/// How often the front end hears that the queue has moved, in milliseconds.
pub(crate) const QUEUE_TELL_MS: u64 = 300;
/// A device that has not heard everything for so long holds its messages until it has: they might be
/// for a state that others keep no more. A day less than that, in milliseconds.
const TOUCH_MS: u64 = 6 * DAY_MS;
/// How exactly that is kept on disk, in milliseconds.
const TOUCH_STEP_MS: u64 = 60 * 60 * 1000;
/// How long a cursor may stay in memory, in milliseconds: losing it costs some duplicates.
const CURSOR_MS: u64 = 2_000;

/// What this side knows of the link; a new link knows nothing.
#[derive(Default)]
pub(crate) struct Link {
    up: bool,
    granted: BTreeSet<GrantId>,
    in_flight: BTreeSet<Name>,
    refusals: BTreeMap<Name, u32>,
    /// Own chunks under whose names a relay says it has other bytes.
    pub(crate) conflicts: BTreeMap<Name, Chunk>,
    /// Everything up to here was published on this link.
    position: i64,
    /// Ids by prefix; 0 while a subscription waits for its next try.
    subscribed: BTreeMap<(u128, u8), u32>,
    stale: Vec<u32>,
    /// Subscription ids are not used twice, also over a lock and an unlock.
    pub(crate) last_id: u32,
    retry_ms: Option<u64>,
    cursors_ms: Option<u64>,
    /// Since when entries are held for those before them.
    pub(crate) held_since_ms: Option<u64>,
    fresh_cursors: BTreeSet<(u128, u8)>,
    pub(crate) queue_moved: bool,
    pub(crate) queue_tell_ms: u64,
    /// Whether this device has not heard since its start what it has written itself: a copy of a profile
    /// must not publish under numbers that are taken.
    unsure: bool,
    /// When this device was connected, or farther than before.
    since_ms: u64,
    /// When the last chunk came.
    pub(crate) heard_ms: u64,
    /// Subscriptions whose backlog has ended.
    caught: BTreeSet<(u128, u8)>,
    /// When changes of teams are to be looked at.
    pub(crate) pursue_ms: Option<u64>,
    /// Since when a team is as it is: the admins' turns count from there.
    pub(crate) turn_ms: BTreeMap<TeamId, u64>,
    /// When the first change of a team was asked for, of those that wait.
    pub(crate) asked_ms: BTreeMap<TeamId, u64>,
    /// Until when messages wait for a removal that has to be made again.
    pub(crate) hold_sending_ms: BTreeMap<TeamId, u64>,
}

impl Link {
    /// After a failed event: what came since the last commit has to come again.
    pub(crate) fn start_over(&mut self, now: Timestamp) {
        self.in_flight.clear();
        self.position = 0;
        self.fresh_cursors.clear();
        self.retry_ms = Some(now.millis() + RETRY_MS);
        // Unknown ids are ignored, so what still comes for the old ones does no harm.
        for id in self.subscribed.values_mut() {
            self.stale.push(std::mem::take(id));
        }
    }

    /// No link yet, and ids that go on.
    pub(crate) fn after(last_id: u32) -> Self {
        Self {
            last_id,
            pursue_ms: Some(0),
            unsure: true,
            ..Self::default()
        }
    }

    /// Nothing that was published counts any more.
    pub(crate) fn forget_posted(&mut self) {
        self.in_flight.clear();
        self.refusals.clear();
    }

    fn renewed(up: bool, old: &Self, now: Timestamp) -> Self {
        Self {
            up,
            // What was held before is looked at again, also without a new chunk.
            held_since_ms: old.held_since_ms,
            last_id: old.last_id,
            queue_moved: old.queue_moved,
            queue_tell_ms: old.queue_tell_ms,
            since_ms: now.millis(),
            unsure: old.unsure,
            pursue_ms: Some(0),
            conflicts: old.conflicts.clone(),
            turn_ms: old.turn_ms.clone(),
            asked_ms: old.asked_ms.clone(),
            hold_sending_ms: old.hold_sending_ms.clone(),
            ..Self::default()
        }
    }
}

impl Session {
    pub(crate) fn link_up(&mut self) -> Result<(), Failure> {
        self.link = Link::renewed(true, &self.link, self.now);
        Ok(())
    }

    pub(crate) fn link_down(&mut self) -> Result<(), Failure> {
        self.write_cursors()?;
        self.link = Link::renewed(false, &self.link, self.now);
        Ok(())
    }

    /// The profile is about to be locked: nothing more may come.
    pub(crate) fn link_closing(&mut self) -> Result<(), Failure> {
        let ids: Vec<u32> = self.link.subscribed.values().copied().collect();
        let up = self.link.up;
        for id in ids.into_iter().filter(|id| up && *id > 0) {
            self.effect(Effect::Frame(Frame::Unsubscribe { id }));
        }
        self.link_down()
    }

    pub(crate) fn tick(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        if self.link.cursors_ms.is_some_and(|at| at <= now) {
            self.write_cursors()?;
        }
        if self.release_ms().is_some_and(|at| at <= now) {
            self.release_held()?;
        }
        if self.link.retry_ms.is_some_and(|at| at <= now) {
            self.link.retry_ms = None;
            self.link.position = 0;
            self.link.in_flight.clear();
            self.link.refusals.clear();
            self.link.subscribed.retain(|_, id| *id > 0);
        }
        self.memory.waiting.expire(self.now);
        self.prune_all()?;
        self.forget_joinings()?;
        self.tend_admissions()?;
        self.ask_again()?;
        self.renew_key_packages()
    }

    /// Another relay, or one that is farther: what it has comes as a new backlog.
    pub(crate) fn reach_moved(&mut self) -> Result<(), Failure> {
        self.link.since_ms = self.now.millis();
        self.link.pursue_ms = Some(0);
        Ok(())
    }

    /// When this device has heard everything of a team that is on its way: after the backlog and a
    /// moment of quiet, or when patience ends. None where it is not connected.
    pub(crate) fn ready_ms(&self, team: TeamId) -> Option<u64> {
        if !self.link.up {
            return None;
        }
        let since = self.link.since_ms;
        let patience = since + BACKLOG_MS;
        let quiet = self.link.heard_ms.max(since) + QUIET_MS;
        Some(if self.has_heard(team) {
            quiet.min(patience.max(since + QUIET_MS))
        } else {
            patience
        })
    }

    /// Since when this device has been connected and has heard all that came before; none where it is
    /// not, or has not.
    pub(crate) fn connected_ms(&self, team: TeamId) -> Option<u64> {
        self.has_heard(team).then_some(self.link.since_ms)
    }

    /// When [`Session::tick`] has something to do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let queue = self.link.queue_moved.then_some(self.link.queue_tell_ms);
        let unsure = self.link.unsure && self.link.up;
        let expiry = self.memory.waiting.expires_at().map(Timestamp::millis);
        [
            expiry,
            // After it, not at it.
            self.prune_ms().map(|at| at + 1),
            queue,
            unsure.then_some(self.link.since_ms + BACKLOG_MS),
            self.release_ms(),
            self.link.retry_ms,
            self.link.cursors_ms,
            self.link.pursue_ms,
            self.key_packages_expire_ms(),
        ]
        .into_iter()
        .flatten()
        .min()
        .map(Timestamp::from_millis)
    }

    /// Own messages that no relay has.
    pub fn queued(&self) -> u32 {
        // A disk that cannot be read will be said by the next command.
        self.store.count_queued().unwrap_or(0)
    }

    pub(crate) fn subscribe(&mut self, prefix: Prefix) -> Result<(), Failure> {
        let key = (prefix.first().0, prefix.bits());
        if !self.memory.subscriptions.contains_key(&key) {
            let subscription = Subscription {
                first: key.0,
                bits: key.1,
                cursor: Vec::new(),
            };
            self.store
                .put(Kind::Subscription, &key_bytes(key), &subscription)?;
            self.memory.subscriptions.insert(key, subscription);
        }
        Ok(())
    }

    pub(crate) fn unsubscribe(&mut self, prefix: Prefix) -> Result<(), Failure> {
        let key = (prefix.first().0, prefix.bits());
        self.store.delete(Kind::Subscription, &key_bytes(key))?;
        self.memory.subscriptions.remove(&key);
        Ok(())
    }

    /// Subscribes from the beginning.
    pub(crate) fn resubscribe(&mut self, prefix: Prefix) -> Result<(), Failure> {
        let key = (prefix.first().0, prefix.bits());
        self.unsubscribe(prefix)?;
        self.link.fresh_cursors.remove(&key);
        self.link.stale.extend(self.link.subscribed.remove(&key));
        self.subscribe(prefix)
    }

    /// CAUGHT-UP: a backlog has ended if it is live, else more of it follows.
    pub(crate) fn caught_up(
        &mut self,
        id: u32,
        cursor: &Cursor,
        live: bool,
    ) -> Result<(), Failure> {
        let known = self.link.subscribed.iter().find(|(_, known)| **known == id);
        let ended = known.is_some_and(|(key, _)| live && self.link.caught.insert(*key));
        if ended {
            self.link.pursue_ms = Some(0);
        }
        if let Some((&key, _)) = known
            && let Some(subscription) = self.memory.subscriptions.get_mut(&key)
            && subscription.cursor != cursor.as_bytes()
        {
            subscription.cursor = cursor.as_bytes().to_vec();
            self.link.fresh_cursors.insert(key);
            let at = self.now.millis() + CURSOR_MS;
            self.link.cursors_ms.get_or_insert(at);
            let holds = self.link.held_since_ms.is_some();
            if ended && holds && Name(key.0).path() == Path::Message {
                self.release_held()?;
            }
        }
        self.note_touch()
    }

    /// Whether the backlog of a team has ended on this link.
    fn has_heard(&self, team: TeamId) -> bool {
        let place = naming::place(team);
        let caught = |path| {
            let prefix = Name::team_prefix(place, path);
            let key = (prefix.first().0, prefix.bits());
            self.link.caught.contains(&key)
        };
        self.link.up && [Path::Commit, Path::Message].into_iter().all(caught)
    }

    fn note_touch(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        let times = &self.memory.counters.in_touch_ms;
        let old = |team: &TeamId| times.get(team).is_none_or(|at| at + TOUCH_STEP_MS < now);
        let teams = self.memory.teams.keys().copied();
        let heard: Vec<TeamId> = teams
            .filter(|team| old(team) && self.has_heard(*team))
            .collect();
        if heard.is_empty() {
            return Ok(());
        }
        let times = &mut self.memory.counters.in_touch_ms;
        times.extend(heard.into_iter().map(|team| (team, now)));
        Ok(self.store.put(Kind::Counters, b"", &self.memory.counters)?)
    }

    /// Whether this device was away for so long that what it writes might be for nobody.
    pub(crate) fn is_out_of_touch(&self, team: TeamId) -> bool {
        let last = self.memory.counters.in_touch_ms.get(&team);
        let long = last.is_some_and(|at| at + TOUCH_MS < self.now.millis());
        long && !self.has_heard(team)
    }

    /// A cursor is written after what it stands for: with the next event, or a moment later.
    pub(crate) fn write_cursors(&mut self) -> Result<(), Failure> {
        self.link.cursors_ms = None;
        for key in std::mem::take(&mut self.link.fresh_cursors) {
            if let Some(subscription) = self.memory.subscriptions.get(&key) {
                self.store
                    .put(Kind::Subscription, &key_bytes(key), subscription)?;
            }
        }
        Ok(())
    }

    pub(crate) fn is_subscribed(&self, id: u32) -> bool {
        id > 0 && self.link.subscribed.values().any(|known| *known == id)
    }

    pub(crate) fn acknowledged(&mut self, acks: Vec<(Name, Outcome)>) -> Result<(), Failure> {
        for (name, outcome) in acks {
            self.link.in_flight.remove(&name);
            match outcome {
                Outcome::Stored(tier) => self.stored(name, tier)?,
                Outcome::Refused(why) => self.refused(name, why)?,
            }
        }
        Ok(())
    }

    fn stored(&mut self, name: Name, tier: Tier) -> Result<(), Failure> {
        let Some((owner, lowest)) = self.store.acknowledge(name, tier)? else {
            return Ok(());
        };
        let delivery = match lowest {
            Tier::Device => return Ok(()),
            Tier::Local => Delivery::Lan,
            Tier::Cloud => Delivery::Cloud,
            Tier::Origin => Delivery::Origin,
        };
        self.told.queue_moved = true;
        if owner.0 != NO_MESSAGE {
            self.store.set_delivery(owner, delivery)?;
            self.tell_channel(owner.0);
        }
        Ok(())
    }

    fn refused(&mut self, name: Name, why: Refused) -> Result<(), Failure> {
        let Some(chunk) = self.store.posted(name)? else {
            return Ok(());
        };
        let attempts = self.link.refusals.entry(name).or_insert(0);
        *attempts += 1;
        if why == Refused::NoGrant && *attempts <= GRANT_ATTEMPTS {
            self.link.granted.remove(&chunk.grant());
            self.publish(&[chunk]);
            return Ok(());
        }
        if why.is_temporary() {
            let at = self.now.millis() + RETRY_MS;
            self.link.retry_ms.get_or_insert(at);
            return Ok(());
        }
        if why == Refused::Conflict && self.link.conflicts.len() < WINDOW {
            // The relay's word proves nothing: what it has comes with the subscription.
            self.link.conflicts.insert(name, chunk);
        }
        let Some(owner) = self.store.owner(name)? else {
            return Ok(());
        };
        self.told.queue_moved = true;
        if owner.0 == NO_MESSAGE {
            self.store.forget_posted(name.to_bytes())?;
            self.notice(format!("a relay refused what this device published: {why}"));
            return Ok(());
        }
        if let Some(mut kept) = self.store.message(owner.0, owner.1, owner.2)? {
            kept.delivery = Delivery::Failed;
            kept.sealed.failure = format!("a relay refused the message: {why}");
            self.store.put_message(&kept)?;
        }
        self.store.withdraw(owner)?;
        self.tell_channel(owner.0);
        Ok(())
    }

    /// Brings the link in line with the store. It runs after the commit and only reads.
    pub(crate) fn synchronise(&mut self) {
        if !self.link.up {
            return;
        }
        self.synchronise_subscriptions();
        if self.fill_window().is_err() {
            let at = self.now.millis() + RETRY_MS;
            self.link.retry_ms.get_or_insert(at);
        }
    }

    fn synchronise_subscriptions(&mut self) {
        for id in std::mem::take(&mut self.link.stale) {
            if id > 0 {
                self.effect(Effect::Frame(Frame::Unsubscribe { id }));
            }
        }
        let gone: Vec<_> = self
            .link
            .subscribed
            .iter()
            .filter(|(key, _)| !self.memory.subscriptions.contains_key(key))
            .map(|(key, id)| (*key, *id))
            .collect();
        for (key, id) in gone {
            self.link.subscribed.remove(&key);
            if id > 0 {
                self.effect(Effect::Frame(Frame::Unsubscribe { id }));
            }
        }
        let new: Vec<Subscription> = self
            .memory
            .subscriptions
            .iter()
            .filter(|(key, _)| !self.link.subscribed.contains_key(key))
            .map(|(_, subscription)| subscription.clone())
            .collect();
        for subscription in new {
            self.link.last_id += 1;
            let id = self.link.last_id;
            let key = (subscription.first, subscription.bits);
            self.link.subscribed.insert(key, id);
            let start = Cursor::new(subscription.cursor)
                .filter(|cursor| !cursor.as_bytes().is_empty())
                .map_or(Start::All, Start::After);
            self.effect(Effect::Frame(Frame::Subscribe {
                id,
                prefix: Prefix::of(Name(key.0), key.1),
                start,
                order: Order::OldestFirst,
            }));
        }
    }

    /// Whether what this device has written before may still come from its relays.
    fn is_unsure(&mut self) -> bool {
        let teams = self.memory.teams.values().filter(|team| !team.is_out());
        let heard = teams
            .map(|team| Name::team_prefix(naming::place(team.id), Path::Message))
            .all(|prefix| {
                let key = (prefix.first().0, prefix.bits());
                self.link.caught.contains(&key)
            });
        let patience = self.link.since_ms + BACKLOG_MS > self.now.millis();
        self.link.unsure &= !heard && patience;
        self.link.unsure
    }

    fn fill_window(&mut self) -> Result<(), StoreError> {
        if self.is_unsure() {
            return Ok(());
        }
        while self.link.in_flight.len() < WINDOW {
            let room = (WINDOW - self.link.in_flight.len()).min(CHUNKS_PER_FRAME);
            let rows = self.store.posted_after(self.link.position, room)?;
            let Some(last) = rows.last() else {
                break;
            };
            self.link.position = last.seq;
            let chunks: Vec<Chunk> = rows.into_iter().map(|row| row.chunk).collect();
            self.publish(&chunks);
        }
        Ok(())
    }

    fn publish(&mut self, chunks: &[Chunk]) {
        for chunk in chunks {
            self.link.in_flight.insert(chunk.name());
            let grant = chunk.grant();
            if grant != GrantId::NONE && self.link.granted.insert(grant) {
                let mut teams = self.memory.teams.values();
                let mut owners = self.memory.organisations.values();
                let chain = teams
                    .find_map(|team| team.chain_of(grant))
                    .or_else(|| owners.find_map(|one| one.chain_of(grant)));
                if let Some(chain) = chain {
                    self.effect(Effect::Frame(Frame::Grant(chain)));
                }
            }
        }
        self.effect(Effect::Frame(Frame::Publish(chunks.to_vec())));
    }

    pub(crate) fn tell_channel(&mut self, row: i64) {
        let channel = self.memory.channels.values().find(|one| one.row == row);
        if let Some(id) = channel.map(|one| one.id) {
            self.told.messages.insert(id);
        }
    }
}

fn key_bytes((first, bits): (u128, u8)) -> [u8; 17] {
    let mut key = [bits; 17];
    key[..16].copy_from_slice(&first.to_be_bytes());
    key
}
