//! One handle for a terminal front end: a starter of its own, a door that is replaced when Secure is
//! started again, its events, and a passphrase that unlocks it again.
//!
//! The starter is a process apart, so that this one can be confined: it shows text and has what a person
//! types, and starts nothing any more.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command as Program, Stdio};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use confinement::{Isolation, Places, Role};
use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_api::door::Door;
use endpoint_secure_api::{Answer, Code, Command, Event, Lock, Passphrase, Refusal};

use crate::StartError;
use crate::starter::sibling;

/// The program that starts Secure and Net for a terminal client.
const STARTER: &str = "treeline-starter";
/// Hints wait here, equal ones once; more than this are dropped, and every front end asks anew after
/// a while anyway.
const EVENTS: usize = 1024;
/// How long a call waits for Secure to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long the starter may take to have the first door: it may wait for processes of an earlier one.
const START: Duration = Duration::from_secs(30);
/// How long it may take to end, which is longer than it waits for its own children.
const END: Duration = Duration::from_secs(10);
/// A closed door that is not replaced after this long is asked for: its Secure may still run.
const RENEWAL: Duration = Duration::from_secs(1);

/// A started endpoint. Dropping it ends its processes, and waits for that.
pub struct Endpoint {
    control: Control,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    door: Option<Door>,
    /// Counts the doors, so that the end of an earlier one does not close the newest.
    doors: u64,
    /// Since when there is no door, not even one being unlocked.
    closed: Option<Instant>,
    events: VecDeque<Event>,
    passphrase: Option<Passphrase>,
    /// Why the starter has given up, as it says.
    last_words: Option<String>,
    /// The starter is gone.
    ended: bool,
}

impl Endpoint {
    /// Locks the profile in `directory`, starts Secure and Net for it, and confines this process for
    /// good: from now on it opens no file but its terminal, and starts nothing. It must not have threads.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(directory: &Path) -> Result<Self, StartError> {
        let confine = || confinement::enclose(Role::Terminal, &Places::default()).seal();
        Self::start_with(Program::new(sibling(STARTER)?), directory, confine)
    }

    /// The same for a test, which does more than show: it is not confined, and what it makes is no
    /// business of the keyring of whoever runs it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start_for_test(directory: &Path) -> Result<Self, StartError> {
        let mut starter = Program::new(sibling(STARTER)?);
        starter.env("DBUS_SESSION_BUS_ADDRESS", "disabled:");
        Self::start_with(starter, directory, || Isolation::None("a test".into()))
    }

    fn start_with(
        mut starter: Program,
        directory: &Path,
        confine: impl FnOnce() -> Isolation,
    ) -> Result<Self, StartError> {
        let (control, theirs) = Control::pair().map_err(StartError::Control)?;
        starter.arg("--directory").arg(directory);
        let started = starter.stdin(theirs).stdout(Stdio::null()).spawn();
        let child = started.map_err(|error| StartError::Program {
            program: starter.get_program().into(),
            error,
        })?;
        // Our copy of the starter's end goes with it: only then its end is seen here.
        drop(starter);
        let control = control.only_from(child.id());
        let isolation = confine();
        // A starter that is gone is seen below.
        let told = isolation.to_string();
        control.send(Tag::Isolation, told.as_bytes(), None).ok();
        let reading = control.try_clone().map_err(StartError::Control)?;
        let shared = Arc::new(Shared::default());
        let doors = Arc::clone(&shared);
        thread::spawn(move || Shared::follow(&doors, &reading));
        let this = Self { control, shared };
        this.await_first_door()?;
        Ok(this)
    }

    fn await_first_door(&self) -> Result<(), StartError> {
        let until = Instant::now() + START;
        let mut state = self.shared.lock();
        while state.doors == 0 {
            if let Some(line) = state.failure() {
                return Err(StartError::LastWords(line));
            }
            if Instant::now() >= until {
                let line = "treeline-starter does not start Secure and Net; try again";
                return Err(StartError::LastWords(line.into()));
            }
            state = self.shared.wait(state, RENEWAL);
        }
        Ok(())
    }

    /// Asks once, and waits for the answer. When Secure dies meanwhile, the caller does not know
    /// whether the command was carried out.
    ///
    /// # Errors
    /// What Secure refused it with; [`Code::Unreachable`] when there is no Secure to ask.
    pub fn call(&self, command: &Command) -> Result<Answer, Refusal> {
        self.door(Instant::now() + PATIENCE)?.call(command)
    }

    /// Asks until it is answered, over restarts of Secure, for commands that may be asked twice. A
    /// locked Secure is waited for while [`Endpoint::unlock`]'s passphrase unlocks it again.
    ///
    /// # Errors
    /// As [`Endpoint::call`], the last one when `limit` is over.
    pub fn call_when_back(&self, command: &Command, limit: Duration) -> Result<Answer, Refusal> {
        let until = Instant::now() + limit;
        loop {
            match self.door(until)?.call(command) {
                Err(refusal) if self.passes(refusal.code) && Instant::now() < until => {
                    self.pause(Duration::from_millis(50));
                }
                result => return result,
            }
        }
    }

    /// Asks without waiting; the answer's JSON text comes through the receiver.
    ///
    /// # Errors
    /// [`Code::Unreachable`] when there is no Secure to ask.
    pub fn ask(&self, command: &Command) -> Result<Receiver<Result<String, Refusal>>, Refusal> {
        self.door(Instant::now() + PATIENCE)?.ask(command)
    }

    /// Unlocks the profile, and keeps the passphrase to unlock it again whenever Secure was started
    /// again.
    ///
    /// # Errors
    /// As [`Endpoint::call`].
    pub fn unlock(&self, passphrase: Passphrase) -> Result<Answer, Refusal> {
        let answer = self.call(&Command::Unlock {
            passphrase: passphrase.clone(),
        })?;
        self.keep(passphrase);
        Ok(answer)
    }

    /// Keeps the passphrase of a profile that was just created.
    pub fn keep(&self, passphrase: Passphrase) {
        self.shared.lock().passphrase = Some(passphrase);
    }

    /// The next hint, or `None` when there was none for so long.
    pub fn next_event(&self, limit: Duration) -> Option<Event> {
        let until = Instant::now() + limit;
        let mut state = self.shared.lock();
        loop {
            if let Some(event) = state.events.pop_front() {
                return Some(event);
            }
            let left = until.checked_duration_since(Instant::now())?;
            self.renew(&mut state);
            state = self.shared.wait(state, left.min(RENEWAL));
        }
    }

    /// Whether a call refused so may be answered later, without anybody doing anything.
    fn passes(&self, code: Code) -> bool {
        let state = self.shared.lock();
        (code == Code::Unreachable && !state.ended)
            || (code == Code::Locked && state.passphrase.is_some())
    }

    fn pause(&self, length: Duration) {
        let state = self.shared.lock();
        drop(self.shared.wait(state, length));
    }

    fn door(&self, until: Instant) -> Result<Door, Refusal> {
        let mut state = self.shared.lock();
        loop {
            if let Some(door) = &state.door {
                return Ok(door.clone());
            }
            if let Some(failure) = state.failure() {
                return Err(Refusal::new(Code::Unreachable, failure));
            }
            if Instant::now() >= until {
                return Err(Refusal::new(
                    Code::Unreachable,
                    "the Secure process does not start",
                ));
            }
            self.renew(&mut state);
            state = self.shared.wait(state, Duration::from_millis(200));
        }
    }

    fn renew(&self, state: &mut State) {
        if state.closed.is_some_and(|since| since.elapsed() >= RENEWAL) {
            state.closed = Some(Instant::now());
            // A starter that is gone has no doors any more.
            self.control.send(Tag::Door, b"", None).ok();
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.control.finish();
        let until = Instant::now() + END;
        let mut state = self.shared.lock();
        while !state.ended && Instant::now() < until {
            state = self.shared.wait(state, RENEWAL);
        }
    }
}

