//! Letting devices in: the requests that answer invites, and which key package an addition uses.
//!
//! An invite lets one device ask; a person adds it, after comparing fingerprints. A one-time key package
//! is used once. The invites are in `issued` and `standing`, the other side is `join`. Source: docs/protocol.md, "Invite".

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use endpoint_secure_api::{Answer, Code, Fate, Request as ApiRequest, TeamId};
use proto::limits::{GRANT_CHAIN, KEY_PACKAGE_LIFE_MS, SMALL_FRAGMENTS};
use proto::{Fields, Fingerprint, Name, Path, Prefix, PublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::commit::{WELCOME_LIFE_MS, seal, unseal};
use crate::device::session::{Failure, Session, refuse};
use crate::group::{Candidate, GroupError};
use crate::invite::{Invite, InviteId};
use crate::issued::Issued;
use crate::naming;
use crate::operation::What;
use crate::pending::Taken;
use crate::store::Kind;
use crate::team::Seed;

/// Requests that answer one invite, at most, and all that are kept.
const ANSWERS: usize = 16;
const REQUESTS: usize = 512;
/// Key packages of one device, at most.
const PACKAGES: usize = 8;
/// Devices to be added that have not asked yet, at most.
const EXPECTED: usize = 256;
const REFUSAL_LABEL: &[u8] = b"treeline refusal 1";
const PACKAGE_LABEL: &[u8] = b"treeline key package 1";
/// The first byte of a refusal: no MLS message begins with it.
pub(crate) const REFUSAL: u8 = 0xFF;

/// A device that asks to be added.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Request {
    /// To which team.
    pub team: TeamId,
    /// Its whole fingerprint.
    pub fingerprint: [u8; 32],
    /// The invite that it answers.
    pub invite: InviteId,
    /// Its person's display name.
    pub user: String,
    /// Its own.
    pub device_name: String,
    /// When it came.
    pub came_ms: u64,
    /// Why it is refused.
    pub refused: Option<Why>,
    /// Its key packages, verified.
    pub packages: Vec<Package>,
}

/// A key package.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    /// As it came.
    #[serde(with = "crate::store::bytes")]
    pub bytes: Vec<u8>,
    /// Whether it may be used again.
    pub last_resort: bool,
    /// Whether a commit of this device has used it.
    pub used: bool,
}

/// A device to be added as soon as it asks.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adding {
    /// To which team.
    pub team: TeamId,
    /// Its 30 digits.
    pub digits: String,
    /// Its whole fingerprint, if that was given.
    pub fingerprint: Option<[u8; 32]>,
    /// The device that has named it: it gets the same role.
    #[serde(default)]
    pub like: Option<u32>,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The invite has let another device in.
    Used,
    /// The invite's time is over.
    Expired,
    /// The invite was taken back.
    Revoked,
    /// The device's number was used in the team before.
    Number,
}

impl Why {
    const ALL: [Self; 4] = [Self::Used, Self::Expired, Self::Revoked, Self::Number];

    fn code(self) -> u8 {
        match self {
            Self::Used => 1,
            Self::Expired => 2,
            Self::Revoked => 3,
            Self::Number => 4,
        }
    }

    /// A line for the person on either side.
    pub fn line(self) -> &'static str {
        match self {
            Self::Used => "the invite was used by another device; each needs an invite of its own",
            Self::Expired => "the invite has expired; an admin of the team has to make a new one",
            Self::Revoked => "the invite was revoked; an admin of the team has to make a new one",
            Self::Number => "the device's number in the team is taken; it draws another one",
        }
    }
}

/// Seals a key package under its invite: its credential names a person.
pub(crate) fn seal_package(
    invite: &Invite,
    own: Fingerprint,
    package: &[u8],
) -> Result<Vec<u8>, Failure> {
    let sealed = seal(&invite.key().0, &bound(PACKAGE_LABEL, own), package)?;
    Ok([&invite.id()[..], &sealed].concat())
}

/// Reads a refusal for this device.
pub(crate) fn read_refusal(invite: &Invite, own: Fingerprint, object: &[u8]) -> Option<Why> {
    let (head, sealed) = object.split_first()?;
    let plain = unseal(&invite.key().0, &bound(REFUSAL_LABEL, own), sealed)?;
    let mut all = Why::ALL.into_iter();
    all.find(|why| *head == REFUSAL && plain == [why.code()])
}

