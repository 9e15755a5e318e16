//! How the relays above are, for people who ask: which of them are up, why the others are not, and
//! through which domains they were found. It decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use proto::{PublicKey, Tier};

use super::LINKS;
use crate::address::Upstream;

/// Why a relay without a trouble is away.
const NOT_NEEDED: &str = "not needed now: two others are up";

/// How the relays above are. One line for each that is not up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Above {
    relays: BTreeMap<PublicKey, Link>,
    domains: BTreeMap<String, Domain>,
    blocked: Vec<String>,
}

/// A relay above with a link to it, in use or beside the one in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Up {
    /// `HOST:PORT`.
    pub place: String,
    /// What it said in its HELLO.
    pub tier: Tier,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Link {
    Up(Up),
    Failed(String),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Domain {
    relays: BTreeSet<PublicKey>,
    failure: Option<String>,
}

impl Above {
    /// A relay could not be reached, or its link has ended.
    pub fn failed(&mut self, key: PublicKey, why: String) {
        self.relays.insert(key, Link::Failed(why));
    }

    /// A relay is connected, and has greeted.
    pub fn connected(&mut self, key: PublicKey, up: Up) {
        self.relays.insert(key, Link::Up(up));
    }

    /// Its link was not needed any more.
    pub fn dropped(&mut self, key: PublicKey) {
        self.relays.remove(&key);
    }

    /// Only these relays are tried from now on. Links to others may live on.
    pub fn only(&mut self, tried: impl Fn(&PublicKey) -> bool) {
        self.relays
            .retain(|key, link| tried(key) || matches!(link, Link::Up(_)));
    }

    /// A domain was looked up and names these relays, or it could not be.
    pub fn looked_up(&mut self, domain: &str, said: Result<BTreeSet<PublicKey>, String>) {
        let domain = self.domains.entry(domain.to_owned()).or_default();
        match said {
            Ok(relays) => (domain.relays, domain.failure) = (relays, None),
            Err(why) => domain.failure = Some(why),
        }
    }

    /// Relays that were found and must not be used.
    pub fn blocked(&mut self, why: Vec<String>) {
        self.blocked = why;
    }

    /// The relays that are up of those that a configured relay or domain leads to.
    pub fn through(&self, upstream: &Upstream) -> impl Iterator<Item = &Up> {
        self.of(upstream).filter_map(|(_, link)| link.up())
    }

    /// The relays that are up and that nothing configured leads to any more.
    pub fn others(&self, configured: &[Upstream]) -> impl Iterator<Item = &Up> {
        let unnamed = |key: &PublicKey| !configured.iter().any(|it| self.leads_to(it, key));
        let others = self.relays.iter().filter(move |(key, _)| unnamed(key));
        others.filter_map(|(_, link)| link.up())
    }

    /// What keeps us from a configured relay or domain of which nothing is up, as far as is known.
    pub fn trouble(&self, upstream: &Upstream) -> Option<&str> {
        let failed = self.of(upstream).find_map(|(_, link)| match link {
            Link::Failed(why) => Some(why),
            Link::Up(_) => None,
        });
        let found = match upstream {
            Upstream::Relay(_) => failed,
            Upstream::Domain { name, .. } => {
                let domain = self.domains.get(name);
                let failure = domain.and_then(|domain| domain.failure.as_ref());
                failure.or(self.blocked.first()).or(failed)
            }
        };
        let up = self.relays.values().filter_map(Link::up).count();
        let spare = (up >= LINKS).then_some(NOT_NEEDED);
        found.map(String::as_str).or(spare)
    }

    fn of(&self, upstream: &Upstream) -> impl Iterator<Item = (&PublicKey, &Link)> {
        let relays = self.relays.iter();
        relays.filter(|(key, _)| self.leads_to(upstream, key))
    }

    fn leads_to(&self, upstream: &Upstream, key: &PublicKey) -> bool {
        match upstream {
            Upstream::Relay(relay) => relay.key == *key,
            Upstream::Domain { name, .. } => {
                let domain = self.domains.get(name);
                domain.is_some_and(|domain| domain.relays.contains(key))
            }
        }
    }
}

impl Link {
    fn up(&self) -> Option<&Up> {
        match self {
            Self::Up(up) => Some(up),
            Self::Failed(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn up(place: &str) -> Up {
        Up {
            place: place.into(),
            tier: Tier::Cloud,
        }
    }

    #[test]
    fn each_has_its_own_and_a_domain_those_that_it_names() {
        let [named, found, older] = [1, 2, 3].map(|byte| PublicKey([byte; 32]));
        let configured: [Upstream; 2] =
            [&format!("a:1#{}", named.to_hex()), "example.org"].map(|text| text.parse().unwrap());
        let mut above = Above::default();
        let of = |above: &Above| {
            configured
                .each_ref()
                .map(|it| above.trouble(it).map(str::to_owned))
        };
        assert_eq!(of(&above), [None, None]);
        above.failed(named, "refused".into());
        assert_eq!(of(&above), [Some("refused".into()), None]);
        above.failed(found, "no answer".into());
        above.looked_up("example.org", Ok([found].into()));
        assert_eq!(of(&above)[1].as_deref(), Some("no answer"));
        above.blocked(vec!["another key".into()]);
        above.looked_up("example.org", Err("no records".into()));
        assert_eq!(of(&above)[1].as_deref(), Some("no records"));
        above.looked_up("example.org", Ok([found].into()));
        assert_eq!(of(&above)[1].as_deref(), Some("another key"));
        above.blocked(Vec::new());

        above.connected(found, up("10.0.0.2:1"));
        let through = |above: &Above, at: usize| -> Vec<Up> {
            above.through(&configured[at]).cloned().collect()
        };
        assert_eq!(through(&above, 0), []);
        assert_eq!(through(&above, 1), [up("10.0.0.2:1")]);
        above.connected(older, up("10.0.0.3:1"));
        let others: Vec<_> = above.others(&configured).collect();
        assert_eq!(others, [&up("10.0.0.3:1")]);
        above.only(|key| *key != named);
        assert_eq!(of(&above)[0].as_deref(), Some(NOT_NEEDED));
        above.dropped(older);
        assert_eq!(of(&above)[0], None);
        assert_eq!(above.others(&configured).count(), 0);
    }
}
