//! Commits: making one, and judging those of others.
//!
//! A commit travels as an MLS public message sealed with a key of its parent state, in whose front
//! the parent's id stands, so that it routes to exactly one state. Whether its author may do what it
//! does is `roles`' business, which commit wins `branch`'s. Everything a commit publishes is written
//! in one transaction and published exactly once. Source: docs/architecture.md, "State, commits".

use std::collections::BTreeSet;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use endpoint_secure_api::{Code, TeamId};
use proto::limits::{COMMIT_FRAGMENTS, DAY_MS, SMALL_FRAGMENTS};
use proto::{
    Chunk, Fields, Grant, Limits, Name, Path, Pattern, PublicKey, Rule, Timestamp, Verbs, split,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::admission::tag;
use crate::branch::{Class, StateId};
use crate::device::session::{Failure, Session, refuse};
use crate::fault::{Fault, planted};
use crate::group::{Candidate, Change, Group, GroupError, Leaf, LeafSigner, Made, Provider};
use crate::naming;
use crate::orgs::{Certificate, owner_key};
use crate::pending::Taken;
use crate::roles::{Deed, Roles};
use crate::states::{self, Done, Fence, Notes, State, Used, Welcomed};
use crate::store::outbox::NO_MESSAGE;
use crate::store::{StoreError, decode, encode};
use crate::team::{Founding, Seed, Team, issue};

/// How long relays keep a commit, in milliseconds.
const COMMIT_LIFE_MS: u64 = 180 * DAY_MS;
/// How long relays keep a welcome and its tree, in milliseconds.
pub(crate) const WELCOME_LIFE_MS: u64 = 84 * DAY_MS;
/// Blob numbers that one ratchet tree may take: a power of two, so that one prefix covers it. 4 MB are
/// a thousand devices in the post-quantum suite.
pub(crate) const TREE_RUN: u32 = 1 << 12;
/// The version of what stands in a welcome beside MLS' own.
pub(crate) const BUNDLE_VERSION: u8 = 2;
const COMMIT_KEY: &str = "treeline commit 1";
const TREE_LABEL: &[u8] = b"treeline ratchet tree 1";

/// What leads a newcomer from its welcome to the rest. It travels in the welcome's group info,
/// encrypted to the newcomer and signed by the adder's leaf.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bundle {
    /// The version of this bundle: 2.
    pub version: u8,
    /// The blob with luggage and ratchet tree: whose, and its first number.
    pub tree: (u32, u32),
    /// The key of that blob.
    pub tree_key: Seed,
    /// The SHA-256 of the luggage.
    pub luggage: [u8; 32],
    /// How often this device was welcomed in the team: the last one counts.
    pub turn: u32,
}

/// What a newcomer needs beside the MLS state. It travels with the ratchet tree, in a sealed blob: in
/// the welcome it would not fit for a team of a thousand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Luggage {
    /// The team's name.
    pub team: String,
    /// The organisation's name.
    pub organisation: String,
    /// Channels with their names.
    pub channels: Vec<(u16, String)>,
    /// Grants from the origin to the newcomer, root first.
    pub chain: Vec<Vec<u8>>,
    /// Every device number that was ever used, with its publishing key.
    pub members: Used,
    /// What leads devices back into the team.
    pub return_key: Seed,
    /// What the organisation says of the newcomer, if the adder has its key.
    #[serde(default)]
    pub certificate: Option<Certificate>,
    /// What the newcomer needs to found direct conversations, likewise.
    #[serde(default)]
    pub direct: Option<Founding>,
}

/// What is sent with a welcome.
pub(crate) struct Parcel {
    bundle: Bundle,
    luggage: Vec<u8>,
}

/// A commit that verifies and is allowed, and the state it makes.
struct Accepted {
    state: State,
    group: Option<Group>,
    added: Vec<Leaf>,
}

