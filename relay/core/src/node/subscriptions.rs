//! Who wants which names, and the way from the backlog to live (docs/protocol.md, "Subscribe").
//!
//! Every subscription is a position in the store's arrival order. "Live" only means that the position
//! is the end, so that new chunks go out without a look into the store; a reader that is too slow
//! loses that and reads from the store again. So there is no seam to fall through.

use std::collections::{BTreeMap, BTreeSet};

use proto::{Chunk, Frame, GrantId, Misbehaved, Name, Order, Prefix, Start, limits};

use super::feed::encode;
use super::pages::Piece;
use super::{Closed, Effect, LinkId, MARK_MS, Node, Note, Work};
use crate::store::{Direction, Page, Scan, Store, StoreError};

/// Chunks passed over at once in search of the beginning of "newest n".
const SEEK_CHUNKS: usize = 512;

/// The leading bits of a name that say its origin, application, path and organisation.
pub(super) const ORG_BITS: u8 = 58;
/// The application whose names have organisations.
const MESSENGER: u8 = 1;

/// A subscription of a link.
pub(super) struct Subscription {
    pub(super) prefix: Prefix,
    phase: Phase,
    /// Everything under the prefix up to this sequence number has been sent (not kept while live), or
    /// with the newest first is not to be.
    sent: u64,
}

#[derive(Clone, Copy)]
enum Phase {
    /// Looks backwards for the place where the newest `left` begin.
    Seek { below: u64, left: u32 },
    /// Sends the backlog newest first, down to `sent`; what is above `top` comes afterwards.
    Newest { below: u64, left: u32, top: u64 },
    /// Sends oldest first from `sent`.
    Backlog,
    /// Has everything.
    Live,
}

// A relay holds a million of them: docs/operations.md says what each costs.
const _: () = assert!(size_of::<Subscription>() <= 56);

/// A subscription of any link.
pub(super) type Key = (LinkId, u32);

/// Finds the subscriptions of a name in one look per prefix length in use, however many there are.
#[derive(Default)]
pub(super) struct Table {
    /// By the bits of a prefix: its first name, and who subscribed to it.
    lengths: BTreeMap<u8, BTreeSet<(Name, Key)>>,
}

impl Table {
    fn insert(&mut self, prefix: Prefix, key: Key) {
        let keys = self.lengths.entry(prefix.bits()).or_default();
        keys.insert((prefix.first(), key));
    }

    pub(super) fn remove(&mut self, prefix: Prefix, key: Key) {
        let Some(keys) = self.lengths.get_mut(&prefix.bits()) else {
            return;
        };
        keys.remove(&(prefix.first(), key));
        if keys.is_empty() {
            self.lengths.remove(&prefix.bits());
        }
    }

    pub(super) fn visit(&self, name: Name, mut visitor: impl FnMut(Key)) {
        const ALL: (Key, Key) = ((LinkId(0), 0), (LinkId(u64::MAX), u32::MAX));
        for (bits, keys) in &self.lengths {
            let first = Prefix::of(name, *bits).first();
            let found = keys.range((first, ALL.0)..=(first, ALL.1));
            found.for_each(|(_, key)| visitor(*key));
        }
    }
}

impl<S: Store> Node<S> {
    pub(super) fn subscribe(
        &mut self,
        link: LinkId,
        id: u32,
        prefix: Prefix,
        (start, order): (Start, Order),
    ) {
        let short = prefix.bits() < self.least_bits(prefix);
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if state.uses(id) {
            return self.misbehaved(link, Misbehaved::IdReused);
        }
        if state.subscriptions.len() >= self.config.limits.subscriptions_per_link {
            return self.misbehaved(link, Misbehaved::OverLimit);
        }
        if short {
            return self.too_short(link, prefix);
        }
        let top = self.store.last_sequence();
        let (phase, sent) = begin(&start, order, top, |cursor| {
            self.store.id().position(cursor)
        });
        state.subscriptions.insert(
            id,
            Subscription {
                prefix,
                phase,
                sent,
            },
        );
        self.table.insert(prefix, (link, id));
        if matches!(phase, Phase::Live) {
            let (cursor, live) = (self.store.id().cursor(sent), true);
            self.send(link, &Frame::CaughtUp { id, cursor, live });
        } else {
            self.work.push(Work::Subscription(link, id));
        }
        self.want(prefix);
    }

    /// How long a prefix has to be so that its names may be asked for: as this relay says, and within
    /// an organisation as the grants of the origin say that it has.
    pub(super) fn least_bits(&self, prefix: Prefix) -> u8 {
        let own = self.config.limits.prefix_bits;
        let first = prefix.first();
        if prefix.bits() < ORG_BITS || first.app() != MESSENGER {
            return own;
        }
        own.max(self.grants.subscription_bits(first))
    }

