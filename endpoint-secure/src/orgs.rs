//! Organisations beside each other: certificates of devices, which organisations a team lets in, and
//! what an organisation takes back.
//!
//! A certificate says that a device is of an organisation; its leaf shows it to every Secure of the
//! team. A revocation is a record that the organisation publishes; every Secure that has one of its
//! devices in a team follows it. Source: docs/architecture.md, "Organisations".

use data_encoding::BASE64URL_NOPAD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use endpoint_secure_api::{Answer, Code, Organisation as ApiOrganisation, TeamId};
use proto::limits::LIFE_MS;
use proto::{
    Chunk, Fields, Fingerprint, Grant, GrantId, Limits, Name, OriginId, Pattern, Place, Prefix,
    PublicKey, Registration, Revocation, Rule, Signer, Timestamp, Verbs,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::device::session::{Failure, Session, refuse};
use crate::naming::{self, FOUNDER};
use crate::operation::What;
use crate::states::State;
use crate::store::outbox::NO_MESSAGE;
use crate::store::{Kind, StoreError};
use crate::team::{Founding, Organisation, Seed, Team, allowed, issue};

const LABEL: &[u8] = b"treeline certificate 1";
/// Bytes of a certificate in a leaf.
pub const CERTIFICATE_BYTES: usize = 4 + 4 + 16 + 8 + 64;
const TEXT_HEAD: &str = "treeline-organisation-";
/// The longest text of an organisation, in bytes.
const TEXT_BYTES: usize = 4 * 1024;
/// The leading bits of a name that say origin, path and organisation.
const ORG_BITS: u8 = 58;
/// Revocations that are kept, at most.
const REVOKED: usize = 4096;

/// Names an organisation: the number of its origin, and its own there.
pub type OrgId = (u32, u32);

/// What an organisation says of one of its devices.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// Which organisation.
    pub org: OrgId,
    /// Whose device it is.
    pub user: [u8; 16],
    /// Until when, in milliseconds since 1970.
    pub not_after_ms: u64,
    /// Ed25519 by the organisation's key.
    #[serde(with = "crate::store::bytes")]
    pub signature: Vec<u8>,
}

impl Certificate {
    fn sign(org: OrgId, device: Fingerprint, not_after_ms: u64, key: &Signer) -> Self {
        let user: [u8; 32] = Sha256::new()
            .chain_update(b"treeline user")
            .chain_update(device.0)
            .finalize()
            .into();
        let mut this = Self {
            org,
            user: [0; 16],
            not_after_ms,
            signature: Vec::new(),
        };
        this.user.copy_from_slice(&user[..16]);
        let key = SigningKey::from_bytes(&key.seed());
        this.signature = key.sign(&this.signed(device)).to_bytes().to_vec();
        this
    }

    /// Whether the organisation of this key has signed it for this device.
    pub fn verifies(&self, key: &PublicKey, device: Fingerprint) -> bool {
        let (Ok(key), Ok(signature)) = (
            VerifyingKey::from_bytes(&key.0),
            <[u8; 64]>::try_from(self.signature.as_slice()),
        ) else {
            return false;
        };
        key.verify_strict(&self.signed(device), &Signature::from_bytes(&signature))
            .is_ok()
    }

    fn signed(&self, device: Fingerprint) -> Vec<u8> {
        [LABEL, &self.head(), &device.0].concat()
    }

    fn head(&self) -> Vec<u8> {
        let mut out = self.org.0.to_be_bytes().to_vec();
        out.extend_from_slice(&self.org.1.to_be_bytes());
        out.extend_from_slice(&self.user);
        out.extend_from_slice(&self.not_after_ms.to_be_bytes());
        out
    }

    /// The bytes in a leaf.
    pub fn encode(&self) -> Vec<u8> {
        [self.head(), self.signature.clone()].concat()
    }

