//! The README's two commands: `cargo xtask run` and `cargo xtask test`.
//!
//! Both bring what they need, say so before they do, can be run again at any time, and end with a
//! line that says what is missing. Nothing here is part of the product.

use std::process::ExitCode;

use clap::Parser;
use xtask::{run, suites};

/// Sets up, runs and tests Treeline.
#[derive(Parser)]
#[command(name = "cargo xtask", after_help = EXAMPLES)]
enum Job {
    /// Starts three relays and two people, and lets them chat.
    Run(run::Options),
    /// Runs every test.
    Test(suites::Options),
}

const EXAMPLES: &str = "Examples:
  cargo xtask run                                  two desktop windows, or two terminal clients without a display
  cargo xtask run --headless --input book.txt      every line of a file, both ways, compared byte by byte
  cargo xtask run --headless --input book.txt --kill secure-alice
  cargo xtask test                                 everything
  cargo xtask test --only lints                    one step";

fn main() -> ExitCode {
    let result = match Job::parse() {
        Job::Run(options) => run::run(&options),
        Job::Test(options) => suites::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::from(2)
        }
    }
}
