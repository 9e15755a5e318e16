//! Relays on the local network, by multicast DNS (RFC 6762, RFC 6763): says that one is here, and hears
//! of others. What is heard comes from strangers: it is a place to try and a key that will have to be
//! shown there, and nothing is trusted because it was heard.

use std::net::{IpAddr, SocketAddr};

use mdns_sd::{IfKind, Receiver, ServiceDaemon, ServiceEvent, ServiceInfo};
use proto::{OriginId, PublicKey, RelayRecord, Tier};
use thiserror::Error;

/// The service's type.
const SERVICE: &str = "_treeline._udp.local.";
/// Origins in a record, at most: 16 of 6 digits with commas fit well into one text of 255 bytes.
const ORIGINS: usize = 16;
/// Places of a relay that are tried, at most.
const PLACES: usize = 8;

/// Why multicast DNS does not work. One line.
#[derive(Debug, Error)]
#[error(
    "mDNS does not work: {0}; check the network interfaces, or switch it off with `--mdns off`"
)]
pub struct MdnsError(#[from] mdns_sd::Error);

/// What a relay says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advert {
    /// The key that it shows.
    pub key: PublicKey,
    /// The origins that it serves.
    pub origins: Vec<OriginId>,
    /// Where it stands.
    pub tier: Tier,
    /// The origin's word that it is one of its relays, if it has one; not verified.
    pub record: Option<RelayRecord>,
}

/// A relay that was heard of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name on this network.
    pub name: String,
    /// `IP:PORT`, where it is said to be.
    pub places: Vec<String>,
    /// What it is said to be.
    pub advert: Advert,
}

/// Which interfaces are used: these, or all but loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interfaces(pub Vec<String>);

impl Interfaces {
    fn daemon(&self) -> Result<ServiceDaemon, MdnsError> {
        let daemon = ServiceDaemon::new()?;
        if self.0.is_empty() {
            daemon.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
        } else {
            daemon.disable_interface(IfKind::All)?;
            let named: Vec<IfKind> = self.0.iter().map(|name| name.as_str().into()).collect();
            daemon.enable_interface(named)?;
        }
        Ok(daemon)
    }
}

/// Says that a relay is here, until it is dropped.
pub struct Advertised {
    daemon: ServiceDaemon,
    name: String,
}

impl Advertised {
    /// The name under which others hear of it.
    pub fn name(&self) -> &str {
        self.name.split('.').next().unwrap_or_default()
    }
}

impl Drop for Advertised {
    fn drop(&mut self) {
        // Others notice by themselves when the goodbye does not get out.
        let _ = self.daemon.unregister(&self.name);
        let _ = self.daemon.shutdown();
    }
}

/// Says that a relay is here, at this address.
///
/// # Errors
/// [`MdnsError`].
pub fn advertise(
    advert: &Advert,
    listen: SocketAddr,
    interfaces: &Interfaces,
) -> Result<Advertised, MdnsError> {
    let daemon = interfaces.daemon()?;
    if listen.is_ipv4() {
        // Nobody would answer at an IPv6 address.
        daemon.disable_interface(IfKind::IPv6)?;
    }
    let short = advert.key.to_hex()[..16].to_owned();
    let (name, host) = (
        format!("treeline {short}"),
        format!("treeline-{short}.local."),
    );
    let address = Some(listen.ip()).filter(|ip| !ip.is_unspecified());
    let addresses: Vec<IpAddr> = address.into_iter().collect();
    let text = advert.text();
    let text: Vec<(&str, String)> = text.iter().map(|(k, v)| (*k, v.clone())).collect();
    let info = ServiceInfo::new(
        SERVICE,
        &name,
        &host,
        &addresses[..],
        listen.port(),
        &text[..],
    )?;
    let info = match address {
        Some(_) => info,
        None => info.enable_addr_auto(),
    };
    let name = info.get_fullname().to_owned();
    daemon.register(info)?;
    Ok(Advertised { daemon, name })
}

/// Hears of relays, until it is dropped.
pub struct Browser {
    daemon: ServiceDaemon,
    events: Receiver<ServiceEvent>,
}

/// What was heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// A relay is here, or has moved.
    Here(Found),
    /// The relay of this name is not here any more.
    Gone(String),
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends with the process at the latest.
        let _ = self.daemon.shutdown();
    }
}

/// Begins to listen.
///
/// # Errors
/// [`MdnsError`].
pub fn browse(interfaces: &Interfaces) -> Result<Browser, MdnsError> {
    let daemon = interfaces.daemon()?;
    let events = daemon.browse(SERVICE)?;
    Ok(Browser { daemon, events })
}

impl Browser {
    /// The next thing that is heard; `None` when nothing will be any more. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            match self.events.recv_async().await.ok()? {
                ServiceEvent::ServiceResolved(service) => {
                    let text = service.txt_properties.iter();
                    let text = text.map(|property| (property.key(), property.val().unwrap_or(&[])));
                    let addresses = service.addresses.iter().map(|ip| ip.to_ip_addr());
                    let name = instance(&service.fullname);
                    if let Some(found) = found(name, text, addresses, service.port) {
                        return Some(Heard::Here(found));
                    }
                    tracing::debug!(name = service.fullname, "what it says cannot be read");
                }
                ServiceEvent::ServiceRemoved(_, name) => return Some(Heard::Gone(instance(&name))),
                _ => {}
            }
        }
    }
}

/// The first label, within what a label may have (RFC 1035), printable.
fn instance(full: &str) -> String {
    let name = full.strip_suffix(SERVICE).unwrap_or(full);
    let name = name
        .trim_end_matches('.')
        .chars()
        .filter(|c| !c.is_control());
    name.take(63).collect::<String>().trim().to_owned()
}