/// The full hash of the device that a sealed text is of or for.
fn bound(label: &[u8], device: Fingerprint) -> Vec<u8> {
    [label, &device.0].concat()
}

/// The last 16 bits of the name of a key package or a welcome.
pub(crate) fn tag(object: &[u8]) -> u16 {
    let hash: [u8; 32] = Sha256::digest(object).into();
    u16::from_be_bytes([hash[0], hash[1]])
}

impl Session {
    /// Refuses those who answered an invite that is not open any more.
    pub(crate) fn refuse_answers(
        &mut self,
        (team, invite): (TeamId, InviteId),
        but: Option<[u8; 32]>,
    ) -> Result<(), Failure> {
        let late: Vec<Request> = self
            .requests_of(team)
            .filter(|one| one.invite == invite && Some(one.fingerprint) != but)
            .cloned()
            .collect();
        for request in late {
            if let Some(why) = self.objection(team, invite, request.fingerprint) {
                self.refuse_request(request, why)?;
            }
        }
        Ok(())
    }

    fn requests_of(&self, team: TeamId) -> impl Iterator<Item = &Request> {
        let range = (team, [0; 32])..=(team, [u8::MAX; 32]);
        self.memory
            .requests
            .range(range)
            .map(|(_, request)| request)
    }

    pub(crate) fn requests(&self, id: TeamId) -> Result<Answer, Failure> {
        let team = self.team(id)?;
        let tip = self.tip(team)?;
        let inside: BTreeSet<[u8; 32]> = tip
            .used
            .iter()
            .filter(|(device, _)| tip.devices.contains(device))
            .map(|(_, key)| PublicKey(key).fingerprint().0)
            .collect();
        let own = |one: &&Request| self.is_ours(id, one.invite);
        let mut waiting: Vec<&Request> = self
            .requests_of(id)
            .filter(own)
            .filter(|one| !inside.contains(&one.fingerprint))
            .collect();
        waiting.sort_by_key(|one| (one.came_ms, one.fingerprint));
        let answers = waiting.into_iter().map(|one| ApiRequest {
            fingerprint: Fingerprint(one.fingerprint).to_hex(),
            digits: Fingerprint(one.fingerprint).digits(),
            user: one.user.clone(),
            device: one.device_name.clone(),
            invite: HEXLOWER.encode(&one.invite),
            came_ms: one.came_ms,
            adding: self.is_to_be_added(id, one.fingerprint),
            refused: one.refused.map_or("", Why::line).into(),
        });
        Ok(Answer::Requests(answers.collect()))
    }

    /// Whether what answers an invite is this device's business: its own, and those that stand.
    fn is_ours(&self, id: TeamId, invite: InviteId) -> bool {
        self.memory.issued.contains_key(&(id, invite)) || self.standing(id, invite).is_some()
    }

    fn is_to_be_added(&self, team: TeamId, device: [u8; 32]) -> bool {
        let mut own = self.memory.operations.range((team, 0)..=(team, u64::MAX));
        own.any(|(_, one)| {
            self.waits(one)
                && matches!(one.what, What::Add { fingerprint } if fingerprint == device)
        })
    }

    pub(crate) fn add_device(&mut self, id: TeamId, text: &str) -> Result<Answer, Failure> {
        let Some(adding) = read_device(id, text) else {
            return refuse(
                Code::Usage,
                "a device is meant by all 64 hex digits of its fingerprint, or by its 30 digits; copy all",
            );
        };
        self.expect(adding)
    }

