//! Whole devices on the real engine, each with a network process of its own, in islands that hear
//! each other. There is no thread and no clock in here.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use endpoint_secure_api::{
    Anchor, Answer, ChannelId, Command, Passphrase, Refusal, Role, Suite, TeamId,
};
use proto::{
    Chunk, Cursor, Fields, Frame, Grant, GrantId, Hello, Name, Outcome, Prefix, Refused,
    Registration, Signer, Start, Tier, Timestamp, Verbs,
};
use tempfile::TempDir;

use crate::device::session::Session;
use crate::device::{Asker, Device, Effect, Event};
use crate::lock::Cost;
use crate::states::State;

const CHEAP: Cost = Cost {
    memory_kib: 8,
    passes: 1,
};
const PASSPHRASE: &str = "six words that nobody else knows";
/// What is due later than this does not keep a world from being at rest, in milliseconds.
const SOON_MS: u64 = 60_000;

/// Draws numbers from a seed.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0x5DEE_CE66_D1CE_4E5B | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit.max(1)
    }
}

/// What a device's network process has, and who listens to it.
#[derive(Clone, Default)]
struct Net {
    log: Vec<Chunk>,
    names: BTreeMap<Name, usize>,
    /// With how far each is served, and whether it has yet to hear of the end of its backlog.
    subscriptions: BTreeMap<u32, (Prefix, usize, bool)>,
    to_device: VecDeque<Frame>,
    up: bool,
}

/// A device with its directory.
pub struct Peer {
    directory: TempDir,
    pub device: Option<Device>,
    net: Net,
    pub island: usize,
    answers: BTreeMap<u64, Result<Answer, Refusal>>,
    next_id: u64,
    pub told: Vec<String>,
    /// Whether it follows rules of its own: nothing is promised to it.
    pub lies: bool,
}

/// All of it.
pub struct World {
    pub peers: Vec<Peer>,
    pub now: Timestamp,
    origin: Signer,
    grants: BTreeMap<GrantId, Grant>,
    pub team: TeamId,
    /// What all had when they last exchanged: as long as it is so, nothing moves.
    rested: Vec<(usize, usize)>,
    /// A planted fault: some chunks never come to some.
    pub loses_chunks: bool,
    /// A planted fault: a device is started from the disk that it began with.
    pub restores_disks: bool,
    began_with: Vec<PathBuf>,
}

/// A world that stands still, from which others begin.
pub struct Template {
    directories: Vec<PathBuf>,
    nets: Vec<Net>,
    now: Timestamp,
    grants: BTreeMap<GrantId, Grant>,
    team: TeamId,
    _keep: Vec<TempDir>,
}

