//! The way up: what the parent has not acknowledged, what it is asked for, and what it answered
//! (docs/protocol.md, "PUBLISH and ACK").
//!
//! Chunks that have to go up are read from the store like a subscription's backlog, so a restart or a
//! reconnect begins again with exactly those whose acknowledgement is missing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use proto::{Chunk, Cursor, Frame, Name, Outcome, PublicKey, Refused, Tier, Timestamp, limits};

use super::interest::Interest;
use super::reconcile::Walk;
use super::turns::Turns;
use super::{Effect, LinkId, Node, Note, ParentSnapshot, Role, Work};
use crate::store::{Progress, ResumePoint, Store, StoreError, StoreId, Stored};

/// How long a chunk waits that the parent could not take for now, in milliseconds.
const RETRY_MS: u64 = 5_000;
/// Fetches that the parent has not answered. With the wishes of a reconciliation, 16 at most, they are
/// as many as a relay allows a link by default. One of them is our own: what mends the store does not
/// wait for what others want.
const FETCHES: usize = 48;
/// Chunks by which we see whether a parent still refuses what it refused for good.
const DOUBTED: usize = 64;

/// The parent, while there is a link to it.
struct Parent {
    link: LinkId,
    relay: String,
    key: PublicKey,
    /// Known when its HELLO has come.
    hello: Option<(Tier, StoreId)>,
    reach: Tier,
    /// Chunks up to here have been looked at for sending up (not kept while live).
    position: u64,
    live: bool,
    /// Whether the next look at the store is on the list of work.
    queued: bool,
    in_flight: BTreeSet<Name>,
    /// What has to go again after a pause, at most as many as may be in flight.
    refused: BTreeSet<Name>,
    /// What goes to it again before anything else.
    again: BTreeSet<Name>,
    /// If those are too many to remember: where they begin, else the end of all numbers.
    refused_behind: u64,
    /// A few of those that it has refused as its operator has told it: they go again with each sweep,
    /// and all that were refused when it takes one.
    doubted: BTreeSet<Name>,
    /// When it is tried again, after a refusal or when the store could not be read.
    retry_at: Option<Timestamp>,
    /// If it answers RECONCILE.
    walk: Option<Walk>,
}

impl Parent {
    /// The tier that a chunk has to reach before it need not be sent up again.
    fn goal(&self) -> Tier {
        self.hello
            .map_or(self.reach, |(tier, _)| tier.max(self.reach))
    }

    fn retry_later(&mut self, now: Timestamp) {
        self.retry_at.get_or_insert(now.plus_millis(RETRY_MS));
    }

    /// Has these go up again before anything else; what is here already and had been sent does not.
    fn send_again(&mut self, names: impl IntoIterator<Item = Name>, last_sequence: u64) {
        if mem::take(&mut self.live) {
            self.position = last_sequence;
        }
        self.again.extend(names);
    }

    /// The next chunks that have to go up: what goes again, then what has not been looked at.
    fn next_due(
        &mut self,
        store: &mut impl Store,
        limit: usize,
    ) -> Result<Vec<Stored>, StoreError> {
        let goal = self.goal();
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(name) = self.again.first().copied()
        {
            let stored = store.get(name)?.filter(|stored| stored.reached < goal);
            due.extend(stored);
            self.again.remove(&name);
        }
        if due.is_empty() {
            due = store.upward(goal, self.position, limit)?;
            match due.last() {
                Some(last) => self.position = last.sequence,
                None => self.live = true,
            }
        }
        Ok(due)
    }
}

pub(super) struct Upstream {
    parent: Option<Parent>,
    pub(super) interest: Interest,
    /// For whom: a fetch of a link, or `None` for ourselves.
    fetches: BTreeMap<u32, Option<(LinkId, u32)>>,
    /// Fetches of links that the parent is asked for when it has answered others.
    waiting: Turns<(LinkId, u32)>,
    next_id: u32,
    routes: BTreeMap<Name, Vec<LinkId>>,
    /// Names in the order in which they were routed, so that the oldest goes when there are too many.
    routed: VecDeque<Name>,
    routes_limit: usize,
}

impl Upstream {
    pub(super) fn new(routes_limit: usize) -> Self {
        Self {
            parent: None,
            interest: Interest::default(),
            fetches: BTreeMap::new(),
            waiting: Turns::default(),
            next_id: 0,
            routes: BTreeMap::new(),
            routed: VecDeque::new(),
            routes_limit,
        }
    }

