//! When a profile locks by itself: after a time without an act of a person, and when the machine slept.
//!
//! Whether a person is there is seen by what is asked: what a front end asks by itself is no act.

use endpoint_secure_api::{Answer, Command, Locking};
use proto::Timestamp;

use crate::device::session::{Failure, Session};
use crate::store::Kind;

const MINUTE_MS: u64 = 60 * 1000;

/// Whether a person does this, and not a program that shows something.
pub fn is_act(command: &Command) -> bool {
    !matches!(
        command,
        Command::Status
            | Command::Teams
            | Command::Channels { .. }
            | Command::Devices { .. }
            | Command::Timeline { .. }
            | Command::MarkRead { .. }
            | Command::Relays
            | Command::Connectivity
            | Command::Locking
    )
}

impl Session {
    /// When it locks, if nobody does anything more.
    pub fn locks_at(&self, last_act: Timestamp) -> Option<Timestamp> {
        let minutes = self.memory.locking.idle_minutes;
        (minutes > 0).then(|| last_act.plus_millis(u64::from(minutes) * MINUTE_MS))
    }

    /// Whether it locks when the machine has slept.
    pub fn locks_on_suspend(&self) -> bool {
        self.memory.locking.on_suspend
    }

    pub(crate) fn locking(&self) -> Answer {
        Answer::Locking(self.memory.locking.clone())
    }

    pub(crate) fn set_locking(&mut self, locking: Locking) -> Result<Answer, Failure> {
        self.store.put(Kind::Locking, b"", &locking)?;
        self.memory.locking = locking;
        Ok(Answer::Done)
    }
}
