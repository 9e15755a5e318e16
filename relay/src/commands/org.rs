//! `org`: the organisations of an origin: who may be founded, and how much they may keep.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use proto::{Place, Registration, Signer, limits};

use super::{Failure, directory, other};
use crate::driver::now;
use crate::relay::ORIGIN_KEY;
use crate::tls;

/// The numbers of registered organisations, one per line, in the origin's directory.
const ORGANISATIONS: &str = "organisations";
/// How long a registration allows an organisation to fill its names: ten years.
const REGISTRATION_MS: u64 = 3653 * limits::DAY_MS;

#[derive(Debug, Subcommand)]
pub enum Org {
    /// Print the text with which one organisation can be founded; keep it secret
    Register {
        /// The origin's directory; it may be in use.
        #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
        directory: Option<PathBuf>,
        /// The organisation's number, 1 to 262143 [default: the next free one]
        #[arg(long, value_name = "N")]
        number: Option<u32>,
    },
}

/// Runs one of them.
///
/// # Errors
/// [`Failure`].
pub fn execute(org: Org) -> Result<(), Failure> {
    match org {
        Org::Register { directory, number } => register(directory, number),
    }
}

fn register(named: Option<PathBuf>, number: Option<u32>) -> Result<(), Failure> {
    let directory = directory(named)?;
    let origin = tls::load(&directory.join(ORIGIN_KEY))?.ok_or_else(|| {
        Failure::NotFound(format!(
            "{} is not the directory of an origin; run this where `treeline-relay run` without \
             --parent runs",
            directory.display()
        ))
    })?;
    let number = take_number(&directory.join(ORGANISATIONS), number)?;
    let text = registration(&origin, number)?;
    writeln!(io::stdout().lock(), "{text}").map_err(other)
}

fn registration(origin: &Signer, number: u32) -> Result<String, Failure> {
    let seed = tls::random_signer().map_err(other)?.seed();
    let not_after = now().plus_millis(REGISTRATION_MS);
    let registration = Registration::issue(origin, number, seed, not_after).map_err(other)?;
    Ok(registration.to_text().to_string())
}

/// Takes a number that no organisation has, and writes it down.
fn take_number(path: &Path, wanted: Option<u32>) -> Result<u32, Failure> {
    let failed = |error: io::Error| {
        Failure::Other(format!(
            "cannot use {}: {error}; check its owner and mode",
            path.display()
        ))
    };
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .open(path)
        .map_err(failed)?;
    fs::File::lock(&file).map_err(failed)?;
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let taken: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    let number = match wanted {
        Some(number) if taken.contains(&number) => {
            return Err(other(format!(
                "organisation {number} is registered already"
            )));
        }
        Some(number) => number,
        None => taken.iter().max().map_or(1, |last| last + 1),
    };
    if !(1..=Place::ORG_MAX).contains(&number) {
        return Err(other(format!(
            "organisation {number} is not between 1 and {}",
            Place::ORG_MAX
        )));
    }
    writeln!(file, "{number}")
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(ORGANISATIONS);
        assert_eq!(take_number(&path, None).unwrap(), 1);
        assert_eq!(take_number(&path, Some(7)).unwrap(), 7);
        assert_eq!(take_number(&path, None).unwrap(), 8);
        assert!(take_number(&path, Some(7)).is_err());
        assert!(take_number(&path, Some(0)).is_err());
        assert!(take_number(&path, Some(Place::ORG_MAX + 1)).is_err());
    }

    #[test]
    fn a_registration_verifies() {
        let origin = Signer::from_seed(&[1; 32]);
        let text = registration(&origin, 5).unwrap();
        let read = Registration::from_text(&text).unwrap();
        assert_eq!((read.org, read.origin), (5, origin.public_key()));
    }
}
