//! The pinned relays of a directory: which key a relay that was found by mDNS has to show. A person
//! compares a relay's key once and pins it; from then on another key under its name is refused.
//!
//! It asks nobody and knows no network. Relays of the configuration are not here: their key stands
//! in their address; nor are relays that the origin's own record names.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use proto::PublicKey;
use thiserror::Error;

/// The file, in the directory of a relay or of Net: lines of `KEY NAME`.
pub const PINS: &str = "pins";
/// Pins in a file, at most: each was made by a person.
const PINS_MAX: usize = 1024;
/// Bytes of a name, at most: longer than an mDNS instance name or `HOST:PORT` can be.
pub const NAME_BYTES_MAX: usize = 280;
/// Bytes of a file that can be whole.
const FILE_BYTES_MAX: u64 = (PINS_MAX * (NAME_BYTES_MAX + 66)) as u64;

/// A relay that a person has compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Under what it is found: its mDNS instance name, or what the operator called it.
    pub name: String,
    /// The key that it must show.
    pub key: PublicKey,
}

/// What the pins say of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Its key is pinned.
    Pinned,
    /// Neither its name nor its key is pinned: a person has to compare it first.
    Unknown,
    /// Its name is pinned with this other key: it must not be used.
    Changed(PublicKey),
}

/// Why pins cannot be read or changed. One line: what, where, what to do.
#[derive(Debug, Error)]
pub enum PinsError {
    /// The file cannot be used.
    #[error("cannot use the pins in {path}: {source}; check its owner and mode")]
    File {
        /// Where.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A line is no pin.
    #[error(
        "{path}, line {line}: this is no pin; write 64 hex digits, a blank and a name, or remove the line"
    )]
    Line {
        /// Which file.
        path: String,
        /// Which line, from 1.
        line: usize,
    },
    /// The name is pinned with another key.
    #[error(
        "{name} is pinned with the key {key}; find out why its key changed, then `treeline-relay trust remove {name}` first"
    )]
    Changed {
        /// The name.
        name: String,
        /// The key that is pinned.
        key: String,
    },
    /// A name that cannot stand in the file.
    #[error("`{0}` is no name for a pin: it has 1 to {NAME_BYTES_MAX} bytes in one line")]
    Name(String),
    /// There are too many.
    #[error("{path} holds {PINS_MAX} pins already; remove those that are not used")]
    Full {
        /// Which file.
        path: String,
    },
}

/// The pins of a directory, as they were when they were read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pins(Vec<Pin>);

impl FromIterator<Pin> for Pins {
    fn from_iter<I: IntoIterator<Item = Pin>>(pins: I) -> Self {
        Self(pins.into_iter().collect())
    }
}

impl Pins {
    /// Reads the pins of a directory; none when there is no file.
    ///
    /// # Errors
    /// [`PinsError::File`], [`PinsError::Line`].
    pub fn load(directory: &Path) -> Result<Self, PinsError> {
        let path = directory.join(PINS);
        let text = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(failed(&path, error)),
            Ok(file) => {
                let mut text = String::new();
                file.take(FILE_BYTES_MAX)
                    .read_to_string(&mut text)
                    .map_err(|error| failed(&path, error))?;
                text
            }
        };
        let mut pins = Vec::new();
        for (index, line) in text.lines().enumerate() {
            pins.push(parse(line).ok_or_else(|| PinsError::Line {
                path: path.display().to_string(),
                line: index + 1,
            })?);
        }
        if pins.len() > PINS_MAX {
            return Err(PinsError::Full {
                path: path.display().to_string(),
            });
        }
        Ok(Self(pins))
    }

    /// What they say of a relay that shows `key` under `name`.
    pub fn judge(&self, name: &str, key: PublicKey) -> Verdict {
        match self.0.iter().find(|pin| pin.name == name) {
            Some(pin) if pin.key != key => Verdict::Changed(pin.key),
            Some(_) => Verdict::Pinned,
            None if self.0.iter().any(|pin| pin.key == key) => Verdict::Pinned,
            None => Verdict::Unknown,
        }
    }

    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl Iterator<Item = &Pin> {
        self.0.iter()
    }
}

