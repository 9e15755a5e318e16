//! Several devices in one process, connected by a hub that behaves like the network process: it
//! stores chunks, acknowledges them, and serves subscriptions; and it can shuffle, duplicate and
//! cut. There is no thread and no clock in here.

#![allow(dead_code, reason = "each test file uses its part of the hub")]

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use endpoint_secure::device::{Asker, Device, Effect, Event};
use endpoint_secure::lock::Cost;
use endpoint_secure_api::{
    Anchor, Answer, Channel, ChannelId, Command, Event as ApiEvent, JoinStage, Message, Passphrase,
    Refusal, Suite, Team, TeamId,
};
use proto::{
    Chunk, Cursor, Fields, Frame, Grant, GrantId, Hello, Name, Outcome, Prefix, PublicKey, Refused,
    Registration, Signer, Start, Tier, Timestamp, Verbs,
};
use tempfile::TempDir;

pub const CHEAP: Cost = Cost {
    memory_kib: 64,
    passes: 1,
};
/// A device that has something to do within this time is not at rest, in milliseconds.
const SOON_MS: u64 = 40_000;
pub const PASSPHRASE: &str = "six words that nobody else knows";

/// One chunk store and its links.
pub struct Hub {
    pub origin: Signer,
    pub log: Vec<Chunk>,
    pub names: BTreeMap<Name, usize>,
    pub grants: BTreeMap<GrantId, (Grant, Chunk)>,
    pub links: Vec<Link>,
    /// Deliver what a subscription yields in another order, and some of it twice.
    pub shuffle: bool,
    /// How far chunks come.
    pub tier: Tier,
    pub now: Timestamp,
    /// Chunks that are not served yet.
    pub withheld: BTreeSet<Name>,
    random: u64,
}

pub struct Link {
    pub up: bool,
    /// Whether the hub takes and acknowledges, and sends nothing of what it has.
    pub silent: bool,
    subscriptions: BTreeMap<u32, (Prefix, usize)>,
    used_ids: Vec<u32>,
    granted: Vec<GrantId>,
    to_device: VecDeque<Frame>,
}

/// A device with its directory and what came out of it.
pub struct Member {
    pub directory: TempDir,
    pub device: Option<Device>,
    pub answers: BTreeMap<u64, Result<Answer, Refusal>>,
    pub events: Vec<ApiEvent>,
    pub configuration: String,
    pub next_id: u64,
    /// Effects that the network may still take, before the process is killed.
    pub budget: Option<usize>,
}

impl Hub {
    pub fn new() -> Self {
        Self {
            origin: Signer::from_seed(&[9; 32]),
            log: Vec::new(),
            names: BTreeMap::new(),
            grants: BTreeMap::new(),
            links: Vec::new(),
            shuffle: false,
            tier: Tier::Origin,
            now: Timestamp::from_millis(1_800_000_000_000),
            withheld: BTreeSet::new(),
            random: 42,
        }
    }

    pub fn registration(&self, org: u32) -> String {
        let seed = [org as u8 + 100; 32];
        let end = self.now.plus_millis(3_000 * 24 * 3600 * 1000);
        let registration = Registration::issue(&self.origin, org, seed, end).unwrap();
        registration.to_text().to_string()
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % limit.max(1)
    }

    fn take(&mut self, link: usize, frame: Frame) {
        match frame {
            Frame::Hello(_) => {}
            Frame::Grant(chain) => self.take_grants(link, &chain),
            Frame::Publish(chunks) => {
                let mut acks = Vec::new();
                for chunk in chunks {
                    let outcome = self.store(Some(link), chunk.clone());
                    acks.push((chunk.name(), outcome));
                    if outcome == Outcome::Stored(Tier::Device) {
                        let farther = (1..=self.tier as u8).filter_map(Tier::from_number);
                        acks.extend(farther.map(|tier| (chunk.name(), Outcome::Stored(tier))));
                    }
                }
                self.links[link].to_device.push_back(Frame::Ack(acks));
            }
            Frame::Subscribe {
                id, prefix, start, ..
            } => {
                let link = &mut self.links[link];
                assert!(!link.used_ids.contains(&id), "an id is never used twice");
                link.used_ids.push(id);
                let at = match start {
                    Start::After(cursor) => {
                        u64::from_be_bytes(cursor.as_bytes().try_into().unwrap()) as usize
                    }
                    _ => 0,
                };
                link.subscriptions.insert(id, (prefix, at));
            }
            Frame::Unsubscribe { id } => {
                assert!(self.links[link].subscriptions.remove(&id).is_some());
            }
            other => panic!("a device sends no {other:?}"),
        }
    }

