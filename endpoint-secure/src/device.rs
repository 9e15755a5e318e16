//! One device as a pure state machine: an event in, effects out.
//!
//! [`Device::handle`] runs one event as one SQLite transaction; drain [`Device::next_effect`] to
//! `None` after it, then sleep until [`Device::next_timeout`] at most. Time is an argument and must
//! not run backwards by more than a clock correction. There is no socket in here. Source:
//! docs/architecture.md, "Core and shell".

pub mod session;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

use confinement::Isolation;
use endpoint_secure_api::{
    Answer, ChannelId, Code, Command, Connectivity, Lock as LockState, LockCause, Passphrase,
    Reach, Refusal, Status,
};
use proto::{Frame, Hello, Tier, Timestamp};

use crate::lock::device_secret::DeviceSecret;
use crate::lock::{Cost, Lock, LockError, MasterKey};
use crate::locking;
use crate::relays;
use crate::store::{self, Store, StoreError};
use session::{Failure, Identity, Session};
use zeroize::Zeroize;

/// How a part is confined that has not told yet.
const UNHEARD: &str = "it has not said yet";
/// How long a used message key may stand in the store's log, in milliseconds.
const STALE_MS: u64 = 1000;
/// As deep as functions go here, about, in bytes.
const STACK: usize = 768 * 1024;
/// Changes of teams that are made in one go, at most.
const PURSUITS: usize = 64;
/// The longest display name, in characters, and the shortest.
const NAME_CHARACTERS: std::ops::RangeInclusive<usize> = 1..=Command::NAME_LIMIT;

/// Whose command it is, so that an answer never goes to another front end's pipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asker {
    /// The door, counted by the shell.
    pub door: u64,
    /// The id the front end chose.
    pub id: u64,
}

/// What happens to a device.
#[derive(Debug)]
pub enum Event {
    /// A front end asks.
    Command(Asker, Command),
    /// There is a new link to the network process.
    NetUp,
    /// The link is gone.
    NetDown,
    /// The network process sent a frame.
    Net(Frame),
    /// How a part of the endpoint is confined: `secure`, `net`, or its front end.
    Isolation(String, Isolation),
    /// The network process has found relays that somebody has to judge: JSON, not to be trusted.
    Found(Vec<u8>),
    /// The machine has slept, and is awake again.
    Resumed,
    /// Nothing happened until the timeout.
    Tick,
}

/// What the shell does for a device.
#[derive(Debug)]
pub enum Effect {
    /// Answers a command.
    Answer(Asker, Result<Answer, Refusal>),
    /// Tells the front end.
    Event(endpoint_secure_api::Event),
    /// Sends a frame to the network process.
    Frame(Frame),
    /// Closes the link: the network process broke the protocol.
    CloseNet(&'static str),
    /// Hands the starter the network configuration, as JSON text.
    Configure(String),
}

/// A device's whole state.
pub struct Device {
    directory: PathBuf,
    lock: Lock,
    /// In memory of its own, which is overwritten when it is freed.
    session: Option<Box<Session>>,
    effects: VecDeque<Effect>,
    link_up: bool,
    greeted: bool,
    /// The last subscription id: over a lock and an unlock the link stays, and no id comes twice.
    last_id: u32,
    connectivity: Connectivity,
    isolation: BTreeMap<String, Isolation>,
    /// The newest list of relays that the network process has found, as it came; it stays over a lock and
    /// an unlock.
    found: Vec<u8>,
    /// When used message keys, which were written over, go from the store's log too.
    clean_at: Option<Timestamp>,
    /// When a person last did something.
    last_act: Timestamp,
    /// Why it was locked last.
    lock_cause: LockCause,
}

impl Device {
    /// Opens a directory, which must exist. `cost` is for new profiles.
    ///
    /// # Errors
    /// [`LockError`] if the key database cannot be opened.
    pub fn open(directory: &Path, cost: Cost) -> Result<Self, LockError> {
        Ok(Self {
            directory: directory.to_owned(),
            lock: Lock::open(directory, cost)?,
            session: None,
            effects: VecDeque::new(),
            link_up: false,
            greeted: false,
            last_id: 0,
            connectivity: Connectivity::default(),
            isolation: ["secure", "net"]
                .map(|part| (part.to_owned(), Isolation::Partial(UNHEARD.into())))
                .into(),
            found: Vec::new(),
            clean_at: None,
            last_act: Timestamp::default(),
            lock_cause: LockCause::default(),
        })
    }

