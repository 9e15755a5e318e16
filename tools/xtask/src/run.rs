//! `cargo xtask run`: the whole product on one machine.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Args;

use crate::people::provision;
use crate::tree::Tree;
use crate::{conversation, setup, windows};

/// What to run.
#[derive(Args)]
pub struct Options {
    /// Two terminal clients instead of two windows (the default without a display).
    #[arg(long)]
    pub headless: bool,
    /// A text file whose every line is sent from one to the other, and back.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// Ends this process with kill -9 in the middle of each direction, to see that nothing is lost:
    /// client-, secure- or net-, then alice or bob; relay-local, relay-cloud, relay-origin. May be
    /// given several times: one after the other, the sender's first.
    #[arg(long, value_name = "NAME", requires = "input")]
    pub kill: Vec<String>,
    /// Where the run's files go; emptied first [default: target/run].
    #[arg(long, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Uses the binaries beside this one as they are.
    #[arg(long)]
    pub no_build: bool,
}

const HEADLESS: &[&str] = &[
    "--package",
    "relay",
    "--package",
    "endpoint-net",
    "--package",
    "endpoint-secure",
    "--package",
    "endpoint-secure-client",
    "--package",
    "endpoint-secure-keyring",
    "--package",
    "chat",
    "--package",
    "member",
    "--package",
    "dump",
];
const DESKTOP: &[&str] = &["--package", "endpoint-ui", "--package", "launcher"];

/// Sets up, starts everything, and drives it.
pub fn run(options: &Options) -> Result<()> {
    let input = options.input.as_ref().map(|path| {
        fs::canonicalize(path).with_context(|| format!("--input {} cannot be read", path.display()))
    });
    let input = input.transpose()?;
    let headless = options.headless || input.is_some() || !windows::display();
    if !options.no_build {
        prepare(headless)?;
    }
    let directory = options
        .directory
        .clone()
        .unwrap_or_else(|| crate::root().join("target/run"));
    if directory.exists() {
        fs::remove_dir_all(&directory).context("the last run's files cannot be removed")?;
    }
    fs::create_dir_all(&directory)?;
    let start = Instant::now();
    let tree = Tree::start(&directory.join("relays"))?;
    let people = provision(&directory, &tree)?;
    println!(
        "set up in {:.1} s; files in {}",
        start.elapsed().as_secs_f64(),
        directory.display()
    );
    match (headless, input) {
        (false, _) => windows::open(&directory, &people),
        (true, None) => conversation::short(&directory, &tree, &people),
        (true, Some(input)) => {
            conversation::file(&directory, &tree, &people, &input, &options.kill)
        }
    }
}

fn prepare(headless: bool) -> Result<()> {
    if headless {
        setup::packages(&[setup::BUILD])?;
        return setup::build(HEADLESS);
    }
    setup::packages(&[setup::BUILD, setup::DESKTOP])?;
    setup::build(&[HEADLESS, DESKTOP].concat())
}
