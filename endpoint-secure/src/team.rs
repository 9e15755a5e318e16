//! Organisations, teams and channels: what is kept of them, founding them, and listing them.
//!
//! How a device comes into a team is in `join` and `commit`; what is said in it is in `feed`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use endpoint_secure_api::{
    Answer, Channel as ApiChannel, ChannelId, Code, JoinStage, Suite, Team as ApiTeam, TeamId,
};
use proto::limits::GRANT_CHAIN;
use proto::{Chunk, Grant, GrantId, Limits, Name, Path, Place, PublicKey, Registration, Signer};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::device::checked;
use crate::device::session::{Failure, Session, refuse};
use crate::direct::DIRECT;
use crate::group::{Group, LeafSigner, Provider, StateId};
use crate::join::Joining;
use crate::message::{kind, name_body};
use crate::naming::{self, Credential, FOUNDER, FOUNDERS_SALT};
use crate::orgs::found_organisation;
use crate::states::{State, Used};
use crate::store::history::Spot;
use crate::store::{Kind, StoreError};

/// The team that administers an organisation.
pub(crate) const ADMINISTRATION: u32 = 1;
/// The channel every team begins with.
const FIRST_CHANNEL: (u16, &str) = (1, "general");
/// Relays in one configuration, at most.
const RELAYS: usize = 16;
/// Former grants that are kept, at most.
const FORMER: usize = 4;

/// 32 secret bytes. Overwritten when dropped; `Debug` shows none of them.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    /// Draws a new one.
    ///
    /// # Errors
    /// [`StoreError::Random`].
    pub fn random() -> Result<Self, StoreError> {
        let mut seed = Self([0; 32]);
        getrandom::fill(&mut seed.0).map_err(|_| StoreError::Random)?;
        Ok(seed)
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(..)")
    }
}

/// Who this device is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Identity {
    /// The person's display name.
    pub user: String,
    /// The device's display name.
    pub device: String,
    /// The publishing key's seed.
    pub seed: Seed,
}

impl Identity {
    /// A new device.
    ///
    /// # Errors
    /// [`StoreError::Random`].
    pub fn new(user: &str, device: &str) -> Result<Self, StoreError> {
        Ok(Self {
            user: user.into(),
            device: device.into(),
            seed: Seed::random()?,
        })
    }

    /// The publishing key.
    pub fn signer(&self) -> Signer {
        Signer::from_seed(&self.seed.0)
    }
}

/// Origins and relays in use.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Network {
    /// Public keys of origins, in hex.
    pub origins: Vec<String>,
    /// `host:port#key`, or domains.
    pub relays: Vec<String>,
    /// Relays that a person has compared.
    #[serde(default)]
    pub pins: Vec<Pin>,
    /// Keys of relays that a person has refused, in hex.
    #[serde(default)]
    pub refused: Vec<String>,
    /// Whether to serve the local network.
    #[serde(default)]
    pub serve: Option<bool>,
}

/// A relay that a person has compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Its name on its network.
    pub name: String,
    /// Its key, in hex.
    pub key: String,
}

impl Network {
    /// The configuration as the network process reads it.
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "origins": self.origins,
            "relays": self.relays,
            "pins": self.pins,
            "refused": self.refused,
            "serve": self.serve,
        })
        .to_string()
    }
}

/// Numbers that are never used twice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The last MLS namespace.
    pub namespace: i64,
    /// The last local number of a channel.
    pub channel: i64,
    /// The last number of a change that this device is to make.
    pub operation: u64,
    /// When this device had last heard everything that there was of a team.
    #[serde(default)]
    pub in_touch_ms: BTreeMap<TeamId, u64>,
}

/// An organisation that was founded on this device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Organisation {
    /// The origin's public key.
    pub origin: [u8; 32],
    /// Its number there.
    pub org: u32,
    /// Its name.
    pub name: String,
    /// Its key.
    pub seed: Seed,
    /// Grants from the origin to its key.
    pub chain: Vec<Vec<u8>>,
    /// When its grants end.
    pub not_after_ms: u64,
}

impl Organisation {
    /// Its chain, if that ends with a grant.
    pub fn chain_of(&self, grant: GrantId) -> Option<Vec<Chunk>> {
        let chunks = decode_chain(&self.chain);
        let last = chunks.last().map(GrantId::of);
        (last == Some(grant)).then_some(chunks)
    }

