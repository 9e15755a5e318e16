//! Which of several relays above is used: the nearest that answers, with another kept connected
//! beside it, so that traffic moves at once when the one in use goes silent, and back when it returns.
//!
//! [`Parents`] decides and has no I/O: it is told what happened and when, and says what to do. Links
//! are made, watched and handed to the node by [`keep`]. Sources: docs/protocol.md, "Finding relays";
//! the staggered attempts are those of RFC 8305, section 5.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proto::{PublicKey, Tier};

mod above;
mod keep;

pub use above::{Above, Up};
pub use keep::{Candidate, Offer, keep};

/// Links kept up at the same time: one in use, one beside it.
const LINKS: usize = 2;
/// Attempts to connect at the same time.
const DIALS: usize = 4;
/// Pause between the beginnings of two attempts, in milliseconds (RFC 8305: 250).
const STAGGER_MS: u64 = 250;
/// Silence after which traffic moves, in milliseconds. A live peer is heard about every 600.
const SILENT_MS: u64 = 1_400;
/// The first and the longest pause between two attempts at one relay, in milliseconds.
const PAUSE_MS: (u64, u64) = (100, 5_000);
/// How long a nearer relay has to be there before traffic moves to it: at first, and at most when it
/// fails again and again, in milliseconds.
const HOLD_MS: (u64, u64) = (1_000, 60_000);
/// A link that has lived so long was a good one, in milliseconds.
const GOOD_MS: u64 = 5_000;

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Connect to this relay.
    Dial(PublicKey),
    /// Hand the link to this relay to the node, which ends the one in use.
    Use(PublicKey),
    /// End the link or the attempt.
    Drop(PublicKey),
}

/// Where a relay stands before it has said so itself: its tier where that is known, then the order in
/// which it was named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// The tier that it is likely to have.
    pub tier: Tier,
    /// Lower is tried first.
    pub order: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Link {
    Down { again_ms: u64 },
    Dialling,
    Up { since_ms: u64, heard_ms: u64 },
    Leaving,
}

#[derive(Debug)]
struct Relay {
    rank: Rank,
    /// What it said in its HELLO.
    tier: Option<Tier>,
    link: Link,
    pause_ms: u64,
    hold_ms: u64,
    /// Nobody names it any more: it is forgotten when its link ends.
    gone: bool,
}

impl Relay {
    /// Nearest first; a device that serves its LAN comes behind a relay there.
    fn distance(&self) -> (u8, u16) {
        let class = match self.tier.unwrap_or(self.rank.tier) {
            Tier::Local => 0,
            Tier::Device => 1,
            Tier::Cloud => 2,
            Tier::Origin => 3,
        };
        (class, self.rank.order)
    }

    fn is_heard(&self, now_ms: u64) -> bool {
        matches!(self.link, Link::Up { heard_ms, .. } if now_ms < heard_ms + SILENT_MS)
    }

    /// Whether it has been up for long enough to move to it from one that works.
    fn is_steady(&self, now_ms: u64) -> bool {
        let long =
            matches!(self.link, Link::Up { since_ms, .. } if now_ms >= since_ms + self.hold_ms);
        long && self.is_heard(now_ms)
    }
}

/// The choice between relays above. Inputs carry the time, in milliseconds of any clock that never
/// goes back; after each, drain [`Parents::next_action`] and sleep until [`Parents::next_timeout`].
#[derive(Debug)]
pub struct Parents {
    relays: BTreeMap<PublicKey, Relay>,
    active: Option<PublicKey>,
    now_ms: u64,
    dialled_ms: Option<u64>,
    /// When the next attempt is due, if only time is lacking.
    due_ms: Option<u64>,
    actions: VecDeque<Action>,
    seed: u64,
}

impl Parents {
    /// Nothing is known yet. The seed spreads the pauses of many clients.
    pub fn new(seed: u64) -> Self {
        Self {
            relays: BTreeMap::new(),
            active: None,
            now_ms: 0,
            dialled_ms: None,
            due_ms: None,
            actions: VecDeque::new(),
            seed: seed | 1,
        }
    }

