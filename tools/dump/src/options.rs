//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pages::Pages;
use proto::Tier;

const EXAMPLES: &str = "Examples:
  treeline-dump dump treeline://3fa2b1 backup --relay 10.0.0.5:4470#ab12…
      everything of an origin; again into the same directory, it adds what is new
  treeline-dump dump treeline://3fa2b1/message/org-1/team-2 ward3 --relay 10.0.0.5:4470#ab12…
  treeline-dump verify backup --signer 90cd…
  treeline-dump ls backup --json
  treeline-dump diff backup older
  treeline-dump undump backup --relay 10.0.0.5:4470#ab12… --wait origin

Exit codes: 0 ok, 1 partial, 2 usage or general error, 10 not found, 11 locked, 12 wrong key,
13 unreachable, 14 verification failed, 130 interrupted.";

/// Backs up what relays carry, which is encrypted, and publishes it again.
#[derive(Debug, Parser)]
#[command(name = "treeline-dump", version, after_help = EXAMPLES)]
pub struct Options {
    /// Prints JSON, one object a line, each with `"v":1`.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub job: Job,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Job {
    /// Writes every chunk under a prefix, and the grants that they need, to a directory.
    Dump(DumpOptions),
    /// Publishes a dump again; what is there already is left alone.
    Undump(UndumpOptions),
    /// Verifies a dump: its manifest, its files, and the chunks' own signatures.
    Verify(VerifyOptions),
    /// Lists how many chunks a dump has, by path and team.
    Ls(LsOptions),
    /// Lists what one dump has that the other lacks; ends with 1 if there is anything.
    Diff(DiffOptions),
    #[command(flatten)]
    Pages(Pages),
}

#[derive(Debug, Args)]
pub struct DumpOptions {
    /// What to dump, as treeline://<origin>/<path>/org-<n>/team-<n>/…, cut after any part.
    pub prefix: String,
    /// Where to; made if it is not there. A dump of the same prefix in it is brought up to date.
    pub dir: PathBuf,
    /// The relay to read from, HOST:PORT#KEY as treeline-relay prints it.
    #[arg(long, value_name = "ADDRESS")]
    pub relay: String,
    /// The seed of the key that signs the manifest; made if it is not there
    /// [default: $XDG_STATE_HOME/treeline/dump.key]
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// How long nothing may come before the dump ends, at a relay that has others above it.
    #[arg(long, value_name = "SECONDS", default_value_t = 2,
        value_parser = clap::value_parser!(u64).range(..=3600))]
    pub settle: u64,
}

#[derive(Debug, Args)]
pub struct UndumpOptions {
    /// The dump.
    pub dir: PathBuf,
    /// The relay to publish at, HOST:PORT#KEY as treeline-relay prints it.
    #[arg(long, value_name = "ADDRESS")]
    pub relay: String,
    /// Waits until every chunk is on the disk of this tier [default: the relay's own]
    #[arg(long, value_enum, value_name = "TIER")]
    pub wait: Option<TierName>,
    /// Refuses a dump that another key has signed: 64 hex digits.
    #[arg(long, value_name = "KEY")]
    pub signer: Option<String>,
    /// The origin's key, 64 hex digits: refuses a dump whose grants are another's.
    #[arg(long, value_name = "KEY")]
    pub origin: Option<String>,
    /// Publishes nothing, and says what would be.
    #[arg(long)]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct VerifyOptions {
    /// The dump.
    pub dir: PathBuf,
    /// Refuses a dump that another key has signed: 64 hex digits.
    #[arg(long, value_name = "KEY")]
    pub signer: Option<String>,
    /// The origin's key, 64 hex digits, to verify the first grant of every chain with.
    #[arg(long, value_name = "KEY")]
    pub origin: Option<String>,
}

#[derive(Debug, Args)]
pub struct LsOptions {
    /// The dump.
    pub dir: PathBuf,
    /// Lists the name of every chunk.
    #[arg(long)]
    pub names: bool,
}

#[derive(Debug, Args)]
pub struct DiffOptions {
    /// A dump.
    pub first: PathBuf,
    /// Another dump.
    pub second: PathBuf,
}

/// A tier as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum TierName {
    /// A relay on the local network.
    Local,
    /// A relay in the cloud.
    Cloud,
    /// The root.
    Origin,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Local => Self::Local,
            TierName::Cloud => Self::Cloud,
            TierName::Origin => Self::Origin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Options::command().debug_assert();
    }
}