    /// What it is found by.
    pub fn key(&self) -> (u32, u32) {
        (PublicKey(self.origin).origin_id().get(), self.org)
    }
}

/// What somebody needs to found a team.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Founding {
    /// The origin's public key.
    pub origin: [u8; 32],
    /// The number of the organisation there.
    pub org: u32,
    /// The organisation's name.
    pub organisation: String,
    /// Grants from the origin to the founder's device.
    pub chain: Vec<Vec<u8>>,
    /// When the last of them ends.
    pub not_after_ms: u64,
}

/// A device of a team, present or gone: its number is never given again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Member {
    /// Its publishing key.
    pub publishing: [u8; 32],
    /// The epoch it came with.
    pub since: u64,
}

/// A team this device is in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Team {
    /// Its number.
    pub id: TeamId,
    /// Its name.
    pub name: String,
    /// The organisation's name.
    pub organisation: String,
    /// The origin's public key.
    pub origin: [u8; 32],
    /// Its cipher suite.
    pub suite: Suite,
    /// The seed of this device's leaf signing key.
    pub seed: Seed,
    /// This device's number.
    pub device: u32,
    /// Grants from the origin to this device, root first.
    pub chain: Vec<Vec<u8>>,
    /// When the last of them ends.
    pub not_after_ms: u64,
    /// What leads devices of members into the team, and back into it.
    pub return_key: Seed,
    /// The state in use.
    pub tip: StateId,
    /// The epoch this device came with: older messages are not for it.
    pub joined_epoch: u64,
    /// All devices there ever were.
    pub members: BTreeMap<u32, Member>,
    /// The number of the next blob of this device.
    pub next_blob: u32,
    /// Grants that this device had before: what it signed with them may still be on its way.
    pub former: Vec<Vec<Vec<u8>>>,
    /// States of branches that lost.
    pub lost: BTreeSet<StateId>,
    /// Whether this device was removed.
    pub removed: bool,
    /// Devices whose grants this device has ended.
    #[serde(default)]
    pub ended: BTreeSet<u32>,
    /// Fingerprints of devices that others have let in, by the number of who did.
    #[serde(default)]
    pub linked: BTreeMap<u32, BTreeSet<[u8; 32]>>,
    /// Whether this profile is a copy of the one whose device this is.
    #[serde(default)]
    pub copied: bool,
    /// When this device came in; 0 for the founder's.
    #[serde(default)]
    pub joined_ms: u64,
    /// When this device last renewed its leaf.
    pub renewed_ms: u64,
}

impl Team {
    /// The paths whose names an admin fills and hands on.
    pub const PATHS: [Path; 5] = [
        Path::Message,
        Path::Welcome,
        Path::Commit,
        Path::Blob,
        Path::Grant,
    ];

    /// Whether this device does not speak in it any more.
    pub fn is_out(&self) -> bool {
        self.removed || self.copied
    }

    /// Why it does not.
    pub fn farewell(&self) -> &'static str {
        if self.copied {
            "this profile is a copy, and is not in the team again yet; an admin has to add it"
        } else {
            "this device was removed from the team"
        }
    }

    /// Whether a grant of this device leaves room for an admin's below it, and a device's below that.
    pub fn may_make_admins(&self) -> bool {
        self.chain.len() + 2 <= GRANT_CHAIN
    }

    /// Publishes under another grant from now on, if it is for this device.
    pub fn take_chain(&mut self, chain: &[Vec<u8>]) {
        if self.chain == chain || self.former.iter().any(|one| one == chain) {
            return;
        }
        if self.former.len() >= FORMER {
            self.former.remove(0);
        }
        let old = std::mem::replace(&mut self.chain, chain.to_vec());
        self.former.push(old);
        let last = self.chunks().pop();
        self.not_after_ms = last.map_or(self.not_after_ms, |chunk| chunk.expiry().millis());
    }

    /// The chain that ends with a grant, of those this device has or had.
    pub fn chain_of(&self, grant: GrantId) -> Option<Vec<Chunk>> {
        let all = std::iter::once(&self.chain).chain(&self.former);
        let mut all = all.map(|chain| decode_chain(chain));
        all.find(|chunks| chunks.last().is_some_and(|last| GrantId::of(last) == grant))
    }

    /// The grant of this device.
    pub fn grant(&self) -> GrantId {
        self.chunks().last().map_or(GrantId::NONE, GrantId::of)
    }

    /// The chain of grants.
    pub fn chunks(&self) -> Vec<Chunk> {
        decode_chain(&self.chain)
    }
}

