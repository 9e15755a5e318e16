//! Signatures of chunks, one by one and many at once (docs/protocol.md, "Keys"): Ed25519 by the rules
//! of ZIP 215, which are the same for one and for many, and stricter in what an encoding may be. Who
//! may sign what is the business of [`crate::Grant`].

use std::sync::LazyLock;

use curve25519_dalek::constants::EIGHT_TORSION;
use ed25519_zebra::batch::{Item, Verifier};
use ed25519_zebra::{Signature, VerificationKeyBytes};
use rand_core::{CryptoRng, RngCore};
use sha2::{Digest, Sha512};

use crate::{Chunk, PublicKey};

/// Fewer are as cheap one by one.
const FEW: usize = 4;

/// The first of these that is not signed by the key beside it, as [`Chunk::verifies`] says of each;
/// `None` when all are. For many good ones it costs less than half of that, least when they are by
/// few keys; a bad one makes those before it cost half as much again.
pub fn first_unsigned(chunks: &[(PublicKey, &Chunk)]) -> Option<usize> {
    let mut signed = Vec::with_capacity(chunks.len());
    for (key, chunk) in chunks {
        let Some(item) = Signed::new(key, chunk) else {
            break;
        };
        signed.push(item);
    }
    // Those after one that is not well-formed are not asked for.
    let rest = (signed.len() < chunks.len()).then_some(signed.len());
    if signed.len() >= FEW && all_verify(&signed, chunks) {
        return rest;
    }
    let bad = signed.into_iter().position(|signed| !signed.verifies());
    bad.or(rest)
}

fn all_verify(signed: &[Signed], chunks: &[(PublicKey, &Chunk)]) -> bool {
    let mut batch = Verifier::new();
    let mut coefficients = Sha512::new().chain_update(b"treeline batch");
    for (signed, (key, chunk)) in signed.iter().zip(chunks) {
        batch.queue(signed.0.clone());
        coefficients.update(key.0);
        coefficients.update(chunk.encoded());
    }
    batch.verify(Coefficients::new(coefficients)).is_ok()
}

/// A signature whose encodings are allowed.
pub(crate) struct Signed(Item);

impl Signed {
    /// `None` for a point that is of small order or not written as it has to be: nothing that a key
    /// signs with honest means is.
    pub(crate) fn new(key: &PublicKey, chunk: &Chunk) -> Option<Self> {
        let signature = Signature::from(chunk.signature());
        if !is_allowed(&key.0) || !is_allowed(signature.r_bytes()) {
            return None;
        }
        let message = chunk.signed().concat();
        let key = VerificationKeyBytes::from(key.0);
        Some(Self(Item::from((key, signature, &message))))
    }

    pub(crate) fn verifies(self) -> bool {
        self.0.verify_single().is_ok()
    }
}

/// Whether 32 bytes are a canonical y, and not that of a point of small order. Whether there is a point
/// with it is found out later.
fn is_allowed(point: &[u8; 32]) -> bool {
    static SMALL: LazyLock<[[u8; 32]; 8]> =
        LazyLock::new(|| EIGHT_TORSION.map(|point| without_sign(&point.compress().0)));
    let y = without_sign(point);
    // The prime is 2^255 - 19.
    let canonical = y[31] != 0x7f || y[1..31] != [0xff; 30] || y[0] < 0xed;
    canonical && !SMALL.contains(&y)
}

fn without_sign(point: &[u8; 32]) -> [u8; 32] {
    let mut y = *point;
    y[31] &= 0x7f;
    y
}

/// The random numbers of a batch, from a hash of all that is in it: who makes the signatures cannot
/// choose them, and the same batch is judged the same again.
struct Coefficients {
    seed: [u8; 64],
    blocks: u64,
}

impl Coefficients {
    fn new(all: Sha512) -> Self {
        Self {
            seed: all.finalize().into(),
            blocks: 0,
        }
    }
}

