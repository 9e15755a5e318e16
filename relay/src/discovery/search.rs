//! One list of relays that may be used, out of the configuration, the DNS and the local network; and
//! the strangers among those that were found, whom somebody has to judge first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use proto::{PublicKey, Tier};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::dns::{Answer, Names};
use super::mdns::{self, Advert, Found, Heard, Interfaces};
use crate::address::{RelayAddress, Upstream};
use crate::driver::now;
use crate::parents::{Above, Candidate, Offer, Rank};
use crate::pins::{Pins, Verdict};

/// Relays of the local network that are remembered, at most.
const FOUND: usize = 32;
/// The pause after a lookup that failed: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(60));
/// What is found by mDNS comes behind what is configured, among equals.
const FOUND_ORDER: u16 = 1 << 15;

/// Where to look, and for whom.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The relays and domains of the configuration.
    pub upstreams: Vec<Upstream>,
    /// The DNS server to ask; without one, those of this machine.
    pub dns: Option<SocketAddr>,
    /// The interfaces on which to listen for relays; `None` to hear of none.
    pub mdns: Option<Interfaces>,
    /// The origins that a relay has to serve.
    pub origins: Vec<PublicKey>,
    /// Our own key: what shows it is no parent. It is also a bound for devices that serve a LAN: only
    /// those with a smaller one are parents.
    pub own: Option<PublicKey>,
}

/// Whom to trust beyond the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Relays that a person has compared.
    pub pins: Pins,
    /// Relays that a person has refused.
    pub refused: BTreeSet<PublicKey>,
}

/// How a relay that was found stands with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nobody has judged it.
    Unknown,
    /// Under its name another key is pinned: it must not be used.
    Changed,
}

/// A relay that was found and is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stranger {
    /// Its name: on the local network its own, in the DNS `HOST:PORT`.
    pub name: String,
    /// Where it is.
    pub place: String,
    /// The key that it claims.
    pub key: PublicKey,
    /// Why it is not used.
    pub standing: Standing,
}

impl fmt::Display for Stranger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, place, .. } = self;
        match self.standing {
            Standing::Unknown => write!(
                f,
                "found the relay `{name}` at {place}: compare its key with its operator before you trust it"
            ),
            Standing::Changed => write!(
                f,
                "the relay `{name}` at {place} shows another key than the one that is pinned: it is not \
                 used; find out why its key changed"
            ),
        }
    }
}

/// What has been found, and who of them may be used; without I/O.
#[derive(Debug, Default)]
pub struct Search {
    plan: Plan,
    domains: BTreeMap<usize, Answer>,
    found: BTreeMap<String, Found>,
    /// As it was when relays were offered last.
    trust: Trust,
    /// Relays that have lost the user's trust since they were offered.
    lost: BTreeSet<PublicKey>,
}

