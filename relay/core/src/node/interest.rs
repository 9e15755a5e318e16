//! Interest: what the links below want, and what of it the parent is asked for
//! (docs/protocol.md, "SUBSCRIBE, CHUNK, CAUGHT-UP").
//!
//! The parent is asked for the union of what is wanted, each part once. It closes a link that asks for
//! more than it allows, so that when too many prefixes are wanted it is asked for shorter ones that
//! cover them: more comes than is wanted. Where it does not allow those, each link below has the same
//! share of what it is asked for, and the rest is left out, and counted.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{Frame, Order, Prefix, PublicKey, Start, Timestamp};

use super::link::Link;
use super::subscriptions::ORG_BITS;
use super::{LinkId, Node, Work};
use crate::store::{Store, StoreId};

/// Prefixes that the parent is asked for before it is asked for shorter ones: a quarter of what a
/// relay allows a link by default.
const ASKED: usize = 1024;
/// Prefixes that the parent is asked for at all, where shorter ones are not allowed.
const MOST: usize = 2 * ASKED;
/// Prefixes looked at to share the parent among links, for each millisecond until that is done again: a
/// few hundredths of the time.
const LOOKS_PER_MS: u64 = 256;
/// Prefixes wanted at which the parent is asked for just these again.
const FEW: usize = ASKED / 2;
/// How long a parent that would not be asked for short prefixes is not asked for them again, in
/// milliseconds: it may be told otherwise.
const UNWILLING_MS: u64 = 3_600_000;
/// Parents remembered that would not.
const UNWILLING: usize = 64;
/// The leading bits of a name that say its origin.
pub(super) const ORIGIN_BITS: u8 = 24;

/// What the parent is asked for instead of what is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    #[default]
    Exact,
    /// An organisation's path.
    Orgs,
    Origins,
}

impl Width {
    /// As wide as a prefix that stands for longer ones.
    fn of(prefix: Prefix) -> Self {
        if prefix.bits() < ORG_BITS {
            Self::Origins
        } else {
            Self::Orgs
        }
    }

    fn wider(self) -> Option<Self> {
        match self {
            Self::Exact => Some(Self::Orgs),
            Self::Orgs => Some(Self::Origins),
            Self::Origins => None,
        }
    }

    fn narrower(self) -> Self {
        match self {
            Self::Origins => Self::Orgs,
            Self::Orgs | Self::Exact => Self::Exact,
        }
    }

    /// Lengths of prefixes to ask for, the best first.
    fn bits(self) -> &'static [u8] {
        match self {
            Self::Exact => &[],
            Self::Orgs => &[ORG_BITS],
            Self::Origins => &[ORIGIN_BITS, ORG_BITS],
        }
    }
}

/// A prefix that is wanted.
struct Wanted {
    /// By so many subscriptions.
    subscriptions: u32,
    /// What the parent is asked for because of it.
    asked: Option<Prefix>,
}

/// What is wanted below, and what the parent yields.
#[derive(Default)]
pub(super) struct Interest {
    wanted: BTreeMap<Prefix, Wanted>,
    /// What the parent would be asked for, if there is room for all, and for how many.
    asked: BTreeMap<Prefix, u32>,
    width: Width,
    /// Those that have room, when not all have, and how many have none.
    shared: BTreeSet<Prefix>,
    left_out: usize,
    /// When it may be worked out again who has room, after it took long, and whether somebody waits
    /// for that.
    rests_until: Option<Timestamp>,
    waits: bool,
    /// Parents that ended the link instead of answering when they were asked for prefixes as short as
    /// these, and when.
    unwilling: BTreeMap<PublicKey, (Width, Timestamp)>,
    /// Subscriptions at the parent to prefixes that only stand for longer ones, unanswered so far.
    unanswered: BTreeMap<u32, Width>,
    /// What the parent has been asked for.
    subscribed: BTreeMap<Prefix, u32>,
    prefixes: BTreeMap<u32, Prefix>,
    /// Whether a look at the difference is on a list of work.
    queued: bool,
}

impl Interest {
    pub(super) fn prefix(&self, id: u32) -> Option<Prefix> {
        self.prefixes.get(&id).copied()
    }

    /// The number of subscriptions at the parent.
    pub(super) fn len(&self) -> usize {
        self.subscribed.len()
    }

