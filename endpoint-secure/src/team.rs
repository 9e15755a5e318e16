//! Organisations, teams and channels: what is kept of them, founding them, and listing them.
//!
//! How a device comes into a team is in `join` and `commit`; what is said in it is in `feed`.

use std::collections::BTreeMap;
use std::fmt;

use endpoint_secure_api::{
    Answer, Channel as ApiChannel, ChannelId, Code, Device as ApiDevice, JoinStage, Suite,
    Team as ApiTeam, TeamId,
};
use proto::{
    Chunk, Grant, GrantId, Limits, Name, Path, Pattern, Place, PublicKey, Registration, Rule,
    Signer, Timestamp, Verbs,
};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::device::checked;
use crate::device::session::{Failure, Session, refuse};
use crate::group::{Group, LeafSigner, Provider, StateId};
use crate::message::{kind, name_body};
use crate::naming::{self, Credential, FOUNDER};
use crate::store::history::Spot;
use crate::store::{Kind, StoreError};

/// The team that administers an organisation.
const ADMINISTRATION: u32 = 1;
/// The channel every team begins with.
const FIRST_CHANNEL: (u16, &str) = (1, "general");
/// Relays in one configuration, at most.
const RELAYS: usize = 16;
/// States that are kept of a team, at most, and for how long: late messages need their state.
const STATES_KEPT: usize = 64;
const STATES_KEPT_MS: u64 = 30 * proto::limits::DAY_MS;

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
    /// `host:port#key`.
    pub relays: Vec<String>,
}

impl Network {
    /// The configuration as the network process reads it.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "origins": self.origins, "relays": self.relays }).to_string()
    }
}

/// Numbers that are never used twice.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Counters {
    /// The last MLS namespace.
    pub namespace: i64,
    /// The last local number of a channel.
    pub channel: i64,
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
    /// What it is found by.
    pub fn key(&self) -> (u32, u32) {
        (PublicKey(self.origin).origin_id().get(), self.org)
    }
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
    /// Seals key packages of those who hold an invite, so that relays read no names.
    pub invite_key: Seed,
    /// The state in use.
    pub tip: StateId,
    /// The epoch this device came with: older messages are not for it.
    pub joined_epoch: u64,
    /// All devices there ever were.
    pub members: BTreeMap<u32, Member>,
    /// The number of the next blob of this device.
    pub next_blob: u32,
}

impl Team {
    /// The grant of this device.
    pub fn grant(&self) -> GrantId {
        self.chunks().last().map_or(GrantId::NONE, GrantId::of)
    }

    /// The chain of grants.
    pub fn chunks(&self) -> Vec<Chunk> {
        self.chain
            .iter()
            .filter_map(|bytes| Chunk::decode(bytes.clone().into()).ok())
            .collect()
    }
}

