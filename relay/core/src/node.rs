//! The node: what it is told ([`Event`]), what it wants done ([`Effect`]), and who inside answers.
//!
//! A driver calls [`Node::handle`] for each event, [`Node::commit`] when no event waits (or lets
//! [`Node::handle_timeout`] do it), takes effects with [`Node::next_effect`] until there are none,
//! and sleeps until [`Node::next_timeout`] at the latest. Time is a wall clock's: it may be set back.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use proto::{Frame, Hello, Misbehaved, Name, PublicKey, Refused, Tier, Timestamp};

use crate::store::{Store, StoreError, StoreId};

mod answers;
mod feed;
mod fetch;
mod grants;
mod interest;
mod limits;
mod link;
mod mend;
mod neighbours;
mod pages;
mod quota;
mod reconcile;
mod snapshot;
mod subscriptions;
mod turns;
mod upstream;

use feed::Feed;
use grants::Grants;
use link::{Link, Window};
use mend::Missing;
use pages::Pages;
use quota::Bucket;
pub use snapshot::{ParentSnapshot, Snapshot};
use subscriptions::Table;
use turns::Turns;
use upstream::Upstream;

/// How often expired chunks are removed, in milliseconds.
const SWEEP_MS: u64 = 60_000;
/// How many expired chunks are removed at once.
const SWEEP_CHUNKS: usize = 1024;
/// How long a resume mark may lag behind live chunks, in milliseconds.
const MARK_MS: u64 = 250;
/// Refusals and misbehaviours told to the operator per second; all are counted.
const NOTES_PER_SECOND: u32 = 10;
/// Chunks that are evicted at once: as many as a commit can bring, and more.
const EVICT_CHUNKS: usize = 512;
/// The part of a store's size, one in so many, that an eviction frees.
const EVICT_PART: u64 = 64;
/// Conflicts remembered, so that none is told twice.
const CONFLICTS: usize = 4096;
/// Pieces of backlog sent between two looks at new events.
const SLICES: usize = 8;

/// A link, numbered by the driver; numbers are not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// On which side of us the peer of a link stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// It connected to us: it publishes and subscribes.
    Downstream,
    /// It connected to us over its network, and we are the device of a person: to it we are a relay
    /// on the local network, which we are not to ourselves.
    Neighbour,
    /// We connected to it: it is our parent.
    Upstream {
        /// Its address, for people.
        relay: String,
        /// The key that it has shown.
        key: PublicKey,
    },
}

impl Role {
    /// The tier that we have for a peer in this role, when we have this one for ourselves.
    pub(crate) fn tier(&self, own: Tier) -> Tier {
        match self {
            Self::Neighbour => own.max(Tier::Local),
            Self::Downstream | Self::Upstream { .. } => own,
        }
    }
}

/// What happened outside.
#[derive(Debug, Clone)]
pub enum Event {
    /// A link is up. A second upstream replaces the first.
    Connected {
        /// The link.
        link: LinkId,
        /// On which side its peer is.
        role: Role,
    },
    /// A frame came.
    Received {
        /// From there.
        link: LinkId,
        /// The frame.
        frame: Frame,
    },
    /// Something came that is no frame.
    Malformed {
        /// From there.
        link: LinkId,
        /// What is wrong with it.
        misbehaved: Misbehaved,
    },
    /// So much of what [`Effect::Send`] wanted has left.
    Drained {
        /// On this link.
        link: LinkId,
        /// So many effects.
        sends: usize,
        /// So many bytes.
        bytes: usize,
    },
    /// A link is gone.
    Disconnected {
        /// The link.
        link: LinkId,
    },
    /// From now on exactly these origins are served.
    Origins(Vec<PublicKey>),
    /// From now on this is allowed. Links that are up keep their rates, and the tables their sizes.
    Limits(Box<Limits>),
}

/// What the driver has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Send these bytes, one or more whole frames, in order.
    Send {
        /// On this link.
        link: LinkId,
        /// The bytes, shared by all who get the same.
        bytes: Bytes,
    },
    /// Send what was to be sent, then close. The node has forgotten the link.
    Close {
        /// The link.
        link: LinkId,
        /// Why.
        reason: Closed,
    },
    /// Tell the operator.
    Note(Note),
}

