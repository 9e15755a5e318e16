//! What an invite says, and the three texts that say it: one to paste, words to say, and one for a QR
//! code.
//!
//! Bytes in, values out: whether an invite is still good is `admission`'s business. Source:
//! docs/protocol.md, "Invite".

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use endpoint_secure_api::{Command, Invite as ApiInvite, Suite, TeamId};
use proto::{Fingerprint, PublicKey, words};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::team::Seed;

const TEXT_HEAD: &str = "treeline-invite-";
const QR_HEAD: &str = "TREELINE-INVITE:";
const VERSION: u8 = 2;
/// The longest invite, in any of its texts, in bytes.
const TEXT_BYTES: usize = 16 * 1024;
/// Relays in an invite, at most, and the longest one, in bytes.
const RELAYS: usize = 16;
const RELAY_BYTES: usize = 300;

/// Names an invite at the device that issued it, and in the request that answers it.
pub type InviteId = [u8; 8];

/// What an invite says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// The origin's public key.
    pub origin: [u8; 32],
    /// The organisation's number.
    pub org: u32,
    /// The team's number.
    pub team: u32,
    /// The team's cipher suite.
    pub suite: Suite,
    /// When it ends, in seconds since 1970.
    pub expires_s: u32,
    /// The whole fingerprint of the admin's device.
    pub admin: [u8; 32],
    /// Drawn for this invite alone: who knows it may ask.
    pub nonce: Nonce,
    /// The organisation's name; empty in words.
    pub organisation: String,
    /// The team's name; empty in words.
    pub team_name: String,
    /// Relays to try; in words domains only.
    pub relays: Vec<String>,
}

/// 16 secret bytes; `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nonce(pub [u8; 16]);

impl std::fmt::Debug for Nonce {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Nonce(..)")
    }
}

impl Invite {
    /// The team it leads to.
    pub fn team_id(&self) -> TeamId {
        TeamId {
            origin: PublicKey(self.origin).origin_id().get(),
            org: self.org,
            team: self.team,
        }
    }

    /// What it is known by.
    pub fn id(&self) -> InviteId {
        let mut id = [0; 8];
        id.copy_from_slice(&self.derive(b"treeline invite id 1").0[..8]);
        id
    }

    /// The key that seals what is said under it. It depends on all that both sides have to agree on.
    pub fn key(&self) -> Seed {
        self.derive(b"treeline invite key 1")
    }

    fn derive(&self, label: &[u8]) -> Seed {
        let hash = Sha256::new()
            .chain_update(label)
            .chain_update(self.fields())
            .finalize();
        Seed(hash.into())
    }

    /// When it ends, in milliseconds since 1970.
    pub fn expires_ms(&self) -> u64 {
        u64::from(self.expires_s) * 1000
    }

    /// The text to paste.
    pub fn to_text(&self) -> String {
        format!("{TEXT_HEAD}{}", BASE64URL_NOPAD.encode(&self.encode()))
    }

    /// The same in letters of which a QR code takes few points.
    pub fn to_qr(&self) -> String {
        format!("{QR_HEAD}{}", BASE32_NOPAD.encode(&self.encode()))
    }

    /// Words to say: without names, which the welcome tells, and without relays but domains.
    pub fn to_words(&self) -> String {
        let domain = |relay: &&String| !relay.contains(':') && !relay.contains('#');
        let short = Self {
            organisation: String::new(),
            team_name: String::new(),
            relays: self.relays.iter().filter(domain).cloned().collect(),
            ..self.clone()
        };
        short.spell()
    }

    /// All of it as words.
    fn spell(&self) -> String {
        let mut bytes = self.encode();
        if !bytes.len().is_multiple_of(2) {
            bytes.push(0);
        }
        words::encode(&bytes)
    }

