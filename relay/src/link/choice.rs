//! Which transport carries a link (docs/protocol.md, "Transports"): QUIC where UDP gets through, TLS
//! over TCP elsewhere. Decisions only: no socket, no clock; who connects hands in the time.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

/// How far the preferred transport is ahead of the other, as in RFC 8305 (Happy Eyeballs).
pub const HEAD_START: Duration = Duration::from_millis(250);
/// What is left to QUIC when TCP is refused: whoever refuses TCP serves hardly anything else there.
const LAST_CHANCE: Duration = Duration::from_millis(1500);
/// By how much the pause before UDP is tried again may have grown.
const PAUSE_GROWTH: u32 = 16;
/// Relays whose networks are remembered, at most; the one remembered longest is forgotten first.
const REMEMBERED: usize = 256;

/// What carries frames between machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// QUIC, over UDP.
    Quic,
    /// TLS over TCP.
    Tcp,
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quic => "QUIC",
            Self::Tcp => "TCP",
        })
    }
}

/// What to do next in a [`Race`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Begin to connect with this transport.
    Begin(Transport),
    /// Wait for a result, at most until so long after the beginning; for ever without a time.
    Wait(Option<Duration>),
    /// Nobody can win any more.
    Lost,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lane {
    Waits(Duration),
    Runs,
    Failed,
}

/// One attempt to reach a relay: the preferred transport begins, the other follows a little later, or
/// at once when the first fails. The first that is up wins. Ask [`Race::next`] after each event.
#[derive(Debug)]
pub struct Race {
    quic: Lane,
    tcp: Lane,
    until: Option<Duration>,
}

impl Race {
    /// A race; where UDP is known to be blocked, TCP has the head start.
    pub fn new(udp_blocked: bool) -> Self {
        let (now, later) = (Lane::Waits(Duration::ZERO), Lane::Waits(HEAD_START));
        let (quic, tcp) = if udp_blocked {
            (later, now)
        } else {
            (now, later)
        };
        let until = None;
        Self { quic, tcp, until }
    }

    /// What to do so long after the beginning.
    pub fn next(&mut self, elapsed: Duration) -> Step {
        if (self.quic, self.tcp) == (Lane::Failed, Lane::Failed)
            || self.until.is_some_and(|until| until <= elapsed)
        {
            return Step::Lost;
        }
        let mut wake = self.until;
        for (lane, transport) in [
            (&mut self.quic, Transport::Quic),
            (&mut self.tcp, Transport::Tcp),
        ] {
            if let Lane::Waits(at) = *lane {
                if at <= elapsed {
                    *lane = Lane::Runs;
                    return Step::Begin(transport);
                }
                wake = Some(wake.map_or(at, |wake| wake.min(at)));
            }
        }
        Step::Wait(wake)
    }

