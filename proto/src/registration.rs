//! The text with which an origin's operator lets somebody found one organisation
//! (docs/protocol.md, "Registration"). Whoever holds it may: it is a secret.

use std::fmt;

use data_encoding::BASE64URL_NOPAD;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::codec::Reader;
use crate::{
    Chunk, Grant, GrantError, GrantId, Limits, Pattern, Place, PublicKey, Rule, Signer, Timestamp,
    Verbs,
};

const HEAD: &str = "treeline-org-";
const VERSION: u8 = 1;

/// The right to found one organisation.
#[derive(Clone)]
pub struct Registration {
    /// The origin's public key.
    pub origin: PublicKey,
    /// The number of the organisation.
    pub org: u32,
    /// The origin's grant over all names of the organisation, to the key of `seed`.
    pub grant: Chunk,
    /// The seed of the key that the grant is for.
    pub seed: Zeroizing<[u8; 32]>,
}

/// Why a text is no registration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RegistrationError {
    /// It is not such a text, or was cut.
    #[error(
        "this is not the text that `treeline-relay org register` prints; it begins with treeline-org-"
    )]
    Text,
    /// The grant in it is not the origin's, or not for its key.
    #[error("the registration does not verify: {0}")]
    Grant(#[from] GrantError),
}

impl Registration {
    /// Signs a new registration. The seed must come from a good source of randomness.
    ///
    /// # Errors
    /// [`GrantError`] never comes up with one rule.
    pub fn issue(
        origin: &Signer,
        org: u32,
        seed: [u8; 32],
        not_after: Timestamp,
    ) -> Result<Self, GrantError> {
        Self::issue_with(origin, org, seed, not_after, Limits::default())
    }

    /// As [`Registration::issue`], with limits for all that the organisation does.
    ///
    /// # Errors
    /// [`GrantError`] never comes up with one rule.
    pub fn issue_with(
        origin: &Signer,
        org: u32,
        seed: [u8; 32],
        not_after: Timestamp,
        limits: Limits,
    ) -> Result<Self, GrantError> {
        let id = origin.public_key().origin_id();
        let grant = Grant {
            subject: Signer::from_seed(&seed).public_key(),
            not_after,
            limits,
            rules: vec![Rule {
                verbs: Verbs::ALL,
                pattern: Pattern::of_org(id, org),
            }],
        };
        let place = Place {
            origin: id,
            org,
            team: 0,
        };
        let chunk = grant.sign(place, 0, GrantId::NONE, origin)?;
        Ok(Self {
            origin: origin.public_key(),
            org,
            grant: chunk,
            seed: Zeroizing::new(seed),
        })
    }

    /// The text, one line. It holds the secret.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut out = Zeroizing::new(vec![VERSION]);
        out.extend_from_slice(&self.origin.0);
        out.extend_from_slice(&self.org.to_be_bytes());
        out.extend_from_slice(&*self.seed);
        out.extend_from_slice(self.grant.encoded());
        Zeroizing::new(format!("{HEAD}{}", BASE64URL_NOPAD.encode(&out)))
    }

    /// Reads and verifies a registration; blanks around it are ignored.
    ///
    /// # Errors
    /// [`RegistrationError`].
    pub fn from_text(text: &str) -> Result<Self, RegistrationError> {
        let body = text
            .trim()
            .strip_prefix(HEAD)
            .ok_or(RegistrationError::Text)?;
        let bytes = BASE64URL_NOPAD
            .decode(body.as_bytes())
            .map_err(|_| RegistrationError::Text)?;
        let this = Self::decode(bytes).ok_or(RegistrationError::Text)?;
        let grant = Grant::from_origin(&this.grant, &this.origin)?;
        if this.grant.name().place().org != this.org {
            return Err(GrantError::Wider.into());
        }
        if grant.subject != Signer::from_seed(&this.seed).public_key() {
            return Err(GrantError::Signature.into());
        }
        Ok(this)
    }

    fn decode(bytes: Vec<u8>) -> Option<Self> {
        let mut reader = Reader::new(bytes.into());
        if reader.u8().ok()? != VERSION {
            return None;
        }
        let origin = PublicKey(reader.array().ok()?);
        let org = reader.u32().ok().filter(|org| *org <= Place::ORG_MAX)?;
        let seed = Zeroizing::new(reader.array().ok()?);
        let grant = Chunk::decode(reader.rest()).ok()?;
        Some(Self {
            origin,
            org,
            grant,
            seed,
        })
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Registration(org {} at {:?})",
            self.org,
            self.origin.origin_id()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_comes_back_and_a_changed_one_does_not() {
        let origin = Signer::from_seed(&[1; 32]);
        let until = Timestamp::from_millis(5);
        let registration = Registration::issue(&origin, 7, [2; 32], until).unwrap();
        let text = registration.to_text();
        let back = Registration::from_text(&format!(" {}\n", *text)).unwrap();
        assert_eq!(
            (back.org, *back.seed, back.grant),
            (7, [2; 32], registration.grant.clone())
        );
        for at in (0..text.len()).step_by(5) {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(Registration::from_text(&changed).is_err(), "byte {at}");
        }
        assert!(!format!("{registration:?}").contains("0202"));
    }
}
