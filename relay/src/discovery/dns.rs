//! Relays of a domain: `_treeline._udp.<domain>` SRV records, ordered as RFC 2782 says, with the
//! addresses of their targets, and TXT records that name keys (docs/protocol.md, "Finding relays").
//!
//! Nothing here is authenticated: who answers for the domain can lead to any relay. Keys in TXT records
//! are good for a first contact with a domain that somebody has named, and for no more.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;
use proto::PublicKey;
use thiserror::Error;

/// SRV targets or TXT records of a domain that are looked at, at most.
const RECORDS: usize = 32;
/// Addresses of a target, at most.
const ADDRESSES: usize = 8;
/// Bytes of a TXT record, at most.
const TXT_BYTES: usize = 512;
/// How long an answer is used: the records' own time, within these.
const VALID: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(3600));

/// Why a domain leads nowhere. One line.
#[derive(Debug, Error)]
pub enum DnsError {
    /// The system's resolver configuration cannot be used.
    #[error("cannot use the DNS configuration of this machine: {0}")]
    Configuration(String),
    /// No answer, or an answer without relays.
    #[error("the domain {domain} names no relay: {why}; look at its records for _treeline._udp")]
    Domain {
        /// Which.
        domain: String,
        /// Why.
        why: String,
    },
}

/// Looks names up. Cheap to clone.
#[derive(Clone)]
pub struct Names(TokioResolver);

/// A relay of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// `HOST:PORT` of the SRV record.
    pub name: String,
    /// Its addresses, in the order in which to try them.
    pub addresses: Vec<SocketAddr>,
    /// The key that a TXT record names.
    pub key: Option<PublicKey>,
}

/// What a domain says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its relays, in the order in which to try them.
    pub relays: Vec<Found>,
    /// The origins that its TXT records name.
    pub origins: Vec<PublicKey>,
    /// How long this may be used.
    pub valid: Duration,
}

impl Answer {
    /// The keys of its relays; all of them have the fixed one, if there is one.
    pub fn keys(&self, fixed: Option<PublicKey>) -> BTreeSet<PublicKey> {
        let relays = self.relays.iter();
        relays.filter_map(|relay| fixed.or(relay.key)).collect()
    }
}

impl Names {
    /// By this machine's configuration, or by one server.
    ///
    /// # Errors
    /// [`DnsError::Configuration`].
    pub fn new(server: Option<SocketAddr>) -> Result<Self, DnsError> {
        let builder = match server {
            None => TokioResolver::builder_tokio(),
            Some(at) => {
                let mut server = NameServerConfig::udp_and_tcp(at.ip());
                for connection in &mut server.connections {
                    connection.port = at.port();
                }
                let config = ResolverConfig::from_name_servers(vec![server]);
                let provider = TokioRuntimeProvider::default();
                Ok(TokioResolver::builder_with_config(config, provider))
            }
        };
        let built = builder.and_then(|builder| builder.build());
        built
            .map(Self)
            .map_err(|error| DnsError::Configuration(error.to_string()))
    }

    /// The relays of a domain.
    ///
    /// # Errors
    /// [`DnsError::Domain`].
    pub async fn relays(&self, domain: &str) -> Result<Answer, DnsError> {
        let failed = |why: String| DnsError::Domain {
            domain: domain.to_owned(),
            why,
        };
        let service = format!("_treeline._udp.{domain}.");
        let answer = self.0.srv_lookup(service.as_str()).await;
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let left = answer
            .valid_until()
            .saturating_duration_since(std::time::Instant::now());
        let services = answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::SRV(srv) => Some(Service {
                    priority: srv.priority,
                    weight: srv.weight,
                    port: srv.port,
                    target: srv
                        .target
                        .to_ascii()
                        .trim_end_matches('.')
                        .to_ascii_lowercase(),
                }),
                _ => None,
            });
        let services: Vec<Service> = services.take(RECORDS).collect();
        if services.iter().all(|service| service.target.is_empty()) {
            return Err(failed("it has no service record".into()));
        }
        let said = self.said(&service).await;
        let mut relays = Vec::new();
        for service in ordered(services, draw) {
            let addresses = self.addresses(&service.target, service.port).await;
            if !addresses.is_empty() {
                relays.push(Found {
                    key: said.iter().find_map(|said| said.key_of(&service.target)),
                    name: format!("{}:{}", service.target, service.port),
                    addresses,
                });
            }
        }
        if relays.is_empty() {
            return Err(failed("no relay there has an address".into()));
        }
        let origins = said.iter().filter_map(|said| match said {
            Said::Origin(key) => Some(*key),
            Said::Relay { .. } => None,
        });
        Ok(Answer {
            relays,
            origins: origins.collect(),
            valid: left.clamp(VALID.0, VALID.1),
        })
    }

    async fn addresses(&self, host: &str, port: u16) -> Vec<SocketAddr> {
        match self.0.lookup_ip(format!("{host}.")).await {
            Ok(found) => {
                let all = found.iter().take(ADDRESSES);
                super::interleave(all.map(|ip| SocketAddr::new(ip, port)))
            }
            Err(error) => {
                tracing::debug!(host, "no address: {error}");
                Vec::new()
            }
        }
    }

    async fn said(&self, service: &str) -> Vec<Said> {
        // A domain without TXT records names no key: that is for the caller to see.
        let Ok(answer) = self.0.txt_lookup(service).await else {
            return Vec::new();
        };
        let texts = answer
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::TXT(txt) => Some(txt.txt_data.concat()),
                _ => None,
            });
        let said = texts.take(RECORDS).filter_map(|text| Said::decode(&text));
        said.collect()
    }
}

