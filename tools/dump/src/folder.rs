//! The directory of a dump. A dump is there from the moment its manifest is, and is replaced in that
//! same step: whatever ends a run before it leaves the earlier dump, or none, but never half of one.

use std::collections::BTreeSet;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use proto::{Chunk, Signer};

use crate::failure::Failure;
use crate::files;
use crate::manifest::{Entry, MANIFEST_BYTES, Manifest, ManifestError};

const MANIFEST: &str = "manifest";
const PART: &str = "manifest.part";
const LOCK: &str = "lock";

/// A complete dump, whose manifest verifies.
#[derive(Debug)]
pub struct Dump {
    folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
}

impl Dump {
    /// Opens a dump; its files are looked at when they are read.
    ///
    /// # Errors
    /// [`Failure::NotFound`] if there is none, [`Failure::Unsound`] if it is damaged or incomplete,
    /// [`Failure::General`] for another version.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        if let Some(dump) = Self::find(folder)? {
            return Ok(dump);
        }
        let shown = folder.display();
        let names = match names(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(Failure::NotFound(format!(
                    "there is no directory {shown}; check its name"
                )));
            }
            Err(error) => return Err(Failure::file("read", folder, &error)),
        };
        Err(if names.iter().any(|name| is_content(name)) {
            Failure::Unsound(format!(
                "the dump in {shown} is incomplete: it has no manifest; run `treeline-dump dump` into it again"
            ))
        } else {
            Failure::NotFound(format!(
                "{shown} is not a dump: it has no manifest; check its name"
            ))
        })
    }

    /// The dump in a folder; `None` if there is no manifest.
    fn find(folder: &Path) -> Result<Option<Self>, Failure> {
        let path = folder.join(MANIFEST);
        let text = match manifest_text(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(unsound(&path, &error));
            }
            Err(error) => return Err(Failure::file("read", &path, &error)),
        };
        match Manifest::from_text(&text) {
            Ok(manifest) => Ok(Some(Self {
                folder: folder.to_owned(),
                manifest,
            })),
            Err(error @ ManifestError::Version(_)) => Err(Failure::General(format!(
                "cannot use the manifest {}: {error}; use the treeline-dump that wrote it, or a newer one",
                path.display()
            ))),
            Err(error) => Err(unsound(&path, &error)),
        }
    }

    /// Reads and verifies one file of chunks.
    ///
    /// # Errors
    /// As [`files::read`].
    pub fn read(&self, entry: &Entry) -> Result<Vec<Chunk>, Failure> {
        files::read(&self.folder, entry)
    }
}

fn unsound(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Unsound(format!(
        "the manifest {} does not verify: {why}; use another copy of the dump",
        path.display()
    ))
}

