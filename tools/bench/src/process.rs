//! The processes that are measured: a relay, or the floor. They end with this program.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto::{PublicKey, Registration};
use relay::address::RelayAddress;
use tempfile::TempDir;

use crate::link::Transport;

/// What may be said to a relay that is to be loaded from one address, against its own defaults.
const OPEN: &str = "[transport]\nconnections_per_address = 4096\nhandshakes = 4096\n";

/// A relay's directory in its folder.
const STORE: &str = "store";

/// In which Linux counts a process's CPU time (proc_pid_stat(5)), on every architecture that we build for.
const TICKS_PER_SECOND: u64 = 100;

/// A process with what it costs.
pub struct Process {
    child: Child,
    /// Where it listens.
    pub address: RelayAddress,
    /// Its files, removed with it.
    directory: TempDir,
}

impl Process {
    /// A relay that is its own origin, with an empty store, and an organisation there.
    pub fn relay() -> Result<(Self, Registration)> {
        let process = Self::relay_with(&[])?;
        let registration = process.register()?;
        Ok((process, registration))
    }

    /// A relay of this origin, below that relay.
    pub fn below(parent: &RelayAddress, origin: &PublicKey) -> Result<Self> {
        let RelayAddress { place, key } = parent;
        let parent = format!("{place}#{}", key.to_hex());
        Self::relay_with(&["--parent", &parent, "--origin", &origin.to_hex()])
    }

    fn relay_with(more: &[&str]) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let config = directory.path().join("relay.toml");
        fs::write(&config, OPEN)?;
        let mut command = sibling("treeline-relay")?;
        command
            .args(["run", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--directory")
            .arg(directory.path().join(STORE))
            .args(["--log", "error"])
            .args(more);
        Self::start(command, directory)
    }

    /// Another organisation, at a relay that is an origin.
    pub fn register(&self) -> Result<Registration> {
        let made = sibling("treeline-relay")?
            .args(["org", "register", "--directory"])
            .arg(self.directory.path().join(STORE))
            .output()?;
        let text = String::from_utf8_lossy(&made.stdout).into_owned();
        Ok(Registration::from_text(&text)?)
    }

    /// The floor over a transport.
    pub fn floor(transport: Transport) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["floor", transport.word()]);
        Self::start(command, tempfile::tempdir()?)
    }

    fn start(mut command: Command, directory: TempDir) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("{} does not start", command.get_program().display()))?;
        let out = BufReader::new(child.stdout.take().context("a piped stdout")?);
        let mut address = None;
        for line in out.lines() {
            let line = line?;
            if let Some(text) = line.strip_prefix("relay ") {
                address = Some(text.parse()?);
            }
            if line == "ready" {
                break;
            }
        }
        let Some(address) = address else {
            let _ = child.kill();
            bail!("a process to be measured did not become ready");
        };
        Ok(Self {
            child,
            address,
            directory,
        })
    }

    /// CPU time used since it began, by all its threads.
    pub fn cpu(&self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The second field is the name in parentheses, which may hold anything.
        let rest = stat.rsplit_once(')').context("a process's stat line")?.1;
        let field = |n: usize| -> Result<u64> {
            Ok(rest
                .split_whitespace()
                .nth(n)
                .context("its fields")?
                .parse()?)
        };
        let ticks = field(11)? + field(12)?;
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Resident memory in bytes.
    pub fn memory(&self) -> Result<u64> {
        memory(self.child.id())
    }
}

/// Resident memory of a process, in bytes.
pub fn memory(process: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib: u64 = line
        .and_then(|line| line.split_whitespace().nth(1))
        .context("a process's memory")?
        .parse()?;
    Ok(kib * 1024)
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended by itself is as good.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn sibling(name: &str) -> Result<Command> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.is_file() {
        bail!(
            "{} is not there: build it with the same profile",
            path.display()
        );
    }
    Ok(Command::new(path))
}
