//! What Secure keeps on disk: `secure.db`, sealed with keys of the master key.
//!
//! It decides nothing: it opens and closes the one transaction of an event, and turns rows into
//! values. Source: docs/architecture.md, "Rest".

pub mod history;
pub mod mls;
pub mod outbox;
pub mod schema;
pub mod seal;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::lock::MasterKey;
use seal::Sealer;

/// Names the database inside the directory of the process.
pub const FILE: &str = "secure.db";

/// The kinds of sealed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Who this device is. One.
    Identity = 1,
    /// Origins and relays. One.
    Network = 2,
    /// Counters of local numbers. One.
    Counters = 3,
    /// Organisations founded here.
    Organisation = 4,
    /// Teams.
    Team = 5,
    /// MLS states of teams.
    State = 6,
    /// Channels.
    Channel = 7,
    /// Feeds of devices in channels.
    Feed = 8,
    /// Tokens of sent messages.
    Token = 9,
    /// Subscriptions and their cursors.
    Subscription = 10,
    /// Teams this device asked to join.
    Joining = 11,
    /// Devices to be added.
    Adding = 12,
    /// Changes of teams that this device is to make.
    Operation = 13,
    /// Messages that wait for a removal to be made again.
    Held = 14,
    /// Messages of removed devices that came from behind their fence.
    Fenced = 15,
    /// What others have done that no honest device does.
    Evidence = 20,
    /// Invites that this device has issued.
    Issued = 30,
    /// Devices that ask to be added.
    Request = 31,
    /// When the profile locks by itself. One.
    Locking = 40,
    /// What organisations say of this device.
    Certificate = 50,
    /// Devices that their organisations have revoked.
    Revoked = 51,
    /// What lets this device found direct conversations. One.
    Founding = 52,
    /// When devices of teams were last seen.
    Seen = 53,
    /// Names of the key packages that this device has published for a team.
    Offered = 54,
}

/// Why the store failed.
#[derive(Debug, Error)]
pub enum StoreError {
    /// SQLite's own reason: a full disk, a missing right, a damaged file.
    #[error("{0}")]
    Database(#[from] rusqlite::Error),
    /// A value does not open with these keys, or is not what it should be.
    #[error("a record in the store is damaged")]
    Corrupt,
    /// The store was written by another version.
    #[error("the store has version {0}, this program reads version {v}", v = schema::VERSION)]
    Version(i64),
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Random,
}

/// A reader would keep it from being cut; there is none but us.
const EMPTY_LOG: &str = "PRAGMA wal_checkpoint(TRUNCATE);";

type MlsRows = HashMap<(i64, [u8; 16]), Option<Zeroizing<Vec<u8>>>>;

/// The open store.
pub struct Store {
    db: Connection,
    seal: Sealer,
    /// Rows of MLS state written in this transaction: one message rewrites a row several times.
    fresh: RefCell<MlsRows>,
    /// Whether this transaction deletes something, which must then be gone from every file.
    deletes: Cell<bool>,
    /// Whether the write-ahead log holds something that was written over meanwhile.
    stale: Cell<bool>,
    /// Writes that are left until the process is killed, in a test.
    #[cfg(test)]
    left: std::cell::Cell<Option<u32>>,
}

impl Store {
    /// Opens or creates the store of a directory.
    ///
    /// # Errors
    /// All of [`StoreError`].
    pub fn open(directory: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        let db = Connection::open(directory.join(FILE))?;
        db.execute_batch(schema::PRAGMAS)?;
        db.set_prepared_statement_cache_capacity(64);
        // What a process that was killed had deleted goes now.
        db.execute_batch(EMPTY_LOG)?;
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        match version {
            0 => {
                db.execute_batch(&format!(
                    "BEGIN IMMEDIATE; {} PRAGMA user_version = {}; COMMIT;",
                    schema::TABLES,
                    schema::VERSION
                ))?;
            }
            schema::VERSION => {}
            other => return Err(StoreError::Version(other)),
        }
        Ok(Self {
            db,
            seal: Sealer::new(master),
            fresh: RefCell::default(),
            deletes: Cell::new(false),
            stale: Cell::new(false),
            #[cfg(test)]
            left: std::cell::Cell::new(None),
        })
    }

    /// Opens the transaction of an event.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn begin(&self) -> Result<(), StoreError> {
        self.db.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        Ok(())
    }

    /// Puts everything on disk.
    ///
    /// # Errors
    /// [`StoreError::Database`], for example a full disk: then [`Store::roll_back`].
    pub fn commit(&self) -> Result<(), StoreError> {
        self.flush_mls()?;
        self.write_point()?;
        self.db.prepare_cached("COMMIT")?.execute([])?;
        if self.deletes.take() {
            // If this fails, it is tried again soon.
            self.stale.set(true);
            self.empty_log()?;
        }
        self.write_point()
    }