    /// Reads the bytes of a leaf.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (origin, rest) = bytes.split_first_chunk()?;
        let (org, rest) = rest.split_first_chunk()?;
        let (user, rest) = rest.split_first_chunk()?;
        let (not_after, signature) = rest.split_first_chunk()?;
        (signature.len() == 64).then(|| Self {
            org: (u32::from_be_bytes(*origin), u32::from_be_bytes(*org)),
            user: *user,
            not_after_ms: u64::from_be_bytes(*not_after),
            signature: signature.to_vec(),
        })
    }
}

/// A device that its organisation has revoked, as far as this device knows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Revoked {
    /// The organisation.
    pub org: OrgId,
    /// The fingerprint of the device's publishing key.
    pub device: [u8; 32],
    /// How far its feeds were known when that was heard: nothing later is shown.
    pub cuts: Vec<(i64, u32, u32)>,
}

impl Organisation {
    fn signer(&self) -> Signer {
        Signer::from_seed(&self.seed.0)
    }

    fn grant(&self) -> Result<GrantId, Failure> {
        let last = self.chain.last().ok_or(StoreError::Corrupt)?;
        let chunk = Chunk::decode(last.clone().into()).map_err(|_| StoreError::Corrupt)?;
        Ok(GrantId::of(&chunk))
    }

    /// Certifies a device.
    pub fn certify(&self, device: Fingerprint) -> Certificate {
        Certificate::sign(self.key(), device, self.not_after_ms, &self.signer())
    }
}

impl Organisation {
    /// The founder's device may fill every name of its team, so that it can grant them.
    pub(crate) fn founding(&self, team: TeamId, subject: PublicKey) -> Result<Founding, Failure> {
        self.founding_of(team, Name::TEAM_BITS, subject)
    }

    /// The same for all teams whose names begin with as many bits as that team's.
    pub(crate) fn founding_of(
        &self,
        team: TeamId,
        bits: u8,
        subject: PublicKey,
    ) -> Result<Founding, Failure> {
        let place = naming::place(team);
        let rules = Team::PATHS.map(|path| Rule {
            verbs: Verbs::ALL,
            pattern: Pattern::of_prefix(Prefix::of(Name::team_prefix(place, path).first(), bits)),
        });
        let grant = Grant {
            subject,
            not_after: Timestamp::from_millis(self.not_after_ms),
            limits: Limits::default(),
            rules: rules.into(),
        };
        let signer = Signer::from_seed(&self.seed.0);
        Ok(Founding {
            origin: self.origin,
            org: self.org,
            organisation: self.name.clone(),
            chain: issue(&grant, (place, FOUNDER), &self.chain, &signer)?,
            not_after_ms: self.not_after_ms,
        })
    }
}

/// Makes an organisation's key, and its grant, with a registration.
pub(crate) fn found_organisation(
    registration: &Registration,
    name: String,
) -> Result<Organisation, Failure> {
    let seed = Seed::random()?;
    let origin = registration.origin.origin_id();
    let not_after = registration.grant.expiry();
    let grant = Grant {
        subject: Signer::from_seed(&seed.0).public_key(),
        not_after,
        limits: allowed(&registration.grant),
        rules: vec![Rule {
            verbs: Verbs::ALL,
            pattern: Pattern::of_org(origin, registration.org),
        }],
    };
    let place = Place {
        origin,
        org: registration.org,
        team: 0,
    };
    let issuer = Signer::from_seed(&registration.seed);
    let parent = GrantId::of(&registration.grant);
    let Ok(chunk) = grant.sign(place, 0, parent, &issuer) else {
        return refuse(Code::Configuration, "the registration cannot be used");
    };
    Ok(Organisation {
        origin: registration.origin.0,
        org: registration.org,
        name,
        seed,
        chain: [&registration.grant, &chunk]
            .map(|chunk| chunk.encoded().to_vec())
            .into(),
        not_after_ms: not_after.millis(),
    })
}

