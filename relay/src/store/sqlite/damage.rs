//! Rows that are not what was written: found when they are read and by a walk through all of them,
//! and dropped, so that the parent is asked for what they were. Pages that are not what SQLite wrote
//! are another matter: then the whole file is not trusted (`failure`).

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::mem;

use proto::{GrantId, Name, Timestamp};
use relay_core::store::{Damage, StoreError, Usage};
use rusqlite::types::ValueRef;
use rusqlite::{ErrorCode, Row};

use super::SqliteStore;
use super::accounts::{self, Ledger};
use super::failure::damaged;
use super::rows::{self, Damaged, columns, to_sql};
use super::schema::evictable;
use super::store_id;

/// Rows looked at in one piece of a walk.
const ROWS: u64 = 1024;
/// Names of damaged chunks that are remembered until the node takes them; all are counted.
const NAMES: usize = 4096;

/// An index: how its entries are read, and where their columns stand in [`WALK`].
struct Index {
    entries: &'static str,
    columns: &'static [usize],
    /// The column of [`WALK`] that is 1 for the rows that stand in it, if not all do.
    only: Option<usize>,
}

const INDEXES: [Index; 5] = [
    Index {
        entries: "SELECT place, sequence FROM chunks INDEXED BY chunks_by_place ORDER BY place",
        columns: &[5, 0],
        only: None,
    },
    Index {
        entries: "SELECT name, expiry, digest, sequence FROM chunks INDEXED BY chunks_by_name
                  ORDER BY name",
        columns: &[2, 3, 4, 0],
        only: None,
    },
    Index {
        entries: "SELECT until, upward, expiry, sequence FROM chunks INDEXED BY chunks_by_until
                  ORDER BY until",
        columns: &[6, 8, 3, 0],
        only: None,
    },
    Index {
        entries: "SELECT sequence, reached FROM chunks INDEXED BY chunks_upward WHERE upward = 1",
        columns: &[0, 7],
        only: Some(UPWARD),
    },
    Index {
        entries: concat!(
            "SELECT sequence FROM chunks INDEXED BY chunks_evictable WHERE ",
            evictable!()
        ),
        columns: &[0],
        only: Some(EVICTABLE),
    },
];
/// A piece of the walk: the columns of a row that are read, then those that only indexes have besides.
const WALK: &str = concat!(
    "SELECT ",
    columns!(),
    ", place, until, reached, upward, ",
    evictable!(),
    " FROM chunks NOT INDEXED
     WHERE sequence > ?1 ORDER BY sequence LIMIT ?2"
);
/// The columns of [`WALK`] that say under what a row is found, when it goes, whether it goes up, and
/// whether it may be evicted.
const PLACE: usize = 5;
const UNTIL: usize = 6;
const UPWARD: usize = 8;
const EVICTABLE: usize = 9;

/// How far a walk has come, and what the indexes have to hold for the rows behind it.
#[derive(Default)]
struct Walk {
    after: u64,
    /// For each index the sum of its rows' fingerprints.
    sums: [u64; INDEXES.len()],
    ended: bool,
}

impl SqliteStore {
    /// Reads all of the file once. Rows that are not what was written are dropped, and counted in what
    /// [`Store::take_damage`](relay_core::store::Store::take_damage) gives; indexes that do not agree
    /// with the rows are made again. Returns how many rows were dropped.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when pages are not what SQLite wrote: then nothing can be kept.
    pub fn check(&mut self) -> Result<u64, StoreError> {
        self.check_pages()?;
        let mut walk = Walk::default();
        let mut dropped = 0;
        while !walk.ended {
            let found = self.step(&mut walk, false);
            let found = found.map_err(|error| self.explain(error))?;
            dropped += found.len() as u64;
            self.drop_damaged(&found)?;
        }
        let agree = self.indexes_agree(&walk);
        if !agree.map_err(|error| self.explain(error))? {
            tracing::warn!(
                "indexes of the store {} were damaged: made again",
                self.path
            );
            self.make_indexes().map_err(|error| self.explain(error))?;
        }
        if dropped > 0 {
            self.count_anew().map_err(|error| self.explain(error))?;
            // Nobody has been told the old one since the start.
            self.id = store_id(&self.connection, &self.path)?;
        }
        Ok(dropped)
    }

    /// As [`SqliteStore::check`], and changes nothing: gives `each` the name and bytes of what would be
    /// dropped, and returns whether the indexes agree with the rows.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] as there.
    pub fn examine(&self, mut each: impl FnMut(Name, u64)) -> Result<bool, StoreError> {
        self.check_pages()?;
        let mut walk = Walk::default();
        while !walk.ended {
            let found = self.step(&mut walk, true);
            for row in found.map_err(|error| self.explain(error))? {
                each(row.name, row.bytes);
            }
        }
        self.indexes_agree(&walk)
            .map_err(|error| self.explain(error))
    }

