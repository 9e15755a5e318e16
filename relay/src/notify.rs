//! Telling the service manager how the service is (sd_notify(3)): one datagram per word to the
//! socket that `NOTIFY_SOCKET` names, or nothing at all without one.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// How often [`Notify::alive`] has to be called, if the manager watches: twice in its time.
    pub every: Option<Duration>,
}

impl Notify {
    /// Reads what the manager said in the environment.
    pub fn from_environment() -> Self {
        let manager = std::env::var_os("NOTIFY_SOCKET").and_then(|path| {
            let path = path.as_bytes();
            let place = match path.strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name),
                None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(path)),
            };
            place
                .and_then(|place| Ok((UnixDatagram::unbound()?, place)))
                .ok()
        });
        let number = |name| std::env::var(name).ok()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let every = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0);
        Self {
            every: every
                .filter(|_| manager.is_some())
                .map(|usec| Duration::from_micros((usec / 2).max(1))),
            manager,
        }
    }

    /// It serves; `status` is one line for people.
    pub fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    /// It reads its configuration again; [`Notify::ready`] follows.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1000;
        self.say(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// It ends.
    pub fn stopping(&self) {
        self.say("STOPPING=1");
    }

    /// It is alive.
    pub fn alive(&self) {
        self.say("WATCHDOG=1");
    }

    fn say(&self, words: &str) {
        let Some((socket, manager)) = &self.manager else {
            return;
        };
        let sent: io::Result<usize> = socket.send_to_addr(words.as_bytes(), manager);
        if let Err(error) = sent {
            tracing::debug!("cannot tell the service manager: {error}");
        }
    }
}