/// The organisation that owns a team, and its key, from any chain of grants in it.
pub fn owner_key(team: TeamId, chain: &[Vec<u8>]) -> Option<(OrgId, PublicKey)> {
    let chunk = Chunk::decode(chain.get(1)?.clone().into()).ok()?;
    let grant = Grant::decode(&chunk).ok()?;
    Some(((team.origin, team.org), grant.subject))
}

/// An organisation as it introduces itself to teams of others.
struct Introduction {
    org: OrgId,
    key: PublicKey,
    name: String,
}

fn introduce(origin: &[u8; 32], name: &str, chain: &[Vec<u8>]) -> String {
    let mut out = vec![1];
    out.extend_from_slice(origin);
    let parts = std::iter::once(name.as_bytes()).chain(chain.iter().take(2).map(Vec::as_slice));
    for part in parts {
        out.extend_from_slice(&(part.len() as u16).to_be_bytes());
        out.extend_from_slice(part);
    }
    format!("{TEXT_HEAD}{}", BASE64URL_NOPAD.encode(&out))
}

fn read_introduction(text: &str) -> Option<Introduction> {
    let body = text.trim().strip_prefix(TEXT_HEAD)?;
    if body.len() > TEXT_BYTES {
        return None;
    }
    let bytes = BASE64URL_NOPAD.decode(body.as_bytes()).ok()?;
    let (version, rest) = bytes.split_first()?;
    let (origin, mut rest) = rest.split_first_chunk::<32>()?;
    let mut parts = Vec::new();
    while let Some((length, tail)) = rest.split_first_chunk::<2>() {
        let (part, tail) = tail.split_at_checked(u16::from_be_bytes(*length).into())?;
        parts.push(part.to_vec());
        rest = tail;
    }
    let [name, root, own] = <[Vec<u8>; 3]>::try_from(parts).ok()?;
    let (root, own) = (
        Chunk::decode(root.into()).ok()?,
        Chunk::decode(own.into()).ok()?,
    );
    let granted = Grant::from_origin(&root, &PublicKey(*origin)).ok()?;
    let grant = Grant::from_issuer(&own, &granted).ok()?;
    let place = own.name().place();
    let whole = *version == 1
        && rest.is_empty()
        && own.grant() == GrantId::of(&root)
        && place.team == 0
        && matches!(own.name().fields(), Fields::Grant { device: 0, .. });
    let introduction = Introduction {
        org: (place.origin.get(), place.org),
        key: grant.subject,
        name: crate::device::checked(&String::from_utf8(name).ok()?).ok()?,
    };
    whole.then_some(introduction)
}

impl Session {
    /// The text with which the organisation of a team can be let into teams of others.
    pub(crate) fn organisation(&self, id: TeamId) -> Result<Answer, Failure> {
        let team = self.team(id)?;
        let place = naming::place(id);
        Ok(Answer::Organisation(ApiOrganisation {
            origin: place.origin.get(),
            org: place.org,
            name: team.organisation.clone(),
            text: introduce(&team.origin, &team.organisation, &team.chain),
        }))
    }

    /// Lets devices of another organisation into a team as guests, or no longer.
    pub(crate) fn allow_organisation(
        &mut self,
        id: TeamId,
        text: &str,
        on: bool,
    ) -> Result<Answer, Failure> {
        let Some(it) = read_introduction(text) else {
            return refuse(
                Code::Configuration,
                "this does not introduce an organisation; copy the whole text that begins with \
                 treeline-organisation-",
            );
        };
        let team = self.administered(id)?;
        if it.org == (id.origin, id.org) {
            return refuse(Code::Usage, "the team is of that organisation itself");
        }
        if !on && self.tip(team)?.foreign.values().any(|org| *org == it.org) {
            return refuse(
                Code::Usage,
                "devices of that organisation are in the team; remove them first",
            );
        }
        self.ask_for(
            id,
            What::Allow {
                org: it.org,
                key: it.key.0,
                on,
            },
        )?;
        Ok(Answer::Organisation(ApiOrganisation {
            origin: it.org.0,
            org: it.org.1,
            name: it.name,
            text: text.trim().into(),
        }))
    }

