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
    /// The local relay's address with its key, for people to use.
    pub local: String,
    directory: PathBuf,
}

impl Tree {
    /// Starts the relays with stores below `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory)?;
        let (origin, root, key) = relay(directory, "origin", &[])?;
        let (cloud, middle, _) = relay(directory, "cloud", &["--parent", &root, "--origin", &key])?;
        let (near, local, _) = relay(directory, "local", &["--parent", &middle, "--origin", &key])?;
        println!(
            "three relays: origin {root}\n              cloud  {middle}\n              local  {local}"
        );
        Ok(Self {
            relays: vec![origin, cloud, near],
            local,
            directory: directory.to_owned(),
        })
    }

    /// Lets one organisation be founded: the text that `treeline-member org create` wants.
    pub fn register(&self) -> Result<String> {
        let origin = self.directory.join("origin");
        output(
            "treeline-relay",
            &["org", "register", "--directory", &origin.to_string_lossy()],
        )
    }
}

/// Starts one relay; returns it, its address with key, and its origin's key.
fn relay(directory: &Path, tier: &str, more: &[&str]) -> Result<(Process, String, String)> {
    let store = directory.join(tier).to_string_lossy().into_owned();
    let out = directory.join(format!("{tier}.out"));
    // The port is chosen here, so that a relay that is started again is found where it was.
    let listen = free_address()?;
    let base = [
        "run",
        "--directory",
        &store,
        "--tier",
        tier,
        "--listen",
        &listen,
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

fn free_address() -> Result<String> {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0")?;
    Ok(socket.local_addr()?.to_string())
}
