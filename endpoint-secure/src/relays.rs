//! Relays that were found on the network, and what a person has said of them. The network process only
//! proposes; what is trusted stands in the sealed store and goes to it with the configuration.

use endpoint_secure_api::{Answer, Code, Relay, Standing};
use proto::PublicKey;
use serde::Deserialize;

use crate::device::session::{Failure, Session, refuse};
use crate::store::Kind;
use crate::team::Pin;

/// Relays that are taken from the network process, or kept as judged, at most.
const RELAYS: usize = 64;
/// Bytes of a name, at most: an mDNS label, or a host and a port.
const NAME_BYTES: usize = 280;

/// A relay as the network process tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    name: String,
    place: String,
    key: String,
    changed: bool,
    own: bool,
}

/// Reads what the network process has sent; `None` if any of it is not as it should be.
pub fn read(json: &[u8]) -> Option<Vec<Found>> {
    let found: Vec<Found> = serde_json::from_slice(json).ok()?;
    let fits = |one: &Found| {
        let key = PublicKey::from_hex(&one.key).is_some_and(|key| key.to_hex() == one.key);
        key && printable(&one.name) && printable(&one.place) && !one.name.is_empty()
    };
    (found.len() <= RELAYS && found.iter().all(fits)).then_some(found)
}

/// Whether a name or a place that the network process tells may come to a screen or a terminal.
pub fn printable(text: &str) -> bool {
    text.len() <= NAME_BYTES && text.trim() == text && !text.chars().any(char::is_control)
}

impl Session {
    /// Takes what the network process has found.
    ///
    /// # Errors
    /// None.
    pub fn found_relays(&mut self, found: Vec<Found>) -> Result<(), Failure> {
        if self.found != found {
            self.told.relays = true;
            self.found = found;
        }
        Ok(())
    }

    pub(crate) fn relays(&self) -> Answer {
        let network = &self.memory.network;
        let relay = |name: &str, key: &str, standing| Relay {
            name: name.to_owned(),
            place: String::new(),
            key: key.to_owned(),
            words: PublicKey::from_hex(key).map_or_else(String::new, |key| key.words()),
            standing,
        };
        let pinned = network.pins.iter();
        let pinned = pinned.map(|pin| relay(&pin.name, &pin.key, Standing::Trusted));
        let refused = network.refused.iter();
        let refused = refused.map(|key| relay("", key, Standing::Refused));
        let mut relays: Vec<Relay> = pinned.chain(refused).collect();
        for found in &self.found {
            let standing = match (found.own, found.changed) {
                (true, _) => Standing::Own,
                (_, true) => Standing::Changed,
                (_, false) => Standing::Unknown,
            };
            // What was judged a moment ago may still be in the network process's last list.
            if !relays.iter().any(|known| known.key == found.key) {
                relays.push(Relay {
                    place: found.place.clone(),
                    ..relay(&found.name, &found.key, standing)
                });
            }
        }
        relays.sort();
        Answer::Relays(relays)
    }

    pub(crate) fn trust_relay(&mut self, key: &str) -> Result<Answer, Failure> {
        let found = self.in_sight(key)?;
        if found.changed {
            return refuse(
                Code::Verification,
                "this relay shows another key than the one that was trusted under its name: find out \
                 why, and forget the old one first",
            );
        }
        let network = &mut self.memory.network;
        network.refused.retain(|refused| *refused != found.key);
        if network.pins.iter().all(|pin| pin.key != found.key) {
            if network.pins.len() == RELAYS {
                return refuse(Code::Usage, "64 relays are trusted already; forget some");
            }
            network.pins.push(Pin {
                name: found.name,
                key: found.key,
            });
        }
        self.judged()
    }

    pub(crate) fn refuse_relay(&mut self, key: &str) -> Result<Answer, Failure> {
        let Some(key) = PublicKey::from_hex(key).map(|key| key.to_hex()) else {
            return refuse(Code::Usage, "a relay's key has 64 hex digits");
        };
        let network = &mut self.memory.network;
        network.pins.retain(|pin| pin.key != key);
        if !network.refused.contains(&key) {
            // The oldest refusal is the least worth; at worst its relay is asked about again.
            if network.refused.len() == RELAYS {
                network.refused.remove(0);
            }
            network.refused.push(key);
        }
        self.judged()
    }

    pub(crate) fn forget_relay(&mut self, key: &str) -> Result<Answer, Failure> {
        let network = &mut self.memory.network;
        let before = (network.pins.len(), network.refused.len());
        network.pins.retain(|pin| pin.key != key);
        network.refused.retain(|refused| refused != key);
        if before == (network.pins.len(), network.refused.len()) {
            return refuse(
                Code::NotFound,
                "no relay with this key was trusted or refused",
            );
        }
        self.judged()
    }

    pub(crate) fn serve_lan(&mut self, serve: Option<bool>) -> Result<Answer, Failure> {
        self.memory.network.serve = serve;
        self.judged()
    }

    fn in_sight(&self, key: &str) -> Result<Found, Failure> {
        let found = self
            .found
            .iter()
            .find(|found| found.key == key && !found.own);
        match found {
            Some(found) => Ok(found.clone()),
            None => refuse(
                Code::NotFound,
                "no relay with this key is in sight and waits to be judged",
            ),
        }
    }

    fn judged(&mut self) -> Result<Answer, Failure> {
        self.store.put(Kind::Network, b"", &self.memory.network)?;
        self.told.relays = true;
        self.configure()?;
        Ok(Answer::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_it_should_be_is_taken() {
        let key = "ab".repeat(32);
        let one = |name: &str, key: &str| {
            format!(
                r#"{{"name":"{name}","place":"10.0.0.1:4470","key":"{key}","changed":false,"own":false}}"#
            )
        };
        let list = |one: &str, count| format!("[{}]", vec![one; count].join(","));
        let good = one("treeline abababab", &key);
        assert_eq!(read(list(&good, 2).as_bytes()).unwrap().len(), 2);
        assert_eq!(read(b"[]"), Some(Vec::new()));
        for wrong in [
            String::new(),
            "{}".into(),
            list(&good, RELAYS + 1),
            list(&one("", &key), 1),
            list(&one("a\\u0007", &key), 1),
            list(&one(&"a".repeat(NAME_BYTES + 1), &key), 1),
            list(&one("a", "ab"), 1),
            list(&one("a", &key.to_uppercase()), 1),
            list(&good.replacen("false", "1", 1), 1),
        ] {
            assert_eq!(read(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
