//! A store in memory, for simulations. With `crash` it loses what was written since the last sync,
//! which shows whether anybody was promised too much.

use std::collections::BTreeMap;

use proto::{Chunk, Cursor, Name, Prefix, Span, Tier, Timestamp};

use super::{
    Account, Batch, Damage, Direction, Held, Insert, Page, Progress, Put, Scan, Store, StoreError,
    StoreId, Stored, Usage, is_kept,
};

/// Sequence numbers that one scan looks at, at most.
const ROWS_PER_SCAN: u64 = 2048;

#[derive(Debug, Clone)]
struct Row {
    chunk: Chunk,
    digest: u128,
    reached: Tier,
    upward: bool,
    until: Timestamp,
}

impl Row {
    fn is_over(&self, now: Timestamp) -> bool {
        self.chunk.expiry() <= now || (self.until <= now && !self.upward)
    }
}

#[derive(Debug, Clone, Default)]
struct Tables {
    rows: BTreeMap<u64, Row>,
    names: BTreeMap<Name, u64>,
    resume: BTreeMap<(StoreId, Prefix), Cursor>,
    in_step: Option<StoreId>,
    usage: BTreeMap<Account, Usage>,
    bytes: u64,
    last: u64,
    damage: Damage,
}

/// A store in memory.
#[derive(Debug, Clone)]
pub struct MemoryStore {
    id: StoreId,
    tables: Tables,
    synced: Option<Tables>,
    capacity: usize,
    evictions: usize,
}

impl MemoryStore {
    /// An empty store with this id, which syncs on every commit.
    pub fn new(id: StoreId) -> Self {
        Self {
            id,
            tables: Tables::default(),
            synced: None,
            capacity: usize::MAX,
            evictions: 0,
        }
    }

    /// From now on commits are not synced: [`MemoryStore::crash`] undoes them. A store that does
    /// this breaks its promise; simulations use it to see that somebody notices.
    pub fn stop_syncing(&mut self) {
        self.synced = Some(self.tables.clone());
    }

    /// A power cut: what was written and not synced is gone.
    pub fn crash(&mut self) {
        if let Some(synced) = &self.synced {
            self.tables = synced.clone();
        }
    }

    /// Room for so many chunks.
    pub fn limit(&mut self, chunks: usize) {
        self.capacity = chunks;
    }

    /// Damages a chunk: it is found, dropped and told of, as on a disk that has flipped a bit of it.
    pub fn damage(&mut self, name: Name) {
        if let Some(sequence) = self.tables.names.get(&name).copied() {
            self.tables.remove(sequence);
            self.tables.resume.clear();
            self.tables.damage.names.push(name);
            self.tables.damage.count += 1;
        }
    }

    /// The number of chunks.
    pub fn len(&self) -> usize {
        self.tables.rows.len()
    }

    /// How often [`Store::evict`] was called.
    pub fn evictions(&self) -> usize {
        self.evictions
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tables.rows.is_empty()
    }
}

impl Tables {
    fn put(&mut self, insert: &Insert) -> Put {
        let name = insert.chunk.name();
        let Some(sequence) = self.names.get(&name).copied() else {
            self.last += 1;
            let Insert {
                chunk,
                reached,
                upward,
                until,
            } = insert.clone();
            let usage = Usage::of(chunk.encoded().len(), chunk.expiry());
            self.bytes += usage.bytes;
            for account in Account::of(name, chunk.grant()) {
                self.usage.entry(account).or_default().add(usage);
            }
            let row = Row {
                digest: chunk.digest(),
                chunk,
                reached,
                upward,
                until,
            };
            self.rows.insert(self.last, row);
            self.names.insert(name, self.last);
            return Put::New(self.last);
        };
        if self
            .rows
            .get(&sequence)
            .is_none_or(|row| row.chunk != insert.chunk)
        {
            return Put::Conflict;
        }
        self.advance(name, Progress::Reached(insert.reached));
        if let Some(row) = self.rows.get_mut(&sequence) {
            row.upward |= insert.upward && row.reached < Tier::Origin;
        }
        let reached = self
            .rows
            .get(&sequence)
            .map_or(insert.reached, |row| row.reached);
        Put::Same(reached, sequence)
    }

    fn advance(&mut self, name: Name, progress: Progress) {
        let row = self
            .names
            .get(&name)
            .and_then(|sequence| self.rows.get_mut(sequence));
        let Some(row) = row else { return };
        match progress {
            Progress::Reached(tier) => {
                row.reached = row.reached.max(tier);
                row.upward &= row.reached < Tier::Origin;
            }
            Progress::Stopped => row.upward = false,
            Progress::Lacking(tier) => (row.reached, row.upward) = (tier, true),
        }
    }

    fn remove(&mut self, sequence: u64) {
        let Some(row) = self.rows.remove(&sequence) else {
            return;
        };
        let name = row.chunk.name();
        self.names.remove(&name);
        let usage = Usage::of(row.chunk.encoded().len(), row.chunk.expiry());
        self.bytes -= usage.bytes;
        for account in Account::of(name, row.chunk.grant()) {
            self.usage.entry(account).or_default().take(usage);
        }
    }

    fn stored(&self, sequence: u64) -> Option<Stored> {
        let row = self.rows.get(&sequence)?;
        Some(Stored {
            sequence,
            chunk: row.chunk.clone(),
            reached: row.reached,
        })
    }
}

