//! `treeline-relay`: the command line of the relay library, and nothing else.

use std::process::ExitCode;

use clap::Parser;
use relay::commands::{Arguments, execute};

fn main() -> ExitCode {
    match execute(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("treeline-relay: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
