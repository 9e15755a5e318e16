//! `org`: the organisations of an origin: who may be founded, and how much they may keep.

use std::path::PathBuf;

use clap::Subcommand;
use proto::{Limits, Name, Registration, Signer, limits};
use serde_json::json;

use super::{Failure, In, directory, other, print};
use crate::driver::now;
use crate::organisations;
use crate::relay::ORIGIN_KEY;
use crate::tls;

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
        /// The shortest prefix of the organisation's names that anybody may subscribe to, in bits: 58 is
        /// a path of all of it, 78 a path of one of its teams. 0 leaves it to each relay.
        #[arg(long, value_name = "BITS", default_value_t = 0,
              value_parser = clap::value_parser!(u8).range(0..=i64::from(Name::TEAM_BITS)))]
        subscription_bits: u8,
    },
    /// Print the organisations that were registered, and their quotas
    List(In),
    /// Set how much an organisation may keep; in force at the relay's next start or reload
    Quota {
        /// The organisation's number.
        number: u32,
        /// Bytes times seconds (1 GiB kept for 30 days is 2783138807808000), 0 for no limit, or
        /// `default` for what the configuration gives to every organisation.
        byte_seconds: String,
        /// The origin's directory; it may be in use.
        #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
        directory: Option<PathBuf>,
    },
}

/// Runs one of them.
///
/// # Errors
/// [`Failure`].
pub fn execute(org: Org) -> Result<(), Failure> {
    match org {
        Org::Register {
            directory,
            number,
            subscription_bits,
        } => register(directory, number, subscription_bits),
        Org::List(of) => list(of),
        Org::Quota {
            number,
            byte_seconds,
            directory,
        } => quota(directory, number, &byte_seconds),
    }
}

/// The directory of an origin, and its key.
pub(super) fn origin(named: Option<PathBuf>) -> Result<(PathBuf, Signer), Failure> {
    let directory = directory(named)?;
    let key = tls::load(&directory.join(ORIGIN_KEY))?.ok_or_else(|| {
        Failure::NotFound(format!(
            "{} is not the directory of an origin; run this where `treeline-relay run` without \
             --parent runs",
            directory.display()
        ))
    })?;
    Ok((directory, key))
}

fn register(
    named: Option<PathBuf>,
    number: Option<u32>,
    subscription_bits: u8,
) -> Result<(), Failure> {
    let (directory, origin) = origin(named)?;
    let number = organisations::take(&directory, number)?;
    print(registration(&origin, number, subscription_bits)?)
}

fn registration(origin: &Signer, number: u32, subscription_bits: u8) -> Result<String, Failure> {
    let seed = tls::random_signer().map_err(other)?.seed();
    let not_after = now().plus_millis(REGISTRATION_MS);
    let limits = Limits {
        subscription_bits,
        ..Limits::default()
    };
    let registration = Registration::issue_with(origin, number, seed, not_after, limits);
    let registration = registration.map_err(other)?;
    Ok(registration.to_text().to_string())
}

fn list(of: In) -> Result<(), Failure> {
    let (directory, _) = origin(of.directory)?;
    for (number, quota) in organisations::load(&directory)? {
        if of.json {
            print(json!({"version": 1, "number": number, "byte_seconds": quota}))?;
        } else {
            let quota = quota.map_or("default".to_owned(), |quota| quota.to_string());
            print(format_args!("org-{number} {quota}"))?;
        }
    }
    Ok(())
}

fn quota(named: Option<PathBuf>, number: u32, byte_seconds: &str) -> Result<(), Failure> {
    let quota = match byte_seconds {
        "default" => None,
        number => Some(number.parse().map_err(|_| {
            other(format!(
                "`{number}` is no number of byte-seconds, and not `default`"
            ))
        })?),
    };
    let (directory, _) = origin(named)?;
    Ok(organisations::set_quota(&directory, number, quota)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registration_verifies() {
        let origin = Signer::from_seed(&[1; 32]);
        let text = registration(&origin, 5, 78).unwrap();
        let read = Registration::from_text(&text).unwrap();
        assert_eq!((read.org, read.origin), (5, origin.public_key()));
        let grant = proto::Grant::decode(&read.grant).unwrap();
        assert_eq!(grant.limits.subscription_bits, 78);
    }
}