fn decode_chain(chain: &[Vec<u8>]) -> Vec<Chunk> {
    let chunks = chain.iter();
    chunks
        .filter_map(|bytes| Chunk::decode(bytes.clone().into()).ok())
        .collect()
}

/// A channel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Channel {
    /// Its number.
    pub id: ChannelId,
    /// The local number that rows of its messages carry.
    pub row: i64,
    /// Its name; empty until its entry comes.
    pub name: String,
    /// The newest message that was seen.
    pub read: Spot,
    /// The logical time and author of the name: among admins who are apart, the later one counts.
    pub named: (u64, u32),
}

/// A prefix that is subscribed to, and how far it was read.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Subscription {
    /// The first name under it.
    pub first: u128,
    /// Its length in bits.
    pub bits: u8,
    /// Where to go on; empty for the beginning.
    #[serde(with = "crate::store::bytes")]
    pub cursor: Vec<u8>,
}

pub(crate) fn channel_bytes(id: ChannelId) -> Vec<u8> {
    [&naming::team_bytes(id.team)[..], &id.channel.to_be_bytes()].concat()
}

pub(crate) fn state_bytes(team: TeamId, state: StateId) -> Vec<u8> {
    [&naming::team_bytes(team)[..], &state].concat()
}

fn random_u32() -> Result<u32, StoreError> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes).map_err(|_| StoreError::Random)?;
    Ok(u32::from_be_bytes(bytes))
}

impl Session {
    pub(crate) fn create_organisation(
        &mut self,
        name: &str,
        registration: &str,
        relays: &[String],
    ) -> Result<Answer, Failure> {
        let name = checked(name)?;
        if registration.is_empty() {
            return self.create_on_lan(name, relays);
        }
        let Ok(registration) = Registration::from_text(registration) else {
            return refuse(
                Code::Configuration,
                "this is not the text that `treeline-relay org register` printed; copy all of it",
            );
        };
        let origin = registration.origin.origin_id();
        let id = naming::team_id(Place {
            origin,
            org: registration.org,
            team: ADMINISTRATION,
        });
        if let Some(team) = self.memory.teams.get(&id) {
            // Founding twice is founding once: the registration is good for one organisation.
            return Ok(Answer::Team(self.team_answer(team)));
        }
        self.register(&registration, name, relays)
    }

    pub(crate) fn register(
        &mut self,
        registration: &Registration,
        name: String,
        relays: &[String],
    ) -> Result<Answer, Failure> {
        let (origin, org, team) = (
            registration.origin.origin_id(),
            registration.org,
            ADMINISTRATION,
        );
        let id = naming::team_id(Place { origin, org, team });
        let organisation = found_organisation(registration, name)?;
        self.store
            .put(Kind::Organisation, &naming::team_bytes(id), &organisation)?;
        self.memory
            .organisations
            .insert(organisation.key(), organisation.clone());
        let own = self.memory.signer.public_key().fingerprint();
        self.put_certificate(organisation.certify(own))?;
        self.configure_with(registration.origin, relays)?;
        let title = organisation.name.clone();
        let founding = organisation.founding(id, self.memory.signer.public_key())?;
        self.found_team(id, founding, title, Suite::default())
    }

    pub(crate) fn create_team(&mut self, name: &str, suite: Suite) -> Result<Answer, Failure> {
        let name = checked(name)?;
        let Some(organisation) = self.memory.organisations.values().next().cloned() else {
            return refuse(
                Code::Forbidden,
                "this device administers no organisation; found one first",
            );
        };
        let (origin, org) = organisation.key();
        let id = loop {
            let team = random_u32()? % DIRECT;
            let id = TeamId { origin, org, team };
            if team > ADMINISTRATION && !self.memory.teams.contains_key(&id) {
                break id;
            }
        };
        let founding = organisation.founding(id, self.memory.signer.public_key())?;
        self.found_team(id, founding, name, suite)
    }

