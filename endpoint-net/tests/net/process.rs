//! treeline-net as a process, between a pretended Secure on its pipe and a real relay.

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

/// The program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_treeline-net");
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// treeline-net as its starter sees it; killed when dropped.
pub struct Net {
    pub child: Child,
    pub control: Option<OwnedFd>,
}

impl Net {
    pub fn start(directory: &Path) -> Self {
        Self::spawn(Command::new(PROGRAM), directory)
    }

    /// Starts it by a command that ends with the program.
    pub fn spawn(mut command: Command, directory: &Path) -> Self {
        let family = AddressFamily::UNIX;
        let (ours, theirs) =
            socketpair(family, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).unwrap();
        let child = command
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

    pub fn configure(&self, origin: &str, relays: &[RelayAddress]) {
        let relays: Vec<String> = relays.iter().map(|relay| format!("\"{relay}\"")).collect();
        let relays = relays.join(",");
        self.send(&format!(
            r#"{{"origins":["{origin}"],"relays":[{relays}]}}"#
        ));
    }

    /// Sends a configuration.
    pub fn send(&self, json: &str) {
        let control = self.control.as_ref().unwrap();
        send(control, format!("C{json}").as_bytes(), SendFlags::empty()).unwrap();
    }

    /// Waits until it tells of the relay with this key.
    pub fn stranger(&self, key: &str) -> serde_json::Value {
        let control = self.control.as_ref().unwrap();
        rustix::net::sockopt::set_socket_timeout(
            control,
            rustix::net::sockopt::Timeout::Recv,
            Some(PATIENCE),
        )
        .unwrap();
        let mut packet = vec![0; 33 * 1024];
        loop {
            let flags = rustix::net::RecvFlags::empty();
            let (count, _) = recv(control, &mut packet, flags).unwrap();
            assert!(count > 0, "it has ended");
            if packet[0] != b'R' {
                continue;
            }
            let told: Vec<serde_json::Value> = serde_json::from_slice(&packet[1..count]).unwrap();
            if let Some(relay) = told.into_iter().find(|relay| relay["key"] == key) {
                return relay;
            }
        }
    }

    pub fn link(&self) -> Secure {
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

/// The Secure of a device, pretended.
pub struct Secure {
    stream: UnixStream,
    decoder: FrameDecoder,
}

impl Secure {
    pub fn say(&mut self, frame: &Frame) {
        self.stream.write_all(&frame.to_bytes()).unwrap();
    }

    pub fn next(&mut self) -> Frame {
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
    pub fn wait_for(&mut self, name: Name, tier: Tier) -> Vec<Tier> {
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

    pub fn chunks(&mut self, count: usize) -> Vec<Chunk> {
        let mut all = Vec::new();
        while all.len() < count {
            if let Frame::Chunks { chunks, .. } = self.next() {
                all.extend(chunks);
            }
        }
        all
    }
}

/// An origin, its one organisation, and folders for processes.
pub struct World {
    pub directory: tempfile::TempDir,
    pub runtime: tokio::runtime::Runtime,
    pub registration: Registration,
    pub origin: String,
}

impl World {
    pub fn new() -> Self {
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

    pub fn relay(&self, listen: &str) -> Relay {
        let options = Options {
            directory: Some(self.directory.path().join("origin")),
            listen: Some(listen.into()),
            ..Options::default()
        };
        self.runtime
            .block_on(Relay::start(&Config::load(&options).unwrap()))
            .unwrap()
    }

    pub fn net(&self) -> Net {
        Net::start(&self.directory.path().join("net"))
    }

    pub fn chunk(&self, number: u32) -> Chunk {
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

    pub fn place(&self) -> Place {
        Place {
            origin: self.registration.origin.origin_id(),
            org: 1,
            team: 2,
        }
    }

    pub fn publish(&self, secure: &mut Secure, chunk: &Chunk) {
        secure.say(&Frame::Grant(vec![self.registration.grant.clone()]));
        secure.say(&Frame::Publish(vec![chunk.clone()]));
    }

    pub fn subscribe(&self, secure: &mut Secure) {
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