    fn take_grants(&mut self, link: usize, chain: &[Chunk]) {
        let mut parent = Grant::from_origin(&chain[0], &self.origin.public_key()).unwrap();
        for (index, chunk) in chain.iter().enumerate() {
            if index > 0 {
                assert_eq!(chunk.grant(), GrantId::of(&chain[index - 1]));
                parent = Grant::from_issuer(chunk, &parent).unwrap();
            }
            let id = GrantId::of(chunk);
            self.grants.insert(id, (parent.clone(), chunk.clone()));
            self.links[link].granted.push(id);
        }
    }

    /// What an honest relay does with a chunk. `None` for a link: a hostile hub stores anything.
    pub fn store(&mut self, link: Option<usize>, chunk: Chunk) -> Outcome {
        if let Some(at) = self.names.get(&chunk.name()) {
            return if self.log[*at] == chunk {
                Outcome::Stored(self.tier)
            } else {
                Outcome::Refused(Refused::Conflict)
            };
        }
        if let Some(link) = link {
            if let Err(refused) = self.check(link, &chunk) {
                return Outcome::Refused(refused);
            }
            self.names.insert(chunk.name(), self.log.len());
        }
        self.log.push(chunk);
        Outcome::Stored(Tier::Device)
    }

    fn check(&self, link: usize, chunk: &Chunk) -> Result<(), Refused> {
        let key: PublicKey = if chunk.grant() == GrantId::NONE {
            chunk.check_key_package(self.now)?
        } else {
            if !self.links[link].granted.contains(&chunk.grant()) {
                return Err(Refused::NoGrant);
            }
            let (grant, _) = &self.grants[&chunk.grant()];
            grant.check(chunk, self.now)?;
            assert!(grant.permits(Verbs::PUBLISH, chunk.name()));
            grant.subject
        };
        if chunk.verifies(&key) {
            Ok(())
        } else {
            Err(Refused::BadSignature)
        }
    }

    /// Keeps chunks back.
    pub fn withhold(&mut self, which: impl Fn(Fields) -> bool) {
        let names = self.names.keys().filter(|name| which(name.fields()));
        self.withheld.extend(names);
    }

    /// Lets what was kept back come after all.
    pub fn release(&mut self) {
        for name in std::mem::take(&mut self.withheld) {
            let chunk = self.log[self.names[&name]].clone();
            self.log.push(chunk);
        }
    }

    /// Serves the subscriptions of a link from its log.
    fn serve(&mut self, link: usize) {
        let ids: Vec<u32> = self.links[link].subscriptions.keys().copied().collect();
        for id in ids {
            let (prefix, at) = self.links[link].subscriptions[&id];
            let mut chunks: Vec<Chunk> = self.log[at..]
                .iter()
                .filter(|chunk| prefix.contains(chunk.name()))
                .filter(|chunk| !self.withheld.contains(&chunk.name()))
                .cloned()
                .collect();
            if at == self.log.len() {
                continue;
            }
            if self.shuffle {
                for index in (1..chunks.len()).rev() {
                    let other = self.below(index + 1);
                    chunks.swap(index, other);
                }
                let again = chunks.iter().step_by(7).cloned().collect::<Vec<_>>();
                chunks.extend(again);
            }
            let end = self.log.len();
            let state = &mut self.links[link];
            state.subscriptions.insert(id, (prefix, end));
            for part in chunks.chunks(32) {
                state.to_device.push_back(Frame::Chunks {
                    id,
                    chunks: part.to_vec(),
                });
            }
            state.to_device.push_back(Frame::CaughtUp {
                id,
                cursor: Cursor::new((end as u64).to_be_bytes().to_vec()).unwrap(),
                live: true,
            });
        }
    }
}

/// The hub and all devices.
pub struct World {
    pub hub: Hub,
    pub members: Vec<Member>,
    /// Who does not go in at once.
    pub looks: BTreeSet<usize>,
}

impl World {
    pub fn new() -> Self {
        Self {
            hub: Hub::new(),
            members: Vec::new(),
            looks: BTreeSet::new(),
        }
    }

