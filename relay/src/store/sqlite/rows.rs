//! Rows of chunks and their columns. A chunk is read as it was written or not at all: its bytes have
//! to have the digest that stands beside them, and its name and expiry those of their own columns.

use bytes::Bytes;
use proto::{Chunk, Name, Tier};
use relay_core::store::Stored;
use rusqlite::Row;

/// The columns that [`read`] wants, in its order; others follow.
macro_rules! columns {
    () => {
        "sequence, chunk, name, expiry, digest"
    };
}
pub(super) use columns;

/// The first column behind those of [`columns`].
pub(super) const NEXT: usize = 5;

/// A row that is not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged {
    pub(super) sequence: u64,
    /// As well as it can still be told.
    pub(super) name: Name,
    pub(super) bytes: u64,
}

/// Reads a row with [`columns`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Result<(u64, Chunk), Damaged>> {
    let sequence = row.get::<_, i64>(0)? as u64;
    let name = row.get::<_, [u8; 16]>(2).ok();
    let name = name.map(|bytes| Name(u128::from_be_bytes(bytes)));
    let expiry = row.get::<_, i64>(3).ok();
    let chunk = whole(row);
    Ok(match chunk {
        Some(chunk)
            if name == Some(chunk.name()) && expiry == Some(to_sql(chunk.expiry().millis())) =>
        {
            Ok((sequence, chunk))
        }
        chunk => Err(Damaged {
            sequence,
            name: chunk.map(|chunk| chunk.name()).or(name).unwrap_or(Name(0)),
            bytes: row.get_ref(1)?.as_blob().map_or(0, <[u8]>::len) as u64,
        }),
    })
}

/// The chunk, if its bytes are those that were digested.
fn whole(row: &Row<'_>) -> Option<Chunk> {
    let bytes = row.get_ref(1).ok()?.as_blob().ok()?;
    let chunk = Chunk::decode(Bytes::copy_from_slice(bytes)).ok()?;
    let digest = u128::from_be_bytes(row.get(4).ok()?);
    (chunk.digest() == digest).then_some(chunk)
}

/// Reads a row with [`columns`] and then `reached`.
pub(super) fn stored(row: &Row<'_>) -> rusqlite::Result<Result<Stored, Damaged>> {
    let reached = tier(row.get(NEXT)?);
    Ok(read(row)?.map(|(sequence, chunk)| Stored {
        sequence,
        chunk,
        reached,
    }))
}

pub(super) fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The 78 bits from origin to team, as 10 bytes.
pub(super) fn place(name: Name) -> [u8; 10] {
    let mut place = [0; 10];
    place.copy_from_slice(&(name.0 >> (128 - Name::TEAM_BITS)).to_be_bytes()[6..]);
    place
}

pub(super) fn tier(number: i64) -> Tier {
    match number {
        i64::MIN..=0 => Tier::Device,
        1 => Tier::Local,
        2 => Tier::Cloud,
        3.. => Tier::Origin,
    }
}
