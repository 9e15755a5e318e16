//! Files of chunks: a fixed head, then each chunk behind its length as two bytes, big-endian. A file
//! is at most 64 MiB, so that it can be read and verified as a whole before any of it is believed.
//!
//! A file is written under a temporary name, synced, and then renamed to its content's name.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use blake3::Hasher;
use bytes::Bytes;
use proto::{Chunk, limits};

use crate::failure::Failure;
use crate::manifest::{Entry, FILE_BYTES, Kind};

/// What a file of chunks begins with, its version included.
const HEAD: &[u8; 16] = b"treeline dump 1\n";

/// Writes chunks to as many files as it takes.
pub struct Writer {
    folder: PathBuf,
    kind: Kind,
    limit: u64,
    part: Option<Part>,
    done: Vec<Entry>,
}

struct Part {
    path: PathBuf,
    file: BufWriter<File>,
    hasher: Hasher,
    bytes: u64,
    chunks: u64,
}

impl Writer {
    /// A writer of files of one kind in a folder. Nothing is made before the first chunk.
    pub fn new(folder: &Path, kind: Kind) -> Self {
        Self {
            folder: folder.to_owned(),
            kind,
            limit: FILE_BYTES,
            part: None,
            done: Vec::new(),
        }
    }

    /// Appends a chunk.
    ///
    /// # Errors
    /// [`Failure::General`] when the system does not write it.
    pub fn push(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let bytes = chunk.encoded();
        let needed = 2 + bytes.len() as u64;
        if self
            .part
            .as_ref()
            .is_some_and(|part| part.bytes + needed > self.limit)
        {
            self.close()?;
        }
        if self.part.is_none() {
            self.part = Some(Part::begin(&self.folder, self.kind)?);
        }
        let part = self.part.as_mut().expect("it has just been made");
        // At most 1,122 bytes.
        part.write(&(bytes.len() as u16).to_be_bytes())?;
        part.write(bytes)?;
        part.chunks += 1;
        Ok(())
    }

    /// Ends the last file, and returns all, in order.
    ///
    /// # Errors
    /// [`Failure::General`] when the system does not write them.
    pub fn finish(mut self) -> Result<Vec<Entry>, Failure> {
        self.close()?;
        Ok(self.done)
    }

    fn close(&mut self) -> Result<(), Failure> {
        if let Some(part) = self.part.take() {
            self.done.push(part.end(&self.folder, self.kind)?);
        }
        Ok(())
    }
}

impl Part {
    fn begin(folder: &Path, kind: Kind) -> Result<Self, Failure> {
        let path = folder.join(format!("{}.part", kind.word()));
        let file = File::create(&path).map_err(|error| Failure::file("write", &path, &error))?;
        let mut part = Self {
            path,
            file: BufWriter::with_capacity(256 * 1024, file),
            hasher: Hasher::new(),
            bytes: 0,
            chunks: 0,
        };
        part.write(HEAD)?;
        Ok(part)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        let written = self.file.write_all(bytes);
        written.map_err(|error| Failure::file("write", &self.path, &error))
    }

    fn end(mut self, folder: &Path, kind: Kind) -> Result<Entry, Failure> {
        let entry = Entry {
            kind,
            chunks: self.chunks,
            bytes: self.bytes,
            blake3: self.hasher.finalize().to_hex().to_string(),
        };
        let written = self
            .file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| fs::rename(&self.path, folder.join(entry.file_name())));
        written.map_err(|error| Failure::file("write", &self.path, &error))?;
        Ok(entry)
    }
}

/// Reads a file of chunks, which has to be exactly what its entry says.
///
/// # Errors
/// [`Failure::Unsound`] if it is missing or another, [`Failure::General`] when the system does not
/// read it.
pub fn read(folder: &Path, entry: &Entry) -> Result<Vec<Chunk>, Failure> {
    let path = folder.join(entry.file_name());
    let damaged = |what: &str| {
        Failure::Unsound(format!(
            "the dump is damaged: {} {what}; use another copy of the dump",
            path.display()
        ))
    };
    let bytes = match content(&path, entry.bytes) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged("is missing"));
        }
        Err(error) => return Err(Failure::file("read", &path, &error)),
    };
    if bytes.len() as u64 != entry.bytes {
        return Err(damaged("does not have the length that was signed"));
    }
    if blake3::hash(&bytes).to_hex().as_str() != entry.blake3 {
        return Err(damaged("is not what was signed"));
    }
    let chunks = decode(bytes.into()).map_err(|what| damaged(&what))?;
    if chunks.len() as u64 != entry.chunks {
        return Err(damaged("does not hold as many chunks as were signed"));
    }
    Ok(chunks)
}