    /// A new device with a profile, linked to the hub.
    pub fn member(&mut self, user: &str) -> usize {
        let directory = tempfile::tempdir().unwrap();
        let device = Device::open(directory.path(), CHEAP).unwrap();
        self.members.push(Member {
            directory,
            device: Some(device),
            answers: BTreeMap::new(),
            events: Vec::new(),
            configuration: String::new(),
            next_id: 1,
            budget: None,
        });
        self.hub.links.push(Link {
            up: false,
            silent: false,
            subscriptions: BTreeMap::new(),
            used_ids: Vec::new(),
            granted: Vec::new(),
            to_device: VecDeque::new(),
        });
        let at = self.members.len() - 1;
        let create = Command::CreateProfile {
            passphrase: Passphrase::new(PASSPHRASE.into()),
            user: user.into(),
            device: format!("{user}s laptop"),
        };
        self.ask(at, create).unwrap();
        self.link(at);
        at
    }

    pub fn handle(&mut self, at: usize, event: Event) {
        let now = self.hub.now;
        let Some(device) = self.members[at].device.as_mut() else {
            return;
        };
        device.handle(event, now);
        while let Some(effect) = self.members[at]
            .device
            .as_mut()
            .and_then(Device::next_effect)
        {
            let member = &mut self.members[at];
            match effect {
                Effect::Answer(asker, answer) => {
                    member.answers.insert(asker.id, answer);
                }
                Effect::Event(event) => member.events.push(event),
                Effect::Configure(text) => member.configuration = text,
                Effect::CloseNet(why) => panic!("{why}"),
                Effect::Frame(frame) => {
                    if let Some(budget) = &mut member.budget {
                        if *budget == 0 {
                            self.kill(at);
                            return;
                        }
                        *budget -= 1;
                    }
                    if self.hub.links[at].up {
                        self.hub.take(at, frame);
                    }
                }
            }
        }
    }

    pub fn ask(&mut self, at: usize, command: Command) -> Result<Answer, Refusal> {
        let member = &mut self.members[at];
        let id = member.next_id;
        member.next_id += 1;
        self.handle(at, Event::Command(Asker { door: 1, id }, command));
        self.members[at].answers.remove(&id).unwrap_or_else(|| {
            Err(Refusal::new(
                endpoint_secure_api::Code::Unreachable,
                "killed",
            ))
        })
    }

    pub fn link(&mut self, at: usize) {
        let link = &mut self.hub.links[at];
        link.up = true;
        link.subscriptions.clear();
        link.used_ids.clear();
        link.granted.clear();
        link.to_device.clear();
        link.to_device.push_back(Frame::Hello(Hello {
            oldest: 1,
            newest: 1,
            features: 0,
            tier: Tier::Device,
            time: self.hub.now,
            store: [7; 16],
        }));
        self.handle(at, Event::NetUp);
    }

    pub fn unlink(&mut self, at: usize) {
        self.hub.links[at].up = false;
        self.hub.links[at].to_device.clear();
        self.handle(at, Event::NetDown);
    }

    /// The process is gone, at any moment; its files stay.
    pub fn kill(&mut self, at: usize) {
        self.members[at].device = None;
        self.members[at].budget = None;
        self.hub.links[at].up = false;
        self.hub.links[at].to_device.clear();
    }

    /// It is started again and unlocked.
    pub fn start(&mut self, at: usize) {
        let device = Device::open(self.members[at].directory.path(), CHEAP).unwrap();
        self.members[at].device = Some(device);
        let unlock = Command::Unlock {
            passphrase: Passphrase::new(PASSPHRASE.into()),
        };
        self.ask(at, unlock).unwrap();
        self.link(at);
    }

    /// Time passes; what is on its way arrives, and what is due is done.
    pub fn step(&mut self, ms: u64) -> bool {
        self.hub.now = self.hub.now.plus_millis(ms);
        let mut moved = false;
        for at in 0..self.members.len() {
            if !self.hub.links[at].up {
                continue;
            }
            if !self.hub.links[at].silent {
                self.hub.serve(at);
            }
            while let Some(frame) = self.hub.links[at].to_device.pop_front() {
                moved = true;
                self.handle(at, Event::Net(frame));
            }
            let due = self.members[at]
                .device
                .as_ref()
                .and_then(Device::next_timeout)
                .is_some_and(|time| time <= self.hub.now);
            if due {
                self.handle(at, Event::Tick);
            }
        }
        moved
    }

