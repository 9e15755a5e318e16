//! The lock: a passphrase opens a small key database that holds the wrapped master key, and
//! nothing else. Argon2id, then HKDF, gives the key-encryption key; XChaCha20-Poly1305 wraps.
//!
//! It is not the store: what the master key seals lives in `secure.db` (`store`). Where the operating
//! system has a keyring, a secret of it goes into the derivation (`device_secret`). Source:
//! docs/architecture.md, "Rest".

pub mod device_secret;
mod guarded;

use std::fmt;
use std::path::Path;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use endpoint_secure_api::Passphrase;
use hkdf::Hkdf;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use device_secret::DeviceSecret;
use guarded::Guarded;

/// Names the key database inside the directory of the process.
pub const FILE: &str = "keys.db";

const FORMAT: i64 = 2;
const WRAP_LABEL: &[u8] = b"treeline master key 1";
/// Wrong attempts that cost nothing: a slip of the finger is not an attack.
const FREE_ATTEMPTS: u32 = 3;
/// Words that a passphrase has at least where no keyring helps it; or so many characters.
const WORDS: usize = 6;
const CHARACTERS: usize = 20;
/// Characters that it has at least where a keyring does: guesses then need the device.
const FEW_CHARACTERS: usize = 8;
/// The longest wait between two attempts, in milliseconds: 15 minutes.
const LONGEST_DELAY_MS: u64 = 15 * 60 * 1000;

/// What one derivation costs. Stored beside the wrapped key, so it can be raised later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over that memory.
    pub passes: u32,
}

impl Cost {
    /// 64 MiB and 3 passes: a third of a second on a small laptop.
    pub const FULL: Self = Self {
        memory_kib: 64 * 1024,
        passes: 3,
    };
}

/// The key that everything at rest hangs from. Overwritten when dropped; `Debug` shows none of it.
pub struct MasterKey(Guarded);

impl MasterKey {
    /// Derives a key for one purpose.
    pub fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        expand(self.0.expose(), purpose.as_bytes())
    }

    /// Draws a new one.
    ///
    /// # Errors
    /// [`LockError::Random`].
    pub fn random() -> Result<Self, LockError> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(&mut key[..]).map_err(|_| LockError::Random)?;
        Self::take(&mut key)
    }

    fn take(key: &mut [u8; 32]) -> Result<Self, LockError> {
        Guarded::take(key).map(Self).ok_or(LockError::Memory)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(..)")
    }
}

/// Why the lock did not open.
#[derive(Debug, Error)]
pub enum LockError {
    /// There is no profile.
    #[error("no profile here")]
    Empty,
    /// The passphrase is not the one.
    #[error("wrong passphrase")]
    Wrong,
    /// Too many wrong attempts: wait this long.
    #[error("wait {} s", .0.div_ceil(1000))]
    TooSoon(u64),
    /// The stored parameters or the wrapped key cannot be understood.
    #[error("the key database cannot be read")]
    Broken,
    /// The profile is bound to a secret of this system's keyring, which is not there; why.
    #[error("the keyring's secret is missing: {0}")]
    NoDeviceSecret(String),
    /// The keyring has another secret than the profile is bound to.
    #[error("the keyring has another secret")]
    OtherDeviceSecret,
    /// The passphrase can be guessed too easily; whether a keyring helps.
    #[error("the passphrase is too short")]
    Short(bool),
    /// There is no memory for a key.
    #[error("no memory for a key")]
    Memory,
    /// The operating system gave no randomness.
    #[error("no randomness from the operating system")]
    Random,
    /// The key database cannot be read or written.
    #[error("key database: {0}")]
    Database(#[from] rusqlite::Error),
}

/// The key database.
pub struct Lock {
    db: Connection,
    cost: Cost,
    /// What the keyring gave, or why it gave nothing.
    device: Result<DeviceSecret, String>,
}

struct Row {
    salt: Vec<u8>,
    cost: Cost,
    nonce: Vec<u8>,
    wrapped: Vec<u8>,
    /// Of the device secret that is needed; empty for none.
    device: Vec<u8>,
    failures: u32,
    retry_at_ms: u64,
}

impl Lock {
    /// Opens the key database of a directory, creating an empty one. `cost` is used for new
    /// profiles only.
    ///
    /// # Errors
    /// [`LockError::Database`].
    pub fn open(directory: &Path, cost: Cost) -> Result<Self, LockError> {
        let db = Connection::open(directory.join(FILE))?;
        // A deleted key must be gone from the file when the delete returns.
        db.execute_batch(
            "PRAGMA secure_delete = ON;
             PRAGMA journal_mode = DELETE;
             PRAGMA synchronous = EXTRA;
             CREATE TABLE IF NOT EXISTS key (
                 id INTEGER PRIMARY KEY CHECK (id = 1),
                 format INTEGER NOT NULL,
                 salt BLOB NOT NULL,
                 memory_kib INTEGER NOT NULL,
                 passes INTEGER NOT NULL,
                 nonce BLOB NOT NULL,
                 wrapped BLOB NOT NULL,
                 device BLOB NOT NULL,
                 failures INTEGER NOT NULL DEFAULT 0,
                 retry_at_ms INTEGER NOT NULL DEFAULT 0
             ) STRICT;",
        )?;
        let device = Err("no keyring was asked".into());
        Ok(Self { db, cost, device })
    }

