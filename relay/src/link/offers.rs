//! What relays have offered, so that one that suddenly offers less is noticed (docs/protocol.md,
//! "Versions"). Decisions only: no link, no clock. It lives as long as the process, and a day at most.
//!
//! Within one link nothing can be talked down: both HELLOs are under TLS, and the version follows from
//! them alone. What remains is somebody with the relay's key who serves old software on purpose.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use proto::{Hello, PublicKey};
use thiserror::Error;

/// How long an offer is held against the relay. After a day, going back was meant.
pub const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Relays remembered, at most; the one not seen for longest is forgotten first.
const RELAYS: usize = 1024;

/// A relay offers less than it did before. One line, to be put behind the relay's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Downgrade {
    /// An older protocol.
    #[error(
        "it offers version {now} and offered {before} before; it is not used until it offers that again, or for a day"
    )]
    Version {
        /// The newest version before.
        before: u16,
        /// The newest version now.
        now: u16,
    },
    /// Fewer transports.
    #[error(
        "it offers fewer transports than before; it is not used until it offers them again, or for a day"
    )]
    Transports,
}

/// What each relay has offered.
#[derive(Debug, Default)]
pub struct Offers(BTreeMap<PublicKey, Offer>);

#[derive(Debug, Clone, Copy)]
struct Offer {
    newest: u16,
    transports: u64,
    at: Instant,
}

impl Offers {
    /// Compares a relay's HELLO with what it said before, and remembers it when it is not less.
    ///
    /// # Errors
    /// [`Downgrade`].
    pub fn check(
        &mut self,
        relay: PublicKey,
        hello: &Hello,
        now: Instant,
    ) -> Result<(), Downgrade> {
        self.0
            .retain(|_, offer| now.saturating_duration_since(offer.at) < REMEMBERED);
        let transports = hello.features & Hello::TRANSPORTS;
        let newest = hello.newest;
        if let Some(before) = self.0.get(&relay) {
            if newest < before.newest {
                let before = before.newest;
                return Err(Downgrade::Version {
                    before,
                    now: newest,
                });
            }
            if before.transports & !transports != 0 {
                return Err(Downgrade::Transports);
            }
        }
        let at = now;
        self.0.insert(
            relay,
            Offer {
                newest,
                transports,
                at,
            },
        );
        if self.0.len() > RELAYS {
            let oldest = self.0.iter().min_by_key(|(_, offer)| offer.at);
            if let Some(relay) = oldest.map(|(relay, _)| *relay) {
                self.0.remove(&relay);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Tier, Timestamp};

    fn hello(newest: u16, features: u64) -> Hello {
        Hello {
            oldest: 1,
            newest,
            features,
            tier: Tier::Cloud,
            time: Timestamp::from_millis(1),
            store: [0; 16],
        }
    }

    #[test]
    fn less_than_before_is_refused_for_a_day_and_by_key() {
        let (mut offers, start) = (Offers::default(), Instant::now());
        let (a, b) = (PublicKey([1; 32]), PublicKey([2; 32]));
        let both = Hello::TRANSPORTS;
        assert_eq!(offers.check(a, &hello(2, both), start), Ok(()));
        let older = Downgrade::Version { before: 2, now: 1 };
        assert_eq!(offers.check(a, &hello(1, both), start), Err(older));
        let fewer = hello(2, Hello::TCP);
        assert_eq!(offers.check(a, &fewer, start), Err(Downgrade::Transports));
        assert_eq!(offers.check(b, &hello(1, 0), start), Ok(()));
        // Other features may come and go, and more is always welcome.
        assert_eq!(offers.check(a, &hello(3, both | 1 << 40), start), Ok(()));
        assert_eq!(offers.check(a, &hello(3, both), start), Ok(()));
        // A refusal does not prolong the memory.
        let almost = start + REMEMBERED - Duration::from_secs(1);
        assert!(offers.check(a, &hello(1, both), almost).is_err());
        assert_eq!(offers.check(a, &hello(1, 0), start + REMEMBERED), Ok(()));
    }

    #[test]
    fn the_memory_is_bounded() {
        let (mut offers, start) = (Offers::default(), Instant::now());
        for number in 0..2 * RELAYS as u32 {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let relay = PublicKey(key);
            assert_eq!(offers.check(relay, &hello(1, 0), start), Ok(()));
        }
        assert_eq!(offers.0.len(), RELAYS);
    }
}