    /// Adds a device, or has it added as soon as it asks.
    pub(crate) fn expect(&mut self, adding: Adding) -> Result<Answer, Failure> {
        let id = adding.team;
        let known = self.administered(id)?;
        if known.chain.len() >= GRANT_CHAIN {
            return refuse(
                Code::Forbidden,
                "too many admins stand between the founder and this device; ask one of higher rank",
            );
        }
        let tip = self.tip(known)?;
        let is_in = tip.used.iter().any(|(device, key)| {
            tip.devices.contains(&device) && adding.means(PublicKey(key).fingerprint())
        });
        if is_in {
            return Ok(Answer::Done);
        }
        let asks = self
            .requests_of(id)
            .find(|one| adding.means(Fingerprint(one.fingerprint)))
            .filter(|one| !self.is_stale(one));
        match asks.map(|one| (one.fingerprint, one.refused)) {
            Some((_, Some(why))) => refuse(Code::Forbidden, why.line()),
            Some((fingerprint, None)) if self.is_to_be_added(id, fingerprint) => Ok(Answer::Done),
            Some((fingerprint, None)) => self.admit(id, fingerprint),
            None if self.memory.adding.len() >= EXPECTED => refuse(
                Code::Usage,
                "too many devices are to be added that have not asked; wait for some of them",
            ),
            None => {
                let key = (id, adding.digits.clone());
                self.store.put(Kind::Adding, &adding_bytes(&key), &adding)?;
                self.memory.adding.insert(key, adding);
                // What it has asked before this was known was for nobody.
                let all = Name::team_prefix(naming::place(id), Path::KeyPackage);
                self.resubscribe(all)?;
                self.follow_requests()?;
                Ok(Answer::Done)
            }
        }
    }

    /// Whether a device will have to ask anew, and can: it was let in before and is out again, or was refused
    /// and there is a newer invite for it.
    fn is_stale(&self, request: &Request) -> bool {
        let team = request.team;
        let invite = self.memory.issued.get(&(team, request.invite));
        let spent = invite.is_some_and(|one| one.used_by == Some(request.fingerprint));
        let newer = self
            .issued(team)
            .any(|one| self.is_open(one) && one.created_ms >= request.came_ms);
        (spent && !self.is_to_be_added(team, request.fingerprint))
            || (request.refused.is_some() && newer)
    }

    /// Lets a device in that has asked: its invite is used from now on.
    fn admit(&mut self, id: TeamId, fingerprint: [u8; 32]) -> Result<Answer, Failure> {
        let request = &self.memory.requests[&(id, fingerprint)];
        let invite = (id, request.invite);
        if let Some(why) = self.objection(id, invite.1, fingerprint) {
            let request = request.clone();
            self.refuse_request(request, why)?;
            return refuse(Code::Forbidden, why.line());
        }
        // It comes in with the role that it is to have, or not at all.
        self.room_for(2)?;
        self.ask_for(id, What::Add { fingerprint })?;
        let key = (id, Fingerprint(fingerprint).digits());
        let named = self.memory.adding.get(&key);
        if let Some(like) = named.and_then(|one| one.like) {
            self.liken(id, fingerprint, like)?;
        }
        if let Some(issued) = self.memory.issued.get(&invite).cloned() {
            self.put_issued(Issued {
                used_by: Some(fingerprint),
                ..issued
            })?;
        }
        self.store.delete(Kind::Adding, &adding_bytes(&key))?;
        self.memory.adding.remove(&key);
        self.refuse_answers(invite, Some(fingerprint))?;
        Ok(Answer::Done)
    }

    /// Admits those who are expected and have asked: there may have been no room when the second of the
    /// two came.
    pub(crate) fn admit_expected(&mut self) -> Result<(), Failure> {
        let asked = self.memory.requests.values();
        let expected: Vec<(TeamId, [u8; 32])> = asked
            .filter(|one| one.refused.is_none() && !self.is_stale(one))
            .map(|one| (one.team, one.fingerprint))
            .filter(|(team, fingerprint)| {
                let device = Fingerprint(*fingerprint);
                let named = self.memory.adding.get(&(*team, device.digits()));
                named.is_some_and(|one| one.means(device))
            })
            .collect();
        for (team, fingerprint) in expected {
            let done = self.admit(team, fingerprint);
            self.contain(done)?;
        }
        Ok(())
    }

    /// Why a device may not come in with an invite; none if it may, or this device knows nothing of it.
    fn objection(&self, team: TeamId, invite: InviteId, device: [u8; 32]) -> Option<Why> {
        let issued = self.memory.issued.get(&(team, invite))?;
        match issued.fate(self.now.millis()) {
            Fate::Open => None,
            Fate::Used => (issued.used_by != Some(device)).then_some(Why::Used),
            Fate::Expired => Some(Why::Expired),
            Fate::Revoked => Some(Why::Revoked),
        }
    }

