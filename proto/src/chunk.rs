//! The unit that relays carry: signed, immutable, at most 1,024 bytes of data (docs/protocol.md,
//! "Chunk"). Who may sign a name is the business of [`crate::Grant`], not of the chunk.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::codec::{DecodeError, Reader, put_u48};
use crate::grant::check_life;
use crate::limits::{CHUNK_DATA_BYTES, CHUNK_HEAD_BYTES, KEY_PACKAGE_LIFE_MS, SIGNATURE_BYTES};
use crate::verify::Signed;
use crate::{Fields, GrantId, Name, PublicKey, Refused, Signer, Timestamp};

const VERSION: u8 = 1;
const LABEL: &[u8] = b"treeline chunk v1";

/// A chunk. It is its encoded bytes, checked once for their form and shared from then on.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Chunk(Bytes);

/// Why a chunk cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ChunkError {
    /// More data than fits.
    #[error("a chunk holds at most {CHUNK_DATA_BYTES} bytes, not {0}")]
    TooLong(usize),
}

impl Chunk {
    /// Makes and signs a chunk. `grant` is the id of the signer's grant.
    ///
    /// # Errors
    /// [`ChunkError::TooLong`] for more than 1,024 bytes of data.
    pub fn sign(
        name: Name,
        expiry: Timestamp,
        grant: GrantId,
        data: &[u8],
        signer: &Signer,
    ) -> Result<Self, ChunkError> {
        if data.len() > CHUNK_DATA_BYTES {
            return Err(ChunkError::TooLong(data.len()));
        }
        let mut out = Vec::with_capacity(CHUNK_HEAD_BYTES + data.len() + SIGNATURE_BYTES);
        out.extend_from_slice(&[VERSION, 0]);
        out.extend_from_slice(&name.to_bytes());
        put_u48(&mut out, expiry.millis());
        out.extend_from_slice(&grant.0);
        out.extend_from_slice(&(data.len() as u16).to_be_bytes());
        out.extend_from_slice(data);
        let signature = signer.sign(LABEL, &out);
        out.extend_from_slice(&signature);
        Ok(Self(out.into()))
    }

