//! Who may no longer fill names (docs/protocol.md, "Revocation"): a record of an organisation.
//!
//! It ends grants; it takes nothing back that was accepted before.

use crate::codec::{Reader, put_u48};
use crate::{Chunk, Fields, Fingerprint, Grant, GrantId, Name, Place, Signer, Timestamp};

const VERSION: u8 = 1;
/// The kind of a record that ends the grants of one device in one team.
const DEVICE: u16 = 2;
/// The kind of a record that ends all grants of a key in an organisation.
const KEY: u16 = 3;

/// What a revocation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Revocation {
    /// The grants of a device, by its number in the team of the record's name.
    Device(u32),
    /// The grants of a publishing key in the organisation of the record's name.
    Key {
        /// Its fingerprint.
        device: Fingerprint,
        /// Since when.
        at: Timestamp,
    },
}

impl Revocation {
    /// The name of this revocation. A place stands for an organisation with team 0.
    pub fn name(self, place: Place) -> Name {
        let fields = match self {
            Self::Device(device) => Fields::Record {
                kind: DEVICE,
                serial: device.into(),
            },
            Self::Key { device, .. } => Fields::Record {
                kind: KEY,
                serial: serial(device),
            },
        };
        Name::new(place, fields)
    }

    /// Signs it under the issuer's grant. None never comes up: it is short.
    pub fn sign(
        self,
        place: Place,
        expiry: Timestamp,
        (grant, issuer): (GrantId, &Signer),
    ) -> Option<Chunk> {
        let mut data = vec![VERSION];
        if let Self::Key { device, at } = self {
            data.extend_from_slice(&device.0);
            put_u48(&mut data, at.millis());
        }
        Chunk::sign(self.name(place), expiry, grant, &data, issuer).ok()
    }

    /// Reads a record. None for what is no revocation. Nothing is verified but its form and its name.
    pub fn decode(chunk: &Chunk) -> Option<Self> {
        let Fields::Record { kind, serial } = chunk.name().fields() else {
            return None;
        };
        let data = chunk.data();
        let (version, rest) = data.split_first()?;
        let this = match kind {
            DEVICE if rest.is_empty() => Self::Device(u32::try_from(serial).ok()?),
            KEY => {
                let mut reader = Reader::new(data.slice(1..));
                let device = Fingerprint(reader.array().ok()?);
                let at = Timestamp::from_millis(reader.u48().ok()?);
                reader.end().ok()?;
                Self::Key { device, at }
            }
            _ => return None,
        };
        let fits = *version == VERSION && this.name(chunk.name().place()) == chunk.name();
        fits.then_some(this)
    }

    /// Whether a record of this content at `place` ends a grant, which stands under `name`. Whether its
    /// issuer may is not looked at.
    pub fn ends(self, place: Place, name: Name, grant: &Grant) -> bool {
        let (of, Fields::Grant { device, .. }) = (name.place(), name.fields()) else {
            return false;
        };
        match self {
            Self::Device(revoked) => of == place && device == revoked && of.team > 0,
            Self::Key { device, .. } => {
                (of.origin, of.org) == (place.origin, place.org)
                    && grant.subject.fingerprint() == device
            }
        }
    }
}

/// The first 40 bits of a fingerprint.
fn serial(fingerprint: Fingerprint) -> u64 {
    fingerprint.0[..5]
        .iter()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OriginId;

    #[test]
    fn a_revocation_comes_back_and_no_other_record_is_one() {
        let place = Place {
            origin: OriginId::new(1),
            org: 2,
            team: 3,
        };
        let key = Signer::from_seed(&[1; 32]);
        let end = Timestamp::from_millis(9);
        for one in [
            Revocation::Device(77),
            Revocation::Key {
                device: key.public_key().fingerprint(),
                at: Timestamp::from_millis(7),
            },
        ] {
            let chunk = one.sign(place, end, (GrantId::NONE, &key)).unwrap();
            assert_eq!(Revocation::decode(&chunk), Some(one));
            let longer = [&chunk.data()[..], &[0]].concat();
            let longer = Chunk::sign(chunk.name(), end, GrantId::NONE, &longer, &key).unwrap();
            assert_eq!(Revocation::decode(&longer), None);
            let mut other = chunk.data().to_vec();
            other[0] = 2;
            let other = Chunk::sign(chunk.name(), end, GrantId::NONE, &other, &key).unwrap();
            assert_eq!(Revocation::decode(&other), None);
            let elsewhere = chunk.name().offset(1).unwrap();
            let data = chunk.data();
            let moved = Chunk::sign(elsewhere, end, GrantId::NONE, &data, &key).unwrap();
            assert_ne!(Revocation::decode(&moved), Some(one));
        }
    }
}