    pub(crate) fn found_team(
        &mut self,
        id: TeamId,
        founding: Founding,
        name: String,
        suite: Suite,
    ) -> Result<Answer, Failure> {
        let seed = Seed::random()?;
        let signer = LeafSigner::from_seed(&seed.0);
        let credential = self.credential(id, FOUNDERS_SALT, &signer);
        let namespace = self.new_namespace()?;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let group = Group::found(&provider, id, suite, &signer, &credential)?;
        let founder = Member {
            publishing: credential.publishing,
            since: 0,
        };
        let team = Team {
            id,
            name: name.clone(),
            organisation: founding.organisation,
            origin: founding.origin,
            suite,
            seed,
            device: FOUNDER,
            chain: founding.chain,
            not_after_ms: founding.not_after_ms,
            return_key: Seed::random()?,
            tip: group.state_id(),
            joined_epoch: group.epoch(),
            members: BTreeMap::from([(FOUNDER, founder)]),
            next_blob: 0,
            former: Vec::new(),
            lost: BTreeSet::new(),
            removed: false,
            copied: false,
            ended: BTreeSet::new(),
            linked: BTreeMap::new(),
            joined_ms: 0,
            renewed_ms: self.now.millis(),
        };
        let key = team.members[&FOUNDER].publishing;
        let state = State {
            devices: [FOUNDER].into(),
            used: Used::default().with([(FOUNDER, key)]),
            ..State::root(id, &group, namespace, self.now)?
        };
        self.groups.insert(namespace, group);
        self.enter(team, state)?;
        self.publish_name(id, 0, &name)?;
        self.publish_name(id, FIRST_CHANNEL.0, FIRST_CHANNEL.1)?;
        self.know_channel(id, FIRST_CHANNEL.0, FIRST_CHANNEL.1)?;
        Ok(Answer::Team(self.team_answer(&self.memory.teams[&id])))
    }

    /// What this device's leaf in a team says.
    pub(crate) fn credential(
        &self,
        team: TeamId,
        salt: [u8; 16],
        signer: &LeafSigner,
    ) -> Credential {
        let identity = &self.memory.identity;
        let names = (identity.user.as_str(), identity.device.as_str());
        Credential::bind(
            (names, self.certificate_for(team).cloned()),
            &self.memory.signer,
            salt,
            team,
            &signer.public(),
        )
    }

    /// Writes a team this device has come into, its state, and its two subscriptions.
    pub(crate) fn enter(&mut self, team: Team, state: State) -> Result<(), Failure> {
        let (id, place) = (team.id, naming::place(team.id));
        self.subscribe(Name::team_prefix(place, Path::Commit))?;
        self.subscribe(Name::team_prefix(place, Path::Message))?;
        self.put_team(team)?;
        self.know_channel(id, 0, "")?;
        self.add_state(state)
    }

    pub(crate) fn put_team(&mut self, team: Team) -> Result<(), Failure> {
        self.store
            .put(Kind::Team, &naming::team_bytes(team.id), &team)?;
        self.told.teams = true;
        self.told.channels.insert(team.id);
        self.memory.teams.insert(team.id, team);
        Ok(())
    }

    pub(crate) fn create_channel(&mut self, team: TeamId, name: &str) -> Result<Answer, Failure> {
        let name = checked(name)?;
        let known = self.administered(team)?;
        let rank = self.tip(known)?.roles.rank(known.device).unwrap_or(0);
        let channel = self.free_channel(team, rank)?;
        self.publish_name(team, channel, &name)?;
        self.know_channel(team, channel, &name)?;
        let channel = &self.memory.channels[&ChannelId { team, channel }];
        Ok(Answer::Channel(self.channel_answer(channel)?))
    }

    /// The owner takes the next number; others draw one, for they may create channels apart.
    fn free_channel(&self, team: TeamId, rank: usize) -> Result<u16, Failure> {
        let taken: BTreeSet<u16> = self.channels_of(team).map(|one| one.id.channel).collect();
        let free: Vec<u16> = (1..1 << 10).filter(|one| !taken.contains(one)).collect();
        let draw = if rank == 0 { 0 } else { random_u32()? as usize };
        match free.get(draw % free.len().max(1)) {
            Some(channel) => Ok(*channel),
            None => refuse(Code::Forbidden, "a team has at most 1,023 channels"),
        }
    }