    fn check_pages(&self) -> Result<(), StoreError> {
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.explain(error))?;
        match found.as_str() {
            "ok" => Ok(()),
            found => Err(damaged(&self.path, found)),
        }
    }

    /// Looks at the next rows, and returns those that are damaged. Whether the indexes have to hold
    /// them, too, is the caller's to know.
    fn step(&self, walk: &mut Walk, keeps_damaged: bool) -> rusqlite::Result<Vec<Damaged>> {
        let mut query = self.connection.prepare_cached(WALK)?;
        let mut rows = query.query([to_sql(walk.after), to_sql(ROWS)])?;
        let (mut found, mut seen) = (Vec::new(), 0);
        while let Some(row) = rows.next()? {
            seen += 1;
            walk.after = row.get::<_, i64>(0)? as u64;
            if let Err(damaged) = sound(row)? {
                found.push(damaged);
                if !keeps_damaged {
                    continue;
                }
            }
            for (sum, index) in walk.sums.iter_mut().zip(&INDEXES) {
                let stands = match index.only {
                    None => true,
                    Some(column) => row.get_ref(column)? == ValueRef::Integer(1),
                };
                if stands {
                    *sum = sum.wrapping_add(fingerprint(row, index.columns)?);
                }
            }
        }
        walk.ended = seen < ROWS;
        Ok(found)
    }

    fn indexes_agree(&self, walk: &Walk) -> rusqlite::Result<bool> {
        for (index, expected) in INDEXES.iter().zip(walk.sums) {
            let order: Vec<usize> = (0..index.columns.len()).collect();
            let mut query = self.connection.prepare(index.entries)?;
            let mut rows = query.query([])?;
            let mut sum = 0_u64;
            while let Some(row) = rows.next()? {
                sum = sum.wrapping_add(fingerprint(row, &order)?);
            }
            if sum != expected {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops damaged rows, and with them what says that nothing is missing: the places where
    /// subscriptions above resume, and this store's number, from the next start on. So the parent is
    /// asked for what they were, and who is below sends up what it has of it.
    pub(super) fn drop_damaged(&mut self, rows: &[Damaged]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        let done = match self.take_out(rows) {
            // Where an index has another value than the row, the row cannot be taken out of it.
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::DatabaseCorrupt) => {
                self.make_indexes().and_then(|()| self.take_out(rows))
            }
            done => done,
        };
        done.map_err(|error| self.explain(error))?;
        self.damage.count += rows.len() as u64;
        let room = NAMES.saturating_sub(self.damage.names.len());
        let names = rows.iter().map(|row| row.name);
        self.damage.names.extend(names.take(room));
        Ok(())
    }

    fn take_out(&mut self, rows: &[Damaged]) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut ledger = Ledger::default();
        for row in rows {
            let sequence = to_sql(row.sequence);
            let (expiry, grant) = transaction
                .prepare_cached(
                    "SELECT expiry, substr(chunk, 25, 8) FROM chunks WHERE sequence = ?1",
                )?
                .query_row([sequence], |row| {
                    Ok((
                        row.get::<_, i64>(0).unwrap_or(0),
                        row.get(1).unwrap_or([0; 8]),
                    ))
                })?;
            let expiry = Timestamp::from_millis(expiry.max(0) as u64);
            ledger.remove(
                row.name,
                GrantId(grant),
                Usage::of(row.bytes as usize, expiry),
            );
            transaction
                .prepare_cached("DELETE FROM chunks WHERE sequence = ?1")?
                .execute([sequence])?;
        }
        ledger.write(&transaction)?;
        transaction.execute("DELETE FROM resume", [])?;
        transaction.execute("UPDATE store SET id = randomblob(16)", [])?;
        transaction.commit()?;
        self.bytes = self.bytes.saturating_sub(ledger.bytes_removed);
        Ok(())
    }

    fn make_indexes(&self) -> rusqlite::Result<()> {
        self.connection.execute_batch("REINDEX chunks")
    }

    /// Sums the accounts up again: of a row that was damaged it is not known whose it was.
    fn count_anew(&mut self) -> rusqlite::Result<()> {
        let transaction = self.connection.transaction()?;
        let mut ledger = Ledger::default();
        transaction.execute("DELETE FROM accounts", [])?;
        {
            let mut query = transaction.prepare(
                "SELECT name, length(chunk), expiry, substr(chunk, 25, 8) FROM chunks NOT INDEXED",
            )?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let name = Name(u128::from_be_bytes(row.get(0)?));
                let expiry = Timestamp::from_millis(row.get::<_, i64>(2)? as u64);
                let usage = Usage::of(row.get::<_, i64>(1)? as usize, expiry);
                ledger.add(name, GrantId(row.get(3)?), usage);
            }
        }
        ledger.write(&transaction)?;
        transaction.commit()?;
        self.bytes = accounts::all_bytes(&self.connection)?;
        Ok(())
    }

    pub(super) fn take_found(&mut self) -> Damage {
        mem::take(&mut self.damage)
    }
}

/// Reads a row of [`WALK`]: also where it stands in the indexes follows from its chunk.
fn sound(row: &Row<'_>) -> rusqlite::Result<Result<(), Damaged>> {
    let (sequence, chunk) = match rows::read(row)? {
        Ok(read) => read,
        Err(damaged) => return Ok(Err(damaged)),
    };
    let placed = row.get_ref(PLACE)? == ValueRef::Blob(&rows::place(chunk.name()));
    let until = row.get::<_, i64>(UNTIL);
    let timely = until.is_ok_and(|until| until <= to_sql(chunk.expiry().millis()));
    let damaged = Damaged {
        sequence,
        name: chunk.name(),
        bytes: chunk.encoded().len() as u64,
    };
    Ok((placed && timely).then_some(()).ok_or(damaged))
}

/// A number that columns with other values do not have, but for chance.
fn fingerprint(row: &Row<'_>, columns: &[usize]) -> rusqlite::Result<u64> {
    let mut hasher = DefaultHasher::new();
    for column in columns {
        match row.get_ref(*column)? {
            ValueRef::Integer(number) => number.hash(&mut hasher),
            ValueRef::Blob(bytes) | ValueRef::Text(bytes) => bytes.hash(&mut hasher),
            ValueRef::Real(_) | ValueRef::Null => {}
        }
    }
    Ok(hasher.finish())
}
