//! `treeline-member`: makes organisations, teams, channels and invites, adds and removes devices.
//!
//! A front end like the others: it drives treeline-secure through the door, so an admin's keys are
//! where all keys are. It holds none, and knows no network.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod devices;
mod invites;
mod jobs;
mod options;
mod organisations;

use std::alloc::System;
use std::process::ExitCode;

use clap::Parser;
use zeroizing_alloc::ZeroAlloc;

use crate::options::Options;

/// What is freed is overwritten: a passphrase goes through here.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let options = Options::parse();
    match jobs::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("treeline-member"),
    }
}
