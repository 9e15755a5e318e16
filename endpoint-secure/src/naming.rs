//! Who is behind a number: credentials in MLS leaves, device numbers, and where a team stands.
//!
//! It draws no randomness and reads no store. Source: docs/architecture.md, "Devices".

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use endpoint_secure_api::TeamId;
use proto::{OriginId, Place, PublicKey, Signer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::orgs::{CERTIFICATE_BYTES, Certificate};

const VERSION: u8 = 1;
const BINDING_LABEL: &[u8] = b"treeline leaf 1";
/// Bytes of a name in a credential, at most: 64 characters of 4 bytes.
const NAME_BYTES: usize = 256;
/// The founder's device.
pub const FOUNDER: u32 = 0;
/// The salt in the founder's credential, and in no other.
pub const FOUNDERS_SALT: [u8; 16] = [0; 16];

/// The place of a team, from the door's words.
pub fn place(team: TeamId) -> Place {
    Place {
        origin: OriginId::new(team.origin),
        org: team.org,
        team: team.team,
    }
}

/// The door's words for a place.
pub fn team_id(place: Place) -> TeamId {
    TeamId {
        origin: place.origin.get(),
        org: place.org,
        team: place.team,
    }
}

/// A team's place as bytes: the MLS group id, and the key of its rows.
pub fn team_bytes(team: TeamId) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&team.origin.to_be_bytes());
    bytes[4..8].copy_from_slice(&team.org.to_be_bytes());
    bytes[8..].copy_from_slice(&team.team.to_be_bytes());
    bytes
}

/// What a leaf of the group says about its device.
///
/// The publishing key, which fills names at relays, is not the leaf's signing key, which signs
/// inside MLS: `binding` is the publishing key's signature over the signing key, so that whoever
/// knows one device by its fingerprint knows its leaf.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// The person's display name.
    pub user: String,
    /// The device's display name.
    pub device_name: String,
    /// The key that signs the device's chunks.
    pub publishing: [u8; 32],
    /// Makes the device number another one.
    pub salt: [u8; 16],
    /// What its organisation says of it.
    pub certificate: Option<Certificate>,
    /// Ed25519 by `publishing`.
    pub binding: Vec<u8>,
}

impl Credential {
    /// Makes a credential for a leaf with this signing key.
    pub fn bind(
        (names, certificate): ((&str, &str), Option<Certificate>),
        publishing: &Signer,
        salt: [u8; 16],
        team: TeamId,
        signing: &[u8; 32],
    ) -> Self {
        let mut this = Self {
            user: names.0.into(),
            device_name: names.1.into(),
            publishing: publishing.public_key().0,
            salt,
            certificate,
            binding: Vec::new(),
        };
        let key = SigningKey::from_bytes(&publishing.seed());
        this.binding = key.sign(&this.bound(team, signing)).to_bytes().to_vec();
        this
    }

    /// Whether the publishing key vouches for this signing key in this team.
    pub fn is_bound(&self, team: TeamId, signing: &[u8]) -> bool {
        let (Ok(key), Ok(binding)) = (
            VerifyingKey::from_bytes(&self.publishing),
            <[u8; 64]>::try_from(self.binding.as_slice()),
        ) else {
            return false;
        };
        key.verify_strict(&self.bound(team, signing), &Signature::from_bytes(&binding))
            .is_ok()
    }

    /// The publishing key.
    pub fn publishing_key(&self) -> PublicKey {
        PublicKey(self.publishing)
    }

    /// The bytes in the leaf.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        out.extend_from_slice(&self.binding);
        out
    }

    /// Reads a leaf's bytes.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        if *version != VERSION {
            return None;
        }
        let (user, rest) = take_name(rest)?;
        let (device_name, rest) = take_name(rest)?;
        let (publishing, rest) = rest.split_first_chunk::<32>()?;
        let (salt, rest) = rest.split_first_chunk::<16>()?;
        let (certified, rest) = rest.split_first()?;
        let (certificate, binding) = match certified {
            0 => (None, rest),
            1 => {
                let (bytes, rest) = rest.split_at_checked(CERTIFICATE_BYTES)?;
                (Some(Certificate::decode(bytes)?), rest)
            }
            _ => return None,
        };
        (binding.len() == 64).then(|| Self {
            user,
            device_name,
            publishing: *publishing,
            salt: *salt,
            certificate,
            binding: binding.to_vec(),
        })
    }

    fn head(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        for name in [&self.user, &self.device_name] {
            out.extend_from_slice(&(name.len() as u16).to_be_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(&self.publishing);
        out.extend_from_slice(&self.salt);
        out.push(self.certificate.is_some().into());
        out.extend(self.certificate.iter().flat_map(Certificate::encode));
        out
    }

    fn bound(&self, team: TeamId, signing: &[u8]) -> Vec<u8> {
        let mut out = BINDING_LABEL.to_vec();
        out.extend_from_slice(&team_bytes(team));
        out.extend_from_slice(signing);
        out.extend_from_slice(&self.head());
        out
    }
}

fn take_name(bytes: &[u8]) -> Option<(String, &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length > NAME_BYTES {
        return None;
    }
    let (name, rest) = rest.split_at_checked(length)?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    // It comes to screens and terminals of others.
    (!name.chars().any(char::is_control)).then_some((name, rest))
}

/// The number of a device: 0 with the founder's salt, else another one with another salt, and never 0.
/// A number that was ever used is refused to whoever comes later.
pub fn device_number(team: TeamId, signing: &[u8], salt: &[u8; 16]) -> Option<u32> {
    if *salt == FOUNDERS_SALT {
        return Some(FOUNDER);
    }
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"treeline device")
        .chain_update(team_bytes(team))
        .chain_update(signing)
        .chain_update(salt)
        .finalize()
        .into();
    let number = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 12;
    (number != FOUNDER).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: TeamId = TeamId {
        origin: 7,
        org: 8,
        team: 9,
    };

    fn credential() -> Credential {
        let publishing = Signer::from_seed(&[1; 32]);
        let who = (("Ada", "laptop"), None);
        Credential::bind(who, &publishing, [2; 16], TEAM, &[3; 32])
    }

    #[test]
    fn a_credential_comes_back_and_no_cut_of_it_does() {
        let bytes = credential().encode();
        assert_eq!(Credential::decode(&bytes), Some(credential()));
        for end in 0..bytes.len() {
            assert_eq!(Credential::decode(&bytes[..end]), None);
        }
    }

    #[test]
    fn a_name_that_would_steer_a_terminal_is_none() {
        let publishing = Signer::from_seed(&[1; 32]);
        let steers = Credential::bind(
            (("Ada\u{1b}[2J", "laptop"), None),
            &publishing,
            [2; 16],
            TEAM,
            &[3; 32],
        );
        assert_eq!(Credential::decode(&steers.encode()), None);
    }

    #[test]
    fn the_binding_holds_for_one_team_one_key_and_these_names() {
        let good = credential();
        assert!(good.is_bound(TEAM, &[3; 32]));
        assert!(!good.is_bound(TeamId { team: 10, ..TEAM }, &[3; 32]));
        assert!(!good.is_bound(TEAM, &[4; 32]));
        let mut renamed = good.clone();
        renamed.user = "Eve".into();
        assert!(!renamed.is_bound(TEAM, &[3; 32]));
    }

    #[test]
    fn another_salt_gives_another_number_within_20_bits() {
        let number = |salt: u8| device_number(TEAM, &[3; 32], &[salt + 1; 16]).unwrap();
        assert_ne!(number(1), number(2));
        assert!((0..50).all(|salt| (1..1 << 20).contains(&number(salt))));
    }
}