    /// Reads exactly one chunk. Its signature is not verified.
    ///
    /// # Errors
    /// [`DecodeError`] if the bytes are not the one encoding of a chunk.
    pub fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes.clone());
        match reader.u8()? {
            VERSION => {}
            other => return Err(DecodeError::Version(other)),
        }
        if reader.u8()? != 0 {
            return Err(DecodeError::Undefined);
        }
        reader.take(CHUNK_HEAD_BYTES - 4)?;
        let length = reader.count(CHUNK_DATA_BYTES)?;
        reader.take(length + SIGNATURE_BYTES)?;
        reader.end()?;
        Ok(Self(bytes))
    }

    /// The name.
    pub fn name(&self) -> Name {
        Name(u128::from_be_bytes(self.field(2)))
    }

    /// When every honest relay drops it.
    pub fn expiry(&self) -> Timestamp {
        let mut millis = [0; 8];
        millis[2..].copy_from_slice(&self.0[18..24]);
        Timestamp::from_millis(u64::from_be_bytes(millis))
    }

    /// The grant that its signer claims.
    pub fn grant(&self) -> GrantId {
        GrantId(self.field(24))
    }

    /// The data, 0 to 1,024 bytes.
    pub fn data(&self) -> Bytes {
        self.0
            .slice(CHUNK_HEAD_BYTES..self.0.len() - SIGNATURE_BYTES)
    }

    /// The signature.
    pub fn signature(&self) -> [u8; 64] {
        self.field(self.0.len() - SIGNATURE_BYTES)
    }

    /// The bytes on the wire, 98 to 1,122.
    pub fn encoded(&self) -> &Bytes {
        &self.0
    }

    /// The first 16 bytes of the SHA-256 of its bytes on the wire: what fingerprints add up.
    pub fn digest(&self) -> u128 {
        let hash: [u8; 32] = Sha256::digest(&self.0).into();
        hash[..16]
            .iter()
            .fold(0, |digest, byte| digest << 8 | u128::from(*byte))
    }

    /// What is signed: a label, and all but the signature.
    pub(crate) fn signed(&self) -> [&[u8]; 2] {
        [LABEL, &self.0[..self.0.len() - SIGNATURE_BYTES]]
    }

    /// Whether this key signed it.
    pub fn verifies(&self, key: &PublicKey) -> bool {
        Signed::new(key, self).is_some_and(|signed| signed.verifies())
    }

    /// The key that a key package chunk carries in front of its data, if its fingerprint finds the
    /// name: who may fill a path 2 name needs no grant.
    pub fn self_certifying_key(&self) -> Option<PublicKey> {
        let Fields::KeyPackage { fingerprint, .. } = self.name().fields() else {
            return None;
        };
        let key = PublicKey(self.data().get(..32)?.try_into().ok()?);
        key.fingerprint().finds(fingerprint).then_some(key)
    }

    /// Whether a chunk that needs no grant, a key package, may be stored now. The signature is not
    /// looked at: [`Chunk::verifies`] with [`Chunk::self_certifying_key`] does that.
    ///
    /// # Errors
    /// The reason to refuse it with.
    pub fn check_key_package(&self, now: Timestamp) -> Result<PublicKey, Refused> {
        let key = self.self_certifying_key().ok_or(Refused::OutsideGrant)?;
        check_life(self, KEY_PACKAGE_LIFE_MS, now).map(|()| key)
    }

    fn field<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut field = [0; N];
        field.copy_from_slice(&self.0[at..at + N]);
        field
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({}, {} bytes)", self.name(), self.data().len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(data: &[u8]) -> Chunk {
        let signer = Signer::from_seed(&[1; 32]);
        let expiry = Timestamp::from_millis(77);
        Chunk::sign(Name(5), expiry, GrantId([9; 8]), data, &signer).unwrap()
    }

    #[test]
    fn fields_come_back() {
        let chunk = chunk(b"hello");
        let back = Chunk::decode(chunk.encoded().clone()).unwrap();
        assert_eq!(back, chunk);
        assert_eq!(back.name(), Name(5));
        assert_eq!(back.expiry().millis(), 77);
        assert_eq!(back.grant(), GrantId([9; 8]));
        assert_eq!(&back.data()[..], b"hello");
        assert_eq!(back.encoded().len(), 98 + 5);
    }

    #[test]
    fn every_flipped_bit_breaks_the_form_or_the_signature() {
        let key = Signer::from_seed(&[1; 32]).public_key();
        let chunk = chunk(b"hello");
        assert!(chunk.verifies(&key));
        for bit in 0..chunk.encoded().len() * 8 {
            let mut bytes = chunk.encoded().to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let verified = Chunk::decode(bytes.into()).is_ok_and(|chunk| chunk.verifies(&key));
            assert!(!verified, "bit {bit}");
        }
    }

    #[test]
    fn lengths_are_limited() {
        assert_eq!(
            chunk(&[0; 1024]).encoded().len(),
            crate::limits::CHUNK_BYTES
        );
        let signer = Signer::from_seed(&[1; 32]);
        let long = Chunk::sign(Name(0), Timestamp::MAX, GrantId::NONE, &[0; 1025], &signer);
        assert_eq!(long, Err(ChunkError::TooLong(1025)));
        let whole = chunk(b"hello").encoded().clone();
        for end in 0..whole.len() {
            assert_eq!(
                Chunk::decode(whole.slice(..end)),
                Err(DecodeError::Truncated)
            );
        }
        let mut longer = whole.to_vec();
        longer.push(0);
        assert_eq!(Chunk::decode(longer.into()), Err(DecodeError::Trailing));
    }
}
