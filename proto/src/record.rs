//! The origin's word that a relay is one of its own (docs/protocol.md, "Relay records"): whoever knows
//! the origin's key needs nobody to compare the relay's.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

use crate::codec::Reader;
use crate::{Chunk, ChunkError, Fields, GrantId, Name, Path, Place, PublicKey, Signer, Timestamp};

const HEAD: &str = "treeline-relay-";
const VERSION: u8 = 1;
/// The kind of record, in its name.
const KIND: u16 = 1;

/// A relay record as it was signed, not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayRecord(Chunk);

impl RelayRecord {
    /// Signs the record of a relay's key.
    ///
    /// # Errors
    /// [`ChunkError`] never comes up with so short a chunk.
    pub fn sign(
        origin: &Signer,
        relay: PublicKey,
        not_after: Timestamp,
    ) -> Result<Self, ChunkError> {
        let name = name(origin.public_key(), relay);
        let data = [&[VERSION], &relay.0[..]].concat();
        Chunk::sign(name, not_after, GrantId::NONE, &data, origin).map(Self)
    }

    /// The relay that it names, whoever has signed it.
    pub fn relay(&self) -> Option<PublicKey> {
        let mut reader = Reader::new(self.0.data());
        let version = reader.u8().ok()?;
        let relay = PublicKey(reader.array().ok()?);
        reader.end().ok()?;
        (version == VERSION).then_some(relay)
    }

    /// The relay's key, if one of these origins has signed it and it is still in force.
    pub fn verify(&self, origins: &[PublicKey], now: Timestamp) -> Option<PublicKey> {
        let relay = self.relay()?;
        let signed =
            |origin: &PublicKey| self.0.name() == name(*origin, relay) && self.0.verifies(origin);
        let valid = self.0.grant() == GrantId::NONE && self.0.expiry() > now;
        (valid && origins.iter().any(signed)).then_some(relay)
    }

    /// When it ends.
    pub fn not_after(&self) -> Timestamp {
        self.0.expiry()
    }

    /// The text, one line. It is no secret.
    pub fn to_text(&self) -> String {
        format!("{HEAD}{}", BASE64URL_NOPAD.encode(self.0.encoded()))
    }

    /// Reads a text; blanks around it are ignored.
    pub fn from_text(text: &str) -> Option<Self> {
        let body = text.trim().strip_prefix(HEAD)?;
        let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
        let chunk = Chunk::decode(bytes.into()).ok()?;
        (chunk.name().path() == Path::Record).then_some(Self(chunk))
    }
}

fn name(origin: PublicKey, relay: PublicKey) -> Name {
    let hash = Sha256::new()
        .chain_update(b"treeline relay record")
        .chain_update(relay.0)
        .finalize();
    let serial = hash[..5]
        .iter()
        .fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let place = Place {
        origin: origin.origin_id(),
        org: 0,
        team: 0,
    };
    Name::new(place, Fields::Record { kind: KIND, serial })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_origins_own_word_counts_and_only_in_time() {
        let (origin, other) = (Signer::from_seed(&[1; 32]), Signer::from_seed(&[2; 32]));
        let relay = PublicKey([7; 32]);
        let [now, end] = [1_000, 2_000].map(Timestamp::from_millis);
        let record = RelayRecord::sign(&origin, relay, end).unwrap();
        let text = record.to_text();
        assert!(text.len() <= 250 && RelayRecord::from_text(&text) == Some(record.clone()));
        let keys = [other.public_key(), origin.public_key()];
        assert_eq!(record.verify(&keys, now), Some(relay));
        assert_eq!(record.verify(&keys[..1], now), None);
        assert_eq!(record.verify(&keys, end), None);
        let forged = RelayRecord::sign(&other, relay, end).unwrap();
        assert_eq!(forged.verify(&keys[1..], now), None);
        for wrong in ["", "treeline-relay-", &text[1..], &text[..text.len() - 4]] {
            assert_eq!(RelayRecord::from_text(wrong), None, "{wrong}");
        }
    }
}
