//! `gc`: removes what a relay need not keep any more, and gives the room back to the disk. A running
//! relay does the first by itself, every minute; the second needs the store for itself.

use relay_core::store::Store;
use serde_json::json;

use super::{Failure, config_error, print};
use crate::config::{Config, Options};
use crate::driver::now;
use crate::relay::{STORE, StartError, own_directory};
use crate::status::store_bytes;
use crate::store::sqlite::SqliteStore;

/// Chunks removed in one transaction.
const CHUNKS: usize = 1024;

/// Removes, or with `dry_run` lists, what goes.
///
/// # Errors
/// [`Failure`]; 11 while a relay runs there.
pub fn gc(options: &Options, dry_run: bool, json: bool) -> Result<(), Failure> {
    let config = Config::load(options).map_err(config_error)?;
    let at = &config.directory;
    if !at.join(STORE).exists() {
        let none = format!("there is no store in {}", at.display());
        return Err(Failure::NotFound(none));
    }
    let _owner = own_directory(at).map_err(|error| match error {
        StartError::InUse { .. } => Failure::Locked(format!(
            "{error}; a running relay removes expired chunks by itself"
        )),
        error => error.into(),
    })?;
    let mut store = SqliteStore::open(&at.join(STORE)).map_err(StartError::from)?;
    let now = now();
    let (mut chunks, mut bytes) = (0_usize, 0_u64);
    if dry_run {
        let mut failure = Ok(());
        store
            .expired(now, |name, size| {
                chunks += 1;
                bytes += size;
                failure = match json {
                    true => print(json!({"version": 1, "name": name.to_string(), "bytes": size})),
                    false => print(format_args!("{name} {size}")),
                };
                failure.is_ok()
            })
            .map_err(StartError::from)?;
        return failure;
    }
    let before = (store.bytes(), store_bytes(at));
    loop {
        let removed = store.expire(now, CHUNKS).map_err(StartError::from)?;
        chunks += removed;
        if removed < CHUNKS {
            break;
        }
    }
    store.compact().map_err(StartError::from)?;
    bytes += before.0 - store.bytes();
    let freed = before.1.saturating_sub(store_bytes(at));
    if json {
        print(json!({"version": 1, "chunks": chunks, "bytes": bytes, "freed_bytes": freed}))
    } else {
        print(format_args!(
            "removed {chunks} chunks of {bytes} bytes; the store is {freed} bytes smaller"
        ))
    }
}