    pub(super) fn link(&self) -> Option<LinkId> {
        self.parent.as_ref().map(|parent| parent.link)
    }

    /// The parent's key.
    pub(super) fn key(&self) -> Option<PublicKey> {
        self.parent.as_ref().map(|parent| parent.key)
    }

    /// The parent's tier, or the lowest while it is not known.
    pub(super) fn tier(&self) -> Tier {
        let hello = self.parent.as_ref().and_then(|parent| parent.hello);
        hello.map_or(Tier::Device, |(tier, _)| tier)
    }

    pub(super) fn snapshot(&self) -> Option<ParentSnapshot> {
        self.parent.as_ref().map(|parent| ParentSnapshot {
            relay: parent.relay.clone(),
            tier: parent.hello.map(|(tier, _)| tier),
            reach: parent.reach,
            subscriptions: self.interest.len(),
            left_out: self.interest.left_out(),
            in_flight: parent.in_flight.len(),
        })
    }

    pub(super) fn retry_at(&self) -> Option<Timestamp> {
        self.parent.as_ref().and_then(|parent| parent.retry_at)
    }

    pub(super) fn retry_now(&mut self, now: Timestamp) {
        if let Some(parent) = self.parent.as_mut() {
            parent.retry_at = parent.retry_at.map(|_| now);
        }
    }

    pub(super) fn connected(&mut self, link: LinkId, relay: String, key: PublicKey) {
        self.parent = Some(Parent {
            link,
            relay,
            key,
            hello: None,
            reach: Tier::Device,
            position: 0,
            live: false,
            queued: false,
            in_flight: BTreeSet::new(),
            refused: BTreeSet::new(),
            again: BTreeSet::new(),
            refused_behind: u64::MAX,
            doubted: BTreeSet::new(),
            retry_at: None,
            walk: None,
        });
    }

    /// The parent's link, once it may be used.
    pub(super) fn ready(&self) -> Option<LinkId> {
        self.parent
            .as_ref()
            .filter(|parent| parent.hello.is_some())
            .map(|parent| parent.link)
    }

    pub(super) fn is_subscription(&self, id: u32) -> bool {
        self.interest.prefix(id).is_some()
    }

    pub(super) fn is_fetch(&self, id: u32) -> bool {
        self.fetches.contains_key(&id)
    }

    /// A fetch of the parent, if it may be asked now.
    pub(super) fn begin_fetch(&mut self, asker: Option<(LinkId, u32)>) -> Option<(LinkId, u32)> {
        let link = self.ready()?;
        if asker.is_some() && !self.may_fetch() {
            return None;
        }
        let id = self.fresh_id();
        self.fetches.insert(id, asker);
        Some((link, id))
    }

    /// Whether the parent may be asked for what a link wants.
    pub(super) fn may_fetch(&self) -> bool {
        self.fetches.len() < FETCHES - 1
    }

    /// Has a link's fetch wait for its turn.
    pub(super) fn wait_to_fetch(&mut self, asker: (LinkId, u32)) {
        self.waiting.push(asker);
    }

    pub(super) fn next_fetch(&mut self) -> Option<(LinkId, u32)> {
        self.waiting.pop()
    }

    pub(super) fn fetch(&self, id: u32) -> Option<(LinkId, u32)> {
        self.fetches.get(&id).copied().flatten()
    }

    pub(super) fn end_fetch(&mut self, id: u32) -> Option<(LinkId, u32)> {
        self.fetches.remove(&id).flatten()
    }

    /// Forgets for whom fetches were; their ids stay in use until the parent has answered.
    pub(super) fn forget_fetches_of(&mut self, link: LinkId) {
        self.waiting.forget(Some(link));
        if self.ready().is_none() {
            let of_link = |asker: (LinkId, u32)| asker.0 == link;
            self.fetches.retain(|_, asker| !asker.is_some_and(of_link));
        }
    }

    pub(super) fn fresh_id(&mut self) -> u32 {
        loop {
            self.next_id = self.next_id.wrapping_add(1);
            let id = self.next_id;
            let walks = self.walk().is_some_and(|walk| walk.uses(id));
            if !walks && !self.is_subscription(id) && !self.is_fetch(id) {
                return id;
            }
        }
    }

    /// The reconciliation with the parent, if it is able to.
    pub(super) fn walk(&mut self) -> Option<&mut Walk> {
        self.parent.as_mut()?.walk.as_mut()
    }

