//! The shell around [`Device`]: pipes into events, effects into bytes. It decides nothing.
//!
//! One thread reads each kind of pipe, one writes each, and one bounded channel leads to the device's
//! own thread, which therefore never waits for a peer. A peer that does not read loses its pipe. All
//! threads there will ever be are started by [`Shell::new`]: after it the process may be confined so
//! that it cannot start another. Source: docs/architecture.md, "Core and shell" and "Confinement".

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use confinement::Isolation;
use endpoint_secure_api::codec::{Frame as DoorFrame, Kind};
use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_api::{Code, Refusal};
use proto::{Frame, FrameDecoder, Timestamp};
use rustix::time::ClockId;

use crate::device::{Asker, Device, Effect, Event};
use crate::locking::Clocks;

/// Inputs that wait for the device, at most.
const INPUTS: usize = 256;
/// New pipes that wait for the thread that serves the one before, which has been cut.
const HANDOVERS: usize = 16;
/// Threads of the pool that the group's library brings.
const POOL: usize = 2;
/// Frames that wait for a pipe's reader, at most.
const OUTPUTS: usize = 4096;
/// The longest sleep.
const IDLE: Duration = Duration::from_secs(60);
/// The longest sleep while a profile is open that locks when the machine has slept: so long it may stay
/// open after that, for the time of a sleep does not count.
const WATCHED: Duration = Duration::from_secs(2);
/// Bytes that are written to the network process at once, about.
const WRITE: usize = 32 * 1024;

enum Input {
    Door(OwnedFd),
    Net(OwnedFd),
    Command(Asker, endpoint_secure_api::Command),
    Frame(u64, Frame),
    NetGone(u64),
    Isolation(String, Isolation),
    Found(Vec<u8>),
    StarterGone,
}

/// A pipe's writing half: a queue to its thread, and the stream to cut it.
struct Pipe<T> {
    number: u64,
    queue: SyncSender<T>,
    stream: UnixStream,
}

impl<T> Pipe<T> {
    /// `false` when the peer does not read, or is gone.
    fn send(&self, item: T) -> bool {
        match self.queue.try_send(item) {
            Ok(()) => true,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                self.cut();
                false
            }
        }
    }

    fn cut(&self) {
        // It may be cut already.
        self.stream.shutdown(Shutdown::Both).ok();
    }
}

/// The two threads of one kind of pipe, which serve one pipe after the other.
struct Lane<T> {
    reading: SyncSender<(u64, UnixStream)>,
    writing: SyncSender<(UnixStream, Receiver<T>)>,
}

impl<T: Send + 'static> Lane<T> {
    fn start(
        read: impl Fn(UnixStream, u64) + Send + 'static,
        write: fn(UnixStream, &Receiver<T>),
    ) -> io::Result<Self> {
        let (reading, to_read) = sync_channel::<(u64, UnixStream)>(HANDOVERS);
        let (writing, to_write) = sync_channel::<(UnixStream, Receiver<T>)>(HANDOVERS);
        thread::Builder::new().spawn(move || {
            to_read
                .iter()
                .for_each(|(number, stream)| read(stream, number));
        })?;
        thread::Builder::new().spawn(move || {
            to_write
                .iter()
                .for_each(|(stream, items)| write(stream, &items));
        })?;
        Ok(Self { reading, writing })
    }

    /// Takes a new pipe. The one before must have been cut.
    fn open(&self, number: u64, descriptor: OwnedFd) -> Option<Pipe<T>> {
        let stream = UnixStream::from(descriptor);
        let (input, output) = (stream.try_clone().ok()?, stream.try_clone().ok()?);
        let (queue, items) = sync_channel(OUTPUTS);
        self.writing.try_send((output, items)).ok()?;
        self.reading.try_send((number, input)).ok()?;
        Some(Pipe {
            number,
            queue,
            stream,
        })
    }
}

/// The device and its pipes.
pub struct Shell {
    device: Device,
    control: Control,
    inputs: Receiver<Input>,
    doors: Lane<DoorFrame>,
    links: Lane<Frame>,
    door: Option<Pipe<DoorFrame>>,
    net: Option<Pipe<Frame>>,
    pipes: u64,
    /// When the machine was last looked at, to see whether it has slept.
    clocks: Clocks,
}

