//! `treeline-bench`: what the relay costs, as ratios to a floor that is measured in the same run, and
//! what a team's group costs.
//!
//! A relay is a process of its own, the release binary beside this one, so that its CPU and its memory
//! can be told from the clients'. The floor is a process of this program that copies bytes over the
//! same transport with the same settings and does nothing else. Absolute figures of a shared machine
//! say little: look at the ratios. Source: docs/performance.md.

use std::process::ExitCode;

use clap::{Args, Parser};

mod cases;
mod floor;
mod impostor;
mod link;
mod load;
mod process;
mod report;

use report::Report;

/// Measures the relay against floors of the same run, and a team's group.
#[derive(Parser)]
#[command(name = "treeline-bench", version, after_help = EXAMPLES)]
struct Options {
    #[command(subcommand)]
    case: Case,
    /// Also write each row as one JSON object per line to this file.
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<std::path::PathBuf>,
    /// How often each row is measured; the medians are shown.
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    runs: usize,
}

const EXAMPLES: &str = "Examples:
  cargo build --release -p relay -p bench
  target/release/treeline-bench publish
  target/release/treeline-bench fanout --readers 100,1000
  target/release/treeline-bench subscriptions --json subscriptions.ndjson

Build the relay in release, too: it is started from the folder of this program.";

#[derive(clap::Subcommand)]
enum Case {
    /// Publishes, each chunk acknowledged when it is on disk.
    Publish(cases::publish::Options),
    /// One publisher, many readers.
    Fanout(cases::fanout::Options),
    /// A new reader gets everything that is stored.
    Catchup(cases::catchup::Options),
    /// What finding the subscriptions of a chunk costs, by their number; memory of each.
    Subscriptions(cases::subscriptions::Options),
    /// What others notice of clients that misbehave.
    Hostile(cases::hostile::Options),
    /// What the operations of a team's group cost, in bytes and time.
    Groups(cases::groups::Options),
    /// The floor's process; started by the other cases.
    #[command(hide = true)]
    Floor(FloorOptions),
}

#[derive(Args)]
struct FloorOptions {
    transport: link::Transport,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("treeline-bench: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let mut report = Report::new(options.json.as_deref(), options.runs)?;
    runtime.block_on(async {
        match &options.case {
            Case::Publish(case) => cases::publish::run(case, &mut report).await,
            Case::Fanout(case) => cases::fanout::run(case, &mut report).await,
            Case::Catchup(case) => cases::catchup::run(case, &mut report).await,
            Case::Subscriptions(case) => cases::subscriptions::run(case, &mut report),
            Case::Hostile(case) => cases::hostile::run(case, &mut report).await,
            Case::Groups(case) => cases::groups::run(case, &mut report),
            Case::Floor(case) => floor::run(case.transport).await,
        }
    })?;
    report.show();
    Ok(())
}
