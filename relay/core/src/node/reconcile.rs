//! Reconciliation with a parent whose store is another than the one that we are in step with
//! (docs/protocol.md, "RECONCILE"): what it has under our subscriptions and we lack is asked for, what
//! we have and it lacks is marked to go up like anything that it has not acknowledged.
//!
//! We ask what lies in a span of names, compare the parts of the answer with our own, and ask again
//! about those that differ, until they are lists. All that is remembered is the spans still to be
//! asked about and one answer: a fixed amount, whatever the parent says.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{
    Cursor, Frame, Holds, Listed, Misbehaved, Name, Part, Prefix, Reconcile, Span, Summary, limits,
};

use super::interest::ORIGIN_BITS;
use super::{Effect, LinkId, Node, Note, Work};
use crate::store::{Held, Progress, ResumePoint, Store, StoreError, StoreId};

/// Own names compared before others have their turn.
const NAMES_PER_SLICE: usize = 512;
/// Parts compared before others have their turn.
const PARTS_PER_SLICE: usize = 64;
/// Wishes that the parent has not fulfilled, before the next question.
const WISHES: usize = 4;
/// How often a span may be divided: each time into parts of at most half its chunks, so that more
/// than this is not honest.
const DEPTH: u8 = 64;

/// How far the reconciliation with the present parent has come.
pub(super) struct Walk {
    /// Whether what the parent lacks is looked for, too.
    up: bool,
    /// Subscriptions to be looked through.
    prefixes: VecDeque<Prefix>,
    /// All subscriptions that wait for the end, with the place where the parent says to resume.
    marks: BTreeMap<Prefix, Option<Cursor>>,
    /// Where to look for the next path of a team that no subscription covers.
    places: Option<Name>,
    /// Whether the spans are a subscription's, so that what we lack is wanted.
    down: bool,
    /// Still to be asked about: the lowest last, each with how often it has been divided.
    spans: Vec<(Span, u8)>,
    asked: Option<Asked>,
    /// What is to be wanted after this comparison.
    missing: Vec<Span>,
    /// Whether the last missing span may grow: we have no name between it and what comes now.
    growing: bool,
    wishes: BTreeSet<u32>,
    queued: bool,
    ended: bool,
}

struct Asked {
    id: u32,
    spans: Vec<(Span, u8)>,
    /// How many spans remained to be asked about.
    left: usize,
    /// What had been sent up and not acknowledged when we asked: the answer may not know it yet.
    in_flight: BTreeSet<Name>,
    /// The last chunk that was here when we asked.
    top: u64,
    /// The answer, and how much of it has been compared.
    told: Option<Told>,
}

struct Told {
    parts: VecDeque<(Part, u8)>,
    /// What of the first part has not been looked at here.
    rest: Option<Span>,
    own: Summary,
    /// How many of the first part's names have been passed.
    passed: usize,
}

impl Walk {
    pub(super) fn new(up: bool) -> Self {
        Self {
            up,
            prefixes: VecDeque::new(),
            marks: BTreeMap::new(),
            places: up.then_some(Name(0)),
            down: false,
            spans: Vec::new(),
            asked: None,
            missing: Vec::new(),
            growing: false,
            wishes: BTreeSet::new(),
            queued: false,
            ended: false,
        }
    }

    pub(super) fn uses(&self, id: u32) -> bool {
        self.is_wish(id) || self.asked.as_ref().is_some_and(|asked| asked.id == id)
    }

    pub(super) fn is_wish(&self, id: u32) -> bool {
        self.wishes.contains(&id)
    }

    pub(super) fn add(&mut self, prefix: Prefix) {
        self.prefixes.push_back(prefix);
        self.marks.insert(prefix, None);
        self.ended = false;
    }

    pub(super) fn drop_prefix(&mut self, prefix: Prefix) {
        self.prefixes.retain(|other| *other != prefix);
        self.marks.remove(&prefix);
    }

    /// Keeps the place where a subscription resumes until what came before it is here. Returns
    /// whether there is anything to wait for.
    pub(super) fn hold_mark(&mut self, prefix: Prefix, cursor: &Cursor) -> bool {
        let mark = self.marks.get_mut(&prefix);
        mark.map(|mark| *mark = Some(cursor.clone())).is_some()
    }