/// What one TXT record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `treeline1 relay=KEY`, `treeline1 relay=KEY host=NAME`: the key of one host, or of all.
    Relay {
        /// The key.
        key: PublicKey,
        /// Whose.
        host: Option<String>,
    },
    /// `treeline1 origin=KEY`: the domain serves this origin.
    Origin(PublicKey),
}

impl Said {
    /// Reads a record; `None` for one that is for others, or wrong.
    pub fn decode(text: &[u8]) -> Option<Self> {
        if text.len() > TXT_BYTES {
            return None;
        }
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        if words.next()? != "treeline1" {
            return None;
        }
        let said = match words.next()?.split_once('=')? {
            ("relay", key) => Self::Relay {
                key: PublicKey::from_hex(key)?,
                host: match words.next() {
                    Some(word) => Some(word.strip_prefix("host=")?.to_ascii_lowercase()),
                    None => None,
                },
            },
            ("origin", key) => Self::Origin(PublicKey::from_hex(key)?),
            _ => return None,
        };
        words.next().is_none().then_some(said)
    }

    fn key_of(&self, target: &str) -> Option<PublicKey> {
        match self {
            Self::Relay { key, host: None } => Some(*key),
            Self::Relay {
                key,
                host: Some(host),
            } if host == target => Some(*key),
            _ => None,
        }
    }
}

/// An SRV record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Lower goes first.
    pub priority: u16,
    /// The chance among those of one priority.
    pub weight: u16,
    /// Where it listens.
    pub port: u16,
    /// Its host; empty for none.
    pub target: String,
}

/// RFC 2782: the lowest priority first; among equals at random, by weight. `draw` gives a number from
/// zero to what it is given.
pub fn ordered(mut services: Vec<Service>, mut draw: impl FnMut(u32) -> u32) -> Vec<Service> {
    services.retain(|service| !service.target.is_empty());
    // Weight 0 goes first, so that it has a small chance.
    services
        .sort_by(|a, b| (a.priority, a.weight, &a.target).cmp(&(b.priority, b.weight, &b.target)));
    let mut order = Vec::with_capacity(services.len());
    while let Some(first) = services.first() {
        let priority = first.priority;
        let equals = services
            .iter()
            .take_while(|service| service.priority == priority);
        let weights: Vec<u32> = equals.map(|service| service.weight.into()).collect();
        let drawn = draw(weights.iter().sum());
        let mut sum = 0;
        let chosen = weights.iter().position(|weight| {
            sum += weight;
            sum >= drawn
        });
        order.push(services.remove(chosen.unwrap_or(0)));
    }
    order
}

fn draw(most: u32) -> u32 {
    let mut bytes = [0; 8];
    // Without randomness every client draws alike; that is all.
    let _ = getrandom::fill(&mut bytes);
    let number = u64::from_ne_bytes(bytes) % (u64::from(most) + 1);
    u32::try_from(number).unwrap_or(most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(priority: u16, weight: u16, target: &str) -> Service {
        Service {
            priority,
            weight,
            port: 1,
            target: target.into(),
        }
    }

    #[test]
    fn priority_comes_first_and_weight_is_a_chance() {
        let all = vec![
            service(20, 0, "backup"),
            service(10, 60, "large"),
            service(10, 20, "small"),
            service(10, 0, "none"),
            service(5, 0, ""),
        ];
        let names = |draw: fn(u32) -> u32| -> Vec<String> {
            let order = ordered(all.clone(), draw);
            order.into_iter().map(|service| service.target).collect()
        };
        assert_eq!(names(|most| most), ["large", "small", "none", "backup"]);
        assert_eq!(names(|_| 0), ["none", "small", "large", "backup"]);
        assert_eq!(
            names(|most| most.min(21)),
            ["large", "small", "none", "backup"]
        );
    }

    #[test]
    fn txt_records_of_strangers_are_read_or_skipped() {
        let key = PublicKey([0xab; 32]);
        let hex = key.to_hex();
        let relay = |host: Option<&str>| {
            Some(Said::Relay {
                key,
                host: host.map(str::to_owned),
            })
        };
        let decode = |text: &str| Said::decode(text.as_bytes());
        assert_eq!(decode(&format!("treeline1 relay={hex}")), relay(None));
        let with_host = decode(&format!("treeline1 relay={hex} host=A.example.org"));
        assert_eq!(with_host, relay(Some("a.example.org")));
        assert_eq!(with_host.clone().unwrap().key_of("b.example.org"), None);
        assert_eq!(with_host.unwrap().key_of("a.example.org"), Some(key));
        let origin = Some(Said::Origin(key));
        assert_eq!(decode(&format!("treeline1 origin={hex}")), origin);
        for wrong in [
            "",
            "v=spf1 -all",
            "treeline1",
            "treeline1 relay=12",
            &format!("treeline2 relay={hex}"),
            &format!("treeline1 relay={hex} more"),
            &format!("treeline1 origin={hex} host=a"),
            &format!("treeline1  relay={hex}"),
            &format!("treeline1 relay={hex} host={}", "a".repeat(600)),
        ] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
        assert_eq!(Said::decode(&[0xff; 20]), None);
    }
}