impl Store for MemoryStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn put_if_absent(&mut self, batch: &Batch) -> Result<Vec<Put>, StoreError> {
        let mut names: Vec<Name> = batch
            .inserts
            .iter()
            .map(|insert| insert.chunk.name())
            .collect();
        names.retain(|name| !self.tables.names.contains_key(name));
        names.sort_unstable();
        names.dedup();
        if self.tables.rows.len() + names.len() > self.capacity {
            return Err(StoreError::Full("the store in memory is full".into()));
        }
        let puts = batch
            .inserts
            .iter()
            .map(|insert| self.tables.put(insert))
            .collect();
        for (name, progress) in &batch.progress {
            self.tables.advance(*name, *progress);
        }
        for point in &batch.resume {
            self.tables
                .resume
                .insert((point.upstream, point.prefix), point.cursor.clone());
        }
        self.tables.in_step = batch.in_step.or(self.tables.in_step);
        Ok(puts)
    }

    fn get(&mut self, name: Name) -> Result<Option<Stored>, StoreError> {
        let sequence = self.tables.names.get(&name);
        Ok(sequence.and_then(|sequence| self.tables.stored(*sequence)))
    }

    fn scan(&mut self, scan: &Scan) -> Result<Page, StoreError> {
        let rows = &self.tables.rows;
        let fits =
            |row: &Row| scan.prefix.contains(row.chunk.name()) && row.chunk.expiry() > scan.now;
        let (mut page, window): (Page, Vec<_>) = match scan.direction {
            Direction::Above(from) => {
                let to = from.saturating_add(ROWS_PER_SCAN);
                let position = to.min(self.tables.last.max(from));
                let page = Page {
                    position,
                    end: to >= self.tables.last,
                    ..Page::default()
                };
                let first = from.saturating_add(1);
                let window = if first > to {
                    Vec::new()
                } else {
                    rows.range(first..=to).collect()
                };
                (page, window)
            }
            Direction::Below(from) => {
                let from = from.min(self.tables.last + 1);
                let to = from.saturating_sub(ROWS_PER_SCAN);
                let page = Page {
                    position: to,
                    end: to == 0,
                    ..Page::default()
                };
                (page, rows.range(to..from).rev().collect())
            }
        };
        for (sequence, row) in window.into_iter().filter(|(_, row)| fits(row)) {
            page.chunks.push((*sequence, row.chunk.clone()));
            if page.chunks.len() == scan.limit {
                (page.position, page.end) = (*sequence, false);
                break;
            }
        }
        Ok(page)
    }

    fn range(&mut self, span: Span, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        let names = self.tables.names.range(span.first()..=span.last());
        let found = names.filter_map(|(_, sequence)| self.tables.stored(*sequence));
        Ok(found.take(limit).map(|stored| stored.chunk).collect())
    }

    fn names(&mut self, span: Span, limit: usize, now: Timestamp) -> Result<Vec<Held>, StoreError> {
        let names = self.tables.names.range(span.first()..=span.last());
        let held = names.filter_map(|(name, sequence)| {
            let row = self.tables.rows.get(sequence)?;
            (row.chunk.expiry() > now).then_some(Held {
                name: *name,
                sequence: *sequence,
                digest: row.digest,
            })
        });
        Ok(held.take(limit).collect())
    }

    fn upward(&mut self, goal: Tier, above: u64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let rows = self.tables.rows.range(above.saturating_add(1)..);
        let due = rows
            .filter(|(_, row)| row.upward && row.reached < goal)
            .take(limit);
        Ok(due
            .filter_map(|(sequence, _)| self.tables.stored(*sequence))
            .collect())
    }

    fn resume_point(
        &mut self,
        upstream: StoreId,
        prefix: Prefix,
    ) -> Result<Option<Cursor>, StoreError> {
        Ok(self.tables.resume.get(&(upstream, prefix)).cloned())
    }

    fn last_sequence(&self) -> u64 {
        self.tables.last
    }

    fn in_step(&mut self) -> Result<Option<StoreId>, StoreError> {
        Ok(self.tables.in_step)
    }

    fn take_damage(&mut self) -> Damage {
        std::mem::take(&mut self.tables.damage)
    }

    fn usage(&mut self, account: Account) -> Result<Usage, StoreError> {
        Ok(self.tables.usage.get(&account).copied().unwrap_or_default())
    }

    fn bytes(&self) -> u64 {
        self.tables.bytes
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let over = self.tables.rows.iter().filter(|(_, row)| row.is_over(now));
        let over: Vec<u64> = over.map(|(sequence, _)| *sequence).take(limit).collect();
        over.iter()
            .for_each(|sequence| self.tables.remove(*sequence));
        Ok(over.len())
    }

    fn evict(&mut self, bytes: u64, limit: usize) -> Result<usize, StoreError> {
        self.evictions += 1;
        let free = |row: &Row| !row.upward && !is_kept(row.chunk.name());
        let free = self.tables.rows.iter().filter(|(_, row)| free(row));
        let oldest: Vec<u64> = free.map(|(sequence, _)| *sequence).take(limit).collect();
        let mut removed = 0;
        for sequence in oldest {
            if self.tables.bytes <= bytes {
                break;
            }
            self.tables.remove(sequence);
            removed += 1;
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_conforms() {
        super::super::conformance::check(|| MemoryStore::new(StoreId([1; 16])));
    }

    #[test]
    fn a_crash_loses_what_was_not_synced_and_nothing_else() {
        let mut store = MemoryStore::new(StoreId([1; 16]));
        let chunks = super::super::conformance::chunks(3);
        let insert = |chunk: &Chunk| Batch {
            inserts: vec![Insert::new(chunk.clone(), Tier::Local, true)],
            ..Batch::default()
        };
        store.put_if_absent(&insert(&chunks[0])).unwrap();
        store.crash();
        assert_eq!(store.len(), 1);
        store.stop_syncing();
        store.put_if_absent(&insert(&chunks[1])).unwrap();
        assert_eq!(store.len(), 2);
        store.crash();
        assert_eq!(store.len(), 1);
    }
}