impl Shell {
    /// Starts every thread, and to read the control socket.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(device: Device, control: Control) -> io::Result<Self> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(POOL);
        pool.build_global().map_err(io::Error::other)?;
        let (sender, inputs) = sync_channel(INPUTS);
        let (commands, frames) = (sender.clone(), sender.clone());
        let doors = Lane::start(
            move |stream, door| read_door(stream, door, &commands),
            write_door,
        )?;
        let links = Lane::start(
            move |stream, link| read_net(stream, link, &frames),
            write_net,
        )?;
        let reading = control.try_clone()?;
        thread::Builder::new().spawn(move || read_control(&reading, &sender))?;
        Ok(Self {
            device,
            control,
            inputs,
            doors,
            links,
            door: None,
            net: None,
            pipes: 0,
            clocks: clocks(),
        })
    }

    /// Runs until the starter is gone.
    pub fn run(mut self, isolation: Isolation) {
        self.isolated("secure".into(), isolation);
        self.tell(Tag::Line, b"ready");
        loop {
            let input = self.inputs.recv_timeout(self.sleep());
            self.notice_sleep();
            match input {
                Ok(Input::StarterGone) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => self.device.handle(Event::Tick, now()),
            }
            self.carry_out();
        }
    }

    /// Before anything else that happens after it.
    fn notice_sleep(&mut self) {
        let clocks = clocks();
        if clocks.slept_since(&self.clocks) {
            self.device.handle(Event::Resumed, now());
        }
        self.clocks = clocks;
    }

    /// When the starter is gone, the control thread ends the process.
    fn tell(&self, tag: Tag, body: &[u8]) {
        self.control.send(tag, body, None).ok();
    }

    fn sleep(&self) -> Duration {
        let longest = if self.device.locks_on_suspend() {
            WATCHED
        } else {
            IDLE
        };
        let until = self.device.next_timeout();
        until.map_or(longest, |time| {
            Duration::from_millis(time.since(now()).clamp(1, longest.as_millis() as u64))
        })
    }

    fn take(&mut self, input: Input) {
        let now = now();
        match input {
            Input::Door(descriptor) => self.open_door(descriptor),
            Input::Net(descriptor) => self.open_net(descriptor),
            Input::Command(asker, command) => {
                self.device.handle(Event::Command(asker, command), now);
            }
            Input::Frame(link, frame) => {
                if self.net.as_ref().is_some_and(|net| net.number == link) {
                    self.device.handle(Event::Net(frame), now);
                }
            }
            Input::NetGone(link) => {
                if self.net.as_ref().is_some_and(|net| net.number == link) {
                    self.close_net();
                }
            }
            Input::Isolation(part, isolation) => self.isolated(part, isolation),
            Input::Found(json) => self.device.handle(Event::Found(json), now),
            Input::StarterGone => {}
        }
    }

    fn isolated(&mut self, part: String, isolation: Isolation) {
        self.device.handle(Event::Isolation(part, isolation), now());
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.device.next_effect() {
            match effect {
                Effect::Answer(asker, answer) => self.answer(asker, answer),
                Effect::Event(event) => {
                    if let Ok(frame) = DoorFrame::of(Kind::Event, 0, &event) {
                        self.push_door(frame);
                    }
                }
                Effect::Frame(frame) => {
                    let gone = self.net.as_ref().is_some_and(|net| !net.send(frame));
                    if gone {
                        self.close_net();
                    }
                }
                Effect::CloseNet(why) => {
                    tracing::warn!(why, "the link to the network process is closed");
                    if let Some(net) = self.net.take() {
                        net.cut();
                    }
                }
                Effect::Configure(text) => self.tell(Tag::Configuration, text.as_bytes()),
            }
        }
    }

    fn answer(&mut self, asker: Asker, answer: Result<endpoint_secure_api::Answer, Refusal>) {
        let frame = match &answer {
            Ok(answer) => DoorFrame::of(Kind::Answer, asker.id, answer),
            Err(refusal) => DoorFrame::of(Kind::Refusal, asker.id, refusal),
        };
        let frame = frame.or_else(|_| {
            let refusal = Refusal::new(Code::Usage, "the answer is too long; ask for less");
            DoorFrame::of(Kind::Refusal, asker.id, &refusal)
        });
        let newest = self
            .door
            .as_ref()
            .is_some_and(|door| door.number == asker.door);
        if let (Ok(frame), true) = (frame, newest) {
            self.push_door(frame);
        }
    }

    fn push_door(&mut self, frame: DoorFrame) {
        if self.door.as_ref().is_some_and(|door| !door.send(frame)) {
            self.door = None;
        }
    }

    fn open_door(&mut self, descriptor: OwnedFd) {
        if let Some(door) = self.door.take() {
            door.cut();
        }
        let number = self.next_number();
        self.door = self.doors.open(number, descriptor);
    }

    fn open_net(&mut self, descriptor: OwnedFd) {
        self.close_net();
        let number = self.next_number();
        self.net = self.links.open(number, descriptor);
        if self.net.is_some() {
            self.device.handle(Event::NetUp, now());
        }
    }

    fn close_net(&mut self) {
        if let Some(net) = self.net.take() {
            net.cut();
            self.device.handle(Event::NetDown, now());
        }
    }

    fn next_number(&mut self) -> u64 {
        self.pipes += 1;
        self.pipes
    }
}

