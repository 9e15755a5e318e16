//! The embedded store: one SQLite file. WAL with synchronous=FULL, so that a commit that returned
//! survives a power cut; one transaction for a whole batch, so that its price is shared.
//!
//! Chunks lie in arrival order (`sequence`, never used again); `place` (origin to team, 78 bits)
//! finds those of a team's path without a walk through all the others. The index by name also holds
//! expiry and digest, so that fingerprints are made from it alone: about 60 bytes a chunk, and no
//! chunk is read. That a name stands there once is seen to by `put`. No SQL leaves this file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use proto::{Chunk, Cursor, GrantId, Name, Path as NamePath, Prefix, Span, Tier, Timestamp};
use relay_core::store::{
    Account, Batch, Direction, Held, Insert, Page, Progress, Put, ResumePoint, Scan, Store,
    StoreError, StoreId, Stored, Usage,
};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Transaction, params};

/// The version of the tables; a file with another one is refused.
const SCHEMA: i64 = 2;
/// Rows that one scan looks at, at most, so that a rare prefix cannot hold up the node.
const ROWS_PER_SCAN: u64 = 2048;
/// How long another program may hold the file before we give up, in milliseconds.
const BUSY_MS: u64 = 2000;

/// The rows that [`Store::expire`] removes at the time ?1.
const EXPIRED: &str = "until <= ?1 AND (upward = 0 OR expiry <= ?1)";

const TABLES: &str = "
CREATE TABLE store (id BLOB NOT NULL, in_step BLOB) STRICT;
CREATE TABLE chunks (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  name BLOB NOT NULL,
  place BLOB NOT NULL,
  expiry INTEGER NOT NULL,
  until INTEGER NOT NULL,
  digest BLOB NOT NULL,
  reached INTEGER NOT NULL,
  upward INTEGER NOT NULL DEFAULT 0,
  chunk BLOB NOT NULL
) STRICT;
CREATE INDEX chunks_by_place ON chunks (place, sequence);
CREATE INDEX chunks_by_name ON chunks (name, expiry, digest);
CREATE INDEX chunks_by_until ON chunks (until, upward, expiry);
CREATE INDEX chunks_upward ON chunks (sequence, reached) WHERE upward = 1;
CREATE TABLE resume (
  upstream BLOB NOT NULL,
  first BLOB NOT NULL,
  bits INTEGER NOT NULL,
  cursor BLOB NOT NULL,
  PRIMARY KEY (upstream, first, bits)
) STRICT, WITHOUT ROWID;
CREATE TABLE accounts (
  account BLOB NOT NULL PRIMARY KEY,
  bytes INTEGER NOT NULL,
  weight BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";

/// A store in one SQLite file, for one process at a time.
pub struct SqliteStore {
    connection: Connection,
    id: StoreId,
    last: u64,
    bytes: u64,
    path: String,
}

/// What a transaction does to the accounts, written at its end.
#[derive(Default)]
struct Ledger {
    added: BTreeMap<Account, Usage>,
    removed: BTreeMap<Account, Usage>,
    bytes_added: u64,
    bytes_removed: u64,
}

impl Ledger {
    fn add(&mut self, name: Name, grant: GrantId, usage: Usage) {
        self.bytes_added += usage.bytes;
        for account in Account::of(name, grant) {
            self.added.entry(account).or_default().add(usage);
        }
    }

    fn remove(&mut self, name: Name, grant: GrantId, usage: Usage) {
        self.bytes_removed += usage.bytes;
        for account in Account::of(name, grant) {
            self.removed.entry(account).or_default().add(usage);
        }
    }

    fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let none = Usage::default();
        let accounts: BTreeSet<_> = self.added.keys().chain(self.removed.keys()).collect();
        for account in accounts {
            let mut usage = read_usage(transaction, *account)?;
            usage.add(*self.added.get(account).unwrap_or(&none));
            usage.take(*self.removed.get(account).unwrap_or(&none));
            if usage == none {
                transaction
                    .prepare_cached("DELETE FROM accounts WHERE account = ?1")?
                    .execute([account.key().as_slice()])?;
            } else {
                transaction
                    .prepare_cached(
                        "INSERT INTO accounts (account, bytes, weight) VALUES (?1, ?2, ?3)
                         ON CONFLICT (account) DO UPDATE
                         SET bytes = excluded.bytes, weight = excluded.weight",
                    )?
                    .execute(params![
                        account.key().as_slice(),
                        to_sql(usage.bytes),
                        usage.weight.to_be_bytes().as_slice()
                    ])?;
            }
        }
        Ok(())
    }
}