impl Session {
    /// Commits a change on the tip and follows it. Gives the state it makes.
    /// A parcel goes with the welcome of the one device that the change adds.
    pub(crate) fn make(
        &mut self,
        id: TeamId,
        (change, parcel): (Change, Option<Parcel>),
    ) -> Result<StateId, Failure> {
        let mut team = self.team(id)?.clone();
        let parent = self.tip(&team)?.clone();
        let from = parent.namespace.ok_or(StoreError::Corrupt)?;
        let notes = self.notes(&team, &parent, &change)?;
        let added: Vec<Leaf> = change.add.iter().map(|one| one.leaf.clone()).collect();
        let packages: Vec<Vec<u8>> = change.add.iter().map(Candidate::bytes).collect();
        let (removed, roles) = (change.remove.clone(), change.roles.clone());
        self.load_group(id, from)?;
        let key = self.groups[&from].export(&self.crypto, COMMIT_KEY)?;
        let namespace = self.new_namespace()?;
        self.store.copy_mls(from, namespace)?;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let child = Group::load(&provider, id)?;
        let signer = LeafSigner::from_seed(&team.seed.0);
        let bundle = parcel.as_ref().map(Parcel::bundle_bytes).transpose()?;
        let beside = (&encode(&notes)?[..], bundle);
        let made = match child.commit(&provider, &signer, change, beside) {
            Ok(made) => made,
            Err(GroupError::Store(error)) => return Err(error.into()),
            Err(error) => {
                self.store.delete_mls(namespace)?;
                return Err(error.into());
            }
        };
        let digest = Sha256::digest(&made.commit).into();
        let effect = Effect {
            author: team.device,
            added: &added,
            packages: &packages,
            removed: &removed,
            roles: roles.as_ref().unwrap_or(&parent.roles),
            owner: owner_key(team.id, &team.chain).map(|(_, key)| key),
        };
        let mut state = child_of(&parent, &effect, (digest, notes));
        state.id = made.group.state_id();
        state.code = made.group.code();
        state.namespace = Some(namespace);
        state.epoch = made.group.epoch();
        state.made_ms = self.now.millis();
        let newcomer = parcel.as_ref().zip(added.first());
        let chunks = match self.sign_commit(&mut team, (&parent, &key), (&made, newcomer)) {
            Ok(chunks) => chunks,
            Err(error) => {
                self.store.delete_mls(namespace)?;
                return Err(error);
            }
        };
        for chunk in chunks {
            self.store.post(&chunk, (NO_MESSAGE, 0, 0))?;
        }
        self.spend(id, &packages)?;
        team.renewed_ms = self.now.millis();
        self.put_team(team)?;
        let id = state.id;
        self.take_state(state, Some(made.group), &added)?;
        Ok(id)
    }

    /// What stands beside a commit: where the feeds of those who go end, and grants for new admins.
    fn notes(&self, team: &Team, tip: &State, change: &Change) -> Result<Notes, Failure> {
        let mut notes = Notes::default();
        let newcomer = change.add.first().map(|candidate| &candidate.leaf);
        let back = newcomer.map(|leaf| leaf.device);
        notes.turn = back.map_or(0, |device| self.next_turn(team.id, device));
        notes.invite = newcomer.and_then(|leaf| {
            let device = leaf.credential.publishing_key().fingerprint();
            self.invite_of(team.id, device.0)
        });
        for device in change.remove.iter().filter(|one| Some(**one) != back) {
            for channel in self.channels_of(team.id) {
                let feed = self.memory.feeds.get(&(channel.row, *device));
                // What came after a revocation stays behind the fence.
                let cut = self.cut(tip, *device, channel.row).unwrap_or(u32::MAX);
                notes.fences.extend(feed.map(|feed| Fence {
                    device: *device,
                    channel: channel.id.channel,
                    next: feed.next.min(cut),
                    hash: feed.hash,
                }));
            }
        }
        let Some(roles) = &change.roles else {
            return Ok(notes);
        };
        let new = roles
            .admins
            .iter()
            .filter(|one| tip.roles.rank(**one).is_none());
        for device in new {
            let Some(key) = tip.used.key(*device) else {
                return refuse(Code::NotFound, "no such device is in the team");
            };
            notes
                .grants
                .push((*device, self.admins_grant(team, *device, PublicKey(key))?));
        }
        Ok(notes)
    }

    /// How often a device will have been welcomed with the next welcome.
    pub(crate) fn next_turn(&self, team: TeamId, device: u32) -> u32 {
        let last = self.last_welcome(team, device);
        last.map_or(0, |(turn, _)| turn) + 1
    }

