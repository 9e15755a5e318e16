//! What a node asks of its disk: chunks in arrival order, how far each has come, and where to resume
//! (docs/protocol.md, "Stores"). It knows nothing of links, grants or subscriptions.
//!
//! Every chunk gets a sequence number that is never used again, also after its chunk has expired.
//! A cursor is such a number together with the store's id: it means nothing to another store.

use proto::{Chunk, Cursor, GrantId, Name, OriginId, Path, Prefix, Span, Tier, Timestamp};
use thiserror::Error;

#[doc(hidden)]
pub mod conformance;
mod memory;

pub use memory::MemoryStore;

/// The random number of a store, made once when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// The cursor of a position in this store.
    pub fn cursor(self, sequence: u64) -> Cursor {
        let bytes = [self.0.as_slice(), &sequence.to_be_bytes()].concat();
        Cursor::new(bytes).expect("24 bytes are within a cursor's limit")
    }

    /// The position that a cursor of this store means; `None` for another store's cursor.
    pub fn position(self, cursor: &Cursor) -> Option<u64> {
        let (id, sequence) = cursor.as_bytes().split_at_checked(16)?;
        let sequence: [u8; 8] = sequence.try_into().ok()?;
        (id == self.0).then(|| u64::from_be_bytes(sequence))
    }
}

/// A chunk to be stored.
#[derive(Debug, Clone)]
pub struct Insert {
    /// The chunk; its signature and grant have been checked.
    pub chunk: Chunk,
    /// The farthest tier on whose disk it is known to be, this store's own included.
    pub reached: Tier,
    /// Whether it came from below and has to go up.
    pub upward: bool,
    /// When it is dropped here at the latest, if that is before its expiry and it need not go up.
    pub until: Timestamp,
}

impl Insert {
    /// A chunk that is kept until it expires.
    pub fn new(chunk: Chunk, reached: Tier, upward: bool) -> Self {
        let until = chunk.expiry();
        Self {
            chunk,
            reached,
            upward,
            until,
        }
    }
}

/// What became of one insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is new, under this sequence number.
    New(u64),
    /// The same bytes were here; the farthest tier now known, and its sequence number. If it has to go
    /// up, it has from now on, whoever brought it first.
    Same(Tier, u64),
    /// Other bytes are here under its name; they stay.
    Conflict,
}

/// How far a chunk has come, as the parent said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// It is on the disk of that tier; at the origin there is no farther to go.
    Reached(Tier),
    /// The parent will never take it: it is not sent up again.
    Stopped,
    /// The parent does not have it, whatever was known: it has come as far as this tier, ours, and
    /// has to go up.
    Lacking(Tier),
}

/// Where a subscription at an upstream store continues.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumePoint {
    /// The upstream store.
    pub upstream: StoreId,
    /// What was subscribed there.
    pub prefix: Prefix,
    /// Everything before it is in this store.
    pub cursor: Cursor,
}

/// What one commit writes, all or nothing.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Chunks to store where their name is free, in order.
    pub inserts: Vec<Insert>,
    /// Progress of chunks that are here.
    pub progress: Vec<(Name, Progress)>,
    /// Resume points; the last one of an upstream store and prefix stays.
    pub resume: Vec<ResumePoint>,
    /// The upstream store which from now on has all that this one has, but for what has to go up.
    pub in_step: Option<StoreId>,
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.inserts.is_empty()
            && self.progress.is_empty()
            && self.resume.is_empty()
            && self.in_step.is_none()
    }
}

/// A chunk that is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its sequence number.
    pub sequence: u64,
    /// Its bytes.
    pub chunk: Chunk,
    /// The farthest tier known.
    pub reached: Tier,
}

/// The direction of a scan through the arrival order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending, from the first sequence number above.
    Above(u64),
    /// Descending, from the first sequence number below.
    Below(u64),
}

/// A look at part of the arrival order. The work of one scan is bounded, whatever the store holds.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// Names to yield.
    pub prefix: Prefix,
    /// Where to begin, and which way.
    pub direction: Direction,
    /// Chunks to yield, at most.
    pub limit: usize,
    /// Chunks that have expired by now are passed over.
    pub now: Timestamp,
}

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The chunks, in the direction of the scan.
    pub chunks: Vec<(u64, Chunk)>,
    /// Where the next scan continues: everything on this side of it has been looked at.
    pub position: u64,
    /// Whether nothing lies beyond.
    pub end: bool,
}

/// A chunk that is here, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Its name.
    pub name: Name,
    /// Its sequence number.
    pub sequence: u64,
    /// [`Chunk::digest`].
    pub digest: u128,
}

/// Chunks that were found to be other than they were written, and were dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Damage {
    /// Their names, or some thousands of them when they are more.
    pub names: Vec<Name>,
    /// How many they are.
    pub count: u64,
}

/// Whether a chunk is kept until it expires, whatever room there is: a grant or a record, on which trust
/// in other chunks rests.
pub fn is_kept(name: Name) -> bool {
    matches!(name.path(), Path::Grant | Path::Record)
}

/// On whose account a chunk is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Account {
    /// A grant's.
    Grant(GrantId),
    /// An organisation's: all its chunks but those that need no grant.
    Org(OriginId, u32),
    /// The key packages of an organisation that need no grant.
    KeyPackages(OriginId, u32),
}

