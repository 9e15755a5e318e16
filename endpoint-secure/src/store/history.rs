//! The rows of messages: what was said, by feed and by time.
//!
//! It decides no order but that of its keys, and reads no text. The order of a timeline is
//! (time written, clamped to arrival; device; number).

use endpoint_secure_api::Delivery;
use rusqlite::{OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, decode, encode};

/// A message as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The local number of its channel.
    pub channel: i64,
    /// Its author's device number.
    pub device: u32,
    /// Its number in the feed: that of its first chunk.
    pub number: u32,
    /// How many numbers it takes.
    pub chunks: u32,
    /// When it was written, clamped to when it arrived.
    pub sent_ms: u64,
    /// Whether a timeline shows it: entries of channel 0 and unknown types are kept only.
    pub shown: bool,
    /// Whether this device wrote it.
    pub own: bool,
    /// How far it has come.
    pub delivery: Delivery,
    /// What is sealed.
    pub sealed: Sealed,
}

/// The part of a message that nobody may see on disk.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// The author's display name when it was written.
    pub user: String,
    /// The author's device name when it was written.
    pub device_name: String,
    /// The type of the body.
    pub kind: u8,
    /// The body: text for type text.
    #[serde(with = "crate::store::bytes")]
    pub body: Vec<u8>,
    /// The first 16 bytes of the hash of the plaintext entry.
    pub hash: [u8; 16],
    /// Why a relay refused it.
    pub failure: String,
    /// The state of the team it was written in.
    pub state: [u8; 8],
}

impl std::fmt::Debug for Sealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sealed(type {}, {} bytes)", self.kind, self.body.len())
    }
}

/// A place in a timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct Spot {
    /// When it was written.
    pub sent_ms: u64,
    /// Its author's device number.
    pub device: u32,
    /// Its number.
    pub number: u32,
}

/// Which way a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// From a spot to older messages.
    Back,
    /// From a spot to newer messages.
    Forth,
}

const COLUMNS: &str = "channel, device, number, chunks, sent_ms, shown, own, delivery, value";

