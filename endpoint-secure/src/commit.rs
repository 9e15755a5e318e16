//! Commits: adding a device to a team, and taking the commits of others.
//!
//! Only the founder's device may add; every device enforces it. A commit travels as an MLS public
//! message sealed with a key of its parent state, in whose front the parent's id stands, so that it
//! routes to exactly one state. Everything an addition publishes is written in one transaction and
//! published exactly once. Source: docs/architecture.md, "State, commits".

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use endpoint_secure_api::{Answer, Code, TeamId};
use proto::limits::{COMMIT_FRAGMENTS, DAY_MS, SMALL_FRAGMENTS};
use proto::{
    Fields, Fingerprint, Grant, Limits, Name, Path, Pattern, Prefix, PublicKey, Rule, Timestamp,
    Verbs, split,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::device::session::{Failure, Session, refuse};
use crate::group::{Added, Candidate, Committed, Group, GroupError, LeafSigner, Provider};
use crate::naming::{self, FOUNDER};
use crate::pending::Taken;
use crate::store::outbox::NO_MESSAGE;
use crate::store::{Kind, StoreError, encode};
use crate::team::{Member, Seed, State, Team, issue};

/// How long relays keep a commit, in milliseconds.
const COMMIT_LIFE_MS: u64 = 180 * DAY_MS;
/// How long relays keep a welcome and its tree, in milliseconds.
const WELCOME_LIFE_MS: u64 = 84 * DAY_MS;
/// Blob numbers that one ratchet tree may take: a power of two, so that one prefix covers it.
pub(crate) const TREE_RUN: u32 = 1 << 10;
const COMMIT_KEY: &str = "treeline commit 1";
const PACKAGE_LABEL: &[u8] = b"treeline key package 1";
const TREE_LABEL: &[u8] = b"treeline ratchet tree 1";

/// A device to be added as soon as its key package is here.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Adding {
    /// To which team.
    pub team: TeamId,
    /// The whole fingerprint.
    pub fingerprint: [u8; 32],
}

/// What a newcomer needs beside the MLS state. It travels in the welcome's group info, encrypted to
/// the newcomer and signed by the adder's leaf.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bundle {
    /// The version of this bundle: 1.
    pub version: u8,
    /// The team's name.
    pub team: String,
    /// The organisation's name.
    pub organisation: String,
    /// Channels with their names.
    pub channels: Vec<(u16, String)>,
    /// Grants from the origin to the newcomer, root first.
    pub chain: Vec<Vec<u8>>,
    /// Every device number that was ever used, with its publishing key.
    pub members: Vec<(u32, [u8; 32])>,
    /// What goes into invites to the team.
    pub invite_key: Seed,
    /// The blob with the ratchet tree: whose, and its first number.
    pub tree: (u32, u32),
    /// The key of that blob.
    pub tree_key: Seed,
}

impl Session {
    pub(crate) fn add_device(
        &mut self,
        team: TeamId,
        fingerprint: &str,
    ) -> Result<Answer, Failure> {
        let Some(fingerprint) = Fingerprint::from_hex(fingerprint) else {
            return refuse(
                Code::Usage,
                "a fingerprint has 64 hex digits; copy all of it",
            );
        };
        let known = self.team(team)?;
        if known.device != FOUNDER {
            return refuse(Code::Forbidden, "only the team's admin may add devices");
        }
        let is_in = known
            .members
            .values()
            .any(|member| PublicKey(member.publishing).fingerprint() == fingerprint);
        if is_in {
            return Ok(Answer::Done);
        }
        let adding = Adding {
            team,
            fingerprint: fingerprint.0,
        };
        self.store
            .put(Kind::Adding, &adding_bytes(&adding), &adding)?;
        self.memory.adding.insert((team, fingerprint.0), adding);
        self.subscribe(key_package_prefix(team, fingerprint))?;
        Ok(Answer::Done)
    }

    /// Takes a key package whose chunks this key has signed.
    pub(crate) fn take_key_package(
        &mut self,
        id: TeamId,
        key: PublicKey,
        object: &[u8],
    ) -> Result<Taken, Failure> {
        let fingerprint = key.fingerprint();
        // The 46 bits of the name only find; the admin asked for all 256.
        let Some(adding) = self.memory.adding.get(&(id, fingerprint.0)).cloned() else {
            return Ok(Taken::Done);
        };
        let team = self.team(id)?.clone();
        let package = unseal(&team.invite_key.0, PACKAGE_LABEL, object).unwrap_or_default();
        let candidate = match Candidate::read(&self.crypto, id, team.suite, &package) {
            Ok(candidate) if candidate.leaf.credential.publishing_key() == key => candidate,
            Ok(_) | Err(GroupError::Invalid(_)) => {
                self.notice("a device to be added has a key package that does not verify");
                return Ok(Taken::Done);
            }
            Err(error) => return Err(error.into()),
        };
        if team.members.contains_key(&candidate.leaf.device) {
            self.notice("a device to be added has a number that is taken; it has to join anew");
            return Ok(Taken::Done);
        }
        self.add(team, candidate)?;
        self.store.delete(Kind::Adding, &adding_bytes(&adding))?;
        self.memory.adding.remove(&(id, fingerprint.0));
        self.unsubscribe(key_package_prefix(id, fingerprint))?;
        Ok(Taken::Done)
    }