    fn want(&mut self, span: Span) {
        match self.missing.last_mut().filter(|_| self.growing) {
            Some(last) => *last = Span::new(last.first(), span.last()).unwrap_or(span),
            None => self.missing.push(span),
        }
        self.growing = true;
    }
}

impl Asked {
    /// The parts of an answer, if they fill exactly the spans that were asked about.
    fn accept(&self, parts: Vec<Part>) -> Option<VecDeque<(Part, u8)>> {
        let mut accepted = VecDeque::with_capacity(parts.len());
        let mut spans = self.spans.iter();
        let mut rest: Option<(Span, u8)> = None;
        let mut of_span = 0;
        for part in parts {
            if rest.is_none() {
                rest = spans.next().copied();
                of_span = 0;
            }
            let (span, depth) = rest?;
            of_span += 1;
            if part.span.first() != span.first()
                || part.span.last() > span.last()
                || of_span > limits::PARTS_PER_SPAN
            {
                return None;
            }
            rest = span.behind(part.span.last()).map(|rest| (rest, depth));
            accepted.push_back((part, depth));
        }
        (rest.is_none() && spans.next().is_none()).then_some(accepted)
    }

    /// Whether the parent, when it answered, must have got a chunk if it took it.
    fn is_settled(&self, held: &Held) -> bool {
        held.sequence <= self.top && !self.in_flight.contains(&held.name)
    }
}

impl Walk {
    /// Compares the next own names with the first part; takes the part away when it is done. Returns
    /// what the parent lacks.
    fn compare(&mut self, held: &[Held], complete: bool) -> Vec<Name> {
        let Some(mut asked) = self.asked.take() else {
            return Vec::new();
        };
        let mut lacking = Vec::new();
        if let Some(told) = asked.told.as_mut()
            && let Some((part, depth)) = told.parts.pop_front()
        {
            held.iter().for_each(|held| told.own.add(held.digest));
            if let Holds::Names(names) = &part.holds {
                let mut passed = told.passed;
                for held in held {
                    if self.pass(names, &mut passed, held) && self.up {
                        lacking.push(*held);
                    }
                }
                told.passed = passed;
            }
            if complete {
                self.close_part(&part, depth, told);
                let next = told.parts.front().map(|(part, _)| part.span);
                let adjacent =
                    |next: Span| part.span.last().0.checked_add(1) == Some(next.first().0);
                self.growing &= next.is_some_and(adjacent);
                told.rest = next;
                (told.own, told.passed) = (Summary::default(), 0);
            } else {
                told.rest = held.last().and_then(|last| part.span.behind(last.name));
                told.parts.push_front((part, depth));
            }
        }
        lacking.retain(|held| asked.is_settled(held));
        self.asked = Some(asked);
        lacking.iter().map(|held| held.name).collect()
    }

    /// Passes the listed names up to an own one. Returns whether that one is not among them, or is
    /// there with other bytes.
    fn pass(&mut self, names: &[Listed], passed: &mut usize, held: &Held) -> bool {
        while let Some(listed) = names.get(*passed).filter(|listed| listed.name < held.name) {
            self.lack(listed.name);
            *passed += 1;
        }
        let same = names.get(*passed).filter(|listed| listed.name == held.name);
        *passed += usize::from(same.is_some());
        let conflict = same.is_some_and(|same| *same != Listed::new(held.name, held.digest));
        self.growing = false;
        if conflict && !self.up {
            // Who refuses the other's chunk reports it: here we do, above they do.
            self.lack(held.name);
            self.growing = false;
        }
        conflict || same.is_none()
    }

    fn lack(&mut self, name: Name) {
        if let Some(span) = Span::new(name, name).filter(|_| self.down) {
            self.want(span);
        }
    }

    fn close_part(&mut self, part: &Part, depth: u8, told: &Told) {
        match &part.holds {
            Holds::Names(names) => {
                names[told.passed.min(names.len())..]
                    .iter()
                    .for_each(|listed| self.lack(listed.name));
            }
            Holds::Summary(theirs) if *theirs == told.own => self.growing = false,
            Holds::Summary(_) if told.own.count == 0 => {
                if self.down {
                    self.want(part.span);
                }
            }
            Holds::Summary(_) => {
                self.growing = false;
                self.spans.push((part.span, depth + 1));
            }
        }
    }
}