    /// Reads any of the three texts; blanks around it, and between words, are ignored.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.len() > TEXT_BYTES {
            return None;
        }
        if let Some(body) = text.strip_prefix(TEXT_HEAD) {
            return Self::decode(&BASE64URL_NOPAD.decode(body.as_bytes()).ok()?);
        }
        if let Some(body) = text.strip_prefix(QR_HEAD) {
            return Self::decode(&BASE32_NOPAD.decode(body.as_bytes()).ok()?);
        }
        let bytes = words::decode(text)?;
        Self::decode(&bytes).or_else(|| match bytes.split_last() {
            Some((0, odd)) if !odd.len().is_multiple_of(2) => Self::decode(odd),
            _ => None,
        })
    }

    fn fields(&self) -> Vec<u8> {
        let suite = match self.suite {
            Suite::Classic => 1,
            Suite::PostQuantum => 2,
        };
        let mut out = vec![VERSION, suite];
        out.extend_from_slice(&self.org.to_be_bytes()[1..]);
        out.extend_from_slice(&self.team.to_be_bytes()[1..]);
        out.extend_from_slice(&self.expires_s.to_be_bytes());
        out.extend_from_slice(&self.origin);
        out.extend_from_slice(&self.admin);
        out.extend_from_slice(&self.nonce.0);
        out
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = self.fields();
        let mut texts = vec![&self.organisation, &self.team_name];
        texts.extend(&self.relays);
        if texts.iter().all(|text| text.is_empty()) {
            texts.clear();
        }
        for text in texts {
            out.extend_from_slice(&(text.len() as u16).to_be_bytes());
            out.extend_from_slice(text.as_bytes());
        }
        out.extend_from_slice(&checksum(&out));
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (fields, sum) = bytes.split_last_chunk()?;
        if checksum(fields) != *sum {
            return None;
        }
        let ([_version, suite], rest) = fields.split_first_chunk()?;
        let (org, rest) = rest.split_first_chunk::<3>()?;
        let (team, rest) = rest.split_first_chunk::<3>()?;
        let (expires_s, rest) = rest.split_first_chunk()?;
        let (origin, rest) = rest.split_first_chunk()?;
        let (admin, rest) = rest.split_first_chunk()?;
        let (nonce, rest) = rest.split_first_chunk()?;
        let mut texts = read_texts(rest)?.into_iter();
        let this = Self {
            origin: *origin,
            org: u32::from_be_bytes([0, org[0], org[1], org[2]]),
            team: u32::from_be_bytes([0, team[0], team[1], team[2]]),
            suite: match suite {
                1 => Suite::Classic,
                2 => Suite::PostQuantum,
                _ => return None,
            },
            expires_s: u32::from_be_bytes(*expires_s),
            admin: *admin,
            nonce: Nonce(*nonce),
            organisation: texts.next().unwrap_or_default(),
            team_name: texts.next().unwrap_or_default(),
            relays: texts.collect(),
        };
        // Exactly one encoding for an invite: what was cut, or has something behind it, is none.
        (this.is_sound() && this.encode() == bytes).then_some(this)
    }

    fn is_sound(&self) -> bool {
        let short = |name: &str| name.chars().count() <= Command::NAME_LIMIT;
        let plain = |text: &str| !text.chars().any(char::is_control);
        let mut relays = self.relays.iter();
        self.org <= proto::Place::ORG_MAX
            && self.team <= proto::Place::TEAM_MAX
            && [&self.organisation, &self.team_name]
                .into_iter()
                .all(|name| short(name) && plain(name))
            && self.relays.len() <= RELAYS
            && relays.all(|one| !one.is_empty() && one.len() <= RELAY_BYTES && plain(one))
    }

    /// What a person is shown of it.
    pub fn answer(&self) -> ApiInvite {
        let admin = Fingerprint(self.admin);
        ApiInvite {
            id: data_encoding::HEXLOWER.encode(&self.id()),
            text: self.to_text(),
            qr: self.to_qr(),
            words: self.to_words(),
            team: self.team_id(),
            organisation: self.organisation.clone(),
            team_name: self.team_name.clone(),
            admin: admin.to_hex(),
            admin_digits: admin.digits(),
            relays: self.relays.clone(),
            expires_ms: self.expires_ms(),
        }
    }
}

fn read_texts(mut rest: &[u8]) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !rest.is_empty() {
        let (length, tail) = rest.split_first_chunk()?;
        let (text, tail) = tail.split_at_checked(u16::from_be_bytes(*length).into())?;
        texts.push(String::from_utf8(text.to_vec()).ok()?);
        if texts.len() > 2 + RELAYS {
            return None;
        }
        rest = tail;
    }
    Some(texts)
}