fn temporary() -> TempDir {
    // Where the system has a disk in memory, syncing costs nothing.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory).unwrap()
    } else {
        tempfile::tempdir().unwrap()
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

impl Template {
    /// A team whose first three are admins, and some devices beside it that may join later.
    pub fn new(members: usize, others: usize) -> Self {
        let mut world = World {
            peers: Vec::new(),
            now: Timestamp::from_millis(1_800_000_000_000),
            origin: Signer::from_seed(&[9; 32]),
            grants: BTreeMap::new(),
            team: TeamId {
                origin: 0,
                org: 0,
                team: 0,
            },
            rested: Vec::new(),
            loses_chunks: false,
            restores_disks: false,
            began_with: Vec::new(),
        };
        for number in 0..members + others {
            // One of the people has two devices.
            let person = if number == 4 { 3 } else { number };
            world.new_peer(&format!("peer {person}"));
        }
        let end = world.now.plus_millis(3_000 * 24 * 3600 * 1000);
        let registration = Registration::issue(&world.origin, 5, [105; 32], end).unwrap();
        let create = Command::CreateOrganisation {
            name: "Lighthouse".into(),
            registration: registration.to_text().to_string(),
            relays: vec![format!("127.0.0.1:7000#{}", "ab".repeat(32))],
        };
        world.ask(0, create).unwrap();
        let team = Command::CreateTeam {
            name: "Night".into(),
            suite: Suite::Classic,
        };
        let Answer::Team(team) = world.ask(0, team).unwrap() else {
            panic!("no team");
        };
        world.team = team.id;
        for at in 1..members {
            world.bring_in(0, at);
            world.settle();
        }
        for at in 1..3 {
            let device = world.number(at);
            let team = world.team;
            let role = Role::Admin;
            world
                .ask(0, Command::SetRole { team, device, role })
                .unwrap();
            world.settle();
        }
        for peer in &mut world.peers {
            peer.device = None;
            peer.net.up = false;
            peer.net.subscriptions.clear();
            peer.net.to_device.clear();
        }
        let directories = world
            .peers
            .iter()
            .map(|one| one.directory.path().to_owned())
            .collect();
        let nets = world.peers.iter().map(|one| one.net.clone()).collect();
        Self {
            directories,
            nets,
            now: world.now,
            grants: world.grants,
            team: world.team,
            _keep: world.peers.into_iter().map(|one| one.directory).collect(),
        }
    }

    pub fn world(&self) -> World {
        let mut world = World {
            peers: Vec::new(),
            now: self.now,
            origin: Signer::from_seed(&[9; 32]),
            grants: self.grants.clone(),
            team: self.team,
            rested: Vec::new(),
            loses_chunks: false,
            restores_disks: false,
            began_with: self.directories.clone(),
        };
        for (from, net) in self.directories.iter().zip(&self.nets) {
            let directory = temporary();
            copy(from, directory.path());
            world.peers.push(Peer {
                directory,
                device: None,
                net: net.clone(),
                island: 0,
                answers: BTreeMap::new(),
                next_id: 1_000,
                told: Vec::new(),
                lies: false,
            });
        }
        for at in 0..world.peers.len() {
            world.start(at);
        }
        world
    }
}

impl World {
    fn new_peer(&mut self, user: &str) {
        let directory = temporary();
        let device = Device::open(directory.path(), CHEAP).unwrap();
        self.peers.push(Peer {
            directory,
            device: Some(device),
            net: Net::default(),
            island: 0,
            answers: BTreeMap::new(),
            next_id: 1,
            told: Vec::new(),
            lies: false,
        });
        let at = self.peers.len() - 1;
        let create = Command::CreateProfile {
            passphrase: Passphrase::new(PASSPHRASE.into()),
            user: user.into(),
            device: "laptop".into(),
        };
        self.ask(at, create).unwrap();
        self.link(at);
    }

    pub fn channel(&self) -> ChannelId {
        ChannelId {
            team: self.team,
            channel: 1,
        }
    }

    fn link(&mut self, at: usize) {
        let net = &mut self.peers[at].net;
        net.up = true;
        net.subscriptions.clear();
        net.to_device.clear();
        net.to_device.push_back(Frame::Hello(Hello {
            oldest: 1,
            newest: 1,
            features: 0,
            tier: Tier::Device,
            time: self.now,
            store: [7; 16],
        }));
        self.handle(at, Event::NetUp);
    }

    /// The process is gone at this moment; its files stay.
    pub fn kill(&mut self, at: usize) {
        self.peers[at].device = None;
        self.peers[at].net.up = false;
        self.peers[at].net.to_device.clear();
    }

    /// No kill is on its way any more.
    pub fn disarm(&mut self, at: usize) {
        match self.session(at) {
            Some(session) => session.store.crash_never(),
            None => self.start(at),
        }
    }

    pub fn session(&mut self, at: usize) -> Option<&mut Session> {
        let device = self.peers[at].device.as_mut()?;
        device.open_session()
    }

    /// Kills and starts it: nothing is armed any more.
    pub fn restart(&mut self, at: usize) {
        self.kill(at);
        self.start(at);
    }

    pub fn start(&mut self, at: usize) {
        if self.restores_disks {
            let directory = self.peers[at].directory.path();
            for entry in fs::read_dir(directory).unwrap() {
                fs::remove_file(entry.unwrap().path()).unwrap();
            }
            copy(&self.began_with[at], directory);
        }
        let device = Device::open(self.peers[at].directory.path(), CHEAP).unwrap();
        self.peers[at].device = Some(device);
        let unlock = Command::Unlock {
            passphrase: Passphrase::new(PASSPHRASE.into()),
        };
        self.ask(at, unlock).unwrap();
        self.link(at);
    }

    pub fn handle(&mut self, at: usize, event: Event) {
        let now = self.now;
        let Some(device) = self.peers[at].device.as_mut() else {
            return;
        };
        device.handle(event, now);
        self.drain(at);
    }

    pub fn drain(&mut self, at: usize) {
        if self.has_crashed(at) {
            // Nothing of the event leaves: the process was killed while it wrote.
            self.kill(at);
            return;
        }
        while let Some(effect) = self.peers[at].device.as_mut().and_then(Device::next_effect) {
            match effect {
                Effect::Answer(asker, answer) => {
                    self.peers[at].answers.insert(asker.id, answer);
                }
                Effect::Event(endpoint_secure_api::Event::Notice(line)) => {
                    self.peers[at].told.push(line);
                }
                Effect::CloseNet(why) => panic!("{why}"),
                Effect::Frame(frame) if self.peers[at].net.up => self.take(at, frame),
                _ => {}
            }
        }
    }

    fn has_crashed(&mut self, at: usize) -> bool {
        let device = self.peers[at].device.as_mut();
        device
            .and_then(Device::open_session)
            .is_some_and(|session| session.store.has_crashed())
    }

    pub fn ask(&mut self, at: usize, command: Command) -> Result<Answer, Refusal> {
        let id = self.peers[at].next_id;
        self.peers[at].next_id += 1;
        self.handle(at, Event::Command(Asker { door: 1, id }, command));
        let killed = || Refusal::new(endpoint_secure_api::Code::Unreachable, "killed");
        self.peers[at]
            .answers
            .remove(&id)
            .unwrap_or_else(|| Err(killed()))
    }

    fn take(&mut self, at: usize, frame: Frame) {
        match frame {
            Frame::Grant(chain) => self.take_grants(&chain),
            Frame::Publish(chunks) => {
                let mut acks = Vec::new();
                for chunk in chunks {
                    let name = chunk.name();
                    match self.store(at, chunk) {
                        Ok(()) => {
                            acks.extend([1, 2, 3].map(|tier| {
                                (name, Outcome::Stored(Tier::from_number(tier).unwrap()))
                            }))
                        }
                        Err(refused) => acks.push((name, Outcome::Refused(refused))),
                    }
                }
                self.peers[at].net.to_device.push_back(Frame::Ack(acks));
            }
            Frame::Subscribe {
                id, prefix, start, ..
            } => {
                let from = match start {
                    Start::After(cursor) => {
                        u64::from_be_bytes(cursor.as_bytes().try_into().unwrap()) as usize
                    }
                    _ => 0,
                };
                self.peers[at]
                    .net
                    .subscriptions
                    .insert(id, (prefix, from, true));
            }
            Frame::Unsubscribe { id } => {
                self.peers[at].net.subscriptions.remove(&id);
            }
            _ => {}
        }
    }

    fn take_grants(&mut self, chain: &[Chunk]) {
        assert!(chain.len() <= proto::limits::GRANT_CHAIN);
        let mut parent: Option<Grant> = None;
        for chunk in chain {
            let grant = match &parent {
                None => Grant::from_origin(chunk, &self.origin.public_key()).unwrap(),
                Some(parent) => Grant::from_issuer(chunk, parent).unwrap(),
            };
            self.grants.insert(GrantId::of(chunk), grant.clone());
            parent = Some(grant);
        }
    }

    /// What an honest relay does with a chunk that a device publishes.
    fn store(&mut self, at: usize, chunk: Chunk) -> Result<(), Refused> {
        let key = if chunk.grant() == GrantId::NONE {
            chunk.check_key_package(self.now)?
        } else {
            let grant = self.grants.get(&chunk.grant()).ok_or(Refused::NoGrant)?;
            grant.check(&chunk, self.now)?;
            assert!(grant.permits(Verbs::PUBLISH, chunk.name()));
            grant.subject
        };
        assert!(
            chunk.verifies(&key),
            "an honest device signs what it publishes"
        );
        let net = &mut self.peers[at].net;
        if let Some(known) = net.names.get(&chunk.name()) {
            assert!(
                net.log[*known] == chunk,
                "{:?} was used twice",
                chunk.name()
            );
            return Ok(());
        }
        net.names.insert(chunk.name(), net.log.len());
        net.log.push(chunk);
        Ok(())
    }

    /// The names that a network has.
    pub fn names(&self, at: usize) -> impl Iterator<Item = &Name> {
        self.peers[at].net.names.keys()
    }

    /// The chunks that a network has, in the order in which they came.
    pub fn chunks(&self, at: usize) -> &[Chunk] {
        &self.peers[at].net.log
    }

    /// Has a device's network deliver the next piece of a backlog, and say whether it was the last.
    pub fn deliver(&mut self, at: usize, chunks: &[Chunk], live: bool) {
        let net = &self.peers[at].net;
        let wants = |(prefix, _, _): &(Prefix, usize, bool)| prefix.contains(chunks[0].name());
        let id = net.subscriptions.iter().find(|(_, one)| wants(one));
        let id = *id.unwrap().0;
        for part in chunks.chunks(32) {
            let chunks = part.to_vec();
            self.handle(at, Event::Net(Frame::Chunks { id, chunks }));
        }
        let cursor = Cursor::new(chunks[0].name().to_bytes().to_vec()).unwrap();
        self.handle(at, Event::Net(Frame::CaughtUp { id, cursor, live }));
    }

    /// Has a device's network publish chunks that the device itself would not.
    pub fn publish_as(&mut self, at: usize, chunks: Vec<Chunk>) {
        for chunk in chunks {
            self.store(at, chunk).unwrap();
        }
    }

    /// How many commits a network has, and how many of them do not stand alone on their parent.
    pub fn commits(&self, at: usize) -> (usize, usize) {
        let mut on: BTreeMap<[u8; 8], usize> = BTreeMap::new();
        for chunk in &self.peers[at].net.log {
            let data = chunk.data();
            // A whole object has a byte in front, the first of several fragments 37; the parent's id
            // comes next.
            let head = if data[0] == 0 { 1 } else { 37 };
            if matches!(chunk.name().fields(), Fields::Commit { fragment: 0, .. }) {
                let parent = data[head..head + 8].try_into().unwrap();
                *on.entry(parent).or_default() += 1;
            }
        }
        let apart = on.values().filter(|count| **count > 1).sum();
        (on.values().sum(), apart)
    }

    /// Each island's nodes get what others on it have.
    fn exchange(&mut self) -> bool {
        let peers = self.peers.iter();
        let now: Vec<_> = peers.map(|one| (one.island, one.net.log.len())).collect();
        if now == self.rested {
            return false;
        }
        self.rested = now;
        let mut moved = false;
        let islands: BTreeSet<usize> = self.peers.iter().map(|peer| peer.island).collect();
        for island in islands {
            let here: Vec<usize> = (0..self.peers.len())
                .filter(|at| self.peers[*at].island == island)
                .collect();
            let longest = here
                .iter()
                .map(|at| self.peers[*at].net.log.len())
                .max()
                .unwrap_or(0);
            let known: BTreeSet<Name> = here
                .iter()
                .flat_map(|at| self.peers[*at].net.names.keys().copied())
                .collect();
            if here
                .iter()
                .all(|at| self.peers[*at].net.log.len() == known.len())
                && longest == known.len()
            {
                continue;
            }
            moved = true;
            for name in known {
                let owner = here.iter().find_map(|at| {
                    let net = &self.peers[*at].net;
                    net.names.get(&name).map(|index| net.log[*index].clone())
                });
                let Some(chunk) = owner else { continue };
                for at in &here {
                    if self.loses_chunks && name.0 % 31 == *at as u128 {
                        continue;
                    }
                    let net = &mut self.peers[*at].net;
                    if !net.names.contains_key(&name) {
                        net.names.insert(name, net.log.len());
                        net.log.push(chunk.clone());
                    }
                }
            }
        }
        moved
    }

    fn serve(&mut self, at: usize) {
        let net = &mut self.peers[at].net;
        let end = net.log.len();
        for (id, (prefix, from, fresh)) in &mut net.subscriptions {
            if *from >= end && !std::mem::take(fresh) {
                continue;
            }
            let chunks: Vec<Chunk> = net.log[*from..]
                .iter()
                .filter(|chunk| prefix.contains(chunk.name()))
                .cloned()
                .collect();
            *from = end;
            for part in chunks.chunks(32) {
                let chunks = part.to_vec();
                net.to_device.push_back(Frame::Chunks { id: *id, chunks });
            }
            net.to_device.push_back(Frame::CaughtUp {
                id: *id,
                cursor: Cursor::new((end as u64).to_be_bytes().to_vec()).unwrap(),
                live: true,
            });
        }
    }

    /// One moment: what is on its way arrives, what is due is done.
    pub fn step(&mut self, ms: u64) -> bool {
        self.now = self.now.plus_millis(ms);
        let mut moved = self.exchange();
        for at in 0..self.peers.len() {
            if self.peers[at].device.is_none() {
                continue;
            }
            self.serve(at);
            while let Some(frame) = self.peers[at].net.to_device.pop_front() {
                moved = true;
                self.handle(at, Event::Net(frame));
            }
            let due = self.next_timeout(at).is_some_and(|time| time <= self.now);
            if due {
                moved = true;
                self.handle(at, Event::Tick);
            }
            moved |= self.enter(at);
        }
        moved
    }

    /// Whoever was admitted goes in.
    fn enter(&mut self, at: usize) -> bool {
        let team = self.team;
        let device = self.peers[at].device.as_mut();
        let admitted = device
            .and_then(Device::open_session)
            .is_some_and(|session| {
                let joining = session.memory.joining.get(&team);
                joining.is_some_and(|one| one.ready.is_some())
            });
        admitted && self.ask(at, Command::Enter { team }).is_ok()
    }

    pub fn next_timeout(&self, at: usize) -> Option<Timestamp> {
        self.peers[at]
            .device
            .as_ref()
            .and_then(Device::next_timeout)
    }

    /// Until nothing moves and nothing is due soon.
    pub fn settle(&mut self) {
        for _ in 0..3_000 {
            if self.step(250) {
                continue;
            }
            let next = (0..self.peers.len())
                .filter_map(|at| self.next_timeout(at))
                .min();
            match next.map(|time| time.since(self.now)) {
                Some(wait) if wait <= SOON_MS => self.now = self.now.plus_millis(wait),
                _ => return,
            }
        }
        panic!("the devices do not come to rest");
    }

    pub fn bring_in(&mut self, admin: usize, at: usize) {
        let team = self.team;
        let Ok(Answer::Invite(invite)) =
            self.ask(admin, Command::CreateInvite { team, hours: None })
        else {
            return;
        };
        let invite = invite.text;
        self.ask(at, Command::Join { invite }).ok();
        let Ok(Answer::Status(status)) = self.ask(at, Command::Status) else {
            return;
        };
        let fingerprint = status
            .profile
            .map_or_else(String::new, |one| one.fingerprint);
        self.ask(admin, Command::AddDevice { team, fingerprint })
            .ok();
    }

    /// Bytes that stand at a device's network process, by path.
    pub fn published(&self, at: usize) -> BTreeMap<proto::Path, usize> {
        let mut sums = BTreeMap::new();
        for chunk in &self.peers[at].net.log {
            *sums.entry(chunk.name().path()).or_default() += chunk.data().len();
        }
        sums
    }

    /// Whether some file of a device holds these bytes.
    pub fn files_hold(&self, at: usize, bytes: &[u8]) -> bool {
        let files = fs::read_dir(self.peers[at].directory.path()).unwrap();
        let mut contents = files.map(|entry| fs::read(entry.unwrap().path()).unwrap());
        contents.any(|content| {
            let part = &bytes[..bytes.len().min(64)];
            content.windows(part.len()).any(|window| window == part)
        })
    }

    /// The number of a device, 0 while it is in no team.
    pub fn number(&mut self, at: usize) -> u32 {
        self.team_of(at).map_or(0, |team| team.own_device)
    }

    pub fn team_of(&mut self, at: usize) -> Option<endpoint_secure_api::Team> {
        let team = self.team;
        match self.ask(at, Command::Teams) {
            Ok(Answer::Teams(teams)) => teams.into_iter().find(|one| one.id == team),
            _ => None,
        }
    }

    pub fn say(&mut self, at: usize, text: &str, token: u64) -> bool {
        let channel = self.channel();
        let text = text.to_owned();
        let sent = self.ask(
            at,
            Command::Send {
                channel,
                text,
                token,
            },
        );
        sent.is_ok()
    }

    pub fn texts(&mut self, at: usize) -> Vec<(String, bool)> {
        let channel = self.channel();
        let mut texts = Vec::new();
        let mut anchor = Anchor::Oldest;
        loop {
            let ask = Command::Timeline {
                channel,
                anchor,
                count: Command::PAGE_LIMIT,
            };
            let Ok(Answer::Page(page)) = self.ask(at, ask) else {
                return texts;
            };
            if let Some(last) = page.messages.last() {
                anchor = Anchor::After { id: last.id };
            }
            texts.extend(
                page.messages
                    .into_iter()
                    .map(|one| (one.text, one.missing_before > 0)),
            );
            if !page.more_after {
                return texts;
            }
        }
    }

    /// How far a device has read another's feed.
    pub fn read_of(&mut self, at: usize, of: usize) -> Option<(u32, [u8; 16])> {
        let (device, channel) = (self.number(of), self.channel());
        let session = self.session(at)?;
        let row = session.memory.channels.get(&channel)?.row;
        let feed = session.memory.feeds.get(&(row, device));
        feed.map(|feed| (feed.next, feed.hash))
    }

    /// The state that a device is in.
    pub fn tip(&mut self, at: usize) -> Option<State> {
        let team = self.team;
        let session = self.peers[at].device.as_mut()?.open_session()?;
        let team = session.team(team).ok()?.clone();
        session.tip(&team).ok().cloned()
    }

    /// Prints what a device knows of the team's states, for a seed that fails.
    pub fn describe(&mut self, at: usize) {
        let team = self.team;
        let told = self.peers[at].told.clone();
        let Some(session) = self.peers[at]
            .device
            .as_mut()
            .and_then(Device::open_session)
        else {
            return;
        };
        println!("peer {at}: {told:?}");
        let mut states: Vec<&State> = session.states(team).collect();
        states.sort_by_key(|state| (state.epoch, state.id));
        for state in states {
            let mark = if session.on_path(team, state.id) {
                '*'
            } else {
                ' '
            };
            let how = state.commit.as_ref().map(|one| {
                let welcomed: Vec<u32> = one.welcomed.iter().map(|one| one.device).collect();
                (
                    one.parent[0],
                    one.author,
                    one.class,
                    one.removed.clone(),
                    welcomed,
                    one.notes.turn,
                )
            });
            println!(
                "{mark} {} {:3} {:?} turn {} inside {} spoke {:?} admins {:?} announce {:?}",
                state.epoch,
                state.id[0],
                how,
                state.turn,
                state.namespace.is_some(),
                state.witnesses,
                state.roles.admins,
                state.roles.announce
            );
        }
        println!(
            "waits: {:?}",
            session
                .memory
                .operations
                .values()
                .map(|one| (&one.what, one.made))
                .collect::<Vec<_>>()
        );
    }
}
