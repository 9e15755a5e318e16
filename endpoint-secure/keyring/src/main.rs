//! treeline-keyring: asks the operating system's keyring for the secret of one profile, prints it and
//! ends. treeline-secure starts it, before it is locked down.
//!
//! It is a program of its own so that no bus, and no library of one, is in the process that has the
//! keys. What it prints is of no use without the passphrase and the profile. Source: docs/threats.md,
//! "At rest".

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use data_encoding::HEXLOWER;
use keyring_core::{CredentialStore, Entry, Error};
use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use zeroize::{Zeroize, Zeroizing};

const SERVICE: &str = "Treeline";
const SECRET_BYTES: usize = 32;

fn main() -> ExitCode {
    // Where the system does not allow that, the secret is still only one of two.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).ok();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(2)
        }
    }
}

fn run() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (make, number) = match words[..] {
        ["read", number] => (false, number),
        ["make", number] => (true, number),
        _ => bail!("treeline-secure starts this program: (read|make) NUMBER"),
    };
    let entry = store()?.build(SERVICE, number, None);
    let secret = secret(&entry.context("the keyring")?, make)?;
    ensure!(
        secret.len() == SECRET_BYTES,
        "the keyring's entry for this profile is not ours"
    );
    let mut line = Zeroizing::new(HEXLOWER.encode(&secret));
    line.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .context("nobody reads")
}

/// The profile's secret; a new one where there is none and `make` says so.
fn secret(entry: &Entry, make: bool) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match entry.get_secret() {
        Err(Error::NoEntry) if make => {
            let mut fresh = [0; SECRET_BYTES];
            getrandom::fill(&mut fresh).map_err(|_| anyhow::anyhow!("no randomness"))?;
            let kept = entry.set_secret(&fresh);
            fresh.zeroize();
            kept.context("the keyring keeps nothing")?;
            // What it gives from now on is what counts.
            Ok(Zeroizing::new(entry.get_secret().context("the keyring")?))
        }
        Err(Error::NoEntry) => bail!("the keyring has nothing for this profile"),
        other => Ok(Zeroizing::new(other.context("the keyring")?)),
    }
}

#[cfg(target_os = "linux")]
fn store() -> anyhow::Result<Arc<CredentialStore>> {
    // Asked without a bus, the library would start one on a display.
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let runtime = set("XDG_RUNTIME_DIR").map(std::path::PathBuf::from);
    let bus = runtime.is_some_and(|folder| folder.join("bus").exists());
    ensure!(
        bus || set("DBUS_SESSION_BUS_ADDRESS").is_some(),
        "no session bus here, and so no keyring"
    );
    let store = dbus_secret_service_keyring_store::Store::new();
    Ok(store.context("no keyring answers on the session bus")?)
}

#[cfg(not(target_os = "linux"))]
fn store() -> anyhow::Result<Arc<CredentialStore>> {
    bail!("no keyring is supported on {} yet", std::env::consts::OS)
}