fn read_usage(connection: &Connection, account: Account) -> rusqlite::Result<Usage> {
    let usage = connection
        .prepare_cached("SELECT bytes, weight FROM accounts WHERE account = ?1")?
        .query_row([account.key().as_slice()], |row| {
            Ok(Usage {
                bytes: row.get::<_, i64>(0)? as u64,
                weight: u128::from_be_bytes(row.get(1)?),
            })
        })
        .optional()?;
    Ok(usage.unwrap_or_default())
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
            SCHEMA => {}
            other => {
                return Err(StoreError::Broken(format!(
                    "{shown} is of version {other}, this program reads version {SCHEMA}; use the \
                     program that wrote it"
                )));
            }
        }
        let id: Vec<u8> = connection
            .query_row("SELECT id FROM store", [], |row| row.get(0))
            .map_err(explain)?;
        let id = id.try_into().map_err(|_| damaged(&shown, "it has no id"))?;
        let last = last_sequence(&connection).map_err(explain)?;
        let bytes = all_bytes(&connection).map_err(explain)?;
        Ok(Self {
            connection,
            id: StoreId(id),
            last,
            bytes,
            path: shown,
        })
    }

    /// Reads all of the file once, and finds pages that are not what SQLite wrote.
    ///
    /// # Errors
    /// [`StoreError::Damaged`].
    pub fn check(&self) -> Result<(), StoreError> {
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| self.explain(error))?;
        match found.as_str() {
            "ok" => Ok(()),
            found => Err(damaged(&self.path, found)),
        }
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
            .execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
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
    fn remove(&mut self, sql: &str, values: [i64; 2], least: u64) -> rusqlite::Result<usize> {
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

/// Settings of the connection; all but the page size are per connection.
fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).map_err(|error| {
        rusqlite::Error::ToSqlConversionFailure(format!("no randomness: {error}").into())
    })?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute("INSERT INTO store (id) VALUES (?1)", [id.as_slice()])?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

fn last_sequence(connection: &Connection) -> rusqlite::Result<u64> {
    let last: Option<i64> = connection
        .query_row(
            "SELECT seq FROM sqlite_sequence WHERE name = 'chunks'",
            [],
            |row| row.get(0),
        )
        .optional()?;
    Ok(last.unwrap_or(0) as u64)
}

fn all_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let bytes: i64 = connection.query_row(
        "SELECT coalesce(sum(bytes), 0) FROM accounts WHERE account >= x'02'",
        [],
        |row| row.get(0),
    )?;
    Ok(bytes as u64)
}

fn put(
    transaction: &Transaction<'_>,
    insert: &Insert,
    last: &mut u64,
    ledger: &mut Ledger,
) -> rusqlite::Result<Put> {
    let name = insert.chunk.name();
    let known: Option<(i64, i64, Vec<u8>)> = transaction
        .prepare_cached("SELECT sequence, reached, chunk FROM chunks WHERE name = ?1")?
        .query_row([name.to_bytes().as_slice()], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((sequence, reached, bytes)) = known else {
        *last = put_new(transaction, insert)?;
        let chunk = &insert.chunk;
        let usage = Usage::of(chunk.encoded().len(), chunk.expiry());
        ledger.add(name, chunk.grant(), usage);
        return Ok(Put::New(*last));
    };
    if bytes != insert.chunk.encoded().as_ref() {
        return Ok(Put::Conflict);
    }
    let known = tier(reached);
    if insert.reached > known {
        advance(transaction, name, Progress::Reached(insert.reached))?;
    }
    let known = known.max(insert.reached);
    if insert.upward && known < Tier::Origin {
        transaction
            .prepare_cached("UPDATE chunks SET upward = 1 WHERE name = ?1 AND NOT upward")?
            .execute([name.to_bytes().as_slice()])?;
    }
    Ok(Put::Same(known, sequence as u64))
}

fn put_new(transaction: &Transaction<'_>, insert: &Insert) -> rusqlite::Result<u64> {
    let name = insert.chunk.name();
    transaction
        .prepare_cached(
            "INSERT INTO chunks (name, place, expiry, until, digest, reached, upward, chunk)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            name.to_bytes().as_slice(),
            place(name).as_slice(),
            to_sql(insert.chunk.expiry().millis()),
            to_sql(insert.until.min(insert.chunk.expiry()).millis()),
            insert.chunk.digest().to_be_bytes().as_slice(),
            insert.reached as i64,
            insert.upward,
            insert.chunk.encoded().as_ref(),
        ])?;
    Ok(transaction.last_insert_rowid() as u64)
}