impl<S: Store> Node<S> {
    /// RECONCILE from the parent.
    pub(super) fn reconcile_above(&mut self, link: LinkId, said: Reconcile) {
        let Reconcile::Tell { id, parts } = said else {
            return self.misbehaved(link, Misbehaved::NotAllowed);
        };
        let asked = self.upstream.walk().and_then(|walk| walk.asked.as_mut());
        let asked = asked.filter(|asked| asked.id == id && asked.told.is_none());
        let told = asked.and_then(|asked| asked.accept(parts).map(|parts| (asked, parts)));
        let Some((asked, parts)) = told else {
            return self.misbehaved(link, Misbehaved::NotAsked);
        };
        asked.told = Some(Told {
            rest: parts.front().map(|(part, _)| part.span),
            parts,
            own: Summary::default(),
            passed: 0,
        });
        self.queue_walk();
    }

    /// The parent has sent all of a wish. Returns whether it was one.
    pub(super) fn wish_done(&mut self, id: u32) -> bool {
        let walk = self.upstream.walk();
        let was = walk.is_some_and(|walk| walk.wishes.remove(&id));
        if was {
            self.queue_walk();
        }
        was
    }

    pub(super) fn queue_walk(&mut self) {
        if let Some(walk) = self.upstream.walk()
            && !walk.queued
            && !walk.ended
        {
            walk.queued = true;
            self.work.push(Work::Walk);
        }
    }

    /// Compares a piece of the answer, or asks the next question.
    pub(super) fn serve_walk(&mut self) {
        let Some(link) = self.upstream.link() else {
            return;
        };
        let Some(walk) = self.upstream.walk() else {
            return;
        };
        walk.queued = false;
        let told = walk.asked.as_ref().map(|asked| asked.told.is_some());
        let done = match told {
            Some(true) => self.compare_told(link),
            Some(false) => Ok(()),
            None if walk.wishes.len() >= WISHES => Ok(()),
            None => self.ask_next(link),
        };
        if let Err(error) = done {
            self.effects.push_back(Effect::Note(Note::Store(error)));
        }
    }

    fn compare_told(&mut self, link: LinkId) -> Result<(), StoreError> {
        let tier = self.config.tier;
        let mut budget = NAMES_PER_SLICE;
        for _ in 0..PARTS_PER_SLICE {
            let Some(walk) = self.upstream.walk() else {
                return Ok(());
            };
            let told = walk.asked.as_ref().and_then(|asked| asked.told.as_ref());
            let Some(told) = told.filter(|told| !told.parts.is_empty()) else {
                return self.end_comparison(link);
            };
            let held = match told.rest {
                Some(rest) => self.store.names(rest, budget, self.now)?,
                None => Vec::new(),
            };
            let complete = held.len() < budget;
            budget -= held.len();
            for name in walk.compare(&held, complete) {
                self.feed.push_progress(name, Progress::Lacking(tier));
            }
            if !complete {
                break;
            }
        }
        self.queue_walk();
        Ok(())
    }

    /// The whole answer has been compared: asks for what was found missing, then goes on.
    fn end_comparison(&mut self, link: LinkId) -> Result<(), StoreError> {
        let Some(walk) = self.upstream.walk() else {
            return Ok(());
        };
        let missing = std::mem::take(&mut walk.missing);
        // What is to be divided further was found in ascending order, and the lowest stands last.
        let left = walk.asked.take().map_or(0, |asked| asked.left);
        walk.spans[left..].reverse();
        walk.growing = false;
        if walk.spans.iter().any(|(_, depth)| *depth > DEPTH) {
            self.misbehaved(link, Misbehaved::NotAsked);
            return Ok(());
        }
        for spans in missing.chunks(limits::SPANS_PER_WANT) {
            let id = self.upstream.fresh_id();
            if let Some(walk) = self.upstream.walk() {
                walk.wishes.insert(id);
            }
            let spans = spans.to_vec();
            self.send(link, &Frame::Reconcile(Reconcile::Want { id, spans }));
        }
        self.queue_walk();
        Ok(())
    }

