//! Who may connect: counts connections and handshakes, in all and by address, and gives a place or
//! does not. It sees addresses only; keys come later, and rights by grants.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

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
    /// In the order in which they began: whose, and what tells it that it has lost its place.
    handshakes: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    begun: u64,
    by_address: HashMap<IpAddr, Share>,
}

/// What one address has.
#[derive(Debug, Default, Clone, Copy)]
struct Share {
    open: usize,
    handshakes: usize,
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
    /// The number of its handshake, and how it hears that it has lost its place.
    shaking: Option<(u64, oneshot::Receiver<()>)>,
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
        let own = counts.by_address.get(&address).copied().unwrap_or_default();
        let handshakes = counts.handshakes.len();
        let share = self.settings.handshakes_per_address();
        if counts.open >= self.settings.connections
            || own.open >= self.settings.connections_per_address
            || own.handshakes >= share && proven
        {
            return Verdict::Refuse;
        }
        // Whoever pretends to be at an address must not use up what is its own.
        let crowded =
            handshakes >= self.settings.retry_above || own.handshakes >= share.div_ceil(2);
        if crowded && !proven {
            return Verdict::Prove;
        }
        if handshakes >= self.settings.handshakes && !counts.make_room(own) {
            return Verdict::Refuse;
        }
        let window = self.settings.window(counts.open);
        Verdict::Welcome(Place {
            shaking: Some(counts.begin(address)),
            counts: self.counts.clone(),
            address,
            window,
        })
    }

    /// Connections now, handshakes included.
    pub fn open(&self) -> usize {
        lock(&self.counts).open
    }
}

impl Counts {
    fn begin(&mut self, address: IpAddr) -> (u64, oneshot::Receiver<()>) {
        let (told, lost) = oneshot::channel();
        self.begun += 1;
        self.open += 1;
        self.handshakes.insert(self.begun, (address, told));
        let share = self.by_address.entry(address).or_default();
        share.open += 1;
        share.handshakes += 1;
        (self.begun, lost)
    }

    /// Ends the oldest handshake of the address that has most, if it stays ahead of the newcomer's.
    fn make_room(&mut self, newcomer: Share) -> bool {
        let most = self.by_address.values().map(|share| share.handshakes).max();
        let most = most.filter(|most| *most > newcomer.handshakes + 1);
        let oldest = self.handshakes.iter().find_map(|(number, (address, _))| {
            let share = self.by_address.get(address)?;
            (Some(share.handshakes) == most).then_some(*number)
        });
        oldest.is_some_and(|number| {
            self.end_handshake(number);
            true
        })
    }

    /// It is over, or it has lost its place: then its side hears of it.
    fn end_handshake(&mut self, number: u64) {
        if let Some((address, _)) = self.handshakes.remove(&number)
            && let Some(share) = self.by_address.get_mut(&address)
        {
            share.handshakes -= 1;
        }
    }
}

impl Place {
    /// The handshake is done.
    pub fn established(&mut self) {
        if let Some((number, _)) = self.shaking.take() {
            lock(&self.counts).end_handshake(number);
        }
    }

    /// Waits until another one gets this place, while it shakes hands.
    pub async fn lost(&mut self) {
        match &mut self.shaking {
            Some((_, lost)) => drop(lost.await),
            None => std::future::pending().await,
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
        if let Some(share) = counts.by_address.get_mut(&self.address) {
            share.open -= 1;
            if share.open == 0 {
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
        places[4].established();
        // The same address, as a socket of both families sees it.
        places.push(place(admission.ask(address("::ffff:10.0.0.1"), true)));
        let share = lock(&admission.counts).by_address[&address("10.0.0.1")];
        assert_eq!((share.open, share.handshakes), (2, 1));
    }

    #[test]
    fn an_address_cannot_fill_the_handshakes_and_pretenders_not_its_share() {
        let admission = Admission::new(Settings {
            handshakes: 32,
            retry_above: 32,
            ..Settings::default()
        });
        let [one, other] = ["10.0.0.1", "10.0.0.2"].map(address);
        let pretended: Vec<_> = (0..2).map(|_| place(admission.ask(one, false))).collect();
        assert!(matches!(admission.ask(one, false), Verdict::Prove));
        let proven: Vec<_> = (0..2).map(|_| place(admission.ask(one, true))).collect();
        assert!(matches!(admission.ask(one, true), Verdict::Refuse));
        drop(place(admission.ask(other, false)));
        drop((pretended, proven));
        drop(place(admission.ask(one, true)));
    }

    #[tokio::test]
    async fn when_all_are_taken_the_oldest_of_who_has_most_makes_room() {
        let admission = Admission::new(Settings {
            handshakes: 16,
            retry_above: 0,
            ..Settings::default()
        });
        let ip = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut all: Vec<_> = (0..16)
            .map(|n| place(admission.ask(ip(n / 2), true)))
            .collect();
        let newcomer = place(admission.ask(ip(99), true));
        all[0].lost().await;
        drop(all.remove(0));
        // Nobody has two more than one who has one.
        assert!(matches!(admission.ask(ip(99), true), Verdict::Refuse));
        drop(newcomer);
        drop(all);
        assert_eq!(admission.open(), 0);
        assert!(lock(&admission.counts).handshakes.is_empty());
    }
}