    /// Gives it what the operating system's keyring gave for this profile, or why that was nothing.
    pub fn bind(&mut self, secret: Result<DeviceSecret, String>) {
        self.lock.bind(secret);
    }

    /// Takes an event in.
    pub fn handle(&mut self, event: Event, now: Timestamp) {
        // A clock that was set back has not given anybody more time.
        self.last_act = self.last_act.min(now);
        match event {
            Event::Command(asker, command) => {
                if locking::is_act(&command) {
                    self.last_act = now;
                }
                let answer = self.command(command, now);
                self.drain_session();
                self.effects.push_back(Effect::Answer(asker, answer));
            }
            Event::NetUp => self.net_up(now),
            Event::NetDown => self.net_down(now),
            Event::Net(frame) => self.net_frame(frame, now),
            Event::Isolation(part, isolation) => {
                self.isolation.insert(part, isolation);
            }
            Event::Found(json) => {
                if self.session.is_none() || relays::read(&json).is_some() {
                    self.found = json;
                    self.read_found(now);
                }
            }
            Event::Resumed => {
                if self.locks_on_suspend() {
                    self.forget(now, LockCause::Sleep);
                }
            }
            Event::Tick => self.in_session(now, Session::tick),
        }
        if self.locks_at().is_some_and(|at| at <= now) {
            self.forget(now, LockCause::Idle);
        }
        self.pursue(now);
        self.drain_session();
        self.clean(now);
    }

    /// A used key stands in the store's log for a second at most.
    fn clean(&mut self, now: Timestamp) {
        let stale = |session: &Session| session.store.is_stale();
        if !self.session.as_deref().is_some_and(stale) {
            self.clean_at = None;
        } else if self.clean_at.is_none_or(|at| at.since(now) > STALE_MS) {
            // Also when the clock was set back.
            self.clean_at = Some(now.plus_millis(STALE_MS));
        } else if self.clean_at.is_some_and(|at| at <= now) {
            self.clean_at = None;
            // A full disk is told when something is written.
            self.session
                .as_ref()
                .map(|session| session.store.empty_log());
        }
    }

    /// Changes of teams whose time has come, each as an event of its own.
    fn pursue(&mut self, now: Timestamp) {
        for _ in 0..PURSUITS {
            if !self.session.as_deref().is_some_and(Session::pursuit_is_due) {
                return;
            }
            self.in_session(now, Session::pursue);
        }
    }

    /// The next thing to do; `None` when everything is done.
    pub fn next_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// When to send [`Event::Tick`] if nothing else happens.
    pub fn next_timeout(&self) -> Option<Timestamp> {
        let session = self.session.as_deref().and_then(Session::next_timeout);
        let lock = self.locks_at();
        session.into_iter().chain(self.clean_at).chain(lock).min()
    }

    /// When the open profile locks, if nobody does anything more.
    fn locks_at(&self) -> Option<Timestamp> {
        let session = self.session.as_deref()?;
        session.locks_at(self.last_act)
    }

    /// Whether a profile is open that locks when the machine has slept.
    pub fn locks_on_suspend(&self) -> bool {
        let open = self.session.as_deref();
        open.is_some_and(Session::locks_on_suspend)
    }

    fn command(&mut self, command: Command, now: Timestamp) -> Result<Answer, Refusal> {
        match command {
            Command::Status => Ok(Answer::Status(self.status()?)),
            Command::CreateProfile {
                passphrase,
                user,
                device,
            } => self.create(&passphrase, &user, &device, now),
            Command::Unlock { passphrase } => self.unlock(&passphrase, now),
            Command::ChangePassphrase { old, new } => {
                self.session()?;
                self.lock
                    .change(&old, &new, now.millis())
                    .map_err(|e| lock_refusal(&e))?;
                Ok(Answer::Done)
            }
            Command::Lock => {
                self.forget(now, LockCause::Person);
                Ok(Answer::Done)
            }
            Command::Present => {
                self.session()?;
                Ok(Answer::Done)
            }
            Command::Connectivity => {
                self.session()?;
                Ok(Answer::Connectivity(self.connectivity()))
            }
            Command::Send { channel, token, .. } => self.send((channel, token), command, now),
            other => {
                let session = self.session()?;
                run(session, now, |session| session.command(other))
            }
        }
    }

