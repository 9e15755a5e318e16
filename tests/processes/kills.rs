//! The real Secure, ended at each of its writes while it adds a device, removes one, and sends a message;
//! started again, it goes on: nothing is torn, nothing is done twice, and no number is used twice.
//!
//! The test stands in the place of starters, front ends and relays. It ends Secure at one in eight of the
//! writes, and at each with `TREELINE_KILLS=all`; the simulation of devices does so at each, within one process.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command as Program;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Anchor, Answer, ChannelId, Command, JoinStage, Message, Refusal, Suite, Team, TeamId,
};
use proto::{
    Chunk, Cursor, Frame, FrameDecoder, Hello, Name, Outcome, Prefix, Refused, Registration,
    Signer, Start, Tier,
};
use relay::driver::now;
use tempfile::TempDir;
use xtask::process::binary;

use crate::alone::{Alone, create, unlock};
use crate::scene::{built, until};

/// One write in so many, unless all are asked for.
const STEP: u32 = 8;
/// Worlds at once.
const WORKERS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);
const POINT: &str = "kill-point";
const SENT: &str = "once and no more";

/// One store that all link to, as an honest relay's.
#[derive(Default)]
struct Shared {
    log: Vec<Chunk>,
    names: BTreeMap<Name, Chunk>,
    links: Vec<Linked>,
    wrong: Vec<String>,
}

struct Linked {
    stream: UnixStream,
    /// With how far each was served.
    subscriptions: BTreeMap<u32, (Prefix, usize)>,
}

impl Linked {
    fn send(&mut self, frame: &Frame) {
        // Its process may have been ended.
        self.stream.write_all(&frame.to_bytes()).ok();
    }
}

impl Shared {
    fn take(&mut self, link: usize, frame: Frame) {
        match frame {
            Frame::Publish(chunks) => {
                let acks = chunks.into_iter().flat_map(|one| self.store(one)).collect();
                self.links[link].send(&Frame::Ack(acks));
            }
            Frame::Subscribe {
                id, prefix, start, ..
            } => {
                let from = match start {
                    Start::After(cursor) => {
                        cursor.as_bytes().try_into().map_or(0, u64::from_be_bytes)
                    }
                    _ => 0,
                };
                let subscriptions = &mut self.links[link].subscriptions;
                subscriptions.insert(id, (prefix, from as usize));
                self.serve(link, Some(id));
            }
            Frame::Unsubscribe { id } => {
                self.links[link].subscriptions.remove(&id);
            }
            _ => {}
        }
        (0..self.links.len()).for_each(|link| self.serve(link, None));
    }

    fn store(&mut self, chunk: Chunk) -> Vec<(Name, Outcome)> {
        let name = chunk.name();
        match self.names.get(&name) {
            Some(known) if *known != chunk => {
                self.wrong.push(format!("two chunks under {name:?}"));
                return vec![(name, Outcome::Refused(Refused::Conflict))];
            }
            Some(_) => {}
            None => {
                self.names.insert(name, chunk.clone());
                self.log.push(chunk);
            }
        }
        let tiers = (1..=3).filter_map(Tier::from_number);
        tiers.map(|tier| (name, Outcome::Stored(tier))).collect()
    }

    /// What subscriptions lack; a fresh one hears of the end of its backlog in any case.
    fn serve(&mut self, link: usize, fresh: Option<u32>) {
        let end = self.log.len();
        let link = &mut self.links[link];
        let due: Vec<(u32, Prefix, usize)> = link
            .subscriptions
            .iter()
            .filter(|(id, (_, from))| *from < end || Some(**id) == fresh)
            .map(|(id, (prefix, from))| (*id, *prefix, *from))
            .collect();
        for (id, prefix, from) in due {
            let chunks = self.log[from.min(end)..].iter();
            let chunks: Vec<Chunk> = chunks
                .filter(|chunk| prefix.contains(chunk.name()))
                .cloned()
                .collect();
            for part in chunks.chunks(32) {
                let chunks = part.to_vec();
                link.send(&Frame::Chunks { id, chunks });
            }
            link.subscriptions.insert(id, (prefix, end));
            let cursor = Cursor::new((end as u64).to_be_bytes().to_vec()).unwrap();
            let live = true;
            link.send(&Frame::CaughtUp { id, cursor, live });
        }
    }
}

