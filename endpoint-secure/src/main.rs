//! treeline-secure: the process that has the keys and the text, and no network.

use std::alloc::System;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use confinement::{Enclosed, Places, Role};
use endpoint_secure::device::Device;
use endpoint_secure::lock::Cost;
use endpoint_secure::lock::device_secret::{self, DeviceSecret};
use endpoint_secure::shell::Shell;
use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_api::owner::Owner;
use rustix::fs::Mode;
use tracing::level_filters::LevelFilter;
use zeroizing_alloc::ZeroAlloc;

/// What is freed is overwritten: no text and no key outlives its use.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

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
    // What this process writes is nobody else's business.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    let made = make(&arguments.directory);
    // Before anything is taken away: the keyring is reached over a bus.
    let secret = device_secret::fetch(&arguments.directory);
    let own = vec![arguments.directory.clone()];
    let enclosed = confinement::enclose(
        Role::Secure,
        &Places {
            own,
            ..Places::default()
        },
    );
    // What is missing of the confinement is a warning, and never silent.
    let filter = tracing_subscriber::EnvFilter::builder()
        .with_env_var("TREELINE_LOG")
        .with_default_directive(LevelFilter::WARN.into())
        .from_env_lossy();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    if let Err(why) = &secret {
        tracing::info!(why, "no secret of a keyring");
    }
    match run(&arguments, made, secret, enclosed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("treeline-secure: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(
    arguments: &Arguments,
    made: anyhow::Result<()>,
    secret: Result<DeviceSecret, String>,
    enclosed: Enclosed,
) -> anyhow::Result<()> {
    let control = Control::inherited()?;
    match made.and_then(|()| open(&arguments.directory)) {
        Ok((mut device, _owner)) => {
            device.bind(secret);
            let shell = Shell::new(device, control)?;
            shell.run(enclosed.seal());
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

/// Makes the directory, which confinement has to find.
fn make(directory: &Path) -> anyhow::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    let made = builder.create(directory);
    made.with_context(|| format!("{} cannot be created", directory.display()))
}

/// Opens the device, and holds its directory: two processes with one ratchet would be a catastrophe.
fn open(directory: &Path) -> anyhow::Result<(Device, Owner)> {
    let cannot = || format!("the profile in {} cannot be opened", directory.display());
    let owner = Owner::take(directory).with_context(cannot)?;
    let device = Device::open(directory, Cost::FULL).with_context(cannot)?;
    Ok((device, owner))
}
