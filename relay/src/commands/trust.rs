//! `trust`: the pins of relays that are found by mDNS. A person compares the key and pins it here.

use std::fs;
use std::path::PathBuf;

use clap::Subcommand;
use proto::limits::DAY_MS;
use proto::{PublicKey, RelayRecord};
use serde_json::json;

use super::{Failure, In, directory, other, print};
use crate::address::RelayAddress;
use crate::driver::now;
use crate::pins::{self, Pin, Pins};
use crate::relay::{RECORD, RELAY_KEY, own_directory};
use crate::tls;

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
    /// Sign, as an origin, that a relay is one of its own: nobody has to compare its key then
    Sign {
        /// The relay's key, 64 hex digits, or HOST:PORT#KEY.
        relay: String,
        /// How long that is good.
        #[arg(long, value_name = "DAYS", default_value_t = 3650, value_parser = clap::value_parser!(u16).range(1..=3650))]
        days: u16,
        /// The directory of the origin; it may be in use.
        #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
        directory: Option<PathBuf>,
    },
    /// Keep what an origin has signed of the relay in this directory, so that it shows it to others
    Record {
        /// What `trust sign` printed, `treeline-relay-…`.
        record: String,
        /// The directory of the relay that it is about; it may be in use.
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
        Trust::Sign {
            relay,
            days,
            directory,
        } => sign(directory, &relay, days),
        Trust::Record { record, directory } => keep(directory, &record),
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
    let (key, default) = read(relay)?;
    let name = name.unwrap_or(default);
    if !directory.is_dir() {
        own_directory(&directory)?;
    }
    pins::add(&directory, &Pin { name, key }).map_err(Failure::from)
}

/// The key of a relay, and a name for it.
fn read(relay: &str) -> Result<(PublicKey, String), Failure> {
    match (relay.parse::<RelayAddress>(), PublicKey::from_hex(relay)) {
        (Ok(address), _) => Ok((address.key, address.place)),
        (_, Some(key)) => Ok((key, key.to_hex().chars().take(16).collect())),
        (Err(error), None) => Err(other(format!("{error}, or write the key alone"))),
    }
}

fn sign(named: Option<PathBuf>, relay: &str, days: u16) -> Result<(), Failure> {
    let (_, origin) = super::org::origin(named)?;
    let (key, _) = read(relay)?;
    let not_after = now().plus_millis(u64::from(days) * DAY_MS);
    print(
        RelayRecord::sign(&origin, key, not_after)
            .map_err(other)?
            .to_text(),
    )
}

fn keep(named: Option<PathBuf>, text: &str) -> Result<(), Failure> {
    let directory = directory(named)?;
    let record = RelayRecord::from_text(text).ok_or_else(|| {
        Failure::Config(
            "this is not what `treeline-relay trust sign` printed; copy all of it".into(),
        )
    })?;
    let own = tls::load(&directory.join(RELAY_KEY))?.map(|own| own.public_key());
    if record.relay().is_none() || record.relay() != own {
        return Err(other(format!(
            "the record is not about the relay in {}; `treeline-relay identity` prints its key, and \
             `trust sign` wants that one",
            directory.display()
        )));
    }
    let path = directory.join(RECORD);
    let fresh = directory.join(format!("{RECORD}.new"));
    fs::write(&fresh, record.to_text() + "\n")
        .and_then(|()| fs::rename(&fresh, &path))
        .map_err(|error| other(format!("cannot write {}: {error}", path.display())))
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