    /// The number of prefixes that are wanted and have no room at the parent.
    pub(super) fn left_out(&self) -> usize {
        self.left_out
    }

    /// When [`Node::share_interest`] has something to do.
    pub(super) fn share_at(&self) -> Option<Timestamp> {
        self.rests_until.filter(|_| self.waits)
    }

    /// The clock was set back.
    pub(super) fn share_now(&mut self, now: Timestamp) {
        self.rests_until = self.rests_until.map(|_| now);
    }

    pub(super) fn parent_lost(&mut self) {
        self.left_out = 0;
        self.rests_until = None;
        self.waits = false;
        self.subscribed.clear();
        self.prefixes.clear();
        self.unanswered.clear();
        self.queued = false;
    }

    /// The parent has said goodbye: because of what it was asked for, if it has not answered that.
    pub(super) fn parent_left(&mut self, key: PublicKey, now: Timestamp) {
        let Some(width) = self.unanswered.values().max() else {
            return;
        };
        if self.unwilling.len() >= UNWILLING {
            let oldest = self.unwilling.iter().min_by_key(|(_, (_, at))| *at);
            let oldest = oldest.map(|(key, _)| *key);
            oldest.and_then(|oldest| self.unwilling.remove(&oldest));
        }
        self.unwilling.insert(key, (*width, now));
    }

    /// The parent has answered a subscription.
    pub(super) fn answered(&mut self, id: u32) {
        self.unanswered.remove(&id);
    }

    fn widest(&self, parent: Option<PublicKey>, now: Timestamp) -> Width {
        let unwilling = parent.and_then(|parent| self.unwilling.get(&parent));
        match unwilling {
            Some((width, at)) if *at <= now && now.since(*at) < UNWILLING_MS => width.narrower(),
            _ => Width::Origins,
        }
    }

    /// Puts a prefix among those to be asked for.
    fn ask(&mut self, prefix: Option<Prefix>) {
        if let Some(prefix) = prefix {
            *self.asked.entry(prefix).or_default() += 1;
        }
    }

    fn drop(&mut self, prefix: Prefix) {
        if let Some(count) = self.asked.get_mut(&prefix) {
            *count -= 1;
            if *count == 0 {
                self.asked.remove(&prefix);
            }
        }
    }

    /// What is to be asked for, without what another of it covers.
    fn goal(&self) -> BTreeSet<Prefix> {
        let mut last: Option<Prefix> = None;
        let mut goal = BTreeSet::new();
        // A prefix stands before all that it covers.
        for prefix in self.asked.keys() {
            if last.is_none_or(|last| !last.covers(*prefix)) {
                goal.insert(*prefix);
                last = Some(*prefix);
            }
        }
        goal
    }

    /// What of too long a goal the parent is asked for: in turns one prefix of each link. Says how many
    /// prefixes were looked at, too.
    fn share<'a>(
        &self,
        goal: &BTreeSet<Prefix>,
        links: impl Iterator<Item = &'a Link>,
    ) -> (BTreeSet<Prefix>, usize) {
        let mut shared = BTreeSet::new();
        let mut looks = goal.len();
        let own = links.map(|link| link.subscriptions.values());
        let mut waiting: VecDeque<_> = own.collect();
        while shared.len() < MOST
            && let Some(mut own) = waiting.pop_front()
        {
            let new = own.by_ref().find_map(|subscription| {
                looks += 1;
                let asked = self.wanted.get(&subscription.prefix)?.asked?;
                let covers = goal.range(..=asked).next_back()?;
                shared.insert(*covers).then_some(())
            });
            if new.is_some() {
                waiting.push_back(own);
            }
        }
        (shared, looks)
    }
}

impl<S: Store> Node<S> {
    /// One more subscription below wants a prefix.
    pub(super) fn want(&mut self, prefix: Prefix) {
        if let Some(wanted) = self.upstream.interest.wanted.get_mut(&prefix) {
            wanted.subscriptions += 1;
            return;
        }
        let asked = self.ask_for(prefix);
        let interest = &mut self.upstream.interest;
        let wanted = Wanted {
            subscriptions: 1,
            asked,
        };
        interest.ask(asked);
        interest.wanted.insert(prefix, wanted);
        self.ask_wider();
        self.queue_interest();
    }

