//! `gc`: removes what a relay need not keep any more, and gives the room back to the disk. A running
//! relay does the first by itself, every minute; the second needs the store for itself.

use std::collections::BTreeMap;

use proto::Name;
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
    if dry_run {
        return list(&store, json);
    }
    let before = (store.bytes(), store_bytes(at));
    let damaged = store.check().map_err(StartError::from)?;
    let mut chunks = 0_usize;
    loop {
        let removed = store.expire(now, CHUNKS).map_err(StartError::from)?;
        chunks += removed;
        if removed < CHUNKS {
            break;
        }
    }
    store.compact().map_err(StartError::from)?;
    let bytes = before.0.saturating_sub(store.bytes());
    let freed = before.1.saturating_sub(store_bytes(at));
    if json {
        print(json!({
            "version": 1, "chunks": chunks, "damaged": damaged, "bytes": bytes, "freed_bytes": freed
        }))
    } else {
        let what = match damaged {
            0 => String::new(),
            damaged => format!(" and {damaged} damaged ones, which the parent will be asked for,"),
        };
        print(format_args!(
            "removed {chunks} chunks{what} of {bytes} bytes; the store is {freed} bytes smaller"
        ))
    }
}

/// What would go: damaged chunks, then expired ones.
fn list(store: &SqliteStore, json: bool) -> Result<(), Failure> {
    let mut damaged = BTreeMap::new();
    store
        .examine(|name, size| {
            damaged.insert(name, size);
        })
        .map_err(StartError::from)?;
    let show = |name: Name, size: u64| match json {
        true => print(json!({"version": 1, "name": name.to_string(), "bytes": size})),
        false => print(format_args!("{name} {size}")),
    };
    for (name, size) in &damaged {
        show(*name, *size)?;
    }
    let mut failure = Ok(());
    store
        .expired(now(), |name, size| {
            if !damaged.contains_key(&name) {
                failure = show(name, size);
            }
            failure.is_ok()
        })
        .map_err(StartError::from)?;
    failure
}