    fn add(&mut self, mut team: Team, candidate: Candidate) -> Result<(), Failure> {
        let place = naming::place(team.id);
        let device = candidate.leaf.device;
        let publishing = candidate.leaf.credential.publishing_key();
        let parent = self.state(&team)?;
        let namespace = self.new_namespace()?;
        self.store.copy_mls(parent.namespace, namespace)?;
        self.load_group(team.id, parent.namespace)?;
        let commit_key = self.groups[&parent.namespace].export(&self.crypto, COMMIT_KEY)?;
        let bundle = self.bundle(&team, device, publishing)?;
        team.next_blob += TREE_RUN;

        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let child = Group::load(&provider, team.id)?;
        let signer = LeafSigner::from_seed(&team.seed.0);
        let added = child.add(&provider, &signer, candidate, encode(&bundle)?.to_vec())?;
        let Added {
            group,
            commit,
            welcome,
            tree,
        } = added;

        let commit = seal(&commit_key, &parent.id, &commit)?;
        let object = [&parent.id[..], &commit].concat();
        let name = commit_name(&team, parent.epoch, &object);
        self.post_object(&team, name, (&object, COMMIT_FRAGMENTS), COMMIT_LIFE_MS)?;
        let tree = seal(&bundle.tree_key.0, TREE_LABEL, &tree)?;
        let blob = Fields::Blob {
            device: bundle.tree.0,
            number: bundle.tree.1,
        };
        let run = TREE_RUN as usize;
        self.post_object(&team, Name::new(place, blob), (&tree, run), WELCOME_LIFE_MS)?;
        let to = Fields::Welcome {
            fingerprint: publishing.fingerprint().name_bits(),
            fragment: 0,
        };
        let most = SMALL_FRAGMENTS;
        self.post_object(
            &team,
            Name::new(place, to),
            (&welcome, most),
            WELCOME_LIFE_MS,
        )?;

        let member = Member {
            publishing: publishing.0,
            since: group.epoch(),
        };
        team.members.insert(device, member);
        self.follow(team, &parent, group, namespace)
    }

    /// Makes a child state the tip.
    fn follow(
        &mut self,
        mut team: Team,
        parent: &State,
        group: Group,
        namespace: i64,
    ) -> Result<(), Failure> {
        let id = team.id;
        team.tip = group.state_id();
        self.put_team(team)?;
        self.add_state(id, &group, namespace, Some(parent.id))?;
        self.groups.insert(namespace, group);
        self.retry_waiting(id)
    }

    fn bundle(&self, team: &Team, device: u32, subject: PublicKey) -> Result<Bundle, Failure> {
        let mut members: Vec<_> = team
            .members
            .iter()
            .map(|(device, member)| (*device, member.publishing))
            .collect();
        members.push((device, subject.0));
        Ok(Bundle {
            version: 1,
            team: team.name.clone(),
            organisation: team.organisation.clone(),
            channels: self
                .channels_of(team.id)
                .filter(|channel| channel.id.channel > 0)
                .map(|channel| (channel.id.channel, channel.name.clone()))
                .collect(),
            chain: self.grant_for(team, device, subject)?,
            members,
            invite_key: team.invite_key.clone(),
            tree: (team.device, team.next_blob),
            tree_key: Seed::random()?,
        })
    }

    fn grant_for(
        &self,
        team: &Team,
        device: u32,
        subject: PublicKey,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let place = naming::place(team.id);
        let rules = [Path::Message, Path::Blob].map(|path| Rule {
            verbs: Verbs::PUBLISH,
            pattern: Pattern::of_device(place, path, device),
        });
        let grant = Grant {
            subject,
            not_after: Timestamp::from_millis(team.not_after_ms),
            limits: Limits::default(),
            rules: rules.into(),
        };
        issue(&grant, (place, device), &team.chain, &self.memory.signer)
    }

    pub(crate) fn post_object(
        &mut self,
        team: &Team,
        first: Name,
        (object, most): (&[u8], usize),
        life_ms: u64,
    ) -> Result<(), Failure> {
        let Ok(parts) = split(object, most) else {
            return refuse(Code::Usage, "the team is too large for its welcome");
        };
        for chunk in self.sign_run(team, first, &parts, life_ms)? {
            self.store.post(&chunk, (NO_MESSAGE, 0, 0))?;
        }
        Ok(())
    }

