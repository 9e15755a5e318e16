//! What a running relay tells about itself: one value for `treeline-relay status`, for health and
//! for metrics. Never a name of a chunk, a team or a device: nothing finer than the relay itself.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proto::{PublicKey, Tier};
use relay_core::{Counters, ParentSnapshot, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::address::{RelayAddress, Upstream};
use crate::driver::{Handle, Stopped};
use crate::parents::{Above, Up};
use crate::relay::STORE;

/// The version of the JSON form: another one means that a field was removed or means something else.
pub const VERSION: u32 = 1;

/// A parent through which traffic goes.
pub const CONNECTED: &str = "connected";
/// A parent with a link beside the one that is used.
pub const STANDING_BY: &str = "standing by";

/// How a relay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`VERSION`].
    pub version: u32,
    /// The program's version.
    pub program: String,
    /// Where it listens, and its key.
    pub address: String,
    /// Its place in the tree.
    pub tier: String,
    /// The origins that it serves.
    pub origins: Vec<String>,
    /// Its directory.
    pub directory: PathBuf,
    /// Its process.
    pub pid: u32,
    /// How long it has run, in seconds.
    pub uptime_s: u64,
    /// Whether it does its work: its parent is reachable, or it is a root on purpose, and it can write.
    pub ready: bool,
    /// The farthest tier that can be reached now.
    pub reach: String,
    /// The relays above.
    pub parents: Vec<Parent>,
    /// Links from below.
    pub links: usize,
    /// Subscriptions of all links.
    pub subscriptions: usize,
    /// Bytes that wait to leave on links.
    pub waiting_bytes: usize,
    /// Grants known.
    pub grants: usize,
    /// Its disk.
    pub store: StoreStatus,
    /// What it has counted since it began.
    pub counters: Counts,
}

/// A relay above.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parent {
    /// `HOST:PORT` or the domain, as configured.
    pub place: String,
    /// [`CONNECTED`], [`STANDING_BY`], `greeting`, or `away`.
    pub state: String,
    /// `HOST:PORT` of the relay to which there is a link.
    #[serde(default)]
    pub relay: Option<String>,
    /// Its tier, when there is a link.
    pub tier: Option<String>,
    /// The farthest tier that it reaches, when it is connected.
    pub reach: Option<String>,
    /// Prefixes subscribed at it.
    pub subscriptions: usize,
    /// Prefixes wanted below that it is not asked for, because they are too many for it.
    #[serde(default)]
    pub left_out: usize,
    /// Chunks sent to it that it has not answered.
    pub in_flight: usize,
    /// Why it is away, as far as is known: the last attempt's failure, one line.
    #[serde(default)]
    pub error: Option<String>,
}

/// A relay's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Bytes of its files.
    pub bytes: u64,
    /// Bytes free on its file system.
    pub free_bytes: u64,
    /// The highest sequence number ever given: new chunks since the store was made.
    pub last_sequence: u64,
    /// Whether the last write failed.
    pub failed: bool,
}

/// What a relay has counted since it began.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
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
    #[serde(default)]
    pub damaged: u64,
    /// Chunks refused, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Refusals of chunks by the parent, by reason.
    #[serde(default)]
    pub refused_above: BTreeMap<String, u64>,
    /// Links closed, by what the peer did.
    pub misbehaved: BTreeMap<String, u64>,
}

/// What of a relay does not change while it runs, and the way to its node.
#[derive(Clone)]
pub struct View {
    /// The way to the node.
    pub handle: Handle,
    /// Where it listens, and its key.
    pub address: RelayAddress,
    /// Its place in the tree.
    pub tier: Tier,
    /// The origins that it serves.
    pub origins: Vec<PublicKey>,
    /// The relays above.
    pub parents: Vec<Upstream>,
    /// Its directory.
    pub directory: PathBuf,
    /// How the relays above are.
    pub above: watch::Receiver<Above>,
    /// When it began.
    pub began: Instant,
}