    fn ask_next(&mut self, link: LinkId) -> Result<(), StoreError> {
        let window = self.window();
        let live = self.upstream.is_live();
        let Some(walk) = self.upstream.walk() else {
            return Ok(());
        };
        if walk.up && !live {
            return Ok(()); // The backlog's end queues this again.
        }
        if walk.spans.is_empty() {
            if let Some(prefix) = walk.prefixes.pop_front() {
                walk.down = true;
                walk.spans.push((prefix.into(), 0));
            } else {
                self.find_places()?;
            }
        }
        let Some(state) = self.links.get_mut(&link) else {
            return Ok(());
        };
        if !state.has_room(window) {
            state.blocked.push(Work::Walk);
            if let Some(walk) = self.upstream.walk() {
                walk.queued = true;
            }
            return Ok(());
        }
        let (id, in_flight) = (self.upstream.fresh_id(), self.upstream.in_flight());
        let Some(walk) = self.upstream.walk() else {
            return Ok(());
        };
        let left = walk.spans.len().saturating_sub(limits::SPANS_PER_ASK);
        let mut asked = walk.spans.split_off(left);
        if asked.is_empty() {
            if walk.wishes.is_empty() {
                self.end_walk();
            }
            return Ok(());
        }
        asked.reverse();
        let spans = asked.iter().map(|(span, _)| *span).collect();
        walk.asked = Some(Asked {
            id,
            spans: asked,
            left,
            in_flight,
            top: self.store.last_sequence(),
            told: None,
        });
        self.send(link, &Frame::Reconcile(Reconcile::Ask { id, spans }));
        Ok(())
    }

    /// The next paths of teams of which we hold something and which no subscription covers.
    fn find_places(&mut self) -> Result<(), StoreError> {
        let Some(walk) = self.upstream.walk() else {
            return Ok(());
        };
        walk.down = false;
        let mut found = Vec::new();
        while let Some(at) = walk.places
            && found.len() < limits::SPANS_PER_ASK
        {
            let rest = Span::new(at, Name(u128::MAX)).unwrap_or(Span::ALL);
            let Some(held) = self.store.names(rest, 1, self.now)?.first().copied() else {
                walk.places = None;
                break;
            };
            let bits = if self.grants.serves(held.name) {
                Name::TEAM_BITS
            } else {
                ORIGIN_BITS
            };
            let place = Prefix::of(held.name, bits);
            let covering = walk.marks.keys().find(|prefix| prefix.contains(held.name));
            if covering.is_none() && bits == Name::TEAM_BITS {
                found.extend(Span::new(held.name, place.last()).map(|span| (span, 0)));
            }
            // A subscription longer than a place has been looked through, the rest of the place not.
            let passed = covering.map_or(place.last(), |prefix| prefix.last());
            walk.places = passed.0.checked_add(1).map(Name);
        }
        found.reverse();
        walk.spans = found;
        Ok(())
    }

    /// Nothing is left to ask and all that was wanted is here: from now on the cursors lead.
    fn end_walk(&mut self) {
        let Some(store) = self.upstream.store() else {
            return;
        };
        let Some(walk) = self.upstream.walk() else {
            return;
        };
        walk.ended = true;
        let marks = std::mem::take(&mut walk.marks);
        let up = std::mem::take(&mut walk.up);
        for (prefix, cursor) in marks {
            if let Some(cursor) = cursor {
                self.feed.push_resume(ResumePoint {
                    upstream: store,
                    prefix,
                    cursor,
                });
            }
        }
        if up {
            self.feed.set_in_step(store);
        }
    }

    /// Whether anything alive is here under a prefix.
    pub(super) fn holds_some(&mut self, prefix: Prefix) -> bool {
        let held = self.store.names(prefix.into(), 1, self.now);
        held.is_ok_and(|held| !held.is_empty())
    }

    /// The store that we are in step with; the first one that we ever meet is at once.
    pub(super) fn begin_walk(&mut self, store: StoreId) -> Walk {
        let known = self.store.in_step().ok().flatten();
        if known.is_none() {
            self.feed.set_in_step(store);
        }
        Walk::new(known.is_some_and(|known| known != store))
    }
}
