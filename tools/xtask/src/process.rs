//! Child processes that are started again when something kills them, as systemd would.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};

const RESTARTS: u32 = 20;
/// Profiles that are made to be looked at are no business of the keyring of who runs us.
pub const NO_KEYRING: [(&str, &str); 1] = [("DBUS_SESSION_BUS_ADDRESS", "disabled:")];
/// How long a program may run whose output is waited for: what never comes is an error, and no hanging.
const MOST_SECONDS: &str = "900";
/// How a filter ends a process: a defect, which starting again would hide.
const SIGSYS: i32 = 31;

/// A binary of the product: beside us, or for a test, which stands in `deps`, one folder above.
pub fn binary(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the own executable has no path")?;
    let folder = own.parent().context("the own executable is in no folder")?;
    let folder = match folder.parent() {
        Some(above) if folder.ends_with("deps") => above,
        _ => folder,
    };
    let path = folder.join(name);
    if path.is_file() {
        Ok(path)
    } else {
        bail!("{} has not been built", path.display())
    }
}

/// Runs a program to its end, of a quarter of an hour at most, and returns its standard output.
pub fn output(program: &str, arguments: &[&str]) -> Result<String> {
    // Of coreutils; its exit code is 124 then.
    let out = Command::new("timeout")
        .args(["--kill-after=10", MOST_SECONDS])
        .arg(binary(program)?)
        .args(arguments)
        .envs(NO_KEYRING)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} does not start"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        bail!(
            "{program} {} failed ({}): {}",
            arguments.join(" "),
            out.status,
            said.trim()
        );
    }
    String::from_utf8(out.stdout).context("the output is not text")
}

/// A program that is kept running until it ends by itself or is stopped.
pub struct Process {
    name: String,
    state: Arc<State>,
    ended: Receiver<Result<(), String>>,
}

struct State {
    pid: Mutex<Option<u32>>,
    stopping: AtomicBool,
}

impl Process {
    /// Starts a program whose standard output goes to a file, and starts it again, with the file
    /// emptied, when a signal ends it.
    pub fn start(name: &str, program: &str, arguments: &[&str], out: &Path) -> Result<Self> {
        let path = binary(program)?;
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let out = out.to_owned();
        let errors = out.with_extension("log");
        let spawn = move || -> Result<Child> {
            let log = std::fs::File::options()
                .create(true)
                .append(true)
                .open(&errors)?;
            let mut command = Command::new(&path);
            command.args(&arguments).stdin(Stdio::null()).stderr(log);
            command.envs(NO_KEYRING);
            command.stdout(std::fs::File::create(&out)?);
            command
                .spawn()
                .with_context(|| format!("{} does not start", path.display()))
        };
        let state = Arc::new(State {
            pid: Mutex::new(None),
            stopping: AtomicBool::new(false),
        });
        let first = spawn()?;
        let (done, ended) = sync_channel(1);
        let (own, label) = (Arc::clone(&state), name.to_owned());
        own.set(first.id());
        thread::spawn(move || done.send(own.keep(&label, first, spawn)));
        Ok(Self {
            name: name.to_owned(),
            state,
            ended,
        })
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id at this moment.
    pub fn pid(&self) -> Option<u32> {
        *self
            .state
            .pid
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for it to end by itself.
    pub fn wait(&self, limit: Duration) -> Result<()> {
        match self.ended.recv_timeout(limit) {
            Ok(result) => result.map_err(|line| anyhow!("{line}")),
            Err(RecvTimeoutError::Timeout) => {
                bail!("{} has not ended after {} s", self.name, limit.as_secs())
            }
            Err(RecvTimeoutError::Disconnected) => bail!("{} has ended before", self.name),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.state.stopping.store(true, Ordering::SeqCst);
        if let Some(pid) = self.pid() {
            signal(pid, "TERM");
            if self.ended.recv_timeout(Duration::from_secs(5)).is_err() {
                self.pid().inspect(|pid| signal(*pid, "KILL"));
            }
        }
    }
}

impl State {
    fn set(&self, pid: u32) {
        *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = Some(pid);
    }

    fn keep(
        &self,
        name: &str,
        mut child: Child,
        spawn: impl Fn() -> Result<Child>,
    ) -> Result<(), String> {
        for _ in 0..RESTARTS {
            let status = child.wait().map_err(|e| e.to_string())?;
            *self.pid.lock().unwrap_or_else(PoisonError::into_inner) = None;
            if status.success() || self.stopping.load(Ordering::SeqCst) {
                return Ok(());
            }
            if status.code().is_some() {
                return Err(format!("{name} ended with {status}; see its .log file"));
            }
            if status.signal() == Some(SIGSYS) {
                return Err(format!("{name} was ended by its filter (SIGSYS)"));
            }
            println!("{name} was ended by a signal ({status}); starting it again");
            child = spawn().map_err(|e| e.to_string())?;
            self.set(child.id());
        }
        Err(format!("{name} was ended by signals {RESTARTS} times"))
    }
}

/// Sends a signal to one process by its id.
pub fn signal(pid: u32, name: &str) {
    // A process that has just ended is not there any more, which is what was wanted.
    Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .ok();
}

/// The child of a process that has this name, or its starter's child.
pub fn child_of(parent: u32, name: &str) -> Option<u32> {
    let all = all();
    let child = |parent: u32, name: &str| {
        let is = |one: &&Running| one.parent == parent && name.starts_with(&one.name);
        all.iter().find(is).map(|one| one.pid)
    };
    let starter = || child(parent, "treeline-starter");
    child(parent, name).or_else(|| child(starter()?, name))
}

/// A process, with the name that the system keeps: its first 15 letters.
struct Running {
    pid: u32,
    parent: u32,
    name: String,
}

fn all() -> Vec<Running> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let running = entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        let (head, tail) = stat.rsplit_once(") ")?;
        let name = head.split_once('(')?.1.to_owned();
        let parent = tail.split(' ').nth(1)?.parse().ok()?;
        Some(Running { pid, parent, name })
    });
    running.filter(|one| !one.name.is_empty()).collect()
}

/// Waits until a file holds a line that begins so, and returns the rest of that line.
pub fn line_in(file: &Path, beginning: &str, limit: Duration) -> Result<String> {
    let until = Instant::now() + limit;
    loop {
        if let Ok(open) = std::fs::File::open(file) {
            for line in BufReader::new(open).lines().map_while(Result::ok) {
                if let Some(rest) = line.strip_prefix(beginning) {
                    return Ok(rest.trim().to_owned());
                }
            }
        }
        if Instant::now() > until {
            let log = std::fs::read_to_string(file.with_extension("log")).unwrap_or_default();
            bail!(
                "{} has no line `{beginning}…` after {} s; {}",
                file.display(),
                limit.as_secs(),
                log.trim()
            );
        }
        thread::sleep(Duration::from_millis(20));
    }
}