    /// Whether the parent has been sent all that has to go up.
    pub(super) fn is_live(&self) -> bool {
        self.parent.as_ref().is_some_and(|parent| parent.live)
    }

    /// What the parent has been sent and not answered.
    pub(super) fn in_flight(&self) -> BTreeSet<Name> {
        let parent = self.parent.as_ref();
        parent.map_or_else(BTreeSet::new, |parent| parent.in_flight.clone())
    }

    /// The parent's store.
    pub(super) fn store(&self) -> Option<StoreId> {
        let hello = self.parent.as_ref()?.hello?;
        Some(hello.1)
    }

    /// Later acknowledgements of the name go to the link.
    pub(super) fn remember_route(&mut self, name: Name, link: LinkId) {
        let links = self.routes.entry(name).or_default();
        if links.is_empty() {
            self.routed.push_back(name);
        }
        if !links.contains(&link) {
            links.push(link);
        }
        while self.routed.len() > self.routes_limit {
            if let Some(oldest) = self.routed.pop_front() {
                self.routes.remove(&oldest);
            }
        }
    }

    /// The names whose later acknowledgements go to a link, with each.
    pub(super) fn routes(&self) -> impl Iterator<Item = (LinkId, Name)> {
        let routes = self.routes.iter();
        routes.flat_map(|(name, links)| links.iter().map(|link| (*link, *name)))
    }

    fn take_route(&mut self, name: Name) -> Vec<LinkId> {
        let links = self.routes.remove(&name).unwrap_or_default();
        // Most are answered in the order in which they were sent; others go when they are oldest.
        while self
            .routed
            .front()
            .is_some_and(|front| !self.routes.contains_key(front))
        {
            self.routed.pop_front();
        }
        links
    }
}

impl<S: Store> Node<S> {
    /// The parent's HELLO has come: ask it for what is wanted, send it what it may not have.
    pub(super) fn upstream_ready(&mut self, tier: Tier, store: [u8; 16], reconciles: bool) {
        let Some(parent) = self.upstream.parent.as_ref() else {
            return;
        };
        // Another relay may claim this store's id: what is kept about it must not be used for that one.
        let store = StoreId(parent.key.bind_store(store));
        let walk = reconciles.then(|| self.begin_walk(store));
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        parent.hello = Some((tier, store));
        parent.reach = tier;
        parent.walk = walk;
        self.ask_parent();
        self.queue_upward();
        self.queue_walk();
        self.tell_reach();
        self.mend();
    }

    pub(super) fn upstream_lost(&mut self) {
        self.upstream.parent = None;
        self.upstream.interest.parent_lost();
        let fetches = mem::take(&mut self.upstream.fetches);
        let mut waiting = mem::take(&mut self.upstream.waiting);
        let waiting = std::iter::from_fn(|| waiting.pop());
        for (link, id) in fetches.into_values().flatten().chain(waiting) {
            self.end_fetch(link, id);
        }
        self.not_mended();
        self.tell_reach();
    }

    /// CAUGHT-UP: written with the chunks that came before it, or later.
    pub(super) fn receive_mark(&mut self, id: u32, cursor: Cursor) {
        if self.upstream.is_fetch(id) || self.upstream.walk().is_some_and(|walk| walk.is_wish(id)) {
            return self.feed.push_fetch_done(id);
        }
        let hello = self
            .upstream
            .parent
            .as_ref()
            .and_then(|parent| parent.hello);
        self.upstream.interest.answered(id);
        let prefix = self.upstream.interest.prefix(id);
        if let (Some((_, upstream)), Some(prefix)) = (hello, prefix) {
            let walk = self.upstream.walk();
            if walk.is_some_and(|walk| walk.hold_mark(prefix, &cursor)) {
                return;
            }
            self.feed.push_resume(ResumePoint {
                upstream,
                prefix,
                cursor,
            });
        }
    }

