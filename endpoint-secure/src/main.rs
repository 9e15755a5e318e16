//! treeline-secure: the process that has the keys and the text, and no network.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use endpoint_secure::device::Device;
use endpoint_secure::lock::Cost;
use endpoint_secure::shell::Shell;
use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_api::owner::Owner;
use rustix::fs::Mode;

/// Keeps the keys and the text of one profile. It is started by treeline, treeline-chat or
/// treeline-member, which hand it a control socket as descriptor 0.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The directory of the profile's keys and store.
    #[arg(long)]
    directory: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_env("TREELINE_LOG"))
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("treeline-secure: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let control = Control::inherited()?;
    match open(arguments) {
        Ok((device, _owner)) => {
            Shell::new(device, control)?.run();
            Ok(())
        }
        Err(error) => {
            let line = format!("{error:#}");
            // The starter may be gone; the exit code says the same.
            control.send(Tag::Line, line.as_bytes(), None).ok();
            Err(error)
        }
    }
}

/// Opens the device, and holds its directory: two processes with one ratchet would be a catastrophe.
fn open(arguments: &Arguments) -> anyhow::Result<(Device, Owner)> {
    // What this process writes is nobody else's business.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let directory = &arguments.directory;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("{} cannot be created", directory.display()))?;
    let cannot = || format!("the profile in {} cannot be opened", directory.display());
    let owner = Owner::take(directory).with_context(cannot)?;
    let device = Device::open(directory, Cost::FULL).with_context(cannot)?;
    Ok((device, owner))
}
