//! treeline-secure: the process that has the keys and the text, and no network.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Parser;
use endpoint_secure::device::Device;
use endpoint_secure::lock::Cost;
use endpoint_secure::shell::{self, Shell};
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
    match start(&arguments) {
        Ok(device) => {
            Shell::new(device).run();
            ExitCode::SUCCESS
        }
        Err(error) => {
            let line = format!("{error:#}");
            shell::tell(b'L', line.as_bytes());
            eprintln!("treeline-secure: {line}");
            ExitCode::from(2)
        }
    }
}

fn start(arguments: &Arguments) -> anyhow::Result<Device> {
    if rustix::net::sockopt::socket_type(std::io::stdin()).ok()
        != Some(rustix::net::SocketType::SEQPACKET)
    {
        bail!("descriptor 0 is no control socket; start treeline or treeline-chat instead");
    }
    // What this process writes is nobody else's business.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let directory = &arguments.directory;
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("{} cannot be created", directory.display()))?;
    Device::open(directory, Cost::FULL)
        .with_context(|| format!("the profile in {} cannot be opened", directory.display()))
}
