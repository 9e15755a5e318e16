//! Who may fill which names (docs/protocol.md, "Grant").
//!
//! A grant is a chunk under path 7, signed by its issuer, which shows by a grant of its own that it
//! may issue it; the first in a chain is signed by the origin's key. A grant only ever narrows.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::codec::{DecodeError, Reader, put_u48};
use crate::limits::{CLOCK_SKEW_MS, LIFE_MS, RULES_PER_GRANT};
use crate::{Chunk, Fields, Name, Pattern, Place, PublicKey, Refused, Signer, Timestamp, text};

const VERSION: u8 = 1;

/// The first 8 bytes of the SHA-256 of an encoded grant chunk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub [u8; 8]);

impl GrantId {
    /// No grant: of a key package, and of a grant that the origin itself signs.
    pub const NONE: Self = Self([0; 8]);

    /// The id of a grant chunk.
    pub fn of(chunk: &Chunk) -> Self {
        let hash: [u8; 32] = Sha256::digest(chunk.encoded()).into();
        let mut id = [0; 8];
        id.copy_from_slice(&hash[..8]);
        Self(id)
    }
}

impl fmt::Debug for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantId({})", text::to_hex(&self.0))
    }
}

/// What a rule allows, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Verbs(u8);

impl Verbs {
    /// Fill names.
    pub const PUBLISH: Self = Self(1);
    /// Subscribe to names.
    pub const SUBSCRIBE: Self = Self(2);
    /// Hand any part of this rule on.
    pub const GRANT: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    /// These and those.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are among these.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Verbs for the names of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rule {
    /// What is allowed.
    pub verbs: Verbs,
    /// On which names.
    pub pattern: Pattern,
}

/// How much of it. A child's limits are at most its parent's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Limits {
    /// The shortest prefix that may be subscribed to, in bits.
    pub subscription_bits: u8,
    /// New chunks a second, 0 for the relay's own limit.
    pub chunks_per_second: u32,
    /// Stored bytes times seconds of life, 0 for the relay's own limit.
    pub byte_seconds: u64,
    /// The longest life of a chunk, in milliseconds.
    pub life_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            subscription_bits: 0,
            chunks_per_second: 0,
            byte_seconds: 0,
            life_ms: LIFE_MS,
        }
    }
}

/// The content of a grant chunk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who may.
    pub subject: PublicKey,
    /// Until when; also the chunk's expiry.
    pub not_after: Timestamp,
    /// How much.
    pub limits: Limits,
    /// What, at most 16 rules.
    pub rules: Vec<Rule>,
}

/// Why a chunk is not a valid grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GrantError {
    /// Its name is not under path 7.
    #[error("the name is not that of a grant")]
    Path,
    /// Its data is not a grant.
    #[error("the grant cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// Its number in the name is not the hash of its data, or its expiry is not its own not-after.
    #[error("the grant does not belong to its name")]
    Name,
    /// The issuer's signature is bad.
    #[error("the grant's signature is not its issuer's")]
    Signature,
    /// It allows more than its issuer may hand on.
    #[error("the grant allows more than its issuer may")]
    Wider,
    /// More rules than fit, or more data.
    #[error("the grant has too many rules")]
    TooLong,
}

impl Grant {
    /// Signs the grant as a chunk. `device` is the subject's number in the team, 0 for the key of an
    /// organisation; `parent` is the issuer's own grant.
    ///
    /// # Errors
    /// [`GrantError::TooLong`].
    pub fn sign(
        &self,
        place: Place,
        device: u32,
        parent: GrantId,
        issuer: &Signer,
    ) -> Result<Chunk, GrantError> {
        if self.rules.len() > RULES_PER_GRANT {
            return Err(GrantError::TooLong);
        }
        let data = self.encode();
        let name = Name::new(
            place,
            Fields::Grant {
                device,
                serial: serial(&data),
            },
        );
        Chunk::sign(name, self.not_after, parent, &data, issuer).map_err(|_| GrantError::TooLong)
    }

