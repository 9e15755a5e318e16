//! A directory that one process at a time owns: a file in it that the owner holds locked, and that
//! says who it is. The system lets go of it when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;

/// The name of the file.
const FILE: &str = "lock";
/// How often a lock is looked at that should be free soon.
const LOOK: Duration = Duration::from_millis(20);
/// A process id and its line end are shorter than this.
const PID_BYTES: u64 = 20;

/// Holds a directory for this process until it is dropped or the process ends.
#[derive(Debug)]
pub struct Owner {
    _file: File,
}

/// Why a directory cannot be owned.
#[derive(Debug, Error)]
pub enum OwnError {
    /// Another process owns it.
    #[error("it is in use by process {0}; end that first")]
    Held(String),
    /// The file cannot be made or locked.
    #[error("its file `lock` cannot be used: {0}")]
    Io(#[from] io::Error),
}

impl Owner {
    /// Takes a directory, which must exist.
    ///
    /// # Errors
    /// [`OwnError`].
    pub fn take(directory: &Path) -> Result<Self, OwnError> {
        Self::take_for(directory, std::process::id())
    }

    /// Takes a directory in the name of another process, which a person can end.
    ///
    /// # Errors
    /// [`OwnError`].
    pub fn take_for(directory: &Path, named: u32) -> Result<Self, OwnError> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        let mut file = options.mode(0o600).open(directory.join(FILE))?;
        try_lock(&mut file)?;
        // The lock is what counts: on a full disk it holds without a name.
        file.set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{named}"))
            .ok();
        Ok(Self { _file: file })
    }

    /// Waits until nobody owns a directory, which need not exist.
    ///
    /// # Errors
    /// [`OwnError::Held`] when somebody still does after `limit`.
    pub fn wait_until_free(directory: &Path, limit: Duration) -> Result<(), OwnError> {
        let mut file = match File::open(directory.join(FILE)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let until = Instant::now() + limit;
        loop {
            match try_lock(&mut file) {
                Err(OwnError::Held(_)) if Instant::now() < until => thread::sleep(LOOK),
                result => return result,
            }
        }
    }
}

fn try_lock(file: &mut File) -> Result<(), OwnError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error.into()),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            // Its owner may not have written it yet; that it is owned is known anyhow.
            file.rewind().ok();
            file.take(PID_BYTES).read_to_string(&mut pid).ok();
            Err(OwnError::Held(pid.trim().to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_owner_and_is_free_behind_it() {
        let directory = std::env::temp_dir().join(format!("treeline-owner-{}", std::process::id()));
        let wait = |limit| Owner::wait_until_free(&directory, Duration::from_millis(limit));
        wait(0).unwrap();
        std::fs::create_dir(&directory).unwrap();
        let owner = Owner::take(&directory).unwrap();
        let second = Owner::take(&directory).unwrap_err().to_string();
        assert!(second.contains(&std::process::id().to_string()), "{second}");
        assert!(matches!(wait(30), Err(OwnError::Held(_))));
        let leaving = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(owner);
        });
        wait(30_000).unwrap();
        leaving.join().unwrap();
        drop(Owner::take(&directory).unwrap());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
