//! Feeds: writing an entry into this device's feed of a channel, and taking the entries of others.
//!
//! An entry takes as many numbers as it has chunks. The name of its first chunk is authenticated
//! beside the ciphertext, so that nobody can move an entry to another channel, device or number.
//! Source: docs/protocol.md, "Feed entry".

use endpoint_secure_api::{Answer, ChannelId, Code, Command, Delivery, MessageId, TeamId};
use proto::limits::{MESSAGE_FRAGMENTS, MESSAGE_LIFE_MS};
use proto::{Chunk, Fields, Name, split};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::device::session::{Failure, Session, refuse};
use crate::evidence::Misdeed;
use crate::fault::{Fault, planted};
use crate::group::{self, GroupError, Leaf, LeafSigner, Opened, Provider, StateId};
use crate::message::{self, Entry, kind};
use crate::naming;
use crate::pending::Taken;
use crate::states::State;
use crate::store::history::{Kept, Sealed};
use crate::store::{Kind, StoreError};
use crate::team::{Team, channel_bytes};

/// Messages from behind fences that are kept, at most.
const FENCED: usize = 4096;
/// Numbers of a feed: 20 bits of the name.
const NUMBERS: u32 = 1 << 20;

/// How far one device's feed in one channel is known.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Feed {
    /// The local number of the channel.
    pub channel: i64,
    /// The device's number.
    pub device: u32,
    /// The number after the newest entry.
    pub next: u32,
    /// The hash of the newest entry.
    pub hash: [u8; 16],
    /// The highest logical time in it.
    pub lamport: u64,
    /// The first number that this device could ever read.
    pub base: u32,
}

/// A message from behind its author's fence: kept, for the branch with that fence may lose.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Fenced {
    /// Where it was written.
    pub channel: ChannelId,
    /// The local number of the channel.
    pub row: i64,
    /// Its author.
    pub device: u32,
    /// Its number.
    pub number: u32,
}

/// An entry of somebody else, as it came out of the group.
struct Arrived {
    leaf: Leaf,
    entry: Entry,
    hash: [u8; 16],
    chunks: u32,
}

impl Feed {
    fn key(&self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..8].copy_from_slice(&self.channel.to_be_bytes());
        key[8..].copy_from_slice(&self.device.to_be_bytes());
        key
    }
}

impl Session {
    pub(crate) fn send(
        &mut self,
        channel: ChannelId,
        text: &str,
        token: u64,
    ) -> Result<Answer, Failure> {
        if text.is_empty() || text.len() > Command::TEXT_LIMIT {
            return refuse(Code::Usage, "a message has 1 byte to 64 KiB of text");
        }
        self.team(channel.team)?;
        if channel.channel == 0 || !self.memory.channels.contains_key(&channel) {
            return refuse(Code::NotFound, "the team has no such channel");
        }
        let key = [&channel_bytes(channel)[..], &token.to_be_bytes()].concat();
        if let Some(sent) = self.store.get::<MessageId>(Kind::Token, &key)? {
            return Ok(Answer::Sent(sent));
        }
        let team = self.team(channel.team)?;
        if !team.is_out()
            && !self
                .tip(team)?
                .roles
                .may_write(team.device, channel.channel)
        {
            return refuse(Code::Forbidden, "only admins write in this channel");
        }
        let sent = self.write(channel, kind::TEXT, text.as_bytes())?;
        self.store.put(Kind::Token, &key, &sent)?;
        Ok(Answer::Sent(sent))
    }

    /// Writes an entry, or holds it while a removal has to be made again first.
    pub(crate) fn write(
        &mut self,
        channel: ChannelId,
        kind: u8,
        body: &[u8],
    ) -> Result<MessageId, Failure> {
        let created_ms = self.now.millis();
        if self.holds_sending(channel.team) {
            return self.hold(channel, (kind, body), created_ms);
        }
        self.write_now(channel, (kind, body), created_ms)
    }

