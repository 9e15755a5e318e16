//! What peers may use and what is kept for how long: the `[limits]` and `[[retention]]` tables of the
//! configuration (docs/operations.md, "Limits").

use proto::Prefix;
use proto::limits::{LIFE_MS, MESSAGE_LIFE_MS};
use relay_core::{Limits, Retention};
use serde::{Deserialize, Serialize};

/// What a device's message asks for.
const MESSAGE_LIFE_SECONDS: u64 = MESSAGE_LIFE_MS / 1000;

/// The `[limits]` table. The defaults are those of [`Limits`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsTable {
    /// Bytes of chunks in the store, 0 for no limit but the disk.
    pub store_bytes: u64,
    /// The longest life of a published chunk.
    pub chunk_life_seconds: u64,
    /// Bytes times seconds of a grant that does not say how many.
    pub grant_byte_seconds: u64,
    /// Bytes times seconds of an organisation whose grant does not say how many.
    pub organisation_byte_seconds: u64,
    /// Bytes times seconds of an organisation's key packages.
    pub key_package_byte_seconds: u64,
    /// Chunks a link may publish in a second.
    pub chunks_per_second: u32,
    /// Fragments of key packages a link may publish in a minute.
    pub key_packages_per_minute: u32,
    /// The shortest prefix that may be subscribed to.
    pub prefix_bits: u8,
    /// Subscriptions of a link.
    pub subscriptions_per_link: usize,
    /// Fetches and wishes of a link at the same time.
    pub fetches_per_link: usize,
    /// Grants known.
    pub grants: usize,
    /// Bytes that may wait on a link.
    pub window_bytes: usize,
    /// Bytes that may wait on all links.
    pub total_window_bytes: usize,
}

impl Default for LimitsTable {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            store_bytes: limits.store_bytes,
            chunk_life_seconds: limits.life_ms / 1000,
            grant_byte_seconds: limits.grant_byte_seconds,
            organisation_byte_seconds: limits.org_byte_seconds,
            key_package_byte_seconds: limits.key_package_byte_seconds,
            chunks_per_second: limits.chunks_per_second,
            key_packages_per_minute: limits.key_packages_per_minute,
            prefix_bits: limits.prefix_bits,
            subscriptions_per_link: limits.subscriptions_per_link,
            fetches_per_link: limits.fetches_per_link,
            grants: limits.grants,
            window_bytes: limits.window_bytes,
            total_window_bytes: limits.total_window_bytes,
        }
    }
}

/// One `[[retention]]` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetentionTable {
    /// Which chunks, as text.
    pub prefix: String,
    /// For how long after they came.
    pub keep_seconds: u64,
}

impl LimitsTable {
    /// What is wrong with it, in one line for people; `None` when nothing is.
    pub fn mistake(&self) -> Option<&'static str> {
        let outstanding = Limits::default().outstanding_bytes;
        let checks = [
            (
                (1..=LIFE_MS / 1000).contains(&self.chunk_life_seconds),
                "chunk_life_seconds must be from 1 to 34560000",
            ),
            (
                self.prefix_bits <= 78,
                "prefix_bits must be 78 at most: one path of a team",
            ),
            (
                self.chunks_per_second > 0 && self.subscriptions_per_link > 0 && self.grants > 0,
                "chunks_per_second, subscriptions_per_link and grants must be 1 at least",
            ),
            (
                (65_536..=outstanding / 2).contains(&self.window_bytes),
                "window_bytes must be from 65536 to 2097152",
            ),
        ];
        checks
            .into_iter()
            .find_map(|(holds, mistake)| (!holds).then_some(mistake))
    }

    /// What is allowed and costs more than it may seem, in one line for people.
    pub fn warning(&self) -> Option<&'static str> {
        match self.chunk_life_seconds {
            ..MESSAGE_LIFE_SECONDS => Some(
                "chunk_life_seconds is below 31536000 (365 days), for which messages ask: they are \
                 refused (TooLongLived), and so are revocations of devices",
            ),
            life if life < LIFE_MS / 1000 => Some(
                "chunk_life_seconds is below 34560000 (400 days), for which revocations of devices \
                 ask: they are refused (TooLongLived)",
            ),
            _ => None,
        }
    }

    /// The node's limits with these retentions.
    ///
    /// # Errors
    /// One line: which prefix is none, and why.
    pub fn limits(&self, retention: &[RetentionTable]) -> Result<Limits, String> {
        let rule = |table: &RetentionTable| {
            let prefix: Prefix = table
                .prefix
                .parse()
                .map_err(|error| format!("prefix `{}`: {error}", table.prefix))?;
            let keep_ms = table.keep_seconds.saturating_mul(1000);
            Ok(Retention { prefix, keep_ms })
        };
        Ok(Limits {
            store_bytes: self.store_bytes,
            life_ms: self.chunk_life_seconds.saturating_mul(1000),
            grant_byte_seconds: self.grant_byte_seconds,
            org_byte_seconds: self.organisation_byte_seconds,
            key_package_byte_seconds: self.key_package_byte_seconds,
            chunks_per_second: self.chunks_per_second,
            key_packages_per_minute: self.key_packages_per_minute,
            prefix_bits: self.prefix_bits,
            subscriptions_per_link: self.subscriptions_per_link,
            fetches_per_link: self.fetches_per_link,
            grants: self.grants,
            window_bytes: self.window_bytes,
            total_window_bytes: self.total_window_bytes,
            retention: retention.iter().map(rule).collect::<Result<_, String>>()?,
            ..Limits::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_the_nodes() {
        assert_eq!(LimitsTable::default().limits(&[]), Ok(Limits::default()));
        assert_eq!(LimitsTable::default().mistake(), None);
    }

    #[test]
    fn mistakes_are_one_line() {
        let table = |change: &dyn Fn(&mut LimitsTable)| {
            let mut table = LimitsTable::default();
            change(&mut table);
            table.mistake().unwrap_or_default()
        };
        assert!(table(&|t| t.chunk_life_seconds = 0).contains("chunk_life_seconds"));
        let life = |chunk_life_seconds| LimitsTable {
            chunk_life_seconds,
            ..LimitsTable::default()
        };
        let warned = |days: u64| life(86_400 * days).warning().unwrap_or_default();
        assert!(warned(364).contains("messages"));
        assert!(warned(365).contains("revocations") && !warned(365).contains("messages"));
        assert_eq!(LimitsTable::default().warning(), None);
        assert!(table(&|t| t.prefix_bits = 79).contains("prefix_bits"));
        assert!(table(&|t| t.window_bytes = 1).contains("window_bytes"));
        assert!(table(&|t| t.grants = 0).contains("grants"));
        let rule = |prefix: &str| RetentionTable {
            prefix: prefix.into(),
            keep_seconds: 60,
        };
        let limits = LimitsTable::default().limits(&[rule("treeline://000abc/blob")]);
        assert_eq!(limits.unwrap().retention[0].keep_ms, 60_000);
        let wrong = LimitsTable::default()
            .limits(&[rule("nowhere")])
            .unwrap_err();
        assert!(
            wrong.contains("nowhere") && !wrong.contains('\n'),
            "{wrong}"
        );
    }
}