fn manifest_text(path: &Path) -> io::Result<String> {
    let file = File::open(path)?;
    let mut text = String::new();
    file.take(MANIFEST_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MANIFEST_BYTES {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long"));
    }
    Ok(text)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let entries = fs::read_dir(folder)?;
    entries
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// Whether a file of this name is one that a dump writes chunks or its manifest to.
fn is_content(name: &str) -> bool {
    let chunks = |kind: &str| {
        let hash = name
            .strip_prefix(kind)
            .and_then(|rest| rest.strip_suffix(".chunks"));
        hash.is_some_and(|hash| hash.len() == 32 && hash.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    matches!(name, MANIFEST | PART | "grants.part" | "chunks.part")
        || chunks("grants-")
        || chunks("chunks-")
}

/// A directory that this process alone writes a dump to.
pub struct Target {
    folder: PathBuf,
    _lock: File,
}

impl Target {
    /// Makes the directory if there is none, and locks it.
    ///
    /// # Errors
    /// [`Failure::Locked`] while another process has it, [`Failure::General`] if it holds other things
    /// than a dump or cannot be written to.
    pub fn open(folder: &Path) -> Result<Self, Failure> {
        let write = |error: io::Error| Failure::file("write to", folder, &error);
        fs::create_dir_all(folder).map_err(write)?;
        let found = names(folder).map_err(write)?;
        if let Some(other) = found.iter().find(|name| !is_content(name) && *name != LOCK) {
            return Err(Failure::General(format!(
                "{} holds {other:?}, which is not part of a dump; choose another directory",
                folder.display()
            )));
        }
        let lock = File::create(folder.join(LOCK)).map_err(write)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self {
                folder: folder.to_owned(),
                _lock: lock,
            }),
            Err(TryLockError::WouldBlock) => Err(Failure::Locked(format!(
                "another treeline-dump writes to {}; wait until it has ended",
                folder.display()
            ))),
            Err(TryLockError::Error(error)) => Err(write(error)),
        }
    }

    /// The dump that is there already.
    ///
    /// # Errors
    /// If it does not verify.
    pub fn earlier(&self) -> Result<Option<Dump>, Failure> {
        Dump::find(&self.folder)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.folder
    }

    /// Makes the files of a manifest the dump, in one step, and removes those of an earlier one.
    ///
    /// # Errors
    /// [`Failure::General`] when the system does not write.
    pub fn complete(&self, manifest: &Manifest, signer: &Signer) -> Result<(), Failure> {
        let part = self.folder.join(PART);
        let sync = || File::open(&self.folder)?.sync_all();
        let replace = || {
            let mut file = File::create(&part)?;
            file.write_all(manifest.to_text(signer).as_bytes())?;
            file.sync_all()?;
            // The names of the files have to be on the disk before that of the manifest.
            sync()?;
            fs::rename(&part, self.folder.join(MANIFEST))?;
            sync()
        };
        replace().map_err(|error| Failure::file("write", &part, &error))?;
        self.sweep(manifest)
            .map_err(|error| Failure::file("tidy up", &self.folder, &error))
    }

    /// Removes what belongs to no dump any more.
    fn sweep(&self, manifest: &Manifest) -> io::Result<()> {
        let kept: BTreeSet<String> = manifest.files.iter().map(Entry::file_name).collect();
        for name in names(&self.folder)? {
            if is_content(&name) && name != MANIFEST && !kept.contains(&name) {
                fs::remove_file(self.folder.join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Writer;
    use crate::manifest::Kind;
    use proto::{GrantId, Name, Prefix, Timestamp};

    fn signer() -> Signer {
        Signer::from_seed(&[1; 32])
    }

    fn write(target: &Target, number: u128) -> Manifest {
        let mut writer = Writer::new(target.path(), Kind::Chunks);
        let expiry = Timestamp::MAX;
        let chunk = Chunk::sign(Name(number), expiry, GrantId::NONE, b"x", &signer()).unwrap();
        writer.push(&chunk).unwrap();
        let files = writer.finish().unwrap();
        Manifest::new(
            Prefix::ALL,
            (0, String::new()),
            None,
            files,
            &signer().public_key(),
        )
    }

    #[test]
    fn a_dump_is_there_when_its_manifest_is_and_is_replaced_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new");
        assert!(matches!(Dump::open(&path), Err(Failure::NotFound(_))));
        let target = Target::open(&path).unwrap();
        assert!(matches!(Dump::open(&path), Err(Failure::NotFound(_))));
        let first = write(&target, 1);
        assert!(matches!(Dump::open(&path), Err(Failure::Unsound(_))));
        target.complete(&first, &signer()).unwrap();
        assert_eq!(Dump::open(&path).unwrap().manifest, first);

        // A second one that was cut off changes nothing; completed, it leaves nothing of the first.
        let second = write(&target, 2);
        fs::write(path.join("chunks.part"), "half").unwrap();
        let dump = Dump::open(&path).unwrap();
        assert_eq!(
            dump.read(&dump.manifest.files[0]).unwrap()[0].name(),
            Name(1)
        );
        target.complete(&second, &signer()).unwrap();
        assert_eq!(Dump::open(&path).unwrap().manifest, second);
        assert_eq!(names(&path).unwrap().len(), 3, "manifest, lock, one file");
    }

    #[test]
    fn one_process_writes_and_other_things_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::open(folder.path()).unwrap();
        let second = Target::open(folder.path()).map(drop).unwrap_err();
        assert!(matches!(second, Failure::Locked(_)), "{second}");
        drop(target);
        fs::write(folder.path().join("letter.txt"), "dear").unwrap();
        let other = Target::open(folder.path()).map(drop).unwrap_err();
        assert!(other.to_string().contains("letter.txt"), "{other}");
    }

    #[test]
    fn odd_manifests_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(MANIFEST);
        for bytes in [b"".as_slice(), b"\xff\xfe", b"{}\n\n", &[b'x'; 100_000]] {
            fs::write(&path, bytes).unwrap();
            let error = Dump::open(folder.path()).unwrap_err();
            assert!(matches!(error, Failure::Unsound(_)), "{error}");
            assert_eq!(error.to_string().lines().count(), 1);
        }
    }
}