    /// REACH: the parent sees farther, or less far, than before.
    pub(super) fn receive_reach(&mut self, tier: Tier) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        let farther = tier > parent.goal();
        parent.reach = tier;
        if farther {
            // What came only as far as the old goal has nobody who would tell us of the new one.
            self.retry_upward();
        }
        self.tell_reach();
    }

    pub(super) fn reach_frame(&self, to: &Role) -> Frame {
        let parent = self
            .upstream
            .parent
            .as_ref()
            .filter(|parent| parent.hello.is_some());
        let (tier, relay) = match parent {
            Some(parent) => (parent.goal(), parent.relay.clone()),
            None => (self.config.tier, String::new()),
        };
        let tier = to.tier(tier).max(self.own_tier());
        Frame::Reach { tier, relay }
    }

    pub(super) fn tell_reach(&mut self) {
        if let Frame::Reach { tier, relay } = self.reach_frame(&Role::Downstream) {
            self.effects
                .push_back(Effect::Note(Note::Reach(tier, relay)));
        }
        let below = self
            .links
            .iter()
            .filter(|(_, state)| state.is_below() && state.hello.is_some());
        let below: Vec<(LinkId, Role)> = below
            .map(|(link, state)| (*link, state.role.clone()))
            .collect();
        for (link, role) in below {
            let frame = self.reach_frame(&role);
            self.send(link, &frame);
        }
    }

    fn queue_upward(&mut self) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        if parent.hello.is_some() && !parent.live && !parent.queued {
            parent.queued = true;
            self.work.push(Work::Upward);
        }
    }

    /// Sends up the next chunks from the store that the parent has not acknowledged.
    pub(super) fn send_upward(&mut self) {
        let window = self.window();
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        parent.queued = false;
        let Some(state) = self.links.get_mut(&parent.link) else {
            return;
        };
        if parent.hello.is_none() || parent.live {
            return;
        }
        if !state.has_room(window) {
            parent.queued = true;
            state.blocked.push(Work::Upward);
            return;
        }
        let room = self
            .config
            .limits
            .in_flight
            .saturating_sub(parent.in_flight.len());
        let limit = limits::CHUNKS_PER_FRAME.min(room);
        if limit == 0 {
            return; // Acknowledgements make room, and queue it again.
        }
        let due = match parent.next_due(&mut self.store, limit) {
            Ok(due) => due,
            Err(error) => {
                parent.retry_later(self.now);
                return self.effects.push_back(Effect::Note(Note::Store(error)));
            }
        };
        let live = parent.live;
        let alive = due.into_iter().map(|stored| stored.chunk);
        let chunks: Vec<Chunk> = alive
            .filter(|chunk| chunk.expiry() > self.now && parent.in_flight.insert(chunk.name()))
            .collect();
        self.publish_above(chunks);
        if live {
            self.queue_walk();
        }
        self.queue_upward();
    }

    /// New chunks of this commit: sent up at once if everything before them has been.
    pub(super) fn send_fresh_upward(&mut self, fresh: Vec<(u64, Chunk)>) {
        let window = self.window();
        let Some(parent) = self.upstream.parent.as_mut().filter(|parent| parent.live) else {
            return;
        };
        let Some((first, _)) = fresh.first() else {
            return;
        };
        let Some(state) = self.links.get(&parent.link) else {
            return;
        };
        let room = state.has_room(window)
            && parent.in_flight.len() + fresh.len() <= self.config.limits.in_flight;
        if !room {
            parent.live = false;
            parent.position = first - 1;
            return self.queue_upward();
        }
        let chunks: Vec<Chunk> = fresh.into_iter().map(|(_, chunk)| chunk).collect();
        parent.in_flight.extend(chunks.iter().map(Chunk::name));
        self.publish_above(chunks);
    }

    /// Chunks that were here and came from below again: who brought them hears how far they come, so
    /// they go up from here, too, even if a parent once had them.
    pub(super) fn send_known_upward(&mut self, known: Vec<(u64, Name, Tier)>) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        let goal = parent.goal();
        for (sequence, name, reached) in known {
            if reached >= goal || parent.in_flight.contains(&name) {
                continue;
            }
            let room = parent.again.len() < self.config.limits.in_flight;
            parent.send_again(room.then_some(name), self.store.last_sequence());
            if !room {
                parent.position = parent.position.min(sequence - 1);
            }
        }
        self.queue_upward();
    }

    fn publish_above(&mut self, chunks: Vec<Chunk>) {
        let Some(link) = self.upstream.link() else {
            return;
        };
        for part in chunks.chunks(limits::CHUNKS_PER_FRAME) {
            for chunk in part {
                self.send_grants(link, chunk.grant());
            }
            self.send(link, &Frame::Publish(part.to_vec()));
        }
    }

    /// ACK from the parent: remembered with the next commit, then passed on.
    pub(super) fn receive_acks(&mut self, acks: Vec<(Name, Outcome)>) {
        let mut changed = false;
        for (name, outcome) in acks {
            if let Some(parent) = self.upstream.parent.as_mut() {
                parent.in_flight.remove(&name);
                let stored = matches!(outcome, Outcome::Stored(_));
                changed |= stored && parent.doubted.remove(&name);
            }
            match outcome {
                Outcome::Stored(tier) => self.feed.push_progress(name, Progress::Reached(tier)),
                Outcome::Refused(reason) => self.refused_above(name, reason),
            }
        }
        if changed {
            self.retry_upward();
        }
        self.queue_upward();
    }

    fn refused_above(&mut self, name: Name, reason: Refused) {
        *self.counters.refused_above.entry(reason).or_default() += 1;
        if self.is_worth_telling(name, reason) {
            self.effects
                .push_back(Effect::Note(Note::RefusedAbove { name, reason }));
        }
        if reason.is_temporary() {
            return self.refused_for_now(name, reason);
        }
        let parent = self.upstream.parent.as_mut();
        match reason {
            Refused::UnknownOrigin | Refused::TooLongLived => {
                if let Some(parent) = parent.filter(|parent| parent.doubted.len() < DOUBTED) {
                    parent.doubted.insert(name);
                }
            }
            Refused::Expired | Refused::BadSignature if self.is_sound(name) => {}
            _ => {
                self.feed.push_progress(name, Progress::Stopped);
                for link in self.upstream.take_route(name) {
                    self.acknowledge(link, name, Outcome::Refused(reason));
                }
            }
        }
    }

    /// Whether a chunk lies here and has not expired; that it is signed was verified then.
    fn is_sound(&mut self, name: Name) -> bool {
        match self.store.get(name) {
            Ok(stored) => stored.is_some_and(|stored| stored.chunk.expiry() > self.now),
            Err(_) => true,
        }
    }

    /// Sends up again, at each sweep, a few of those that the parent refuses as its operator has told
    /// it, so that we see when it is told otherwise.
    pub(super) fn send_doubted(&mut self) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        let doubted = mem::take(&mut parent.doubted);
        let doubted: BTreeSet<Name> = doubted
            .into_iter()
            .filter(|name| self.is_sound(*name))
            .collect();
        let Some(parent) = self
            .upstream
            .parent
            .as_mut()
            .filter(|_| !doubted.is_empty())
        else {
            return;
        };
        parent.send_again(doubted.iter().copied(), self.store.last_sequence());
        parent.doubted = doubted;
        self.queue_upward();
    }

    fn refused_for_now(&mut self, name: Name, reason: Refused) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        if reason == Refused::NoGrant
            && let Some(state) = self.links.get_mut(&parent.link)
        {
            // Show it all grants again.
            state.granted.clear();
        }
        self.send_later(name);
    }

    /// Has a chunk go up again after a pause: the parent could not take it, or its answer could not
    /// be written down.
    pub(super) fn send_later(&mut self, name: Name) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        parent.retry_later(self.now);
        if parent.refused.len() < self.config.limits.in_flight {
            parent.refused.insert(name);
            return;
        }
        // Too many to remember: all from here on are looked at again.
        let stored = self.store.get(name).ok().flatten();
        let before = stored.map_or(0, |stored| stored.sequence - 1);
        parent.refused_behind = parent.refused_behind.min(before);
    }

    /// Goes on after a pause with what the parent could not take, and only with that: what it has
    /// taken would be counted against its limits again.
    pub(super) fn resume_upward(&mut self) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        parent.retry_at = None;
        let refused = mem::take(&mut parent.refused);
        parent.send_again(refused, self.store.last_sequence());
        let behind = mem::replace(&mut parent.refused_behind, u64::MAX);
        parent.position = parent.position.min(behind);
        self.queue_upward();
    }

    pub(super) fn retry_upward(&mut self) {
        let Some(parent) = self.upstream.parent.as_mut() else {
            return;
        };
        parent.retry_at = None;
        parent.position = 0;
        parent.live = false;
        self.queue_upward();
    }

    /// Tells those who published a name that it has come farther.
    pub(super) fn pass_on_reached(&mut self, name: Name, tier: Tier) {
        if !self.upstream.routes.contains_key(&name) || tier <= self.config.tier {
            return;
        }
        let links = if tier == Tier::Origin {
            self.upstream.take_route(name)
        } else {
            self.upstream.routes.get(&name).cloned().unwrap_or_default()
        };
        for link in links {
            self.acknowledge(link, name, Outcome::Stored(tier));
        }
    }
}
