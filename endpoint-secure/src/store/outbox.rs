//! The rows of the outbox: every own chunk from the moment it exists until the origin has it.
//!
//! Until then it is published again after each new link: an acknowledgement that was lost on the way,
//! by a process that was killed, is given again for the same bytes.

use bytes::Bytes;
use proto::{Chunk, Name, Tier};
use rusqlite::{OptionalExtension, params};

use super::{Store, StoreError};

/// The message that a chunk belongs to: local channel, device, first number. Chunks that are no
/// message have channel [`NO_MESSAGE`].
pub type Owner = (i64, u32, u32);

/// Stands for "no message" in an [`Owner`].
pub const NO_MESSAGE: i64 = -1;

/// A row that still has its bytes.
pub struct Waiting {
    /// Its place in the order of publishing.
    pub seq: i64,
    /// The chunk.
    pub chunk: Chunk,
}

impl Store {
    /// Appends a chunk. The same name again is a mistake of ours, and refused.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn post(&self, chunk: &Chunk, owner: Owner) -> Result<(), StoreError> {
        self.write_point()?;
        self.db
            .prepare_cached(
                "INSERT INTO outbox (name, chunk, tier, channel, device, first)
                 VALUES (?1, ?2, 0, ?3, ?4, ?5)",
            )?
            .execute(params![
                chunk.name().to_bytes(),
                chunk.encoded().as_ref(),
                owner.0,
                owner.1,
                owner.2
            ])?;
        Ok(())
    }

    /// Reads waiting chunks after a place in the order.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn posted_after(&self, seq: i64, count: usize) -> Result<Vec<Waiting>, StoreError> {
        let mut statement = self.db.prepare_cached(
            "SELECT seq, chunk FROM outbox WHERE seq > ?1
             ORDER BY seq LIMIT ?2",
        )?;
        let rows = statement.query_map(params![seq, count as i64], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
        rows.map(|row| {
            let (seq, bytes) = row?;
            let chunk = Chunk::decode(Bytes::from(bytes)).map_err(|_| StoreError::Corrupt)?;
            Ok(Waiting { seq, chunk })
        })
        .collect()
    }

    /// Reads one waiting chunk.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn posted(&self, name: Name) -> Result<Option<Chunk>, StoreError> {
        let bytes: Option<Vec<u8>> = self
            .db
            .prepare_cached("SELECT chunk FROM outbox WHERE name = ?1")?
            .query_row([name.to_bytes()], |row| row.get(0))
            .optional()?;
        bytes
            .map(|bytes| Chunk::decode(Bytes::from(bytes)).map_err(|_| StoreError::Corrupt))
            .transpose()
    }

    /// Notes that a chunk has come so far, and gives its message and the lowest tier of all that
    /// message's chunks; `None` for a chunk that is not of ours or has been farther before.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn acknowledge(&self, name: Name, tier: Tier) -> Result<Option<(Owner, Tier)>, StoreError> {
        self.write_point()?;
        let name = name.to_bytes();
        let owner: Option<Owner> = self
            .db
            .prepare_cached(
                "UPDATE outbox SET tier = ?2
                 WHERE name = ?1 AND tier < ?2 RETURNING channel, device, first",
            )?
            .query_row(params![name, tier as u8], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?;
        let Some(owner) = owner else {
            return Ok(None);
        };
        if owner.0 == NO_MESSAGE {
            if tier == Tier::Origin {
                self.forget_posted(name)?;
            }
            return Ok(Some((owner, tier)));
        }
        let lowest: u8 = self
            .db
            .prepare_cached(
                "SELECT min(tier) FROM outbox WHERE channel = ?1 AND device = ?2 AND first = ?3",
            )?
            .query_row(params![owner.0, owner.1, owner.2], |row| row.get(0))?;
        let lowest = Tier::from_number(lowest).ok_or(StoreError::Corrupt)?;
        if lowest == Tier::Origin {
            self.withdraw(owner)?;
        }
        Ok(Some((owner, lowest)))
    }

    /// Names the message that a chunk belongs to.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn owner(&self, name: Name) -> Result<Option<Owner>, StoreError> {
        Ok(self
            .db
            .prepare_cached("SELECT channel, device, first FROM outbox WHERE name = ?1")?
            .query_row([name.to_bytes()], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })
            .optional()?)
    }

    /// Drops all chunks of a message: it has arrived, or will never.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn withdraw(&self, owner: Owner) -> Result<(), StoreError> {
        self.db
            .prepare_cached("DELETE FROM outbox WHERE channel = ?1 AND device = ?2 AND first = ?3")?
            .execute(params![owner.0, owner.1, owner.2])?;
        Ok(())
    }

    /// Drops one chunk that is no message.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn forget_posted(&self, name: [u8; 16]) -> Result<(), StoreError> {
        self.db
            .prepare_cached("DELETE FROM outbox WHERE name = ?1")?
            .execute([name])?;
        Ok(())
    }

    /// Drops all chunks, and gives the messages among them that no relay has.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn clear_outbox(&self) -> Result<Vec<Owner>, StoreError> {
        self.write_point()?;
        let mut statement = self
            .db
            .prepare_cached("SELECT DISTINCT channel, device, first FROM outbox WHERE tier < 1")?;
        let owners = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let owners = owners.collect::<Result<_, _>>()?;
        self.db.prepare_cached("DELETE FROM outbox")?.execute([])?;
        Ok(owners)
    }

    /// Counts own messages that no relay has; everything else that none has counts as one more.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub fn count_queued(&self) -> Result<u32, StoreError> {
        Ok(self
            .db
            .prepare_cached(
                "SELECT count(*) FROM (SELECT DISTINCT channel, device, first FROM outbox
                 WHERE tier < 1)",
            )?
            .query_row([], |row| row.get(0))?)
    }
}