impl State {
    fn failure(&self) -> Option<String> {
        let gone = || "treeline-starter has ended; start this program again".to_owned();
        self.ended
            .then(|| self.last_words.clone().unwrap_or_else(gone))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Takes what the starter sends, until it ends.
    fn follow(this: &Arc<Self>, control: &Control) {
        while let Ok(Some(packet)) = control.receive() {
            match (packet.tag, packet.descriptor) {
                (Tag::Door, Some(end)) => Self::replace(this, UnixStream::from(end)),
                (Tag::Line, None) => {
                    let line = String::from_utf8_lossy(&packet.body).into_owned();
                    this.lock().last_words = Some(line);
                }
                _ => break,
            }
        }
        this.lock().ended = true;
        this.changed.notify_all();
    }

    /// Opens a new door in place of the old one, unlocking it first where the passphrase is kept.
    fn replace(this: &Arc<Self>, stream: UnixStream) {
        let Ok(input) = stream.try_clone() else {
            return;
        };
        let number = {
            let mut state = this.lock();
            state.doors += 1;
            state.door = None;
            state.closed = None;
            state.doors
        };
        this.changed.notify_all();
        let events = Arc::clone(this);
        let door = Door::new(input, stream, move |event| events.event(number, event));
        let shared = Arc::clone(this);
        thread::spawn(move || {
            let passphrase = shared.lock().passphrase.clone();
            if let Some(passphrase) = passphrase {
                // A refusal shows at the next call, as Locked.
                door.call(&Command::Unlock { passphrase }).ok();
            }
            let mut state = shared.lock();
            // It may have closed again meanwhile.
            if state.doors == number && state.closed.is_none() {
                state.door = Some(door);
                shared.changed.notify_all();
            }
        });
    }

    fn event(&self, number: u64, event: Option<Event>) {
        let mut state = self.lock();
        if let Some(Event::Lock(Lock::Locked)) = event {
            // It was locked, not started again: now a person has to unlock it.
            state.passphrase = None;
        }
        match event {
            Some(event) if state.events.len() < EVENTS && !state.events.contains(&event) => {
                state.events.push_back(event);
            }
            Some(_) => {}
            None if state.doors == number => {
                state.door = None;
                state.closed = Some(Instant::now());
            }
            None => {}
        }
        self.changed.notify_all();
    }
}
