//! Three relays on loopback: origin, cloud, local, each the parent of the next.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::process::{Process, line_in, output};

const START: Duration = Duration::from_secs(30);

/// The running tree.
pub struct Tree {
    /// The relays, root first.
    pub relays: Vec<Process>,
    /// The relays' addresses with their keys, root first.
    pub places: [String; 3],
    /// The local one of them, for people to use.
    pub local: String,
    /// The origin's public key, in hex.
    pub origin: String,
    addresses: [String; 3],
    directory: PathBuf,
}

impl Tree {
    /// Starts the relays with stores below `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        // The ports are chosen here, so that a relay that is started again is found where it was.
        Self::start_at(
            directory,
            [free_address()?, free_address()?, free_address()?],
        )
    }

    /// Starts the relays of an earlier tree again, where they were.
    pub fn restart(directory: &Path, earlier: &Self) -> Result<Self> {
        Self::start_at(directory, earlier.addresses.clone())
    }

    fn start_at(directory: &Path, addresses: [String; 3]) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let [top, middle, bottom] = &addresses;
        let (origin, above, key) = relay(directory, "origin", top, &[])?;
        let (cloud, between, _) = relay(
            directory,
            "cloud",
            middle,
            &["--parent", &above, "--origin", &key],
        )?;
        let (near, local, _) = relay(
            directory,
            "local",
            bottom,
            &["--parent", &between, "--origin", &key],
        )?;
        println!("relay-origin {above}\nrelay-cloud  {between}\nrelay-local  {local}");
        let relays = vec![origin, cloud, near];
        Ok(Self {
            relays,
            places: [above, between, local.clone()],
            local,
            origin: key,
            addresses,
            directory: directory.to_owned(),
        })
    }

    /// Lets one organisation be founded: the text that `treeline-member org create` wants.
    pub fn register(&self) -> Result<String> {
        register(&self.directory.join("origin"))
    }
}

/// Lets one organisation be founded at the origin with this store.
///
/// # Errors
/// When the store is no origin's.
pub fn register(origin: &Path) -> Result<String> {
    output(
        "treeline-relay",
        &["org", "register", "--directory", &origin.to_string_lossy()],
    )
}

/// Starts one relay; returns it, its address with key, and its origin's key. Its store is below
/// `directory`, in a folder of the tier's name.
///
/// # Errors
/// When it does not get ready; its own last line is in the error.
pub fn relay(
    directory: &Path,
    tier: &str,
    listen: &str,
    more: &[&str],
) -> Result<(Process, String, String)> {
    let store = directory.join(tier).to_string_lossy().into_owned();
    let out = directory.join(format!("{tier}.out"));
    let base = [
        "run",
        "--directory",
        &store,
        "--tier",
        tier,
        "--listen",
        listen,
    ];
    let process = Process::start(
        &format!("relay-{tier}"),
        "treeline-relay",
        &[&base, more].concat(),
        &out,
    )?;
    line_in(&out, "ready", START)?;
    Ok((
        process,
        line_in(&out, "relay ", START)?,
        line_in(&out, "origin ", START)?,
    ))
}

/// An address on loopback that nothing uses at this moment.
pub fn free_address() -> Result<String> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    Ok(socket.local_addr()?.to_string())
}
