//! What a fresh Debian or Ubuntu machine lacks, named before it is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Packages for every build.
pub const BUILD: &[&str] = &["build-essential", "pkg-config", "procps", "libdbus-1-dev"];
/// Packages for the desktop window.
pub const DESKTOP: &[&str] = &["libwebkit2gtk-4.1-dev"];
/// Packages for the front end's own tests, where no other Node is installed.
pub const WEB: &[&str] = &["nodejs", "npm"];
/// Packages that only tests need.
pub const TESTS: &[&str] = &[
    "xvfb",
    "webkit2gtk-driver",
    "xauth",
    "fonts-dejavu-core",
    "iproute2",
    "nftables",
    "avahi-daemon",
    "avahi-utils",
    "dbus-daemon",
    "gnome-keyring",
    "dnsmasq-base",
    "systemd",
];

/// Installs what is missing of these Debian packages.
pub fn packages(wanted: &[&[&str]]) -> Result<()> {
    let missing: Vec<_> = wanted
        .iter()
        .flat_map(|list| list.iter())
        .copied()
        .filter(|name| !installed(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !on_path("apt-get") {
        bail!("these packages are missing, and there is no apt-get to install them: {list}");
    }
    println!("installing Debian packages: {list}");
    let quiet = ["-y", "-qq", "--no-install-recommends"];
    // An old package list is no reason to stop: what is missing is then named by the install.
    as_root("apt-get")
        .args(["update", "-qq"])
        .status()
        .context("apt-get does not start")?;
    let done = as_root("apt-get")
        .arg("install")
        .args(quiet)
        .args(&missing)
        .status()?;
    if !done.success() {
        bail!("apt-get could not install: {list}; install them by hand and run this again");
    }
    Ok(())
}

fn installed(package: &str) -> bool {
    let query = ["-W", "-f", "${db:Status-Status}", package];
    let out = Command::new("dpkg-query")
        .args(query)
        .stderr(Stdio::null())
        .output();
    out.is_ok_and(|out| out.stdout == b"installed")
}

/// `apt-get` as root: by itself where we are, else through sudo.
fn as_root(program: &str) -> Command {
    let mut command = if is_root() {
        Command::new("env")
    } else {
        Command::new("sudo")
    };
    command
        .arg("DEBIAN_FRONTEND=noninteractive")
        .arg(program)
        .stdout(Stdio::null());
    command
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// Whether a program stands on the PATH.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// Runs a command in a folder, its output shown, and fails with its line.
pub fn shown(program: &str, arguments: &[&str], folder: &Path) -> Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    println!("$ {line}");
    let status = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{program} does not start"))?;
    if status.success() {
        Ok(())
    } else {
        bail!("`{line}` failed: {status}")
    }
}

/// Builds packages' binaries with the Cargo that runs us.
pub fn build(arguments: &[&str]) -> Result<()> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".into());
    shown(
        &cargo,
        &[&["build", "--locked", "--bins"], arguments].concat(),
        &crate::root(),
    )
}