    /// Reads a grant that the origin's key issued, and verifies it.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn from_origin(chunk: &Chunk, origin: &PublicKey) -> Result<Self, GrantError> {
        let grant = Self::decode(chunk)?;
        let own = chunk.grant() == GrantId::NONE
            && chunk.name().place().origin == origin.origin_id()
            && grant
                .rules
                .iter()
                .all(|rule| Pattern::of_origin(origin.origin_id()).covers(rule.pattern));
        match (own, chunk.verifies(origin)) {
            (false, _) => Err(GrantError::Wider),
            (true, false) => Err(GrantError::Signature),
            (true, true) => Ok(grant),
        }
    }

    /// Reads a grant that was issued under `parent`, and verifies it.
    ///
    /// # Errors
    /// [`GrantError`].
    pub fn from_issuer(chunk: &Chunk, parent: &Self) -> Result<Self, GrantError> {
        let grant = Self::decode(chunk)?;
        if !parent.may_issue(&grant) || !parent.permits(Verbs::PUBLISH, chunk.name()) {
            return Err(GrantError::Wider);
        }
        if !chunk.verifies(&parent.subject) {
            return Err(GrantError::Signature);
        }
        Ok(grant)
    }

    /// Reads a grant's content. Nothing is verified but its form and its own name.
    ///
    /// # Errors
    /// [`GrantError::Path`], [`GrantError::Decode`], [`GrantError::Name`].
    pub fn decode(chunk: &Chunk) -> Result<Self, GrantError> {
        let Fields::Grant { serial: number, .. } = chunk.name().fields() else {
            return Err(GrantError::Path);
        };
        let mut reader = Reader::new(chunk.data());
        match reader.u8()? {
            VERSION => {}
            other => return Err(DecodeError::Version(other).into()),
        }
        let subject = PublicKey(reader.array()?);
        let not_after = Timestamp::from_millis(reader.u48()?);
        let limits = Limits {
            subscription_bits: reader.u8()?,
            chunks_per_second: reader.u32()?,
            byte_seconds: reader.u64()?,
            life_ms: reader.u48()?,
        };
        let count = reader.count(RULES_PER_GRANT)?;
        let rules = (0..count)
            .map(|_| decode_rule(&mut reader))
            .collect::<Result<_, _>>()?;
        reader.end()?;
        if serial(&chunk.data()) != number || chunk.expiry() != not_after {
            return Err(GrantError::Name);
        }
        Ok(Self {
            subject,
            not_after,
            limits,
            rules,
        })
    }

    /// Whether a rule allows this verb on this name.
    pub fn permits(&self, verb: Verbs, name: Name) -> bool {
        self.rules
            .iter()
            .any(|rule| rule.verbs.contains(verb) && rule.pattern.matches(name))
    }

    /// Whether the subject may fill this chunk's name with this chunk now. The signature is not
    /// looked at: [`Chunk::verifies`] with the subject does that.
    ///
    /// # Errors
    /// The reason to refuse it with.
    pub fn check(&self, chunk: &Chunk, now: Timestamp) -> Result<(), Refused> {
        if !self.permits(Verbs::PUBLISH, chunk.name()) {
            return Err(Refused::OutsideGrant);
        }
        if self.not_after < now {
            return Err(Refused::GrantExpired);
        }
        check_life(chunk, self.limits.life_ms, now)
    }

    /// Whether the subject may issue `child`: each rule within one that may be handed on, and no
    /// limit above its own.
    fn may_issue(&self, child: &Self) -> bool {
        let ruled = child.rules.iter().all(|rule| {
            let verbs = rule.verbs.and(Verbs::GRANT);
            self.rules
                .iter()
                .any(|own| own.verbs.contains(verbs) && own.pattern.covers(rule.pattern))
        });
        let at_most = |child: u64, own: u64| own == 0 || (child != 0 && child <= own);
        ruled
            && child.not_after <= self.not_after
            && child.limits.life_ms <= self.limits.life_ms
            && child.limits.subscription_bits >= self.limits.subscription_bits
            && at_most(
                child.limits.chunks_per_second.into(),
                self.limits.chunks_per_second.into(),
            )
            && at_most(child.limits.byte_seconds, self.limits.byte_seconds)
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        out.extend_from_slice(&self.subject.0);
        put_u48(&mut out, self.not_after.millis());
        out.push(self.limits.subscription_bits);
        out.extend_from_slice(&self.limits.chunks_per_second.to_be_bytes());
        out.extend_from_slice(&self.limits.byte_seconds.to_be_bytes());
        put_u48(&mut out, self.limits.life_ms);
        out.extend_from_slice(&(self.rules.len() as u16).to_be_bytes());
        for rule in &self.rules {
            out.push(rule.verbs.0);
            out.extend_from_slice(&rule.pattern.value().to_be_bytes());
            out.extend_from_slice(&rule.pattern.mask().to_be_bytes());
        }
        out
    }
}

/// Whether a chunk is alive, and lives no longer than it may.
///
/// # Errors
/// [`Refused::Expired`] or [`Refused::TooLongLived`].
pub(crate) fn check_life(chunk: &Chunk, life_ms: u64, now: Timestamp) -> Result<(), Refused> {
    if chunk.expiry() <= now {
        Err(Refused::Expired)
    } else if chunk.expiry() > now.plus_millis(life_ms).plus_millis(CLOCK_SKEW_MS) {
        Err(Refused::TooLongLived)
    } else {
        Ok(())
    }
}

fn decode_rule(reader: &mut Reader) -> Result<Rule, DecodeError> {
    let verbs = Verbs(reader.u8()?);
    if !Verbs::ALL.contains(verbs) {
        return Err(DecodeError::Undefined);
    }
    let (value, mask) = (reader.u128()?, reader.u128()?);
    if value & !mask != 0 {
        return Err(DecodeError::NotCanonical);
    }
    Ok(Rule {
        verbs,
        pattern: Pattern::new(value, mask),
    })
}

