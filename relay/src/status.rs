//! What a running relay tells about itself: one value for `treeline-relay status`, for health and
//! for metrics. Never a name of a chunk, a team or a device: nothing finer than the relay itself.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Instant;

use proto::{PublicKey, Tier};
use relay_core::{Counters, Snapshot};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::address::{RelayAddress, Upstream};
use crate::driver::{Handle, Stopped};
use crate::parents::Troubles;
use crate::relay::STORE;

/// The version of the JSON form: another one means that a field was removed or means something else.
pub const VERSION: u32 = 1;

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
    /// Where.
    pub place: String,
    /// `connected`, `greeting`, or `away`.
    pub state: String,
    /// Its tier, when it is connected.
    pub tier: Option<String>,
    /// The farthest tier that it reaches, when it is connected.
    pub reach: Option<String>,
    /// Prefixes subscribed at it.
    pub subscriptions: usize,
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
    /// Why relays above are away.
    pub troubles: watch::Receiver<Troubles>,
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

    /// The configured ones in their order, then the one that is connected if it is none of them.
    fn parents(&self, snapshot: &Snapshot) -> Vec<Parent> {
        let current = snapshot.parent.as_ref();
        let away = |place: &str, error: Option<&str>| Parent {
            place: place.to_owned(),
            error: error.map(str::to_owned),
            state: "away".into(),
            tier: None,
            reach: None,
            subscriptions: 0,
            in_flight: 0,
        };
        let troubles = self.troubles.borrow().clone();
        let configured = self.parents.iter();
        let mut parents: Vec<Parent> = configured
            .map(|parent| away(parent.place(), troubles.of(parent, &self.parents)))
            .collect();
        let Some(current) = current else {
            return parents;
        };
        let known = parents.iter().position(|p| p.place == current.relay);
        let at = known.unwrap_or_else(|| {
            parents.push(away(&current.relay, None));
            parents.len() - 1
        });
        let greeted = current.tier.is_some();
        parents[at] = Parent {
            place: current.relay.clone(),
            state: if greeted { "connected" } else { "greeting" }.into(),
            tier: current.tier.map(|tier| tier.word().into()),
            reach: current.tier.map(|_| current.reach.word().into()),
            subscriptions: current.subscriptions,
            in_flight: current.in_flight,
            error: None,
        };
        parents
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