    /// Ends everything that an organisation has said of a device, in all teams.
    pub(crate) fn revoke_device(&mut self, fingerprint: &str) -> Result<Answer, Failure> {
        let Some(device) = Fingerprint::from_hex(fingerprint) else {
            return refuse(
                Code::Usage,
                "a fingerprint has 64 hex digits; copy all of it",
            );
        };
        if device == self.memory.signer.public_key().fingerprint() {
            return refuse(Code::Usage, "a device cannot revoke itself");
        }
        let organisations: Vec<Organisation> =
            self.memory.organisations.values().cloned().collect();
        if organisations.is_empty() {
            return refuse(
                Code::Forbidden,
                "this device administers no organisation; ask the one that founded it",
            );
        }
        for organisation in organisations {
            let at = self.now;
            self.publish_revocation(&organisation, 0, Revocation::Key { device, at })?;
            self.learn_revoked(organisation.key(), (device, at))?;
        }
        Ok(Answer::Done)
    }

    fn publish_revocation(
        &mut self,
        organisation: &Organisation,
        team: u32,
        revocation: Revocation,
    ) -> Result<(), Failure> {
        let (origin, org) = organisation.key();
        let place = Place {
            origin: OriginId::new(origin),
            org,
            team,
        };
        let end = Timestamp::from_millis(organisation.not_after_ms);
        let expiry = self.now.plus_millis(LIFE_MS).min(end);
        let issuer = (organisation.grant()?, &organisation.signer());
        let chunk = revocation.sign(place, expiry, issuer);
        let chunk = chunk.ok_or(StoreError::Corrupt)?;
        self.store.forget_posted(chunk.name().to_bytes())?;
        Ok(self.store.post(&chunk, (NO_MESSAGE, 0, 0))?)
    }

    /// Whoever has the organisation's key ends the grants of devices that have left its teams for good.
    pub(crate) fn end_grants(&mut self, id: TeamId) -> Result<(), Failure> {
        let Some(organisation) = self.memory.organisations.get(&(id.origin, id.org)).cloned()
        else {
            return Ok(());
        };
        let team = self.team(id)?.clone();
        let tip = self.tip(&team)?.devices.clone();
        let removals = self.states(id).filter(|state| self.is_sealed(id, state.id));
        let gone = removals.filter_map(|state| state.commit.as_ref());
        let gone = gone.flat_map(|commit| commit.removed.iter().copied());
        let gone: Vec<u32> = gone
            .filter(|one| !tip.contains(one) && !team.ended.contains(one))
            .collect();
        if gone.is_empty() {
            return Ok(());
        }
        let mut team = team;
        for device in gone {
            if team.ended.insert(device) {
                self.publish_revocation(&organisation, id.team, Revocation::Device(device))?;
            }
        }
        self.put_team(team)
    }

    /// The keys of all organisations that have to do with a team of this device.
    fn organisation_keys(&self, org: OrgId) -> Option<PublicKey> {
        let mut teams = self.memory.teams.values();
        teams.find_map(|team| {
            let own = owner_key(team.id, &team.chain).filter(|(own, _)| *own == org);
            let allowed = self.memory.states.get(&(team.id, team.tip));
            let allowed = allowed.and_then(|tip| tip.roles.orgs.get(&org));
            own.map(|(_, key)| key).or(allowed.copied().map(PublicKey))
        })
    }

    /// Subscribes to what organisations publish about their devices.
    pub(crate) fn subscribe_records(&mut self) -> Result<(), Failure> {
        let mut orgs = std::collections::BTreeSet::new();
        for team in self.memory.teams.values() {
            orgs.insert((team.id.origin, team.id.org));
            let tip = self.memory.states.get(&(team.id, team.tip));
            orgs.extend(tip.into_iter().flat_map(|tip| tip.roles.orgs.keys()));
        }
        for (origin, org) in orgs {
            let place = Place {
                origin: OriginId::new(origin),
                org,
                team: 0,
            };
            let first = Name::new(place, Fields::Record { kind: 0, serial: 0 });
            self.subscribe(Prefix::of(first, ORG_BITS))?;
        }
        Ok(())
    }