    /// Whether old values stand in the log that were written over: [`Store::empty_log`] removes them.
    pub fn is_stale(&self) -> bool {
        self.stale.get()
    }

    /// Brings the write-ahead log into the database and cuts it to nothing, so that what was deleted
    /// or written over stands in no file any more.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn empty_log(&self) -> Result<(), StoreError> {
        self.db.execute_batch(EMPTY_LOG)?;
        self.stale.set(false);
        Ok(())
    }

    /// A place at which a test may kill the process: before and after each write.
    #[cfg(test)]
    fn write_point(&self) -> Result<(), StoreError> {
        match self.left.get() {
            Some(0) => Err(StoreError::Random),
            Some(left) => {
                self.left.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[inline]
    fn write_point(&self) -> Result<(), StoreError> {
        crate::fault::write_point();
        Ok(())
    }

    /// Lets so many writes succeed, and no other.
    #[cfg(test)]
    pub(crate) fn crash_after(&self, writes: u32) {
        self.left.set(Some(writes));
    }

    /// Lets all writes succeed.
    #[cfg(test)]
    pub(crate) fn crash_never(&self) {
        self.left.set(None);
    }

    /// Whether a write has failed for that reason.
    #[cfg(test)]
    pub(crate) fn has_crashed(&self) -> bool {
        self.left.get() == Some(0)
    }

    /// Forgets everything since [`Store::begin`].
    pub fn roll_back(&self) {
        self.fresh.borrow_mut().clear();
        self.deletes.set(false);
        if !self.db.is_autocommit() {
            // A failure here means that SQLite has rolled back by itself already.
            self.db.execute_batch("ROLLBACK").ok();
        }
    }

    /// A count that moves with every change, for "has this event written anything".
    pub fn changes(&self) -> u64 {
        self.db.total_changes() + self.fresh.borrow().len() as u64
    }

    /// Writes a sealed record.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn put<T: Serialize>(&self, kind: Kind, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.write_point()?;
        self.stale.set(true);
        let row = self.hide(kind, key);
        let plain = encode(value)?;
        let sealed = self.seal.seal("record", &place(kind, &row), &plain)?;
        self.db
            .prepare_cached("INSERT OR REPLACE INTO record (kind, row, value) VALUES (?1, ?2, ?3)")?
            .execute(params![kind as u8, row, sealed])?;
        Ok(())
    }

    /// Reads a sealed record.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub fn get<T: DeserializeOwned>(
        &self,
        kind: Kind,
        key: &[u8],
    ) -> Result<Option<T>, StoreError> {
        let row = self.hide(kind, key);
        let sealed: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT value FROM record WHERE kind = ?1 AND row = ?2")?
            .query_row(params![kind as u8, row], |row| row.get(0))
            .optional()?;
        sealed
            .map(|sealed| decode(&self.seal.open("record", &place(kind, &row), &sealed)?))
            .transpose()
    }

    /// Deletes a record, if it is there.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn delete(&self, kind: Kind, key: &[u8]) -> Result<(), StoreError> {
        self.write_point()?;
        self.deletes.set(true);
        self.db
            .prepare_cached("DELETE FROM record WHERE kind = ?1 AND row = ?2")?
            .execute(params![kind as u8, self.hide(kind, key)])?;
        Ok(())
    }

    /// Reads all records of a kind, in no order that means anything.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub fn all<T: DeserializeOwned>(&self, kind: Kind) -> Result<Vec<T>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT row, value FROM record WHERE kind = ?1")?;
        let mut rows = statement.query([kind as u8])?;
        let mut out = Vec::new();
        while let Some(row) = rows.next()? {
            let (key, sealed): (Vec<u8>, Vec<u8>) = (row.get(0)?, row.get(1)?);
            out.push(decode(&self.seal.open(
                "record",
                &place(kind, &key),
                &sealed,
            )?)?);
        }
        Ok(out)
    }

    /// Keeps a chunk that cannot be used yet.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn keep_pending(&self, name: u128, chunk: &[u8]) -> Result<(), StoreError> {
        self.write_point()?;
        self.db
            .prepare_cached("INSERT OR REPLACE INTO pending (name, chunk) VALUES (?1, ?2)")?
            .execute(params![name.to_be_bytes(), chunk])?;
        Ok(())
    }

    /// Drops a chunk that was used, or never will be.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn drop_pending(&self, name: u128) -> Result<(), StoreError> {
        self.write_point()?;
        self.db
            .prepare_cached("DELETE FROM pending WHERE name = ?1")?
            .execute([name.to_be_bytes()])?;
        Ok(())
    }

    /// Reads all kept chunks, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn pending(&self) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut statement = self
            .db
            .prepare_cached("SELECT chunk FROM pending ORDER BY name")?;
        let rows = statement.query_map([], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn hide(&self, kind: Kind, key: &[u8]) -> [u8; 16] {
        let mut full = Vec::with_capacity(key.len() + 1);
        full.push(kind as u8);
        full.extend_from_slice(key);
        self.seal.hide("record", &full)
    }
}