    /// Tells both sides why a device is not added.
    fn refuse_request(&mut self, request: Request, why: Why) -> Result<(), Failure> {
        if request.refused == Some(why) {
            return Ok(());
        }
        let to = Fingerprint(request.fingerprint);
        let team = self.team(request.team)?.clone();
        if let Some(key) = self.package_key(team.id, request.invite) {
            let sealed = seal(&key.0, &bound(REFUSAL_LABEL, to), &[why.code()])?;
            let object = [&[REFUSAL][..], &sealed].concat();
            let fields = Fields::Welcome {
                fingerprint: to.tagged(tag(&object)),
                fragment: 0,
            };
            let first = Name::new(naming::place(team.id), fields);
            self.post_object(&team, first, (&object, SMALL_FRAGMENTS), WELCOME_LIFE_MS)?;
        }
        if why != Why::Number {
            self.notice(format!("{} ({}): {}", request.user, team.name, why.line()));
        }
        self.put_request(Request {
            refused: Some(why),
            packages: Vec::new(),
            ..request
        })
    }

    fn put_request(&mut self, request: Request) -> Result<(), Failure> {
        let key = (request.team, request.fingerprint);
        self.store
            .put(Kind::Request, &request_bytes(key), &request)?;
        self.memory.requests.insert(key, request);
        self.told.teams = true;
        Ok(())
    }

    /// The key under which packages are sealed that answer an invite: of this device, or of another
    /// admin whose commit has handed it on.
    pub(crate) fn package_key(&self, team: TeamId, invite: InviteId) -> Option<Seed> {
        let issued = self.memory.issued.get(&(team, invite));
        issued
            .map(|one| one.invite.key())
            .or_else(|| {
                let notes = self.states(team).filter_map(|state| state.commit.as_ref());
                let mut keys = notes.filter_map(|commit| commit.notes.invite.clone());
                keys.find(|(id, _)| *id == invite).map(|(_, key)| key)
            })
            .or_else(|| self.standing(team, invite).map(|(key, _)| key))
    }

    /// Takes a key package whose chunks this key has signed.
    pub(crate) fn take_key_package(
        &mut self,
        id: TeamId,
        key: PublicKey,
        object: &[u8],
    ) -> Result<Taken, Failure> {
        let fingerprint = key.fingerprint();
        let Some((invite, sealed)) = object.split_first_chunk::<8>() else {
            return Ok(Taken::Done);
        };
        let Some(seal) = self.package_key(id, *invite) else {
            return Ok(Taken::Done);
        };
        let Some(bytes) = unseal(&seal.0, &bound(PACKAGE_LABEL, fingerprint), sealed) else {
            return Ok(Taken::Done);
        };
        let team = self.team(id)?;
        let candidate = match Candidate::read(&self.crypto, id, team.suite, &bytes) {
            Ok(candidate) if candidate.leaf.credential.publishing_key() == key => candidate,
            Ok(_) | Err(GroupError::Invalid(_)) => {
                self.notice(
                    "a device that asks to be added has a key package that does not verify",
                );
                return Ok(Taken::Done);
            }
            Err(error) => return Err(error.into()),
        };
        let certificate = candidate.leaf.credential.certificate.as_ref();
        if let Some(why) = self.certificate_objection(team, certificate, fingerprint)? {
            self.notice(why);
            return Ok(Taken::Done);
        }
        let request = self.request_with((id, fingerprint.0, *invite), &candidate, bytes);
        let Some(request) = request else {
            return Ok(Taken::Done);
        };
        let number = self.is_taken(id, &candidate)?.then_some(Why::Number);
        if let Some(why) = number.or_else(|| self.objection(id, *invite, fingerprint.0)) {
            self.refuse_request(request, why)?;
            return Ok(Taken::Done);
        }
        self.put_request(Request {
            refused: None,
            ..request
        })?;
        self.link.pursue_ms = Some(0);
        let mut expected = self.memory.adding.values();
        if expected.any(|one| one.team == id && one.means(fingerprint)) {
            self.admit(id, fingerprint.0)?;
        }
        Ok(Taken::Done)
    }

