//! The real treeline-net between a pretended Secure on its pipe and a real relay on loopback.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::{
    Chunk, Fields, Frame, FrameDecoder, GrantId, Hello, Name, Order, Outcome, Path as NamePath,
    Place, Registration, Signer, Start, Tier,
};
use relay::address::RelayAddress;
use relay::config::{Config, Options};
use relay::driver::now;
use relay::relay::Relay;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
    recv, send, sendmsg, socketpair,
};

const PATIENCE: Duration = Duration::from_secs(20);

struct Net {
    child: Child,
    control: Option<OwnedFd>,
}

impl Net {
    fn start(directory: &Path) -> Self {
        let family = AddressFamily::UNIX;
        let (ours, theirs) =
            socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_treeline-net"))
            .arg("--directory")
            .arg(directory)
            .stdin(Stdio::from(theirs))
            .spawn()
            .unwrap();
        let said = || {
            let mut line = [0; 1024];
            let (count, _) = recv(&ours, &mut line, rustix::net::RecvFlags::empty()).unwrap();
            String::from_utf8_lossy(&line[..count]).into_owned()
        };
        let isolation = said();
        let words = ["Ifull", "Ipartial (", "Inone ("];
        assert!(
            words.iter().any(|word| isolation.starts_with(word)),
            "{isolation}"
        );
        assert_eq!(said(), "Lready");
        Self {
            child,
            control: Some(ours),
        }
    }

    fn configure(&self, origin: &str, relays: &[RelayAddress]) {
        let relays: Vec<String> = relays.iter().map(|relay| format!("\"{relay}\"")).collect();
        let text = format!(
            r#"C{{"origins":["{origin}"],"relays":[{}]}}"#,
            relays.join(",")
        );
        send(
            self.control.as_ref().unwrap(),
            text.as_bytes(),
            SendFlags::empty(),
        )
        .unwrap();
    }

    fn link(&self) -> Secure {
        let (near, far) = UnixStream::pair().unwrap();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors = [far.as_fd()];
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
        let control = self.control.as_ref().unwrap();
        sendmsg(
            control,
            &[IoSlice::new(b"N")],
            &mut ancillary,
            SendFlags::empty(),
        )
        .unwrap();
        near.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut secure = Secure {
            stream: near,
            decoder: FrameDecoder::default(),
        };
        secure.say(&Frame::Hello(Hello {
            oldest: 1,
            newest: 1,
            features: 0,
            tier: Tier::Device,
            time: now(),
            store: [0; 16],
        }));
        assert!(matches!(secure.next(), Frame::Hello(hello) if hello.tier == Tier::Device));
        secure
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Secure {
    stream: UnixStream,
    decoder: FrameDecoder,
}

impl Secure {
    fn say(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).unwrap();
    }

    fn next(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return frame;
            }
            let mut bytes = [0; 8192];
            let count = self.stream.read(&mut bytes).unwrap();
            assert!(count > 0, "the pipe was closed");
            self.decoder.push(&bytes[..count]);
        }
    }

    /// Waits until a name has come as far as a tier, and returns the tiers on the way.
    fn wait_for(&mut self, name: Name, tier: Tier) -> Vec<Tier> {
        let mut tiers = Vec::new();
        while tiers.last().is_none_or(|last| *last < tier) {
            if let Frame::Ack(acks) = self.next() {
                for (of, outcome) in acks {
                    match outcome {
                        Outcome::Stored(tier) if of == name => tiers.push(tier),
                        Outcome::Stored(_) => {}
                        Outcome::Refused(reason) => panic!("{reason}"),
                    }
                }
            }
        }
        tiers
    }

    fn chunks(&mut self, count: usize) -> Vec<Chunk> {
        let mut all = Vec::new();
        while all.len() < count {
            if let Frame::Chunks { chunks, .. } = self.next() {
                all.extend(chunks);
            }
        }
        all
    }
}