/// Pins a relay in a directory; a second time changes nothing.
///
/// # Errors
/// [`PinsError`]; above all [`PinsError::Changed`].
pub fn add(directory: &Path, pin: &Pin) -> Result<(), PinsError> {
    if !is_name(&pin.name) {
        return Err(PinsError::Name(pin.name.chars().take(80).collect()));
    }
    let _one = lock(directory)?;
    let mut pins = Pins::load(directory)?;
    match pins.judge(&pin.name, pin.key) {
        Verdict::Changed(key) => Err(PinsError::Changed {
            name: pin.name.clone(),
            key: key.to_hex(),
        }),
        Verdict::Pinned if pins.0.contains(pin) => Ok(()),
        Verdict::Pinned | Verdict::Unknown if pins.0.len() == PINS_MAX => Err(PinsError::Full {
            path: directory.join(PINS).display().to_string(),
        }),
        Verdict::Pinned | Verdict::Unknown => {
            pins.0.push(pin.clone());
            save(directory, &pins)
        }
    }
}

/// Removes the pins with this name or with this key in hex, and returns them.
///
/// # Errors
/// [`PinsError::File`], [`PinsError::Line`].
pub fn remove(directory: &Path, which: &str) -> Result<Vec<Pin>, PinsError> {
    let _one = lock(directory)?;
    let mut pins = Pins::load(directory)?;
    let key = PublicKey::from_hex(which);
    let meant = |pin: &mut Pin| pin.name == which || Some(pin.key) == key;
    let removed: Vec<Pin> = pins.0.extract_if(.., meant).collect();
    if !removed.is_empty() {
        save(directory, &pins)?;
    }
    Ok(removed)
}

fn parse(line: &str) -> Option<Pin> {
    let (key, name) = line.split_once(' ')?;
    is_name(name).then_some(Pin {
        key: PublicKey::from_hex(key)?,
        name: name.to_owned(),
    })
}

fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.trim() == name
        && !name.chars().any(char::is_control)
}

fn failed(path: &Path, source: io::Error) -> PinsError {
    PinsError::File {
        path: path.display().to_string(),
        source,
    }
}

/// One writer at a time. The relay's own lock is another: it may run meanwhile.
fn lock(directory: &Path) -> Result<File, PinsError> {
    let take = || {
        let held = File::open(directory)?;
        held.lock().map(|()| held)
    };
    take().map_err(|error| failed(directory, error))
}

fn save(directory: &Path, pins: &Pins) -> Result<(), PinsError> {
    let path = directory.join(PINS);
    let fresh: PathBuf = directory.join(format!("{PINS}.new"));
    let text: String = pins
        .iter()
        .map(|pin| format!("{} {}\n", pin.key.to_hex(), pin.name))
        .collect();
    let write = || {
        let mut file = File::create(&fresh)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&fresh, &path)?;
        File::open(directory)?.sync_all()
    };
    write().map_err(|error| failed(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(name: &str, byte: u8) -> Pin {
        Pin {
            name: name.into(),
            key: PublicKey([byte; 32]),
        }
    }

    #[test]
    fn a_changed_key_is_told_from_an_unknown_relay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(Pins::load(path).unwrap(), Pins::default());
        add(path, &pin("ward relay", 1)).unwrap();
        add(path, &pin("ward relay", 1)).unwrap();
        let pins = Pins::load(path).unwrap();
        assert_eq!(pins.iter().count(), 1);
        let judge = |name, byte| pins.judge(name, PublicKey([byte; 32]));
        assert_eq!(judge("ward relay", 1), Verdict::Pinned);
        assert_eq!(judge("renamed", 1), Verdict::Pinned);
        assert_eq!(judge("renamed", 2), Verdict::Unknown);
        let changed = Verdict::Changed(PublicKey([1; 32]));
        assert_eq!(judge("ward relay", 2), changed);
        let refused = add(path, &pin("ward relay", 2)).unwrap_err();
        assert!(matches!(refused, PinsError::Changed { .. }), "{refused}");
    }

    #[test]
    fn pins_go_by_name_and_by_key() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
            add(path, &pin(name, byte)).unwrap();
        }
        assert_eq!(remove(path, "b").unwrap(), [pin("b", 2)]);
        assert_eq!(
            remove(path, &PublicKey([3; 32]).to_hex()).unwrap(),
            [pin("c", 3)]
        );
        assert_eq!(remove(path, "nobody").unwrap(), []);
        assert_eq!(Pins::load(path).unwrap(), Pins(vec![pin("a", 1)]));
    }

    #[test]
    fn a_damaged_file_is_named_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        add(path, &pin("a", 1)).unwrap();
        let text = fs::read_to_string(path.join(PINS)).unwrap() + "junk\n";
        fs::write(path.join(PINS), text).unwrap();
        let error = Pins::load(path).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains('\n'), "{error}");
        for name in ["", " a", "a\nb", &"x".repeat(NAME_BYTES_MAX + 1)] {
            assert!(matches!(add(path, &pin(name, 1)), Err(PinsError::Name(_))));
        }
    }
}