    /// The relays that there are now. Links to others live on until they end by themselves, but those
    /// to relays that have lost the user's trust end.
    pub fn offer(
        &mut self,
        ranks: &BTreeMap<PublicKey, Rank>,
        lost: &BTreeSet<PublicKey>,
        now_ms: u64,
    ) {
        for (key, relay) in &mut self.relays {
            relay.gone = !ranks.contains_key(key);
            if relay.gone && relay.link == Link::Dialling {
                self.actions.push_back(Action::Drop(*key));
            }
        }
        self.relays.retain(|_, relay| {
            !relay.gone || matches!(relay.link, Link::Up { .. } | Link::Leaving)
        });
        let ends = |key: &PublicKey, relay: &mut Relay| relay.gone && lost.contains(key);
        for (key, _) in self.relays.extract_if(.., ends) {
            if self.active == Some(key) {
                self.active = None;
            }
            self.actions.push_back(Action::Drop(key));
        }
        for (key, rank) in ranks {
            let relay = self.relays.entry(*key).or_insert(Relay {
                rank: *rank,
                tier: None,
                link: Link::Down { again_ms: now_ms },
                pause_ms: PAUSE_MS.0,
                hold_ms: HOLD_MS.0,
                gone: false,
            });
            relay.rank = *rank;
        }
        self.decide(now_ms);
    }

    /// A relay was found at a new place, or the network has changed: it need not wait for its turn.
    pub fn hasten(&mut self, key: PublicKey, now_ms: u64) {
        if let Some(relay) = self.relays.get_mut(&key)
            && let Link::Down { again_ms } = &mut relay.link
        {
            *again_ms = now_ms;
            relay.pause_ms = PAUSE_MS.0;
        }
        self.decide(now_ms);
    }

    /// An attempt has come to its end: the relay has said where it stands.
    pub fn connected(&mut self, key: PublicKey, tier: Tier, now_ms: u64) {
        match self.relays.get_mut(&key) {
            Some(relay) if relay.link == Link::Dialling => {
                relay.tier = Some(tier);
                relay.link = Link::Up {
                    since_ms: now_ms,
                    heard_ms: now_ms,
                };
            }
            _ => self.actions.push_back(Action::Drop(key)),
        }
        self.decide(now_ms);
    }

    /// An attempt has failed.
    pub fn failed(&mut self, key: PublicKey, now_ms: u64) {
        if self
            .relays
            .get(&key)
            .is_some_and(|relay| relay.link == Link::Dialling)
        {
            self.pause(key, true, now_ms);
        }
        self.decide(now_ms);
    }

    /// A link has ended.
    pub fn lost(&mut self, key: PublicKey, now_ms: u64) {
        if let Some(relay) = self.relays.get(&key) {
            let short =
                matches!(relay.link, Link::Up { since_ms, .. } if now_ms < since_ms + GOOD_MS);
            let gone = relay.gone;
            if self.active == Some(key) {
                self.active = None;
                self.distrust(key, now_ms);
            }
            self.pause(key, short, now_ms);
            if gone {
                self.relays.remove(&key);
            }
        }
        self.decide(now_ms);
    }

    /// Something has come from a relay.
    pub fn heard(&mut self, key: PublicKey, now_ms: u64) {
        if let Some(Relay {
            link: Link::Up { since_ms, heard_ms },
            ..
        }) = self.relays.get_mut(&key)
        {
            // Who was silent has to show again that it stays.
            if now_ms >= *heard_ms + SILENT_MS {
                *since_ms = now_ms;
            }
            *heard_ms = now_ms;
        }
        self.decide(now_ms);
    }