    /// Ends a link that has asked for a shorter prefix than it may. If that is because of an
    /// organisation's grant, the grant goes first: a relay that has passed on what a stranger asked it
    /// for knows better then.
    pub(super) fn too_short(&mut self, link: LinkId, prefix: Prefix) {
        if prefix.bits() >= ORG_BITS
            && let Some(grant) = self.grants.least(prefix.first())
        {
            self.send_grants(link, grant);
        }
        self.misbehaved(link, Misbehaved::PrefixTooShort);
    }

    pub(super) fn unsubscribe(&mut self, link: LinkId, id: u32) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        // It may cross with the end of the subscription: an unknown id is no offence.
        let Some(subscription) = state.subscriptions.remove(&id) else {
            return;
        };
        state
            .blocked
            .retain(|work| *work != Work::Subscription(link, id));
        self.work.remove(Work::Subscription(link, id));
        self.unmarked.remove(&(link, id));
        self.table.remove(subscription.prefix, (link, id));
        self.unwant(subscription.prefix);
    }

    /// Sends the next piece of a subscription's backlog.
    pub(super) fn serve_subscription(&mut self, link: LinkId, id: u32) {
        let (work, window) = (Work::Subscription(link, id), self.window());
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        let Some(subscription) = state.subscriptions.get(&id) else {
            return;
        };
        if !state.has_room(window) {
            state.blocked.push(work);
            return;
        }
        let Subscription {
            prefix,
            phase,
            sent,
        } = *subscription;
        let (direction, limit) = match phase {
            Phase::Live => return,
            Phase::Backlog => return self.serve_backlog((link, id), prefix, sent),
            Phase::Seek { below, left } => {
                (Direction::Below(below), SEEK_CHUNKS.min(left as usize))
            }
            Phase::Newest { below, left, .. } => (
                Direction::Below(below),
                limits::CHUNKS_PER_FRAME.min(left as usize),
            ),
        };
        let page = if limit == 0 {
            Page {
                end: true,
                ..Page::default()
            }
        } else {
            match self.store.scan(&Scan {
                prefix,
                direction,
                limit,
                now: self.now,
            }) {
                Ok(page) => page,
                Err(error) => return self.cannot_read(link, error),
            }
        };
        match phase {
            Phase::Seek { left, .. } => self.seek(link, id, left, &page),
            Phase::Newest { .. } => self.send_newest(link, id, page),
            Phase::Backlog | Phase::Live => {}
        }
        self.go_on(link, id);
    }

    /// Has a subscription served again that is not live.
    fn go_on(&mut self, link: LinkId, id: u32) {
        if self
            .subscription(link, id)
            .is_some_and(|own| !matches!(own.phase, Phase::Live))
        {
            self.work.push(Work::Subscription(link, id));
        }
    }

    fn serve_backlog(&mut self, (link, id): Key, prefix: Prefix, sent: u64) {
        let scan = Scan {
            prefix,
            direction: Direction::Above(sent),
            limit: limits::CHUNKS_PER_FRAME,
            now: self.now,
        };
        let place = (prefix, sent, id);
        match self.pages.piece(place, self.now, || self.store.scan(&scan)) {
            Ok(piece) => self.send_backlog(link, id, piece),
            Err(error) => return self.cannot_read(link, error),
        }
        self.go_on(link, id);
    }

    /// What a peer asked for cannot be read now: it asks again after a reconnect.
    pub(super) fn cannot_read(&mut self, link: LinkId, error: StoreError) {
        self.effects.push_back(Effect::Note(Note::Store(error)));
        self.close(link, Closed::StoreFailed);
    }

    fn subscription(&mut self, link: LinkId, id: u32) -> Option<&mut Subscription> {
        self.links.get_mut(&link)?.subscriptions.get_mut(&id)
    }

    fn send_backlog(&mut self, link: LinkId, id: u32, piece: Piece) {
        let last = self.store.last_sequence();
        let Some(subscription) = self.subscription(link, id) else {
            return;
        };
        let sent = if piece.end {
            last
        } else {
            piece.position.min(last)
        };
        subscription.sent = sent;
        if piece.end {
            subscription.phase = Phase::Live;
        }
        for grant in piece.grants {
            self.send_grants(link, grant);
        }
        if piece.chunks > 0 {
            self.counters.delivered += piece.chunks as u64;
            self.send_bytes(link, piece.bytes);
        }
        if piece.end || piece.chunks > 0 {
            let (cursor, live) = (self.store.id().cursor(sent), piece.end);
            self.send(link, &Frame::CaughtUp { id, cursor, live });
        }
    }

    fn seek(&mut self, link: LinkId, id: u32, left: u32, page: &Page) {
        let left = left.saturating_sub(page.chunks.len() as u32);
        let first = page.chunks.last().map(|(sequence, _)| *sequence);
        let Some(subscription) = self.subscription(link, id) else {
            return;
        };
        subscription.phase = match (left, page.end) {
            (0, _) => {
                subscription.sent = first.map_or(subscription.sent, |first| first - 1);
                Phase::Backlog
            }
            (_, true) => {
                subscription.sent = 0;
                Phase::Backlog
            }
            _ => Phase::Seek {
                below: page.position,
                left,
            },
        };
    }

    fn send_newest(&mut self, link: LinkId, id: u32, mut page: Page) {
        let Some(subscription) = self.subscription(link, id) else {
            return;
        };
        let Phase::Newest { left, top, .. } = subscription.phase else {
            return;
        };
        let floor = subscription.sent;
        page.chunks.retain(|(sequence, _)| *sequence > floor);
        let left = left.saturating_sub(page.chunks.len() as u32);
        if page.end || left == 0 || page.position <= floor.saturating_add(1) {
            subscription.phase = Phase::Backlog;
            subscription.sent = top;
        } else {
            subscription.phase = Phase::Newest {
                below: page.position,
                left,
                top,
            };
        }
        self.send_chunks(link, id, &page.chunks);
    }

    fn send_chunks(&mut self, link: LinkId, id: u32, chunks: &[(u64, Chunk)]) {
        for (_, chunk) in chunks {
            self.send_grants(link, chunk.grant());
        }
        if !chunks.is_empty() {
            self.counters.delivered += chunks.len() as u64;
            self.send_bytes(link, encode(id, chunks.iter().map(|(_, chunk)| chunk)));
        }
    }

    /// Sends the chain of a grant before the first chunk on the link that relies on it.
    pub(super) fn send_grants(&mut self, link: LinkId, grant: GrantId) {
        let Some(state) = self.links.get_mut(&link) else {
            return;
        };
        if grant == GrantId::NONE || state.granted.contains(&grant) {
            return;
        }
        let chain = self.grants.chain(grant);
        if !chain.is_empty() {
            state.granted.insert(grant);
            self.send(link, &Frame::Grant(chain));
        }
    }

    /// Whether a subscription takes chunks from `sequence` on as they come. One that is live and has
    /// no room goes back to reading the store.
    pub(super) fn has_room_live(&mut self, link: LinkId, id: u32, sequence: u64) -> bool {
        let window = self.window();
        let Some(state) = self.links.get_mut(&link) else {
            return false;
        };
        let room = state.has_room(window);
        let Some(subscription) = state.subscriptions.get_mut(&id) else {
            return false;
        };
        if !matches!(subscription.phase, Phase::Live) {
            return false;
        }
        if room {
            return true;
        }
        subscription.phase = Phase::Backlog;
        subscription.sent = sequence - 1;
        state.blocked.push(Work::Subscription(link, id));
        self.unmarked.remove(&(link, id));
        false
    }

    pub(super) fn is_live(&mut self, link: LinkId, id: u32) -> bool {
        self.subscription(link, id)
            .is_some_and(|own| matches!(own.phase, Phase::Live))
    }

    /// Has a resume mark follow soon.
    pub(super) fn mark_later(&mut self, link: LinkId, id: u32) {
        self.unmarked.insert((link, id));
        self.marks_at.get_or_insert(self.now.plus_millis(MARK_MS));
    }

    pub(super) fn send_marks(&mut self) {
        self.marks_at = None;
        let cursor = self.store.id().cursor(self.store.last_sequence());
        for (link, id) in std::mem::take(&mut self.unmarked) {
            if self.is_live(link, id) {
                self.send(
                    link,
                    &Frame::CaughtUp {
                        id,
                        cursor: cursor.clone(),
                        live: true,
                    },
                );
            }
        }
    }
}

/// The first phase of a subscription, and what counts as sent.
fn begin(
    start: &Start,
    order: Order,
    top: u64,
    position: impl Fn(&proto::Cursor) -> Option<u64>,
) -> (Phase, u64) {
    let (floor, left) = match start {
        Start::All => (0, u32::MAX),
        Start::Newest(count) => (0, *count),
        // A position that was never given here is foreign, like another store's.
        Start::After(cursor) => (
            position(cursor).filter(|at| *at <= top).unwrap_or(0),
            u32::MAX,
        ),
    };
    let below = top.saturating_add(1);
    match (order, start) {
        (Order::NewestFirst, _) => (Phase::Newest { below, left, top }, floor),
        (Order::OldestFirst, Start::Newest(0)) => (Phase::Live, top),
        (Order::OldestFirst, Start::Newest(_)) => (Phase::Seek { below, left }, top),
        (Order::OldestFirst, _) => (Phase::Backlog, floor),
    }
}
