//! `cargo xtask test`: every test there is, step by step.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use clap::Args;

use crate::setup::{self, shown};

/// Which tests to run.
#[derive(Args)]
pub struct Options {
    /// Only this step: format, web, lints, rust or dependencies.
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
}

type Step = (&'static str, fn() -> Result<()>);

const STEPS: &[Step] = &[
    ("format", format),
    ("web", web),
    ("lints", lints),
    ("rust", rust),
    ("dependencies", dependencies),
];

/// Sets up and runs the steps; the first that fails ends the run.
pub fn run(options: &Options) -> Result<()> {
    let start = Instant::now();
    setup::packages(&[setup::BUILD, setup::DESKTOP, setup::TESTS])?;
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    if !STEPS.iter().any(|(name, _)| wanted(name)) {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        bail!("--only takes one of: {}", names.join(", "));
    }
    for (name, step) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        let begun = Instant::now();
        println!("== {name}");
        step()?;
        println!("== {name}: passed in {} s", begun.elapsed().as_secs());
    }
    println!("all tests passed in {} s", start.elapsed().as_secs());
    Ok(())
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    shown(&cargo, arguments, &crate::root())
}

fn format() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])
}

fn lints() -> Result<()> {
    cargo(&[
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--",
        "--deny",
        "warnings",
    ])
}

/// Binaries first: the process and window tests start them.
fn rust() -> Result<()> {
    setup::build(&["--workspace"])?;
    cargo(&["test", "--locked", "--workspace"])
}

/// Licences, sources and banned crates. The tool is built once into the target folder.
fn dependencies() -> Result<()> {
    let tools = crate::root().join("target/tools");
    let tool = tools.join("bin/cargo-deny");
    if !tool.is_file() {
        println!(
            "installing cargo-deny from crates.io into {}",
            tools.display()
        );
        let root = tools.to_string_lossy().into_owned();
        cargo(&[
            "install",
            "--locked",
            "--debug",
            "--quiet",
            "cargo-deny",
            "--version",
            "0.20.2",
            "--root",
            &root,
        ])?;
    }
    let check = [
        "--log-level",
        "error",
        "check",
        "bans",
        "licenses",
        "sources",
    ];
    shown(&tool.to_string_lossy(), &check, &crate::root())
}

/// The front end's own tests, and that the committed page is what its sources build.
fn web() -> Result<()> {
    let folder = crate::root().join("endpoint-ui");
    if !setup::on_path("node") || !setup::on_path("npm") {
        setup::packages(&[setup::WEB])?;
    }
    ensure!(
        node_is_recent(),
        "the front end's tests need Node 20.19 or later, and this system's is older: install it from \
         nodejs.org and run this again"
    );
    shown("npm", &["ci", "--no-audit", "--no-fund"], &folder)?;
    shown("npm", &["test"], &folder)
}

fn node_is_recent() -> bool {
    let Ok(out) = Command::new("node").arg("--version").output() else {
        return false;
    };
    let text = String::from_utf8_lossy(&out.stdout)
        .trim()
        .trim_start_matches('v')
        .to_owned();
    let mut parts = text.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    version >= (20, 19)
}