    /// All that goes out with a commit, before any of it does: a commit without its welcome would be one
    /// that this device has published and does not know.
    fn sign_commit(
        &self,
        team: &mut Team,
        (parent, key): (&State, &[u8; 32]),
        (made, newcomer): (&Made, Option<(&Parcel, &Leaf)>),
    ) -> Result<Vec<Chunk>, Failure> {
        let plain = [&made.group.state_id()[..], &made.commit].concat();
        let object = [&parent.id[..], &seal(key, &parent.id, &plain)?].concat();
        let name = commit_name(team, parent.epoch, &object);
        let parts = (&object[..], COMMIT_FRAGMENTS);
        let mut chunks = self.sign_object(team, name, parts, COMMIT_LIFE_MS)?;
        if let (Some((parcel, leaf)), Some(welcome)) = (newcomer, &made.welcome) {
            chunks.extend(self.sign_welcome(team, leaf, parcel, (welcome, &made.tree))?);
        }
        Ok(chunks)
    }

    fn sign_welcome(
        &self,
        team: &mut Team,
        newcomer: &Leaf,
        Parcel { bundle, luggage }: &Parcel,
        (welcome, tree): (&[u8], &[u8]),
    ) -> Result<Vec<Chunk>, Failure> {
        let place = naming::place(team.id);
        let length = (luggage.len() as u32).to_be_bytes();
        let plain = [&length[..], luggage, tree].concat();
        let tree = seal(&bundle.tree_key.0, TREE_LABEL, &plain)?;
        let blob = Fields::Blob {
            device: bundle.tree.0,
            number: bundle.tree.1,
        };
        team.next_blob = bundle.tree.1 + TREE_RUN;
        let run = TREE_RUN as usize;
        let mut chunks =
            self.sign_object(team, Name::new(place, blob), (&tree, run), WELCOME_LIFE_MS)?;
        let to = Fields::Welcome {
            fingerprint: newcomer
                .credential
                .publishing_key()
                .fingerprint()
                .tagged(tag(welcome)),
            fragment: 0,
        };
        let parts = (welcome, SMALL_FRAGMENTS);
        chunks.extend(self.sign_object(team, Name::new(place, to), parts, WELCOME_LIFE_MS)?);
        Ok(chunks)
    }

    /// Makes a state known: its members, its group, and what waited for it.
    fn take_state(
        &mut self,
        state: State,
        group: Option<Group>,
        added: &[Leaf],
    ) -> Result<(), Failure> {
        let mut team = self.team(state.team)?.clone();
        for leaf in added {
            let member = crate::team::Member {
                publishing: leaf.credential.publishing,
                since: state.epoch,
            };
            team.members.entry(leaf.device).or_insert(member);
        }
        self.put_team(team)?;
        if let (Some(group), Some(namespace)) = (group, state.namespace) {
            self.groups.insert(namespace, group);
        }
        self.look_for_equivocation(&state)?;
        self.add_state(state)
    }

    /// What goes with a welcome.
    pub(crate) fn parcel(
        &self,
        team: &Team,
        tip: &State,
        newcomer: &Leaf,
        turn: u32,
    ) -> Result<Parcel, Failure> {
        let subject = newcomer.credential.publishing_key();
        let certified = newcomer.credential.certificate.is_some();
        let owner = (team.id.origin, team.id.org);
        let home = self.memory.organisations.get(&owner);
        let home = home.filter(|_| !certified);
        let others = tip
            .used
            .iter()
            .filter(|(device, _)| *device != newcomer.device);
        let luggage = Luggage {
            team: team.name.clone(),
            organisation: team.organisation.clone(),
            channels: self
                .channels_of(team.id)
                .filter(|channel| channel.id.channel > 0)
                .map(|channel| (channel.id.channel, channel.name.clone()))
                .collect(),
            chain: self.grant_for(team, newcomer.device, subject)?,
            members: Used::default().with(others.chain([(newcomer.device, subject.0)])),
            return_key: team.return_key.clone(),
            certificate: home.map(|one| one.certify(subject.fingerprint())),
            direct: home.map(|one| one.direct(subject)).transpose()?,
        };
        let luggage = encode(&luggage)?.to_vec();
        let bundle = Bundle {
            version: BUNDLE_VERSION,
            tree: (team.device, team.next_blob),
            tree_key: Seed::random()?,
            luggage: Sha256::digest(&luggage).into(),
            turn,
        };
        Ok(Parcel { bundle, luggage })
    }

