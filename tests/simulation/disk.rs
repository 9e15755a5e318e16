//! A node's disk in a simulated world: MemoryStore, which keeps exactly what was committed, behind
//! faults (full, failing, power cut within a commit) and the planted faults that belong to a store.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Chunk, Cursor, Name, Prefix, Span, Tier, Timestamp};
use relay_core::store::{
    Account, Batch, Damage, Held, Insert, MemoryStore, Page, Put, Scan, Store, StoreError, StoreId,
    Stored, Usage,
};

use crate::mutant::Mutant;

/// When the power goes, seen from a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    BeforeWrite,
    AfterWrite,
}

pub struct Disk {
    memory: MemoryStore,
    mutant: Option<Mutant>,
    pub full: bool,
    pub failing: bool,
    /// The next commit is the last thing that happens.
    pub cut: Option<Cut>,
    /// The power has gone.
    pub dark: bool,
    commits: u64,
    restarts: u64,
    /// Of the planted faults: sequence number at the last start, other bytes, hidden names,
    /// cursors whoever made them.
    started_at: u64,
    overwritten: BTreeMap<Name, Chunk>,
    evicted: BTreeSet<Name>,
    marks: BTreeMap<Prefix, Cursor>,
}

impl Disk {
    pub fn new(id: StoreId, mutant: Option<Mutant>) -> Self {
        let mut disk = Self {
            memory: MemoryStore::new(id),
            mutant,
            full: false,
            failing: false,
            cut: None,
            dark: false,
            commits: 0,
            restarts: 0,
            started_at: 0,
            overwritten: BTreeMap::new(),
            evicted: BTreeSet::new(),
            marks: BTreeMap::new(),
        };
        if disk.is(Mutant::AckBeforeSync) {
            disk.memory.stop_syncing();
        }
        disk
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// The power comes back.
    pub fn restart(&mut self) {
        self.memory.crash();
        (self.dark, self.cut) = (false, None);
        self.restarts += 1;
        self.started_at = self.memory.last_sequence();
    }

    /// Has the planted fault of a lazy store write down now what it owes.
    pub fn sync(&mut self) {
        if self.is(Mutant::AckBeforeSync) {
            self.memory.stop_syncing();
        }
    }

    /// Whether a name has these or any bytes, whatever fails now.
    pub fn holds(&mut self, name: Name) -> bool {
        !self.evicted.contains(&name) && self.memory.get(name).is_ok_and(|found| found.is_some())
    }

    /// Everything that is here, for the checks.
    pub fn all(&mut self, prefix: Prefix) -> Vec<Chunk> {
        let chunks = self
            .memory
            .range(prefix.into(), usize::MAX)
            .unwrap_or_default();
        let shown = |chunk: Chunk| {
            self.overwritten
                .get(&chunk.name())
                .cloned()
                .unwrap_or(chunk)
        };
        chunks
            .into_iter()
            .map(shown)
            .filter(|chunk| !self.evicted.contains(&chunk.name()))
            .collect()
    }

    /// Stores chunks that nobody has checked: a planted fault.
    pub fn put_unchecked(&mut self, chunks: &[Chunk]) {
        let inserts = chunks
            .iter()
            .map(|chunk| Insert::new(chunk.clone(), Tier::Device, true));
        let batch = Batch {
            inserts: inserts.collect(),
            ..Batch::default()
        };
        let _ = self.memory.put_if_absent(&batch);
    }

    /// Puts other bytes in the place of those that are here: a planted fault.
    pub fn put_over(&mut self, chunk: &Chunk) {
        if self
            .memory
            .get(chunk.name())
            .is_ok_and(|stored| stored.is_some())
        {
            self.overwritten.insert(chunk.name(), chunk.clone());
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        if self.dark || self.failing {
            return Err(StoreError::Broken("the disk does not answer".into()));
        }
        Ok(())
    }

    fn show(&self, chunk: &mut Chunk) {
        if let Some(other) = self.overwritten.get(&chunk.name()) {
            *chunk = other.clone();
        }
    }

    /// What the planted faults do to a batch before it is written.
    fn spoil(&mut self, batch: &Batch) {
        if self.is(Mutant::UnacknowledgedEvicted) && self.full {
            let due = self.memory.upward(Tier::Origin, 0, 4).unwrap_or_default();
            self.evicted
                .extend(due.iter().map(|stored| stored.chunk.name()));
        }
        if self.is(Mutant::ResumeBeforeChunks) && (self.full || self.failing) {
            let resume = batch.resume.clone();
            let _ = self.memory.put_if_absent(&Batch {
                resume,
                ..Batch::default()
            });
        }
    }
}

impl Store for Disk {
    fn id(&self) -> StoreId {
        self.memory.id()
    }

    fn put_if_absent(&mut self, batch: &Batch) -> Result<Vec<Put>, StoreError> {
        self.spoil(batch);
        self.check()?;
        if let Some(cut) = self.cut.take() {
            self.dark = true;
            if cut == Cut::BeforeWrite {
                return Err(StoreError::Broken("the power is gone".into()));
            }
        }
        self.memory.limit(if self.full {
            self.memory.len()
        } else {
            usize::MAX
        });
        let puts = self.memory.put_if_absent(batch)?;
        self.commits += 1;
        let marks = batch
            .resume
            .iter()
            .map(|point| (point.prefix, point.cursor.clone()));
        self.marks.extend(marks);
        if self.commits.is_multiple_of(4) {
            self.sync();
        }
        Ok(puts)
    }

    fn get(&mut self, name: Name) -> Result<Option<Stored>, StoreError> {
        self.check()?;
        if self.evicted.contains(&name) {
            return Ok(None);
        }
        let mut stored = self.memory.get(name)?;
        if let Some(stored) = &mut stored {
            self.show(&mut stored.chunk);
        }
        Ok(stored)
    }

    fn scan(&mut self, scan: &Scan) -> Result<Page, StoreError> {
        use relay_core::store::Direction;
        self.check()?;
        let mut scan = *scan;
        if self.is(Mutant::ExpiredServed) {
            scan.now = Timestamp::default();
        }
        if let (Mutant::SeamDuplicate, Direction::Above(from)) =
            (self.mutant.unwrap_or(Mutant::SeamHole), scan.direction)
        {
            scan.direction = Direction::Above(from.saturating_sub(1));
            scan.limit += 1;
        }
        let mut page = self.memory.scan(&scan)?;
        if self.is(Mutant::SeamHole) && page.end && page.chunks.len() > 1 {
            page.chunks.pop();
        }
        page.chunks
            .iter_mut()
            .for_each(|(_, chunk)| self.show(chunk));
        page.chunks
            .retain(|(_, chunk)| !self.evicted.contains(&chunk.name()));
        Ok(page)
    }

    fn range(&mut self, span: Span, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        self.check()?;
        self.memory.range(span, limit)
    }

    fn names(&mut self, span: Span, limit: usize, now: Timestamp) -> Result<Vec<Held>, StoreError> {
        self.check()?;
        self.memory.names(span, limit, now)
    }

    fn in_step(&mut self) -> Result<Option<StoreId>, StoreError> {
        self.check()?;
        self.memory.in_step()
    }

    fn take_damage(&mut self) -> Damage {
        self.memory.take_damage()
    }

    fn usage(&mut self, account: Account) -> Result<Usage, StoreError> {
        self.check()?;
        self.memory.usage(account)
    }

    fn bytes(&self) -> u64 {
        self.memory.bytes()
    }

    fn evict(&mut self, bytes: u64, limit: usize) -> Result<usize, StoreError> {
        self.check()?;
        self.memory.evict(bytes, limit)
    }

    fn upward(&mut self, goal: Tier, above: u64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        self.check()?;
        let forgets = self.is(Mutant::NotResentAfterRestart) && self.restarts > 0;
        let above = if forgets {
            above.max(self.started_at)
        } else {
            above
        };
        let mut due = self.memory.upward(goal, above, limit)?;
        due.retain(|stored| !self.evicted.contains(&stored.chunk.name()));
        Ok(due)
    }

    fn resume_point(
        &mut self,
        upstream: StoreId,
        prefix: Prefix,
    ) -> Result<Option<Cursor>, StoreError> {
        self.check()?;
        if self.is(Mutant::ForeignCursorTrusted) {
            return Ok(self.marks.get(&prefix).cloned());
        }
        self.memory.resume_point(upstream, prefix)
    }

    fn last_sequence(&self) -> u64 {
        self.memory.last_sequence()
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        self.check()?;
        if self.is(Mutant::ExpiredServed) {
            return Ok(0);
        }
        self.memory.expire(now, limit)
    }
}
