//! The grants of a dump: in which order they go, which chain stands above one, and whether a chunk's
//! signature is that of the key that its grant names (docs/protocol.md, "Grant").

use std::collections::BTreeMap;

use proto::{Chunk, Grant, GrantId, Path, PublicKey, Timestamp, Verbs, limits};

/// Grant chunks by their id. Nothing of them is verified.
#[derive(Debug, Default)]
pub struct Grants(BTreeMap<GrantId, Chunk>);

impl Grants {
    /// Takes a grant chunk in: whether it is new. Other chunks are none.
    pub fn insert(&mut self, chunk: Chunk) -> bool {
        chunk.name().path() == Path::Grant && self.0.insert(GrantId::of(&chunk), chunk).is_none()
    }

    /// The chain from the origin's grant down to this one; `None` if a link of it is missing, or it
    /// is longer than a chain may be.
    pub fn chain(&self, id: GrantId) -> Option<Vec<Chunk>> {
        let mut chain = Vec::new();
        let mut next = id;
        while next != GrantId::NONE {
            let chunk = self.0.get(&next)?;
            if chain.len() == limits::GRANT_CHAIN {
                return None;
            }
            chain.push(chunk.clone());
            next = chunk.grant();
        }
        chain.reverse();
        Some(chain)
    }

    /// All of them, parents before children, those without a chain last.
    pub fn ordered(&self) -> Vec<&Chunk> {
        let mut all: Vec<(usize, &Chunk)> = self
            .0
            .iter()
            .map(|(id, chunk)| {
                (
                    self.chain(*id).map_or(usize::MAX, |chain| chain.len()),
                    chunk,
                )
            })
            .collect();
        all.sort_by_key(|(depth, chunk)| (*depth, chunk.name()));
        all.into_iter().map(|(_, chunk)| chunk).collect()
    }

    /// Whether a grant in this one's chain is over, so that no relay takes what relies on it.
    pub fn over(&self, id: GrantId, now: Timestamp) -> bool {
        let chain = self.chain(id).unwrap_or_default();
        chain.iter().any(|grant| grant.expiry() <= now)
    }
}

/// What can be said of a chunk's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// It is that of the key that the chain of grants names, and the name may be filled with it.
    Proven,
    /// The grant is not in the dump.
    Unproven,
    /// It is not, or the grant does not allow the name.
    Refuted,
}

/// Judges chunks by the grants that it has been shown.
pub struct Judge {
    origin: Option<PublicKey>,
    verified: BTreeMap<GrantId, Grant>,
}

impl Judge {
    /// A judge who accepts only this origin's grants; without one, any grant that says it is the
    /// origin's: a dump does not hold the origin's key.
    pub fn new(origin: Option<PublicKey>) -> Self {
        Self {
            origin,
            verified: BTreeMap::new(),
        }
    }

    /// Judges a chunk, and remembers it if it is a good grant. Grants have to come parents first.
    pub fn judge(&mut self, chunk: &Chunk) -> Proof {
        if chunk.name().path() == Path::Grant {
            return self.admit(chunk);
        }
        if chunk.name().path() == Path::KeyPackage && chunk.grant() == GrantId::NONE {
            let key = chunk.self_certifying_key();
            return proof(key.is_some_and(|key| chunk.verifies(&key)));
        }
        match self.verified.get(&chunk.grant()) {
            None => Proof::Unproven,
            Some(grant) => {
                proof(grant.permits(Verbs::PUBLISH, chunk.name()) && chunk.verifies(&grant.subject))
            }
        }
    }

    fn admit(&mut self, chunk: &Chunk) -> Proof {
        let grant = match (chunk.grant(), self.origin) {
            (GrantId::NONE, Some(origin)) => Grant::from_origin(chunk, &origin),
            (GrantId::NONE, None) => Grant::decode(chunk),
            (parent, _) => match self.verified.get(&parent) {
                None => return Proof::Unproven,
                Some(parent) => Grant::from_issuer(chunk, parent),
            },
        };
        match grant {
            Ok(grant) => {
                self.verified.insert(GrantId::of(chunk), grant);
                Proof::Proven
            }
            Err(_) => Proof::Refuted,
        }
    }
}

fn proof(good: bool) -> Proof {
    if good { Proof::Proven } else { Proof::Refuted }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::{Fields, Limits, Name, Pattern, Place, Registration, Rule, Signer};

    struct World {
        registration: Registration,
        device: Chunk,
        place: Place,
    }

    fn key() -> Signer {
        Signer::from_seed(&[3; 32])
    }

    fn world() -> World {
        let origin = Signer::from_seed(&[1; 32]);
        let until = Timestamp::from_millis(1000);
        let registration = Registration::issue(&origin, 7, [2; 32], until).unwrap();
        let place = Place {
            origin: registration.origin.origin_id(),
            org: 7,
            team: 2,
        };
        let grant = Grant {
            subject: key().public_key(),
            not_after: Timestamp::from_millis(500),
            limits: Limits::default(),
            rules: vec![Rule {
                verbs: Verbs::PUBLISH,
                pattern: Pattern::of_device(place, Path::Message, 5),
            }],
        };
        let issuer = Signer::from_seed(&registration.seed);
        let parent = GrantId::of(&registration.grant);
        World {
            device: grant.sign(place, 5, parent, &issuer).unwrap(),
            registration,
            place,
        }
    }

    fn message(world: &World, device: u32, signer: &Signer) -> Chunk {
        let fields = Fields::Message {
            channel: 1,
            device,
            number: 1,
        };
        let name = Name::new(world.place, fields);
        let grant = GrantId::of(&world.device);
        Chunk::sign(name, Timestamp::from_millis(900), grant, b"x", signer).unwrap()
    }

    #[test]
    fn parents_come_first_and_chains_are_whole() {
        let world = world();
        let mut grants = Grants::default();
        assert!(grants.insert(world.device.clone()));
        let id = GrantId::of(&world.device);
        assert_eq!(grants.chain(id), None);
        assert!(grants.insert(world.registration.grant.clone()));
        assert!(!grants.insert(world.registration.grant.clone()));
        assert!(!grants.insert(message(&world, 5, &key())));
        let both = [world.registration.grant.clone(), world.device.clone()];
        assert_eq!(grants.chain(id).unwrap(), both);
        assert_eq!(grants.ordered(), [&both[0], &both[1]]);
        assert!(!grants.over(id, Timestamp::from_millis(499)));
        assert!(grants.over(id, Timestamp::from_millis(500)));
    }

    #[test]
    fn only_what_the_chain_allows_is_proven() {
        let world = world();
        let good = message(&world, 5, &key());
        let mut judge = Judge::new(Some(world.registration.origin));
        assert_eq!(judge.judge(&good), Proof::Unproven);
        assert_eq!(judge.judge(&world.device), Proof::Unproven);
        assert_eq!(judge.judge(&world.registration.grant), Proof::Proven);
        assert_eq!(judge.judge(&world.device), Proof::Proven);
        assert_eq!(judge.judge(&good), Proof::Proven);
        let of_other = message(&world, 6, &key());
        assert_eq!(judge.judge(&of_other), Proof::Refuted);
        let forged = message(&world, 5, &Signer::from_seed(&[4; 32]));
        assert_eq!(judge.judge(&forged), Proof::Refuted);
        let mut elsewhere = Judge::new(Some(key().public_key()));
        assert_eq!(elsewhere.judge(&world.registration.grant), Proof::Refuted);
        let mut trusting = Judge::new(None);
        assert_eq!(trusting.judge(&world.registration.grant), Proof::Proven);
    }
}
