//! Pieces of backlog that were just read and encoded: many readers of the same names who fall behind
//! together get the same bytes, and the store is read once for all of them.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use proto::{GrantId, Prefix, Timestamp};

use super::feed::encode;
use crate::store::{Page, StoreError};

/// Pieces kept. Each holds at most one frame of chunks twice: 64 of them are 5 MB at most.
const PIECES: usize = 64;

/// A page of a subscription's backlog, as it is sent.
#[derive(Clone)]
pub(super) struct Piece {
    /// The grants that its chunks rely on, each once.
    pub(super) grants: Vec<GrantId>,
    /// How many chunks it has.
    pub(super) chunks: usize,
    /// Their frames; empty without chunks.
    pub(super) bytes: Bytes,
    /// Where the next one begins.
    pub(super) position: u64,
    /// Whether nothing lay beyond.
    pub(super) end: bool,
}

struct Kept {
    prefix: Prefix,
    above: u64,
    id: u32,
    page: Arc<Page>,
    piece: Piece,
    /// When the first of its chunks expires.
    until: Timestamp,
}

/// The pieces that were read last.
#[derive(Default)]
pub(super) struct Pages(VecDeque<Kept>);

impl Pages {
    /// The piece of a prefix above a sequence number, for subscriptions of this id; the page is read
    /// unless it was lately. One with the end is read each time: what comes next belongs to it.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn piece(
        &mut self,
        (prefix, above, id): (Prefix, u64, u32),
        now: Timestamp,
        read: impl FnOnce() -> Result<Page, StoreError>,
    ) -> Result<Piece, StoreError> {
        let same = |kept: &&Kept| kept.prefix == prefix && kept.above == above && kept.until > now;
        let mut found = self.0.iter().rev().filter(same).peekable();
        let read_before = found.peek().map(|kept| Arc::clone(&kept.page));
        if let Some(kept) = found.find(|kept| kept.id == id) {
            return Ok(kept.piece.clone());
        }
        let page = match read_before {
            Some(page) => page,
            None => Arc::new(read()?),
        };
        let piece = encoded(&page, id);
        let until = page.chunks.iter().map(|(_, chunk)| chunk.expiry()).min();
        if let Some(until) = until.filter(|_| !page.end) {
            if self.0.len() == PIECES {
                self.0.pop_front();
            }
            self.0.push_back(Kept {
                prefix,
                above,
                id,
                page,
                piece: piece.clone(),
                until,
            });
        }
        Ok(piece)
    }

    /// Forgets everything, when chunks were removed.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn encoded(page: &Page, id: u32) -> Piece {
    let mut grants: Vec<GrantId> = Vec::new();
    for (_, chunk) in &page.chunks {
        if !grants.contains(&chunk.grant()) {
            grants.push(chunk.grant());
        }
    }
    Piece {
        grants,
        chunks: page.chunks.len(),
        bytes: encode(id, page.chunks.iter().map(|(_, chunk)| chunk)),
        position: page.position,
        end: page.end,
    }
}

#[cfg(test)]
mod tests {
    use proto::{Chunk, Name, Signer};

    use super::*;

    const SOON: Timestamp = Timestamp::from_millis(10);
    const LATER: Timestamp = Timestamp::from_millis(20);

    fn name() -> Name {
        let prefix: Prefix = "treeline://000001/message/org-1/team-2/ch-3/dev-4/5"
            .parse()
            .unwrap();
        prefix.first()
    }

    fn page(end: bool) -> Page {
        let signer = Signer::from_seed(&[1; 32]);
        let chunk = Chunk::sign(name(), LATER, GrantId([2; 8]), b"text", &signer).unwrap();
        Page {
            chunks: vec![(5, chunk)],
            position: 5,
            end,
        }
    }

    #[test]
    fn readers_at_one_place_share_what_was_read_once() {
        let prefix = Prefix::of(name(), 24);
        let mut pages = Pages::default();
        let mut reads = 0;
        let mut piece = |pages: &mut Pages, above, id, now, end| {
            let read = || {
                reads += 1;
                Ok(page(end))
            };
            let piece = pages.piece((prefix, above, id), now, read).unwrap();
            (piece.bytes, reads)
        };
        let (first, _) = piece(&mut pages, 0, 1, SOON, false);
        let (again, reads) = piece(&mut pages, 0, 1, SOON, false);
        assert_eq!((again.as_ptr(), reads), (first.as_ptr(), 1));
        // Another id: read once, encoded again.
        let (other, reads) = piece(&mut pages, 0, 2, SOON, false);
        assert_eq!((other == first, reads), (false, 1));
        // Another place, an expired chunk, chunks that were removed, and the end are read.
        assert_eq!(piece(&mut pages, 1, 1, SOON, false).1, 2);
        assert_eq!(piece(&mut pages, 0, 1, LATER, false).1, 3);
        pages.clear();
        assert_eq!(piece(&mut pages, 0, 1, SOON, true).1, 4);
        assert_eq!(piece(&mut pages, 0, 1, SOON, true).1, 5);
    }

    #[test]
    fn as_many_are_kept_as_are_allowed() {
        let mut pages = Pages::default();
        let prefix = Prefix::of(name(), 24);
        for above in 0..1000 {
            pages
                .piece((prefix, above, 1), SOON, || Ok(page(false)))
                .unwrap();
        }
        assert_eq!(pages.0.len(), PIECES);
    }
}