    /// A transport did not come up.
    pub fn failed(&mut self, transport: Transport, elapsed: Duration) {
        let (lane, other) = match transport {
            Transport::Quic => (&mut self.quic, &mut self.tcp),
            Transport::Tcp => (&mut self.tcp, &mut self.quic),
        };
        *lane = Lane::Failed;
        if matches!(other, Lane::Waits(_)) {
            *other = Lane::Waits(elapsed);
        }
        if transport == Transport::Tcp {
            self.until = Some(elapsed + LAST_CHANCE);
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Blocked {
    until: Instant,
    pause: Duration,
}

/// On the way to which relays UDP does not get through, and when that is to be tried again.
#[derive(Debug)]
pub struct Memory {
    pause: Duration,
    blocked: BTreeMap<String, Blocked>,
}

impl Memory {
    /// Nothing is known; `pause` is the first and the shortest pause before UDP is tried again.
    pub fn new(pause: Duration) -> Self {
        let blocked = BTreeMap::new();
        Self { pause, blocked }
    }

    /// Whether to begin with TCP.
    pub fn is_blocked(&self, place: &str, now: Instant) -> bool {
        self.retry_at(place).is_some_and(|until| now < until)
    }

    /// When UDP is to be tried again; `None` when nothing speaks against it.
    pub fn retry_at(&self, place: &str) -> Option<Instant> {
        self.blocked.get(place).map(|blocked| blocked.until)
    }

    /// UDP did not get through where TCP did: the pause grows.
    pub fn blocked(&mut self, place: &str, now: Instant) {
        let known = self.blocked.get(place);
        let pause = known.map_or(self.pause, |known| {
            (known.pause * 2).min(self.pause * PAUSE_GROWTH)
        });
        let until = now + pause;
        self.blocked
            .insert(place.to_owned(), Blocked { until, pause });
        if self.blocked.len() > REMEMBERED {
            let oldest = self.blocked.iter().min_by_key(|(_, blocked)| blocked.until);
            if let Some(place) = oldest.map(|(place, _)| place.clone()) {
                self.blocked.remove(&place);
            }
        }
    }

    /// UDP gets through.
    pub fn works(&mut self, place: &str) {
        self.blocked.remove(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn quic_begins_and_tcp_follows_after_the_head_start() {
        let mut race = Race::new(false);
        assert_eq!(race.next(Duration::ZERO), Step::Begin(Transport::Quic));
        assert_eq!(race.next(Duration::ZERO), Step::Wait(Some(HEAD_START)));
        assert_eq!(race.next(HEAD_START - MS), Step::Wait(Some(HEAD_START)));
        assert_eq!(race.next(HEAD_START), Step::Begin(Transport::Tcp));
        assert_eq!(race.next(HEAD_START), Step::Wait(None));
    }

    #[test]
    fn where_udp_is_blocked_tcp_begins() {
        let mut race = Race::new(true);
        assert_eq!(race.next(Duration::ZERO), Step::Begin(Transport::Tcp));
        assert_eq!(race.next(MS), Step::Wait(Some(HEAD_START)));
        assert_eq!(race.next(HEAD_START), Step::Begin(Transport::Quic));
    }

    #[test]
    fn a_failure_begins_the_other_at_once_and_two_end_the_race() {
        let mut race = Race::new(false);
        race.next(Duration::ZERO);
        race.failed(Transport::Quic, MS * 5);
        assert_eq!(race.next(MS * 5), Step::Begin(Transport::Tcp));
        race.failed(Transport::Tcp, MS * 6);
        assert_eq!(race.next(MS * 6), Step::Lost);
    }

    #[test]
    fn a_refused_tcp_leaves_quic_a_last_chance() {
        let mut race = Race::new(false);
        race.next(Duration::ZERO);
        race.next(HEAD_START);
        race.failed(Transport::Tcp, HEAD_START);
        let until = HEAD_START + LAST_CHANCE;
        assert_eq!(race.next(HEAD_START), Step::Wait(Some(until)));
        assert_eq!(race.next(until), Step::Lost);
    }

    #[test]
    fn a_network_without_udp_is_remembered_for_a_growing_while() {
        let (start, pause) = (Instant::now(), Duration::from_secs(30));
        let mut memory = Memory::new(pause);
        assert!(!memory.is_blocked("a:1", start));
        memory.blocked("a:1", start);
        assert!(memory.is_blocked("a:1", start + pause - MS));
        assert!(!memory.is_blocked("a:1", start + pause));
        assert!(!memory.is_blocked("b:1", start));
        for _ in 0..10 {
            memory.blocked("a:1", start);
        }
        assert_eq!(memory.retry_at("a:1"), Some(start + pause * PAUSE_GROWTH));
        memory.works("a:1");
        assert_eq!(memory.retry_at("a:1"), None);
        for port in 0..2 * REMEMBERED {
            memory.blocked(&format!("a:{port}"), start);
        }
        assert_eq!(memory.blocked.len(), REMEMBERED);
    }
}