    /// Sends, unless one before it in the same sending has found no room: it may find some by now, and
    /// would overtake.
    fn send(
        &mut self,
        (channel, token): (ChannelId, u64),
        command: Command,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        let session = self.session()?;
        if let Some((there, first, refusal)) = &session.no_room
            && *there == channel
            && (1..=Command::SEND_WINDOW).contains(&token.wrapping_sub(*first))
        {
            return Err(refusal.clone());
        }
        let result = run(session, now, |session| session.command(command));
        match &result {
            Err(refusal) if refusal.code == Code::Storage => {
                session.no_room = Some((channel, token, refusal.clone()));
            }
            Ok(_) if session.no_room.as_ref().is_some_and(|one| one.1 == token) => {
                session.no_room = None;
            }
            _ => {}
        }
        result
    }

    /// The unlocked device, for tests that look into it or make it lie.
    #[cfg(test)]
    pub(crate) fn open_session(&mut self) -> Option<&mut Session> {
        self.session.as_deref_mut()
    }

    fn session(&mut self) -> Result<&mut Session, Refusal> {
        self.session
            .as_deref_mut()
            .ok_or_else(|| Refusal::new(Code::Locked, "the profile is locked; unlock it first"))
    }

    fn status(&self) -> Result<Status, Refusal> {
        let lock = if self.session.is_some() {
            LockState::Unlocked
        } else if self.lock.is_empty().map_err(|e| lock_refusal(&e))? {
            LockState::Empty
        } else {
            LockState::Locked
        };
        Ok(Status {
            lock,
            lock_cause: self.lock_cause,
            profile: self.session.as_deref().map(Session::profile),
            version: env!("CARGO_PKG_VERSION").into(),
            isolation: self.isolation().to_string(),
            connectivity: self.connectivity(),
        })
    }

    fn isolation(&self) -> Isolation {
        let parts = self.isolation.iter();
        let parts: Vec<_> = parts
            .map(|(part, how)| (part.as_str(), how.clone()))
            .collect();
        Isolation::of_all(&parts)
    }

    fn connectivity(&self) -> Connectivity {
        // A locked device says nothing of what the network process says.
        let Some(session) = self.session.as_deref() else {
            return Connectivity::default();
        };
        Connectivity {
            queued: session.queued(),
            ..self.connectivity.clone()
        }
    }

    fn create(
        &mut self,
        passphrase: &Passphrase,
        user: &str,
        device: &str,
        now: Timestamp,
    ) -> Result<Answer, Refusal> {
        if self.session.is_some() || !self.lock.is_empty().map_err(|e| lock_refusal(&e))? {
            return Err(Refusal::new(
                Code::Usage,
                "there is a profile in this directory already; unlock it, or choose another",
            ));
        }
        let (user, device) = (checked_name(user)?, checked_name(device)?);
        self.lock.check(passphrase).map_err(|e| lock_refusal(&e))?;
        self.remove_leftovers()?;
        let master = MasterKey::random().map_err(|e| lock_refusal(&e))?;
        let identity = Identity::new(user, device).map_err(|e| store_refusal(&e))?;
        // The identity first, the lock last: a crash between leaves a directory without a profile.
        let store = Store::open(&self.directory, &master).map_err(|e| store_refusal(&e))?;
        Session::found(&store, &identity).map_err(|e| store_refusal(&e))?;
        self.lock
            .set(&master, passphrase)
            .map_err(|e| lock_refusal(&e))?;
        self.start(store, now)
    }

    fn unlock(&mut self, passphrase: &Passphrase, now: Timestamp) -> Result<Answer, Refusal> {
        if let Some(session) = &self.session {
            // The passphrase is not asked twice: an open profile is open to every front end.
            return Ok(Answer::Profile(session.profile()));
        }
        let master = self
            .lock
            .unlock(passphrase, now.millis())
            .map_err(|e| lock_refusal(&e))?;
        let store = Store::open(&self.directory, &master).map_err(|e| store_refusal(&e))?;
        self.start(store, now)
    }