/// Why the node closes a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The peer broke the protocol.
    Misbehaved(Misbehaved),
    /// The peer said that it leaves.
    Left,
    /// Another upstream took its place.
    Replaced,
    /// What it sends cannot be stored now; it is asked again after a reconnect.
    StoreFailed,
    /// As many links as are allowed exist.
    TooMany,
    /// This node ends.
    Stopped,
}

/// Something that an operator may want to know. Never a payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A chunk was refused.
    Refused {
        /// Its name.
        name: Name,
        /// Why.
        reason: Refused,
    },
    /// A peer broke the protocol; its link is closed next.
    Misbehaved {
        /// Its link.
        link: LinkId,
        /// What it did.
        misbehaved: Misbehaved,
    },
    /// The parent will not take a chunk.
    RefusedAbove {
        /// Its name.
        name: Name,
        /// Why.
        reason: Refused,
    },
    /// A stored chunk was not what was written, and was dropped.
    Damaged {
        /// Its name.
        name: Name,
        /// Whether the parent is asked for it; an origin has none.
        asked: bool,
    },
    /// The store failed: the text is one line.
    Store(StoreError),
    /// The store works again.
    StoreRecovered,
    /// The farthest tier that can be reached now, and through which relay.
    Reach(Tier, String),
}

pub use limits::{Limits, Retention};

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where it stands in the tree.
    pub tier: Tier,
    /// The origins that it serves.
    pub origins: Vec<PublicKey>,
    /// What it allows.
    pub limits: Limits,
}

/// What a node has counted since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    /// New chunks stored.
    pub stored: u64,
    /// Chunks that were here already.
    pub duplicates: u64,
    /// Chunks sent to subscribers.
    pub delivered: u64,
    /// Chunks removed because their time was over.
    pub expired: u64,
    /// Chunks removed because the store was above its size.
    pub evicted: u64,
    /// Chunks dropped because their bytes in the store were damaged.
    pub damaged: u64,
    /// Chunks refused, by reason.
    pub refused: BTreeMap<Refused, u64>,
    /// Refusals of chunks by the parent, by reason.
    pub refused_above: BTreeMap<Refused, u64>,
    /// Links closed, by what the peer did.
    pub misbehaved: BTreeMap<Misbehaved, u64>,
}

/// A piece of work that waits for its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Subscription(LinkId, u32),
    Fetch(LinkId, u32),
    Upward,
    /// Subscriptions at the parent.
    Interest,
    /// An answer to a question of RECONCILE.
    Answer(LinkId),
    /// Chunks that a peer wants after a RECONCILE.
    Wish(LinkId, u32),
    /// Our own reconciliation with the parent.
    Walk,
}

/// One node of the tree.
pub struct Node<S> {
    config: Config,
    store: S,
    now: Timestamp,
    links: BTreeMap<LinkId, Link>,
    grants: Grants,
    table: Table,
    pages: Pages,
    feed: Feed,
    upstream: Upstream,
    work: Turns<Work>,
    effects: VecDeque<Effect>,
    counters: Counters,
    /// Live subscriptions that have got chunks since their last resume mark.
    unmarked: BTreeSet<(LinkId, u32)>,
    marks_at: Option<Timestamp>,
    sweep_at: Timestamp,
    store_failed: bool,
    notes: Bucket,
    /// Names of conflicts that the operator was told of.
    conflicts: BTreeSet<Name>,
    missing: Missing,
    /// Bytes that wait on all links.
    waiting_bytes: usize,
    /// Whether the store is above its size, and nothing in it may go.
    stuck: bool,
}

impl<S: Store> Node<S> {
    /// A node over a store; grants that are in it are known at once.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be read.
    pub fn new(config: Config, store: S, now: Timestamp) -> Result<Self, StoreError> {
        let mut node = Self {
            grants: Grants::new(config.limits.grants),
            upstream: Upstream::new(config.limits.routes),
            config,
            store,
            now,
            links: BTreeMap::new(),
            table: Table::default(),
            pages: Pages::default(),
            feed: Feed::default(),
            work: Turns::default(),
            effects: VecDeque::new(),
            counters: Counters::default(),
            unmarked: BTreeSet::new(),
            marks_at: None,
            sweep_at: now.plus_millis(SWEEP_MS),
            store_failed: false,
            notes: Bucket::new(NOTES_PER_SECOND, 1000, now),
            conflicts: BTreeSet::new(),
            missing: Missing::default(),
            waiting_bytes: 0,
            stuck: false,
        };
        node.grants
            .load(&node.config.origins, &mut node.store, now)?;
        node.mend();
        Ok(node)
    }

