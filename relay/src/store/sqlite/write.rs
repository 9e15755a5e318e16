//! What a commit writes: chunks whose name is free, how far others have come, where to resume.

use proto::{Name, Tier};
use relay_core::store::{Insert, Progress, Put, ResumePoint, Usage};
use rusqlite::{OptionalExtension, Transaction, params};

use super::accounts::Ledger;
use super::rows::{place, tier, to_sql};

pub(super) fn put(
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

pub(super) fn advance(
    transaction: &Transaction<'_>,
    name: Name,
    progress: Progress,
) -> rusqlite::Result<()> {
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

pub(super) fn resume(transaction: &Transaction<'_>, point: &ResumePoint) -> rusqlite::Result<()> {
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
