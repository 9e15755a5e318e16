//! Three relays on loopback: origin, cloud, local, each the parent of the next.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Result, bail};

use crate::process::{Process, line_in, output};

const START: Duration = Duration::from_secs(30);
/// Ports looked at in search of a free one.
const PORTS_TRIED: usize = 100;

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

/// An address on loopback that nothing uses at this moment, over UDP and over TCP. It lies below the
/// numbers that the system gives to sockets without one, so that none of those takes it meanwhile, and
/// so does the number of the relay's admin listener.
///
/// # Errors
/// When all that were tried are in use.
pub fn free_address() -> Result<String> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..PORTS_TRIED {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let number = process::id().wrapping_mul(101).wrapping_add(next) % 10_000;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 10_000 + u16::try_from(number)?));
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return Ok(address.to_string());
        }
    }
    bail!("no port is free on loopback")
}