    /// One subscription fewer below wants a prefix.
    pub(super) fn unwant(&mut self, prefix: Prefix) {
        let interest = &mut self.upstream.interest;
        let Some(wanted) = interest.wanted.get_mut(&prefix) else {
            return;
        };
        wanted.subscriptions -= 1;
        if wanted.subscriptions > 0 {
            return;
        }
        let asked = interest.wanted.remove(&prefix);
        if let Some(asked) = asked.and_then(|wanted| wanted.asked) {
            interest.drop(asked);
        }
        let width = interest.width;
        if width > Width::Exact && interest.wanted.len() <= FEW {
            self.ask_anew(Width::Exact);
        }
        self.queue_interest();
    }

    fn widest(&self) -> Width {
        let parent = self.upstream.key();
        self.upstream.interest.widest(parent, self.now)
    }

    /// What the parent is asked for because a prefix is wanted: nothing, if its origin is not served
    /// here, because nothing of it would be taken, or if a grant that has come since then says that
    /// nobody may ask for it. Shorter ones are asked for where they would be allowed here.
    fn ask_for(&self, prefix: Prefix) -> Option<Prefix> {
        if prefix.bits() < self.least_bits(prefix) {
            return None;
        }
        if prefix.bits() >= ORIGIN_BITS && !self.grants.serves(prefix.first()) {
            return None;
        }
        let width = self.upstream.interest.width;
        if width == Width::Exact {
            return Some(prefix);
        }
        let shorter = width.bits().iter().filter(|bits| **bits < prefix.bits());
        let mut shorter = shorter.map(|bits| Prefix::of(prefix.first(), *bits));
        let allowed = shorter.find(|shorter| shorter.bits() >= self.least_bits(*shorter));
        Some(allowed.unwrap_or(prefix))
    }

    /// Works out again what the parent is asked for, with prefixes as short as these at first, and
    /// shorter ones while they are too many.
    fn ask_anew(&mut self, width: Width) {
        let widest = self.widest();
        let wanted = std::mem::take(&mut self.upstream.interest.wanted);
        let mut width = Some(width.min(widest));
        while let Some(now) = width {
            let interest = &mut self.upstream.interest;
            interest.width = now;
            interest.asked.clear();
            width = now.wider().filter(|wider| *wider <= widest);
            let most = if width.is_some() { ASKED } else { usize::MAX };
            for prefix in wanted.keys() {
                let asked = self.ask_for(*prefix);
                self.upstream.interest.ask(asked);
                if self.upstream.interest.asked.len() > most {
                    break;
                }
            }
            if self.upstream.interest.asked.len() <= most {
                break;
            }
        }
        let placed = wanted.into_iter().map(|(prefix, wanted)| {
            let asked = self.ask_for(prefix);
            (prefix, Wanted { asked, ..wanted })
        });
        let placed = placed.collect();
        let interest = &mut self.upstream.interest;
        interest.wanted = placed;
        // Who had room before says nothing of this.
        interest.rests_until = None;
        self.queue_interest();
    }

    /// The parent may be asked now: it has been asked for nothing yet.
    pub(super) fn ask_parent(&mut self) {
        self.ask_anew(Width::Exact);
    }

    /// Asks for shorter prefixes where there are too many, if the parent may allow them by now.
    pub(super) fn ask_wider(&mut self) {
        let interest = &self.upstream.interest;
        let (many, width) = (interest.asked.len() > ASKED, interest.width);
        if many && width < self.widest() {
            self.ask_anew(width);
        }
    }

    /// Other origins are served than before.
    pub(super) fn ask_for_origins(&mut self) {
        self.ask_anew(self.upstream.interest.width);
    }

    fn queue_interest(&mut self) {
        if self.upstream.ready().is_some() && !self.upstream.interest.queued {
            self.upstream.interest.queued = true;
            self.work.push(Work::Interest);
        }
    }

