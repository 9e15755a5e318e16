//! What has been promised, and how a broken promise is told. The world reports what it sees; what
//! must follow from it at the end of a run is asked in `checks`.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Chunk, Name};

/// What is promised (docs/reliability.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// P1: acknowledged means on disk there.
    P1OnDisk,
    /// P1: whoever publishes learns how far a chunk has come.
    P1Told,
    /// P2: what is acknowledged reaches every subscriber after the heal.
    P2Delivered,
    /// P2: once per subscription between resume marks.
    P2Once,
    /// P2: the bytes that the owner signed, and the same ones for ever at one relay.
    P2TrueBytes,
    /// P3: a LAN without the cloud keeps working.
    P3LanAlone,
    /// P4: only its owner fills a name.
    P4OwnNames,
    /// P9: queues keep to their limits.
    P9Bounded,
    /// P10: what is missing shows as a gap, and can be fetched.
    P10Gaps,
    /// Interest goes up once.
    InterestOnce,
    /// What has expired is not served.
    Expired,
    /// Nothing missing, nothing said.
    Quiet,
    /// Honest peers never see each other break the protocol.
    Civil,
}

/// A promise that was broken, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub promise: Promise,
    pub at_ms: u64,
    pub text: String,
}

#[derive(Default)]
pub struct Model {
    pub violation: Option<Violation>,
    /// Every chunk that an owner has signed, by name; more than one only for a twin's.
    pub valid: BTreeMap<Name, Vec<Chunk>>,
    /// Names that an honest node has acknowledged.
    pub promised: BTreeSet<Name>,
    /// Names about whose whereabouts a hostile relay has lied to who brought them.
    pub lied: BTreeSet<Name>,
    /// Names that were published while LANs stood alone, by publishing client.
    pub probes: Vec<(usize, Name)>,
}

impl Model {
    pub fn is_valid(&self, chunk: &Chunk) -> bool {
        self.valid
            .get(&chunk.name())
            .is_some_and(|chunks| chunks.contains(chunk))
    }

    pub fn sign(&mut self, chunk: &Chunk) {
        let chunks = self.valid.entry(chunk.name()).or_default();
        if !chunks.contains(chunk) {
            chunks.push(chunk.clone());
        }
    }

    /// Whether two parties have signed different bytes under the name.
    pub fn is_disputed(&self, name: Name) -> bool {
        self.valid.get(&name).is_some_and(|chunks| chunks.len() > 1)
    }
}