/// A state of a team's group.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// The team.
    pub team: TeamId,
    /// The state.
    pub id: StateId,
    /// The state it came from.
    pub parent: Option<StateId>,
    /// Where its MLS state lies.
    pub namespace: i64,
    /// Its epoch.
    pub epoch: u64,
    /// When it was made here.
    pub made_ms: u64,
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
        let organisation = found_organisation(&registration, name)?;
        self.store
            .put(Kind::Organisation, &naming::team_bytes(id), &organisation)?;
        self.memory
            .organisations
            .insert(organisation.key(), organisation.clone());
        self.configure_with(registration.origin, relays)?;
        let title = organisation.name.clone();
        self.found_team(id, &organisation, title, Suite::default())
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
            let team = random_u32()? & Place::TEAM_MAX;
            let id = TeamId { origin, org, team };
            if team > ADMINISTRATION && !self.memory.teams.contains_key(&id) {
                break id;
            }
        };
        self.found_team(id, &organisation, name, suite)
    }

    fn found_team(
        &mut self,
        id: TeamId,
        organisation: &Organisation,
        name: String,
        suite: Suite,
    ) -> Result<Answer, Failure> {
        let seed = Seed::random()?;
        let signer = LeafSigner::from_seed(&seed.0);
        let identity = &self.memory.identity;
        let credential = Credential::bind(
            (&identity.user, &identity.device),
            &self.memory.signer,
            [0; 16],
            id,
            &signer.public(),
        );
        let namespace = self.new_namespace()?;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let group = Group::found(&provider, id, suite, &signer, &credential)?;
        let chain = founder_chain(organisation, id, self.memory.signer.public_key())?;
        let founder = Member {
            publishing: credential.publishing,
            since: 0,
        };
        let team = Team {
            id,
            name: name.clone(),
            organisation: organisation.name.clone(),
            origin: organisation.origin,
            suite,
            seed,
            device: FOUNDER,
            chain,
            not_after_ms: organisation.not_after_ms,
            invite_key: Seed::random()?,
            tip: group.state_id(),
            joined_epoch: group.epoch(),
            members: BTreeMap::from([(FOUNDER, founder)]),
            next_blob: 0,
        };
        self.enter(team, &group, namespace, None)?;
        self.groups.insert(namespace, group);
        self.publish_name(id, 0, &name)?;
        self.publish_name(id, FIRST_CHANNEL.0, FIRST_CHANNEL.1)?;
        self.know_channel(id, FIRST_CHANNEL.0, FIRST_CHANNEL.1)?;
        Ok(Answer::Team(self.team_answer(&self.memory.teams[&id])))
    }

    /// Writes a team this device has come into, its state, and its two subscriptions.
    pub(crate) fn enter(
        &mut self,
        team: Team,
        group: &Group,
        namespace: i64,
        parent: Option<StateId>,
    ) -> Result<(), Failure> {
        let (id, place) = (team.id, naming::place(team.id));
        self.subscribe(Name::team_prefix(place, Path::Commit))?;
        self.subscribe(Name::team_prefix(place, Path::Message))?;
        self.add_state(id, group, namespace, parent)?;
        self.put_team(team)?;
        self.know_channel(id, 0, "")?;
        Ok(())
    }

    pub(crate) fn put_team(&mut self, team: Team) -> Result<(), Failure> {
        self.store
            .put(Kind::Team, &naming::team_bytes(team.id), &team)?;
        self.told.teams = true;
        self.told.channels.insert(team.id);
        self.memory.teams.insert(team.id, team);
        Ok(())
    }

    pub(crate) fn add_state(
        &mut self,
        team: TeamId,
        group: &Group,
        namespace: i64,
        parent: Option<StateId>,
    ) -> Result<(), Failure> {
        let state = State {
            team,
            id: group.state_id(),
            parent,
            namespace,
            epoch: group.epoch(),
            made_ms: self.now.millis(),
        };
        self.store
            .put(Kind::State, &state_bytes(team, state.id), &state)?;
        self.memory.states.insert((team, state.id), state);
        self.prune_states(team)
    }

    /// Deletes the secrets of states that are too many or too old.
    fn prune_states(&mut self, team: TeamId) -> Result<(), Failure> {
        let tip = self.memory.teams.get(&team).map(|team| team.tip);
        let mut states: Vec<State> = self
            .memory
            .states
            .values()
            .filter(|state| state.team == team && Some(state.id) != tip)
            .cloned()
            .collect();
        states.sort_by_key(|state| std::cmp::Reverse(state.epoch));
        let oldest = self.now.millis().saturating_sub(STATES_KEPT_MS);
        for (index, state) in states.into_iter().enumerate() {
            if index >= STATES_KEPT || state.made_ms < oldest {
                self.store.delete_mls(state.namespace)?;
                self.store
                    .delete(Kind::State, &state_bytes(team, state.id))?;
                self.groups.remove(&state.namespace);
                self.memory.states.remove(&(team, state.id));
            }
        }
        Ok(())
    }

    pub(crate) fn create_channel(&mut self, team: TeamId, name: &str) -> Result<Answer, Failure> {
        let name = checked(name)?;
        if self.team(team)?.device != FOUNDER {
            return refuse(
                Code::Forbidden,
                "only the team's admin may create a channel",
            );
        }
        let last = self.channels_of(team).map(|one| one.id.channel).max();
        let channel = last.unwrap_or(0) + 1;
        if channel >= 1 << 10 {
            return refuse(Code::Forbidden, "a team has at most 1,023 channels");
        }
        self.publish_name(team, channel, &name)?;
        self.know_channel(team, channel, &name)?;
        let channel = &self.memory.channels[&ChannelId { team, channel }];
        Ok(Answer::Channel(self.channel_answer(channel)?))
    }

    fn publish_name(&mut self, team: TeamId, channel: u16, name: &str) -> Result<(), Failure> {
        let settings = ChannelId { team, channel: 0 };
        self.write(settings, kind::NAME, &name_body(channel, name))?;
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
        channel: u16,
        name: &str,
    ) -> Result<(), Failure> {
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
                    "a relay is written host:port#key, with a key of 64 hex digits",
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
        let joined = self
            .memory
            .teams
            .values()
            .map(|team| self.team_answer(team));
        let joining = self.memory.joining.values().map(|one| one.answer());
        let mut teams: Vec<ApiTeam> = joined.chain(joining).collect();
        teams.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Answer::Teams(teams)
    }

    pub(crate) fn team_answer(&self, team: &Team) -> ApiTeam {
        let state = self.memory.states.get(&(team.id, team.tip));
        ApiTeam {
            id: team.id,
            name: team.name.clone(),
            organisation: team.organisation.clone(),
            epoch: state.map_or(0, |state| state.epoch),
            devices: team.members.len() as u32,
            suite: team.suite,
            admin: team.device == FOUNDER,
            stage: JoinStage::Joined,
            own_device: team.device,
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
        Ok(ApiChannel {
            id: channel.id,
            name,
            messages,
            unread,
            newest_ms,
        })
    }

    pub(crate) fn devices(&mut self, id: TeamId) -> Result<Answer, Failure> {
        let team = self.team(id)?.clone();
        let namespace = self.tip_namespace(&team)?;
        self.load_group(id, namespace)?;
        let mut devices: Vec<ApiDevice> = self.groups[&namespace]
            .leaves()
            .into_iter()
            .map(|leaf| ApiDevice {
                device: leaf.device,
                fingerprint: leaf.credential.publishing_key().fingerprint().to_hex(),
                user: leaf.credential.user,
                name: leaf.credential.device_name,
                admin: leaf.device == FOUNDER,
                own: leaf.device == team.device,
            })
            .collect();
        devices.sort_by_key(|device| device.device);
        Ok(Answer::Devices(devices))
    }

    pub(crate) fn tip_namespace(&self, team: &Team) -> Result<i64, Failure> {
        let state = self.memory.states.get(&(team.id, team.tip));
        Ok(state.ok_or(StoreError::Corrupt)?.namespace)
    }
}