impl View {
    /// How the relay is now.
    ///
    /// # Errors
    /// [`Stopped`] when there is no node any more.
    pub async fn status(&self) -> Result<Status, Stopped> {
        let snapshot = self.handle.snapshot().await?;
        let reach = self.handle.reach().borrow().0;
        let parents = self.parents(&snapshot);
        let connected = snapshot.parent.as_ref().is_some_and(|p| p.tier.is_some());
        Ok(Status {
            version: VERSION,
            program: env!("CARGO_PKG_VERSION").into(),
            address: self.address.to_string(),
            tier: self.tier.word().into(),
            origins: self.origins.iter().map(PublicKey::to_hex).collect(),
            directory: self.directory.clone(),
            pid: std::process::id(),
            uptime_s: self.began.elapsed().as_secs(),
            ready: (connected || parents.is_empty()) && !snapshot.store_failed,
            reach: reach.word().into(),
            parents,
            links: snapshot.links,
            subscriptions: snapshot.subscriptions,
            waiting_bytes: snapshot.waiting_bytes,
            grants: snapshot.grants,
            store: StoreStatus {
                bytes: store_bytes(&self.directory),
                free_bytes: free_bytes(&self.directory).unwrap_or(0),
                last_sequence: snapshot.last_sequence,
                failed: snapshot.store_failed,
            },
            counters: counts(&snapshot.counters),
        })
    }

    /// The configured ones in their order, each with all relays to which it leads and that are up; then
    /// those that are up and that nothing leads to any more.
    fn parents(&self, snapshot: &Snapshot) -> Vec<Parent> {
        let current = snapshot.parent.as_ref();
        let above = self.above.borrow().clone();
        let mut parents = Vec::new();
        for upstream in &self.parents {
            let relays = above.through(upstream);
            let mut of_it: Vec<Parent> = relays
                .map(|relay| linked(upstream.place(), relay, current))
                .collect();
            of_it.sort_by_key(|parent| parent.state != CONNECTED);
            if of_it.is_empty() {
                of_it.push(away(upstream.place(), above.trouble(upstream)));
            }
            parents.append(&mut of_it);
        }
        let others = above.others(&self.parents);
        parents.extend(others.map(|relay| linked(&relay.place, relay, current)));
        parents
    }
}

fn away(place: &str, error: Option<&str>) -> Parent {
    Parent {
        place: place.to_owned(),
        state: "away".into(),
        relay: None,
        tier: None,
        reach: None,
        subscriptions: 0,
        left_out: 0,
        in_flight: 0,
        error: error.map(str::to_owned),
    }
}

/// A relay with a link to it; the node knows of the one that is used.
fn linked(place: &str, relay: &Up, used: Option<&ParentSnapshot>) -> Parent {
    let used = used.filter(|used| used.relay == relay.place);
    let greeted = used.filter(|used| used.tier.is_some());
    let state = match (used, greeted) {
        (_, Some(_)) => CONNECTED,
        (Some(_), None) => "greeting",
        (None, None) => STANDING_BY,
    };
    Parent {
        state: state.into(),
        relay: Some(relay.place.clone()),
        tier: Some(relay.tier.word().into()),
        reach: greeted.map(|used| used.reach.word().into()),
        subscriptions: used.map_or(0, |used| used.subscriptions),
        left_out: used.map_or(0, |used| used.left_out),
        in_flight: used.map_or(0, |used| used.in_flight),
        ..away(place, None)
    }
}

fn counts(counters: &Counters) -> Counts {
    Counts {
        stored: counters.stored,
        duplicates: counters.duplicates,
        delivered: counters.delivered,
        expired: counters.expired,
        evicted: counters.evicted,
        damaged: counters.damaged,
        refused: by_word(&counters.refused),
        refused_above: by_word(&counters.refused_above),
        misbehaved: by_word(&counters.misbehaved),
    }
}

fn by_word<K: Debug>(counts: &BTreeMap<K, u64>) -> BTreeMap<String, u64> {
    let counts = counts.iter();
    counts.map(|(key, count)| (word(key), *count)).collect()
}

/// `StoreFull` as `store_full`: the variant's name is the stable word, its text is for people.
fn word(reason: &impl Debug) -> String {
    let mut word = String::new();
    for letter in format!("{reason:?}").chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

/// Bytes of the store's files in a directory.
pub fn store_bytes(directory: &Path) -> u64 {
    let size = |ending: &str| std::fs::metadata(directory.join(format!("{STORE}{ending}")));
    ["", "-wal", "-shm"]
        .into_iter()
        .filter_map(|ending| size(ending).ok())
        .map(|file| file.len())
        .sum()
}

/// Bytes that this user may still write on a directory's file system; `None` if it does not tell.
pub fn free_bytes(directory: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(directory).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Misbehaved, Refused};

    #[test]
    fn reasons_have_words() {
        assert_eq!(word(&Refused::StoreFull), "store_full");
        assert_eq!(word(&Misbehaved::NotAsked), "not_asked");
    }
}