    /// Takes what an organisation has published.
    pub(crate) fn take_record(&mut self, chunk: &Chunk) -> Result<(), Failure> {
        let place = chunk.name().place();
        let org = (place.origin.get(), place.org);
        let known = self.organisation_keys(org);
        match (Revocation::decode(chunk), known) {
            (Some(Revocation::Key { device, at }), Some(key)) if chunk.verifies(&key) => {
                self.learn_revoked(org, (device, at))
            }
            // The numbers of one team are the relays' business.
            _ => Ok(()),
        }
    }

    fn learn_revoked(
        &mut self,
        org: OrgId,
        (device, at): (Fingerprint, Timestamp),
    ) -> Result<(), Failure> {
        let key = (org, device.0);
        if self.memory.revoked.contains_key(&key) || self.memory.revoked.len() >= REVOKED {
            return Ok(());
        }
        let mut names = Vec::new();
        let mut feeds = Vec::new();
        for team in self.memory.teams.values() {
            let tip = self.tip(team)?;
            let of = |number: &u32| {
                let publishing = tip.used.key(*number).map(PublicKey);
                tip.org_of(*number) == org
                    && publishing.is_some_and(|key| key.fingerprint() == device)
            };
            for number in tip.devices.iter().filter(|number| of(number)) {
                names.push(team.name.clone());
                let channels = self.channels_of(team.id);
                feeds.extend(channels.map(|channel| (channel.id, channel.row, *number)));
            }
        }
        let mut cuts = Vec::new();
        for (channel, row, number) in feeds {
            let feed = self.memory.feeds.get(&(row, number));
            let next = feed.map_or(0, |feed| feed.next);
            // What it wrote afterwards may have come before the record.
            let later = self.hide_since((channel, row, number), at)?;
            cuts.push((row, number, later.map_or(next, |later| later.min(next))));
        }
        let revoked = Revoked {
            org,
            device: device.0,
            cuts,
        };
        let bytes = [
            &org.0.to_be_bytes()[..],
            &org.1.to_be_bytes(),
            &revoked.device,
        ]
        .concat();
        self.store.put(Kind::Revoked, &bytes, &revoked)?;
        self.memory.revoked.insert(key, revoked);
        for name in names {
            self.notice(format!(
                "{name}: an organisation has revoked one of its devices; nothing newer of it is shown"
            ));
        }
        self.link.pursue_ms = Some(0);
        Ok(())
    }

    /// What is known of the revocation of a device of a state; none if it is in good standing.
    pub(crate) fn revoked(&self, state: &State, device: u32) -> Option<&Revoked> {
        let key = PublicKey(state.used.key(device)?);
        let place = (state.org_of(device), key.fingerprint().0);
        self.memory.revoked.get(&place)
    }

    /// Where the feed of a revoked device ends for this one.
    pub(crate) fn cut(&self, state: &State, device: u32, row: i64) -> Option<u32> {
        let revoked = self.revoked(state, device)?;
        let mut cuts = revoked.cuts.iter();
        let found = cuts.find(|one| (one.0, one.1) == (row, device));
        Some(found.map_or(0, |one| one.2))
    }

    /// Admins remove devices that their organisation has revoked.
    pub(crate) fn remove_revoked(&mut self) -> Result<(), Failure> {
        if self.memory.revoked.is_empty() {
            return Ok(());
        }
        let ids: Vec<TeamId> = self.memory.teams.keys().copied().collect();
        for id in ids {
            let Ok(team) = self.administered(id) else {
                continue;
            };
            let tip = self.tip(team)?;
            let below = tip.devices.iter().copied();
            let gone: Vec<u32> = below
                .filter(|one| tip.roles.outranks(team.device, *one))
                .filter(|one| self.revoked(tip, *one).is_some())
                .collect();
            for device in gone {
                self.want(id, What::Remove { device })?;
            }
        }
        Ok(())
    }

