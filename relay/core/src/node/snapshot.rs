//! How a node stands at one moment, for people who operate it. It changes nothing and names no chunk.

use proto::Tier;

use super::{Counters, Node};
use crate::store::Store;

/// How a node stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Links from below.
    pub links: usize,
    /// Subscriptions of all of them.
    pub subscriptions: usize,
    /// Bytes handed over for links that have not left yet.
    pub waiting_bytes: usize,
    /// Grants known.
    pub grants: usize,
    /// The parent, while there is a link to it.
    pub parent: Option<ParentSnapshot>,
    /// The highest sequence number ever given by the store.
    pub last_sequence: u64,
    /// Whether the store failed the last time it was asked to write.
    pub store_failed: bool,
    /// What has been counted.
    pub counters: Counters,
}

/// How the link to the parent stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParentSnapshot {
    /// Its address, for people.
    pub relay: String,
    /// Its tier, once it has greeted.
    pub tier: Option<Tier>,
    /// The farthest tier that it reaches.
    pub reach: Tier,
    /// Prefixes subscribed at it.
    pub subscriptions: usize,
    /// Prefixes wanted below that it is not asked for, because they are too many for it.
    pub left_out: usize,
    /// Chunks sent to it that it has not answered.
    pub in_flight: usize,
}

impl<S: Store> Node<S> {
    /// How it stands now. The work is one look at each link.
    pub fn snapshot(&self) -> Snapshot {
        let below = self.links.values().filter(|link| link.is_below());
        let (links, subscriptions, waiting_bytes) = below.fold((0, 0, 0), |sum, link| {
            (
                sum.0 + 1,
                sum.1 + link.subscriptions.len(),
                sum.2 + link.bytes,
            )
        });
        Snapshot {
            links,
            subscriptions,
            waiting_bytes,
            grants: self.grants.len(),
            parent: self.upstream.snapshot(),
            last_sequence: self.store.last_sequence(),
            store_failed: self.store_failed,
            counters: self.counters.clone(),
        }
    }
}
