//! `treeline`: starts the desktop's processes, wires them, starts again what dies, and ends with the
//! window. It is not linked with the web view: what confines the window has to be
//! set before it starts (`window`).

mod window;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use endpoint_secure_client::output::complain;
use endpoint_secure_client::{FrontEnd, StartError, Starter, default_directory};

/// The desktop messenger.
#[derive(Debug, Parser)]
#[command(
    name = "treeline",
    version,
    after_help = "Examples:
  treeline                                the profile of this user
  treeline --directory ~/treeline-work    another profile"
)]
struct Options {
    /// The profile's directory [default: $XDG_DATA_HOME/treeline].
    #[arg(long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// Lets a WebDriver steer the window; only in builds for development.
    #[cfg(debug_assertions)]
    #[arg(long, hide = true)]
    automation: bool,
    /// Becomes the window, confined; the launcher starts itself so.
    #[arg(long, hide = true)]
    become_window: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = if options.become_window {
        window::become_window(options.directory.as_deref(), automation(&options))
    } else {
        run(&options)
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(line) => {
            complain(format_args!("treeline: {line}"));
            ExitCode::from(2)
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let shown = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if !shown("DISPLAY") && !shown("WAYLAND_DISPLAY") {
        return Err(
            "there is no display to open a window on; treeline-chat works in a terminal".into(),
        );
    }
    let directory = options.directory.clone().or_else(default_directory);
    let directory = directory.ok_or("there is no home directory: say --directory DIR")?;
    let window = window::window(&directory, automation(options))?;
    let told = |error: StartError| error.to_string();
    let starter = Starter::start(&directory, FrontEnd::Window(window)).map_err(told)?;
    starter.wait().map_err(told)
}

#[cfg(debug_assertions)]
fn automation(options: &Options) -> bool {
    options.automation
}

#[cfg(not(debug_assertions))]
fn automation(_: &Options) -> bool {
    false
}
