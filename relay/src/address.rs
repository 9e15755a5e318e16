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
    "`{0}` is no relay address; it has the form HOST:PORT#KEY, as `treeline-relay run` prints it, or is a domain"
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

/// A relay above, as configured: an address with its key, or a domain whose service records say where
/// its relays are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upstream {
    /// `HOST:PORT#KEY`.
    Relay(RelayAddress),
    /// `example.org`, or `example.org#KEY` when all its relays have to show that key.
    Domain {
        /// The domain.
        name: String,
        /// The key, if it is known beforehand.
        key: Option<PublicKey>,
    },
}

impl Upstream {
    /// `HOST:PORT`, or the domain.
    pub fn place(&self) -> &str {
        match self {
            Self::Relay(address) => &address.place,
            Self::Domain { name, .. } => name,
        }
    }
}

impl FromStr for Upstream {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        match parse(text).map(Self::Relay).or_else(|| domain(text)) {
            Some(upstream) => Ok(upstream),
            None => Err(AddressError(text.chars().take(160).collect())),
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Relay(address) => address.fmt(f),
            Self::Domain { name, key: None } => f.write_str(name),
            Self::Domain {
                name,
                key: Some(key),
            } => write!(f, "{name}#{}", key.to_hex()),
        }
    }
}

/// Longest name in the DNS, in characters (RFC 1035, section 2.3.4).
const DOMAIN_BYTES: usize = 253;

fn domain(text: &str) -> Option<Upstream> {
    let (name, key) = match text.split_once('#') {
        Some((name, key)) => (name, Some(PublicKey::from_hex(key)?)),
        None => (text, None),
    };
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    let fits = name.len() <= DOMAIN_BYTES && name.contains('.') && name.split('.').all(label);
    // An IPv4 address without a port is a mistake, not a domain.
    let number = name
        .split('.')
        .next_back()?
        .bytes()
        .all(|b| b.is_ascii_digit());
    (fits && !number).then(|| Upstream::Domain {
        name: name.to_owned(),
        key,
    })
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

    #[test]
    fn a_domain_stands_for_its_relays() {
        let key = "ab".repeat(32);
        for text in [
            "example.org",
            "a-b.example.org",
            &format!("example.org#{key}"),
        ] {
            assert_eq!(text.parse::<Upstream>().unwrap().to_string(), text);
        }
        let relay = format!("example.org:4470#{key}");
        assert!(matches!(relay.parse(), Ok(Upstream::Relay(_))));
        let long = format!("{}.org", "a.".repeat(130));
        for text in [
            "",
            "nowhere",
            "127.0.0.1",
            "a..b",
            "example.org:4470",
            "example.org#12",
            &long,
        ] {
            assert!(text.parse::<Upstream>().is_err(), "{text}");
        }
    }
}
