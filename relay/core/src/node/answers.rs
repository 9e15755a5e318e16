//! RECONCILE from below: what lies here in spans of names, and all of it that is wanted
//! (docs/protocol.md, "RECONCILE"). Nothing is remembered from one question to the next; a question
//! costs a look at the names in its spans, in slices, and never at a chunk.

use std::collections::VecDeque;

use proto::{Frame, Misbehaved, Part, Prefix, Reconcile, Span, Splitter, limits};

use super::{LinkId, Node, Work};
use crate::store::Store;

/// Names looked at before others have their turn.
const NAMES_PER_SLICE: usize = 1024;

/// The answer to a question, while it is made.
pub(super) struct Answer {
    pub(super) id: u32,
    /// What has not been looked at; of the first span the rest.
    left: VecDeque<(Span, Option<Span>)>,
    splitter: Splitter,
    parts: Vec<Part>,
}

/// Spans of which everything is to be sent.
pub(super) type Wish = VecDeque<Span>;

impl<S: Store> Node<S> {
    /// ASK or WANT from downstream.
    pub(super) fn reconcile_below(&mut self, link: LinkId, said: Reconcile) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let (id, spans, asks) = match said {
            Reconcile::Ask { id, spans } => (id, spans, true),
            Reconcile::Want { id, spans } => (id, spans, false),
            Reconcile::Tell { .. } => return self.misbehaved(link, Misbehaved::NotAllowed),
        };
        if state.uses(id) {
            return self.misbehaved(link, Misbehaved::IdReused);
        }
        let many = state.fetches.len() + state.wishes.len() >= self.config.limits.fetches_per_link;
        if (asks && state.answer.is_some()) || (!asks && many) {
            return self.misbehaved(link, Misbehaved::OverLimit);
        }
        let mut shared = spans.iter().map(|span| shared(*span));
        if let Some(short) = shared.find(|shared| shared.bits() < self.least_bits(*shared)) {
            return self.too_short(link, short);
        }
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if asks {
            state.answer = Some(Answer {
                id,
                left: spans.into_iter().map(|span| (span, Some(span))).collect(),
                splitter: Splitter::default(),
                parts: Vec::new(),
            });
            self.work.push(Work::Answer(link));
        } else {
            state.wishes.insert(id, spans.into());
            self.work.push(Work::Wish(link, id));
        }
    }

    /// Looks at the next names of a question, and answers it after the last.
    pub(super) fn serve_answer(&mut self, link: LinkId) {
        let window = self.window();
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if !state.has_room(window) {
            state.blocked.push(Work::Answer(link));
            return;
        }
        let Some(answer) = state.answer.as_mut() else {
            return;
        };
        let mut budget = NAMES_PER_SLICE;
        while let Some((span, rest)) = answer.left.front_mut() {
            let held = match rest {
                None => Vec::new(),
                Some(rest) => match self.store.names(*rest, budget, self.now) {
                    Ok(held) => held,
                    Err(error) => return self.cannot_read(link, error),
                },
            };
            held.iter()
                .for_each(|held| answer.splitter.push(held.name, held.digest));
            if held.len() == budget {
                *rest = held.last().and_then(|last| span.behind(last.name));
                return self.work.push(Work::Answer(link));
            }
            budget -= held.len();
            let parts = std::mem::take(&mut answer.splitter).finish(*span);
            answer.parts.extend(parts);
            answer.left.pop_front();
        }
        if let Some(Answer { id, parts, .. }) = state.answer.take() {
            self.send(link, &Frame::Reconcile(Reconcile::Tell { id, parts }));
        }
    }

    /// Sends the next chunks of a wish.
    pub(super) fn serve_wish(&mut self, link: LinkId, id: u32) {
        let window = self.window();
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if !state.has_room(window) {
            state.blocked.push(Work::Wish(link, id));
            return;
        }
        let Some(wish) = state.wishes.get_mut(&id) else {
            return;
        };
        let mut found = Vec::new();
        while let Some(span) = wish.front().copied() {
            let room = limits::CHUNKS_PER_FRAME - found.len();
            let chunks = match self.store.range(span, room) {
                Ok(chunks) => chunks,
                Err(error) => return self.cannot_read(link, error),
            };
            wish.pop_front();
            if chunks.len() == room {
                let rest = chunks.last().and_then(|last| span.behind(last.name()));
                rest.into_iter().for_each(|rest| wish.push_front(rest));
                found.extend(chunks);
                break;
            }
            found.extend(chunks);
        }
        let ended = wish.is_empty();
        if ended {
            state.wishes.remove(&id);
        }
        found.retain(|chunk| chunk.expiry() > self.now);
        self.counters.delivered += found.len() as u64;
        self.send_fetched(link, id, &found);
        if ended {
            let (cursor, live) = (self.store.id().cursor(self.store.last_sequence()), true);
            self.send(link, &Frame::CaughtUp { id, cursor, live });
        } else {
            self.work.push(Work::Wish(link, id));
        }
    }
}

/// The longest prefix of all names of a span.
fn shared(span: Span) -> Prefix {
    let common = (span.first().0 ^ span.last().0).leading_zeros();
    Prefix::of(span.first(), u8::try_from(common).unwrap_or(u8::MAX))
}
