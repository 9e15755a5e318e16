//! treeline-starter: what a terminal client starts before it confines itself. It starts, wires and
//! starts again Secure and Net, which need what the client gives up, and hands each new door to it.
//!
//! It reads no door and knows no passphrase. See docs/architecture.md, "Starting and wiring".

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_client::{FrontEnd, Starter};

/// Starts Secure and Net for treeline-chat or treeline-member, which hand it a control socket as
/// descriptor 0.
#[derive(Debug, Parser)]
#[command(name = "treeline-starter", version)]
struct Arguments {
    /// The profile's directory.
    #[arg(long)]
    directory: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let control = Control::inherited().and_then(|control| Ok((control.try_clone()?, control)));
    let (words, control) = match control {
        Ok(both) => both,
        Err(error) => {
            eprintln!("treeline-starter: {error}");
            return ExitCode::from(2);
        }
    };
    let starter = Starter::start(&arguments.directory, FrontEnd::Terminal(control));
    match starter.and_then(|starter| starter.wait()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The client tells its person; one that is gone needs no line.
            words
                .send(Tag::Line, error.to_string().as_bytes(), None)
                .ok();
            ExitCode::from(2)
        }
    }
}