/// The first 30 bits of the data's hash: issuers need no counter, and cannot take each other's names.
fn serial(data: &[u8]) -> u32 {
    let hash: [u8; 32] = Sha256::digest(data).into();
    u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Path;

    struct World {
        origin: Signer,
        org: Signer,
        org_chunk: Chunk,
        org_grant: Grant,
        place: Place,
    }

    fn world() -> World {
        let origin = Signer::from_seed(&[1; 32]);
        let org = Signer::from_seed(&[2; 32]);
        let id = origin.public_key().origin_id();
        let org_grant = Grant {
            subject: org.public_key(),
            not_after: Timestamp::from_millis(1_000_000),
            limits: Limits::default(),
            rules: vec![Rule {
                verbs: Verbs::ALL,
                pattern: Pattern::of_org(id, 7),
            }],
        };
        let place = Place {
            origin: id,
            org: 7,
            team: 0,
        };
        let org_chunk = org_grant.sign(place, 0, GrantId::NONE, &origin).unwrap();
        World {
            origin,
            org,
            org_chunk,
            org_grant,
            place: Place { team: 2, ..place },
        }
    }

    fn device_grant(world: &World, device: u32) -> Grant {
        Grant {
            subject: Signer::from_seed(&[3; 32]).public_key(),
            not_after: Timestamp::from_millis(900_000),
            limits: Limits {
                life_ms: 1000,
                ..Limits::default()
            },
            rules: vec![Rule {
                verbs: Verbs::PUBLISH,
                pattern: Pattern::of_device(world.place, Path::Message, device),
            }],
        }
    }

    #[test]
    fn a_chain_verifies_and_limits_what_it_says() {
        let world = world();
        let org = Grant::from_origin(&world.org_chunk, &world.origin.public_key()).unwrap();
        assert_eq!(org, world.org_grant);
        let grant = device_grant(&world, 5);
        let chunk = grant
            .sign(world.place, 5, GrantId::of(&world.org_chunk), &world.org)
            .unwrap();
        assert_eq!(Grant::from_issuer(&chunk, &org).unwrap(), grant);

        let device = Signer::from_seed(&[3; 32]);
        let now = Timestamp::from_millis(500_000);
        let message = |device_number, life| {
            let fields = Fields::Message {
                channel: 1,
                device: device_number,
                number: 0,
            };
            let name = Name::new(world.place, fields);
            Chunk::sign(
                name,
                now.plus_millis(life),
                GrantId::of(&chunk),
                b"x",
                &device,
            )
            .unwrap()
        };
        assert_eq!(grant.check(&message(5, 1000), now), Ok(()));
        assert_eq!(
            grant.check(&message(6, 1000), now),
            Err(Refused::OutsideGrant)
        );
        assert_eq!(grant.check(&message(5, 0), now), Err(Refused::Expired));
        let long = message(5, 1001 + CLOCK_SKEW_MS);
        assert_eq!(grant.check(&long, now), Err(Refused::TooLongLived));
        let late = Timestamp::from_millis(900_001);
        assert_eq!(
            grant.check(&message(5, 500_000), late),
            Err(Refused::GrantExpired)
        );
    }

    #[test]
    fn a_grant_never_widens() {
        let world = world();
        let parent = GrantId::of(&world.org_chunk);
        let try_issue = |grant: &Grant| {
            let chunk = grant.sign(world.place, 5, parent, &world.org).unwrap();
            Grant::from_issuer(&chunk, &world.org_grant).map(|_| ())
        };
        assert_eq!(try_issue(&device_grant(&world, 5)), Ok(()));
        let mut other_org = device_grant(&world, 5);
        other_org.rules[0].pattern = Pattern::of_org(world.place.origin, 8);
        assert_eq!(try_issue(&other_org), Err(GrantError::Wider));
        let mut longer = device_grant(&world, 5);
        longer.not_after = Timestamp::from_millis(1_000_001);
        assert_eq!(try_issue(&longer), Err(GrantError::Wider));

        // A device may publish, and hand nothing on.
        let device = Signer::from_seed(&[3; 32]);
        let grant = device_grant(&world, 5);
        let chunk = grant.sign(world.place, 5, parent, &device).unwrap();
        assert_eq!(
            Grant::from_issuer(&chunk, &grant).map(|_| ()),
            Err(GrantError::Wider)
        );
    }

    #[test]
    fn a_foreign_origin_or_signature_is_refused() {
        let world = world();
        let other = Signer::from_seed(&[9; 32]);
        let foreign = Grant::from_origin(&world.org_chunk, &other.public_key());
        assert_eq!(foreign.map(|_| ()), Err(GrantError::Wider));
        let forged = world
            .org_grant
            .sign(world.place, 0, GrantId::NONE, &other)
            .unwrap();
        let result = Grant::from_origin(&forged, &world.origin.public_key());
        assert_eq!(result.map(|_| ()), Err(GrantError::Signature));
    }

    #[test]
    fn the_name_belongs_to_the_data() {
        let world = world();
        let data = world.org_grant.encode();
        let name = Name::new(
            world.place,
            Fields::Grant {
                device: 0,
                serial: serial(&data) ^ 1,
            },
        );
        let expiry = world.org_grant.not_after;
        let chunk = Chunk::sign(name, expiry, GrantId::NONE, &data, &world.origin).unwrap();
        assert_eq!(Grant::decode(&chunk), Err(GrantError::Name));
    }
}
