//! The organisations that an origin has registered, and how much each may keep: lines of
//! `NUMBER [BYTE_SECONDS]` in the origin's directory. Who holds an organisation's key is not here.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use proto::Place;
use thiserror::Error;

/// The file, in the directory of an origin.
pub const ORGANISATIONS: &str = "organisations";

/// Why organisations cannot be read or changed. One line: what, where, what to do.
#[derive(Debug, Error)]
pub enum OrganisationError {
    /// The file cannot be used.
    #[error("cannot use {path}: {source}; check its owner and mode")]
    File {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A line is no organisation.
    #[error(
        "{path}, line {line}: this is no organisation; write its number, a blank and its byte-seconds, or the number alone"
    )]
    Line {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
    /// The number is taken.
    #[error("organisation {0} is registered already")]
    Taken(u32),
    /// The number is no organisation's.
    #[error("organisation {0} is not between 1 and {max}", max = Place::ORG_MAX)]
    Number(u32),
    /// Nobody has registered it.
    #[error(
        "organisation {0} is not registered here; `treeline-relay org list` prints those that are"
    )]
    Unknown(u32),
}

/// Organisations by number, each with its quota in byte-seconds, if it has one of its own.
pub type Organisations = BTreeMap<u32, Option<u64>>;

/// Reads the organisations of a directory; none when there is no file.
///
/// # Errors
/// [`OrganisationError::File`], [`OrganisationError::Line`].
pub fn load(directory: &Path) -> Result<Organisations, OrganisationError> {
    let path = directory.join(ORGANISATIONS);
    match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Organisations::new()),
        Err(error) => Err(failed(&path, error)),
        Ok(mut file) => read(&mut file, &path),
    }
}

/// Takes a number that no organisation has, this one or the next, and writes it down.
///
/// # Errors
/// [`OrganisationError`].
pub fn take(directory: &Path, wanted: Option<u32>) -> Result<u32, OrganisationError> {
    change(directory, |known| {
        let number = match wanted {
            Some(number) if known.contains_key(&number) => {
                return Err(OrganisationError::Taken(number));
            }
            Some(number) => number,
            None => known.keys().max().map_or(1, |last| last + 1),
        };
        if !(1..=Place::ORG_MAX).contains(&number) {
            return Err(OrganisationError::Number(number));
        }
        known.insert(number, None);
        Ok(number)
    })
}

/// Gives an organisation a quota in byte-seconds, or takes its own away.
///
/// # Errors
/// [`OrganisationError`].
pub fn set_quota(
    directory: &Path,
    number: u32,
    quota: Option<u64>,
) -> Result<(), OrganisationError> {
    change(directory, |known| match known.get_mut(&number) {
        None => Err(OrganisationError::Unknown(number)),
        Some(own) => {
            *own = quota;
            Ok(())
        }
    })
}

/// One writer at a time; the file is replaced in one step.
fn change<T>(
    directory: &Path,
    change: impl FnOnce(&mut Organisations) -> Result<T, OrganisationError>,
) -> Result<T, OrganisationError> {
    let path = directory.join(ORGANISATIONS);
    let lock = || {
        let held = File::open(directory)?;
        held.lock().map(|()| held)
    };
    let _one = lock().map_err(|error| failed(directory, error))?;
    let mut known = load(directory)?;
    let result = change(&mut known)?;
    let write = || {
        let fresh = directory.join(format!("{ORGANISATIONS}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(true)
            .open(&fresh)?;
        for (number, quota) in &known {
            match quota {
                Some(quota) => writeln!(file, "{number} {quota}")?,
                None => writeln!(file, "{number}")?,
            }
        }
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| failed(&path, error))?;
    Ok(result)
}

fn read(file: &mut File, path: &Path) -> Result<Organisations, OrganisationError> {
    let mut text = String::new();
    file.read_to_string(&mut text)
        .map_err(|error| failed(path, error))?;
    let lines = text.lines().enumerate();
    lines
        .map(|(index, line)| {
            parse(line).ok_or_else(|| OrganisationError::Line {
                path: path.display().to_string(),
                line: index + 1,
            })
        })
        .collect()
}

fn parse(line: &str) -> Option<(u32, Option<u64>)> {
    let (number, quota) = match line.split_once(' ') {
        None => (line, None),
        Some((number, quota)) => (number, Some(quota.parse().ok()?)),
    };
    Some((number.parse().ok()?, quota))
}

fn failed(path: &Path, source: io::Error) -> OrganisationError {
    OrganisationError::File {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(take(path, None).unwrap(), 1);
        assert_eq!(take(path, Some(7)).unwrap(), 7);
        assert_eq!(take(path, None).unwrap(), 8);
        assert!(take(path, Some(7)).is_err());
        assert!(take(path, Some(0)).is_err());
        assert!(take(path, Some(Place::ORG_MAX + 1)).is_err());
    }

    #[test]
    fn quotas_are_kept_by_number() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        take(path, Some(3)).unwrap();
        take(path, Some(4)).unwrap();
        set_quota(path, 3, Some(1000)).unwrap();
        assert_eq!(load(path).unwrap(), [(3, Some(1000)), (4, None)].into());
        set_quota(path, 3, None).unwrap();
        assert_eq!(load(path).unwrap(), [(3, None), (4, None)].into());
        assert!(set_quota(path, 5, None).is_err());
        fs::write(path.join(ORGANISATIONS), "3\nx\n").unwrap();
        assert!(load(path).unwrap_err().to_string().contains("line 2"));
    }
}
