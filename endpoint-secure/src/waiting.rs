//! Chunks that wait for their other fragments or their MLS state, and which of them are an object.
//!
//! What is done with an object is `pending`'s business.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Chunk, Fields, Path};

use crate::store::{Store, StoreError};

/// Chunks that are kept, at most: 20,000 take 22 MB.
const KEPT: usize = 20_000;
/// Chunks of key packages among them, at most: anybody may publish those.
const PACKAGES: usize = 1_024;

/// Chunks that wait, mirrored in memory.
#[derive(Default)]
pub(crate) struct Waiting {
    pub(crate) chunks: BTreeMap<u128, Chunk>,
    stored: BTreeSet<u128>,
    fresh: BTreeSet<u128>,
    gone: BTreeSet<u128>,
    packages: BTreeSet<u128>,
}

impl Waiting {
    pub(crate) fn load(store: &Store) -> Result<Self, StoreError> {
        let mut this = Self::default();
        for bytes in store.pending()? {
            let chunk = Chunk::decode(bytes.into()).map_err(|_| StoreError::Corrupt)?;
            this.stored.insert(chunk.name().0);
            if chunk.name().path() == Path::KeyPackage {
                this.packages.insert(chunk.name().0);
            }
            this.chunks.insert(chunk.name().0, chunk);
        }
        Ok(this)
    }

    /// Writes what changed; a chunk that came and went within one event is never written.
    pub(crate) fn flush(&mut self, store: &Store) -> Result<(), StoreError> {
        for name in std::mem::take(&mut self.gone) {
            store.drop_pending(name)?;
        }
        for name in std::mem::take(&mut self.fresh) {
            if let Some(chunk) = self.chunks.get(&name) {
                store.keep_pending(name, chunk.encoded())?;
                self.stored.insert(name);
            }
        }
        Ok(())
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.fresh.is_empty() || !self.gone.is_empty()
    }

    pub(crate) fn insert(&mut self, chunk: Chunk) -> bool {
        let name = chunk.name().0;
        let known = self.chunks.contains_key(&name);
        if self.chunks.len() >= KEPT && !known {
            return false;
        }
        if chunk.name().path() == Path::KeyPackage && !known {
            if self.packages.len() >= PACKAGES {
                // Junk cannot keep the true ones out for ever.
                for name in std::mem::take(&mut self.packages) {
                    self.remove(name);
                }
            }
            self.packages.insert(name);
        }
        self.fresh.insert(name);
        self.chunks.insert(name, chunk);
        true
    }

    pub(crate) fn remove(&mut self, name: u128) {
        self.chunks.remove(&name);
        self.packages.remove(&name);
        self.fresh.remove(&name);
        if self.stored.remove(&name) {
            self.gone.insert(name);
        }
    }

    /// The run of fragments that this name is in, if all of it is here: from its first.
    pub(crate) fn run_of(&self, name: u128, most: usize) -> Option<Vec<Chunk>> {
        let mut first = name;
        for _ in 0..most {
            match kind(self.chunks.get(&first)?) {
                Part::Continued => first = first.checked_sub(1)?,
                Part::Begins => return self.run_from(first, most),
            }
        }
        None
    }

    fn run_from(&self, first: u128, most: usize) -> Option<Vec<Chunk>> {
        let mut run: Vec<Chunk> = Vec::new();
        let mut length = 0usize;
        for index in 0..most as u128 {
            let chunk = self.chunks.get(&(first + index))?;
            let data = fragment(chunk);
            if index == 0 {
                match announced(&data) {
                    None => return Some(vec![chunk.clone()]),
                    Some(announced) => length = announced,
                }
                length = length.saturating_sub(data.len().saturating_sub(37));
            } else {
                length = length.saturating_sub(data.len().saturating_sub(1));
            }
            run.push(chunk.clone());
            if length == 0 {
                return Some(run);
            }
        }
        None
    }
}

pub(crate) enum Part {
    Begins,
    Continued,
}

/// The fragment in a chunk: key packages carry their key in front of it.
pub(crate) fn fragment(chunk: &Chunk) -> bytes::Bytes {
    let data = chunk.data();
    match chunk.name().fields() {
        Fields::KeyPackage { .. } if data.len() >= 32 => data.slice(32..),
        _ => data,
    }
}

pub(crate) fn kind(chunk: &Chunk) -> Part {
    match fragment(chunk).first() {
        Some(2) => Part::Continued,
        _ => Part::Begins,
    }
}

/// The length that a first fragment announces; `None` for a whole object.
fn announced(data: &[u8]) -> Option<usize> {
    let (head, rest) = data.split_first()?;
    let length = rest.first_chunk::<4>()?;
    (*head == 1).then_some(u32::from_be_bytes(*length) as usize)
}