    /// Gives it what the keyring gave, or why that was nothing.
    pub fn bind(&mut self, device: Result<DeviceSecret, String>) {
        self.device = device;
    }

    /// Whether a passphrase is long enough, for a profile of this system.
    ///
    /// # Errors
    /// [`LockError::Short`].
    pub fn check(&self, passphrase: &Passphrase) -> Result<(), LockError> {
        let text = passphrase.expose();
        let characters = text.chars().count();
        let helped = self.device.is_ok();
        let words = text
            .split(|c: char| c.is_whitespace() || c == '-')
            .filter(|word| !word.is_empty())
            .count();
        if words >= WORDS || characters >= CHARACTERS || (helped && characters >= FEW_CHARACTERS) {
            Ok(())
        } else {
            Err(LockError::Short(helped))
        }
    }

    /// Whether there is no profile yet.
    ///
    /// # Errors
    /// [`LockError::Database`].
    pub fn is_empty(&self) -> Result<bool, LockError> {
        Ok(self.row()?.is_none())
    }

    /// Wraps a new profile's master key under a passphrase, and the keyring's secret if there is one.
    ///
    /// # Errors
    /// [`LockError::Short`]; [`LockError::Database`] also when there is a profile already.
    pub fn set(&self, key: &MasterKey, passphrase: &Passphrase) -> Result<(), LockError> {
        self.write(
            key,
            passphrase,
            "INSERT INTO key (id, format, salt, memory_kib, passes, nonce, wrapped, device)
             VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )
    }

    /// Wraps the master key under another passphrase. It counts as an attempt with the old one. Until
    /// it returns the old one opens, afterwards the new one alone: it is one write.
    ///
    /// # Errors
    /// All of [`LockError`].
    pub fn change(&self, old: &Passphrase, new: &Passphrase, now_ms: u64) -> Result<(), LockError> {
        self.check(new)?;
        let key = self.unlock(old, now_ms)?;
        self.write(&key, new, "UPDATE key SET format = ?1, salt = ?2, memory_kib = ?3, passes = ?4, nonce = ?5, wrapped = ?6, device = ?7
             WHERE id = 1")
    }

    fn write(&self, key: &MasterKey, passphrase: &Passphrase, sql: &str) -> Result<(), LockError> {
        self.check(passphrase)?;
        let mut salt = [0; 16];
        let mut nonce = [0; 24];
        getrandom::fill(&mut salt).map_err(|_| LockError::Random)?;
        getrandom::fill(&mut nonce).map_err(|_| LockError::Random)?;
        let device = self.device.as_ref().ok();
        let outer = key_encryption_key(passphrase, &salt, self.cost, device)?;
        let payload = Payload {
            msg: &key.0.expose()[..],
            aad: WRAP_LABEL,
        };
        let wrapped = XChaCha20Poly1305::new((&*outer).into())
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_| LockError::Broken)?;
        let (memory, passes) = (self.cost.memory_kib, self.cost.passes);
        let mark = device.map_or_else(Vec::new, |device| device.mark().to_vec());
        self.db.execute(
            sql,
            params![FORMAT, salt, memory, passes, nonce, wrapped, mark],
        )?;
        Ok(())
    }