    fn start(&mut self, store: Store, now: Timestamp) -> Result<Answer, Refusal> {
        let session = Session::load(store, self.last_id).map_err(|e| store_refusal(&e))?;
        let profile = session.profile();
        self.session = Some(Box::new(session));
        self.notify_lock(LockState::Unlocked);
        self.in_session(now, Session::configure);
        self.read_found(now);
        if self.link_up {
            self.in_session(now, Session::link_up);
        }
        Ok(Answer::Profile(profile))
    }

    /// A locked device keeps it unread. What cannot be read changes nothing: it comes from the process
    /// that has the network.
    fn read_found(&mut self, now: Timestamp) {
        if self.session.is_some()
            && let Some(found) = relays::read(&self.found)
        {
            self.in_session(now, |session| session.found_relays(found));
        }
    }

    fn forget(&mut self, now: Timestamp, cause: LockCause) {
        if self.session.is_some() {
            self.lock_cause = cause;
            self.in_session(now, Session::link_closing);
            self.drain_session();
            self.last_id = self.session.take().map_or(0, |session| session.last_id());
            wipe_stack();
            self.notify_lock(LockState::Locked);
        }
    }

    fn notify_lock(&mut self, lock: LockState) {
        let event = endpoint_secure_api::Event::Lock(lock);
        self.effects.push_back(Effect::Event(event));
    }

