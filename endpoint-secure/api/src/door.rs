//! The front end's half of the door: one thread reads, any thread asks.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::codec::{Frame, Kind};
use crate::{Answer, Code, Command, Event, Refusal};

/// A connection to a Secure process.
///
/// It can be cloned and used from any thread. When the process ends, every waiting and every later
/// call is refused with [`Code::Unreachable`].
#[derive(Clone)]
pub struct Door {
    shared: Arc<Mutex<Shared>>,
    /// Apart from what the reading thread locks: while a write waits for Secure to read, the answers
    /// that Secure writes meanwhile must be read.
    out: Arc<Mutex<Box<dyn Write + Send>>>,
}

struct Shared {
    waiting: HashMap<u64, SyncSender<Result<String, Refusal>>>,
    next_id: u64,
    open: bool,
}

impl Door {
    /// Takes the two directions of a pipe and starts the reading thread, which hands each event to
    /// `on_event` and calls it with `None` once, when the door has closed.
    pub fn new(
        input: impl Read + Send + 'static,
        out: impl Write + Send + 'static,
        on_event: impl FnMut(Option<Event>) + Send + 'static,
    ) -> Self {
        let shared = Arc::new(Mutex::new(Shared {
            waiting: HashMap::new(),
            next_id: 1,
            open: true,
        }));
        let reader = Arc::clone(&shared);
        thread::spawn(move || read(input, &reader, on_event));
        let out: Box<dyn Write + Send> = Box::new(out);
        let out = Arc::new(Mutex::new(out));
        Self { shared, out }
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// What Secure refused it with, or [`Code::Unreachable`].
    pub fn call(&self, command: &Command) -> Result<Answer, Refusal> {
        let body = self.call_raw(command)?;
        serde_json::from_str(&body).map_err(|_| gone())
    }

    /// Asks, and waits for the answer's JSON text.
    ///
    /// # Errors
    /// As [`Door::call`].
    pub fn call_raw(&self, command: &Command) -> Result<String, Refusal> {
        self.ask(command)?.recv().map_err(|_| gone())?
    }

    /// Asks without waiting: the answer's JSON text comes through the receiver, in its own time.
    ///
    /// # Errors
    /// [`Code::Unreachable`] when the door is closed, [`Code::Usage`] for an over-long command.
    pub fn ask(&self, command: &Command) -> Result<Receiver<Result<String, Refusal>>, Refusal> {
        let (answer, receiver) = sync_channel(1);
        // First, so that frames leave in the order of their ids.
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if !shared.open {
            return Err(gone());
        }
        let id = shared.next_id;
        shared.next_id += 1;
        let frame = Frame::of(Kind::Command, id, command)
            .map_err(|e| Refusal::new(Code::Usage, e.to_string()))?;
        shared.waiting.insert(id, answer);
        drop(shared);
        if frame.write(&mut *out).is_err() {
            let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
            shared.waiting.remove(&id);
            return Err(gone());
        }
        Ok(receiver)
    }
}

fn gone() -> Refusal {
    Refusal::new(
        Code::Unreachable,
        "the Secure process has ended; it is being started again",
    )
}

fn read(mut input: impl Read, shared: &Mutex<Shared>, mut on_event: impl FnMut(Option<Event>)) {
    while let Ok(Some(frame)) = Frame::read(&mut input) {
        let result = match frame.kind {
            Kind::Answer => Ok(frame.body),
            Kind::Refusal => Err(frame.parse().unwrap_or_else(|_| gone())),
            Kind::Event => match frame.parse() {
                Ok(event) => {
                    on_event(Some(event));
                    continue;
                }
                Err(_) => break,
            },
            Kind::Command => break,
        };
        let waiting = shared
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .waiting
            .remove(&frame.id);
        if let Some(answer) = waiting {
            // The asker may have given up; its answer is then of no interest.
            answer.send(result).ok();
        }
    }
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    shared.open = false;
    shared.waiting.clear();
    drop(shared);
    on_event(None);
}