type Relay = Arc<Mutex<Shared>>;

fn link(secure: &Alone, relay: &Relay) {
    let stream = secure.socket();
    let mut input = stream.try_clone().unwrap();
    let hello = Hello {
        oldest: Hello::VERSION,
        newest: Hello::VERSION,
        features: 0,
        tier: Tier::Device,
        time: now(),
        store: [3; 16],
    };
    let mut linked = Linked {
        stream,
        subscriptions: BTreeMap::new(),
    };
    linked.send(&Frame::Hello(hello));
    let number = {
        let mut shared = relay.lock().unwrap();
        shared.links.push(linked);
        shared.links.len() - 1
    };
    let relay = Arc::clone(relay);
    thread::spawn(move || {
        let mut decoder = FrameDecoder::default();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(count @ 1..) = input.read(&mut buffer) {
            decoder.push(&buffer[..count]);
            while let Some(frame) = decoder.next_frame().unwrap() {
                relay.lock().unwrap().take(number, frame);
            }
        }
        relay.lock().unwrap().links[number].subscriptions.clear();
    });
}

/// A started profile with a link.
fn start(folder: &Path, name: &str, relay: &Relay) -> Alone {
    let directory = folder.join(name);
    let mut program = Program::new(binary("treeline-secure").unwrap());
    program
        .arg("--directory")
        .arg(&directory)
        .env("TREELINE_KILL_POINT", directory.join(POINT));
    let secure = Alone::of(program, &directory.with_extension("log"));
    link(&secure, relay);
    secure
}

fn open(folder: &Path, name: &str, relay: &Relay) -> Alone {
    let secure = start(folder, name, relay);
    unlock(&secure);
    secure
}

fn team(secure: &Alone, id: TeamId) -> Option<Team> {
    match secure.ask(&Command::Teams) {
        Ok(Answer::Teams(teams)) => teams.into_iter().find(|one| one.id == id),
        _ => None,
    }
}

fn queued(secure: &Alone) -> Option<u32> {
    match secure.ask(&Command::Connectivity) {
        Ok(Answer::Connectivity(state)) => Some(state.queued),
        _ => None,
    }
}

fn fingerprint(secure: &Alone) -> String {
    match secure.ask(&Command::Status) {
        Ok(Answer::Status(status)) => status.profile.unwrap().fingerprint,
        other => panic!("{other:?}"),
    }
}

fn timeline(secure: &Alone, channel: ChannelId) -> Vec<Message> {
    let ask = Command::Timeline {
        channel,
        anchor: Anchor::Newest,
        count: 100,
    };
    match secure.ask(&ask) {
        Ok(Answer::Page(page)) => page.messages,
        _ => Vec::new(),
    }
}

fn send(secure: &Alone, channel: ChannelId, text: &str, token: u64) -> Result<Answer, Refusal> {
    let text = text.to_owned();
    secure.ask(&Command::Send {
        channel,
        text,
        token,
    })
}

/// Goes into the team as soon as an admin has added it.
fn enter(secure: &Alone, id: TeamId) {
    until("it is in", || {
        let stage = team(secure, id).map(|team| team.stage);
        if stage == Some(JoinStage::Admitted) {
            secure.ask(&Command::Enter { team: id }).unwrap();
        }
        stage == Some(JoinStage::Joined)
    });
}

/// Asks to join, and returns the fingerprint to add when its request is out.
fn ask_in(admin: &Alone, newcomer: &Alone, id: TeamId) -> String {
    let hours = None;
    let Ok(Answer::Invite(invite)) = admin.ask(&Command::CreateInvite { team: id, hours }) else {
        panic!("no invite");
    };
    let invite = invite.text;
    newcomer.ask(&Command::Join { invite }).unwrap();
    until("the request is out", || queued(newcomer) == Some(0));
    fingerprint(newcomer)
}