    fn remove_leftovers(&self) -> Result<(), Refusal> {
        for ending in ["", "-wal", "-shm"] {
            let path = self.directory.join(format!("{}{ending}", store::FILE));
            match fs::remove_file(path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Refusal::new(
                        Code::Storage,
                        format!("the profile's directory cannot be written: {e}"),
                    ));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn net_up(&mut self, now: Timestamp) {
        self.link_up = true;
        self.greeted = false;
        self.effects.push_back(Effect::Frame(Frame::Hello(Hello {
            oldest: Hello::VERSION,
            newest: Hello::VERSION,
            features: 0,
            tier: Tier::Device,
            time: now,
            store: [0; 16],
        })));
        self.in_session(now, Session::link_up);
    }

    fn net_down(&mut self, now: Timestamp) {
        self.link_up = false;
        self.in_session(now, Session::link_down);
        self.reached(Tier::Device, String::new());
    }

    /// The one table of frames that are accepted from the network process. Everything else closes
    /// the link. A locked device takes greetings, and keeps for later how far the network process
    /// reaches; what else was on its way is dropped.
    fn net_frame(&mut self, frame: Frame, now: Timestamp) {
        match frame {
            _ if !self.link_up => {}
            Frame::Hello(_) if !self.greeted => self.greeted = true,
            _ if !self.greeted => self.break_link("it did not begin with HELLO", now),
            Frame::Reach { tier, relay } => {
                let shown = relays::printable(&relay);
                self.reached(tier, if shown { relay } else { String::new() });
                self.in_session(now, Session::reach_moved);
            }
            Frame::Close { .. } => self.break_link("it closed the link", now),
            // Who may publish is the relays' business; authors are verified inside MLS.
            Frame::Grant(_) => {}
            Frame::Ack(acks) => self.in_session(now, |session| session.acknowledged(acks)),
            Frame::Chunks { id, chunks } => {
                self.in_session(now, |session| session.received(id, chunks));
            }
            Frame::CaughtUp { id, cursor, live } => {
                self.in_session(now, |session| session.caught_up(id, &cursor, live));
            }
            _ => self.break_link("it sent a frame that is not for us", now),
        }
    }

    fn break_link(&mut self, why: &'static str, now: Timestamp) {
        self.net_down(now);
        self.effects.push_back(Effect::CloseNet(why));
    }

    fn reached(&mut self, tier: Tier, relay: String) {
        let reach = match tier {
            Tier::Device => Reach::Offline,
            Tier::Local => Reach::Lan,
            Tier::Cloud | Tier::Origin => Reach::Cloud,
        };
        let next = Connectivity {
            reach,
            relay,
            queued: 0,
        };
        if next != self.connectivity {
            self.connectivity = next;
            if self.session.is_some() {
                self.tell_connectivity();
            }
        }
    }

    fn tell_connectivity(&mut self) {
        let event = endpoint_secure_api::Event::Connectivity(self.connectivity());
        self.effects.push_back(Effect::Event(event));
    }

    /// Runs a step of an unlocked device; a failure of the disk becomes a notice.
    fn in_session(
        &mut self,
        now: Timestamp,
        step: impl FnOnce(&mut Session) -> Result<(), Failure>,
    ) {
        if let Some(session) = &mut self.session
            && let Err(refusal) = run(session, now, step)
        {
            let event = endpoint_secure_api::Event::Notice(refusal.text);
            self.effects.push_back(Effect::Event(event));
        }
    }

    fn drain_session(&mut self) {
        let Some(session) = &mut self.session else {
            return;
        };
        self.effects.extend(session.take_effects());
        if session.take_queue_moved() {
            self.tell_connectivity();
        }
    }
}

/// One step as one transaction. When it fails, everything it did is forgotten, in memory too.
fn run<T>(
    session: &mut Session,
    now: Timestamp,
    step: impl FnOnce(&mut Session) -> Result<T, Failure>,
) -> Result<T, Refusal> {
    let result = session
        .begin(now)
        .and_then(|()| step(session))
        .and_then(|value| session.commit().map(|()| value));
    result.map_err(|failure| {
        session.roll_back();
        match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Store(error) => store_refusal(&error),
        }
    })
}

/// Overwrites what functions that have returned left on this thread's stack: keys are moved there.
#[inline(never)]
fn wipe_stack() {
    let mut depth = [0xAA_u8; STACK];
    depth.zeroize();
}

fn checked_name(name: &str) -> Result<&str, Refusal> {
    let name = name.trim();
    if NAME_CHARACTERS.contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        Ok(name)
    } else {
        Err(Refusal::new(
            Code::Usage,
            "a name has 1 to 64 characters and no line breaks",
        ))
    }
}

fn lock_refusal(error: &LockError) -> Refusal {
    match error {
        LockError::Empty => Refusal::new(
            Code::NotFound,
            "there is no profile in this directory; create one first",
        ),
        LockError::Wrong => Refusal::new(
            Code::WrongPassphrase,
            "the passphrase does not open this profile",
        ),
        LockError::TooSoon(ms) => Refusal::new(
            Code::WrongPassphrase,
            format!(
                "too many wrong passphrases; try again in {} s",
                ms.div_ceil(1000)
            ),
        ),
        LockError::Broken => Refusal::new(
            Code::Configuration,
            "the profile's key database cannot be read; restore it from a backup",
        ),
        LockError::NoDeviceSecret(why) => Refusal::new(
            Code::Configuration,
            format!(
                "this profile is bound to this system's keyring, which gives no secret ({why}); log in where \
                 the keyring is open, and start again"
            ),
        ),
        LockError::OtherDeviceSecret => Refusal::new(
            Code::Configuration,
            "this profile is bound to the keyring of another system or user; open it there",
        ),
        LockError::Short(helped) => Refusal::new(
            Code::Usage,
            if *helped {
                "the passphrase is too short; choose 8 characters or more"
            } else {
                "no keyring of this system helps a short passphrase; choose six words or more, or 20 characters"
            },
        ),
        LockError::Random | LockError::Memory | LockError::Database(_) => Refusal::new(
            Code::Storage,
            format!("the profile's key database cannot be used: {error}"),
        ),
    }
}

fn store_refusal(error: &StoreError) -> Refusal {
    match error {
        StoreError::Corrupt => Refusal::new(
            Code::Configuration,
            "the profile's store is damaged; restore it from a backup",
        ),
        StoreError::Version(_) => Refusal::new(Code::Configuration, error.to_string()),
        StoreError::Database(_) | StoreError::Random => Refusal::new(
            Code::Storage,
            format!("the profile's store cannot be used: {error}; free space, then try again"),
        ),
    }
}

pub(crate) fn checked(name: &str) -> Result<String, Refusal> {
    checked_name(name).map(str::to_owned)
}
