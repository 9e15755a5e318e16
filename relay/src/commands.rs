//! The commands of `treeline-relay`: what they print, and with which code they end.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Parser, Subcommand};
use proto::{Place, Registration, Signer, limits};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{self, Config, Options};
use crate::driver::now;
use crate::relay::{ORIGIN_KEY, RELAY_KEY, Relay, StartError};
use crate::tls::{self, KeyError};

/// The numbers of registered organisations, one per line, in the origin's directory.
const ORGANISATIONS: &str = "organisations";
/// How long a registration allows an organisation to fill its names: ten years.
const REGISTRATION_MS: u64 = 3653 * limits::DAY_MS;

const EXAMPLES: &str = "Examples:
  treeline-relay run
      a relay for this machine, which is its own origin
  treeline-relay run --directory /srv/cloud --listen '[::]:4470' --tier cloud \\
      --parent origin.example.org:4470#KEY --origin HEX
      a relay below another one; KEY and HEX are what that one printed
  treeline-relay identity --json
  treeline-relay org register --directory /srv/origin > acme.treeline-org
      the text with which one organisation can be founded: a secret";

/// Carries encrypted chunks between endpoints and other relays.
#[derive(Debug, Parser)]
#[command(name = "treeline-relay", version, after_help = EXAMPLES)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a relay until SIGTERM or SIGINT; this is also what no command means
    Run(Box<Options>),
    /// Print the relay's public key, and its origin's if it is one
    Identity {
        /// The relay's directory.
        #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
        directory: Option<PathBuf>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Manage the organisations of an origin
    #[command(subcommand)]
    Org(Org),
}

#[derive(Debug, Subcommand)]
enum Org {
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

/// Why a command fails. One line.
#[derive(Debug, Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The relay cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl Failure {
    /// The exit code (docs/operations.md).
    pub fn code(&self) -> u8 {
        match self {
            Self::Config(_) => 15,
            Self::Key(KeyError::Length(_)) | Self::Start(StartError::Key(KeyError::Length(_))) => {
                12
            }
            Self::NotFound(_) => 10,
            Self::Start(_) | Self::Key(_) | Self::Other(_) => 2,
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`Failure`].
pub fn execute(arguments: Arguments) -> Result<(), Failure> {
    let command = arguments
        .command
        .unwrap_or_else(|| Command::Run(Box::default()));
    match command {
        Command::Run(options) => run(&options),
        Command::Identity { directory, json } => identity(directory, json),
        Command::Org(Org::Register { directory, number }) => register(directory, number),
    }
}

fn config_error(error: anyhow::Error) -> Failure {
    Failure::Config(format!("{error:#}"))
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

fn run(options: &Options) -> Result<(), Failure> {
    let config = Config::load(options).map_err(config_error)?;
    log(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(other)?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
        let relay = Relay::start(&config).await?;
        announce(&relay).map_err(other)?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        relay.stop().await;
        Ok(())
    })
}

/// Tells who started us where the relay is. A closed stdout is no reason to stop relaying.
fn announce(relay: &Relay) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "relay {}", relay.address())?;
    for origin in relay.origins() {
        writeln!(out, "origin {}", origin.to_hex())?;
    }
    writeln!(out, "tier {}", relay.tier().word())?;
    writeln!(out, "ready")?;
    out.flush()
}

fn log(config: &Config) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log)
        .map_err(|_| Failure::Config(format!("log filter `{}` cannot be read", config.log)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false);
    let set = if config.log_json {
        builder.json().try_init()
    } else {
        builder.try_init()
    };
    set.map_err(other)
}

fn identity(named: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let directory = config::directory(named).map_err(config_error)?;
    let key = tls::load(&directory.join(RELAY_KEY))?.ok_or_else(|| {
        Failure::NotFound(format!(
            "no relay has run in {} yet; start one with `treeline-relay run --directory DIR`",
            directory.display()
        ))
    })?;
    let key = key.public_key().to_hex();
    let origin = tls::load(&directory.join(ORIGIN_KEY))?.map(|own| own.public_key().to_hex());
    let mut out = io::stdout().lock();
    let printed = if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({"version": 1, "key": key, "origin": origin})
        )
    } else {
        let origin = origin.map_or(String::new(), |origin| format!("origin {origin}\n"));
        write!(out, "key {key}\n{origin}")
    };
    printed.map_err(other)
}

fn register(named: Option<PathBuf>, number: Option<u32>) -> Result<(), Failure> {
    let directory = config::directory(named).map_err(config_error)?;
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
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Arguments::command().debug_assert();
    }

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