    /// Whether the number of a device is another's, or was its own before it was removed.
    fn is_taken(&self, id: TeamId, candidate: &Candidate) -> Result<bool, Failure> {
        let tip = self.tip(self.team(id)?)?;
        let device = candidate.leaf.device;
        let known = tip.used.key(device);
        let same = known == Some(candidate.leaf.credential.publishing);
        Ok(known.is_some() && !(same && tip.devices.contains(&device)))
    }

    /// The device's request with this key package; none if there are too many of either.
    fn request_with(
        &self,
        (team, fingerprint, invite): (TeamId, [u8; 32], InviteId),
        candidate: &Candidate,
        bytes: Vec<u8>,
    ) -> Option<Request> {
        let known = self.memory.requests.get(&(team, fingerprint));
        // What it has asked with an older invite comes again when this device reads all anew.
        let created = |invite| {
            let issued = self.memory.issued.get(&(team, invite));
            let standing = || self.standing(team, invite).map(|(_, begins)| begins);
            issued.map(|one| one.created_ms).or_else(standing)
        };
        if known.is_some_and(|one| created(invite) < created(one.invite)) {
            return None;
        }
        let known = known.filter(|one| one.invite == invite).cloned();
        let answers = self.requests_of(team).filter(|one| one.invite == invite);
        let named = self.is_named(team, Fingerprint(fingerprint));
        let room = answers.count() < ANSWERS || named;
        let room = room && self.memory.requests.len() < REQUESTS;
        let mut request = match known {
            Some(known) => known,
            None if room => Request {
                team,
                fingerprint,
                invite,
                user: candidate.leaf.credential.user.clone(),
                device_name: candidate.leaf.credential.device_name.clone(),
                came_ms: self.now.millis(),
                refused: None,
                packages: Vec::new(),
            },
            None => return None,
        };
        if request.packages.iter().any(|one| one.bytes == bytes) {
            return None;
        }
        if request.packages.len() >= PACKAGES {
            let used = request.packages.iter().position(|one| one.used)?;
            request.packages.remove(used);
        }
        request.packages.push(Package {
            bytes,
            last_resort: candidate.is_last_resort(),
            used: false,
        });
        Some(request)
    }

    /// The key package for the next addition of a device: a one-time one that no commit has used, or
    /// the last resort.
    pub(crate) fn package_for(&self, team: TeamId, device: [u8; 32]) -> Option<Vec<u8>> {
        let request = self.memory.requests.get(&(team, device))?;
        let is_spent = |one: &Package| {
            let hash: [u8; 32] = Sha256::digest(&one.bytes).into();
            let commits = self.states(team).filter_map(|state| state.commit.as_ref());
            let mut welcomed = commits.flat_map(|commit| &commit.welcomed);
            one.used || welcomed.any(|one| one.package == hash)
        };
        let mut all = request.packages.iter();
        let once = all.find(|one| !one.last_resort && !is_spent(one));
        let found = once.or_else(|| request.packages.iter().find(|one| one.last_resort));
        found.map(|one| one.bytes.clone())
    }

    /// What the commit of an addition hands on, so that other admins can welcome the device again.
    pub(crate) fn invite_of(&self, team: TeamId, device: [u8; 32]) -> Option<(InviteId, Seed)> {
        let request = self.memory.requests.get(&(team, device))?;
        let key = self.package_key(team, request.invite)?;
        Some((request.invite, key))
    }

    /// A commit has used these key packages.
    pub(crate) fn spend(&mut self, team: TeamId, spent: &[Vec<u8>]) -> Result<(), Failure> {
        let holders: Vec<Request> = self
            .requests_of(team)
            .filter(|one| one.packages.iter().any(|one| spent.contains(&one.bytes)))
            .cloned()
            .collect();
        for mut request in holders {
            for package in &mut request.packages {
                package.used |= spent.contains(&package.bytes);
            }
            self.put_request(request)?;
        }
        Ok(())
    }

