//! The starter: two or three children, the pipes between them, and what happens when one dies.
//!
//! One thread decides. A thread a child waits for its end, another reads its control socket; both
//! only report. See docs/architecture.md, "Starting and wiring".

mod children;

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use endpoint_secure_api::control::Control;
use thiserror::Error;

use crate::ProfileLock;
pub(crate) use children::sibling;
use children::{Children, Report};

/// Who gets the front end's end of each new door.
#[derive(Debug)]
pub enum FrontEnd {
    /// The terminal client that has started this process, over its control socket. The starter ends
    /// with it.
    Terminal(Control),
    /// A window's process, started and started again like the others.
    Window(Window),
}

/// The window's process: what to start.
#[derive(Debug, Clone)]
pub struct Window {
    /// Its program.
    pub program: PathBuf,
    /// What it is told.
    pub arguments: Vec<OsString>,
    /// Variables to set for it, and (without a value) to remove.
    pub environment: Vec<(String, Option<String>)>,
}

/// Why an endpoint does not start or go on.
#[derive(Debug, Error)]
pub enum StartError {
    /// Another process has the profile.
    #[error("the profile {} is in use by process {pid}; close that first", path.display())]
    InUse {
        /// The profile.
        path: PathBuf,
        /// Its holder.
        pid: String,
    },
    /// What an earlier starter had started has not ended.
    #[error(
        "treeline-{part} of an earlier start, process {pid}, still works in the profile {}; end it, then \
         try again",
        path.display()
    )]
    Ending {
        /// The profile.
        path: PathBuf,
        /// Which part: `secure` or `net`.
        part: &'static str,
        /// The process.
        pid: String,
    },
    /// The directory cannot be made or written.
    #[error("the profile directory {} cannot be used: {error}", path.display())]
    Directory {
        /// The profile.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A program is not where it should be.
    #[error("{} does not start: {error}", program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// No control socket can be made.
    #[error("no processes can be started: {0}")]
    Control(#[source] io::Error),
    /// The terminal front end does not keep to what it may send.
    #[error("the front end has sent its starter what it may not; are all programs of one version?")]
    WrongFront,
    /// A child ended again and again; its own last line.
    #[error("{0}")]
    LastWords(String),
}

/// A running starter. Dropping it ends the children: they are told by the end of their control
/// sockets, waited for, and killed after five seconds.
pub struct Starter {
    reports: SyncSender<Report>,
    outcome: Arc<Outcome>,
    thread: Option<JoinHandle<()>>,
}

/// How the starter's thread ended.
#[derive(Default)]
struct Outcome {
    result: Mutex<Option<Result<(), String>>>,
    set: Condvar,
}

/// Reports wait here; senders block when it is full, which is what bounds a chattering child.
const REPORTS: usize = 64;

impl Starter {
    /// Locks the profile and starts the children, whose programs stand beside our own.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(directory: &Path, front: FrontEnd) -> Result<Self, StartError> {
        let named = match &front {
            FrontEnd::Terminal(_) => std::os::unix::process::parent_id(),
            FrontEnd::Window(_) => std::process::id(),
        };
        let lock = ProfileLock::take_for(directory, named)?;
        let (reports, incoming) = sync_channel(REPORTS);
        let outcome = Arc::new(Outcome::default());
        let mut children = Children::start(directory, front, reports.clone())?;
        let done = Arc::clone(&outcome);
        let thread = thread::spawn(move || {
            let result = children.serve(&incoming);
            children.end(&incoming);
            drop(lock);
            *done.lock() = Some(result.map_err(|error| error.to_string()));
            done.set.notify_all();
        });
        Ok(Self {
            reports,
            outcome,
            thread: Some(thread),
        })
    }

    /// Waits until the front end has ended, or a child cannot be kept running.
    ///
    /// # Errors
    /// [`StartError::LastWords`].
    pub fn wait(&self) -> Result<(), StartError> {
        let mut result = self.outcome.lock();
        loop {
            if let Some(result) = result.clone() {
                return result.map_err(StartError::LastWords);
            }
            result = self
                .outcome
                .set
                .wait(result)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Outcome {
    fn lock(&self) -> MutexGuard<'_, Option<Result<(), String>>> {
        self.result.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // The thread may have ended by itself; then there is nobody to tell.
        self.reports.send(Report::Stop).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}