    /// A device fills its own messages and blobs; and commits, for it renews its own leaf.
    fn grant_for(
        &self,
        team: &Team,
        device: u32,
        subject: PublicKey,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let place = naming::place(team.id);
        let own = [Path::Message, Path::Blob].map(|path| Pattern::of_device(place, path, device));
        let commits = Pattern::of_prefix(Name::team_prefix(place, Path::Commit));
        let rule = |pattern| Rule {
            verbs: Verbs::PUBLISH,
            pattern,
        };
        let rules = own.into_iter().chain([commits]).map(rule).collect();
        self.issue_grant(team, (device, subject), rules)
    }

    /// An admin fills every name of the team, and hands parts of that on to devices and admins.
    fn admins_grant(
        &self,
        team: &Team,
        device: u32,
        subject: PublicKey,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let place = naming::place(team.id);
        let rules = Team::PATHS.map(|path| Rule {
            verbs: Verbs::PUBLISH.and(Verbs::GRANT),
            pattern: Pattern::of_prefix(Name::team_prefix(place, path)),
        });
        self.issue_grant(team, (device, subject), rules.into())
    }

    fn issue_grant(
        &self,
        team: &Team,
        (device, subject): (u32, PublicKey),
        rules: Vec<Rule>,
    ) -> Result<Vec<Vec<u8>>, Failure> {
        let grant = Grant {
            subject,
            not_after: Timestamp::from_millis(team.not_after_ms),
            limits: Limits::default(),
            rules,
        };
        let place = naming::place(team.id);
        issue(&grant, (place, device), &team.chain, &self.memory.signer)
    }

    pub(crate) fn post_object(
        &mut self,
        team: &Team,
        first: Name,
        parts: (&[u8], usize),
        life_ms: u64,
    ) -> Result<(), Failure> {
        for chunk in self.sign_object(team, first, parts, life_ms)? {
            self.store.post(&chunk, (NO_MESSAGE, 0, 0))?;
        }
        Ok(())
    }

    fn sign_object(
        &self,
        team: &Team,
        first: Name,
        (object, most): (&[u8], usize),
        life_ms: u64,
    ) -> Result<Vec<Chunk>, Failure> {
        let Ok(parts) = split(object, most) else {
            return refuse(Code::Usage, "the team is too large for its welcome");
        };
        self.sign_run(team, first, &parts, life_ms)
    }

    pub(crate) fn take_commit(
        &mut self,
        id: TeamId,
        epoch: u32,
        (object, chunk): (&[u8], &Chunk),
    ) -> Result<Taken, Failure> {
        let Some((before, sealed)) = object.split_first_chunk::<8>() else {
            return Ok(Taken::Done);
        };
        let Some(parent) = self.memory.states.get(&(id, *before)).cloned() else {
            // Its parent may be a commit that comes later, or was before this device.
            let oldest = self.states(id).map(|state| state.epoch).min();
            let later = oldest.is_some_and(|oldest| u64::from(epoch) > oldest);
            return Ok(if later {
                Taken::Lacks(*before)
            } else {
                Taken::Done
            });
        };
        let Some(from) = parent.namespace else {
            return Ok(Taken::Done);
        };
        self.load_group(id, from)?;
        let key = self.groups[&from].export(&self.crypto, COMMIT_KEY)?;
        let plain = unseal(&key, &parent.id, sealed).unwrap_or_default();
        let Some((child, commit)) = plain.split_first_chunk::<8>() else {
            return Ok(Taken::Done);
        };
        if self.knows_commit(id, Sha256::digest(commit).into()) {
            return Ok(Taken::Done);
        }
        if !self.team(id)?.is_out() && chunk.verifies(&self.memory.signer.public_key()) {
            // A commit of this very device that is not in here.
            self.become_new()?;
            return Ok(Taken::Done);
        }
        let namespace = self.new_namespace()?;
        self.store.copy_mls(from, namespace)?;
        let accepted = self.apply(&parent, namespace, (*child, commit))?;
        if accepted.as_ref().is_none_or(|one| one.group.is_none()) {
            self.store.delete_mls(namespace)?;
        }
        if let Some(accepted) = accepted {
            let author = accepted.state.commit.as_ref().map(|one| one.author);
            self.saw(id, author, self.now.millis())?;
            self.take_state(accepted.state, accepted.group, &accepted.added)?;
        }
        Ok(Taken::Done)
    }

