//! The profile's directory, used by one starter at a time.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::StartError;

/// Holds a profile for this process; released when it is dropped or the process ends.
#[derive(Debug)]
pub struct ProfileLock {
    _file: File,
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
    /// Makes the directory, for this user alone, if there is none, and locks it.
    ///
    /// # Errors
    /// [`StartError::InUse`] with the process that has it; [`StartError::Directory`].
    pub fn take(directory: &Path) -> Result<Self, StartError> {
        let failed = |error| StartError::Directory {
            path: directory.to_owned(),
            error,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let mut options = File::options();
        options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600);
        let mut file = options.open(directory.join("lock")).map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.take(20).read_to_string(&mut pid).ok();
            return Err(StartError::InUse {
                path: directory.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
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
}