    /// Delivers until nothing moves; every round is a second.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let moved = self.step(1000);
            let soon = self.hub.now.plus_millis(SOON_MS);
            let waits = |member: &Member| {
                let timeout = member.device.as_ref().and_then(Device::next_timeout);
                timeout.is_some_and(|time| time <= soon)
            };
            let linked = |at: &usize| self.hub.links[*at].up;
            let mut all = (0..self.members.len()).filter(linked);
            if !moved && !all.any(|at| waits(&self.members[at])) && !self.enter_all() {
                return;
            }
        }
        panic!("the devices do not come to rest");
    }

    /// Everybody who was admitted goes in, but for those who look first.
    fn enter_all(&mut self) -> bool {
        let mut moved = false;
        for at in 0..self.members.len() {
            if !self.hub.links[at].up || self.looks.contains(&at) {
                continue;
            }
            for team in self.teams(at) {
                if team.stage == JoinStage::Admitted {
                    self.ask(at, Command::Enter { team: team.id }).unwrap();
                    moved = true;
                }
            }
        }
        moved
    }

    pub fn fingerprint(&mut self, at: usize) -> String {
        match self.ask(at, Command::Status).unwrap() {
            Answer::Status(status) => status.profile.unwrap().fingerprint,
            other => panic!("{other:?}"),
        }
    }

    pub fn organisation(&mut self, at: usize) -> Team {
        let registration = self.hub.registration(5);
        let create = Command::CreateOrganisation {
            name: "Lighthouse keepers".into(),
            registration,
            relays: vec![format!("127.0.0.1:7000#{}", "ab".repeat(32))],
        };
        team(self.ask(at, create))
    }

    pub fn team(&mut self, at: usize, suite: Suite) -> Team {
        let name = "Night watch".into();
        team(self.ask(at, Command::CreateTeam { name, suite }))
    }

    pub fn invite(&mut self, at: usize, team: TeamId) -> String {
        match self
            .ask(at, Command::CreateInvite { team, hours: None })
            .unwrap()
        {
            Answer::Invite(invite) => invite.text,
            other => panic!("{other:?}"),
        }
    }

    /// Brings a device into a team of another.
    pub fn bring_in(&mut self, admin: usize, id: TeamId, at: usize) {
        let invite = self.invite(admin, id);
        team(self.ask(at, Command::Join { invite }));
        let fingerprint = self.fingerprint(at);
        self.ask(
            admin,
            Command::AddDevice {
                team: id,
                fingerprint,
            },
        )
        .unwrap();
        self.settle();
    }

    /// A founder and one more member in a team.
    pub fn pair(suite: Suite) -> (Self, ChannelId) {
        let mut world = Self::new();
        let (ada, bob) = (world.member("Ada"), world.member("Bob"));
        world.organisation(ada);
        let team = world.team(ada, suite);
        world.bring_in(ada, team.id, bob);
        let channel = ChannelId {
            team: team.id,
            channel: 1,
        };
        (world, channel)
    }

    pub fn say(&mut self, at: usize, channel: ChannelId, text: &str) {
        let token = self.members[at].next_id;
        self.ask(
            at,
            Command::Send {
                channel,
                text: text.into(),
                token,
            },
        )
        .unwrap();
    }

    pub fn page(&mut self, at: usize, channel: ChannelId) -> Vec<Message> {
        let mut messages: Vec<Message> = Vec::new();
        loop {
            let anchor = messages
                .last()
                .map_or(Anchor::Oldest, |last| Anchor::After { id: last.id });
            let ask = Command::Timeline {
                channel,
                anchor,
                count: Command::PAGE_LIMIT,
            };
            match self.ask(at, ask).unwrap() {
                Answer::Page(page) => {
                    messages.extend(page.messages);
                    if !page.more_after {
                        assert_eq!(page.total as usize, messages.len());
                        return messages;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    pub fn texts(&mut self, at: usize, channel: ChannelId) -> Vec<String> {
        let page = self.page(at, channel);
        page.into_iter().map(|message| message.text).collect()
    }

    pub fn channels(&mut self, at: usize, team: TeamId) -> Vec<Channel> {
        match self.ask(at, Command::Channels { team }).unwrap() {
            Answer::Channels(channels) => channels,
            other => panic!("{other:?}"),
        }
    }

    /// The team as a device sees it.
    pub fn team_of(&mut self, at: usize, id: TeamId) -> Team {
        let mut teams = self.teams(at).into_iter();
        teams.find(|team| team.id == id).unwrap()
    }

    pub fn teams(&mut self, at: usize) -> Vec<Team> {
        match self.ask(at, Command::Teams).unwrap() {
            Answer::Teams(teams) => teams,
            other => panic!("{other:?}"),
        }
    }
}

/// The first channel of a team.
pub fn first(team: TeamId) -> ChannelId {
    ChannelId { team, channel: 1 }
}

pub fn team(answer: Result<Answer, Refusal>) -> Team {
    match answer.unwrap() {
        Answer::Team(team) => team,
        other => panic!("{other:?}"),
    }
}
