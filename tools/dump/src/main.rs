//! `treeline-dump`: backs up the chunks of a tree of relays, and publishes them again.
//!
//! It is a client of a relay like any other. What it keeps is what relays carry, so that it has, and
//! needs, no key of any organisation, team or device.

mod diff;
mod dump;
mod failure;
mod files;
mod folder;
mod grants;
mod link;
mod list;
mod manifest;
mod options;
mod output;
mod undump;
mod verify;

use std::process::ExitCode;

use clap::Parser;

use crate::failure::Failure;
use crate::options::{Job, Options};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("treeline-dump: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    let json = options.json;
    match &options.job {
        Job::Dump(job) => until_interrupted(dump::run(job, json)),
        Job::Undump(job) => until_interrupted(undump::run(job, json)),
        Job::Verify(job) => verify::run(job, json),
        Job::Ls(job) => list::run(job, json),
        Job::Diff(job) => diff::run(job, json),
        Job::Pages(pages) => pages.write::<Options>().map_err(Failure::General),
    }
}

/// Runs a job on the network. The link lives on a thread of its own, so that a slow disk does not
/// silence it.
fn until_interrupted(job: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::General(format!("cannot start a thread: {error}")))?;
    runtime.block_on(async {
        tokio::select! {
            result = job => result,
            _ = tokio::signal::ctrl_c() => Err(Failure::Interrupted),
        }
    })
}
