//! The embedded store: one SQLite file. WAL with synchronous=FULL, so that a commit that returned
//! survives a power cut; one transaction for a whole batch, so that its price is shared.
//!
//! Chunks lie in arrival order (`sequence`, never used again); `place` (origin to team, 78 bits)
//! finds those of a team's path without a walk through all the others. The index by name also holds
//! expiry and digest, so that fingerprints are made from it alone: about 60 bytes a chunk, and no
//! chunk is read. That a name stands there once is seen to by `write`. A chunk's digest stands beside
//! its bytes, and both are compared whenever it is read. No SQL leaves this module.

use std::path::Path;

use proto::{Chunk, Cursor, GrantId, Name, Prefix, Span, Tier, Timestamp};
use relay_core::store::{
    Account, Batch, Damage, Held, Page, Put, Scan, Store, StoreError, StoreId, Stored, Usage,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use accounts::{Ledger, all_bytes, read_usage};
use failure::{damaged, explain};
use rows::{Damaged, columns, to_sql};
use schema::{BEFORE, SCHEMA, create, evictable, last_sequence, prepare, upgrade};
use write::{advance, put, resume};

mod accounts;
mod damage;
mod failure;
mod rows;
mod scan;
mod schema;
mod write;

/// The rows that [`Store::expire`] removes at the time ?1.
const EXPIRED: &str = "until <= ?1 AND (upward = 0 OR expiry <= ?1)";
/// What [`Store::evict`] removes, ?1 rows at most.
const EVICTED: &str = concat!(
    "SELECT sequence, name, expiry, length(chunk), substr(chunk, 25, 8)
     FROM chunks INDEXED BY chunks_evictable WHERE ",
    evictable!(),
    " ORDER BY sequence LIMIT ?1"
);

/// A store in one SQLite file, for one process at a time.
pub struct SqliteStore {
    connection: Connection,
    id: StoreId,
    last: u64,
    bytes: u64,
    path: String,
    /// Damage that the node has not been told of.
    damage: Damage,
}

impl SqliteStore {
    /// Opens the store in a file, and makes it when there is none.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be opened, is damaged, or another process has it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display().to_string();
        let explain = |error| explain(&shown, error);
        let mut connection = Connection::open(path).map_err(explain)?;
        prepare(&connection).map_err(explain)?;
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(explain)?;
        match version {
            0 => create(&mut connection).map_err(explain)?,
            BEFORE => upgrade(&mut connection).map_err(explain)?,
            SCHEMA => {}
            other => {
                return Err(StoreError::Broken(format!(
                    "{shown} is of version {other}, this program reads version {SCHEMA}; use the \
                     program that wrote it"
                )));
            }
        }
        let id = store_id(&connection, &shown)?;
        let last = last_sequence(&connection).map_err(explain)?;
        let bytes = all_bytes(&connection).map_err(explain)?;
        Ok(Self {
            connection,
            id,
            last,
            bytes,
            path: shown,
            damage: Damage::default(),
        })
    }

    /// Lists what [`Store::expire`] would remove now, name and bytes, until `each` wants no more.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read.
    pub fn expired(
        &self,
        now: Timestamp,
        mut each: impl FnMut(Name, u64) -> bool,
    ) -> Result<(), StoreError> {
        let sql = format!("SELECT name, length(chunk) FROM chunks WHERE {EXPIRED} ORDER BY until");
        let mut list = || {
            let mut query = self.connection.prepare(&sql)?;
            let mut rows = query.query([to_sql(now.millis())])?;
            while let Some(row) = rows.next()? {
                let name = Name(u128::from_be_bytes(row.get(0)?));
                if !each(name, row.get::<_, i64>(1)? as u64) {
                    break;
                }
            }
            Ok(())
        };
        list().map_err(|error| self.explain(error))
    }

    /// Gives room that is not used back to the disk. It needs as much again meanwhile.
    ///
    /// # Errors
    /// [`StoreError`] when the disk has no room for it; then nothing has changed.
    pub fn compact(&self) -> Result<(), StoreError> {
        self.connection
            .execute_batch(
                "PRAGMA temp_store = FILE; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);
                 PRAGMA temp_store = MEMORY;",
            )
            .map_err(|error| self.explain(error))
    }

    /// Limits the file to so many pages of 8 KiB; it never shrinks. Tests use it as a full disk.
    ///
    /// # Errors
    /// [`StoreError`] when SQLite refuses.
    pub fn limit_pages(&self, pages: u32) -> Result<(), StoreError> {
        self.connection
            .pragma_update(None, "max_page_count", pages)
            .map_err(|error| self.explain(error))
    }

    /// The rows of a query, read each; where one is damaged it is dropped, and the query made again.
    fn whole<T>(
        &mut self,
        sql: &str,
        values: &[&dyn ToSql],
        read: impl Fn(&Row<'_>) -> rusqlite::Result<Result<T, Damaged>>,
    ) -> Result<Vec<T>, StoreError> {
        loop {
            let rows = self.rows(sql, values, &read);
            let rows = rows.map_err(|error| self.explain(error))?;
            let (mut found, mut damaged) = (Vec::with_capacity(rows.len()), Vec::new());
            for row in rows {
                match row {
                    Ok(row) => found.push(row),
                    Err(row) => damaged.push(row),
                }
            }
            if damaged.is_empty() {
                return Ok(found);
            }
            self.drop_damaged(&damaged)?;
        }
    }

    fn rows<T>(
        &self,
        sql: &str,
        values: &[&dyn ToSql],
        read: impl Fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<Vec<T>> {
        let mut query = self.connection.prepare_cached(sql)?;
        query.query_map(values, |row| read(row))?.collect()
    }

    fn explain(&self, error: rusqlite::Error) -> StoreError {
        explain(&self.path, error)
    }

    fn write(&mut self, batch: &Batch) -> rusqlite::Result<(Vec<Put>, u64, Ledger)> {
        let mut last = self.last;
        let mut ledger = Ledger::default();
        let transaction = self.connection.transaction()?;
        let mut puts = Vec::with_capacity(batch.inserts.len());
        for insert in &batch.inserts {
            puts.push(put(&transaction, insert, &mut last, &mut ledger)?);
        }
        for (name, progress) in &batch.progress {
            advance(&transaction, *name, *progress)?;
        }
        for point in &batch.resume {
            resume(&transaction, point)?;
        }
        if let Some(StoreId(id)) = batch.in_step {
            transaction
                .prepare_cached("UPDATE store SET in_step = ?1")?
                .execute([id.as_slice()])?;
        }
        ledger.write(&transaction)?;
        transaction.commit()?;
        Ok((puts, last, ledger))
    }

    /// Removes the chunks that a query names with their sequence, name, expiry, length and grant.
    fn remove(&mut self, sql: &str, values: &[&dyn ToSql], least: u64) -> rusqlite::Result<usize> {
        let transaction = self.connection.transaction()?;
        let mut ledger = Ledger::default();
        let mut removed = 0;
        {
            let mut query = transaction.prepare_cached(sql)?;
            let mut rows = query.query(values)?;
            while let Some(row) = rows.next()? {
                if self.bytes - ledger.bytes_removed <= least {
                    break;
                }
                let expiry = Timestamp::from_millis(row.get::<_, i64>(2)? as u64);
                let name = Name(u128::from_be_bytes(row.get(1)?));
                let usage = Usage::of(row.get::<_, i64>(3)? as usize, expiry);
                ledger.remove(name, GrantId(row.get(4)?), usage);
                transaction
                    .prepare_cached("DELETE FROM chunks WHERE sequence = ?1")?
                    .execute([row.get::<_, i64>(0)?])?;
                removed += 1;
            }
        }
        ledger.write(&transaction)?;
        transaction.commit()?;
        self.bytes -= ledger.bytes_removed;
        Ok(removed)
    }
}

fn store_id(connection: &Connection, path: &str) -> Result<StoreId, StoreError> {
    let id: Vec<u8> = connection
        .query_row("SELECT id FROM store", [], |row| row.get(0))
        .map_err(|error| explain(path, error))?;
    let id = id.try_into().map_err(|_| damaged(path, "it has no id"))?;
    Ok(StoreId(id))
}

impl Store for SqliteStore {
    fn id(&self) -> StoreId {
        self.id
    }

    fn put_if_absent(&mut self, batch: &Batch) -> Result<Vec<Put>, StoreError> {
        let (puts, last, ledger) = self.write(batch).map_err(|error| self.explain(error))?;
        self.last = last;
        self.bytes += ledger.bytes_added;
        Ok(puts)
    }

    fn get(&mut self, name: Name) -> Result<Option<Stored>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", reached FROM chunks WHERE name = ?1"
        );
        let mut found = self.whole(sql, &[&name.to_bytes().as_slice()], rows::stored)?;
        Ok(found.pop())
    }

    fn scan(&mut self, scan: &Scan) -> Result<Page, StoreError> {
        loop {
            let (page, damaged) = self.page(scan).map_err(|error| self.explain(error))?;
            if damaged.is_empty() {
                return Ok(page);
            }
            self.drop_damaged(&damaged)?;
        }
    }

    fn range(&mut self, span: Span, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            " FROM chunks WHERE name BETWEEN ?1 AND ?2 ORDER BY name LIMIT ?3"
        );
        let (first, last) = (span.first().to_bytes(), span.last().to_bytes());
        let values: [&dyn ToSql; 3] = [&first.as_slice(), &last.as_slice(), &(limit as i64)];
        let found = self.whole(sql, &values, rows::read)?;
        Ok(found.into_iter().map(|(_, chunk)| chunk).collect())
    }

    fn names(&mut self, span: Span, limit: usize, now: Timestamp) -> Result<Vec<Held>, StoreError> {
        let held = |row: &Row<'_>| {
            Ok(Held {
                name: Name(u128::from_be_bytes(row.get(0)?)),
                sequence: row.get::<_, i64>(1)? as u64,
                digest: u128::from_be_bytes(row.get(2)?),
            })
        };
        self.connection
            .prepare_cached(
                "SELECT name, sequence, digest FROM chunks INDEXED BY chunks_by_name
                 WHERE name BETWEEN ?1 AND ?2 AND expiry > ?4 ORDER BY name LIMIT ?3",
            )
            .and_then(|mut query| {
                let (first, last) = (span.first().to_bytes(), span.last().to_bytes());
                let now = to_sql(now.millis());
                let values = params![first.as_slice(), last.as_slice(), limit as i64, now];
                query.query_map(values, held)?.collect()
            })
            .map_err(|error| self.explain(error))
    }

    fn upward(&mut self, goal: Tier, above: u64, limit: usize) -> Result<Vec<Stored>, StoreError> {
        let sql = concat!(
            "SELECT ",
            columns!(),
            ", reached FROM chunks INDEXED BY chunks_upward
             WHERE upward = 1 AND sequence > ?1 AND reached < ?2 ORDER BY sequence LIMIT ?3"
        );
        let values: [&dyn ToSql; 3] = [&to_sql(above), &(goal as i64), &(limit as i64)];
        self.whole(sql, &values, rows::stored)
    }

    fn resume_point(
        &mut self,
        upstream: StoreId,
        prefix: Prefix,
    ) -> Result<Option<Cursor>, StoreError> {
        let bytes: Option<Vec<u8>> = self
            .connection
            .query_row(
                "SELECT cursor FROM resume WHERE upstream = ?1 AND first = ?2 AND bits = ?3",
                params![
                    upstream.0.as_slice(),
                    prefix.first().to_bytes().as_slice(),
                    prefix.bits()
                ],
                |row| row.get(0),
            )
            .optional()
            .map_err(|error| self.explain(error))?;
        Ok(bytes.and_then(Cursor::new))
    }

    fn last_sequence(&self) -> u64 {
        self.last
    }

    fn in_step(&mut self) -> Result<Option<StoreId>, StoreError> {
        let id: Option<[u8; 16]> = self
            .connection
            .query_row("SELECT in_step FROM store", [], |row| row.get(0))
            .map_err(|error| self.explain(error))?;
        Ok(id.map(StoreId))
    }

    fn take_damage(&mut self) -> Damage {
        self.take_found()
    }

    fn usage(&mut self, account: Account) -> Result<Usage, StoreError> {
        read_usage(&self.connection, account).map_err(|error| self.explain(error))
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn expire(&mut self, now: Timestamp, limit: usize) -> Result<usize, StoreError> {
        let sql = format!(
            "SELECT sequence, name, expiry, length(chunk), substr(chunk, 25, 8) FROM chunks
             WHERE sequence IN (SELECT sequence FROM chunks INDEXED BY chunks_by_until
             WHERE {EXPIRED} ORDER BY until LIMIT ?2)"
        );
        self.remove(&sql, &[&to_sql(now.millis()), &(limit as i64)], 0)
            .map_err(|error| self.explain(error))
    }

    fn evict(&mut self, bytes: u64, limit: usize) -> Result<usize, StoreError> {
        if self.bytes <= bytes {
            return Ok(0);
        }
        self.remove(EVICTED, &[&(limit as i64)], bytes)
            .map_err(|error| self.explain(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::store::{Insert, conformance, is_kept};

    #[test]
    fn it_conforms() {
        let mut directories = Vec::new();
        conformance::check(|| {
            let directory = tempfile::tempdir().unwrap();
            let store = SqliteStore::open(&directory.path().join("store.db")).unwrap();
            directories.push(directory);
            store
        });
    }

    /// What SQLite says of how it finds what may be evicted.
    fn plan(store: &SqliteStore) -> String {
        let explain = format!("EXPLAIN QUERY PLAN {EVICTED}");
        let mut query = store.connection.prepare(&explain).unwrap();
        let lines = query.query_map([9], |row| row.get(3)).unwrap();
        lines
            .collect::<Result<Vec<String>, _>>()
            .unwrap()
            .join("\n")
    }

    #[test]
    fn what_may_be_evicted_is_found_by_an_index_that_older_files_get() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let chunks = conformance::chunks(5);
        let mut store = SqliteStore::open(&path).unwrap();
        let mut sent = batch(&chunks);
        sent.inserts[1].upward = false;
        store.put_if_absent(&sent).unwrap();
        let indexed = "SCAN chunks USING INDEX chunks_evictable";
        assert_eq!(plan(&store), indexed);
        let before = "DROP INDEX chunks_evictable; PRAGMA user_version = 2;";
        store.connection.execute_batch(before).unwrap();
        drop(store);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(plan(&store), indexed);
        assert_eq!(store.examine(|_, _| {}), Ok(true));
        assert_eq!(store.evict(0, 9), Ok(1));
        assert_eq!(store.get(chunks[1].name()), Ok(None));
        assert_eq!(store.examine(|_, _| {}), Ok(true));
    }

    #[test]
    fn what_is_kept_is_what_may_not_be_evicted() {
        let connection = Connection::open_in_memory().unwrap();
        let sql = concat!(
            "SELECT ",
            evictable!(),
            " FROM (SELECT ?1 AS name, 0 AS upward)"
        );
        let mut query = connection.prepare(sql).unwrap();
        for (app, path) in (0..=2u128).flat_map(|app| (0..=255).map(move |path| (app, path))) {
            let name = Name(7 << 104 | app << 96 | path << 88 | 7);
            let key = name.to_bytes();
            let evictable: bool = query.query_row([key.as_slice()], |row| row.get(0)).unwrap();
            assert_eq!(evictable, !is_kept(name), "{app} {path}");
        }
    }

    fn batch(chunks: &[Chunk]) -> Batch {
        let insert = |chunk: &Chunk| Insert::new(chunk.clone(), Tier::Local, true);
        Batch {
            inserts: chunks.iter().map(insert).collect(),
            ..Batch::default()
        }
    }

    #[test]
    fn everything_is_there_after_it_is_opened_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let chunks = conformance::chunks(5);
        let mut store = SqliteStore::open(&path).unwrap();
        let id = store.id();
        store.put_if_absent(&batch(&chunks)).unwrap();
        drop(store);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!((store.id(), store.last_sequence()), (id, 5));
        assert_eq!(store.range(Span::ALL, 9).unwrap(), chunks);
        assert_eq!(store.upward(Tier::Origin, 0, 9).unwrap().len(), 5);
        let mode: String = store
            .connection
            .query_row("PRAGMA journal_mode", [], |row| row.get(0))
            .unwrap();
        let synchronous: i64 = store
            .connection
            .query_row("PRAGMA synchronous", [], |row| row.get(0))
            .unwrap();
        let temporary: i64 = store
            .connection
            .query_row("PRAGMA temp_store", [], |row| row.get(0))
            .unwrap();
        assert_eq!((mode.as_str(), synchronous, temporary), ("wal", 2, 2));
    }

    #[test]
    fn a_full_disk_refuses_what_is_new_and_keeps_what_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SqliteStore::open(&directory.path().join("store.db")).unwrap();
        let chunks = conformance::chunks(2000);
        store.put_if_absent(&batch(&chunks[..10])).unwrap();
        let pages: u32 = store
            .connection
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .unwrap();
        store.limit_pages(pages + 1).unwrap();
        let full = store.put_if_absent(&batch(&chunks)).unwrap_err();
        assert!(matches!(full, StoreError::Full(_)), "{full:?}");
        assert_eq!(store.last_sequence(), 10);
        assert_eq!(store.range(Span::ALL, 99).unwrap(), chunks[..10]);
        store.limit_pages(u32::MAX).unwrap();
        assert_eq!(store.put_if_absent(&batch(&chunks)).unwrap().len(), 2000);
    }

    #[test]
    fn damage_and_a_second_user_are_one_clear_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let mut store = SqliteStore::open(&path).unwrap();
        store
            .put_if_absent(&batch(&conformance::chunks(1)))
            .unwrap();
        let busy = SqliteStore::open(&path).map(drop).unwrap_err();
        assert!(matches!(busy, StoreError::Busy(_)), "{busy:?}");
        let other = directory.path().join("other.db");
        std::fs::write(&other, vec![7; 8192]).unwrap();
        let broken = SqliteStore::open(&other).map(drop).unwrap_err();
        assert!(matches!(broken, StoreError::Damaged(_)), "{broken:?}");
        assert!(!broken.to_string().contains('\n') && broken.to_string().contains("other.db"));
    }

    /// Overwrites one byte of what a chunk's row holds, behind SQLite's back.
    fn flip(path: &Path, chunk: &Chunk, at: usize) {
        let mut file = std::fs::read(path).unwrap();
        let bytes = chunk.encoded();
        let mut places =
            (0..file.len() - bytes.len()).filter(|from| file[*from..].starts_with(bytes));
        let from = places.next().unwrap();
        assert_eq!(places.next(), None);
        file[from + at] ^= 4;
        std::fs::write(path, file).unwrap();
    }

    fn filled(path: &Path, count: u32) -> Vec<Chunk> {
        let chunks = conformance::chunks(count);
        let mut store = SqliteStore::open(path).unwrap();
        store.put_if_absent(&batch(&chunks)).unwrap();
        chunks
    }

    type Way = fn(&mut SqliteStore, &[Chunk]) -> Vec<Chunk>;

    /// Every way of reading everything; the last one is for what has to go up.
    const WAYS: [Way; 5] = [
        |store, all| scanned(store, Prefix::of(all[0].name(), 78)),
        |store, all| scanned(store, Prefix::of(all[0].name(), 24)),
        |store, all| {
            let got = all.iter().map(|chunk| store.get(chunk.name()).unwrap());
            got.flatten().map(|stored| stored.chunk).collect()
        },
        |store, _| store.range(Span::ALL, 1000).unwrap(),
        |store, _| {
            let found = store.upward(Tier::Origin, 0, 1000).unwrap();
            found.into_iter().map(|stored| stored.chunk).collect()
        },
    ];

    fn scanned(store: &mut SqliteStore, prefix: Prefix) -> Vec<Chunk> {
        let scan = Scan {
            prefix,
            direction: relay_core::store::Direction::Above(0),
            limit: 1000,
            now: Timestamp::default(),
        };
        let page = store.scan(&scan).unwrap();
        assert!(page.end);
        page.chunks.into_iter().map(|(_, chunk)| chunk).collect()
    }

    #[test]
    fn a_flipped_bit_of_a_chunk_is_found_by_every_way_of_reading_it() {
        for way in WAYS {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("store.db");
            let chunks = filled(&path, 9);
            for (chunk, at) in [(3, 2), (5, 30), (7, 100)] {
                flip(&path, &chunks[chunk], at);
            }
            let left: Vec<Chunk> = [0, 1, 2, 4, 6, 8]
                .map(|at: usize| chunks[at].clone())
                .into();
            let mut store = SqliteStore::open(&path).unwrap();
            let id = store.id();
            assert_eq!(way(&mut store, &chunks), left);
            let damage = store.take_damage();
            let names: Vec<Name> = [3, 5, 7].map(|at: usize| chunks[at].name()).into();
            assert_eq!((damage.count, damage.names), (3, names));
            assert_eq!(store.take_damage(), Damage::default());
            // What it was may come again, and the cursors of before are another store's.
            let again = store.put_if_absent(&batch(&chunks[3..4]));
            assert_eq!(again.unwrap(), [Put::New(10)]);
            assert_eq!(store.id(), id);
            drop(store);
            assert_ne!(SqliteStore::open(&path).unwrap().id(), id);
        }
    }

    #[test]
    fn a_damaged_row_does_not_end_a_list() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let chunks = filled(&path, 9);
        let left: Vec<Chunk> = [0, 1, 2, 4].map(|at: usize| chunks[at].clone()).into();
        flip(&path, &chunks[3], 50);
        let mut store = SqliteStore::open(&path).unwrap();
        assert_eq!(store.range(Span::ALL, 4).unwrap(), left);
        assert_eq!(store.take_damage().count, 1);
    }

    #[test]
    fn a_check_drops_what_is_damaged_and_sums_up_what_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let chunks = filled(&path, 5);
        // The grant's number, and the last byte of the signature.
        flip(&path, &chunks[1], 26);
        flip(&path, &chunks[2], chunks[2].encoded().len() - 1);
        let mut store = SqliteStore::open(&path).unwrap();
        let mut listed = Vec::new();
        let agree = store.examine(|name, bytes| listed.push((name, bytes as usize)));
        assert_eq!(agree, Ok(true));
        let expected = [1, 2].map(|at: usize| (chunks[at].name(), chunks[at].encoded().len()));
        assert_eq!(listed, expected);
        assert_eq!(store.check(), Ok(2));
        assert_eq!(store.check(), Ok(0));
        let mut left = Usage::default();
        for at in [0, 3, 4] {
            let chunk: &Chunk = &chunks[at];
            left.add(Usage::of(chunk.encoded().len(), chunk.expiry()));
        }
        assert_eq!(store.bytes(), left.bytes);
        let account = Account::Grant(chunks[0].grant());
        assert_eq!(store.usage(account), Ok(left));
    }

    /// Wherever a bit flips: the file is refused, or what is left is served whole and the rest named.
    #[test]
    fn no_flipped_bit_is_served() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.db");
        let chunks = filled(&path, 60);
        let file = std::fs::read(&path).unwrap();
        let (mut refused, mut dropped, mut mended) = (0, 0, 0);
        for step in 0..250_u32 {
            let mut spoiled = file.clone();
            let at = (step as usize * 7919 * 13) % file.len();
            spoiled[at] ^= 1 << (step % 8);
            std::fs::write(&path, spoiled).unwrap();
            let _ = std::fs::remove_file(path.with_extension("db-wal"));
            let Ok(mut store) = SqliteStore::open(&path) else {
                refused += 1;
                continue;
            };
            let agree = store.examine(|_, _| {});
            if store.check().is_err() {
                refused += 1;
                continue;
            }
            mended += u32::from(agree == Ok(false));
            let damage = store.take_damage();
            dropped += u32::from(damage.count > 0);
            let left: Vec<Chunk> = chunks
                .iter()
                .filter(|chunk| !damage.names.contains(&chunk.name()))
                .cloned()
                .collect();
            assert_eq!(left.len() as u64 + damage.count, 60, "byte {at}");
            for way in &WAYS[..4] {
                assert!(way(&mut store, &chunks) == left, "byte {at}");
            }
        }
        assert!(
            refused > 0 && dropped > 0 && mended > 0,
            "{refused} {dropped} {mended}"
        );
    }
}