    /// The device secret that a profile is bound to.
    fn needed(&self, row: &Row) -> Result<Option<&DeviceSecret>, LockError> {
        match &self.device {
            _ if row.device.is_empty() => Ok(None),
            Ok(device) if device.mark()[..] == row.device[..] => Ok(Some(device)),
            Ok(_) => Err(LockError::OtherDeviceSecret),
            Err(why) => Err(LockError::NoDeviceSecret(why.clone())),
        }
    }

    /// Unwraps the master key. The attempt is counted on disk before it is tried, so that cutting
    /// the power does not buy another one.
    ///
    /// # Errors
    /// All of [`LockError`].
    pub fn unlock(&self, passphrase: &Passphrase, now_ms: u64) -> Result<MasterKey, LockError> {
        let row = self.row()?.ok_or(LockError::Empty)?;
        let device = self.needed(&row)?;
        // A longer wait than the longest is a clock that was set back; it must not lock the owner
        // out, and whoever can set the clock could as well set it forward.
        let wait = row.retry_at_ms.saturating_sub(now_ms);
        if (1..=LONGEST_DELAY_MS).contains(&wait) {
            return Err(LockError::TooSoon(wait));
        }
        let failures = row.failures.saturating_add(1);
        self.count(failures, now_ms.saturating_add(delay_ms(failures)))?;
        let outer = key_encryption_key(passphrase, &row.salt, row.cost, device)?;
        let nonce: [u8; 24] = row.nonce.try_into().map_err(|_| LockError::Broken)?;
        let payload = Payload {
            msg: &row.wrapped,
            aad: WRAP_LABEL,
        };
        let plain = XChaCha20Poly1305::new((&*outer).into())
            .decrypt(XNonce::from_slice(&nonce), payload)
            .map(Zeroizing::new)
            .map_err(|_| LockError::Wrong)?;
        let mut key = Zeroizing::new([0; 32]);
        if plain.len() != key.len() {
            return Err(LockError::Broken);
        }
        key.copy_from_slice(&plain);
        let key = MasterKey::take(&mut key);
        self.count(0, 0)?;
        key
    }

    fn count(&self, failures: u32, retry_at_ms: u64) -> Result<(), LockError> {
        self.db.execute(
            "UPDATE key SET failures = ?1, retry_at_ms = ?2 WHERE id = 1",
            params![failures, i64::try_from(retry_at_ms).unwrap_or(i64::MAX)],
        )?;
        Ok(())
    }