/// Ada's team with Cem and Dora; Bob asks to join. Nobody runs.
struct Ward {
    folder: TempDir,
    log: Vec<Chunk>,
    channel: ChannelId,
    bob: String,
    dora: u32,
    epoch: u64,
}

impl Ward {
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let relay = Relay::default();
        let [ada, bob, cem, dora] = ["ada", "bob", "cem", "dora"].map(|name| {
            let secure = start(folder.path(), name, &relay);
            create(&secure, name);
            secure
        });
        let origin = Signer::from_seed(&[9; 32]);
        let end = now().plus_millis(3000 * 24 * 3600 * 1000);
        let registration = Registration::issue(&origin, 7, [8; 32], end).unwrap();
        let organisation = Command::CreateOrganisation {
            name: "Lighthouse".into(),
            registration: registration.to_text().to_string(),
            relays: Vec::new(),
        };
        ada.ask(&organisation).unwrap();
        let (name, suite) = ("Night watch".into(), Suite::Classic);
        let Ok(Answer::Team(found)) = ada.ask(&Command::CreateTeam { name, suite }) else {
            panic!("no team");
        };
        let id = found.id;
        for newcomer in [&cem, &dora] {
            let fingerprint = ask_in(&ada, newcomer, id);
            let team = id;
            ada.ask(&Command::AddDevice { team, fingerprint }).unwrap();
            enter(newcomer, id);
        }
        let bob = ask_in(&ada, &bob, id);
        until("all is out", || {
            queued(&ada) == Some(0) && queued(&cem) == Some(0)
        });
        until("all agree", || {
            team(&cem, id).map(|one| one.code) == team(&ada, id).map(|one| one.code)
        });
        let ward = Self {
            channel: ChannelId {
                team: id,
                channel: 1,
            },
            bob,
            dora: team(&dora, id).unwrap().own_device,
            epoch: team(&ada, id).unwrap().epoch,
            log: relay.lock().unwrap().log.clone(),
            folder,
        };
        drop((ada, cem, dora));
        ward
    }

    /// The same once more.
    fn copy(&self) -> (TempDir, Relay) {
        let folder = tempfile::tempdir().unwrap();
        for name in ["ada", "bob", "cem"] {
            let (from, to) = (self.folder.path().join(name), folder.path().join(name));
            fs::create_dir(&to).unwrap();
            for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        let names = self.log.iter().map(|chunk| (chunk.name(), chunk.clone()));
        let shared = Shared {
            names: names.collect(),
            log: self.log.clone(),
            ..Shared::default()
        };
        (folder, Arc::new(Mutex::new(shared)))
    }
}

/// What is killed at each of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    Add,
    Remove,
    Send,
}

impl Deed {
    /// Devices and changes more, or fewer.
    fn effect(self) -> (u32, u64) {
        match self {
            Self::Add => (4, 1),
            Self::Remove => (2, 1),
            Self::Send => (3, 0),
        }
    }

    fn ask(self, ward: &Ward, ada: &Alone) -> Result<Answer, Refusal> {
        let team = ward.channel.team;
        match self {
            Self::Add => ada.ask(&Command::AddDevice {
                team,
                fingerprint: ward.bob.clone(),
            }),
            Self::Remove => ada.ask(&Command::RemoveDevice {
                team,
                device: ward.dora,
            }),
            Self::Send => send(ada, ward.channel, SENT, 77),
        }
    }

    fn is_done(self, ward: &Ward, ada: &Alone) -> bool {
        let (devices, epochs) = self.effect();
        let team = team(ada, ward.channel.team);
        let there = team.is_some_and(|team| {
            (team.devices, team.epoch, team.waiting) == (devices, ward.epoch + epochs, 0)
        });
        let said = self != Self::Send || !timeline(ada, ward.channel).is_empty();
        there && said && queued(ada) == Some(0)
    }
}