struct World {
    directory: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
    registration: Registration,
    origin: String,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        let path = directory.path().join("origin");
        std::fs::create_dir(&path).unwrap();
        let origin = relay::tls::load_or_make(&path.join(relay::relay::ORIGIN_KEY)).unwrap();
        let not_after = now().plus_millis(86_400_000);
        let registration = Registration::issue(&origin, 1, [5; 32], not_after).unwrap();
        let origin = origin.public_key().to_hex();
        Self {
            directory,
            runtime,
            registration,
            origin,
        }
    }

    fn relay(&self, listen: &str) -> Relay {
        let options = Options {
            directory: Some(self.directory.path().join("origin")),
            listen: Some(listen.into()),
            ..Options::default()
        };
        self.runtime
            .block_on(Relay::start(&Config::load(&options).unwrap()))
            .unwrap()
    }

    fn net(&self) -> Net {
        Net::start(&self.directory.path().join("net"))
    }

    fn chunk(&self, number: u32) -> Chunk {
        let name = Name::new(
            self.place(),
            Fields::Message {
                channel: 0,
                device: 1,
                number,
            },
        );
        let grant = GrantId::of(&self.registration.grant);
        let signer = Signer::from_seed(&self.registration.seed);
        let expiry = now().plus_millis(3_600_000);
        Chunk::sign(name, expiry, grant, b"sealed", &signer).unwrap()
    }

    fn place(&self) -> Place {
        Place {
            origin: self.registration.origin.origin_id(),
            org: 1,
            team: 2,
        }
    }

    fn publish(&self, secure: &mut Secure, chunk: &Chunk) {
        secure.say(&Frame::Grant(vec![self.registration.grant.clone()]));
        secure.say(&Frame::Publish(vec![chunk.clone()]));
    }

    fn subscribe(&self, secure: &mut Secure) {
        let prefix = Name::team_prefix(self.place(), NamePath::Message);
        let (start, order) = (Start::All, Order::OldestFirst);
        secure.say(&Frame::Subscribe {
            id: 1,
            prefix,
            start,
            order,
        });
    }
}

#[test]
fn chunks_go_up_come_back_and_survive_both_processes() {
    let world = World::new();
    let mut net = world.net();
    net.configure(&world.origin, &[]);
    let mut secure = net.link();
    let first = world.chunk(1);
    world.publish(&mut secure, &first);
    assert_eq!(secure.wait_for(first.name(), Tier::Device), [Tier::Device]);

    // Killed without a relay in sight, it still has the chunk, and sends it when there is one.
    net.child.kill().unwrap();
    net.child.wait().unwrap();
    let relay = world.relay("127.0.0.1:0");
    let net = world.net();
    net.configure(&world.origin, std::slice::from_ref(relay.address()));
    let mut secure = net.link();
    world.publish(&mut secure, &first);
    assert_eq!(
        secure.wait_for(first.name(), Tier::Origin).last(),
        Some(&Tier::Origin)
    );

    // What others publish comes down, also after a new link, and after the relay was away.
    world.subscribe(&mut secure);
    assert_eq!(secure.chunks(1), std::slice::from_ref(&first));
    let mut secure = net.link();
    world.subscribe(&mut secure);
    assert_eq!(secure.chunks(1), [first]);
    let place = relay.address().place.clone();
    world.runtime.block_on(relay.stop());
    let second = world.chunk(2);
    world.publish(&mut secure, &second);
    secure.wait_for(second.name(), Tier::Device);
    let relay = world.relay(&place);
    secure.wait_for(second.name(), Tier::Origin);
    world.runtime.block_on(relay.stop());
}

#[test]
fn it_ends_with_the_starter() {
    let directory = tempfile::tempdir().unwrap();
    let mut net = Net::start(directory.path());
    drop(net.control.take());
    assert!(net.child.wait().unwrap().success());
}

#[test]
fn started_by_hand_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_treeline-net"))
        .arg("--directory")
        .arg(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("control socket")
    );
}