    /// Takes one event. Published chunks are stored by the next [`Node::commit`], which happens here
    /// only when a batch is full.
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        self.tick(now);
        match event {
            Event::Connected { link, role } => self.connected(link, role),
            Event::Received { link, frame } => self.received(link, frame),
            Event::Malformed { link, misbehaved } => self.misbehaved(link, misbehaved),
            Event::Drained { link, sends, bytes } => self.drained(link, sends, bytes),
            Event::Disconnected { link } => self.forget(link),
            Event::Origins(origins) => self.serve_origins(origins),
            Event::Limits(limits) => {
                self.config.limits = *limits;
                self.make_room();
            }
        }
        if self.feed.len() >= self.config.limits.batch_chunks {
            self.commit(now);
        }
    }

    /// Does what is due: a commit, a piece of backlog, resume marks, the removal of expired chunks.
    pub fn handle_timeout(&mut self, now: Timestamp) {
        self.tick(now);
        self.commit(now);
        for _ in 0..SLICES {
            let Some(work) = self.work.pop() else {
                break;
            };
            match work {
                Work::Subscription(link, id) => self.serve_subscription(link, id),
                Work::Fetch(link, id) => self.serve_fetch(link, id),
                Work::Upward => self.send_upward(),
                Work::Interest => self.serve_interest(),
                Work::Answer(link) => self.serve_answer(link),
                Work::Wish(link, id) => self.serve_wish(link, id),
                Work::Walk => self.serve_walk(),
            }
        }
        if self.marks_at.is_some_and(|at| at <= self.now) {
            self.send_marks();
        }
        if self.upstream.retry_at().is_some_and(|at| at <= self.now) {
            self.resume_upward();
        }
        self.share_interest();
        if self.sweep_at <= self.now {
            self.sweep();
        }
        self.mend();
    }

    /// Commits what was accepted, answers it, and tells every peer to go elsewhere. Nothing is
    /// handled afterwards but effects.
    pub fn stop(&mut self, now: Timestamp) {
        self.tick(now);
        self.commit(now);
        let links: Vec<LinkId> = self.links.keys().copied().collect();
        for link in links {
            let reason = "this relay stops; go on with another".into();
            self.send(link, &Frame::Close { reason });
            self.close(link, Closed::Stopped);
        }
    }

    /// When [`Node::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        if !self.work.is_empty() || self.feed.is_due() {
            return Some(self.now);
        }
        let upstream = &self.upstream;
        let timers = [
            self.marks_at,
            upstream.retry_at(),
            upstream.interest.share_at(),
            Some(self.sweep_at),
        ];
        timers.into_iter().flatten().min()
    }

    /// The next thing to do outside.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// What has been counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The version in force on a link; `None` before both sides have greeted.
    pub fn version(&self, link: LinkId) -> Option<u16> {
        self.links.get(&link)?.hello.as_ref()?.version_in_force()
    }

    /// The store, for tests and simulations that look into it.
    pub fn store(&mut self) -> &mut S {
        &mut self.store
    }

    /// The store alone: what a restart begins with.
    pub fn into_store(self) -> S {
        self.store
    }

    /// What it says first on a link.
    pub fn hello(&self) -> Hello {
        let StoreId(store) = self.store.id();
        Hello {
            oldest: Hello::OLDEST,
            newest: Hello::VERSION,
            features: Hello::FEATURES,
            tier: self.config.tier,
            time: self.now,
            store,
        }
    }

    fn connected(&mut self, link: LinkId, role: Role) {
        // Strangers must not keep us from our parent, nor a device's own Secure from its node.
        let strange = match &role {
            Role::Upstream { .. } => false,
            Role::Downstream => self.config.tier != Tier::Device,
            Role::Neighbour => true,
        };
        if strange && self.links.len() >= self.config.limits.links {
            self.effects.push_back(Effect::Close {
                link,
                reason: Closed::TooMany,
            });
            return;
        }
        if let Role::Upstream { relay, key } = &role {
            if let Some(old) = self.upstream.link() {
                self.close(old, Closed::Replaced);
            }
            self.upstream.connected(link, relay.clone(), *key);
        }
        let mut hello = self.hello();
        hello.tier = role.tier(hello.tier);
        self.links
            .insert(link, Link::new(role, &self.config.limits, self.now));
        self.send(link, &Frame::Hello(hello));
    }

    fn received(&mut self, link: LinkId, frame: Frame) {
        let Some(state) = self.links.get(&link) else {
            return;
        };
        let upstream = matches!(state.role, Role::Upstream { .. });
        match (state.hello.is_some(), upstream, frame) {
            (_, _, Frame::Close { .. }) => self.left(link),
            (false, _, Frame::Hello(hello)) => self.greeted(link, hello),
            (false, ..) | (_, _, Frame::Hello(_)) => {
                self.misbehaved(link, Misbehaved::HelloMisplaced);
            }
            (_, _, Frame::Grant(chunks)) => self.receive_grants(link, upstream, chunks),
            (_, false, Frame::Publish(chunks)) => self.receive_published(link, chunks),
            (
                _,
                false,
                Frame::Subscribe {
                    id,
                    prefix,
                    start,
                    order,
                },
            ) => {
                self.subscribe(link, id, prefix, (start, order));
            }
            (_, false, Frame::Unsubscribe { id }) => self.unsubscribe(link, id),
            (_, false, Frame::Fetch { id, names }) => self.fetch(link, id, names),
            (_, true, Frame::Ack(acks)) => self.receive_acks(acks),
            (_, true, Frame::Chunks { id, chunks }) => self.receive_from_above(link, id, chunks),
            (_, true, Frame::CaughtUp { id, cursor, .. }) => self.receive_mark(id, cursor),
            (_, true, Frame::Reach { tier, .. }) => self.receive_reach(tier),
            (_, false, Frame::Reconcile(said)) => self.reconcile_below(link, said),
            (_, true, Frame::Reconcile(said)) => self.reconcile_above(link, said),
            _ => self.misbehaved(link, Misbehaved::NotAllowed),
        }
    }

    fn left(&mut self, link: LinkId) {
        if self.upstream.link() == Some(link)
            && let Some(key) = self.upstream.key()
        {
            self.upstream.interest.parent_left(key, self.now);
        }
        self.close(link, Closed::Left);
    }

    fn greeted(&mut self, link: LinkId, hello: Hello) {
        if hello.version_in_force().is_none() {
            return self.misbehaved(link, Misbehaved::NoCommonVersion);
        }
        let (tier, store) = (hello.tier, hello.store);
        let reconciles = hello.features & Hello::RECONCILES != 0;
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.hello = Some(hello);
        let state_role = state.role.clone();
        if matches!(state_role, Role::Upstream { .. }) {
            self.upstream_ready(tier, store, reconciles);
        } else if state_role == Role::Neighbour {
            self.tell_on_lan();
        } else {
            let reach = self.reach_frame(&state_role);
            self.send(link, &reach);
        }
    }

    /// Queues a frame on a link that exists; a peer that leaves too much unread is cut off.
    fn send(&mut self, link: LinkId, frame: &Frame) {
        self.send_bytes(link, frame.to_bytes());
    }

    fn send_bytes(&mut self, link: LinkId, bytes: Bytes) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        state.bytes += bytes.len();
        state.sends += 1;
        self.waiting_bytes += bytes.len();
        let limits = &self.config.limits;
        if state.bytes > limits.outstanding_bytes || state.sends > limits.outstanding_sends {
            return self.misbehaved(link, Misbehaved::OverLimit);
        }
        self.effects.push_back(Effect::Send { link, bytes });
    }

    fn misbehaved(&mut self, link: LinkId, misbehaved: Misbehaved) {
        if !self.links.contains_key(&link) {
            return;
        }
        *self.counters.misbehaved.entry(misbehaved).or_default() += 1;
        if self.notes.take(self.now) {
            let note = Note::Misbehaved { link, misbehaved };
            self.effects.push_back(Effect::Note(note));
        }
        self.feed.discard(link);
        let bytes = Frame::Close {
            reason: misbehaved.to_string(),
        }
        .to_bytes();
        self.effects.push_back(Effect::Send { link, bytes });
        self.close(link, Closed::Misbehaved(misbehaved));
    }

    fn close(&mut self, link: LinkId, reason: Closed) {
        if self.links.contains_key(&link) {
            self.forget(link);
            self.effects.push_back(Effect::Close { link, reason });
        }
    }

    fn forget(&mut self, link: LinkId) {
        let Some(state) = self.links.remove(&link) else {
            return;
        };
        self.waiting_bytes -= state.bytes;
        for (id, subscription) in &state.subscriptions {
            self.table.remove(subscription.prefix, (link, *id));
            self.unmarked.remove(&(link, *id));
        }
        for subscription in state.subscriptions.values() {
            self.unwant(subscription.prefix);
        }
        self.work.forget(Some(link));
        self.upstream.forget_fetches_of(link);
        if self.upstream.link() == Some(link) {
            self.upstream_lost();
        } else if state.role == Role::Neighbour {
            self.tell_reach();
        }
    }

    fn drained(&mut self, link: LinkId, sends: usize, bytes: usize) {
        let window = self.window();
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let left = state.bytes.saturating_sub(bytes);
        self.waiting_bytes -= state.bytes - left;
        state.bytes = left;
        state.sends = state.sends.saturating_sub(sends);
        if state.bytes <= window.bytes / 2 && state.sends <= window.sends / 2 {
            state
                .blocked
                .drain(..)
                .for_each(|work| self.work.push(work));
        }
    }

    /// How much may wait on a link now.
    fn window(&self) -> Window {
        Window::of(&self.config.limits, self.waiting_bytes)
    }

    /// Takes the time. A clock that was set back takes the timers with it, so that none sleeps for
    /// as long as the clock was wrong.
    fn tick(&mut self, now: Timestamp) {
        if now < self.now {
            self.marks_at = self.marks_at.map(|_| now);
            self.sweep_at = now.plus_millis(SWEEP_MS);
            self.upstream.retry_now(now);
            self.upstream.interest.share_now(now);
        }
        self.now = now;
    }

    fn serve_origins(&mut self, origins: Vec<PublicKey>) {
        if let Err(error) = self.grants.load(&origins, &mut self.store, self.now) {
            self.effects.push_back(Effect::Note(Note::Store(error)));
        }
        self.config.origins = origins;
        self.ask_for_origins();
    }

    fn sweep(&mut self) {
        self.grants.expire(self.now);
        self.send_doubted();
        self.ask_wider();
        match self.store.expire(self.now, SWEEP_CHUNKS) {
            Ok(removed) => {
                self.pages.clear();
                self.counters.expired += removed as u64;
                self.sweep_at = if removed == SWEEP_CHUNKS {
                    self.now
                } else {
                    self.now.plus_millis(SWEEP_MS)
                };
            }
            Err(error) => {
                self.sweep_at = self.now.plus_millis(SWEEP_MS);
                self.effects.push_back(Effect::Note(Note::Store(error)));
            }
        }
        self.make_room();
    }

    /// Brings a store that is above its size below it. An origin has nowhere to get a chunk back from,
    /// and refuses what is new instead.
    fn make_room(&mut self) {
        let most = self.config.limits.store_bytes;
        if most == 0 || self.store.bytes() <= most {
            self.stuck = false;
            return;
        }
        if self.config.tier == Tier::Origin {
            self.stuck = true;
            return;
        }
        match self.store.evict(most - most / EVICT_PART, EVICT_CHUNKS) {
            Ok(removed) => {
                self.pages.clear();
                self.counters.evicted += removed as u64;
                self.stuck = removed == 0;
                if removed == EVICT_CHUNKS {
                    self.sweep_at = self.now;
                }
            }
            Err(error) => self.effects.push_back(Effect::Note(Note::Store(error))),
        }
    }

    /// Whether the operator is told: not too often, and of a conflict once.
    fn is_worth_telling(&mut self, name: Name, reason: Refused) -> bool {
        if reason == Refused::Conflict && self.conflicts.contains(&name) {
            return false;
        }
        let told = self.notes.take(self.now);
        if told && reason == Refused::Conflict && self.conflicts.len() < CONFLICTS {
            self.conflicts.insert(name);
        }
        told
    }

    /// Counts a refusal, and tells the operator, who is not to be flooded.
    fn count_refused(&mut self, name: Name, reason: Refused) {
        *self.counters.refused.entry(reason).or_default() += 1;
        if self.is_worth_telling(name, reason) {
            let note = Note::Refused { name, reason };
            self.effects.push_back(Effect::Note(note));
        }
    }
}

#[cfg(test)]
mod tests;