impl Store {
    /// Writes a message, or what changed of it.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_message(&self, kept: &Kept) -> Result<(), StoreError> {
        self.write_point()?;
        let key = key(kept.channel, kept.device, kept.number);
        let sealed = self.seal.seal("message", &key, &encode(&kept.sealed)?)?;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO message
                 (channel, device, number, chunks, sent_ms, shown, own, delivery, value)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                kept.channel,
                kept.device,
                kept.number,
                kept.chunks,
                kept.sent_ms as i64,
                kept.shown,
                kept.own,
                delivery_number(kept.delivery),
                sealed
            ])?;
        Ok(())
    }

    /// Reads one message.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn message(
        &self,
        channel: i64,
        device: u32,
        number: u32,
    ) -> Result<Option<Kept>, StoreError> {
        let row = self
            .db
            .prepare_cached(&format!(
                "SELECT {COLUMNS} FROM message
                 WHERE channel = ?1 AND device = ?2 AND number = ?3"
            ))?
            .query_row(params![channel, device, number], raw)
            .optional()?;
        row.map(|row| self.open_message(row)).transpose()
    }

    /// Reads the last message of a feed before a number.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn message_before(
        &self,
        channel: i64,
        device: u32,
        number: u32,
    ) -> Result<Option<(u32, u32)>, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT number, chunks FROM message
                 WHERE channel = ?1 AND device = ?2 AND number < ?3
                 ORDER BY number DESC LIMIT 1",
            )?
            .query_row(params![channel, device, number], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?)
    }

    /// The numbers of what a device has written in a channel after a time, ascending.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn written_since(
        &self,
        channel: i64,
        device: u32,
        at_ms: u64,
    ) -> Result<Vec<u32>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT number FROM message WHERE channel = ?1 AND device = ?2 AND sent_ms > ?3
             ORDER BY number",
        )?;
        let rows = statement.query_map(params![channel, device, at_ms as i64], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The numbers of what is shown of a feed from one on, ascending.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn shown_from(
        &self,
        channel: i64,
        device: u32,
        first: u32,
    ) -> Result<Vec<u32>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT number FROM message WHERE channel = ?1 AND device = ?2 AND number >= ?3
             AND shown = 1 ORDER BY number",
        )?;
        let rows = statement.query_map(params![channel, device, first], |row| row.get(0))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// How many numbers of a feed below one are taken by what is here.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn numbers_before(
        &self,
        channel: i64,
        device: u32,
        number: u32,
    ) -> Result<u32, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT coalesce(sum(chunks), 0) FROM message
                 WHERE channel = ?1 AND device = ?2 AND number < ?3",
            )?
            .query_row(params![channel, device, number], |row| row.get(0))?)
    }

    /// Notes how far a message has come.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn set_delivery(
        &self,
        (channel, device, number): (i64, u32, u32),
        delivery: Delivery,
    ) -> Result<(), StoreError> {
        self.db
            .prepare_cached(
                "UPDATE message SET delivery = ?4
                 WHERE channel = ?1 AND device = ?2 AND number = ?3",
            )?
            .execute(params![channel, device, number, delivery_number(delivery)])?;
        Ok(())
    }

    /// Reads up to `count` shown messages from a spot (without it), in the direction read. Without
    /// a spot: from the newest back, or from the oldest forth.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn shown_messages(
        &self,
        channel: i64,
        way: Way,
        spot: Option<Spot>,
        count: u32,
    ) -> Result<Vec<Kept>, StoreError> {
        let (sign, order, edge) = match way {
            Way::Back => ("<", "DESC", i64::MAX),
            Way::Forth => (">", "ASC", -1),
        };
        let (ms, device, number) = spot.map_or((edge, edge, edge), |spot| {
            (
                spot.sent_ms as i64,
                i64::from(spot.device),
                i64::from(spot.number),
            )
        });
        let mut statement = self.db.prepare_cached(&format!(
            "SELECT {COLUMNS} FROM message WHERE channel = ?1 AND shown = 1
             AND (sent_ms, device, number) {sign} (?2, ?3, ?4)
             ORDER BY sent_ms {order}, device {order}, number {order} LIMIT ?5"
        ))?;
        let rows = statement.query_map(params![channel, ms, device, number, count], raw)?;
        rows.map(|row| self.open_message(row?)).collect()
    }

    /// Counts shown messages: all, and those of others after a spot.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn count_messages(&self, channel: i64, read: Spot) -> Result<(u32, u32, u64), StoreError> {
        let (total, newest): (u32, i64) = self
            .db
            .prepare_cached(
                "SELECT count(*), coalesce(max(sent_ms), 0) FROM message
                 WHERE channel = ?1 AND shown = 1",
            )?
            .query_row([channel], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let unread = self
            .db
            .prepare_cached(
                "SELECT count(*) FROM message WHERE channel = ?1 AND shown = 1 AND own = 0
                 AND (sent_ms, device, number) > (?2, ?3, ?4)",
            )?
            .query_row(
                params![channel, read.sent_ms as i64, read.device, read.number],
                |row| row.get(0),
            )?;
        Ok((total, unread, newest as u64))
    }

    fn open_message(&self, mut row: Raw) -> Result<Kept, StoreError> {
        let key = key(row.kept.channel, row.kept.device, row.kept.number);
        row.kept.sealed = decode(&self.seal.open("message", &key, &row.sealed)?)?;
        Ok(row.kept)
    }
}

struct Raw {
    kept: Kept,
    sealed: Vec<u8>,
}

fn raw(row: &Row<'_>) -> rusqlite::Result<Raw> {
    Ok(Raw {
        kept: Kept {
            channel: row.get(0)?,
            device: row.get(1)?,
            number: row.get(2)?,
            chunks: row.get(3)?,
            sent_ms: row.get::<_, i64>(4)? as u64,
            shown: row.get(5)?,
            own: row.get(6)?,
            delivery: delivery_of(row.get(7)?),
            sealed: Sealed {
                user: String::new(),
                device_name: String::new(),
                kind: 0,
                body: Vec::new(),
                hash: [0; 16],
                failure: String::new(),
                state: [0; 8],
            },
        },
        sealed: row.get(8)?,
    })
}

fn key(channel: i64, device: u32, number: u32) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&channel.to_be_bytes());
    key[8..12].copy_from_slice(&device.to_be_bytes());
    key[12..].copy_from_slice(&number.to_be_bytes());
    key
}

fn delivery_number(delivery: Delivery) -> u8 {
    match delivery {
        Delivery::Failed => 0,
        Delivery::Queued => 1,
        Delivery::Lan => 2,
        Delivery::Cloud => 3,
        Delivery::Origin => 4,
    }
}

fn delivery_of(number: u8) -> Delivery {
    match number {
        0 => Delivery::Failed,
        2 => Delivery::Lan,
        3 => Delivery::Cloud,
        4 => Delivery::Origin,
        _ => Delivery::Queued,
    }
}