/// Finds a text that was cut or mistyped; it proves nothing.
fn checksum(fields: &[u8]) -> [u8; 4] {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"treeline invite")
        .chain_update(fields)
        .finalize()
        .into();
    [hash[0], hash[1], hash[2], hash[3]]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn invite() -> Invite {
        Invite {
            origin: [1; 32],
            org: 2,
            team: 3,
            suite: Suite::Classic,
            expires_s: 1_800_000_000,
            admin: [4; 32],
            nonce: Nonce([5; 16]),
            organisation: "Harbour".into(),
            team_name: "Night shift".into(),
            relays: vec![
                format!("127.0.0.1:7000#{}", "ab".repeat(32)),
                "example.org".into(),
            ],
        }
    }

    prop_compose! {
        fn any_invite()(
            keys in any::<([u8; 32], [u8; 32], [u8; 16])>(),
            places in (0..=proto::Place::ORG_MAX, 0..=proto::Place::TEAM_MAX),
            expires_s in any::<u32>(),
            classic in any::<bool>(),
            names in ("[^\\p{Cc}]{0,64}", "[^\\p{Cc}]{0,64}"),
            relays in proptest::collection::vec("[a-z0-9.:#-]{1,300}", 0..=RELAYS),
        ) -> Invite {
            Invite {
                origin: keys.0,
                org: places.0,
                team: places.1,
                suite: if classic { Suite::Classic } else { Suite::PostQuantum },
                expires_s,
                admin: keys.1,
                nonce: Nonce(keys.2),
                organisation: names.0,
                team_name: names.1,
                relays,
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn every_invite_comes_back_from_each_of_its_texts(invite in any_invite()) {
            for text in [invite.to_text(), invite.to_qr(), invite.spell()] {
                prop_assert_eq!(Invite::from_text(&format!(" {text}\n")), Some(invite.clone()));
            }
            let said = Invite::from_text(&invite.to_words()).unwrap();
            prop_assert_eq!((said.id(), said.key().0), (invite.id(), invite.key().0));
        }

        #[test]
        fn no_text_brings_the_reader_down(text in "\\PC{0,200}", bytes in any::<Vec<u8>>()) {
            for head in ["", TEXT_HEAD, QR_HEAD] {
                prop_assert_eq!(Invite::from_text(&format!("{head}{text}")), None);
            }
            let summed = [&bytes[..], &checksum(&bytes)].concat();
            if let Some(invite) = Invite::decode(&summed) {
                prop_assert_eq!(invite.encode(), summed);
            }
        }

        #[test]
        fn a_changed_byte_is_found(at in any::<prop::sample::Index>(), by in 1u8..) {
            let mut bytes = invite().encode();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert_eq!(Invite::decode(&bytes), None);
        }
    }

    #[test]
    fn a_text_that_was_cut_or_goes_on_is_no_invite() {
        for text in [invite().to_text(), invite().to_qr(), invite().spell()] {
            for end in 0..text.len() {
                assert_eq!(Invite::from_text(&text[..end]), None, "{end}");
            }
            assert_eq!(Invite::from_text(&format!("{text}AA")), None);
        }
        assert_eq!(Invite::from_text("treeline-org-AAAA"), None);
        assert_eq!(Invite::from_text(&"babab ".repeat(TEXT_BYTES)), None);
    }

    #[test]
    fn words_are_few_enough_to_be_said() {
        let said = invite().to_words();
        assert!(said.split(' ').count() <= 60, "{said}");
        assert_eq!(Invite::from_text(&said).unwrap().relays, ["example.org"]);
    }

    #[test]
    fn id_and_key_are_another_invites_as_soon_as_anything_differs() {
        let other = |change: fn(&mut Invite)| {
            let mut other = invite();
            change(&mut other);
            assert_ne!(other.id(), invite().id());
            assert_ne!(other.key(), invite().key());
        };
        other(|one| one.nonce.0[0] ^= 1);
        other(|one| one.admin[31] ^= 1);
        other(|one| one.origin[31] ^= 1);
        other(|one| one.expires_s += 1);
    }

    #[test]
    fn debug_shows_no_nonce() {
        assert!(!format!("{:?}", invite()).contains("5, 5"));
    }
}