    /// Listens for requests where this device has issued invites or is an admin, and for the key packages
    /// of devices that are to be welcomed again.
    pub(crate) fn follow_requests(&mut self) -> Result<(), Failure> {
        let mut wanted: BTreeSet<(u128, u8)> = BTreeSet::new();
        let issued = self.memory.issued.keys().map(|key| key.0);
        let admins = self.memory.teams.keys().copied();
        let admins = admins.filter(|team| self.administered(*team).is_ok());
        let named = self.memory.adding.keys().map(|key| key.0);
        for team in issued.chain(named).chain(admins) {
            let prefix = Name::team_prefix(naming::place(team), Path::KeyPackage);
            wanted.insert((prefix.first().0, prefix.bits()));
        }
        for ((team, _), operation) in &self.memory.operations {
            if let What::Add { fingerprint } = operation.what {
                // Also where all are heard: what came before its invite was known was left.
                let prefix = key_package_prefix(*team, Fingerprint(fingerprint));
                wanted.insert((prefix.first().0, prefix.bits()));
            }
        }
        let is_ours = |key: &(u128, u8)| Name(key.0).path() == Path::KeyPackage;
        let now: Vec<(u128, u8)> = self.memory.subscriptions.keys().copied().collect();
        for key in now
            .into_iter()
            .filter(|key| is_ours(key) && !wanted.contains(key))
        {
            self.unsubscribe(Prefix::of(Name(key.0), key.1))?;
        }
        for key in wanted {
            self.subscribe(Prefix::of(Name(key.0), key.1))?;
        }
        Ok(())
    }

    /// Whether a key package can be of use.
    pub(crate) fn wants_key_package(&self, team: TeamId) -> bool {
        self.issued(team).next().is_some()
            || self.administered(team).is_ok()
            || self.memory.adding.keys().any(|key| key.0 == team)
            || self
                .memory
                .operations
                .range((team, 0)..=(team, u64::MAX))
                .any(|(_, one)| matches!(one.what, What::Add { .. }))
    }

    /// Forgets what is over: old invites, and requests that nobody can need any more.
    pub(crate) fn tend_admissions(&mut self) -> Result<(), Failure> {
        let teams: BTreeSet<TeamId> = self.memory.issued.keys().map(|key| key.0).collect();
        for team in teams {
            self.forget_invites(team)?;
        }
        let now = self.now.millis();
        let over = |one: &&Request| {
            let issued = self.is_ours(one.team, one.invite);
            let wanted = self.is_to_be_added(one.team, one.fingerprint);
            !wanted && (!issued || one.came_ms + KEY_PACKAGE_LIFE_MS < now)
        };
        let old: Vec<_> = self.memory.requests.values().filter(over).collect();
        let old: Vec<_> = old.iter().map(|one| (one.team, one.fingerprint)).collect();
        for key in old {
            self.store.delete(Kind::Request, &request_bytes(key))?;
            self.memory.requests.remove(&key);
        }
        self.follow_requests()
    }
}

impl Adding {
    pub(crate) fn means(&self, device: Fingerprint) -> bool {
        self.digits == device.digits() && self.fingerprint.is_none_or(|full| full == device.0)
    }
}

/// All 64 hex digits of a fingerprint, or its 30 decimal ones.
fn read_device(team: TeamId, text: &str) -> Option<Adding> {
    if let Some(full) = Fingerprint::from_hex(text) {
        return Some(Adding {
            team,
            digits: full.digits(),
            fingerprint: Some(full.0),
            like: None,
        });
    }
    let digits: Vec<char> = text.chars().filter(|one| !one.is_whitespace()).collect();
    let plain = digits.iter().all(char::is_ascii_digit) && digits.len() == Fingerprint::DIGITS;
    plain.then(|| Adding {
        team,
        digits: digits
            .chunks(5)
            .map(|group| group.iter().collect())
            .collect::<Vec<String>>()
            .join(" "),
        fingerprint: None,
        like: None,
    })
}

fn key_package_prefix(team: TeamId, device: Fingerprint) -> Prefix {
    let fields = Fields::KeyPackage {
        fingerprint: device.tagged(0),
        fragment: 0,
    };
    let name = Name::new(naming::place(team), fields);
    Prefix::of(name, 128 - 4 - Fingerprint::TAG_BITS)
}

fn request_bytes((team, device): (TeamId, [u8; 32])) -> Vec<u8> {
    [&naming::team_bytes(team)[..], &device].concat()
}

fn adding_bytes((team, digits): &(TeamId, String)) -> Vec<u8> {
    [&naming::team_bytes(*team)[..], digits.as_bytes()].concat()
}