    /// Writes an entry: encrypted, signed, in the outbox and in the history, all in this event.
    pub(crate) fn write_now(
        &mut self,
        channel: ChannelId,
        (kind, body): (u8, &[u8]),
        created_ms: u64,
    ) -> Result<MessageId, Failure> {
        let team = self.team(channel.team)?.clone();
        let row = self.know_channel(channel.team, channel.channel, "")?;
        let feed = self.feed(row, team.device);
        let name = Name::new(
            naming::place(team.id),
            Fields::Message {
                channel: channel.channel,
                device: team.device,
                number: feed.next,
            },
        );
        let namespace = self.tip_namespace(&team)?;
        self.load_group(team.id, namespace)?;
        let mut entry = self.compose(&team, &feed, namespace, (kind, body))?;
        entry.created_ms = created_ms;
        let plain = entry.encode();
        let sealed = self.encrypt(&team, namespace, name, &plain)?;
        let chunks = self.sign_message(&team, name, &sealed)?;
        let owner = (row, team.device, feed.next);
        for chunk in &chunks {
            self.store.post(chunk, owner)?;
        }
        let hash = message::hash(&plain);
        let identity = self.memory.identity.clone();
        self.store.put_message(&Kept {
            channel: row,
            device: team.device,
            number: feed.next,
            chunks: chunks.len() as u32,
            sent_ms: entry.created_ms,
            shown: kind == kind::TEXT,
            own: true,
            delivery: Delivery::Queued,
            sealed: Sealed {
                user: identity.user,
                device_name: identity.device,
                kind,
                body: entry.body,
                hash,
                failure: String::new(),
                state: team.tip,
            },
        })?;
        let id = MessageId {
            channel,
            device: team.device,
            number: feed.next,
        };
        self.put_feed(Feed {
            next: feed.next + chunks.len() as u32,
            hash,
            lamport: entry.lamport,
            ..feed
        })?;
        self.witness(team.id, team.tip, team.device)?;
        self.told.messages.insert(channel);
        self.told.queue_moved = true;
        Ok(id)
    }

    /// The highest logical time that is known in a channel.
    pub(crate) fn newest_lamport(&self, channel: ChannelId) -> u64 {
        let row = self.memory.channels.get(&channel).map_or(0, |one| one.row);
        let feeds = self.memory.feeds.range((row, 0)..=(row, u32::MAX));
        feeds.map(|(_, feed)| feed.lamport).max().unwrap_or(0)
    }

    pub(crate) fn compose(
        &self,
        team: &Team,
        feed: &Feed,
        namespace: i64,
        (kind, body): (u8, &[u8]),
    ) -> Result<Entry, Failure> {
        let seen = self
            .memory
            .feeds
            .range((feed.channel, 0)..=(feed.channel, u32::MAX));
        let lamport = seen.map(|(_, feed)| feed.lamport).max().unwrap_or(0) + 1;
        let group = self.groups.get(&namespace).ok_or(StoreError::Corrupt)?;
        Ok(Entry {
            kind,
            created_ms: self.now.millis(),
            number: feed.next,
            prev_hash: feed.hash,
            lamport,
            heads_digest: self.heads_digest(feed.channel),
            state_id: team.tip,
            auth_tag: group.auth_tag(),
            body: body.to_vec(),
        })
    }

    pub(crate) fn encrypt(
        &mut self,
        team: &Team,
        namespace: i64,
        name: Name,
        plain: &[u8],
    ) -> Result<Vec<u8>, Failure> {
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let group = self.groups.get_mut(&namespace).ok_or(StoreError::Corrupt)?;
        let signer = LeafSigner::from_seed(&team.seed.0);
        Ok(group.encrypt(&provider, &signer, aad(team.tip, name), plain)?)
    }

    fn sign_message(&self, team: &Team, first: Name, object: &[u8]) -> Result<Vec<Chunk>, Failure> {
        let Ok(parts) = split(object, MESSAGE_FRAGMENTS) else {
            return refuse(Code::Usage, "the message is too long");
        };
        let Fields::Message { number, .. } = first.fields() else {
            return refuse(Code::Usage, "that is not the name of a message");
        };
        if number + parts.len() as u32 >= NUMBERS {
            return refuse(
                Code::Forbidden,
                "this device has written all its messages in that channel; use another channel",
            );
        }
        self.sign_run(team, first, &parts, MESSAGE_LIFE_MS)
    }