/// Does it with an end at one of its writes, and looks whether all is well. `false` if it has fewer.
fn ended_at(ward: &Ward, deed: Deed, point: u32) -> bool {
    let (folder, relay) = ward.copy();
    let mut ada = open(folder.path(), "ada", &relay);
    let place = folder.path().join("ada").join(POINT);
    // Whole, or not there: Secure looks at each write.
    fs::write(place.with_extension("new"), point.to_string()).unwrap();
    fs::rename(place.with_extension("new"), &place).unwrap();
    // Its answer may never come.
    deed.ask(ward, &ada).ok();
    let mut ended = false;
    let limit = Instant::now() + PATIENCE;
    while !ended && !deed.is_done(ward, &ada) {
        assert!(
            Instant::now() < limit,
            "{deed:?} at {point}: neither done nor ended"
        );
        ended = ada.process.try_wait().unwrap().is_some();
        thread::sleep(Duration::from_millis(10));
    }
    drop(ada);
    let ada = open(folder.path(), "ada", &relay);
    match deed.ask(ward, &ada) {
        Ok(_) => {}
        // It is done.
        Err(refusal) => assert!(deed == Deed::Remove, "{deed:?} at {point}: {refusal}"),
    }
    until("it is done after all", || deed.is_done(ward, &ada));
    check(ward, deed, point, (&folder, &relay, &ada));
    ended
}

/// All are in the same state and go on, and each thing was done once.
fn check(ward: &Ward, deed: Deed, point: u32, (folder, relay, ada): (&TempDir, &Relay, &Alone)) {
    let id = ward.channel.team;
    let mut others = vec![open(folder.path(), "cem", relay)];
    if deed == Deed::Add {
        let bob = open(folder.path(), "bob", relay);
        enter(&bob, id);
        others.push(bob);
    }
    send(ada, ward.channel, "and on", 78).unwrap();
    let truth = team(ada, id).unwrap();
    for (at, other) in others.iter().enumerate() {
        until("all agree", || {
            team(other, id).is_some_and(|one| one.code == truth.code)
        });
        send(other, ward.channel, &format!("from {at}"), 79).unwrap();
    }
    let all = 1 + others.len() + usize::from(deed == Deed::Send);
    for one in std::iter::once(ada).chain(&others) {
        // Bob came after what was sent.
        until("all is there", || timeline(one, ward.channel).len() == all);
        let messages = timeline(one, ward.channel);
        let texts: BTreeSet<&str> = messages.iter().map(|one| one.text.as_str()).collect();
        assert_eq!(texts.len(), all, "{deed:?} at {point}: {texts:?}");
        let gaps = messages.iter().filter(|one| one.missing_before > 0);
        assert_eq!(gaps.count(), 0, "{deed:?} at {point}");
    }
    let (devices, epochs) = deed.effect();
    let truth = team(ada, id).unwrap();
    let is = (truth.devices, truth.epoch);
    assert_eq!(
        is,
        (devices, ward.epoch + epochs),
        "{deed:?} at {point}: done twice, or torn"
    );
    let wrong = relay.lock().unwrap().wrong.clone();
    assert!(wrong.is_empty(), "{deed:?} at {point}: {wrong:?}");
}

fn at_each_write(deed: Deed) {
    let ward = Ward::new();
    let all = std::env::var("TREELINE_KILLS").is_ok_and(|which| which == "all");
    let step = if all { 1 } else { STEP };
    let (next, end) = (AtomicU32::new(0), AtomicU32::new(u32::MAX));
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let point = next.fetch_add(step, Ordering::SeqCst);
                    if point >= end.load(Ordering::SeqCst) {
                        return;
                    }
                    if !ended_at(&ward, deed, point) {
                        end.fetch_min(point, Ordering::SeqCst);
                    }
                }
            });
        }
    });
    let points = end.load(Ordering::SeqCst);
    println!("{deed:?}: ended at one in {step} of {points} writes");
    assert!(points > STEP, "it was never ended");
}

#[test]
fn an_addition_that_is_ended_at_any_write_is_made_once() {
    at_each_write(Deed::Add);
}

#[test]
fn a_removal_that_is_ended_at_any_write_is_made_once() {
    at_each_write(Deed::Remove);
}

#[test]
fn a_message_that_is_ended_at_any_write_is_sent_once() {
    at_each_write(Deed::Send);
}
