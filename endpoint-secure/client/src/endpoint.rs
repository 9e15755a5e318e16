//! One handle for a front end: a door that is replaced when Secure is started again, its events, and
//! a passphrase that unlocks it again.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::door::Door;
use endpoint_secure_api::{Answer, Code, Command, Event, Lock, Passphrase, Refusal};

use crate::{DoorSink, Pids, StartError, Starter};

/// Hints wait here, equal ones once; more than this are dropped, and every front end asks anew after
/// a while anyway.
const EVENTS: usize = 1024;
/// How long a call waits for Secure to be there.
const PATIENCE: Duration = Duration::from_secs(30);
/// A closed door that is not replaced after this long is asked for: its Secure may still run.
const RENEWAL: Duration = Duration::from_secs(1);

/// A started endpoint.
pub struct Endpoint {
    starter: Starter,
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
}

impl Endpoint {
    /// Locks the profile in `directory` and starts Secure and Net for it.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(directory: &Path) -> Result<Self, StartError> {
        let shared = Arc::new(Shared::default());
        let doors = Arc::clone(&shared);
        let sink = DoorSink::Here(Box::new(move |stream| Shared::replace(&doors, stream)));
        let starter = Starter::start(directory, sink)?;
        Ok(Self { starter, shared })
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

    /// The children's process ids at this moment.
    pub fn pids(&self) -> Pids {
        self.starter.pids()
    }

    /// Whether a call refused so may be answered later, without anybody doing anything.
    fn passes(&self, code: Code) -> bool {
        (code == Code::Unreachable && self.starter.failure().is_none())
            || (code == Code::Locked && self.shared.lock().passphrase.is_some())
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
            if let Some(failure) = self.starter.failure() {
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
            self.starter.renew_door();
        }
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