    /// Looks at the clock.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.decide(now_ms);
    }

    /// The next thing to do.
    pub fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The relay in use.
    pub fn active(&self) -> Option<PublicKey> {
        self.active
    }

    /// When [`Parents::handle_timeout`] may have something to do.
    pub fn next_timeout(&self) -> Option<u64> {
        let now_ms = self.now_ms;
        let links = self.relays.values().filter_map(|relay| match relay.link {
            Link::Up { since_ms, heard_ms } => {
                let moments = [heard_ms + SILENT_MS, since_ms + relay.hold_ms];
                moments.into_iter().filter(|at| *at > now_ms).min()
            }
            Link::Down { .. } | Link::Dialling | Link::Leaving => None,
        });
        links.chain(self.due_ms).min()
    }

    fn decide(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
        self.choose(now_ms);
        self.connect(now_ms);
    }

    fn by_distance(&self) -> Vec<PublicKey> {
        let mut keys: Vec<PublicKey> = self.relays.keys().copied().collect();
        keys.sort_by_key(|key| (self.relays[key].distance(), *key));
        keys
    }

    fn choose(&mut self, now_ms: u64) {
        let keys = self.by_distance();
        let nearest =
            |fit: &dyn Fn(&Relay) -> bool| keys.iter().copied().find(|key| fit(&self.relays[key]));
        let heard = |relay: &Relay| relay.is_heard(now_ms);
        let next = match self.active {
            None => nearest(&heard),
            Some(active) if !self.relays[&active].is_heard(now_ms) => nearest(&heard),
            Some(active) => {
                let nearer = |relay: &Relay| {
                    relay.is_steady(now_ms) && relay.distance() < self.relays[&active].distance()
                };
                nearest(&nearer)
            }
        };
        let Some(next) = next else { return };
        if let Some(old) = self.active.replace(next) {
            if !self.relays[&old].is_heard(now_ms) {
                self.distrust(old, now_ms);
            }
            if let Some(old) = self.relays.get_mut(&old) {
                old.link = Link::Leaving;
            }
        }
        self.actions.push_back(Action::Use(next));
    }

    /// Who fails soon after traffic has moved to it waits longer the next time.
    fn distrust(&mut self, key: PublicKey, now_ms: u64) {
        let Some(relay) = self.relays.get_mut(&key) else {
            return;
        };
        let brief = match relay.link {
            Link::Up { since_ms, .. } => now_ms < since_ms + relay.hold_ms + HOLD_MS.1,
            _ => false,
        };
        relay.hold_ms = if brief {
            (relay.hold_ms * 2).min(HOLD_MS.1)
        } else {
            HOLD_MS.0
        };
    }

    fn connect(&mut self, now_ms: u64) {
        let mut kept = 0;
        self.due_ms = None;
        let mut dials = self
            .relays
            .values()
            .filter(|relay| relay.link == Link::Dialling)
            .count();
        for key in self.by_distance() {
            let relay = &self.relays[&key];
            match relay.link {
                _ if self.active == Some(key) => kept += usize::from(relay.is_heard(now_ms)),
                Link::Up { .. } if kept >= LINKS => {
                    self.pause(key, false, now_ms);
                    self.actions.push_back(Action::Drop(key));
                }
                Link::Up { .. } => kept += usize::from(relay.is_heard(now_ms)),
                Link::Down { again_ms } if kept < LINKS && dials < DIALS && !relay.gone => {
                    let turn_ms = match self.dialled_ms {
                        Some(at) if dials > 0 => at + STAGGER_MS,
                        _ => 0,
                    };
                    let due_ms = again_ms.max(turn_ms);
                    if due_ms <= now_ms {
                        dials += 1;
                        self.dialled_ms = Some(now_ms);
                        self.set(key, Link::Dialling);
                        self.actions.push_back(Action::Dial(key));
                    } else {
                        let sooner = self.due_ms.map_or(due_ms, |other| other.min(due_ms));
                        self.due_ms = Some(sooner);
                    }
                }
                Link::Down { .. } | Link::Dialling | Link::Leaving => {}
            }
        }
    }

    fn set(&mut self, key: PublicKey, link: Link) {
        if let Some(relay) = self.relays.get_mut(&key) {
            relay.link = link;
        }
    }

    /// Takes a link down; the next attempt comes after a pause, which grows while they fail.
    fn pause(&mut self, key: PublicKey, failed: bool, now_ms: u64) {
        let jitter = self.draw() % 512;
        let Some(relay) = self.relays.get_mut(&key) else {
            return;
        };
        if !failed {
            relay.pause_ms = PAUSE_MS.0;
        }
        // Between 3/4 and 5/4 of it.
        let pause_ms = relay.pause_ms * (768 + jitter) / 1024;
        relay.pause_ms = (relay.pause_ms * 2).min(PAUSE_MS.1);
        relay.link = Link::Down {
            again_ms: now_ms + pause_ms,
        };
    }

    /// xorshift64 (Marsaglia 2003): enough to spread pauses, and the same for the same seed.
    fn draw(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAR: PublicKey = PublicKey([1; 32]);
    const CLOUD: PublicKey = PublicKey([2; 32]);
    const ORIGIN: PublicKey = PublicKey([3; 32]);

    /// A world in which relays answer at once, or not at all.
    struct World {
        parents: Parents,
        now_ms: u64,
        tiers: BTreeMap<PublicKey, Tier>,
        silent: Vec<PublicKey>,
        refuses: Vec<PublicKey>,
        up: Vec<PublicKey>,
        dials: u32,
        used: Vec<(u64, PublicKey)>,
    }

    impl World {
        fn new(relays: &[(PublicKey, Tier)]) -> Self {
            let mut world = Self {
                parents: Parents::new(7),
                now_ms: 0,
                tiers: relays.iter().copied().collect(),
                silent: Vec::new(),
                refuses: Vec::new(),
                up: Vec::new(),
                dials: 0,
                used: Vec::new(),
            };
            let rank = |order| Rank {
                tier: Tier::Cloud,
                order,
            };
            let ranks = (0..)
                .zip(relays)
                .map(|(order, (key, _))| (*key, rank(order)));
            world.parents.offer(&ranks.collect(), &BTreeSet::new(), 0);
            world.act();
            world
        }

        fn act(&mut self) {
            while let Some(action) = self.parents.next_action() {
                match action {
                    Action::Dial(key) => self.dial(key),
                    Action::Use(key) => {
                        assert!(self.up.contains(&key), "only a link that is up is used");
                        if let Some((_, old)) = self.used.last().copied()
                            && self.up.contains(&old)
                        {
                            self.up.retain(|up| *up != old);
                            self.parents.lost(old, self.now_ms);
                        }
                        self.used.push((self.now_ms, key));
                    }
                    Action::Drop(key) => self.up.retain(|up| *up != key),
                }
            }
        }

        fn dial(&mut self, key: PublicKey) {
            self.dials += 1;
            if self.refuses.contains(&key) {
                self.parents.failed(key, self.now_ms);
            } else if !self.silent.contains(&key) {
                self.up.push(key);
                self.parents.connected(key, self.tiers[&key], self.now_ms);
            }
        }

        fn run(&mut self, millis: u64) {
            let until = self.now_ms + millis;
            while self.now_ms < until {
                self.now_ms += 100;
                for key in self.up.clone() {
                    if !self.silent.contains(&key) {
                        self.parents.heard(key, self.now_ms);
                    }
                }
                self.parents.handle_timeout(self.now_ms);
                self.act();
            }
        }

        fn lose(&mut self, key: PublicKey) {
            self.up.retain(|up| *up != key);
            self.parents.lost(key, self.now_ms);
            self.act();
        }

        /// As QUIC does after its idle time.
        fn fail_dial(&mut self, key: PublicKey) {
            self.parents.failed(key, self.now_ms);
            self.act();
        }
    }

    #[test]
    fn the_first_that_answers_is_used_then_the_nearest_and_one_stands_by() {
        let all = [
            (ORIGIN, Tier::Origin),
            (CLOUD, Tier::Cloud),
            (NEAR, Tier::Local),
        ];
        let mut world = World::new(&all);
        assert_eq!(world.used, [(0, ORIGIN)]);
        world.run(10_000);
        let order: Vec<_> = world.used.iter().map(|(_, key)| *key).collect();
        assert_eq!(order.first(), Some(&ORIGIN));
        assert_eq!(order.last(), Some(&NEAR));
        assert_eq!(world.parents.active(), Some(NEAR));
        world.up.sort();
        assert_eq!(world.up, [NEAR, CLOUD]);
        let moves = world.used.len();
        world.run(100_000);
        assert_eq!(world.used.len(), moves, "it stays where it is");
        assert!(world.dials < 10);
    }

    #[test]
    fn traffic_moves_within_two_seconds_of_silence_and_back_when_it_is_over() {
        let mut world = World::new(&[(CLOUD, Tier::Cloud), (NEAR, Tier::Local)]);
        world.run(10_000);
        assert_eq!(world.parents.active(), Some(NEAR));
        world.silent.push(NEAR);
        let began = world.now_ms;
        world.run(2_000);
        assert_eq!(world.parents.active(), Some(CLOUD));
        assert!(world.used.last().unwrap().0 <= began + 1_600);
        // It is still silent: attempts fail, and nothing moves.
        for _ in 0..6 {
            world.run(5_000);
            world.fail_dial(NEAR);
        }
        assert_eq!(world.parents.active(), Some(CLOUD));
        world.silent.clear();
        world.run(8_000);
        world.fail_dial(NEAR);
        world.run(8_000);
        assert_eq!(world.parents.active(), Some(NEAR));
    }

    #[test]
    fn a_silent_relay_is_better_than_none_and_is_not_left_for_a_silent_one() {
        let mut world = World::new(&[(CLOUD, Tier::Cloud), (NEAR, Tier::Local)]);
        world.run(10_000);
        world.silent = vec![NEAR, CLOUD];
        world.run(4_000);
        assert_eq!(world.parents.active(), Some(NEAR));
        world.lose(NEAR);
        world.lose(CLOUD);
        assert_eq!(world.parents.active(), None);
        world.silent.clear();
        world.refuses.push(NEAR);
        world.fail_dial(CLOUD);
        world.fail_dial(NEAR);
        world.run(10_000);
        assert_eq!(world.parents.active(), Some(CLOUD));
    }

    #[test]
    fn who_comes_and_goes_waits_longer_each_time() {
        let mut world = World::new(&[(CLOUD, Tier::Cloud), (NEAR, Tier::Local)]);
        let mut moves = 0;
        for _ in 0..200 {
            world.run(1_000);
            if world.parents.active() == Some(NEAR) {
                moves += 1;
                world.lose(NEAR);
                world.run(1_000);
                assert_eq!(world.parents.active(), Some(CLOUD));
            }
        }
        assert!((3..12).contains(&moves), "{moves}");
    }

    #[test]
    fn attempts_are_staggered_bounded_and_pause_ever_longer() {
        let relays: Vec<_> = (10..40)
            .map(|n| (PublicKey([n; 32]), Tier::Cloud))
            .collect();
        let mut world = World::new(&[]);
        world.silent = relays.iter().map(|(key, _)| *key).collect();
        let rank = Rank {
            tier: Tier::Cloud,
            order: 0,
        };
        let ranks: BTreeMap<_, _> = relays.iter().map(|(key, _)| (*key, rank)).collect();
        world.parents.offer(&ranks, &BTreeSet::new(), 0);
        world.act();
        assert_eq!(world.dials, 1);
        world.run(300);
        assert_eq!(world.dials, 2);
        world.run(10_000);
        assert_eq!(world.dials, DIALS as u32);
        let mut one = World::new(&[]);
        one.refuses.push(NEAR);
        one.parents
            .offer(&BTreeMap::from([(NEAR, rank)]), &BTreeSet::new(), 0);
        one.act();
        one.run(60_000);
        assert!((12..30).contains(&one.dials), "{}", one.dials);
    }

    #[test]
    fn what_is_not_offered_any_more_lives_until_its_link_ends() {
        let mut world = World::new(&[(CLOUD, Tier::Cloud), (NEAR, Tier::Local)]);
        world.run(10_000);
        let rank = Rank {
            tier: Tier::Cloud,
            order: 0,
        };
        world.parents.offer(
            &BTreeMap::from([(CLOUD, rank)]),
            &[ORIGIN].into(),
            world.now_ms,
        );
        world.run(10_000);
        assert_eq!(world.parents.active(), Some(NEAR));
        world.lose(NEAR);
        let dials = world.dials;
        world.run(20_000);
        assert_eq!(world.parents.active(), Some(CLOUD));
        assert_eq!(world.dials, dials);
    }

    #[test]
    fn who_has_lost_trust_is_left_at_once() {
        let mut world = World::new(&[(CLOUD, Tier::Cloud), (NEAR, Tier::Local)]);
        world.run(10_000);
        assert_eq!(world.parents.active(), Some(NEAR));
        let rank = Rank {
            tier: Tier::Cloud,
            order: 0,
        };
        let left = BTreeMap::from([(CLOUD, rank)]);
        world.parents.offer(&left, &[NEAR].into(), world.now_ms);
        world.act();
        assert_eq!(world.up, [CLOUD]);
        assert_eq!(world.parents.active(), Some(CLOUD));
        world.run(20_000);
        assert_eq!(world.up, [CLOUD]);
        let both = [NEAR, CLOUD].into();
        world.parents.offer(&BTreeMap::new(), &both, world.now_ms);
        world.act();
        assert_eq!((world.parents.active(), world.up), (None, Vec::new()));
    }

    #[test]
    fn the_timeout_is_never_in_the_past() {
        let all = [
            (ORIGIN, Tier::Origin),
            (CLOUD, Tier::Cloud),
            (NEAR, Tier::Local),
        ];
        let mut world = World::new(&all);
        for _ in 0..100 {
            world.run(100);
            assert!(
                world
                    .parents
                    .next_timeout()
                    .is_none_or(|at| at > world.now_ms)
            );
        }
    }
}
