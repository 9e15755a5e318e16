//! `trust`: the pins of relays that are found by mDNS. A person compares the key and pins it here.

use std::path::PathBuf;

use clap::Subcommand;
use proto::PublicKey;
use serde_json::json;

use super::{Failure, In, directory, other, print};
use crate::address::RelayAddress;
use crate::pins::{self, Pin, Pins};
use crate::relay::own_directory;

#[derive(Debug, Subcommand)]
pub enum Trust {
    /// Print the pins, one a line: key and name
    List(In),
    /// Pin a relay, after you have compared its key with what its operator says
    Add {
        /// The key, 64 hex digits, or HOST:PORT#KEY.
        relay: String,
        /// The name under which it is found [default: HOST:PORT, or the first 16 digits of its key]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The directory of the relay that shall trust it; it may be in use.
        #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Remove pins by name or by key
    Remove {
        /// The name, or the key as 64 hex digits.
        relay: String,
        /// The directory of the relay that shall not trust it any more; it may be in use.
        #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// Runs one of them.
///
/// # Errors
/// [`Failure`].
pub fn execute(trust: Trust) -> Result<(), Failure> {
    match trust {
        Trust::List(of) => list(of),
        Trust::Add {
            relay,
            name,
            directory,
        } => add(directory, &relay, name),
        Trust::Remove { relay, directory } => remove(directory, &relay),
    }
}

fn list(of: In) -> Result<(), Failure> {
    let pins = Pins::load(&directory(of.directory)?)?;
    for pin in pins.iter() {
        let key = pin.key.to_hex();
        if of.json {
            print(json!({"version": 1, "key": key, "name": pin.name}))?;
        } else {
            print(format_args!("{key} {}", pin.name))?;
        }
    }
    Ok(())
}

fn add(named: Option<PathBuf>, relay: &str, name: Option<String>) -> Result<(), Failure> {
    let directory = directory(named)?;
    let (key, default) = match (relay.parse::<RelayAddress>(), PublicKey::from_hex(relay)) {
        (Ok(address), _) => (address.key, address.place),
        (_, Some(key)) => (key, key.to_hex().chars().take(16).collect()),
        (Err(error), None) => return Err(other(format!("{error}, or write the key alone"))),
    };
    let name = name.unwrap_or(default);
    if !directory.is_dir() {
        own_directory(&directory)?;
    }
    pins::add(&directory, &Pin { name, key }).map_err(Failure::from)
}

fn remove(named: Option<PathBuf>, relay: &str) -> Result<(), Failure> {
    let directory = directory(named)?;
    let removed = match directory.is_dir() {
        true => pins::remove(&directory, relay)?,
        false => Vec::new(),
    };
    if removed.is_empty() {
        return Err(Failure::NotFound(format!(
            "no relay is pinned as {relay} in {}; `treeline-relay trust list` prints all",
            directory.display()
        )));
    }
    Ok(())
}