    /// Signs the parts of an object under consecutive names.
    pub(crate) fn sign_run(
        &self,
        team: &Team,
        first: Name,
        parts: &[Vec<u8>],
        life_ms: u64,
    ) -> Result<Vec<Chunk>, Failure> {
        let latest = team.not_after_ms;
        let expiry = self
            .now
            .plus_millis(life_ms)
            .min(proto::Timestamp::from_millis(latest));
        let grant = team.grant();
        let mut chunks = Vec::with_capacity(parts.len());
        for (index, part) in parts.iter().enumerate() {
            let chunk = first
                .offset(index as u32)
                .and_then(|name| Chunk::sign(name, expiry, grant, part, &self.memory.signer).ok());
            match chunk {
                Some(chunk) => chunks.push(chunk),
                None => return refuse(Code::Usage, "that does not fit its names"),
            }
        }
        Ok(chunks)
    }

    pub(crate) fn feed(&self, channel: i64, device: u32) -> Feed {
        self.memory
            .feeds
            .get(&(channel, device))
            .cloned()
            .unwrap_or(Feed {
                channel,
                device,
                ..Feed::default()
            })
    }

    fn put_feed(&mut self, feed: Feed) -> Result<(), Failure> {
        self.store.put(Kind::Feed, &feed.key(), &feed)?;
        self.memory.feeds.insert((feed.channel, feed.device), feed);
        Ok(())
    }

    /// Forgets how far the feeds of a channel are known, but for one.
    pub(crate) fn forget_feeds(&mut self, channel: i64, but: u32) -> Result<(), Failure> {
        let feeds = self.memory.feeds.range((channel, 0)..=(channel, u32::MAX));
        let others = feeds.filter(|(key, _)| key.1 != but);
        let others: Vec<Feed> = others.map(|(_, feed)| feed.clone()).collect();
        for feed in others {
            self.store.delete(Kind::Feed, &feed.key())?;
            self.memory.feeds.remove(&(feed.channel, feed.device));
        }
        Ok(())
    }

    /// What this device has seen of all feeds of a channel.
    fn heads_digest(&self, channel: i64) -> [u8; 8] {
        let mut hash = Sha256::new();
        hash.update(b"treeline heads 1");
        for (_, feed) in self.memory.feeds.range((channel, 0)..=(channel, u32::MAX)) {
            hash.update(feed.device.to_be_bytes());
            hash.update(feed.next.to_be_bytes());
            hash.update(feed.hash);
        }
        let full: [u8; 32] = hash.finalize().into();
        let mut digest = [0; 8];
        digest.copy_from_slice(&full[..8]);
        digest
    }

    pub(crate) fn wants_message(&self, team: TeamId, name: Name) -> Result<bool, Failure> {
        let Some(known) = self.memory.teams.get(&team) else {
            return Ok(false);
        };
        let Fields::Message {
            channel,
            device,
            number,
        } = name.fields()
        else {
            return Ok(false);
        };
        if device == known.device {
            return Ok(false);
        }
        let Some(channel) = self.memory.channels.get(&ChannelId { team, channel }) else {
            return Ok(true);
        };
        let before = self.store.message_before(channel.row, device, number + 1)?;
        Ok(before.is_none_or(|(first, chunks)| first + chunks <= number))
    }

