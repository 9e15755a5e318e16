//! `treeline-relay`: the command line of the relay library, and nothing else.

use std::process::ExitCode;

use relay::commands::{Arguments, Failure, execute};

fn main() -> ExitCode {
    match execute(Arguments::from_command_line()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Said(code)) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("treeline-relay: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
