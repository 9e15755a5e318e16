//! The network configuration, as Secure sends it through the starter: JSON, small, checked here.

use proto::PublicKey;
use relay::address::RelayAddress;
use serde::Deserialize;
use thiserror::Error;

/// Origins or relays in a configuration, at most.
const ENTRIES: usize = 64;

/// Which origins to serve, and through which relays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkConfig {
    /// The origins' public keys.
    pub origins: Vec<PublicKey>,
    /// The relays, in the order in which they are tried.
    pub relays: Vec<RelayAddress>,
}

/// Why a configuration is refused.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// It is not the JSON that is expected.
    #[error("the network configuration cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// An origin is no key.
    #[error("an origin in the network configuration is no key of 64 hex digits")]
    Origin,
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
}

impl NetworkConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// [`ConfigError`]; the configuration before it stays in force.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let json: Json = serde_json::from_slice(text)?;
        if json.origins.len().max(json.relays.len()) > ENTRIES {
            return Err(ConfigError::TooLong);
        }
        let origins = json.origins.iter().map(|key| PublicKey::from_hex(key));
        let relays = json.relays.iter().map(|relay| relay.parse());
        Ok(Self {
            origins: origins.collect::<Option<_>>().ok_or(ConfigError::Origin)?,
            relays: relays.collect::<Result<_, _>>()?,
        })
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
            format!(
                r#"{{"origins":[{}],"relays":[]}}"#,
                vec![format!("\"{key}\""); 65].join(",")
            ),
        ] {
            assert!(NetworkConfig::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }
}
