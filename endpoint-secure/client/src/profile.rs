//! The profile's directory, used by one starter at a time.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::owner::{OwnError, Owner};
use rustix::process::{Pid, test_kill_process};

use crate::StartError;

/// How long Secure and Net of an earlier starter may take to end.
const ENDING: Duration = Duration::from_secs(5);
/// How long an earlier starter whose front end is gone may take: as long, and to kill what does not end.
const GONE: Duration = Duration::from_secs(7);
/// A front end that has just ended is there for a moment more.
const GOING: Duration = Duration::from_millis(300);
const LOOK: Duration = Duration::from_millis(20);

/// Holds a profile for this process; released when it is dropped or the process ends.
#[derive(Debug)]
pub struct ProfileLock {
    _owner: Owner,
}

/// Where a profile is without `--directory`: `$XDG_DATA_HOME/treeline`, else `~/.local/share/treeline`.
pub fn default_directory() -> Option<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .filter(|dir| !dir.is_empty())
        .map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/share"));
    data.or_else(home).map(|dir| dir.join("treeline"))
}

impl ProfileLock {
    /// Takes it in this process's name. See [`ProfileLock::take_for`].
    ///
    /// # Errors
    /// The same.
    pub fn take(directory: &Path) -> Result<Self, StartError> {
        Self::take_for(directory, std::process::id())
    }

    /// Makes the directory, for this user alone, if there is none, locks it, and waits until no Secure
    /// and no Net of an earlier holder works in it any more. `named` is the process that others are told
    /// to close.
    ///
    /// # Errors
    /// [`StartError::InUse`] and [`StartError::Ending`] with the process that has it;
    /// [`StartError::Directory`].
    pub(crate) fn take_for(directory: &Path, named: u32) -> Result<Self, StartError> {
        let failed = |error| StartError::Directory {
            path: directory.to_owned(),
            error,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let owner = own(directory, named).map_err(|error| match error {
            OwnError::Held(pid) => StartError::InUse {
                path: directory.to_owned(),
                pid,
            },
            OwnError::Io(error) => failed(error),
        })?;
        for part in ["secure", "net"] {
            // What an earlier starter that was killed had started ends by itself, but not at once.
            let ended = Owner::wait_until_free(&directory.join(part), ENDING);
            ended.map_err(|error| match error {
                OwnError::Held(pid) => StartError::Ending {
                    path: directory.to_owned(),
                    part,
                    pid,
                },
                OwnError::Io(error) => failed(error),
            })?;
        }
        Ok(Self { _owner: owner })
    }
}

/// A starter ends after its front end: it waits for its children. Who has gone is waited for, too.
fn own(directory: &Path, named: u32) -> Result<Owner, OwnError> {
    let begin = Instant::now();
    loop {
        match Owner::take_for(directory, named) {
            Err(OwnError::Held(pid)) if begin.elapsed() < patience(&pid) => thread::sleep(LOOK),
            result => return result,
        }
    }
}

fn patience(pid: &str) -> Duration {
    let pid = pid.parse().ok().and_then(Pid::from_raw);
    let gone = pid.is_some_and(|pid| test_kill_process(pid) == Err(rustix::io::Errno::SRCH));
    if gone { GONE } else { GOING }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_used_once() {
        let directory = tempfile::tempdir().unwrap();
        let lock = ProfileLock::take(directory.path()).unwrap();
        let error = ProfileLock::take(directory.path()).unwrap_err().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        drop(lock);
        ProfileLock::take(directory.path()).unwrap();
    }

    #[test]
    fn a_holder_that_is_gone_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let lock = ProfileLock::take_for(directory.path(), ended.id()).unwrap();
        let ending = thread::spawn(move || {
            // Longer than somebody who is there is waited for.
            thread::sleep(2 * GOING);
            drop(lock);
        });
        ProfileLock::take(directory.path()).unwrap();
        ending.join().unwrap();
    }
}