fn advance(transaction: &Transaction<'_>, name: Name, progress: Progress) -> rusqlite::Result<()> {
    let key = name.to_bytes();
    match progress {
        Progress::Reached(tier) => transaction
            .prepare_cached(
                "UPDATE chunks SET reached = ?2, upward = upward AND ?2 < ?3
                 WHERE name = ?1 AND reached < ?2",
            )?
            .execute(params![key.as_slice(), tier as i64, Tier::Origin as i64])?,
        Progress::Stopped => transaction
            .prepare_cached("UPDATE chunks SET upward = 0 WHERE name = ?1")?
            .execute([key.as_slice()])?,
        Progress::Lacking(tier) => transaction
            .prepare_cached("UPDATE chunks SET upward = 1, reached = ?2 WHERE name = ?1")?
            .execute(params![key.as_slice(), tier as i64])?,
    };
    Ok(())
}

fn resume(transaction: &Transaction<'_>, point: &ResumePoint) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO resume (upstream, first, bits, cursor) VALUES (?1, ?2, ?3, ?4)
             ON CONFLICT (upstream, first, bits) DO UPDATE SET cursor = excluded.cursor",
        )?
        .execute(params![
            point.upstream.0.as_slice(),
            point.prefix.first().to_bytes().as_slice(),
            point.prefix.bits(),
            point.cursor.as_bytes(),
        ])?;
    Ok(())
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
        self.connection
            .prepare_cached("SELECT sequence, chunk, reached FROM chunks WHERE name = ?1")
            .and_then(|mut query| {
                query
                    .query_row([name.to_bytes().as_slice()], stored)
                    .optional()
            })
            .map_err(|error| self.explain(error))
    }

    fn scan(&mut self, scan: &Scan) -> Result<Page, StoreError> {
        let found = if scan.prefix.bits() >= Name::TEAM_BITS {
            self.scan_place(scan)
        } else {
            self.scan_all(scan)
        };
        found.map_err(|error| self.explain(error))
    }

    fn range(&mut self, span: Span, limit: usize) -> Result<Vec<Chunk>, StoreError> {
        self.connection
            .prepare_cached(
                "SELECT chunk FROM chunks WHERE name BETWEEN ?1 AND ?2 ORDER BY name LIMIT ?3",
            )
            .and_then(|mut query| {
                let bounds = (span.first().to_bytes(), span.last().to_bytes());
                let values = params![bounds.0.as_slice(), bounds.1.as_slice(), limit as i64];
                query.query_map(values, |row| chunk(row, 0))?.collect()
            })
            .map_err(|error| self.explain(error))
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
        self.connection
            .prepare_cached(
                "SELECT sequence, chunk, reached FROM chunks INDEXED BY chunks_upward
                 WHERE upward = 1 AND sequence > ?1 AND reached < ?2 ORDER BY sequence LIMIT ?3",
            )
            .and_then(|mut query| {
                query
                    .query_map(params![above as i64, goal as i64, limit as i64], stored)?
                    .collect()
            })
            .map_err(|error| self.explain(error))
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
        self.remove(&sql, [to_sql(now.millis()), limit as i64], 0)
            .map_err(|error| self.explain(error))
    }

    fn evict(&mut self, bytes: u64, limit: usize) -> Result<usize, StoreError> {
        if self.bytes <= bytes {
            return Ok(0);
        }
        let sql = "SELECT sequence, name, expiry, length(chunk), substr(chunk, 25, 8) FROM chunks
             WHERE upward = 0 AND NOT (substr(name, 4, 1) = x'01' AND hex(substr(name, 5, 1)) = printf('%02X', ?1))
             ORDER BY sequence LIMIT ?2";
        self.remove(sql, [NamePath::Grant.number().into(), limit as i64], bytes)
            .map_err(|error| self.explain(error))
    }
}

impl SqliteStore {
    /// A prefix within one team's path: its index leads straight to the rows.
    fn scan_place(&mut self, scan: &Scan) -> rusqlite::Result<Page> {
        let (sql, from, idle) = match scan.direction {
            Direction::Above(from) => (
                "SELECT sequence, chunk, name, expiry FROM chunks INDEXED BY chunks_by_place
                 WHERE place = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
                from,
                self.last.max(from),
            ),
            Direction::Below(from) => (
                "SELECT sequence, chunk, name, expiry FROM chunks INDEXED BY chunks_by_place
                 WHERE place = ?1 AND sequence < ?2 ORDER BY sequence DESC LIMIT ?3",
                from,
                0,
            ),
        };
        let mut query = self.connection.prepare_cached(sql)?;
        let key = place(scan.prefix.first());
        let mut rows = query.query(params![key.as_slice(), to_sql(from), ROWS_PER_SCAN as i64])?;
        let mut page = Page {
            position: from,
            ..Page::default()
        };
        let mut seen = 0;
        while page.chunks.len() < scan.limit {
            let Some(row) = rows.next()? else {
                page.end = seen < ROWS_PER_SCAN;
                if page.end {
                    page.position = idle;
                }
                return Ok(page);
            };
            seen += 1;
            collect(row, scan, &mut page)?;
        }
        Ok(page)
    }

