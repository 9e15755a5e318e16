//! What the operating system takes away from each of our processes, so that whoever takes one over
//! has no more than that one: one interface, one implementation for each platform.
//!
//! It decides nothing at run time: which role may do what stands in tables (`linux/calls.rs`,
//! `linux/files.rs`). It never refuses to start a process because the kernel lacks a part; it says
//! what is missing. Source: docs/threats.md, "Confinement".
//!
//! Call [`enclose`] first thing in `main`, before any thread and any open file; then start every
//! thread that the process will ever need; then [`Enclosed::seal`].

mod isolation;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

#[cfg(not(target_os = "linux"))]
mod none_yet;
#[cfg(not(target_os = "linux"))]
use none_yet as platform;

use std::path::PathBuf;

pub use isolation::Isolation;

/// Which of our processes it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// treeline-secure: keys and text, no network, no new thread after [`Enclosed::seal`].
    Secure,
    /// treeline-net: network, ciphertext.
    Net,
    /// treeline-relay: network, ciphertext, a listener.
    Relay,
    /// treeline-ui and its web processes: text and a display, no network. Set before `exec`.
    Window,
    /// treeline-chat and treeline-member: text and a terminal, no network.
    Terminal,
    /// As [`Role::Window`], and TCP on the one port at which a WebDriver steers it; only builds for
    /// development start a window so.
    SteeredWindow,
}

impl Role {
    /// All that are part of the product.
    pub const ALL: [Self; 5] = [
        Self::Secure,
        Self::Net,
        Self::Relay,
        Self::Window,
        Self::Terminal,
    ];

    /// Its name, for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::Net => "net",
            Self::Relay => "relay",
            Self::Window => "window",
            Self::Terminal => "terminal",
            Self::SteeredWindow => "steered window",
        }
    }
}

/// The places in the file system that a process needs, beyond what its role needs on every machine.
/// A place that is not there is left out.
#[derive(Debug, Clone, Default)]
pub struct Places {
    /// Its own directories: read, written, filled and emptied, but nothing in them is run.
    pub own: Vec<PathBuf>,
    /// Files and directories that it reads.
    pub read: Vec<PathBuf>,
    /// Programs that it starts.
    pub run: Vec<PathBuf>,
    /// The port at which a WebDriver steers it.
    pub driver: Option<u16>,
}

/// Hides this process's memory from others of the same user, and its core, and says how well. A program
/// that was executed has to do it again.
#[must_use = "nobody else says that it failed"]
pub fn hide() -> Isolation {
    let mut missing = isolation::Missing::default();
    platform::hide(&mut missing);
    missing.isolation()
}

/// A process that is enclosed, and may still start threads.
#[must_use = "without `seal` every system call stays open"]
pub struct Enclosed {
    role: Role,
    missing: isolation::Missing,
}

/// Takes away privileges, core dumps, inherited descriptors and every file but those of `places`.
pub fn enclose(role: Role, places: &Places) -> Enclosed {
    let mut missing = isolation::Missing::default();
    platform::enclose(role, places, &mut missing);
    Enclosed { role, missing }
}

impl Enclosed {
    /// Takes away every system call that the role does not need, from all threads, for good.
    pub fn seal(mut self) -> Isolation {
        platform::seal(self.role, &mut self.missing);
        let isolation = self.missing.isolation();
        match isolation {
            Isolation::Full => tracing::info!(role = self.role.name(), %isolation, "confined"),
            _ => tracing::warn!(role = self.role.name(), %isolation, "confined in part only"),
        }
        isolation
    }
}