fn found<'a>(
    name: String,
    text: impl Iterator<Item = (&'a str, &'a [u8])>,
    addresses: impl Iterator<Item = IpAddr>,
    port: u16,
) -> Option<Found> {
    let advert = Advert::decode(text)?;
    // A link-local IPv6 address says nothing without its interface; it has another as well.
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(_) => true,
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    let mut addresses: Vec<IpAddr> = addresses.filter(usable).take(64).collect();
    addresses.sort();
    addresses.truncate(PLACES);
    let place = |ip: &IpAddr| SocketAddr::new(*ip, port).to_string();
    let places: Vec<String> = addresses.iter().map(place).collect();
    (port > 0 && !places.is_empty() && !name.is_empty()).then_some(Found {
        name,
        places,
        advert,
    })
}

impl Advert {
    /// The texts of the TXT record.
    fn text(&self) -> Vec<(&'static str, String)> {
        let origins = self.origins.iter().take(ORIGINS);
        let origins: Vec<String> = origins.map(|id| format!("{:06x}", id.get())).collect();
        let mut text = vec![
            ("v", "1".into()),
            ("k", self.key.to_hex()),
            ("o", origins.join(",")),
            ("t", self.tier.word().into()),
        ];
        let record = self.record.as_ref();
        text.extend(record.map(|record| ("r", record.to_text())));
        text
    }

    /// Reads a TXT record; texts that it does not know are skipped.
    pub fn decode<'a>(text: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<Self> {
        let (mut version, mut key, mut origins, mut tier) = (None, None, None, None);
        let mut record = None;
        for (name, value) in text.take(32) {
            let value = std::str::from_utf8(value).ok()?;
            // The first of a name counts (RFC 6763, section 6.4).
            match name.to_ascii_lowercase().as_str() {
                "v" => version = version.or(Some(value)),
                "k" => key = key.or(Some(value)),
                "o" => origins = origins.or(Some(value)),
                "t" => tier = tier.or(Some(value)),
                "r" => record = record.or(Some(value)),
                _ => {}
            }
        }
        let tier = (0..4)
            .filter_map(Tier::from_number)
            .find(|one| Some(one.word()) == tier)?;
        let origin = |text: &str| {
            let hex = text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
            let number = u32::from_str_radix(text, 16).ok()?;
            hex.then(|| OriginId::new(number))
        };
        let origins: Vec<&str> = origins?.split(',').take(ORIGINS + 1).collect();
        if version? != "1" || origins.len() > ORIGINS {
            return None;
        }
        Some(Self {
            key: PublicKey::from_hex(key?)?,
            origins: origins.into_iter().map(origin).collect::<Option<_>>()?,
            tier,
            record: record.and_then(RelayRecord::from_text),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advert(origins: u32) -> Advert {
        Advert {
            key: PublicKey([0xcd; 32]),
            origins: (1..=origins).map(OriginId::new).collect(),
            tier: Tier::Local,
            record: None,
        }
    }

    fn decode(text: &[(&str, String)]) -> Option<Advert> {
        Advert::decode(text.iter().map(|(name, value)| (*name, value.as_bytes())))
    }

    #[test]
    fn what_is_said_is_heard_and_fits() {
        for origins in [1, 2, 16] {
            let said = advert(origins);
            assert_eq!(decode(&said.text()), Some(said.clone()));
            assert!(said.text().iter().all(|(_, value)| value.len() <= 250));
        }
        assert_eq!(decode(&advert(20).text()), Some(advert(16)));
    }

    #[test]
    fn other_texts_are_skipped_and_bad_ones_refused() {
        let good = advert(2).text();
        let mut more = good.to_vec();
        more.push(("zz", "new".into()));
        more.push(("v", "2".into()));
        assert_eq!(decode(&more), Some(advert(2)));
        for (name, wrong) in [
            ("v", "2"),
            ("v", ""),
            ("k", "cd"),
            ("k", &"zz".repeat(32)),
            ("o", ""),
            ("o", "12345"),
            ("o", "1234567"),
            ("o", "+12345"),
            ("o", &vec!["000001"; 17].join(",")),
            ("t", "moon"),
        ] {
            let mut changed = good.clone();
            let text = changed.iter_mut().find(|(key, _)| *key == name);
            text.unwrap().1 = wrong.to_owned();
            assert_eq!(decode(&changed), None, "{name}={wrong}");
        }
        for missing in 0..4 {
            let mut less = good.to_vec();
            less.remove(missing);
            assert_eq!(decode(&less), None);
        }
        let bytes = [0xff, 0xfe];
        assert_eq!(Advert::decode([("v", &bytes[..])].into_iter()), None);
    }

    #[test]
    fn places_are_bounded_and_usable() {
        let text = advert(1).text();
        let text = || text.iter().map(|(name, value)| (*name, value.as_bytes()));
        let many = (0..200).map(|n| IpAddr::from([10, 0, 0, n]));
        let made = found("a".into(), text(), many, 7).unwrap();
        assert_eq!(made.places.len(), PLACES);
        assert_eq!(made.places[0], "10.0.0.0:7");
        let local: IpAddr = "fe80::1".parse().unwrap();
        assert_eq!(found("a".into(), text(), [local].into_iter(), 7), None);
        let one = || [IpAddr::from([10, 0, 0, 1])].into_iter();
        assert_eq!(found("a".into(), text(), one(), 0), None);
        assert_eq!(found(String::new(), text(), one(), 7), None);
        assert_eq!(
            instance(&format!("{}\u{7}.{SERVICE}", "x".repeat(200))).len(),
            63
        );
    }
}
