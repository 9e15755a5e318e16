//! A token bucket in whole numbers: so many per period, and as many again at once.

use proto::Timestamp;

pub(super) struct Bucket {
    per_period: u64,
    period_ms: u64,
    /// Tokens times `period_ms`, so that no fraction is lost.
    level: u64,
    at: Timestamp,
}

impl Bucket {
    /// A full bucket.
    pub(super) fn new(per_period: u32, period_ms: u64, now: Timestamp) -> Self {
        let per_period = u64::from(per_period);
        Self {
            per_period,
            period_ms,
            level: per_period * period_ms,
            at: now,
        }
    }

    /// Takes one token, if there is one.
    pub(super) fn take(&mut self, now: Timestamp) -> bool {
        let gained = now.since(self.at).saturating_mul(self.per_period);
        self.level = self
            .level
            .saturating_add(gained)
            .min(self.per_period * self.period_ms);
        self.at = now;
        let enough = self.level >= self.period_ms;
        if enough {
            self.level -= self.period_ms;
        }
        enough
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_gives_a_burst_and_then_the_rate() {
        let at = Timestamp::from_millis;
        let mut bucket = Bucket::new(4, 1000, at(0));
        assert_eq!((0..9).filter(|_| bucket.take(at(0))).count(), 4);
        assert!(!bucket.take(at(249)));
        assert!(bucket.take(at(250)));
        assert!(!bucket.take(at(250)));
        assert!(!bucket.take(at(100)), "a clock that is set back");
        assert!(bucket.take(at(350)));
        assert_eq!((0..9).filter(|_| bucket.take(at(100_000))).count(), 4);
    }
}
