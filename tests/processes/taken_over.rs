//! P6: a network process that was taken over. It sends Secure arbitrary bytes, broken frames and
//! well-formed frames of every kind, with the device's own chunks, altered ones, and ones that it signs
//! itself. Secure lives, believes nothing of it, and says nothing that a relay does not see.
//!
//! `TREELINE_MINUTES=60 cargo test -p tests --test processes taken_over -- --nocapture` does it for an
//! hour; `TREELINE_SEED` begins elsewhere.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Anchor, Answer, ChannelId, Command, Delivery, Device, Message, Suite, Team,
};
use proto::{
    Chunk, Cursor, Fields, Frame, GrantId, Hello, Name, Order, Outcome, Prefix, Refused,
    Registration, Signer, Start, Tier, Timestamp,
};

use endpoint_secure_api::codec::{Frame as DoorFrame, Kind};
use endpoint_secure_api::control::Control;
use xtask::process::binary;

use crate::alone::{Alone, PASSPHRASE, Seen, create, unlock};
use crate::scene::{built, refused};
use crate::words::without;

const TEXTS: [&str; 3] = [
    "the quarantine begins at seventeen hundred",
    "Zweibettzimmer vierhundertzwölf bleibt gesperrt",
    "ask the harbour master for the third key",
];
/// What must never be on the link: what people wrote and named, and what opens it.
const WORDS: &[&str] = &[
    "quarantine",
    "gesperrt",
    "harbour",
    "Lighthouse",
    "Night watch",
    "general",
    "Bienenstock",
    "ward laptop",
    "quinces",
];
/// Frames on one link, if Secure does not close it before.
const FRAMES: u32 = 400;
/// How long the short form attacks.
const SHORT: Duration = Duration::from_secs(12);
const FAR: u64 = 30 * 24 * 3600 * 1000;

/// A generator of numbers, the same for the same seed (SplitMix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit.max(1) as u64) as usize
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let count = self.below(most + 1);
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What the attacker knows and has.
struct Attacker {
    random: Random,
    own: Signer,
    /// The device's chunks.
    known: Vec<Chunk>,
    subscriptions: Vec<u32>,
    now: Timestamp,
}

impl Attacker {
    /// What goes up the pipe next; most of it keeps the link alive.
    fn next(&mut self) -> Vec<u8> {
        match self.random.below(1000) {
            0 => self.random.bytes(2000),
            1 => {
                let body = self.random.bytes(300);
                let head = [self.random.below(14) as u8, 0, 0, 1, body.len() as u8];
                [&head[..], &body].concat()
            }
            2 => {
                let mut bytes = self.accepted().to_bytes().to_vec();
                let at = self.random.below(bytes.len());
                bytes[at] ^= 1 << self.random.below(8);
                bytes
            }
            3 => self.never_accepted().to_bytes().to_vec(),
            _ => self.accepted().to_bytes().to_vec(),
        }
    }

    /// A frame of a kind that a network process may send.
    fn accepted(&mut self) -> Frame {
        match self.random.below(10) {
            0 => Frame::Reach {
                tier: self.tier(),
                relay: String::from_utf8_lossy(&self.random.bytes(60)).into_owned(),
            },
            1 => Frame::Grant((0..self.random.below(8)).map(|_| self.chunk()).collect()),
            2..5 => {
                let acks = 0..self.random.below(20);
                Frame::Ack(
                    acks.map(|_| (self.chunk().name(), self.outcome()))
                        .collect(),
                )
            }
            5 => Frame::CaughtUp {
                id: self.id(),
                cursor: Cursor::new(self.random.bytes(100)).unwrap(),
                live: self.random.below(2) == 0,
            },
            _ => Frame::Chunks {
                id: self.id(),
                chunks: (0..self.random.below(32)).map(|_| self.chunk()).collect(),
            },
        }
    }

    /// A frame of a kind that only a device, or nobody, sends.
    fn never_accepted(&mut self) -> Frame {
        let id = self.id();
        match self.random.below(5) {
            0 => Frame::Publish(vec![self.chunk()]),
            1 => Frame::Subscribe {
                id,
                prefix: Prefix::of(self.chunk().name(), 78),
                start: Start::All,
                order: Order::OldestFirst,
            },
            2 => Frame::Unsubscribe { id },
            3 => Frame::Fetch {
                id,
                names: vec![self.chunk().name()],
            },
            _ => Frame::Close {
                reason: "bye".into(),
            },
        }
    }

    /// One of the device's, the same with other bytes, or one of the attacker's under any name.
    fn chunk(&mut self) -> Chunk {
        let at = self.random.below(self.known.len());
        let real = self.known[at].clone();
        match self.random.below(4) {
            0 => real,
            1 => {
                let mut bytes = real.encoded().to_vec();
                let at = self.random.below(bytes.len());
                bytes[at] ^= 1 << self.random.below(8);
                Chunk::decode(bytes.into()).unwrap_or(real)
            }
            _ => self.forged(&real),
        }
    }

