//! The network configuration, as Secure sends it through the starter: JSON, small, checked here.

use proto::PublicKey;
use relay::address::Upstream;
use relay::discovery::Trust;
use relay::pins::Pin;
use serde::Deserialize;
use thiserror::Error;

/// Origins, relays, pins or refusals in a configuration, at most.
const ENTRIES: usize = 64;

/// Which origins to serve, and through which relays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkConfig {
    /// The origins' public keys.
    pub origins: Vec<PublicKey>,
    /// The relays and domains, among equals in the order in which they are tried.
    pub relays: Vec<Upstream>,
    /// Relays that a person has judged.
    pub trust: Trust,
    /// Whether to serve the local network; if nothing is said, when no relay is configured.
    pub serve: Option<bool>,
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It is not the JSON that is expected.
    #[error("the network configuration cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// An origin or a relay's key is none.
    #[error("a key in the network configuration has not 64 hex digits")]
    Key,
    /// A relay's address cannot be read.
    #[error(transparent)]
    Relay(#[from] relay::address::AddressError),
    /// More than 64 of a kind.
    #[error("the network configuration has more than {ENTRIES} entries of a kind")]
    TooLong,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    origins: Vec<String>,
    relays: Vec<String>,
    #[serde(default)]
    pins: Vec<JsonPin>,
    #[serde(default)]
    refused: Vec<String>,
    #[serde(default)]
    serve: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JsonPin {
    name: String,
    key: String,
}

impl NetworkConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`]; the configuration before it stays in force.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let json: Json = serde_json::from_slice(text)?;
        let longest = [&json.origins, &json.relays, &json.refused];
        if longest.iter().any(|list| list.len() > ENTRIES) || json.pins.len() > ENTRIES {
            return Err(ConfigError::TooLong);
        }
        let key = |text: &String| PublicKey::from_hex(text).ok_or(ConfigError::Key);
        let pin = |pin: &JsonPin| {
            let (name, key) = (pin.name.clone(), key(&pin.key)?);
            Ok::<_, ConfigError>(Pin { name, key })
        };
        let pins: Vec<Pin> = json.pins.iter().map(pin).collect::<Result<_, _>>()?;
        let relays = json.relays.iter().map(|relay| relay.parse());
        Ok(Self {
            origins: json.origins.iter().map(key).collect::<Result<_, _>>()?,
            relays: relays.collect::<Result<_, _>>()?,
            trust: Trust {
                pins: pins.into_iter().collect(),
                refused: json.refused.iter().map(key).collect::<Result<_, _>>()?,
            },
            serve: json.serve,
        })
    }

    /// Whether every relay is on this machine: then nothing is looked for or served elsewhere.
    pub fn is_here(&self) -> bool {
        let here = |relay: &Upstream| match relay {
            Upstream::Relay(address) => {
                let host = address.place.rsplit_once(':').map_or("", |(host, _)| host);
                let host = host.trim_matches(['[', ']']);
                let ip = host.parse::<std::net::IpAddr>();
                host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
            }
            Upstream::Domain { .. } => false,
        };
        !self.relays.is_empty() && self.relays.iter().all(here)
    }

    /// Whether this device serves its local network.
    pub fn serves(&self) -> bool {
        self.serve.unwrap_or(self.relays.is_empty()) && !self.origins.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_read_and_a_wrong_one_refused() {
        let key = "ab".repeat(32);
        let text = format!(r#"{{"origins":["{key}"],"relays":["127.0.0.1:1#{key}"]}}"#);
        let config = NetworkConfig::parse(text.as_bytes()).unwrap();
        assert_eq!((config.origins.len(), config.relays.len()), (1, 1));
        for wrong in [
            String::new(),
            r#"{"origins":[]}"#.into(),
            r#"{"origins":["12"],"relays":[]}"#.into(),
            r#"{"origins":[],"relays":["nowhere"]}"#.into(),
            r#"{"origins":[],"relays":[],"more":1}"#.into(),
            r#"{"origins":[],"relays":[],"pins":[{"name":"a","key":"12"}]}"#.into(),
            r#"{"origins":[],"relays":[],"refused":["12"]}"#.into(),
            format!(
                r#"{{"origins":[{}],"relays":[]}}"#,
                vec![format!("\"{key}\""); 65].join(",")
            ),
        ] {
            assert!(NetworkConfig::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_device_serves_where_it_has_no_relay_or_is_told_to() {
        let key = "ab".repeat(32);
        let config = |relays: &str, more: &str| {
            let text = format!(r#"{{"origins":["{key}"],"relays":[{relays}]{more}}}"#);
            NetworkConfig::parse(text.as_bytes()).unwrap()
        };
        let (here, there) = (format!("\"[::1]:1#{key}\""), "\"example.org\"");
        let both = format!("{here},{there}");
        assert!(config("", "").serves() && !config("", "").is_here());
        assert!(!config("", r#","serve":false"#).serves());
        assert!(config(there, r#","serve":true"#).serves());
        assert!(!config(there, "").serves());
        assert!(config(&here, "").is_here() && !config(&both, "").is_here());
        assert!(!NetworkConfig::default().serves());
    }
}
