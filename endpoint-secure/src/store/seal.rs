//! How a value is sealed for the disk, and how a row's key is hidden.
//!
//! It knows nothing of tables: the caller says where a value stands, and a value opened anywhere
//! else is refused.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use hmac::{Hmac, KeyInit as _, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::StoreError;
use crate::lock::MasterKey;

/// The version of the sealed form; part of what is authenticated.
const VERSION: u8 = 1;
const NONCE: usize = 24;

/// Seals values and hides row keys. `Debug` shows none of its keys.
pub struct Sealer {
    values: XChaCha20Poly1305,
    rows: Zeroizing<[u8; 32]>,
}

impl Sealer {
    /// Derives its two keys.
    pub fn new(master: &MasterKey) -> Self {
        Self {
            values: XChaCha20Poly1305::new((&*master.derive("treeline store values 1")).into()),
            rows: master.derive("treeline store rows 1"),
        }
    }

    /// Hides a row key: equal keys give equal bytes, and nothing else can be told.
    pub fn hide(&self, table: &str, key: &[u8]) -> [u8; 16] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.rows[..]).expect("HMAC takes any key");
        mac.update(table.as_bytes());
        mac.update(&[0]);
        mac.update(key);
        let mut out = [0; 16];
        out.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        out
    }

    /// Seals a value for its place: `nonce 24 | ciphertext`.
    ///
    /// # Errors
    /// [`StoreError::Random`].
    pub fn seal(&self, table: &str, key: &[u8], plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0; NONCE];
        getrandom::fill(&mut nonce).map_err(|_| StoreError::Random)?;
        let sealed = self
            .values
            .encrypt(
                XNonce::from_slice(&nonce),
                Payload {
                    msg: plain,
                    aad: &place(table, key),
                },
            )
            .map_err(|_| StoreError::Corrupt)?;
        let mut out = Vec::with_capacity(NONCE + sealed.len());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens a value of this place.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if it was altered or stood elsewhere.
    pub fn open(
        &self,
        table: &str,
        key: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let (nonce, body) = sealed.split_at_checked(NONCE).ok_or(StoreError::Corrupt)?;
        self.values
            .decrypt(
                XNonce::from_slice(nonce),
                Payload {
                    msg: body,
                    aad: &place(table, key),
                },
            )
            .map(Zeroizing::new)
            .map_err(|_| StoreError::Corrupt)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(..)")
    }
}

fn place(table: &str, key: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(table.len() + key.len() + 2);
    place.push(VERSION);
    place.extend_from_slice(table.as_bytes());
    place.push(0);
    place.extend_from_slice(key);
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_where_it_stood() {
        let sealer = Sealer::new(&MasterKey::random().unwrap());
        let mut sealed = sealer.seal("a", b"k", b"text").unwrap();
        assert_eq!(&sealer.open("a", b"k", &sealed).unwrap()[..], b"text");
        assert!(sealer.open("b", b"k", &sealed).is_err());
        assert!(sealer.open("a", b"l", &sealed).is_err());
        sealed[30] ^= 1;
        assert!(sealer.open("a", b"k", &sealed).is_err());
        assert!(sealer.open("a", b"k", &sealed[..10]).is_err());
    }

    #[test]
    fn row_keys_are_hidden_per_profile_and_table() {
        let one = Sealer::new(&MasterKey::random().unwrap());
        let two = Sealer::new(&MasterKey::random().unwrap());
        assert_eq!(one.hide("a", b"k"), one.hide("a", b"k"));
        assert_ne!(one.hide("a", b"k"), one.hide("b", b"k"));
        assert_ne!(one.hide("a", b"k"), two.hide("a", b"k"));
        assert_eq!(format!("{one:?}"), "Sealer(..)");
    }
}