    /// A wider prefix: a window of the arrival order, filtered.
    fn scan_all(&mut self, scan: &Scan) -> rusqlite::Result<Page> {
        let (sql, from, to) = match scan.direction {
            Direction::Above(from) => (
                "SELECT sequence, chunk, name, expiry FROM chunks
                 WHERE sequence > ?1 AND sequence <= ?2 AND name BETWEEN ?3 AND ?4
                 ORDER BY sequence LIMIT ?5",
                from,
                from.saturating_add(ROWS_PER_SCAN),
            ),
            Direction::Below(from) => (
                "SELECT sequence, chunk, name, expiry FROM chunks
                 WHERE sequence < ?1 AND sequence >= ?2 AND +name BETWEEN ?3 AND ?4
                 ORDER BY sequence DESC LIMIT ?5",
                from.min(self.last + 1),
                from.min(self.last + 1).saturating_sub(ROWS_PER_SCAN),
            ),
        };
        let sql = sql.replace("AND name BETWEEN", "AND +name BETWEEN");
        let mut query = self.connection.prepare_cached(&sql)?;
        let (first, last) = (
            scan.prefix.first().to_bytes(),
            scan.prefix.last().to_bytes(),
        );
        let limit = scan.limit as i64;
        let values = params![
            to_sql(from),
            to_sql(to),
            first.as_slice(),
            last.as_slice(),
            limit
        ];
        let mut rows = query.query(values)?;
        let mut page = Page {
            position: from,
            ..Page::default()
        };
        while let Some(row) = rows.next()? {
            collect(row, scan, &mut page)?;
        }
        if page.chunks.len() < scan.limit {
            page.position = match scan.direction {
                Direction::Above(_) => to.min(self.last.max(from)),
                Direction::Below(_) => to,
            };
            page.end = match scan.direction {
                Direction::Above(_) => to >= self.last,
                Direction::Below(_) => to == 0,
            };
        }
        Ok(page)
    }
}

/// Takes a row into the page if its name fits and it has not expired.
fn collect(row: &Row<'_>, scan: &Scan, page: &mut Page) -> rusqlite::Result<()> {
    let sequence = row.get::<_, i64>(0)? as u64;
    page.position = sequence;
    let name: [u8; 16] = row.get(2)?;
    let alive = row.get::<_, i64>(3)? as u64 > scan.now.millis();
    if alive && scan.prefix.contains(Name(u128::from_be_bytes(name))) {
        page.chunks.push((sequence, chunk(row, 1)?));
    }
    Ok(())
}

fn to_sql(sequence: u64) -> i64 {
    i64::try_from(sequence).unwrap_or(i64::MAX)
}

/// The 78 bits from origin to team, as 10 bytes.
fn place(name: Name) -> [u8; 10] {
    let mut place = [0; 10];
    place.copy_from_slice(&(name.0 >> (128 - Name::TEAM_BITS)).to_be_bytes()[6..]);
    place
}

fn tier(number: i64) -> Tier {
    match number {
        i64::MIN..=0 => Tier::Device,
        1 => Tier::Local,
        2 => Tier::Cloud,
        3.. => Tier::Origin,
    }
}

fn chunk(row: &Row<'_>, column: usize) -> rusqlite::Result<Chunk> {
    let bytes = Bytes::copy_from_slice(row.get_ref(column)?.as_blob()?);
    Chunk::decode(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Blob,
            Box::new(error),
        )
    })
}

fn stored(row: &Row<'_>) -> rusqlite::Result<Stored> {
    let (sequence, reached): (i64, i64) = (row.get(0)?, row.get(2)?);
    Ok(Stored {
        sequence: sequence as u64,
        chunk: chunk(row, 1)?,
        reached: tier(reached),
    })
}

fn damaged(path: &str, why: impl std::fmt::Display) -> StoreError {
    let why = why.to_string().replace('\n', " ");
    StoreError::Damaged(format!(
        "the store {path} is damaged ({why}); move it away and start again, or restore a backup"
    ))
}

fn explain(path: &str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(format!(
            "no room for the store {path}: nothing new is accepted until its disk has some"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(format!(
            "the store {path} is in use by another process; stop that one, or choose another \
             directory"
        )),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, error),
        None if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => {
            damaged(path, error)
        }
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            StoreError::Broken(format!(
                "cannot open the store {path} ({error}); check its directory's owner and mode"
            ))
        }
        _ => StoreError::Broken(format!("the store {path} failed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_core::store::conformance;

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
        assert_eq!((mode.as_str(), synchronous), ("wal", 2));
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
}