/// Searches for as long as it is polled: offers the relays that may be used, and tells of the others.
pub async fn search(
    plan: Plan,
    mut trust: watch::Receiver<Trust>,
    offer: watch::Sender<Offer>,
    strangers: watch::Sender<Vec<Stranger>>,
    above: watch::Sender<Above>,
) {
    let (answers, mut answered) = mpsc::channel(8);
    let mut lookups = tokio::task::JoinSet::new();
    for (index, upstream) in plan.upstreams.iter().enumerate() {
        if let Upstream::Domain { name, key } = upstream {
            let domain = (index, name.clone(), *key);
            let follow = follow(domain, plan.dns, answers.clone(), above.clone());
            lookups.spawn(follow);
        }
    }
    drop(answers);
    let mut browser = plan.mdns.as_ref().and_then(|interfaces| {
        mdns::browse(interfaces)
            .inspect_err(|error| tracing::warn!("{error}"))
            .ok()
    });
    let mut search = Search::new(plan);
    let mut trusted = true;
    loop {
        let (found, unknown) = search.offer(&trust.borrow_and_update());
        offer.send_if_modified(|old| std::mem::replace(old, found.clone()) != found);
        let changed = unknown.iter().filter(|it| it.standing == Standing::Changed);
        let changed = changed.map(ToString::to_string).collect();
        above.send_modify(|above| above.blocked(changed));
        strangers.send_if_modified(|old| std::mem::replace(old, unknown.clone()) != unknown);
        let heard = async {
            match &mut browser {
                Some(browser) => browser.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard => match heard {
                Some(heard) => search.hear(heard, &trust.borrow()),
                None => browser = None,
            },
            Some((index, answer)) = answered.recv() => {
                search.domains.insert(index, answer);
            }
            changed = trust.changed(), if trusted => trusted = changed.is_ok(),
            else => std::future::pending().await,
        }
    }
}

/// Looks a domain up again and again.
async fn follow(
    (index, domain, fixed): (usize, String, Option<PublicKey>),
    server: Option<SocketAddr>,
    answers: mpsc::Sender<(usize, Answer)>,
    above: watch::Sender<Above>,
) {
    let mut pause = AGAIN.0;
    loop {
        let answer = match Names::new(server) {
            Ok(names) => names.relays(&domain).await,
            Err(error) => Err(error),
        };
        let said = match &answer {
            Ok(answer) => Ok(answer.keys(fixed)),
            Err(error) => Err(error.to_string()),
        };
        above.send_modify(|above| above.looked_up(&domain, said));
        let wait = match answer {
            Ok(answer) => {
                pause = AGAIN.0;
                let valid = answer.valid;
                if answers.send((index, answer)).await.is_err() {
                    return;
                }
                valid
            }
            Err(error) => {
                tracing::info!("{error}");
                pause = (pause * 2).min(AGAIN.1);
                pause
            }
        };
        sleep(wait).await;
    }
}

impl Search {
    /// Nothing has been found.
    pub fn new(plan: Plan) -> Self {
        Self {
            plan,
            ..Self::default()
        }
    }

    /// Takes what was heard on the local network. When there are too many, strangers go first.
    pub fn hear(&mut self, heard: Heard, trust: &Trust) {
        match heard {
            Heard::Gone(name) => {
                self.found.remove(&name);
            }
            Heard::Here(found) => {
                let ids: Vec<_> = self
                    .plan
                    .origins
                    .iter()
                    .map(|key| key.origin_id())
                    .collect();
                let serves = found.advert.origins.iter().any(|id| ids.contains(id));
                self.found.remove(&found.name);
                if serves && self.is_above(&found) && self.make_room(&found, trust) {
                    self.found.insert(found.name.clone(), found);
                }
            }
        }
    }

    /// Whether there is room for it, or another one counts less and has gone.
    fn make_room(&mut self, newcomer: &Found, trust: &Trust) -> bool {
        if self.found.len() < FOUND {
            return true;
        }
        let configured = keys(&self.named(trust).0);
        let worth = |found: &Found| match self.verdict(found, trust, &configured) {
            Verdict::Unknown => 0,
            // Somebody has to be told of it.
            Verdict::Changed(_) => 1,
            Verdict::Pinned => 2,
        };
        let own = worth(newcomer);
        let less = |found: &Found| own > 0 && worth(found) < own;
        let mut others = self.found.values();
        let other = others.find(|found| less(found)).map(|it| it.name.clone());
        other.is_some_and(|name| self.found.remove(&name).is_some())
    }

    /// Not we ourselves; and of devices, only the one with the smallest key is everybody's parent.
    fn is_above(&self, found: &Found) -> bool {
        match self.plan.own {
            Some(own) if found.advert.tier == Tier::Device => found.advert.key < own,
            Some(own) => found.advert.key != own,
            None => true,
        }
    }

    /// The relays that may be used from now on, and those that somebody has to judge.
    pub fn offer(&mut self, trust: &Trust) -> (Offer, Vec<Stranger>) {
        let (candidates, strangers) = self.judge(trust);
        if self.trust != *trust {
            let before = std::mem::replace(&mut self.trust, trust.clone());
            self.lost.extend(keys(&self.judge(&before).0));
            // One that is not found now may have a link from before.
            let pins = before.pins.iter().map(|pin| pin.key);
            let pinned = |key: &PublicKey| trust.pins.iter().any(|pin| pin.key == *key);
            self.lost.extend(pins.filter(|key| !pinned(key)));
            self.lost.extend(&trust.refused);
        }
        let used = keys(&candidates);
        self.lost.retain(|key| !used.contains(key));
        let lost = self.lost.clone();
        (Offer { candidates, lost }, strangers)
    }

    /// The relays that may be used, and those that somebody has to judge.
    pub fn judge(&self, trust: &Trust) -> (Vec<Candidate>, Vec<Stranger>) {
        let (mut candidates, mut strangers) = self.named(trust);
        let configured = keys(&candidates);
        for found in self.found.values() {
            let verdict = self.verdict(found, trust, &configured);
            let places = found.places.iter().cloned();
            self.admit(
                (&found.name, found.advert.key, verdict),
                (places.collect(), rank(found.advert.tier, FOUND_ORDER)),
                trust,
                (&mut candidates, &mut strangers),
            );
        }
        (candidates, strangers)
    }

    /// The same of those that the configuration names, and its domains.
    fn named(&self, trust: &Trust) -> (Vec<Candidate>, Vec<Stranger>) {
        let mut candidates = Vec::new();
        let mut strangers = Vec::new();
        for (index, upstream) in self.plan.upstreams.iter().enumerate() {
            let order = u16::try_from(index).unwrap_or(u16::MAX / 512) * 256;
            match upstream {
                Upstream::Relay(address) => candidates.push(Candidate {
                    address: address.clone(),
                    rank: rank(Tier::Cloud, order),
                }),
                Upstream::Domain { key, .. } => {
                    if let Some(answer) = self.domains.get(&index) {
                        self.of_domain(
                            answer,
                            (*key, order),
                            trust,
                            (&mut candidates, &mut strangers),
                        );
                    }
                }
            }
        }
        (candidates, strangers)
    }

    /// Whether one who was heard on the local network may be used.
    fn verdict(&self, found: &Found, trust: &Trust, configured: &BTreeSet<PublicKey>) -> Verdict {
        let (name, key) = (&found.name, found.advert.key);
        verdict((name, key), trust, || {
            configured.contains(&key) || self.is_recorded(&found.advert)
        })
    }

    /// Whether one of our origins says that it is its relay.
    fn is_recorded(&self, advert: &Advert) -> bool {
        let named = advert.record.as_ref();
        named.and_then(|record| record.verify(&self.plan.origins, now())) == Some(advert.key)
    }

    fn of_domain(
        &self,
        answer: &Answer,
        (fixed, order): (Option<PublicKey>, u16),
        trust: &Trust,
        (candidates, strangers): (&mut Vec<Candidate>, &mut Vec<Stranger>),
    ) {
        let ours = |key: &PublicKey| self.plan.origins.contains(key);
        if !answer.origins.is_empty() && !answer.origins.iter().any(ours) {
            return tracing::warn!("a configured domain serves other origins: it is not used");
        }
        for (step, relay) in (0..).zip(&answer.relays) {
            let Some(key) = fixed.or(relay.key) else {
                tracing::warn!(
                    relay = relay.name,
                    "its domain names no key for it: it is not used"
                );
                continue;
            };
            // Somebody has named the domain: what it says is good for the first contact. A pin is better.
            let verdict = verdict((&relay.name, key), trust, || true);
            let places = relay.addresses.iter().map(SocketAddr::to_string);
            self.admit(
                (&relay.name, key, verdict),
                (
                    places.collect(),
                    rank(Tier::Cloud, order.saturating_add(step)),
                ),
                trust,
                (candidates, strangers),
            );
        }
    }

    fn admit(
        &self,
        (name, key, verdict): (&str, PublicKey, Verdict),
        (places, rank): (Vec<String>, Rank),
        trust: &Trust,
        (candidates, strangers): (&mut Vec<Candidate>, &mut Vec<Stranger>),
    ) {
        let standing = match verdict {
            Verdict::Pinned => {
                candidates.extend(places.into_iter().map(|place| Candidate {
                    address: RelayAddress { place, key },
                    rank,
                }));
                return;
            }
            Verdict::Unknown if trust.refused.contains(&key) => return,
            Verdict::Unknown => Standing::Unknown,
            Verdict::Changed(_) => Standing::Changed,
        };
        strangers.push(Stranger {
            name: name.to_owned(),
            place: places.into_iter().next().unwrap_or_default(),
            key,
            standing,
        });
    }
}

/// Whether a relay that was found may be used, if somebody else vouches for it or not: a person's word
/// goes before anybody's.
fn verdict((name, key): (&str, PublicKey), trust: &Trust, vouched: impl Fn() -> bool) -> Verdict {
    match trust.pins.judge(name, key) {
        Verdict::Unknown if !trust.refused.contains(&key) && vouched() => Verdict::Pinned,
        other => other,
    }
}

fn keys(candidates: &[Candidate]) -> BTreeSet<PublicKey> {
    candidates.iter().map(|it| it.address.key).collect()
}

fn rank(tier: Tier, order: u16) -> Rank {
    Rank { tier, order }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pins::Pin;
    use proto::{RelayRecord, Signer};

    const ORIGIN: PublicKey = PublicKey([9; 32]);

    fn key(byte: u8) -> PublicKey {
        PublicKey([byte; 32])
    }

    fn heard(name: &str, byte: u8, tier: Tier) -> Heard {
        Heard::Here(Found {
            name: name.into(),
            places: vec![format!("10.0.0.{byte}:1")],
            advert: Advert {
                key: key(byte),
                origins: vec![ORIGIN.origin_id()],
                tier,
                record: None,
            },
        })
    }

    fn searching(upstreams: &[String]) -> Search {
        let upstreams = upstreams.iter().map(|text| text.parse().unwrap()).collect();
        Search::new(Plan {
            upstreams,
            origins: vec![ORIGIN],
            own: Some(key(5)),
            ..Plan::default()
        })
    }

    fn pinned(name: &str, byte: u8) -> Trust {
        let pin = Pin {
            name: name.into(),
            key: key(byte),
        };
        Trust {
            pins: [pin].into_iter().collect(),
            ..Trust::default()
        }
    }

    #[test]
    fn who_was_only_heard_of_is_a_stranger_until_somebody_trusts_it() {
        let mut search = searching(&[]);
        search.hear(heard("ward", 1, Tier::Local), &Trust::default());
        let (used, asked) = search.judge(&Trust::default());
        assert!(used.is_empty());
        assert_eq!(
            (asked[0].key, asked[0].standing),
            (key(1), Standing::Unknown)
        );
        let (used, asked) = search.judge(&pinned("ward", 1));
        assert_eq!((used.len(), asked.len()), (1, 0));
        assert_eq!(used[0].rank.tier, Tier::Local);
        let refused = Trust {
            refused: [key(1)].into(),
            ..Trust::default()
        };
        assert_eq!(search.judge(&refused), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_changed_key_blocks_and_is_said() {
        let mut search = searching(&[]);
        search.hear(heard("ward", 2, Tier::Local), &Trust::default());
        let (used, asked) = search.judge(&pinned("ward", 1));
        assert!(used.is_empty());
        assert_eq!(
            (asked[0].key, asked[0].standing),
            (key(2), Standing::Changed)
        );
    }

    #[test]
    fn a_configured_relay_is_known_by_its_key_wherever_it_is_heard() {
        let mut search = searching(&[format!("relay.example.org:1#{}", key(1).to_hex())]);
        search.hear(heard("ward", 1, Tier::Local), &Trust::default());
        let (used, asked) = search.judge(&Trust::default());
        assert_eq!((used.len(), asked.len()), (2, 0));
    }

    #[test]
    fn other_origins_we_ourselves_and_larger_devices_are_not_above_us() {
        let mut search = searching(&[]);
        search.hear(heard("we", 5, Tier::Local), &Trust::default());
        search.hear(heard("larger", 6, Tier::Device), &Trust::default());
        search.hear(heard("smaller", 4, Tier::Device), &Trust::default());
        search.plan.origins = vec![key(8)];
        search.hear(heard("foreign", 1, Tier::Local), &Trust::default());
        let names: Vec<_> = search.found.keys().collect();
        assert_eq!(names, ["smaller"]);
        search.hear(Heard::Gone("smaller".into()), &Trust::default());
        assert!(search.found.is_empty());
    }

    #[test]
    fn strangers_fill_a_table_and_no_more() {
        let mut search = searching(&[]);
        for number in 0..100 {
            search.hear(
                heard(&format!("relay {number}"), 1, Tier::Local),
                &Trust::default(),
            );
        }
        assert_eq!(search.found.len(), FOUND);
    }

    #[test]
    fn whoever_is_known_gets_the_place_of_a_stranger() {
        let origin = Signer::from_seed(&[9; 32]);
        let mut search = searching(&[format!("relay.example.org:1#{}", key(2).to_hex())]);
        search.plan.origins.push(origin.public_key());
        let trust = pinned("ward", 1);
        for number in 0..FOUND {
            let stranger = heard(&format!("a {number}"), 4, Tier::Local);
            search.hear(stranger, &trust);
        }
        let mut recorded = heard("recorded", 3, Tier::Local);
        if let Heard::Here(found) = &mut recorded {
            let until = now().plus_millis(86_400_000);
            found.advert.record = RelayRecord::sign(&origin, key(3), until).ok();
        }
        search.hear(heard("ward", 1, Tier::Local), &trust);
        search.hear(heard("configured", 2, Tier::Local), &trust);
        search.hear(recorded, &trust);
        search.hear(heard("b", 4, Tier::Local), &trust);
        assert_eq!(search.found.len(), FOUND);
        let (used, _) = search.judge(&trust);
        let heard: BTreeSet<_> = used.iter().map(|it| it.address.place.as_str()).collect();
        let all = [
            "10.0.0.1:1",
            "10.0.0.2:1",
            "10.0.0.3:1",
            "relay.example.org:1",
        ];
        assert_eq!(heard, all.into());
        // Of those who count alike the first stay.
        assert!(!search.found.contains_key("b"));
    }

    #[test]
    fn a_domain_is_taken_at_its_word_unless_a_key_is_fixed_or_pinned() {
        let answer = |byte| Answer {
            relays: vec![super::super::dns::Found {
                name: "a.example.org:1".into(),
                addresses: vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap()],
                key: byte,
            }],
            origins: Vec::new(),
            valid: AGAIN.0,
        };
        let mut search = searching(&["example.org".into()]);
        search.domains.insert(0, answer(Some(key(1))));
        let (used, _) = search.judge(&Trust::default());
        let places: Vec<_> = used.iter().map(|it| it.address.place.as_str()).collect();
        assert_eq!(places, ["10.0.0.1:1", "10.0.0.2:1"]);
        let refused = Trust {
            refused: [key(1)].into(),
            ..Trust::default()
        };
        assert_eq!(search.judge(&refused), (Vec::new(), Vec::new()));
        let (used, asked) = search.judge(&pinned("a.example.org:1", 2));
        assert!(used.is_empty());
        assert_eq!(asked[0].standing, Standing::Changed);
        search.domains.insert(0, answer(None));
        assert!(search.judge(&Trust::default()).0.is_empty());
        let mut fixed = searching(&[format!("example.org#{}", key(3).to_hex())]);
        fixed.domains.insert(0, answer(Some(key(1))));
        assert_eq!(fixed.judge(&Trust::default()).0[0].address.key, key(3));
        let mut foreign = answer(Some(key(1)));
        foreign.origins = vec![key(7)];
        search.domains.insert(0, foreign);
        assert!(search.judge(&Trust::default()).0.is_empty());
    }

    #[test]
    fn who_has_lost_trust_is_told_apart_from_who_is_not_found() {
        let mut search = searching(&[]);
        let mut trust = pinned("ward", 1);
        for (name, byte) in [("ward", 1), ("attic", 2)] {
            search.hear(heard(name, byte, Tier::Local), &trust);
        }
        let lost = |search: &mut Search, trust: &Trust| search.offer(trust).0.lost;
        assert!(lost(&mut search, &trust).is_empty());
        // Another one is pinned while it is not found.
        search.hear(Heard::Gone("ward".into()), &trust);
        let both: Vec<Pin> = [("ward", 1), ("attic", 2)]
            .map(|(name, byte)| Pin {
                name: name.into(),
                key: key(byte),
            })
            .into();
        trust.pins = both.iter().cloned().collect();
        assert!(lost(&mut search, &trust).is_empty());
        // It loses its pin meanwhile, and that is not forgotten when nothing else changes.
        trust.pins = both[1..].iter().cloned().collect();
        for _ in 0..2 {
            assert_eq!(lost(&mut search, &trust), [key(1)].into());
        }
        trust.pins = both.into_iter().collect();
        search.hear(heard("ward", 1, Tier::Local), &trust);
        assert!(lost(&mut search, &trust).is_empty());
        trust.pins = Pins::default();
        trust.refused = [key(2), key(3)].into();
        assert_eq!(lost(&mut search, &trust), [1, 2, 3].map(key).into());
    }
}
