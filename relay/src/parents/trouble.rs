//! Why relays above are not connected: the last failure of each, for people who ask how a relay is. It
//! decides nothing.

use std::collections::BTreeMap;

use proto::PublicKey;

use crate::address::Upstream;

/// The last failure of each relay above that is not connected. One line each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Troubles {
    relays: BTreeMap<PublicKey, String>,
    domains: BTreeMap<String, String>,
    blocked: Vec<String>,
}

impl Troubles {
    /// A relay could not be reached, or its link has ended.
    pub fn failed(&mut self, key: PublicKey, why: String) {
        self.relays.insert(key, why);
    }

    /// A relay is connected.
    pub fn connected(&mut self, key: PublicKey) {
        self.relays.remove(&key);
    }

    /// Only these relays are tried from now on.
    pub fn only(&mut self, tried: impl Fn(&PublicKey) -> bool) {
        self.relays.retain(|key, _| tried(key));
    }

    /// A domain was looked up, or could not be.
    pub fn looked_up(&mut self, domain: &str, failure: Option<String>) {
        match failure {
            Some(why) => drop(self.domains.insert(domain.to_owned(), why)),
            None => drop(self.domains.remove(domain)),
        }
    }

    /// Relays that were found and must not be used.
    pub fn blocked(&mut self, why: Vec<String>) {
        self.blocked = why;
    }

    /// What keeps us from one of the configured relays or domains.
    pub fn of(&self, upstream: &Upstream, configured: &[Upstream]) -> Option<&str> {
        let found = match upstream {
            Upstream::Relay(relay) => self.relays.get(&relay.key),
            Upstream::Domain { name, .. } => {
                let named = |key: &PublicKey| {
                    let is = |other: &Upstream| matches!(other, Upstream::Relay(relay) if relay.key == *key);
                    configured.iter().any(is)
                };
                // A relay that is not configured by itself was found through a domain.
                let mut others = self.relays.iter().filter(|(key, _)| !named(key));
                let other = others.next().map(|(_, why)| why);
                self.domains.get(name).or(self.blocked.first()).or(other)
            }
        };
        found.map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_own_and_a_domain_those_that_nobody_named() {
        let [named, found] = [1, 2].map(|byte| PublicKey([byte; 32]));
        let configured: Vec<Upstream> = [&format!("a:1#{}", named.to_hex()), "example.org"]
            .map(|text| text.parse().unwrap())
            .into();
        let mut troubles = Troubles::default();
        let of = |troubles: &Troubles| {
            let one = |upstream| troubles.of(upstream, &configured).map(str::to_owned);
            [0, 1].map(|at: usize| one(&configured[at]))
        };
        assert_eq!(of(&troubles), [None, None]);
        troubles.failed(named, "refused".into());
        assert_eq!(of(&troubles), [Some("refused".into()), None]);
        troubles.failed(found, "no answer".into());
        assert_eq!(of(&troubles)[1].as_deref(), Some("no answer"));
        troubles.blocked(vec!["another key".into()]);
        troubles.looked_up("example.org", Some("no records".into()));
        assert_eq!(of(&troubles)[1].as_deref(), Some("no records"));
        troubles.looked_up("example.org", None);
        assert_eq!(of(&troubles)[1].as_deref(), Some("another key"));
        troubles.connected(named);
        assert_eq!(of(&troubles)[0], None);
        troubles.only(|key| *key != found);
        troubles.blocked(Vec::new());
        assert_eq!(of(&troubles), [None, None]);
    }
}