fn write_door(mut stream: UnixStream, frames: &Receiver<DoorFrame>) {
    for frame in frames {
        if frame.write(&mut stream).is_err() {
            return;
        }
    }
}

fn write_net(mut stream: UnixStream, frames: &Receiver<Frame>) {
    let mut bytes = Vec::new();
    while let Ok(frame) = frames.recv() {
        bytes.clear();
        frame.encode(&mut bytes);
        while bytes.len() < WRITE
            && let Ok(frame) = frames.try_recv()
        {
            frame.encode(&mut bytes);
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
    }
}

/// The one kind of frame that is accepted from a front end is a command; everything else closes the door.
fn read_door(mut stream: UnixStream, door: u64, inputs: &SyncSender<Input>) {
    while let Ok(Some(frame)) = DoorFrame::read(&mut stream) {
        if frame.kind != Kind::Command {
            break;
        }
        let Ok(command) = frame.parse() else {
            tracing::warn!("a command cannot be read: its door is closed");
            break;
        };
        let asker = Asker { door, id: frame.id };
        if inputs.send(Input::Command(asker, command)).is_err() {
            break;
        }
    }
    stream.shutdown(Shutdown::Both).ok();
}

fn read_net(mut stream: UnixStream, link: u64, inputs: &SyncSender<Input>) {
    let mut decoder = FrameDecoder::default();
    let mut buffer = vec![0; 64 * 1024];
    'link: while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 {
            break;
        }
        decoder.push(&buffer[..count]);
        loop {
            let frame = match decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => break 'link,
            };
            if inputs.send(Input::Frame(link, frame)).is_err() {
                break 'link;
            }
        }
    }
    // Without a device there is nobody to tell.
    inputs.send(Input::NetGone(link)).ok();
}

fn read_control(control: &Control, inputs: &SyncSender<Input>) {
    while let Ok(Some(packet)) = control.receive() {
        let input = match (packet.tag, packet.descriptor) {
            (Tag::Door, Some(descriptor)) => Input::Door(descriptor),
            (Tag::Link, Some(descriptor)) => Input::Net(descriptor),
            (Tag::Isolation, None) => match isolation(&packet.body) {
                Some((part, isolation)) => Input::Isolation(part, isolation),
                None => break,
            },
            (Tag::Relays, None) => Input::Found(packet.body),
            _ => break,
        };
        if inputs.send(input).is_err() {
            return;
        }
    }
    inputs.send(Input::StarterGone).ok();
}

/// `net full`: which part of the endpoint, and how it is confined.
fn isolation(body: &[u8]) -> Option<(String, Isolation)> {
    let (part, text) = str::from_utf8(body).ok()?.split_once(' ')?;
    Some((part.to_owned(), text.parse().ok()?))
}

fn clocks() -> Clocks {
    let since = |clock| {
        let time = rustix::time::clock_gettime(clock);
        Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
    };
    Clocks {
        through_sleep: since(ClockId::Boottime),
        awake: since(ClockId::Monotonic),
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Timestamp::from_millis(since.map_or(0, |time| time.as_millis() as u64))
}
