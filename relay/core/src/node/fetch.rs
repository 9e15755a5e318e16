//! FETCH: chunks by name, once. What is not here is asked of the parent, once, and passed on
//! (docs/protocol.md, "FETCH"). The parent is asked for a few at a time, because it closes a link that
//! asks for more than it allows; links have their turns.

use std::collections::BTreeSet;

use proto::{Chunk, Frame, Misbehaved, Name, limits};

use super::feed::encode;
use super::{LinkId, Node, Work};
use crate::store::Store;

/// A fetch of a link.
pub(super) struct Fetch {
    names: Vec<Name>,
    /// How many of the names have been looked for here.
    done: usize,
    /// Names that are not here.
    missing: BTreeSet<Name>,
}

impl<S: Store> Node<S> {
    pub(super) fn fetch(&mut self, link: LinkId, id: u32, names: Vec<Name>) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.uses(id) {
            return self.misbehaved(link, Misbehaved::IdReused);
        }
        if state.fetches.len() >= self.config.limits.fetches_per_link {
            return self.misbehaved(link, Misbehaved::OverLimit);
        }
        state.fetches.insert(
            id,
            Fetch {
                names,
                done: 0,
                missing: BTreeSet::new(),
            },
        );
        self.work.push(Work::Fetch(link, id));
    }

    /// Answers the next names of a fetch.
    pub(super) fn serve_fetch(&mut self, link: LinkId, id: u32) {
        let window = self.window();
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if !state.has_room(window) {
            state.blocked.push(Work::Fetch(link, id));
            return;
        }
        let Some(fetch) = state.fetches.get_mut(&id) else {
            return;
        };
        let mut found = Vec::new();
        let end = fetch.names.len().min(fetch.done + limits::CHUNKS_PER_FRAME);
        for name in &fetch.names[fetch.done..end] {
            match self.store.get(*name) {
                Ok(Some(stored)) if stored.chunk.expiry() > self.now => found.push(stored.chunk),
                _ => {
                    fetch.missing.insert(*name);
                }
            }
        }
        fetch.done = end;
        let finished = end == fetch.names.len();
        if finished {
            fetch.names = Vec::new();
        }
        let all_here = fetch.missing.is_empty();
        self.send_fetched(link, id, &found);
        if !finished {
            self.work.push(Work::Fetch(link, id));
        } else if all_here || !self.fetch_above(link, id) {
            self.end_fetch(link, id);
        }
    }

    pub(super) fn send_fetched(&mut self, link: LinkId, id: u32, chunks: &[Chunk]) {
        for chunk in chunks {
            self.send_grants(link, chunk.grant());
        }
        if !chunks.is_empty() {
            self.send_bytes(link, encode(id, chunks.iter()));
        }
    }

    /// Has the parent asked for what is missing here, now or when it has answered others. Returns whether
    /// there is a parent.
    fn fetch_above(&mut self, link: LinkId, id: u32) -> bool {
        if self.upstream.ready().is_none() {
            return false;
        }
        self.upstream.wait_to_fetch((link, id));
        self.send_fetches();
        true
    }

    fn send_fetches(&mut self) {
        while self.upstream.may_fetch()
            && let Some((link, id)) = self.upstream.next_fetch()
        {
            let state = self.links.get(&link);
            let Some(fetch) = state.and_then(|state| state.fetches.get(&id)) else {
                continue;
            };
            let names = fetch.missing.iter().copied().collect();
            let Some((above, fetch)) = self.upstream.begin_fetch(Some((link, id))) else {
                return;
            };
            self.send(above, &Frame::Fetch { id: fetch, names });
        }
    }

    /// A chunk that the parent sent for a fetch, now stored here.
    pub(super) fn answer_fetch(&mut self, above_id: u32, chunk: &Chunk) {
        let Some((link, id)) = self.upstream.fetch(above_id) else {
            return;
        };
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(fetch) = state.fetches.get_mut(&id) else {
            return;
        };
        if fetch.missing.remove(&chunk.name()) {
            self.send_fetched(link, id, std::slice::from_ref(chunk));
        }
    }

    /// The parent has sent all that it has.
    pub(super) fn fetch_done_above(&mut self, above_id: u32) {
        if self.wish_done(above_id) {
            return;
        }
        self.mended(above_id);
        if let Some((link, id)) = self.upstream.end_fetch(above_id) {
            self.end_fetch(link, id);
        }
        self.send_fetches();
    }

    pub(super) fn end_fetch(&mut self, link: LinkId, id: u32) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.fetches.remove(&id).is_some() {
            let cursor = self.store.id().cursor(self.store.last_sequence());
            self.send(
                link,
                &Frame::CaughtUp {
                    id,
                    cursor,
                    live: true,
                },
            );
        }
    }
}
