//! Ed25519 keys as names for who signs (docs/protocol.md, "Keys"). Seeds come from outside.

use std::fmt;

use ed25519_dalek::{SigningKey, ed25519::signature::Signer as _};
use sha2::{Digest, Sha256};

use crate::{OriginId, text, words};

/// A 32-byte Ed25519 public key. It may be any 32 bytes: a bad one verifies nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl PublicKey {
    /// The fingerprint that people compare and path 2 and 3 names begin.
    pub fn fingerprint(&self) -> Fingerprint {
        let hash = Sha256::new()
            .chain_update(b"treeline device key")
            .chain_update(self.0);
        Fingerprint(hash.finalize().into())
    }

    /// The number of the origin whose key this is: 24 bits.
    pub fn origin_id(&self) -> OriginId {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"treeline origin key")
            .chain_update(self.0)
            .finalize()
            .into();
        OriginId::new(u32::from_be_bytes([0, hash[0], hash[1], hash[2]]))
    }

    /// The number under which to remember the store that the holder of this key calls `store`:
    /// nobody else can claim it.
    pub fn bind_store(&self, store: [u8; 16]) -> [u8; 16] {
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"treeline store")
            .chain_update(self.0)
            .chain_update(store)
            .finalize()
            .into();
        let mut bound = [0; 16];
        bound.copy_from_slice(&hash[..16]);
        bound
    }

    /// 64 hex digits.
    pub fn to_hex(&self) -> String {
        text::to_hex(&self.0)
    }

    /// Reads 64 hex digits of either case.
    pub fn from_hex(hex: &str) -> Option<Self> {
        text::from_hex(hex).map(Self)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.to_hex())
    }
}

/// SHA-256 of a labelled public key: what two people compare, in full.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Bits of a path 2 or path 3 name that tell several objects of one device apart; the bits of the
    /// fingerprint before them find all of these.
    pub const TAG_BITS: u8 = 16;
    /// Digits in [`Fingerprint::digits`].
    pub const DIGITS: usize = 30;

    /// The first 46 bits. They only find, never prove.
    pub fn name_bits(&self) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(first) >> 18
    }

    /// The 46 bits of a path 2 or path 3 name: the first 30 of the fingerprint, and a tag.
    pub fn tagged(&self, tag: u16) -> u64 {
        self.name_bits() >> Self::TAG_BITS << Self::TAG_BITS | u64::from(tag)
    }

    /// Whether the 46 bits of a name begin as those of this fingerprint's names do.
    pub fn finds(&self, bits: u64) -> bool {
        self.name_bits() >> Self::TAG_BITS == bits >> Self::TAG_BITS
    }

    /// 30 decimal digits, six groups of five, for people who compare a device by voice: 99 bits of a hash,
    /// too many for anybody to make another device with the same.
    pub fn digits(&self) -> String {
        let hash = Sha256::new()
            .chain_update(b"treeline device digits")
            .chain_update(self.0)
            .finalize();
        let number = |part: &[u8]| {
            part.iter()
                .fold(0u64, |sum, byte| sum << 8 | u64::from(*byte))
        };
        let groups = hash[..30].chunks_exact(5);
        let groups: Vec<String> = groups
            .map(|part| format!("{:05}", number(part) % 100_000))
            .collect();
        groups.join(" ")
    }

    /// 64 hex digits.
    pub fn to_hex(&self) -> String {
        text::to_hex(&self.0)
    }

    /// Reads 64 hex digits of either case; blanks between them are skipped.
    pub fn from_hex(hex: &str) -> Option<Self> {
        let digits: String = hex.chars().filter(|c| !c.is_whitespace()).collect();
        text::from_hex(&digits).map(Self)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({})", self.to_hex())
    }
}

/// An Ed25519 private key. Zeroized on drop; `Debug` shows only the public half.
#[derive(Clone)]
pub struct Signer(SigningKey);

impl Signer {
    /// The key of a seed, which must come from a good source of randomness and stay secret.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The seed, to be stored sealed.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public half.
    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, label: &[u8], message: &[u8]) -> [u8; 64] {
        self.0.sign(&[label, message].concat()).to_bytes()
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({:?})", self.public_key())
    }
}

impl PublicKey {
    /// Six words of five letters, 96 bits of the key's hash, for people who compare a relay's key by
    /// voice.
    pub fn words(&self) -> String {
        let hash = Sha256::new()
            .chain_update(b"treeline relay words")
            .chain_update(self.0)
            .finalize();
        words::encode(&hash[..12])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_six_words_that_can_be_said() {
        let words = PublicKey([1; 32]).words();
        assert_eq!(words.split(' ').count(), 6);
        assert!(words.split(' ').all(|word| word.len() == 5));
        assert_eq!(words, PublicKey([1; 32]).words());
        assert_ne!(words, PublicKey([2; 32]).words());
    }

    #[test]
    fn debug_shows_no_seed() {
        let signer = Signer::from_seed(&[7; 32]);
        assert!(!format!("{signer:?}").contains(&text::to_hex(&[7; 32])));
    }

    #[test]
    fn a_fingerprint_is_read_with_blanks_and_in_either_case() {
        let fingerprint = Signer::from_seed(&[1; 32]).public_key().fingerprint();
        let hex = fingerprint.to_hex().to_uppercase();
        let spaced = format!("{} {}", &hex[..4], &hex[4..]);
        assert_eq!(Fingerprint::from_hex(&spaced), Some(fingerprint));
        assert_eq!(Fingerprint::from_hex(&hex[1..]), None);
    }

    #[test]
    fn the_name_bits_are_the_first_46() {
        let bits = Fingerprint([0xff; 32]).name_bits();
        assert_eq!(bits, (1 << 46) - 1);
        let mut one = [0; 32];
        one[0] = 0x80;
        assert_eq!(Fingerprint(one).name_bits(), 1 << 45);
    }

    #[test]
    fn a_tag_tells_names_of_one_device_apart_and_hides_no_other_device() {
        let one = Signer::from_seed(&[1; 32]).public_key().fingerprint();
        let other = Signer::from_seed(&[2; 32]).public_key().fingerprint();
        assert_ne!(one.tagged(1), one.tagged(2));
        for tag in [0, 1, u16::MAX] {
            assert!(one.finds(one.tagged(tag)) && !other.finds(one.tagged(tag)));
        }
    }

    #[test]
    fn digits_are_thirty_and_each_devices_own() {
        let digits = |seed| {
            Signer::from_seed(&[seed; 32])
                .public_key()
                .fingerprint()
                .digits()
        };
        assert_eq!(
            digits(1).chars().filter(char::is_ascii_digit).count(),
            Fingerprint::DIGITS
        );
        assert_eq!(digits(1).split(' ').count(), 6);
        assert_ne!(digits(1), digits(2));
    }
}
