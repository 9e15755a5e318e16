//! The tables of the store, and the settings of a connection to them.

use rusqlite::Connection;

/// The version of the tables; a file with another one is refused, but for [`BEFORE`].
pub(super) const SCHEMA: i64 = 3;
/// The version before, which lacks [`EVICTABLE`]'s index and gets it when it is opened.
pub(super) const BEFORE: i64 = 2;
/// How long another program may hold the file before we give up, in milliseconds.
const BUSY_MS: u64 = 2000;

/// The rows that may be evicted: those that need not go up, but for what `relay_core::store::is_kept`
/// (paths 7 and 8 of application 1). An index over them answers at once when there are none.
macro_rules! evictable {
    () => {
        "upward = 0 AND substr(name, 4, 2) <> x'0107' AND substr(name, 4, 2) <> x'0108'"
    };
}
pub(super) use evictable;

const EVICTABLE: &str = concat!(
    "CREATE INDEX chunks_evictable ON chunks (sequence) WHERE ",
    evictable!()
);

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

/// Settings of the connection; all but the page size are per connection.
pub(super) fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(std::time::Duration::from_millis(BUSY_MS))?;
    connection.pragma_update(None, "page_size", 8192)?;
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // What a statement has to be able to undo would else go to a temporary file, for which a confined
    // relay has no place.
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

pub(super) fn create(connection: &mut Connection) -> rusqlite::Result<()> {
    let mut id = [0u8; 16];
    getrandom::fill(&mut id).map_err(|error| {
        rusqlite::Error::ToSqlConversionFailure(format!("no randomness: {error}").into())
    })?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute_batch(EVICTABLE)?;
    transaction.execute("INSERT INTO store (id) VALUES (?1)", [id.as_slice()])?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

/// Brings a file of the version [`BEFORE`] to this one.
pub(super) fn upgrade(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    transaction.execute_batch(EVICTABLE)?;
    transaction.pragma_update(None, "user_version", SCHEMA)?;
    transaction.commit()
}

/// The highest number ever given, also when what SQLite remembers of it is damaged.
pub(super) fn last_sequence(connection: &Connection) -> rusqlite::Result<u64> {
    let last: i64 = connection.query_row(
        "SELECT max(
           coalesce((SELECT max(sequence) FROM chunks), 0),
           coalesce((SELECT max(seq) FROM sqlite_sequence WHERE name = 'chunks'), 0))",
        [],
        |row| row.get(0),
    )?;
    Ok(last as u64)
}