/// At most one byte more than there should be.
fn content(path: &Path, length: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    file.take(length.min(FILE_BYTES) + 1)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The chunks of a file's bytes.
fn decode(mut bytes: Bytes) -> Result<Vec<Chunk>, String> {
    if !bytes.starts_with(HEAD) {
        return Err("does not begin as a file of chunks does".into());
    }
    let mut rest = bytes.split_off(HEAD.len());
    let mut chunks = Vec::new();
    while !rest.is_empty() {
        if rest.len() < 2 {
            return Err("ends within a length".into());
        }
        let length = usize::from(u16::from_be_bytes([rest[0], rest[1]]));
        if length > limits::CHUNK_BYTES || rest.len() < 2 + length {
            return Err("ends within a chunk".into());
        }
        let chunk = Chunk::decode(rest.slice(2..2 + length));
        chunks.push(chunk.map_err(|error| format!("holds what is no chunk ({error})"))?);
        rest = rest.split_off(2 + length);
    }
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{GrantId, Name, Signer, Timestamp};

    fn chunk(number: u128, length: usize) -> Chunk {
        let signer = Signer::from_seed(&[1; 32]);
        let data = vec![number as u8; length];
        Chunk::sign(Name(number), Timestamp::MAX, GrantId::NONE, &data, &signer).unwrap()
    }

    #[test]
    fn chunks_come_back_from_as_many_files_as_needed() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), Kind::Chunks);
        writer.limit = 3000;
        let chunks: Vec<Chunk> = (0..10).map(|number| chunk(number, 1024)).collect();
        for chunk in &chunks {
            writer.push(chunk).unwrap();
        }
        let entries = writer.finish().unwrap();
        assert_eq!(entries.len(), 5);
        assert!(entries.iter().all(|entry| entry.bytes <= 3000));
        let read: Vec<Chunk> = entries
            .iter()
            .flat_map(|entry| read(folder.path(), entry).unwrap())
            .collect();
        assert_eq!(read, chunks);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 5);
    }

    #[test]
    fn any_flipped_bit_or_missing_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let mut writer = Writer::new(folder.path(), Kind::Grants);
        writer.push(&chunk(1, 5)).unwrap();
        let entry = writer.finish().unwrap().remove(0);
        let path = folder.path().join(entry.file_name());
        let whole = fs::read(&path).unwrap();
        let unsound = || matches!(read(folder.path(), &entry), Err(Failure::Unsound(_)));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(unsound(), "byte {at}");
            fs::write(&path, &whole[..at]).unwrap();
            assert!(unsound(), "cut at {at}");
        }
        fs::write(&path, [whole.as_slice(), b"more"].concat()).unwrap();
        assert!(unsound());
        fs::remove_file(&path).unwrap();
        assert!(unsound());
        fs::create_dir(&path).unwrap();
        assert!(read(folder.path(), &entry).is_err());
    }

    #[test]
    fn bytes_that_are_no_chunks_are_told_apart_without_a_panic() {
        let good = chunk(1, 5).encoded().clone();
        let record = [&(good.len() as u16).to_be_bytes(), good.as_ref()].concat();
        let whole = [HEAD.as_slice(), &record].concat();
        assert_eq!(decode(whole.clone().into()).unwrap().len(), 1);
        assert_eq!(decode(HEAD.to_vec().into()).unwrap().len(), 0);
        for end in (0..whole.len()).filter(|end| *end != HEAD.len()) {
            assert!(decode(whole[..end].to_vec().into()).is_err(), "{end}");
        }
        assert!(decode([HEAD.as_slice(), &[0, 0]].concat().into()).is_err());
        assert!(decode([HEAD.as_slice(), &[0xff; 70_000]].concat().into()).is_err());
    }
}