    pub(crate) fn take_commit(
        &mut self,
        id: TeamId,
        epoch: u32,
        object: &[u8],
    ) -> Result<Taken, Failure> {
        let team = self.team(id)?.clone();
        let Some((parent, sealed)) = object.split_first_chunk::<8>() else {
            return Ok(Taken::Done);
        };
        let Some(parent) = self.memory.states.get(&(id, *parent)).cloned() else {
            // Its parent may be a commit that comes later, or was before this device.
            let later = u64::from(epoch) > self.state(&team)?.epoch;
            return Ok(if later { Taken::Wait } else { Taken::Done });
        };
        let has_child = self
            .memory
            .states
            .values()
            .any(|state| state.team == id && state.parent == Some(parent.id));
        if has_child || parent.id != team.tip {
            return Ok(Taken::Done);
        }
        self.load_group(id, parent.namespace)?;
        let key = self.groups[&parent.namespace].export(&self.crypto, COMMIT_KEY)?;
        let Some(commit) = unseal(&key, &parent.id, sealed) else {
            return Ok(Taken::Done);
        };
        let namespace = self.new_namespace()?;
        self.store.copy_mls(parent.namespace, namespace)?;
        match self.apply(&team, namespace, &commit) {
            Ok(Some(committed)) => self.accept(team, &parent, committed, namespace)?,
            Ok(None) => self.store.delete_mls(namespace)?,
            Err(error) => return Err(error),
        }
        Ok(Taken::Done)
    }

    /// Applies a commit in the copied namespace, if its author may do what it does.
    fn apply(
        &self,
        team: &Team,
        namespace: i64,
        commit: &[u8],
    ) -> Result<Option<Committed>, Failure> {
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let child = Group::load(&provider, team.id)?;
        let committed = match child.apply(&provider, commit) {
            Ok(committed) => committed,
            Err(GroupError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let may_add = committed.added.is_empty() || committed.author.device == FOUNDER;
        let new_numbers = committed
            .added
            .iter()
            .all(|leaf| !team.members.contains_key(&leaf.device));
        let allowed = may_add && new_numbers && !committed.does_more;
        Ok(allowed.then_some(committed))
    }

    fn accept(
        &mut self,
        mut team: Team,
        parent: &State,
        committed: Committed,
        namespace: i64,
    ) -> Result<(), Failure> {
        for leaf in &committed.added {
            let member = Member {
                publishing: leaf.credential.publishing,
                since: committed.group.epoch(),
            };
            team.members.insert(leaf.device, member);
        }
        self.follow(team, parent, committed.group, namespace)
    }

    fn state(&self, team: &Team) -> Result<State, Failure> {
        let state = self.memory.states.get(&(team.id, team.tip));
        Ok(state.ok_or(StoreError::Corrupt)?.clone())
    }
}

fn adding_bytes(adding: &Adding) -> Vec<u8> {
    [&naming::team_bytes(adding.team)[..], &adding.fingerprint].concat()
}

fn key_package_prefix(team: TeamId, fingerprint: Fingerprint) -> Prefix {
    let fields = Fields::KeyPackage {
        fingerprint: fingerprint.name_bits(),
        fragment: 0,
    };
    Prefix::of(Name::new(naming::place(team), fields), 128 - 4)
}

fn commit_name(team: &Team, epoch: u64, object: &[u8]) -> Name {
    let hash: [u8; 32] = Sha256::digest(object).into();
    let tag = u32::from_be_bytes([0, hash[0], hash[1], hash[2]]) & 0x3_ffff;
    let fields = Fields::Commit {
        epoch: (epoch & 0xff_ffff) as u32,
        tag,
        fragment: 0,
    };
    Name::new(naming::place(team.id), fields)
}

/// `nonce 24 | ciphertext`.
fn seal(key: &[u8; 32], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|_| StoreError::Random)?;
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
        .map_err(|_| StoreError::Corrupt)?;
    Ok([&nonce[..], &sealed].concat())
}

fn unseal(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = sealed.split_first_chunk::<24>()?;
    XChaCha20Poly1305::new(key.into())
        .decrypt(XNonce::from_slice(nonce), Payload { msg, aad })
        .ok()
}

/// Seals a key package for those who hold the invite: its credential names a person.
pub(crate) fn seal_package(key: &Seed, package: &[u8]) -> Result<Vec<u8>, Failure> {
    seal(&key.0, PACKAGE_LABEL, package)
}

/// Opens the blob with a ratchet tree.
pub(crate) fn open_tree(key: &[u8; 32], sealed: &[u8]) -> Option<Vec<u8>> {
    unseal(key, TREE_LABEL, sealed)
}
