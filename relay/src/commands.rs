//! The commands of `treeline-relay`: what they print, and with which code they end.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use pages::Pages;
use thiserror::Error;

use crate::config::{self, Options};
use crate::organisations::OrganisationError;
use crate::pins::PinsError;
use crate::relay::{ORIGIN_KEY, RELAY_KEY, StartError};
use crate::tls::{self, KeyError};

mod check;
mod doctor;
mod gc;
mod org;
mod run;
mod status;
mod trust;

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
    Run(Box<Run>),
    /// Print each value in force and where it came from, and every mistake
    CheckConfig {
        #[command(flatten)]
        options: Box<Options>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Look for what keeps the relay from its work, and say what to do
    Doctor {
        #[command(flatten)]
        options: Box<Options>,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Print how the relay that runs in a directory is
    Status(In),
    /// Print the relay's public key, and its origin's if it is one
    Identity(In),
    /// Manage the keys of relays that are found by mDNS
    #[command(subcommand)]
    Trust(trust::Trust),
    /// Manage the organisations of an origin
    #[command(subcommand)]
    Org(org::Org),
    /// Remove what has expired and give the room back to the disk; the relay must not run
    Gc {
        #[command(flatten)]
        options: Box<Options>,
        /// Remove nothing, and list exactly what would go: name and bytes.
        #[arg(long)]
        dry_run: bool,
        /// Print JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    #[command(flatten)]
    Pages(Pages),
}

#[derive(Debug, Clone, Default, Args)]
struct Run {
    #[command(flatten)]
    options: Options,
    /// Move the store aside and begin an empty one; what the parent has comes back.
    #[arg(long)]
    rebuild: bool,
}

/// Which relay a command is about.
#[derive(Debug, Clone, Args)]
struct In {
    /// The relay's directory; it may be in use.
    #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
    directory: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Arguments {
    /// Reads the command line and the environment; ends the process with 2 when they are wrong.
    pub fn from_command_line() -> Self {
        let mut words: Vec<OsString> = std::env::args_os().collect();
        if words.len() < 2 {
            words.push("run".into());
        }
        let matches = Self::command().get_matches_from(words);
        let mut arguments = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        arguments.note_sources(&matches);
        arguments
    }

    fn note_sources(&mut self, matches: &ArgMatches) {
        let Some((_, inner)) = matches.subcommand() else {
            return;
        };
        match &mut self.command {
            Some(Command::Run(run)) => run.options.sources(inner),
            Some(Command::CheckConfig { options, .. } | Command::Doctor { options, .. }) => {
                options.sources(inner);
            }
            _ => {}
        }
    }
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
    /// The pins cannot be used.
    #[error(transparent)]
    Pins(#[from] PinsError),
    /// The organisations cannot be used.
    #[error(transparent)]
    Organisation(#[from] OrganisationError),
    /// Somebody else uses it.
    #[error("{0}")]
    Locked(String),
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
    /// It has been said already, in more than one line.
    #[error("see above")]
    Said(u8),
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
            Self::Pins(PinsError::Changed { .. }) => 12,
            Self::NotFound(_) | Self::Organisation(OrganisationError::Unknown(_)) => 10,
            Self::Locked(_) => 11,
            Self::Unreachable(_) => 13,
            Self::Said(code) => *code,
            Self::Start(_)
            | Self::Key(_)
            | Self::Pins(_)
            | Self::Organisation(_)
            | Self::Other(_) => 2,
        }
    }
}

/// Runs a command to its end.
///
/// # Errors
/// [`Failure`].
pub fn execute(arguments: Arguments) -> Result<(), Failure> {
    match arguments
        .command
        .unwrap_or_else(|| Command::Run(Box::default()))
    {
        Command::Run(run) => run::run(&run.options, run.rebuild),
        Command::CheckConfig { options, json } => check::check(&options, json),
        Command::Doctor { options, json } => doctor::doctor(&options, json),
        Command::Status(of) => status::status(of.directory, of.json),
        Command::Identity(of) => identity(of.directory, of.json),
        Command::Trust(trust) => trust::execute(trust),
        Command::Org(org) => org::execute(org),
        Command::Gc {
            options,
            dry_run,
            json,
        } => gc::gc(&options, dry_run, json),
        Command::Pages(pages) => pages.write::<Arguments>().map_err(other),
    }
}

/// The directory that a command is about.
fn directory(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    config::directory(named).map_err(config_error)
}

/// Prints a line, or an object with a version.
fn print(text: impl std::fmt::Display) -> Result<(), Failure> {
    writeln!(io::stdout().lock(), "{text}").map_err(other)
}

fn config_error(error: anyhow::Error) -> Failure {
    Failure::Config(format!("{error:#}"))
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

fn identity(named: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let directory = directory(named)?;
    let key = tls::load(&directory.join(RELAY_KEY))?.ok_or_else(|| {
        Failure::NotFound(format!(
            "no relay has run in {} yet; start one with `treeline-relay run --directory DIR`",
            directory.display()
        ))
    })?;
    let (key, words) = (key.public_key().to_hex(), key.public_key().words());
    let origin = tls::load(&directory.join(ORIGIN_KEY))?.map(|own| own.public_key().to_hex());
    let mut out = io::stdout().lock();
    let printed = if json {
        writeln!(
            out,
            "{}",
            serde_json::json!({"version": 1, "key": key, "words": words, "origin": origin})
        )
    } else {
        let origin = origin.map_or(String::new(), |origin| format!("origin {origin}\n"));
        write!(out, "key {key}\nwords {words}\n{origin}")
    };
    printed.map_err(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
