//! Work that waits for its turn. Each link that waits has the same share, however much it has asked
//! for: who asks for everything at once waits for it, and nobody else does.

use std::collections::{BTreeMap, VecDeque};

use super::{LinkId, Work};

/// Whose work it is; `None` for our own at the parent.
type Whose = Option<LinkId>;

/// What somebody waits for.
pub(super) trait Turn: PartialEq {
    fn whose(&self) -> Whose;
}

impl Turn for Work {
    /// The link that has asked for it.
    fn whose(&self) -> Whose {
        match self {
            Self::Subscription(link, _)
            | Self::Fetch(link, _)
            | Self::Answer(link)
            | Self::Wish(link, _) => Some(*link),
            Self::Upward | Self::Interest | Self::Walk => None,
        }
    }
}

/// A fetch of a link.
impl Turn for (LinkId, u32) {
    fn whose(&self) -> Whose {
        Some(self.0)
    }
}

pub(super) struct Turns<T> {
    waiting: BTreeMap<Whose, VecDeque<T>>,
    /// Those who wait, the next one first.
    order: VecDeque<Whose>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            waiting: BTreeMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T: Turn> Turns<T> {
    pub(super) fn push(&mut self, work: T) {
        let whose = work.whose();
        let waiting = self.waiting.entry(whose).or_default();
        if waiting.is_empty() {
            self.order.push_back(whose);
        }
        waiting.push_back(work);
    }

    pub(super) fn pop(&mut self) -> Option<T> {
        let whose = self.order.pop_front()?;
        let waiting = self.waiting.get_mut(&whose)?;
        let work = waiting.pop_front();
        if waiting.is_empty() {
            self.waiting.remove(&whose);
        } else {
            self.order.push_back(whose);
        }
        work
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Drops a piece of work that need not be done any more.
    pub(super) fn remove(&mut self, work: T) {
        let whose = work.whose();
        let Some(waiting) = self.waiting.get_mut(&whose) else {
            return;
        };
        waiting.retain(|other| *other != work);
        if waiting.is_empty() {
            self.forget(whose);
        }
    }

    /// Drops all that a link waits for.
    pub(super) fn forget(&mut self, whose: Whose) {
        if self.waiting.remove(&whose).is_some() {
            self.order.retain(|other| *other != whose);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_link_has_its_turn_and_its_work_its_order() {
        let mut turns = Turns::default();
        let of = |link, id| Work::Fetch(LinkId(link), id);
        for work in [of(1, 1), of(1, 2), of(1, 3), Work::Upward, of(2, 1)] {
            turns.push(work);
        }
        turns.push(of(3, 1));
        turns.remove(of(1, 2));
        turns.forget(Some(LinkId(3)));
        let order: Vec<Work> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, [of(1, 1), Work::Upward, of(2, 1), of(1, 3)]);
        assert!(turns.is_empty() && turns.waiting.is_empty());
    }
}