    fn forged(&mut self, real: &Chunk) -> Chunk {
        let data = if self.random.below(2) == 0 {
            real.data().to_vec()
        } else {
            self.random.bytes(1024)
        };
        let grant = match self.random.below(3) {
            0 => real.grant(),
            1 => GrantId::NONE,
            _ => GrantId([self.random.next() as u8; 8]),
        };
        let expiry = self.now.plus_millis(self.random.next() % (2 * FAR));
        Chunk::sign(self.name(real.name()), expiry, grant, &data, &self.own).unwrap()
    }

    /// A name near a real one: another author, number, channel, or kind of chunk.
    fn name(&mut self, real: Name) -> Name {
        let (channel, epoch) = (self.random.below(4) as u16, self.random.below(4) as u32);
        let fragment = self.random.below(16) as u8;
        let fingerprint = self.own.public_key().fingerprint().name_bits();
        let fields = match self.random.below(8) {
            0 => return real,
            1 | 2 => Fields::Message {
                channel,
                device: self.random.below(3) as u32,
                number: self.random.below(12) as u32,
            },
            3 => Fields::Commit {
                epoch,
                tag: self.random.below(1 << 18) as u32,
                fragment,
            },
            4 => Fields::Welcome {
                fingerprint,
                fragment,
            },
            5 => Fields::KeyPackage {
                fingerprint,
                fragment,
            },
            6 => Fields::Grant {
                device: self.random.below(3) as u32,
                serial: self.random.below(1 << 30) as u32,
            },
            _ => {
                return Name(u128::from(self.random.next()) << 64 | u128::from(self.random.next()));
            }
        };
        Name::new(real.place(), fields)
    }

    fn id(&mut self) -> u32 {
        let at = self.random.below(self.subscriptions.len() + 1);
        let other = self.random.below(1000) as u32;
        self.subscriptions.get(at).copied().unwrap_or(other)
    }

    fn tier(&mut self) -> Tier {
        Tier::from_number(self.random.below(4) as u8).unwrap()
    }

    fn outcome(&mut self) -> Outcome {
        match self.random.below(4) {
            0 => Outcome::Refused(Refused::NoGrant),
            1 => Outcome::Refused(Refused::Quota),
            _ => Outcome::Stored(self.tier()),
        }
    }
}

/// What people see, but for how far their own messages have come, of which a relay may lie, and the time.
#[derive(Debug, PartialEq)]
struct World(Vec<Team>, Vec<Device>, Vec<Message>);

fn world(secure: &Alone, channel: ChannelId) -> World {
    let ask = |command| secure.ask(&command).unwrap();
    let Answer::Teams(teams) = ask(Command::Teams) else {
        panic!("no teams");
    };
    let team = channel.team;
    let Answer::Devices(mut devices) = ask(Command::Devices { team }) else {
        panic!("no devices");
    };
    for device in &mut devices {
        device.last_seen_ms = 0;
    }
    let (anchor, count) = (Anchor::Newest, 100);
    let timeline = Command::Timeline {
        channel,
        anchor,
        count,
    };
    let Answer::Page(mut page) = ask(timeline) else {
        panic!("no page");
    };
    for message in &mut page.messages {
        message.delivery = Delivery::Queued;
        message.failure.clear();
    }
    World(teams, devices, page.messages)
}

/// A profile with a team, a channel and three messages.
pub fn found(secure: &Alone) -> ChannelId {
    create(secure, "Ada Bienenstock");
    let origin = Signer::from_seed(&[9; 32]);
    let end = relay::driver::now().plus_millis(3000 * 24 * 3600 * 1000);
    let registration = Registration::issue(&origin, 7, [8; 32], end).unwrap();
    let organisation = Command::CreateOrganisation {
        name: "Lighthouse".into(),
        registration: registration.to_text().to_string(),
        relays: vec![format!("127.0.0.1:9#{}", origin.public_key().to_hex())],
    };
    secure.ask(&organisation).unwrap();
    let (name, suite) = ("Night watch".into(), Suite::PostQuantum);
    let Answer::Team(team) = secure.ask(&Command::CreateTeam { name, suite }).unwrap() else {
        panic!("no team");
    };
    let channel = ChannelId {
        team: team.id,
        channel: 1,
    };
    for (token, text) in (1..).zip(TEXTS) {
        let text = text.to_owned();
        let send = Command::Send {
            channel,
            text,
            token,
        };
        secure.ask(&send).unwrap();
    }
    channel
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn a_taken_over_net_gets_nothing_and_forges_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut secure = Alone::start(&folder.path().join("secure"));
    let channel = found(&secure);
    let seen = Arc::new(Mutex::new(Seen::default()));
    let before = world(&secure, channel);
    let mut attacker = Attacker {
        random: Random(number("TREELINE_SEED").unwrap_or(5)),
        own: Signer::from_seed(&[66; 32]),
        known: first_chunks(&secure, &seen),
        subscriptions: Vec::new(),
        now: relay::driver::now(),
    };
    let own = attacker.known.len();
    let minutes = number("TREELINE_MINUTES").map(|minutes| Duration::from_secs(60 * minutes));
    let until = Instant::now() + minutes.unwrap_or(SHORT);
    let (mut links, mut frames) = (0, 0);
    while Instant::now() < until {
        // Every fifth link meets a locked profile.
        let locked = links % 5 == 4;
        if locked {
            secure.ask(&Command::Lock).unwrap();
        }
        frames += one_link(&secure, &seen, &mut attacker);
        links += 1;
        if locked {
            unlock(&secure);
        }
        assert!(secure.process.try_wait().unwrap().is_none(), "it has ended");
        secure.ask(&Command::Status).unwrap();
    }
    // What has reached Secure's queue is worked through before this is answered.
    assert_eq!(world(&secure, channel), before, "it believed something");
    let seen = seen.lock().unwrap();
    assert_eq!(seen.wrong, Vec::<String>::new());
    assert_eq!(seen.chunks.len(), own, "it published what nobody wrote");
    let told = &seen.bytes;
    let World(teams, devices, messages) = &before;
    let teams = teams.iter().map(|team| [&*team.name, &*team.organisation]);
    let devices = devices.iter().map(|device| [&*device.user, &*device.name]);
    let messages = messages.iter().map(|message| [&*message.text, PASSPHRASE]);
    let shown: Vec<&str> = teams.chain(devices).chain(messages).flatten().collect();
    let shown = shown.join("\n") + "\ngeneral";
    for word in WORDS {
        assert!(shown.contains(word), "{word:?} is not to be found anywhere");
    }
    without(WORDS, told, "what it told the network process");
    println!(
        "{links} links, {frames} frames and pieces of nonsense; Secure, process {}, lives; {own} chunks, as \
         before; {} bytes came from it, without a word of the conversation",
        secure.process.id(),
        told.len()
    );
    assert!(frames > 1000, "only {frames} were sent");
}

