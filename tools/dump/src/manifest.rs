//! The manifest of a dump: what belongs to it, signed. Two lines of text: the manifest as one JSON
//! object, and the hex of an Ed25519 signature over a label and exactly the bytes of the first line.
//!
//! The signature says that the holder of the key in it wrote these files, as they are. It does not say
//! that the relay gave everything, that there is no later dump, or that the chunks are genuine: chunks
//! bear signatures of their own.

use data_encoding::HEXLOWER;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use proto::{Cursor, Prefix, PublicKey, Signer, limits};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of everything in a dump's directory.
const VERSION: u32 = 1;
const LABEL: &[u8] = b"treeline dump v1";
/// A file of a dump has at most so many bytes.
pub const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// A manifest has at most so many bytes: that of a dump of 25 TiB.
pub const MANIFEST_BYTES: u64 = 64 * 1024 * 1024;

/// Why a text is no manifest.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ManifestError {
    /// A newer program wrote it.
    #[error("it has version {0}, and this program reads version {VERSION}")]
    Version(u64),
    /// It is not what a manifest looks like.
    #[error("it cannot be read: {0}")]
    Form(String),
    /// The signature is not that of its key.
    #[error("its signature is bad")]
    Signature,
}

/// What a file of chunks holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Grants, parents before children.
    Grants,
    /// Everything else, in the order of arrival.
    Chunks,
}

impl Kind {
    /// The word that its files' names begin with.
    pub fn word(self) -> &'static str {
        match self {
            Self::Grants => "grants",
            Self::Chunks => "chunks",
        }
    }
}

/// One file of chunks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// What it holds.
    pub kind: Kind,
    /// How many chunks.
    pub chunks: u64,
    /// Its length.
    pub bytes: u64,
    /// The hex of its BLAKE3.
    pub blake3: String,
}

impl Entry {
    /// The name of the file: its content's, so that a changed file is another file.
    pub fn file_name(&self) -> String {
        let hash = self.blake3.get(..32).unwrap_or_default();
        format!("{}-{hash}.chunks", self.kind.word())
    }
}

/// A manifest whose signature has been verified, or that is about to be signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u32,
    /// The text form of what was asked for.
    prefix: String,
    /// When it was made, in milliseconds since 1970, by the clock of who made it.
    pub made_ms: u64,
    /// Where it was read from: HOST:PORT#KEY.
    pub relay: String,
    /// The hex of the relay's last cursor: where the next dump goes on.
    cursor: String,
    /// All chunks in all files.
    pub count: u64,
    /// The files, those with grants first.
    pub files: Vec<Entry>,
    /// The hex of the key that signs.
    key: String,
}

impl Manifest {
    /// A manifest of these files.
    pub fn new(
        prefix: Prefix,
        (made_ms, relay): (u64, String),
        cursor: Option<&Cursor>,
        files: Vec<Entry>,
        key: &PublicKey,
    ) -> Self {
        Self {
            version: VERSION,
            prefix: prefix.to_string(),
            made_ms,
            relay,
            cursor: HEXLOWER.encode(cursor.map_or(&[], Cursor::as_bytes)),
            count: files.iter().map(|entry| entry.chunks).sum(),
            files,
            key: key.to_hex(),
        }
    }

    /// What was asked for.
    pub fn prefix(&self) -> Prefix {
        self.prefix
            .parse()
            .expect("the prefix was read when the manifest was")
    }

    /// Where the next dump goes on; `None` for the beginning.
    pub fn cursor(&self) -> Option<Cursor> {
        let bytes = HEXLOWER.decode(self.cursor.as_bytes()).ok()?;
        Cursor::new(bytes).filter(|cursor| !cursor.as_bytes().is_empty())
    }

    /// The key that signed it.
    pub fn key(&self) -> PublicKey {
        PublicKey::from_hex(&self.key).expect("the key was read when the manifest was")
    }

    /// How many chunks are grants.
    pub fn grants(&self) -> u64 {
        let grants = self.files.iter().filter(|entry| entry.kind == Kind::Grants);
        grants.map(|entry| entry.chunks).sum()
    }

    /// The two lines.
    pub fn to_text(&self, signer: &Signer) -> String {
        let line = serde_json::to_string(self).expect("a manifest has no map with odd keys");
        let key = SigningKey::from_bytes(&signer.seed());
        let signature = key.sign(&signed(&line)).to_bytes();
        format!("{line}\n{}\n", HEXLOWER.encode(&signature))
    }