fn place(kind: Kind, row: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(row.len() + 1);
    place.push(kind as u8);
    place.extend_from_slice(row);
    place
}

/// CBOR: it reads back what self-describing formats must (openmls' untagged configuration).
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(512));
    ciborium::into_writer(value, &mut *bytes).map_err(|_| StoreError::Corrupt)?;
    Ok(bytes)
}

pub(crate) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoreError> {
    ciborium::from_reader(bytes).map_err(|_| StoreError::Corrupt)
}

/// Byte strings as CBOR byte strings; serde's default is an array of numbers, twice as long.
pub(crate) mod bytes {
    use serde::{Deserializer, Serializer, de};

    pub(crate) fn serialize<S: Serializer>(bytes: &[u8], out: S) -> Result<S::Ok, S::Error> {
        out.serialize_bytes(bytes)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<u8>, D::Error> {
        struct Visit;
        impl<'de> de::Visitor<'de> for Visit {
            type Value = Vec<u8>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Vec<u8>, E> {
                Ok(bytes)
            }
        }
        input.deserialize_byte_buf(Visit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_and_hide_their_words() {
        let dir = tempfile::tempdir().unwrap();
        let master = MasterKey::random().unwrap();
        let store = Store::open(dir.path(), &master).unwrap();
        store.begin().unwrap();
        store
            .put(Kind::Team, b"marmalade", &"apricot".to_string())
            .unwrap();
        store.commit().unwrap();
        store.begin().unwrap();
        store
            .put(Kind::Team, b"other", &"forgotten".to_string())
            .unwrap();
        store.roll_back();
        drop(store);
        for entry in std::fs::read_dir(dir.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            for word in [&b"marmalade"[..], b"apricot"] {
                assert!(!bytes.windows(word.len()).any(|window| window == word));
            }
        }
        let store = Store::open(dir.path(), &master).unwrap();
        assert_eq!(
            store.get::<String>(Kind::Team, b"marmalade").unwrap(),
            Some("apricot".into())
        );
        assert_eq!(store.get::<String>(Kind::Team, b"other").unwrap(), None);
        assert_eq!(store.all::<String>(Kind::Team).unwrap(), ["apricot"]);
        drop(store);
        let other = Store::open(dir.path(), &MasterKey::random().unwrap()).unwrap();
        assert!(matches!(
            other.all::<String>(Kind::Team),
            Err(StoreError::Corrupt)
        ));
    }

    /// P8: the sealed form of what was deleted stands in no file when the delete returns, and what was
    /// written over when the log was emptied.
    #[test]
    fn what_is_deleted_is_gone_from_every_file() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &MasterKey::random().unwrap()).unwrap();
        let holds = |sealed: &[u8]| {
            let mut files = std::fs::read_dir(dir.path()).unwrap();
            files.any(|file| {
                let bytes = std::fs::read(file.unwrap().path()).unwrap();
                bytes.windows(sealed.len()).any(|at| at == sealed)
            })
        };
        let sealed = |table: &str| -> Vec<u8> {
            let sql = format!("SELECT value FROM {table}");
            store.db.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        let write = |change: &dyn Fn()| {
            store.begin().unwrap();
            change();
            store.commit().unwrap();
        };
        write(&|| {
            store
                .put(Kind::Team, b"a", &"a secret".repeat(100))
                .unwrap()
        });
        let record = sealed("record");
        assert!(holds(&record));
        write(&|| store.delete(Kind::Team, b"a").unwrap());
        assert!(!holds(&record));

        let key = |value: u8| {
            let row = ((1, [1; 16]), Some(Zeroizing::new(vec![value; 400])));
            store.fresh.borrow_mut().extend([row]);
        };
        write(&|| key(1));
        let first = sealed("mls");
        write(&|| key(2));
        assert!(holds(&first) && store.is_stale());
        store.empty_log().unwrap();
        assert!(!holds(&first) && !store.is_stale());
        let second = sealed("mls");
        assert!(holds(&second));
        write(&|| store.delete_mls(1).unwrap());
        assert!(!holds(&second));

        write(&|| key(3));
        let third = sealed("mls");
        assert!(holds(&third));
        let gone = ((1, [1; 16]), None);
        write(&|| store.fresh.borrow_mut().extend([gone.clone()]));
        assert!(!holds(&third));
        let name = |text: &str| store.put(Kind::Identity, b"", &text.repeat(50)).unwrap();
        write(&|| name("an old key "));
        let old = sealed("record");
        write(&|| name("a new key "));
        assert!(holds(&old) && store.is_stale());
        store.empty_log().unwrap();
        assert!(!holds(&old));
    }
}