    fn publish_name(&mut self, team: TeamId, channel: u16, name: &str) -> Result<(), Failure> {
        let settings = ChannelId { team, channel: 0 };
        let written = self.write(settings, kind::NAME, &name_body(channel, name))?;
        self.know_channel(team, channel, "")?;
        let lamport = self.newest_lamport(settings);
        if let Some(known) = self.memory.channels.get_mut(&ChannelId { team, channel }) {
            known.named = (lamport, written.device);
            self.store
                .put(Kind::Channel, &channel_bytes(known.id), known)?;
        }
        Ok(())
    }

    /// Makes a channel known, or gives it a name. Gives its local number.
    pub(crate) fn know_channel(
        &mut self,
        team: TeamId,
        channel: u16,
        name: &str,
    ) -> Result<i64, Failure> {
        let id = ChannelId { team, channel };
        let known = self.memory.channels.get(&id);
        if let Some(known) = known
            && (name.is_empty() || known.name == name)
        {
            return Ok(known.row);
        }
        let channel = match known {
            Some(known) => Channel {
                name: name.into(),
                ..known.clone()
            },
            None => {
                self.memory.counters.channel += 1;
                self.store.put(Kind::Counters, b"", &self.memory.counters)?;
                Channel {
                    id,
                    row: self.memory.counters.channel,
                    name: name.into(),
                    read: Spot::default(),
                    named: (0, 0),
                }
            }
        };
        self.store
            .put(Kind::Channel, &channel_bytes(id), &channel)?;
        self.told.channels.insert(team);
        let row = channel.row;
        self.memory.channels.insert(id, channel);
        Ok(row)
    }

    /// Takes a name that the admin wrote into channel 0.
    pub(crate) fn learn_name(
        &mut self,
        team: TeamId,
        (channel, name): (u16, &str),
        order: (u64, u32),
    ) -> Result<(), Failure> {
        self.know_channel(team, channel, "")?;
        let id = ChannelId { team, channel };
        if let Some(known) = self.memory.channels.get_mut(&id) {
            if known.named > order {
                return Ok(());
            }
            known.named = order;
            self.store.put(Kind::Channel, &channel_bytes(id), known)?;
        }
        if channel > 0 {
            self.know_channel(team, channel, name)?;
        } else if let Some(known) = self.memory.teams.get(&team)
            && known.name != name
        {
            let named = Team {
                name: name.into(),
                ..known.clone()
            };
            self.put_team(named)?;
        }
        Ok(())
    }

    /// Adds an origin and relays to the network's configuration.
    pub(crate) fn configure_with(
        &mut self,
        origin: PublicKey,
        relays: &[String],
    ) -> Result<(), Failure> {
        let network = &mut self.memory.network;
        let origin = origin.to_hex();
        if !network.origins.contains(&origin) {
            network.origins.push(origin);
        }
        for relay in relays {
            if !is_relay(relay) {
                return refuse(
                    Code::Configuration,
                    "a relay is written host:port#key, with a key of 64 hex digits, or is a domain",
                );
            }
            if !network.relays.contains(relay) && network.relays.len() < RELAYS {
                network.relays.push(relay.clone());
            }
        }
        self.store.put(Kind::Network, b"", &self.memory.network)?;
        self.told.configure = true;
        Ok(())
    }

    pub(crate) fn configure(&mut self) -> Result<(), Failure> {
        self.told.configure = !self.memory.network.origins.is_empty();
        Ok(())
    }

    pub(crate) fn team(&self, id: TeamId) -> Result<&Team, Failure> {
        match self.memory.teams.get(&id) {
            Some(team) => Ok(team),
            None if self.memory.joining.contains_key(&id) => refuse(
                Code::Usage,
                "this device is not in that team yet; its admin has to add it",
            ),
            None => refuse(Code::NotFound, "this device is in no such team"),
        }
    }

    pub(crate) fn channels_of(&self, team: TeamId) -> impl Iterator<Item = &Channel> {
        let id = |channel| ChannelId { team, channel };
        self.memory
            .channels
            .range(id(0)..=id(u16::MAX))
            .map(|(_, channel)| channel)
    }