    pub(crate) fn take_message(
        &mut self,
        first: Name,
        count: u32,
        object: &[u8],
    ) -> Result<Taken, Failure> {
        let team = self.team(naming::team_id(first.place()))?.clone();
        let Some((_, state)) = route(first, object) else {
            return Ok(Taken::Done);
        };
        // One that may still come is waited for before this: `lacks_state`.
        let Some(state) = self.memory.states.get(&(team.id, state)) else {
            return Ok(Taken::Done);
        };
        let Some(namespace) = state.namespace else {
            return Ok(Taken::Done);
        };
        let state = state.id;
        let Some(opened) = self.decrypt((team.id, namespace), object)? else {
            return Ok(Taken::Done);
        };
        let Some(entry) = Entry::decode(&opened.plain) else {
            return Ok(Taken::Done);
        };
        let fits = matches!(first.fields(), Fields::Message { device, number, .. }
            if device == opened.leaf.device && number == entry.number)
            && entry.state_id == state;
        if fits {
            let hash = message::hash(&opened.plain);
            let arrived = Arrived {
                leaf: opened.leaf,
                entry,
                hash,
                chunks: count,
            };
            self.keep(&team, (state, namespace), first, arrived)?;
        }
        Ok(Taken::Done)
    }

    /// The state that an object has to wait for, if it is a message.
    pub(crate) fn lacks_state(&self, first: Name, object: &[u8]) -> Option<StateId> {
        let id = naming::team_id(first.place());
        let team = self.memory.teams.get(&id)?;
        let Fields::Message { .. } = first.fields() else {
            return None;
        };
        let (epoch, state) = route(first, object)?;
        let known = self.memory.states.contains_key(&(id, state));
        (!known && self.may_come(team, epoch)).then_some(state)
    }

    /// Whether a state that is not here may come with a commit: it is neither older than this device
    /// in the team nor than all states that are kept.
    fn may_come(&self, team: &Team, epoch: u64) -> bool {
        let oldest = self.states(team.id).map(|state| state.epoch).min();
        epoch >= team.joined_epoch && oldest.is_none_or(|oldest| epoch >= oldest)
    }

    fn decrypt(
        &mut self,
        (team, namespace): (TeamId, i64),
        object: &[u8],
    ) -> Result<Option<Opened>, Failure> {
        self.load_group(team, namespace)?;
        let provider = Provider::new(&self.store, &self.crypto, namespace);
        let group = self.groups.get_mut(&namespace).ok_or(StoreError::Corrupt)?;
        match group.decrypt(&provider, object) {
            Ok(opened) => Ok(Some(opened)),
            Err(GroupError::Store(error)) => Err(error.into()),
            Err(_) => Ok(None),
        }
    }

    fn keep(
        &mut self,
        team: &Team,
        (id, namespace): (StateId, i64),
        first: Name,
        arrived: Arrived,
    ) -> Result<(), Failure> {
        let Fields::Message {
            channel, device, ..
        } = first.fields()
        else {
            return Ok(());
        };
        let entry = &arrived.entry;
        if self.groups[&namespace].auth_tag() != entry.auth_tag {
            let tags = [self.groups[&namespace].auth_tag(), entry.auth_tag];
            self.accuse(team.id, device, Misdeed::OtherSecrets { state: id, tags })?;
        }
        // Also what is too late to be shown is evidence of where its author stood.
        self.witness(team.id, id, device)?;
        self.saw(team.id, [device], entry.created_ms)?;
        let team = &self.team(team.id)?.clone();
        let ends = self.fence(team, device, channel);
        let fenced = ends.is_some_and(|next| entry.number >= next);
        if fenced && self.memory.fenced.len() >= FENCED {
            return Ok(());
        }
        let row = self.know_channel(team.id, channel, "")?;
        self.check_chain(team.id, (row, channel, device), entry)?;
        let roles = self
            .memory
            .states
            .get(&(team.id, id))
            .map(|state: &State| &state.roles);
        let is_admin = roles.is_some_and(|roles| roles.rank(device).is_some());
        let may = roles.is_some_and(|roles| roles.may_write(device, channel));
        let text = entry.kind == kind::TEXT
            && channel > 0
            && may
            && std::str::from_utf8(&entry.body).is_ok();
        self.put_arrived((row, device, id), &arrived, text && !fenced)?;
        if fenced && text {
            self.note_fenced(Fenced {
                channel: ChannelId {
                    team: team.id,
                    channel,
                },
                row,
                device,
                number: entry.number,
            })?;
        }
        self.move_feed(team, row, &arrived)?;
        if channel == 0 && !fenced {
            self.heed(team.id, is_admin, &arrived)?;
        }
        self.told.messages.insert(ChannelId {
            team: team.id,
            channel,
        });
        Ok(())
    }