fn is_relay(text: &str) -> bool {
    text.len() <= 300
        && text.split_once('#').is_some_and(|(address, key)| {
            address.contains(':') && PublicKey::from_hex(key).is_some()
        })
}

fn found_organisation(registration: &Registration, name: String) -> Result<Organisation, Failure> {
    let seed = Seed::random()?;
    let origin = registration.origin.origin_id();
    let not_after = registration.grant.expiry();
    let grant = Grant {
        subject: Signer::from_seed(&seed.0).public_key(),
        not_after,
        limits: Limits::default(),
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

/// The founder's device may fill every name of its team, so that it can grant them.
fn founder_chain(
    organisation: &Organisation,
    team: TeamId,
    subject: PublicKey,
) -> Result<Vec<Vec<u8>>, Failure> {
    let place = naming::place(team);
    let paths = [
        Path::Message,
        Path::Welcome,
        Path::Commit,
        Path::Blob,
        Path::Grant,
    ];
    let rules = paths.map(|path| Rule {
        verbs: Verbs::ALL,
        pattern: Pattern::of_prefix(Name::team_prefix(place, path)),
    });
    let grant = Grant {
        subject,
        not_after: Timestamp::from_millis(organisation.not_after_ms),
        limits: Limits::default(),
        rules: rules.into(),
    };
    issue(
        &grant,
        (place, FOUNDER),
        &organisation.chain,
        &Signer::from_seed(&organisation.seed.0),
    )
}

/// Signs a grant under the last of a chain, and gives the longer chain.
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
    let Ok(chunk) = grant.sign(place, device, GrantId::of(&parent), issuer) else {
        return refuse(Code::Usage, "the grant is too long");
    };
    let mut longer = chain.to_vec();
    longer.push(chunk.encoded().to_vec());
    Ok(longer)
}