    /// Applies a commit in the copied namespace, if its author may do what it does. The verdict
    /// depends on the parent and the commit alone, so that all devices come to the same one.
    fn apply(
        &self,
        parent: &State,
        namespace: i64,
        (claimed, commit): (StateId, &[u8]),
    ) -> Result<Option<Accepted>, Failure> {
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let child = Group::load(&provider, parent.team)?;
        let mut committed = match child.apply(&provider, commit) {
            Ok(committed) => committed,
            Err(GroupError::Store(error)) => return Err(error.into()),
            Err(_) => return Ok(None),
        };
        let Ok(notes) = decode::<Notes>(&committed.notes) else {
            return Ok(None);
        };
        let digest = Sha256::digest(commit).into();
        let effect = Effect {
            author: committed.author.device,
            added: &committed.added,
            packages: &committed.packages,
            removed: &committed.removed,
            roles: &committed.roles,
            owner: owner_key(parent.team, &self.team(parent.team)?.chain).map(|(_, key)| key),
        };
        let mut state = child_of(parent, &effect, (digest, notes));
        if !is_allowed(parent, &state, &effect) && !planted(Fault::RolesUnchecked) {
            return Ok(None);
        }
        let group = committed.group.take();
        state.id = group.as_ref().map_or(claimed, Group::state_id);
        state.code = group.as_ref().map(Group::code).unwrap_or_default();
        state.namespace = group.as_ref().map(|_| namespace);
        state.epoch = parent.epoch + 1;
        state.made_ms = self.now.millis();
        let same = group.as_ref().is_none_or(|group| {
            let leaves: BTreeSet<u32> = group.leaves().iter().map(|leaf| leaf.device).collect();
            leaves == state.devices
        });
        // A group info that somebody else sealed would lead those who were removed astray.
        let fits = same && state.id == claimed;
        Ok(fits.then_some(Accepted {
            state,
            group,
            added: committed.added,
        }))
    }
}

/// What a commit does to a team.
struct Effect<'a> {
    author: u32,
    added: &'a [Leaf],
    packages: &'a [Vec<u8>],
    removed: &'a [u32],
    roles: &'a Roles,
    /// The key of the organisation that owns the team.
    owner: Option<PublicKey>,
}

/// The state that a commit makes, but for its id, place and time.
fn child_of(parent: &State, effect: &Effect<'_>, (digest, notes): ([u8; 32], Notes)) -> State {
    let added: Vec<u32> = effect.added.iter().map(|leaf| leaf.device).collect();
    // Who goes and comes in one commit is only welcomed again.
    let gone = effect.removed.iter().copied();
    let removed: Vec<u32> = gone.filter(|device| !added.contains(device)).collect();
    let mut devices = parent.devices.clone();
    devices.retain(|device| !removed.contains(device));
    devices.extend(&added);
    let class = match (
        removed.is_empty(),
        *effect.roles == parent.roles,
        added.is_empty(),
    ) {
        (false, _, _) => Class::Remove,
        (_, false, _) => Class::Roles,
        (_, _, false) => Class::Add,
        _ => Class::Update,
    };
    let mut foreign = parent.foreign.clone();
    foreign.extend(states::foreign(parent.team, effect.added));
    foreign.retain(|device, _| devices.contains(device));
    let newcomers = effect.added.iter();
    let welcomed = newcomers.clone().zip(effect.packages);
    let welcomed = welcomed
        .map(|(leaf, package)| Welcomed {
            device: leaf.device,
            package: Sha256::digest(package).into(),
        })
        .collect();
    State {
        team: parent.team,
        id: StateId::default(),
        code: String::new(),
        namespace: None,
        epoch: 0,
        made_ms: 0,
        commit: Some(Done {
            parent: parent.id,
            author: effect.author,
            class,
            removed,
            welcomed,
            digest,
            notes,
        }),
        devices,
        roles: effect.roles.clone(),
        foreign,
        used: parent
            .used
            .with(newcomers.map(|leaf| (leaf.device, leaf.credential.publishing))),
        witnesses: BTreeSet::new(),
        turn: 0,
    }
}