    /// Does what an entry of channel 0 says.
    fn heed(&mut self, team: TeamId, is_admin: bool, arrived: &Arrived) -> Result<(), Failure> {
        let (entry, device) = (&arrived.entry, arrived.leaf.device);
        match entry.kind {
            kind::NAME if is_admin => match message::read_name(&entry.body) {
                Some((channel, name)) => {
                    self.learn_name(team, (channel, &name), (entry.lamport, device))
                }
                None => Ok(()),
            },
            kind::REQUEST => self.take_request(team, device, &entry.body),
            _ => Ok(()),
        }
    }

    fn put_arrived(
        &self,
        (channel, device, state): (i64, u32, StateId),
        arrived: &Arrived,
        shown: bool,
    ) -> Result<(), Failure> {
        let (entry, credential) = (&arrived.entry, &arrived.leaf.credential);
        Ok(self.store.put_message(&Kept {
            channel,
            device,
            number: entry.number,
            chunks: arrived.chunks,
            // An author's clock may be ahead; nothing stands in the future.
            sent_ms: entry.created_ms.min(self.now.millis()),
            shown,
            own: false,
            delivery: Delivery::Origin,
            sealed: Sealed {
                user: credential.user.clone(),
                device_name: credential.device_name.clone(),
                kind: entry.kind,
                body: entry.body.clone(),
                hash: arrived.hash,
                failure: String::new(),
                state,
            },
        })?)
    }

    fn note_fenced(&mut self, fenced: Fenced) -> Result<(), Failure> {
        let key = (fenced.row, fenced.device, fenced.number);
        self.store.put(Kind::Fenced, &fenced_bytes(key), &fenced)?;
        self.memory.fenced.insert(key, fenced);
        Ok(())
    }

    /// Hides what a device has written in a channel since a time, by its own clock. Gives the first of it.
    pub(crate) fn hide_since(
        &mut self,
        (channel, row, device): (ChannelId, i64, u32),
        at: proto::Timestamp,
    ) -> Result<Option<u32>, Failure> {
        let later = self.store.written_since(row, device, at.millis())?;
        let Some(first) = later.first().copied() else {
            return Ok(None);
        };
        let shown = self.store.shown_from(row, device, first)?;
        for number in shown.into_iter().filter(|one| later.contains(one)) {
            self.hide((channel, row, device), number)?;
        }
        Ok(Some(first))
    }

    /// Hides what came from behind a fence before the fence did: all who stay show the same.
    pub(crate) fn raise_fences(&mut self, team: &Team) -> Result<(), Failure> {
        if planted(Fault::FencesOpen) {
            return Ok(());
        }
        let channels: Vec<(ChannelId, i64)> = self
            .channels_of(team.id)
            .map(|channel| (channel.id, channel.row))
            .collect();
        for device in self.removed_on_path(team.id) {
            for (channel, row) in channels.iter().filter(|_| device != team.device) {
                let ends = self.fence(team, device, channel.channel);
                for number in self
                    .store
                    .shown_from(*row, device, ends.unwrap_or(u32::MAX))?
                {
                    self.hide((*channel, *row, device), number)?;
                }
            }
        }
        Ok(())
    }

    /// Hides a message that is shown; it is shown again if what hid it goes.
    fn hide(
        &mut self,
        (channel, row, device): (ChannelId, i64, u32),
        number: u32,
    ) -> Result<(), Failure> {
        let Some(mut kept) = self.store.message(row, device, number)? else {
            return Ok(());
        };
        kept.shown = false;
        self.store.put_message(&kept)?;
        self.told.messages.insert(channel);
        // Of more than that, what is hidden stays hidden.
        if self.memory.fenced.len() >= FENCED {
            return Ok(());
        }
        self.note_fenced(Fenced {
            channel,
            row,
            device,
            number,
        })
    }