/// Who did not start them does not get to speak to them, also not with a socket of the right kind.
#[test]
fn secure_and_net_work_for_who_started_them_alone() {
    built();
    let folder = tempfile::tempdir().unwrap();
    for program in ["treeline-secure", "treeline-net"] {
        let (_control, theirs) = Control::pair().unwrap();
        let out = std::process::Command::new("sh")
            .args(["-c", "\"$0\" --directory \"$1\"; exit $?"])
            .arg(binary(program).unwrap())
            .arg(folder.path().join(program))
            .stdin(theirs)
            .output()
            .unwrap();
        refused(&out, 2, &["no control socket", "is started by"]);
    }
}

/// A front end that sends what is no command loses its door, and nobody loses anything else.
#[test]
fn what_is_no_command_closes_the_door() {
    let folder = tempfile::tempdir().unwrap();
    let mut secure = Alone::start(&folder.path().join("secure"));
    let frame_of = |kind, body: &str| DoorFrame {
        kind,
        id: 1,
        body: body.into(),
    };
    let status = r#"{"command":"status"}"#;
    for frame in [
        frame_of(Kind::Command, r#"{"command":"openEverything"}"#),
        frame_of(Kind::Command, r#"{"command":"unlock"}"#),
        frame_of(Kind::Command, "\u{1b}[2J"),
        frame_of(Kind::Event, status),
    ] {
        let mut door = secure.bare_door();
        door.set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        frame_of(Kind::Command, status).write(&mut door).unwrap();
        let answer = DoorFrame::read(&mut door).unwrap().unwrap();
        assert_eq!(answer.kind, Kind::Answer);
        frame.write(&mut door).unwrap();
        assert!(DoorFrame::read(&mut door).unwrap().is_none(), "{frame:?}");
    }
    secure.renew_door();
    secure.ask(&Command::Status).unwrap();
    assert!(secure.process.try_wait().unwrap().is_none(), "it has ended");
}

/// Everything that the device publishes by itself.
fn first_chunks(secure: &Alone, seen: &Arc<Mutex<Seen>>) -> Vec<Chunk> {
    let mut link = secure.link(seen);
    link.send(&hello());
    let until = Instant::now() + Duration::from_secs(60);
    // Grant, tree, names, and the three messages.
    while seen.lock().unwrap().chunks.len() < 6 {
        assert!(Instant::now() < until, "it publishes too little");
        thread::sleep(Duration::from_millis(20));
    }
    secure.ask(&Command::Status).unwrap();
    link.end();
    let seen = seen.lock().unwrap();
    seen.chunks.values().cloned().collect()
}

fn one_link(secure: &Alone, seen: &Arc<Mutex<Seen>>, attacker: &mut Attacker) -> u64 {
    let mut link = secure.link(seen);
    let mut sent = 0;
    // One in ten begins as no network process does.
    if attacker.random.below(10) > 0 {
        link.send(&hello());
    }
    for _ in 0..FRAMES {
        attacker
            .subscriptions
            .clone_from(&seen.lock().unwrap().subscriptions);
        if !link.send(&attacker.next()) {
            break;
        }
        sent += 1;
    }
    link.end();
    sent
}

fn hello() -> Vec<u8> {
    let hello = Hello {
        oldest: Hello::VERSION,
        newest: Hello::VERSION,
        features: 0,
        tier: Tier::Device,
        time: relay::driver::now(),
        store: [3; 16],
    };
    Frame::Hello(hello).to_bytes().to_vec()
}