    pub(crate) fn teams(&self) -> Answer {
        let joined = self.memory.teams.values();
        let joined = joined.map(|team| self.team_answer(team));
        let joining = self.memory.joining.values();
        let joining = joining
            .filter(|one| !self.memory.teams.contains_key(&one.team))
            .map(Joining::answer);
        let mut teams: Vec<ApiTeam> = joined.chain(joining).collect();
        teams.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Answer::Teams(teams)
    }

    pub(crate) fn team_answer(&self, team: &Team) -> ApiTeam {
        let state = self.memory.states.get(&(team.id, team.tip));
        let back = self.way_back(team);
        ApiTeam {
            id: team.id,
            name: team.name.clone(),
            organisation: team.organisation.clone(),
            epoch: state.map_or(0, |state| state.epoch),
            devices: state.map_or(0, |state| state.devices.len() as u32),
            suite: team.suite,
            admin: !team.is_out()
                && state.is_some_and(|state| state.roles.rank(team.device).is_some()),
            stage: back.as_ref().map_or(JoinStage::Joined, |back| back.stage),
            own_device: team.device,
            removed: team.is_out(),
            waiting: self.count_waiting(team.id),
            code: state.map_or_else(String::new, |state| state.code.clone()),
            refused: back.map_or_else(String::new, |back| back.refused),
            direct: team.id.team >= DIRECT,
        }
    }

    pub(crate) fn channels(&self, team: TeamId) -> Result<Answer, Failure> {
        self.team(team)?;
        let shown = self.channels_of(team).filter(|one| one.id.channel > 0);
        let channels = shown
            .map(|channel| self.channel_answer(channel))
            .collect::<Result<_, _>>()?;
        Ok(Answer::Channels(channels))
    }

    fn channel_answer(&self, channel: &Channel) -> Result<ApiChannel, Failure> {
        let (messages, unread, newest_ms) = self.store.count_messages(channel.row, channel.read)?;
        let name = match channel.name.as_str() {
            "" => format!("channel {}", channel.id.channel),
            name => name.into(),
        };
        let tip = self.tip(self.team(channel.id.team)?)?;
        Ok(ApiChannel {
            id: channel.id,
            announce: tip.roles.announce.contains(&channel.id.channel),
            name,
            messages,
            unread,
            newest_ms,
        })
    }

    pub(crate) fn tip_namespace(&self, team: &Team) -> Result<i64, Failure> {
        match self.tip(team)?.namespace {
            Some(namespace) if !team.is_out() => Ok(namespace),
            _ => refuse(Code::Forbidden, team.farewell()),
        }
    }
}

/// `host:port#key`, `domain` or `domain#key`. Net reads it exactly; here it is kept from being nonsense.
fn is_relay(text: &str) -> bool {
    let (place, key) = match text.split_once('#') {
        Some((place, key)) => (place, PublicKey::from_hex(key).is_some()),
        None => (text, !text.contains(':')),
    };
    let named = place.contains('.') || place.contains(':');
    text.len() <= 300 && key && named && !place.contains(char::is_whitespace)
}

/// The limits of a grant, which one under it may have too.
pub(crate) fn allowed(parent: &Chunk) -> Limits {
    Grant::decode(parent).map_or_else(|_| Limits::default(), |grant| grant.limits)
}

/// Signs a grant under the last of a chain, with what that one allows and no more, and gives the longer
/// chain.
pub(crate) fn issue(
    grant: &Grant,
    (place, device): (Place, u32),
    chain: &[Vec<u8>],
    issuer: &Signer,
) -> Result<Vec<Vec<u8>>, Failure> {
    let parent = chain
        .last()
        .and_then(|bytes| Chunk::decode(bytes.clone().into()).ok())
        .ok_or(StoreError::Corrupt)?;
    let grant = Grant {
        limits: allowed(&parent),
        ..grant.clone()
    };
    let Ok(chunk) = grant.sign(place, device, GrantId::of(&parent), issuer) else {
        return refuse(Code::Usage, "the grant is too long");
    };
    let mut longer = chain.to_vec();
    longer.push(chunk.encoded().to_vec());
    Ok(longer)
}
