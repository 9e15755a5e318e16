//! Where a relay is and which key it must show: `HOST:PORT#KEY`.

use std::fmt;
use std::str::FromStr;

use proto::PublicKey;
use thiserror::Error;

/// A relay's address and its public key, in the one text form that people and programs pass on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayAddress {
    /// `HOST:PORT`: a name, an IPv4 address, or an IPv6 address in brackets.
    pub place: String,
    /// The key that it must show.
    pub key: PublicKey,
}

/// Why a text is no relay's address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{0}` is no relay address; it has the form HOST:PORT#KEY, as `treeline-relay run` prints it"
)]
pub struct AddressError(String);

impl FromStr for RelayAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        parse(text.trim()).ok_or_else(|| AddressError(text.chars().take(160).collect()))
    }
}

fn parse(text: &str) -> Option<RelayAddress> {
    let (place, key) = text.split_once('#')?;
    let (host, port) = place.rsplit_once(':')?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || (host.contains(':') && !bracketed) || port.parse::<u16>().is_err() {
        return None;
    }
    Some(RelayAddress {
        place: place.to_owned(),
        key: PublicKey::from_hex(key)?,
    })
}

impl fmt::Display for RelayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.place, self.key.to_hex())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_comes_back_and_others_are_refused() {
        let key = "ab".repeat(32);
        for place in ["127.0.0.1:4470", "[::1]:1", "relay.example.org:65535"] {
            let text = format!("{place}#{key}");
            assert_eq!(text.parse::<RelayAddress>().unwrap().to_string(), text);
        }
        for text in ["", "host#", "host:1", "::1:5#", "host:70000#", ":1#"] {
            assert!(
                format!("{text}{key}").parse::<RelayAddress>().is_err(),
                "{text}"
            );
        }
    }
}