/// Whether a commit may follow a state.
fn is_allowed(parent: &State, child: &State, effect: &Effect<'_>) -> bool {
    let added: Vec<u32> = effect.added.iter().map(|leaf| leaf.device).collect();
    let apart = added.iter().collect::<BTreeSet<_>>().len() == added.len();
    let numbers_hold = effect
        .added
        .iter()
        .all(|leaf| match parent.used.key(leaf.device) {
            None => true,
            // Only the same device comes back under a number, and only when it is welcomed again.
            Some(key) => {
                key == leaf.credential.publishing
                    && parent.devices.contains(&leaf.device)
                    && effect.removed.contains(&leaf.device)
            }
        });
    let removed = child
        .commit
        .as_ref()
        .map_or(&[][..], |commit| &commit.removed);
    let deed = Deed {
        author: effect.author,
        added: &added,
        removed,
        roles: &child.roles,
        devices: &child.devices,
    };
    apart && numbers_hold && orgs_hold(parent, child, effect) && parent.roles.allow(&deed)
}

/// Whether every newcomer's certificate is of an organisation that the team lets in, and all devices
/// of others are guests.
fn orgs_hold(parent: &State, child: &State, effect: &Effect<'_>) -> bool {
    let home = (parent.team.origin, parent.team.org);
    let certified = effect.added.iter().all(|leaf| {
        let Some(certificate) = &leaf.credential.certificate else {
            return true;
        };
        let key = if certificate.org == home {
            effect.owner
        } else {
            parent
                .roles
                .orgs
                .get(&certificate.org)
                .copied()
                .map(PublicKey)
        };
        let device = leaf.credential.publishing_key().fingerprint();
        key.is_some_and(|key| certificate.verifies(&key, device))
    });
    let guests = child.foreign.iter().all(|(device, org)| {
        child.roles.guests.contains(device) && child.roles.orgs.contains_key(org)
    });
    certified && guests
}

fn commit_name(team: &Team, epoch: u64, object: &[u8]) -> Name {
    let hash: [u8; 32] = Sha256::digest(object).into();
    let tag = u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]]) >> 14;
    let fields = Fields::Commit {
        epoch: (epoch & 0xff_ffff) as u32,
        tag,
        fragment: 0,
    };
    Name::new(naming::place(team.id), fields)
}

/// `nonce 24 | ciphertext`.
pub(crate) fn seal(key: &[u8; 32], aad: &[u8], plain: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut nonce = [0; 24];
    getrandom::fill(&mut nonce).map_err(|_| StoreError::Random)?;
    let sealed = XChaCha20Poly1305::new(key.into())
        .encrypt(XNonce::from_slice(&nonce), Payload { msg: plain, aad })
        .map_err(|_| StoreError::Corrupt)?;
    Ok([&nonce[..], &sealed].concat())
}

pub(crate) fn unseal(key: &[u8; 32], aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let (nonce, msg) = sealed.split_first_chunk::<24>()?;
    XChaCha20Poly1305::new(key.into())
        .decrypt(XNonce::from_slice(nonce), Payload { msg, aad })
        .ok()
}

/// Opens the blob with luggage and ratchet tree.
pub(crate) fn open_tree(bundle: &Bundle, sealed: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let plain = unseal(&bundle.tree_key.0, TREE_LABEL, sealed)?;
    let (length, rest) = plain.split_first_chunk()?;
    let (luggage, tree) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    (<[u8; 32]>::from(Sha256::digest(luggage)) == bundle.luggage)
        .then(|| (luggage.to_vec(), tree.to_vec()))
}

impl Parcel {
    /// What stands in the welcome itself.
    pub(crate) fn bundle_bytes(&self) -> Result<Vec<u8>, Failure> {
        Ok(encode(&self.bundle)?.to_vec())
    }
}
