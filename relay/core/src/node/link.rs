//! What the node remembers of one link: how much it owes to the peer, and what the peer was shown.

use std::collections::{BTreeMap, BTreeSet};

use proto::{GrantId, Hello, Name, Outcome, Timestamp};

use super::answers::{Answer, Wish};
use super::fetch::Fetch;
use super::quota::Bucket;
use super::subscriptions::Subscription;
use super::{Limits, Role, Work};

/// By how much windows are smaller while too much waits on all links together.
const NARROW: usize = 16;

pub(super) struct Link {
    pub(super) role: Role,
    /// The peer's; until it comes nothing else is accepted.
    pub(super) hello: Option<Hello>,
    /// Bytes handed to the driver that have not left, and in how many sends.
    pub(super) bytes: usize,
    pub(super) sends: usize,
    /// Grants that were sent on this link.
    pub(super) granted: BTreeSet<GrantId>,
    pub(super) subscriptions: BTreeMap<u32, Subscription>,
    pub(super) fetches: BTreeMap<u32, Fetch>,
    /// The question of RECONCILE that is being answered, and the wishes being fulfilled.
    pub(super) answer: Option<Answer>,
    pub(super) wishes: BTreeMap<u32, Wish>,
    /// Work that waits for room; each subscription and fetch is here at most once.
    pub(super) blocked: Vec<Work>,
    /// Answers that the next flush sends.
    pub(super) acks: Vec<(Name, Outcome)>,
    /// Whether a chunk that its peer published was signed as it has to be.
    pub(super) has_signed: bool,
    pub(super) chunks: Bucket,
    pub(super) key_packages: Bucket,
}

/// How much may wait on a link before what it wants is read from the store when it has room again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Window {
    pub(super) bytes: usize,
    pub(super) sends: usize,
}

impl Window {
    /// The window while so many bytes wait on all links: a small one when that is too much, so that any
    /// number of slow readers costs a known amount.
    pub(super) fn of(limits: &Limits, waiting: usize) -> Self {
        let narrow = waiting >= limits.total_window_bytes;
        let bytes = if narrow {
            limits.window_bytes / NARROW
        } else {
            limits.window_bytes
        };
        Self {
            bytes: bytes.max(1),
            sends: limits.window_sends,
        }
    }
}

impl Link {
    pub(super) fn new(role: Role, limits: &Limits, now: Timestamp) -> Self {
        Self {
            role,
            hello: None,
            bytes: 0,
            sends: 0,
            granted: BTreeSet::new(),
            subscriptions: BTreeMap::new(),
            fetches: BTreeMap::new(),
            answer: None,
            wishes: BTreeMap::new(),
            blocked: Vec::new(),
            acks: Vec::new(),
            has_signed: false,
            chunks: Bucket::new(limits.chunks_per_second, 1000, now),
            key_packages: Bucket::new(limits.key_packages_per_minute, 60_000, now),
        }
    }

    /// Whether its peer is one that we serve.
    pub(super) fn is_below(&self) -> bool {
        !matches!(self.role, Role::Upstream { .. })
    }

    /// Whether more than answers may be sent now.
    pub(super) fn has_room(&self, window: Window) -> bool {
        self.bytes < window.bytes && self.sends < window.sends
    }

    /// Whether an id that the peer chose is in use.
    pub(super) fn uses(&self, id: u32) -> bool {
        self.subscriptions.contains_key(&id)
            || self.fetches.contains_key(&id)
            || self.wishes.contains_key(&id)
            || self.answer.as_ref().is_some_and(|answer| answer.id == id)
    }
}
