//! The profile's directory, used by one starter at a time.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use endpoint_secure_api::owner::{OwnError, Owner};

use crate::StartError;

/// How long Secure and Net of an earlier starter may take to end.
const ENDING: Duration = Duration::from_secs(5);

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
    /// Makes the directory, for this user alone, if there is none, locks it, and waits until no Secure
    /// and no Net of an earlier holder works in it any more.
    ///
    /// # Errors
    /// [`StartError::InUse`] and [`StartError::Ending`] with the process that has it;
    /// [`StartError::Directory`].
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
        let owner = Owner::take(directory).map_err(|error| match error {
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
