//! How much is taken from whom: a token bucket for rates, and accounts of what is kept for how long
//! (docs/protocol.md, "Grant"; docs/operations.md, "Limits").

use std::collections::BTreeMap;

use proto::{Chunk, OriginId, Path, Refused, Tier, Timestamp};

use super::Node;
use super::grants::organisation;
use crate::store::{Account, Store, Usage, is_kept};

/// What the commit that is being made adds to accounts.
#[derive(Default)]
pub(super) struct Pending {
    byte_seconds: BTreeMap<Account, u64>,
    records: BTreeMap<(OriginId, u32), usize>,
    bytes: u64,
}

impl<S: Store> Node<S> {
    /// Whether a new chunk from below may be kept; if so it is charged to its accounts until the
    /// store does that.
    pub(super) fn charge(&mut self, chunk: &Chunk, pending: &mut Pending) -> Result<(), Refused> {
        if chunk.name().path() != Path::Grant && self.grants.is_ended(chunk.grant()) {
            return Err(Refused::GrantExpired);
        }
        let bytes = chunk.encoded().len() as u64;
        let most = self.config.limits.store_bytes;
        let above = most > 0 && self.store.bytes() + pending.bytes + bytes > most;
        if above && (self.stuck || self.config.tier == Tier::Origin) {
            return Err(Refused::StoreFull);
        }
        let organisation = organisation(chunk);
        let records = pending.records.get(&organisation).copied().unwrap_or(0);
        let record = chunk.name().path() == Path::Record;
        if record && !self.grants.has_room_for_record(organisation, records) {
            return Err(Refused::Quota);
        }
        let own = Usage::of(chunk.encoded().len(), chunk.expiry()).byte_seconds(self.now);
        for account in Account::of(chunk.name(), chunk.grant()) {
            let most = self.allowance(account, chunk);
            // A store that cannot be read cannot be written either: the commit says so.
            let used = self.store.usage(account).unwrap_or_default();
            // Without its grant nothing could be said of a chunk; how many there are has its own limit.
            let exempt = chunk.name().path() == Path::Grant;
            let waiting = pending.byte_seconds.get(&account).copied().unwrap_or(0);
            let used = used.byte_seconds(self.now).saturating_add(waiting);
            if !exempt && most > 0 && used.saturating_add(own) > most {
                return Err(Refused::Quota);
            }
        }
        for account in Account::of(chunk.name(), chunk.grant()) {
            *pending.byte_seconds.entry(account).or_default() += own;
        }
        pending.bytes += bytes;
        if record {
            *pending.records.entry(organisation).or_default() += 1;
        }
        Ok(())
    }

    /// Byte-seconds that may be kept on an account of a chunk, 0 for any number.
    fn allowance(&self, account: Account, chunk: &Chunk) -> u64 {
        let limits = &self.config.limits;
        let said = |said: Option<u64>, default| said.filter(|said| *said > 0).unwrap_or(default);
        match account {
            Account::Grant(id) => {
                let grant = self.grants.get(id);
                said(
                    grant.map(|grant| grant.limits.byte_seconds),
                    limits.grant_byte_seconds,
                )
            }
            Account::Org(origin, org) => match limits.orgs.get(&(origin, org)) {
                Some(most) => *most,
                None => {
                    let root = self.grants.root(chunk.grant());
                    said(
                        root.map(|root| root.limits.byte_seconds),
                        limits.org_byte_seconds,
                    )
                }
            },
            Account::KeyPackages(..) => limits.key_package_byte_seconds,
        }
    }

    /// When a chunk is dropped here if it need not go up: by the retention of the longest prefix.
    /// Grants and records stay, because what others may do is known by them.
    pub(super) fn until(&self, chunk: &Chunk) -> Timestamp {
        if is_kept(chunk.name()) {
            return chunk.expiry();
        }
        let rules = self.config.limits.retention.iter();
        let rule = rules
            .filter(|rule| rule.prefix.contains(chunk.name()))
            .max_by_key(|rule| rule.prefix.bits())
            .filter(|_| self.config.tier < Tier::Origin);
        let until = rule.map(|rule| self.now.plus_millis(rule.keep_ms));
        until.map_or(chunk.expiry(), |until| until.min(chunk.expiry()))
    }
}

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
