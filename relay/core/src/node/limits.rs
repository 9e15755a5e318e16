//! What a node allows, and for how long it keeps what. The defaults are safe for a relay that everybody
//! can reach; docs/operations.md, "Limits", says what each costs.

use std::collections::BTreeMap;

use proto::{OriginId, Prefix, limits};

/// Byte-seconds of 10 GiB for a year.
const TEN_GIB_YEARS: u64 = 10 * 1024 * 1024 * 1024 * 365 * 86_400;

/// How much a peer may use. Every queue of the node has its bound here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Chunks in one commit.
    pub batch_chunks: usize,
    /// Bytes that may wait on a link before its subscriptions fall back to reading the store.
    pub window_bytes: usize,
    /// Sends that may wait on a link before its subscriptions fall back to reading the store.
    pub window_sends: usize,
    /// Bytes that may wait on all links; above, every link has a sixteenth of its window.
    pub total_window_bytes: usize,
    /// Bytes that may wait on a link before it is closed: answers to what it asked go above the window.
    pub outstanding_bytes: usize,
    /// Sends that may wait on a link before it is closed.
    pub outstanding_sends: usize,
    /// Links; above so many only the one to the parent comes, and on a device its own Secure's.
    pub links: usize,
    /// Subscriptions of a link.
    pub subscriptions_per_link: usize,
    /// Fetches and wishes of a link at the same time.
    pub fetches_per_link: usize,
    /// Chunks sent to the parent that it has not answered.
    pub in_flight: usize,
    /// Published names whose later acknowledgements are passed on.
    pub routes: usize,
    /// Grants known, a quarter of them (or 1,024) of one organisation.
    pub grants: usize,
    /// The shortest prefix that may be subscribed to, in bits.
    pub prefix_bits: u8,
    /// Chunks a link may publish per second, with as many again at once; new grants that it shows count.
    pub chunks_per_second: u32,
    /// Key package fragments a link may publish per minute, with as many again at once.
    pub key_packages_per_minute: u32,
    /// The longest life of a published chunk, in milliseconds, whatever its grant says.
    pub life_ms: u64,
    /// Bytes times seconds that may be kept for a grant that does not say how many; 0 for no limit.
    pub grant_byte_seconds: u64,
    /// Bytes times seconds that may be kept for an organisation whose grant does not say how many; 0 for
    /// no limit.
    pub org_byte_seconds: u64,
    /// The same for certain organisations, before what their grants say.
    pub orgs: BTreeMap<(OriginId, u32), u64>,
    /// Bytes times seconds of key packages that may be kept for an organisation; 0 for no limit.
    pub key_package_byte_seconds: u64,
    /// Bytes of chunks that the store may hold; 0 for no limit but the disk.
    pub store_bytes: u64,
    /// What is kept for less than its own life, but at an origin; the longest prefix counts.
    pub retention: Vec<Retention>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            batch_chunks: 128,
            window_bytes: 1024 * 1024,
            window_sends: 1024,
            total_window_bytes: 256 * 1024 * 1024,
            outstanding_bytes: 4 * 1024 * 1024,
            outstanding_sends: 4096,
            links: 4096,
            subscriptions_per_link: 4096,
            fetches_per_link: 64,
            in_flight: 1024,
            routes: 65_536,
            grants: 65_536,
            prefix_bits: 24,
            chunks_per_second: 50_000,
            key_packages_per_minute: 600,
            life_ms: limits::LIFE_MS,
            grant_byte_seconds: TEN_GIB_YEARS,
            org_byte_seconds: 10 * TEN_GIB_YEARS,
            orgs: BTreeMap::new(),
            key_package_byte_seconds: TEN_GIB_YEARS / 1024,
            store_bytes: 0,
            retention: Vec::new(),
        }
    }
}

/// For how long chunks under a prefix are kept here, if they live longer and need not go up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Which.
    pub prefix: Prefix,
    /// Milliseconds after they came.
    pub keep_ms: u64,
}