    /// Why a device may not come into a team, if it may not.
    pub(crate) fn certificate_objection(
        &self,
        team: &Team,
        certificate: Option<&Certificate>,
        device: Fingerprint,
    ) -> Result<Option<&'static str>, Failure> {
        let home = (team.id.origin, team.id.org);
        let org = certificate.map_or(home, |one| one.org);
        if self.memory.revoked.contains_key(&(org, device.0)) {
            return Ok(Some("a device to be added was revoked by its organisation"));
        }
        let Some(certificate) = certificate else {
            return Ok(None);
        };
        let key = if org == home {
            owner_key(team.id, &team.chain).map(|(_, key)| key)
        } else {
            let allowed = self.tip(team)?.roles.orgs.get(&org);
            allowed.copied().map(PublicKey)
        };
        Ok(match key {
            None => Some(
                "a device to be added is of an organisation that this team does not let in; allow that \
                 first, then add it again",
            ),
            Some(key) if !certificate.verifies(&key, device) => {
                Some("a device to be added shows a certificate that does not verify")
            }
            Some(_) if certificate.not_after_ms < self.now.millis() => {
                Some("a device to be added shows a certificate whose time is over")
            }
            Some(_) => None,
        })
    }

    /// Keeps what an organisation says of this device.
    pub(crate) fn take_certificate(
        &mut self,
        team: &Team,
        certificate: Certificate,
    ) -> Result<(), Failure> {
        let own = self.memory.signer.public_key().fingerprint();
        let owner = owner_key(team.id, &team.chain);
        let good = owner
            .is_some_and(|(org, key)| certificate.org == org && certificate.verifies(&key, own));
        if good {
            self.put_certificate(certificate)?;
        }
        Ok(())
    }

    pub(crate) fn put_certificate(&mut self, certificate: Certificate) -> Result<(), Failure> {
        let org = certificate.org;
        let key = [org.0.to_be_bytes(), org.1.to_be_bytes()].concat();
        self.store.put(Kind::Certificate, &key, &certificate)?;
        self.memory.certificates.insert(org, certificate);
        Ok(())
    }

    pub(crate) fn forget_certificates(&mut self) -> Result<(), Failure> {
        for (org, _) in std::mem::take(&mut self.memory.certificates) {
            let key = [org.0.to_be_bytes(), org.1.to_be_bytes()].concat();
            self.store.delete(Kind::Certificate, &key)?;
        }
        Ok(())
    }

    /// What this device shows in a team: the owner's certificate, else that of its own organisation.
    pub(crate) fn certificate_for(&self, team: TeamId) -> Option<&Certificate> {
        let own = self.memory.certificates.get(&(team.origin, team.org));
        own.or_else(|| self.memory.certificates.values().next())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_one_device_and_no_cut_of_it_is_one() {
        let (org, device) = (Signer::from_seed(&[1; 32]), Signer::from_seed(&[2; 32]));
        let device = device.public_key().fingerprint();
        let good = Certificate::sign((3, 4), device, 5, &org);
        let bytes = good.encode();
        assert_eq!(bytes.len(), CERTIFICATE_BYTES);
        assert_eq!(Certificate::decode(&bytes), Some(good.clone()));
        for end in 0..bytes.len() {
            assert_eq!(Certificate::decode(&bytes[..end]), None);
        }
        let key = org.public_key();
        assert!(good.verifies(&key, device));
        assert!(!good.verifies(&key, key.fingerprint()));
        assert!(!good.verifies(&Signer::from_seed(&[9; 32]).public_key(), device));
        for other in [
            Certificate {
                org: (3, 5),
                ..good.clone()
            },
            Certificate {
                user: [9; 16],
                ..good.clone()
            },
            Certificate {
                not_after_ms: 6,
                ..good
            },
        ] {
            assert!(!other.verifies(&key, device));
        }
    }
}
