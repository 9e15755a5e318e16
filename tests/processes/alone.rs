//! One Secure, with the test in the place of its starter, its front end and its network process.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use endpoint_secure_api::control::{Control, Tag, stream_pair};
use endpoint_secure_api::door::Door;
use endpoint_secure_api::{Answer, Command as Ask, Passphrase, Refusal};
use proto::{Chunk, Frame, FrameDecoder, Name};
use xtask::process::{NO_KEYRING, binary};

use crate::scene::built;

pub const PASSPHRASE: &str = "quinces ripen late behind the lighthouse wall";

/// The process and its pipes.
pub struct Alone {
    pub process: Child,
    pub door: Door,
    control: Control,
}

impl Alone {
    /// Starts it in a profile's directory; its log goes beside.
    pub fn start(directory: &Path) -> Self {
        built();
        let mut command = Command::new(binary("treeline-secure").unwrap());
        command.arg("--directory").arg(directory);
        Self::of(command, &directory.with_extension("log"))
    }

    /// Starts a program that behaves as it, without a keyring: a test must not write into that of
    /// whoever runs it.
    pub fn of(mut command: Command, log: &Path) -> Self {
        command.envs(NO_KEYRING);
        Self::at_its_keyring(command, log)
    }

    /// The same with the keyring that the command's environment names.
    pub fn at_its_keyring(mut command: Command, log: &Path) -> Self {
        let (control, theirs) = Control::pair().unwrap();
        let log = File::create(log).unwrap();
        let process = command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let said = control.try_clone().unwrap();
        // What it tells its starter is read and left.
        thread::spawn(move || while let Ok(Some(_)) = said.receive() {});
        let door = open_door(&control);
        Self {
            process,
            door,
            control,
        }
    }

    /// A new door, in place of the one before.
    pub fn renew_door(&mut self) {
        self.door = open_door(&self.control);
    }

    pub fn ask(&self, command: &Ask) -> Result<Answer, Refusal> {
        self.door.call(command)
    }

    /// A front end's end of a new door, in place of the one before.
    pub fn bare_door(&self) -> UnixStream {
        let (theirs, ours) = stream_pair().unwrap();
        let end = Some(theirs.as_fd());
        self.control.send(Tag::Door, b"", end).unwrap();
        ours
    }

    /// The network process's end of a new link.
    pub fn socket(&self) -> UnixStream {
        let (theirs, ours) = stream_pair().unwrap();
        let end = Some(theirs.as_fd());
        self.control.send(Tag::Link, b"", end).unwrap();
        ours
    }

    /// A new link, in place of the one before.
    pub fn link(&self, seen: &Arc<Mutex<Seen>>) -> Link {
        let ours = self.socket();
        let input = ours.try_clone().unwrap();
        let seen = Arc::clone(seen);
        seen.lock().unwrap().subscriptions.clear();
        Link {
            stream: ours,
            reader: Some(thread::spawn(move || read(input, &seen))),
        }
    }
}

fn open_door(control: &Control) -> Door {
    let (theirs, ours) = stream_pair().unwrap();
    let end = Some(theirs.as_fd());
    control.send(Tag::Door, b"", end).unwrap();
    Door::new(ours.try_clone().unwrap(), ours, |_| {})
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.control.close();
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

pub fn create(secure: &Alone, user: &str) {
    let command = Ask::CreateProfile {
        passphrase: Passphrase::new(PASSPHRASE.into()),
        user: user.into(),
        device: "ward laptop".into(),
    };
    secure.ask(&command).unwrap();
}

pub fn unlock(secure: &Alone) {
    let passphrase = Passphrase::new(PASSPHRASE.into());
    secure.ask(&Ask::Unlock { passphrase }).unwrap();
}

/// Everything that Secure has said to its network process.
#[derive(Default)]
pub struct Seen {
    pub bytes: Vec<u8>,
    pub chunks: BTreeMap<Name, Chunk>,
    /// Of the newest link.
    pub subscriptions: Vec<u32>,
    /// What no relay is told, or what was said twice in different words.
    pub wrong: Vec<String>,
}

impl Seen {
    fn take(&mut self, frame: Frame) {
        match frame {
            Frame::Subscribe { id, .. } => self.subscriptions.push(id),
            Frame::Publish(chunks) | Frame::Grant(chunks) => {
                for chunk in chunks {
                    let before = self.chunks.insert(chunk.name(), chunk.clone());
                    if before.is_some_and(|before| before != chunk) {
                        self.wrong
                            .push(format!("two chunks under {:?}", chunk.name()));
                    }
                }
            }
            Frame::Hello(_) | Frame::Unsubscribe { .. } | Frame::Fetch { .. } => {}
            other => self.wrong.push(format!("it sent {other:?}")),
        }
    }
}

/// The network process's end of a link.
pub struct Link {
    stream: UnixStream,
    reader: Option<JoinHandle<()>>,
}

impl Link {
    /// `false` when Secure has closed the link.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Ends it and waits until everything that came over it was looked at.
    pub fn end(mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).ok();
        self.reader.take().unwrap().join().unwrap();
    }
}

fn read(mut input: UnixStream, seen: &Mutex<Seen>) {
    let mut decoder = FrameDecoder::default();
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = input.read(&mut buffer) {
        let mut seen = seen.lock().unwrap();
        seen.bytes.extend_from_slice(&buffer[..count]);
        decoder.push(&buffer[..count]);
        while let Some(frame) = decoder.next_frame().unwrap() {
            seen.take(frame);
        }
    }
}