    fn row(&self) -> Result<Option<Row>, LockError> {
        let row = self
            .db
            .query_row(
                "SELECT salt, memory_kib, passes, nonce, wrapped, failures, retry_at_ms, format, device
                 FROM key WHERE id = 1",
                [],
                |row| {
                    let read = Row {
                        salt: row.get(0)?,
                        cost: Cost {
                            memory_kib: row.get(1)?,
                            passes: row.get(2)?,
                        },
                        nonce: row.get(3)?,
                        wrapped: row.get(4)?,
                        device: row.get(8)?,
                        failures: row.get(5)?,
                        retry_at_ms: u64::try_from(row.get::<_, i64>(6)?).unwrap_or(0),
                    };
                    Ok((read, row.get::<_, i64>(7)?))
                },
            )
            .optional()?;
        match row {
            Some((_, format)) if format != FORMAT => Err(LockError::Broken),
            other => Ok(other.map(|(row, _)| row)),
        }
    }
}

/// Whether a directory has no profile yet. It may have a key database: that is made before the profile is.
fn is_new(directory: &Path) -> bool {
    let path = directory.join(FILE);
    let read = || -> Result<bool, rusqlite::Error> {
        let db = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let profiles: i64 = db.query_row("SELECT count(*) FROM key", [], |row| row.get(0))?;
        Ok(profiles == 0)
    };
    // One that cannot be read may hold one.
    !path.exists() || read().unwrap_or(false)
}

/// Nothing for the first attempts, then 1 s, doubling.
fn delay_ms(failures: u32) -> u64 {
    match failures.checked_sub(FREE_ATTEMPTS + 1) {
        None => 0,
        Some(step) => (1000u64 << step.min(20)).min(LONGEST_DELAY_MS),
    }
}

fn key_encryption_key(
    passphrase: &Passphrase,
    salt: &[u8],
    cost: Cost,
    device: Option<&DeviceSecret>,
) -> Result<Zeroizing<[u8; 32]>, LockError> {
    let params =
        Params::new(cost.memory_kib, cost.passes, 1, Some(32)).map_err(|_| LockError::Broken)?;
    let mut stretched = Zeroizing::new([0; 64]);
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(passphrase.expose().as_bytes(), salt, &mut stretched[..32])
        .map_err(|_| LockError::Broken)?;
    let device = device.map_or(&[][..], DeviceSecret::expose);
    let device = expand(device, b"treeline device secret 1");
    stretched[32..].copy_from_slice(&device[..]);
    Ok(expand(&stretched[..], b"treeline key encryption key 1"))
}

fn expand(secret: &[u8], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut out = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret)
        .expand(purpose, &mut out[..])
        .expect("32 bytes are within HKDF's limit");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
    };

    const RIGHT: &str = "the right one has six words";
    const NEW: &str = "a-new-one-has-them-too";

    fn words(text: &str) -> Passphrase {
        Passphrase::new(text.into())
    }

    #[test]
    fn the_passphrase_opens_and_another_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::random().unwrap();
        let lock = Lock::open(dir.path(), CHEAP).unwrap();
        assert!(lock.is_empty().unwrap());
        lock.set(&key, &words(RIGHT)).unwrap();
        drop(lock);
        let lock = Lock::open(dir.path(), CHEAP).unwrap();
        assert!(matches!(
            lock.unlock(&words("wrong"), 1),
            Err(LockError::Wrong)
        ));
        let back = lock.unlock(&words(RIGHT), 1).unwrap();
        assert_eq!(back.derive("x"), key.derive("x"));
        assert!(lock.set(&key, &words(NEW)).is_err());
    }

    #[test]
    fn wrong_attempts_are_counted_over_restarts_and_slow_down() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::random().unwrap();
        let open = || Lock::open(dir.path(), CHEAP).unwrap();
        open().set(&key, &words(RIGHT)).unwrap();
        for _ in 0..=FREE_ATTEMPTS {
            assert!(matches!(
                open().unlock(&words("wrong"), 5_000),
                Err(LockError::Wrong)
            ));
        }
        assert!(matches!(
            open().unlock(&words(RIGHT), 5_500),
            Err(LockError::TooSoon(500))
        ));
        open().unlock(&words(RIGHT), 6_000).unwrap();
        assert!(matches!(
            open().unlock(&words("wrong"), 6_000),
            Err(LockError::Wrong)
        ));
    }

    #[test]
    fn a_changed_passphrase_opens_alone() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::random().unwrap();
        let lock = Lock::open(dir.path(), CHEAP).unwrap();
        lock.set(&key, &words(RIGHT)).unwrap();
        let before = std::fs::read(dir.path().join(FILE)).unwrap();
        let old = lock.row().unwrap().unwrap().wrapped;
        let change = |from, to| lock.change(&words(from), &words(to), 1);
        assert!(matches!(change("wrong", NEW), Err(LockError::Wrong)));
        assert!(matches!(
            change(RIGHT, "short"),
            Err(LockError::Short(false))
        ));
        change(RIGHT, NEW).unwrap();
        assert!(matches!(
            lock.unlock(&words(RIGHT), 1),
            Err(LockError::Wrong)
        ));
        assert_eq!(
            lock.unlock(&words(NEW), 1).unwrap().derive("x"),
            key.derive("x")
        );
        // What the old one opened is in no file any more.
        let holds = |bytes: &[u8]| bytes.windows(old.len()).any(|at| at == old);
        assert!(holds(&before));
        for file in std::fs::read_dir(dir.path()).unwrap() {
            assert!(!holds(&std::fs::read(file.unwrap().path()).unwrap()));
        }
    }

    /// P7: a copied directory and the right passphrase, on another machine.
    #[test]
    fn a_bound_profile_opens_with_its_keyring_alone() {
        let dir = tempfile::tempdir().unwrap();
        let secret = |digits: &str| DeviceSecret::from_hex(digits.repeat(32).as_bytes()).unwrap();
        let open = |device| {
            let mut lock = Lock::open(dir.path(), CHEAP).unwrap();
            lock.bind(device);
            lock
        };
        let key = MasterKey::random().unwrap();
        // It helps a passphrase that would be too short without it.
        open(Ok(secret("0a")))
            .set(&key, &words("8 digits"))
            .unwrap();
        let unlock = |device| open(device).unlock(&words("8 digits"), 1);
        assert!(matches!(
            unlock(Err("no bus".into())),
            Err(LockError::NoDeviceSecret(why)) if why == "no bus"
        ));
        assert!(matches!(
            unlock(Ok(secret("0b"))),
            Err(LockError::OtherDeviceSecret)
        ));
        assert_eq!(
            unlock(Ok(secret("0a"))).unwrap().derive("x"),
            key.derive("x")
        );
        // The secret is part of the key, not only asked for.
        let lock = open(Err("no bus".into()));
        lock.db.execute("UPDATE key SET device = x''", []).unwrap();
        assert!(matches!(
            lock.unlock(&words("8 digits"), 1),
            Err(LockError::Wrong)
        ));
    }

    #[test]
    fn without_a_keyring_a_passphrase_is_long() {
        let dir = tempfile::tempdir().unwrap();
        let mut lock = Lock::open(dir.path(), CHEAP).unwrap();
        for short in [
            "",
            "hunter2",
            "correct horse",
            "a b c d e",
            "nineteen characters",
        ] {
            assert!(lock.check(&words(short)).is_err(), "{short:?}");
        }
        for long in [RIGHT, NEW, "twenty characters it"] {
            lock.check(&words(long)).unwrap();
        }
        lock.bind(Ok(
            DeviceSecret::from_hex("0a".repeat(32).as_bytes()).unwrap()
        ));
        assert!(matches!(
            lock.check(&words("hunter2")),
            Err(LockError::Short(true))
        ));
        lock.check(&words("hunter22")).unwrap();
    }

    #[test]
    fn delays_grow_up_to_the_limit() {
        assert_eq!(delay_ms(3), 0);
        assert_eq!(delay_ms(4), 1000);
        assert_eq!(delay_ms(5), 2000);
        assert_eq!(delay_ms(u32::MAX), LONGEST_DELAY_MS);
    }

    #[test]
    fn debug_shows_no_key() {
        let key = MasterKey::take(&mut [0xAB; 32]).unwrap();
        assert_eq!(format!("{key:?}"), "MasterKey(..)");
    }

    #[test]
    fn a_directory_is_new_until_it_has_a_profile() {
        let directory = tempfile::tempdir().unwrap();
        assert!(is_new(directory.path()));
        let lock = Lock::open(directory.path(), CHEAP).unwrap();
        assert!(is_new(directory.path()));
        let key = MasterKey::random().unwrap();
        lock.set(
            &key,
            &Passphrase::new("five plus six is eleven words".into()),
        )
        .unwrap();
        assert!(!is_new(directory.path()));
        let damaged = tempfile::tempdir().unwrap();
        std::fs::write(damaged.path().join(FILE), "no database").unwrap();
        assert!(!is_new(damaged.path()));
    }
}