impl RngCore for Coefficients {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for part in bytes.chunks_mut(64) {
            let block: [u8; 64] = Sha512::new()
                .chain_update(self.seed)
                .chain_update(self.blocks.to_be_bytes())
                .finalize()
                .into();
            self.blocks += 1;
            part.copy_from_slice(&block[..part.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for Coefficients {}

#[cfg(test)]
mod tests {
    use curve25519_dalek::{EdwardsPoint, Scalar};

    use super::*;
    use crate::{GrantId, Name, Signer, Timestamp};

    fn chunk(number: u8, signer: &Signer) -> Chunk {
        let expiry = Timestamp::from_millis(77);
        Chunk::sign(Name(5), expiry, GrantId([9; 8]), &[number], signer).unwrap()
    }

    fn with_signature(chunk: &Chunk, signature: &[u8]) -> Chunk {
        let bytes = chunk.encoded();
        let all = [&bytes[..bytes.len() - 64], signature].concat();
        Chunk::decode(all.into()).unwrap()
    }

    /// A signature that only its key's owner can make, with a point of small order added to R.
    fn mixed(seed: &[u8; 32], chunk: &Chunk) -> Chunk {
        let mut hash: [u8; 64] = Sha512::digest(seed).into();
        hash[0] &= 248;
        hash[31] = hash[31] & 127 | 64;
        let secret = Scalar::from_bytes_mod_order(hash[..32].try_into().unwrap());
        let nonce = Scalar::from(77_u8);
        let point = EdwardsPoint::mul_base(&nonce) + EIGHT_TORSION[1];
        let challenge: [u8; 64] = Sha512::new()
            .chain_update(point.compress().0)
            .chain_update(EdwardsPoint::mul_base(&secret).compress().0)
            .chain_update(chunk.signed().concat())
            .finalize()
            .into();
        let s = nonce + Scalar::from_bytes_mod_order_wide(&challenge) * secret;
        with_signature(chunk, &[point.compress().0, s.to_bytes()].concat())
    }

    #[test]
    fn many_are_judged_as_each_is() {
        let signers = [1, 2, 3].map(|seed| Signer::from_seed(&[seed; 32]));
        let mut chunks: Vec<(PublicKey, Chunk)> = (0..64)
            .map(|n| {
                let signer = &signers[usize::from(n) % 3];
                (signer.public_key(), chunk(n, signer))
            })
            .collect();
        let judge = |chunks: &[(PublicKey, Chunk)]| {
            let of: Vec<_> = chunks.iter().map(|(key, chunk)| (*key, chunk)).collect();
            let first = first_unsigned(&of);
            assert_eq!(
                first,
                of.iter().position(|(key, chunk)| !chunk.verifies(key))
            );
            first
        };
        assert_eq!(judge(&chunks), None);
        chunks[7].1 = mixed(&[2; 32], &chunks[7].1);
        assert_eq!(judge(&chunks), None, "one rule for both");
        chunks[9].0 = signers[1].public_key();
        chunks[40].0 = PublicKey([0xff; 32]);
        assert_eq!(judge(&chunks), Some(9));
        assert_eq!(judge(&chunks[10..]), Some(30), "not even a key");
        assert_eq!(judge(&chunks[9..10]), Some(0));
        assert_eq!(judge(&[]), None);
    }

    #[test]
    fn points_of_small_order_and_other_encodings_are_refused() {
        for point in EIGHT_TORSION {
            let mut bytes = point.compress().0;
            assert!(!is_allowed(&bytes));
            bytes[31] ^= 0x80;
            assert!(!is_allowed(&bytes));
        }
        let mut above = [0xff; 32];
        for first in 0xed..=0xff {
            above[0] = first;
            assert!(!is_allowed(&above), "a y above the prime");
        }
        let signer = Signer::from_seed(&[1; 32]);
        let good = chunk(1, &signer);
        let mut bytes = good.signature();
        // S plus the group order is the same number.
        let order = hex_order();
        let mut carry = 0;
        for (byte, add) in bytes[32..].iter_mut().zip(order) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            (*byte, carry) = (sum as u8, sum >> 8);
        }
        assert!(!with_signature(&good, &bytes).verifies(&signer.public_key()));
    }

    /// 2^252 + 27742317777372353535851937790883648493, little-endian.
    fn hex_order() -> [u8; 32] {
        let mut order = [0; 32];
        let low = 27_742_317_777_372_353_535_851_937_790_883_648_493_u128;
        order[..16].copy_from_slice(&low.to_le_bytes());
        order[31] = 0x10;
        order
    }
}