    /// What the parent is to be asked for: for a while as it was worked out before, when that has taken
    /// long.
    fn fair_goal(&mut self) -> BTreeSet<Prefix> {
        let interest = &mut self.upstream.interest;
        let crowded = interest.asked.len() > MOST;
        interest.waits = crowded && interest.rests_until.is_some_and(|until| self.now < until);
        if interest.waits {
            let wanted = |prefix: &&Prefix| interest.asked.contains_key(*prefix);
            return interest.shared.iter().filter(wanted).copied().collect();
        }
        interest.left_out = 0;
        let goal = interest.goal();
        if goal.len() <= MOST {
            return goal;
        }
        let below = self.links.values().filter(|link| link.is_below());
        let (shared, looks) = interest.share(&goal, below);
        interest.left_out = goal.len() - shared.len();
        interest.shared.clone_from(&shared);
        let rest = looks as u64 / LOOKS_PER_MS;
        interest.rests_until = Some(self.now.plus_millis(rest));
        shared
    }

    /// Works out who has room at the parent, when that had to wait.
    pub(super) fn share_interest(&mut self) {
        if self
            .upstream
            .interest
            .share_at()
            .is_some_and(|at| at <= self.now)
        {
            self.upstream.interest.waits = false;
            self.queue_interest();
        }
    }

    /// Ends subscriptions at the parent and begins others until it yields what it is to be asked for,
    /// as far as there is room on the link.
    pub(super) fn serve_interest(&mut self) {
        self.upstream.interest.queued = false;
        let goal = self.fair_goal();
        let interest = &self.upstream.interest;
        let kept = interest.subscribed.keys().copied();
        let ends: Vec<Prefix> = kept.filter(|prefix| !goal.contains(prefix)).collect();
        let new = |prefix: &Prefix| !interest.subscribed.contains_key(prefix);
        let begins: Vec<Prefix> = goal.into_iter().filter(new).collect();
        let ends = ends.into_iter().map(|prefix| (prefix, false));
        let changes = ends.chain(begins.into_iter().map(|prefix| (prefix, true)));
        for (prefix, begin) in changes {
            let (Some(link), Some(store)) = (self.upstream.ready(), self.upstream.store()) else {
                return;
            };
            let window = self.window();
            let Some(state) = self.links.get_mut(&link) else {
                return;
            };
            if !state.has_room(window) {
                state.blocked.push(Work::Interest);
                self.upstream.interest.queued = true;
                return;
            }
            if begin {
                self.subscribe_above(link, store, prefix);
            } else {
                self.unsubscribe_above(link, prefix);
            }
        }
    }

    fn subscribe_above(&mut self, link: LinkId, store: StoreId, prefix: Prefix) {
        let start = match self.resume_point(store, prefix) {
            Some(start) => start,
            None if self.upstream.walk().is_some() && self.holds_some(prefix) => Start::Newest(0),
            None => Start::All,
        };
        if let (Start::Newest(_), Some(walk)) = (&start, self.upstream.walk()) {
            walk.add(prefix);
            self.queue_walk();
        }
        let id = self.upstream.fresh_id();
        let interest = &mut self.upstream.interest;
        interest.subscribed.insert(prefix, id);
        interest.prefixes.insert(id, prefix);
        if !interest.wanted.contains_key(&prefix) {
            let width = Width::of(prefix);
            interest.unanswered.insert(id, width);
        }
        self.send(
            link,
            &Frame::Subscribe {
                id,
                prefix,
                start,
                order: Order::OldestFirst,
            },
        );
    }

    /// Where a prefix or, if it never was asked for by itself, one that covers it goes on.
    fn resume_point(&mut self, store: StoreId, prefix: Prefix) -> Option<Start> {
        let shorter = [ORG_BITS, ORIGIN_BITS].into_iter();
        let shorter = shorter.filter(|bits| *bits < prefix.bits());
        let mut places = [prefix.bits()].into_iter().chain(shorter);
        places.find_map(|bits| {
            let place = Prefix::of(prefix.first(), bits);
            let cursor = self.store.resume_point(store, place).ok().flatten();
            cursor.map(Start::After)
        })
    }

    fn unsubscribe_above(&mut self, link: LinkId, prefix: Prefix) {
        let Some(id) = self.upstream.interest.subscribed.remove(&prefix) else {
            return;
        };
        self.upstream.interest.prefixes.remove(&id);
        self.upstream.interest.answered(id);
        if let Some(walk) = self.upstream.walk() {
            walk.drop_prefix(prefix);
        }
        self.send(link, &Frame::Unsubscribe { id });
    }
}
