//! Who may connect: counts connections and handshakes, in all and by address, and gives a place or
//! does not. It sees addresses only; keys come later, and rights by grants.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::settings::Settings;

/// The count of all connections of a listener. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admission {
    settings: Arc<Settings>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    open: usize,
    handshakes: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// What becomes of somebody who wants to connect.
#[derive(Debug)]
pub enum Verdict {
    /// Come in.
    Welcome(Place),
    /// Show first that the address is yours.
    Prove,
    /// There is no room.
    Refuse,
}

/// A place for one connection, given back when dropped.
#[derive(Debug)]
pub struct Place {
    counts: Arc<Mutex<Counts>>,
    address: IpAddr,
    shakes_hands: bool,
    window: u32,
}

impl Admission {
    /// Nobody is here.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            counts: Arc::default(),
        }
    }

    /// The limits that it keeps.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Asks for a place. `proven`: whether packets to this address are known to arrive there.
    pub fn ask(&self, remote: IpAddr, proven: bool) -> Verdict {
        let address = network(remote);
        let mut counts = lock(&self.counts);
        let of_address = counts.by_address.get(&address).copied().unwrap_or(0);
        if counts.open >= self.settings.connections
            || counts.handshakes >= self.settings.handshakes
            || of_address >= self.settings.connections_per_address
        {
            return Verdict::Refuse;
        }
        if counts.handshakes >= self.settings.retry_above && !proven {
            return Verdict::Prove;
        }
        let window = self.settings.window(counts.open);
        counts.open += 1;
        counts.handshakes += 1;
        counts.by_address.insert(address, of_address + 1);
        Verdict::Welcome(Place {
            counts: self.counts.clone(),
            address,
            shakes_hands: true,
            window,
        })
    }

    /// Connections now, handshakes included.
    pub fn open(&self) -> usize {
        lock(&self.counts).open
    }
}

impl Place {
    /// The handshake is done.
    pub fn established(&mut self) {
        if std::mem::take(&mut self.shakes_hands) {
            lock(&self.counts).handshakes -= 1;
        }
    }

    /// Bytes of its windows.
    pub fn window(&self) -> u32 {
        self.window
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.established();
        let mut counts = lock(&self.counts);
        counts.open -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
    }
}

/// Numbers are never half-changed when a thread panics.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whoever has one address of IPv6 has the /64 around it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(Settings {
            connections: 6,
            connections_per_address: 3,
            handshakes: 4,
            retry_above: 2,
            ..Settings::default()
        })
    }

    fn place(verdict: Verdict) -> Place {
        match verdict {
            Verdict::Welcome(place) => place,
            other => panic!("{other:?}"),
        }
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn many_handshakes_make_strangers_prove_their_address_and_then_wait() {
        let admission = admission();
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut places: Vec<_> = (0..2).map(|n| place(admission.ask(ip(n), false))).collect();
        assert!(matches!(admission.ask(ip(2), false), Verdict::Prove));
        places.extend((2..4).map(|n| place(admission.ask(ip(n), true))));
        assert!(matches!(admission.ask(ip(4), true), Verdict::Refuse));
        places.iter_mut().for_each(Place::established);
        places.push(place(admission.ask(ip(4), false)));
        places.push(place(admission.ask(ip(5), false)));
        assert!(matches!(admission.ask(ip(6), true), Verdict::Refuse));
        drop(places);
        assert_eq!(admission.open(), 0);
        assert!(lock(&admission.counts).by_address.is_empty());
    }

    #[test]
    fn an_address_has_its_share_and_an_ipv6_network_is_one_address() {
        let admission = admission();
        let mut places = Vec::new();
        for text in ["2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"] {
            let mut place = place(admission.ask(address(text), true));
            place.established();
            places.push(place);
        }
        let fourth = admission.ask(address("2001:db8::3"), true);
        assert!(matches!(fourth, Verdict::Refuse));
        places.push(place(admission.ask(address("2001:db8:0:1::3"), true)));
        places.push(place(admission.ask(address("10.0.0.1"), true)));
        // The same address, as a socket of both families sees it.
        places.push(place(admission.ask(address("::ffff:10.0.0.1"), true)));
        assert_eq!(lock(&admission.counts).by_address[&address("10.0.0.1")], 2);
    }
}
