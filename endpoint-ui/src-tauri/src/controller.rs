//! Keeps the newest door, and passes hints on to the page, each at most once in a while.

use std::collections::VecDeque;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_api::door::Door;
use endpoint_secure_api::{Code, Command, Event, Refusal};
use serde::Serialize;
use tauri::AppHandle;
use tauri::ipc::Channel;

/// Hints are gathered for so long, so that a burst becomes one look.
const GATHER: Duration = Duration::from_millis(30);
/// A call waits so long for a door: at the start, and while Secure is started again.
const PATIENCE: Duration = Duration::from_secs(5);
const HINTS: usize = 256;

/// What the page is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Hint {
    /// What Secure said.
    Event(Event),
    /// A word of our own: `door`, when the door was replaced and everything is to be asked anew.
    Own {
        /// The word.
        event: &'static str,
    },
}

/// The state that the commands and the control socket share.
#[derive(Default)]
pub struct Controller {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    door: Option<Door>,
    doors: u64,
    channel: Option<Channel<Hint>>,
    hints: VecDeque<Hint>,
}

impl Controller {
    /// Asks Secure through the newest door.
    ///
    /// # Errors
    /// What it is refused with, or [`Code::Unreachable`] without a door.
    pub fn call(&self, command: &Command) -> Result<String, Refusal> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.lock();
        while state.door.is_none() {
            let Some(left) = until.checked_duration_since(Instant::now()) else {
                return Err(Refusal::new(
                    Code::Unreachable,
                    "Secure is being started again",
                ));
            };
            state = self.wait(state, left);
        }
        let door = state.door.clone();
        drop(state);
        match door {
            Some(door) => door.call_raw(command),
            None => Err(Refusal::new(
                Code::Unreachable,
                "Secure is being started again",
            )),
        }
    }

    /// Sends hints to this channel from now on.
    pub fn subscribe(&self, channel: Channel<Hint>) {
        self.lock().channel = Some(channel);
        self.hint(Hint::Own { event: "door" });
    }

    /// Serves the control socket until the launcher is gone, or sends what is not for a window, and then
    /// ends the program.
    pub fn listen(self: &Arc<Self>, control: Control, app: AppHandle) {
        let hints = Arc::clone(self);
        thread::spawn(move || hints.pass_on());
        let this = Arc::clone(self);
        thread::spawn(move || match this.follow(&control) {
            Ok(()) => app.exit(0),
            Err(error) => {
                eprintln!("treeline-ui: the control socket: {error}");
                app.exit(2);
            }
        });
    }

    fn follow(self: &Arc<Self>, control: &Control) -> io::Result<()> {
        while let Some(packet) = control.receive()? {
            let (Tag::Door, Some(end)) = (packet.tag, packet.descriptor) else {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the starter has sent a packet that is not for a window",
                ));
            };
            self.replace(UnixStream::from(end));
        }
        Ok(())
    }

    fn replace(self: &Arc<Self>, stream: UnixStream) {
        let Ok(input) = stream.try_clone() else {
            return;
        };
        let number = {
            let mut state = self.lock();
            state.doors += 1;
            state.doors
        };
        let this = Arc::clone(self);
        let door = Door::new(input, stream, move |event| match event {
            Some(event) => this.hint(Hint::Event(event)),
            None => this.close(number),
        });
        self.lock().door = Some(door);
        self.changed.notify_all();
        self.hint(Hint::Own { event: "door" });
    }

    fn close(&self, number: u64) {
        let mut state = self.lock();
        if state.doors == number {
            state.door = None;
        }
    }

    fn hint(&self, hint: Hint) {
        let mut state = self.lock();
        if !state.hints.contains(&hint) {
            if state.hints.len() == HINTS {
                // Too many to tell apart: one that makes the page ask for everything stands for all.
                state.hints.clear();
                state.hints.push_back(Hint::Own { event: "door" });
            } else {
                state.hints.push_back(hint);
            }
        }
        self.changed.notify_all();
    }

    /// Sends what has gathered, for ever.
    fn pass_on(&self) {
        loop {
            let mut state = self.lock();
            while state.hints.is_empty() || state.channel.is_none() {
                state = self.wait(state, Duration::from_secs(3600));
            }
            let hints = std::mem::take(&mut state.hints);
            let channel = state.channel.clone();
            drop(state);
            for hint in hints {
                // A page that is gone has subscribed anew, or will.
                channel.as_ref().map(|channel| channel.send(hint));
            }
            thread::sleep(GATHER);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;

    use super::*;

    #[test]
    fn a_packet_that_is_not_for_a_window_ends_it() {
        let controller = Arc::new(Controller::default());
        let (window, starter) = Control::pair().unwrap();
        let mut starter = File::from(starter);
        // A line, a door without an end, and no packet at all.
        for packet in [b"Lready".as_slice(), b"D", b"?"] {
            starter.write_all(packet).unwrap();
            let error = controller.follow(&window).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        drop(starter);
        assert!(controller.follow(&window).is_ok());
    }

    #[test]
    fn equal_hints_gather_and_too_many_become_one() {
        let controller = Controller::default();
        controller.hint(Hint::Event(Event::Teams));
        controller.hint(Hint::Event(Event::Teams));
        assert_eq!(controller.lock().hints.len(), 1);
        for number in 0..HINTS {
            controller.hint(Hint::Event(Event::Notice(number.to_string())));
        }
        assert_eq!(controller.lock().hints, [Hint::Own { event: "door" }]);
    }

    #[test]
    fn hints_have_the_shape_that_the_page_reads() {
        let own = serde_json::to_string(&Hint::Own { event: "door" }).unwrap();
        assert_eq!(own, r#"{"event":"door"}"#);
        let teams = serde_json::to_string(&Hint::Event(Event::Teams)).unwrap();
        assert_eq!(teams, r#"{"event":"teams"}"#);
    }
}