impl Account {
    /// The accounts of a chunk: its grant's, if it has one, and its organisation's.
    pub fn of(name: Name, grant: GrantId) -> impl Iterator<Item = Self> {
        let place = name.place();
        let granted = grant != GrantId::NONE;
        let org = if granted || name.path() != Path::KeyPackage {
            Self::Org(place.origin, place.org)
        } else {
            Self::KeyPackages(place.origin, place.org)
        };
        granted
            .then_some(Self::Grant(grant))
            .into_iter()
            .chain([org])
    }

    /// A key for tables: one byte for the kind, eight for the owner.
    pub fn key(self) -> [u8; 9] {
        let of = |kind: u8, origin: OriginId, org: u32| {
            (u128::from(kind) << 64) | (u128::from(origin.get()) << 32) | u128::from(org)
        };
        let number = match self {
            Self::Grant(GrantId(id)) => (1 << 64) | u128::from(u64::from_be_bytes(id)),
            Self::Org(origin, org) => of(2, origin, org),
            Self::KeyPackages(origin, org) => of(3, origin, org),
        };
        let mut key = [0; 9];
        key.copy_from_slice(&number.to_be_bytes()[7..]);
        key
    }
}

/// What is kept on an account: enough to say at any time how many bytes are kept for how long.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of its chunks.
    pub bytes: u64,
    /// The sum of each chunk's bytes times its expiry in seconds.
    pub weight: u128,
}

impl Usage {
    /// Of one chunk of so many bytes.
    pub fn of(bytes: usize, expiry: Timestamp) -> Self {
        let bytes = bytes as u64;
        let seconds = expiry.millis() / 1000;
        Self {
            bytes,
            weight: u128::from(bytes) * u128::from(seconds),
        }
    }

    /// Puts another on top.
    pub fn add(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.weight = self.weight.saturating_add(other.weight);
    }

    /// Takes another off.
    pub fn take(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_sub(other.bytes);
        self.weight = self.weight.saturating_sub(other.weight);
    }

    /// Bytes times the seconds for which they have to be kept from now on.
    pub fn byte_seconds(self, now: Timestamp) -> u64 {
        let past = u128::from(self.bytes) * u128::from(now.millis() / 1000);
        u64::try_from(self.weight.saturating_sub(past)).unwrap_or(u64::MAX)
    }
}

/// Why a store could not do it. The text is for people: one line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// No room: what is stored stays readable.
    #[error("{0}")]
    Full(String),
    /// Another program holds it.
    #[error("{0}")]
    Busy(String),
    /// It cannot be opened, read or written.
    #[error("{0}")]
    Broken(String),
    /// What is in its files is not what was written.
    #[error("{0}")]
    Damaged(String),
}

/// A node's disk. One writer: the node. Every call is bounded in time and size. A chunk is read as it
/// was written or not at all.
pub trait Store {
    /// This store's id.
    fn id(&self) -> StoreId;

    /// Writes a batch; `Ok` means that it is durable. One [`Put`] for each insert, in order. Names
    /// that occur twice in a batch count as if the first were already here. A `Same` raises what is
    /// known of the tier. On an error nothing of the batch is there.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was written.
    fn put_if_absent(&mut self, batch: &Batch) -> Result<Vec<Put>, StoreError>;

    /// The chunk of this name.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn get(&mut self, name: Name) -> Result<Option<Stored>, StoreError>;

    /// The next chunks under a prefix in arrival order.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn scan(&mut self, scan: &Scan) -> Result<Page, StoreError>;

    /// Chunks in a span in the order of their names, from its beginning.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn range(&mut self, span: Span, limit: usize) -> Result<Vec<Chunk>, StoreError>;

    /// What is alive in a span, in the order of the names, from its beginning. No chunk is read.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn names(&mut self, span: Span, limit: usize, now: Timestamp) -> Result<Vec<Held>, StoreError>;

    /// Chunks above a sequence number that have to go up and have not come as far as `goal`.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn upward(&mut self, goal: Tier, above: u64, limit: usize) -> Result<Vec<Stored>, StoreError>;

    /// Where a subscription at an upstream store continues.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn resume_point(
        &mut self,
        upstream: StoreId,
        prefix: Prefix,
    ) -> Result<Option<Cursor>, StoreError>;

    /// The highest sequence number ever given, 0 at first.
    fn last_sequence(&self) -> u64;

    /// The upstream store that has all that this one has, but for what has to go up.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn in_step(&mut self) -> Result<Option<StoreId>, StoreError>;

    /// The chunks that were found damaged since this was asked last. They are dropped, and no
    /// subscription above resumes behind them.
    fn take_damage(&mut self) -> Damage;

    /// What is kept on an account.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    fn usage(&mut self, account: Account) -> Result<Usage, StoreError>;

    /// Bytes of all chunks.
    fn bytes(&self) -> u64;

    /// Removes at most `limit` chunks whose time is over (their expiry, or `until` if they need not go
    /// up), and says how many.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was removed.
    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError>;

    /// Removes the oldest chunks, `limit` at most, until there are no more than `bytes` of them.
    /// What [`is_kept`] stays, and what has to go up. Says how many were removed. When nothing may go
    /// it costs a look at an index, whatever the store holds.
    ///
    /// # Errors
    /// [`StoreError`] when nothing was removed.
    fn evict(&mut self, bytes: u64, limit: usize) -> Result<usize, StoreError>;
}
