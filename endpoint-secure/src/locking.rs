//! When a profile locks by itself: after a time without an act of a person, and when the machine slept.
//!
//! Whether a person is there is seen by what is asked: what a front end asks by itself is no act. A
//! front end says so, too, when a person only reads ([`Command::Present`]).

use std::time::Duration;

use endpoint_secure_api::{Answer, Command, Locking};
use proto::Timestamp;

use crate::device::session::{Failure, Session};
use crate::store::Kind;

const MINUTE_MS: u64 = 60 * 1000;
/// The two clocks are not read at the same moment.
const NAP: Duration = Duration::from_secs(1);
const _: () = assert!(Command::PRESENCE_MS < MINUTE_MS);

/// Two clocks, read one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clocks {
    /// Goes on while the machine sleeps.
    pub through_sleep: Duration,
    /// Stands still then.
    pub awake: Duration,
}

impl Clocks {
    /// Whether the machine has slept since an earlier look.
    pub fn slept_since(&self, earlier: &Self) -> bool {
        let asleep = |clocks: &Self| clocks.through_sleep.saturating_sub(clocks.awake);
        asleep(self) > asleep(earlier) + NAP
    }
}

/// Whether a person does this, and not a program that shows something.
pub fn is_act(command: &Command) -> bool {
    !matches!(
        command,
        Command::Status
            | Command::Teams
            | Command::Channels { .. }
            | Command::Devices { .. }
            | Command::Requests { .. }
            | Command::Invites { .. }
            | Command::Preview { .. }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn clocks(through_sleep: u64, awake: u64) -> Clocks {
        Clocks {
            through_sleep: Duration::from_millis(through_sleep),
            awake: Duration::from_millis(awake),
        }
    }

    #[test]
    fn a_clock_that_runs_ahead_of_the_other_is_a_sleep() {
        let start = clocks(50_000, 20_000);
        // Hours of work are none, nor is a process that was stopped for them.
        assert!(!clocks(9_050_000, 9_020_000).slept_since(&start));
        // Two looks that lie apart a little.
        assert!(!clocks(51_400, 20_400).slept_since(&start));
        assert!(clocks(52_401, 20_400).slept_since(&start));
        assert!(clocks(9_050_000, 20_001).slept_since(&start));
        // What was slept before is no news.
        let later = clocks(9_050_000, 20_001);
        assert!(!clocks(9_051_000, 21_001).slept_since(&later));
        assert!(!clocks(9_051_000, 21_001).slept_since(&clocks(9_050_000, 20_000)));
    }

    #[test]
    fn clocks_that_make_no_sense_are_no_sleep() {
        assert!(!clocks(0, 70_000).slept_since(&Clocks::default()));
        assert!(!Clocks::default().slept_since(&clocks(9_000, 1)));
    }
}