    /// Reads the two lines and verifies the signature with the key that they name.
    ///
    /// # Errors
    /// [`ManifestError`].
    pub fn from_text(text: &str) -> Result<Self, ManifestError> {
        let form = |what: &str| ManifestError::Form(what.to_owned());
        let lines = text
            .strip_suffix('\n')
            .and_then(|text| text.split_once('\n'));
        let (line, signature) = lines.ok_or_else(|| form("it is not two lines"))?;
        let manifest = match serde_json::from_str::<Self>(line) {
            Ok(manifest) if manifest.version == VERSION => manifest,
            result => return Err(misread(line, result.err())),
        };
        let signature = HEXLOWER.decode(signature.as_bytes()).ok();
        let signature: Option<[u8; 64]> = signature.and_then(|bytes| bytes.try_into().ok());
        let signature = signature.ok_or_else(|| form("the second line is no signature"))?;
        let key = PublicKey::from_hex(&manifest.key).ok_or_else(|| form("the key is none"))?;
        let verified = VerifyingKey::from_bytes(&key.0).is_ok_and(|key| {
            key.verify_strict(&signed(line), &Signature::from_bytes(&signature))
                .is_ok()
        });
        if !verified {
            return Err(ManifestError::Signature);
        }
        manifest.check().map_err(form)?;
        Ok(manifest)
    }

    /// What a signature alone does not give: that a correct program wrote it.
    fn check(&self) -> Result<(), &'static str> {
        let hash = |entry: &Entry| {
            entry.blake3.len() == 64 && HEXLOWER.decode(entry.blake3.as_bytes()).is_ok()
        };
        if self.prefix.parse::<Prefix>().is_err() {
            return Err("the prefix is none");
        }
        if !self.files.iter().all(hash) {
            return Err("a file's BLAKE3 is none");
        }
        if self.files.iter().any(|entry| entry.bytes > FILE_BYTES) {
            return Err("a file is longer than files may be");
        }
        let sum = self
            .files
            .iter()
            .try_fold(0u64, |sum, entry| sum.checked_add(entry.chunks));
        if sum != Some(self.count) {
            return Err("the files do not hold as many chunks as it says");
        }
        if self.cursor.len() > 2 * limits::CURSOR_BYTES {
            return Err("the cursor is too long");
        }
        Ok(())
    }
}

fn signed(line: &str) -> Vec<u8> {
    [LABEL, line.as_bytes()].concat()
}

/// Tells another version from a text that is no manifest at all.
fn misread(line: &str, error: Option<serde_json::Error>) -> ManifestError {
    #[derive(Deserialize)]
    struct Versioned {
        version: u64,
    }
    match serde_json::from_str::<Versioned>(line) {
        Ok(Versioned { version }) if version != u64::from(VERSION) => {
            ManifestError::Version(version)
        }
        _ => ManifestError::Form(error.map_or_else(String::new, |error| error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        Signer::from_seed(&[7; 32])
    }

    fn manifest() -> Manifest {
        let files = vec![Entry {
            kind: Kind::Chunks,
            chunks: 3,
            bytes: 400,
            blake3: "ab".repeat(32),
        }];
        let prefix = "treeline://000abc/message".parse().unwrap();
        let cursor = Cursor::new(vec![1, 2, 3]).unwrap();
        let from = (5, "127.0.0.1:1#00".to_owned());
        Manifest::new(prefix, from, Some(&cursor), files, &signer().public_key())
    }

    #[test]
    fn it_comes_back() {
        let text = manifest().to_text(&signer());
        let back = Manifest::from_text(&text).unwrap();
        assert_eq!(back, manifest());
        assert_eq!(back.prefix().to_string(), "treeline://000abc/message");
        assert_eq!(back.cursor().unwrap().as_bytes(), [1, 2, 3]);
        assert_eq!(back.key(), signer().public_key());
        assert_eq!((back.count, back.grants()), (3, 0));
        assert!(back.files[0].file_name().starts_with("chunks-abab"));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let text = manifest().to_text(&signer());
        for bit in 0..text.len() * 8 {
            let mut bytes = text.clone().into_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(flipped) = String::from_utf8(bytes) {
                assert!(Manifest::from_text(&flipped).is_err(), "bit {bit}");
            }
        }
        for end in 0..text.len() {
            assert!(Manifest::from_text(&text[..end]).is_err(), "{end}");
        }
    }

    #[test]
    fn another_version_and_another_key_have_their_own_words() {
        let mut later = manifest();
        later.version = 2;
        let text = later.to_text(&signer());
        assert_eq!(Manifest::from_text(&text), Err(ManifestError::Version(2)));
        let text = r#"{"version":9,"and":"more"}"#.to_owned() + "\n00\n";
        assert_eq!(Manifest::from_text(&text), Err(ManifestError::Version(9)));
        let text = manifest().to_text(&Signer::from_seed(&[8; 32]));
        assert_eq!(Manifest::from_text(&text), Err(ManifestError::Signature));
    }

    #[test]
    fn a_signed_manifest_that_contradicts_itself_is_refused() {
        let refused = |change: fn(&mut Manifest)| {
            let mut manifest = manifest();
            change(&mut manifest);
            let read = Manifest::from_text(&manifest.to_text(&signer()));
            assert!(matches!(read, Err(ManifestError::Form(_))), "{read:?}");
        };
        refused(|manifest| manifest.count = 4);
        refused(|manifest| manifest.prefix = "nowhere".into());
        refused(|manifest| manifest.files[0].blake3 = "../x".into());
        refused(|manifest| manifest.files[0].bytes = FILE_BYTES + 1);
        refused(|manifest| manifest.cursor = "00".repeat(161));
    }
}
