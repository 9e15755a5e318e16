//! Relays of the local network: who was found, and what a person says of them.

use std::time::{Duration, Instant};

use endpoint_secure_api::{Answer, Command, Event, Relay, Standing};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::output::{object, say};
use endpoint_secure_client::terminal::{Failure, hear, unexpected};

use crate::channel::PATIENCE;
use crate::options::{Relays, Whether};

/// Carries out a command on relays.
pub fn run(endpoint: &Endpoint, json: bool, job: &Relays) -> Result<(), Failure> {
    match job {
        Relays::List { wait } => {
            let other = |relay: &Relay| relay.standing != Standing::Own;
            for relay in found(endpoint, *wait, |relays| relays.iter().any(other))? {
                print(json, &relay);
            }
            Ok(())
        }
        Relays::Trust { key, wait } => {
            let key = key.to_ascii_lowercase();
            found(endpoint, *wait, |all| {
                all.iter().any(|relay| relay.key == key)
            })?;
            done(endpoint, &Command::TrustRelay { key })
        }
        Relays::Refuse { key } => {
            let key = key.to_ascii_lowercase();
            found(endpoint, 10, |all| all.iter().any(|relay| relay.key == key))?;
            done(endpoint, &Command::RefuseRelay { key })
        }
        Relays::Forget { key } => {
            let key = key.to_ascii_lowercase();
            done(endpoint, &Command::ForgetRelay { key })
        }
        Relays::Serve { whether } => {
            let serve = match whether {
                Whether::On => Some(true),
                Whether::Off => Some(false),
                Whether::Auto => None,
            };
            done(endpoint, &Command::ServeLan { serve })
        }
    }
}

/// Says which relays wait to be judged.
pub fn tell(endpoint: &Endpoint) -> Result<(), Failure> {
    for relay in found(endpoint, 0, |_| true)? {
        match relay.standing {
            Standing::Unknown => say(format_args!(
                "-- found a relay: {}; compare the words, then: treeline-chat relays trust {}",
                relay.words, relay.key
            )),
            Standing::Changed => say(format_args!(
                "-- the relay {} shows another key than before: it is not used",
                relay.name
            )),
            Standing::Own | Standing::Trusted | Standing::Refused => {}
        }
    }
    Ok(())
}

fn done(endpoint: &Endpoint, command: &Command) -> Result<(), Failure> {
    match endpoint.call_when_back(command, PATIENCE)? {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

/// The relays, as soon as they are enough, or when the time is over.
fn found(
    endpoint: &Endpoint,
    seconds: u64,
    enough: impl Fn(&[Relay]) -> bool,
) -> Result<Vec<Relay>, Failure> {
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let Answer::Relays(relays) = endpoint.call_when_back(&Command::Relays, PATIENCE)? else {
            return Err(unexpected());
        };
        let left = until.saturating_duration_since(Instant::now());
        if enough(&relays) || left.is_zero() {
            return Ok(relays);
        }
        while let Some(event) = hear(endpoint, left) {
            if event == Event::Relays {
                break;
            }
        }
    }
}

fn print(json: bool, relay: &Relay) {
    if json {
        return object("relay", relay);
    }
    let standing = match relay.standing {
        Standing::Unknown => "not judged yet",
        Standing::Changed => "OTHER KEY",
        Standing::Own => "this device",
        Standing::Trusted => "trusted",
        Standing::Refused => "refused",
    };
    let Relay {
        words, key, name, ..
    } = relay;
    say(format_args!("{standing}  {words}  {key}  {name}"));
}