    /// Shows what came from behind a fence that is not on the way to the tip any more.
    pub(crate) fn lift_fences(&mut self, team: &Team) -> Result<(), Failure> {
        let ours = self.memory.fenced.values();
        let free: Vec<Fenced> = ours
            .filter(|one| one.channel.team == team.id)
            .filter(|one| {
                let ends = self.fence(team, one.device, one.channel.channel);
                ends.is_none_or(|next| one.number < next)
            })
            .cloned()
            .collect();
        for one in free {
            let key = (one.row, one.device, one.number);
            if let Some(mut kept) = self.store.message(one.row, one.device, one.number)? {
                kept.shown = true;
                self.store.put_message(&kept)?;
            }
            self.store.delete(Kind::Fenced, &fenced_bytes(key))?;
            self.memory.fenced.remove(&key);
        }
        Ok(())
    }

    /// What a removed device wrote behind its fence is never to be shown.
    pub(crate) fn drop_fenced(&mut self, team: TeamId, device: u32) -> Result<(), Failure> {
        let all = self.memory.fenced.iter();
        let ours = all.filter(|(_, one)| (one.channel.team, one.device) == (team, device));
        let keys: Vec<_> = ours.map(|(key, _)| *key).collect();
        for key in keys {
            self.store.delete(Kind::Fenced, &fenced_bytes(key))?;
            self.memory.fenced.remove(&key);
        }
        Ok(())
    }

    fn move_feed(&mut self, team: &Team, row: i64, arrived: &Arrived) -> Result<(), Failure> {
        let (device, entry) = (arrived.leaf.device, &arrived.entry);
        let known = self.memory.feeds.contains_key(&(row, device));
        let mut feed = self.feed(row, device);
        if !known {
            // Of a device that came after this one everything should be here, from number 0.
            let member = team.members.get(&device);
            let whole = member.is_some_and(|member| member.since > team.joined_epoch);
            feed.base = if whole { 0 } else { entry.number };
        }
        feed.base = feed.base.min(entry.number);
        if entry.number + arrived.chunks > feed.next {
            feed.next = entry.number + arrived.chunks;
            feed.hash = arrived.hash;
        }
        feed.lamport = feed.lamport.max(entry.lamport);
        self.put_feed(feed)
    }

    /// Compares the entry's link with the entry directly before it, if that is here.
    fn check_chain(
        &mut self,
        team: TeamId,
        (row, channel, device): (i64, u16, u32),
        entry: &Entry,
    ) -> Result<(), Failure> {
        let feed = self.memory.feeds.get(&(row, device));
        let before = match feed {
            Some(feed) if feed.next == entry.number => Some(feed.hash),
            _ => match self.store.message_before(row, device, entry.number)? {
                Some((number, chunks)) if number + chunks == entry.number => self
                    .store
                    .message(row, device, number)?
                    .map(|kept| kept.sealed.hash),
                _ => None,
            },
        };
        let first = (entry.number == 0).then_some([0; 16]);
        if before.or(first).is_some_and(|hash| hash != entry.prev_hash) {
            let number = entry.number;
            self.accuse(team, device, Misdeed::BrokenFeed { channel, number })?;
        }
        Ok(())
    }
}

fn fenced_bytes((row, device, number): (i64, u32, u32)) -> Vec<u8> {
    let (device, number) = (device.to_be_bytes(), number.to_be_bytes());
    [&row.to_be_bytes()[..], &device, &number].concat()
}

/// The epoch and the state that a message says it is of, if it is for its name.
fn route(first: Name, object: &[u8]) -> Option<(u64, StateId)> {
    let (epoch, bytes) = group::peek(object)?;
    let (state, _) = bytes.split_first_chunk::<8>()?;
    (bytes == aad(*state, first)).then_some((epoch, *state))
}

fn aad(state: StateId, name: Name) -> Vec<u8> {
    [&state[..], &name.to_bytes()].concat()
}
