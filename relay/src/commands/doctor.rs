//! `doctor`: looks for what keeps a relay from its work, names the cause, and says what to do. It
//! changes nothing; it may run beside the relay or without it.

use std::path::Path;

use proto::{Timestamp, limits};
use serde::Serialize;

use super::{Failure, config_error, directory, other, print, status};
use crate::config::{Config, Options};
use crate::driver::now;
use crate::relay::{RELAY_KEY, STORE};
use crate::status::{Status, free_bytes};
use crate::store::sqlite::SqliteStore;
use crate::tls;

mod multicast;
mod network;

/// Less than this on the store's disk is as good as full: a store's log may need as much at once.
const FULL_BYTES: u64 = 16 * 1024 * 1024;
/// Less than this on the store's disk is worth a word.
const SCARCE_BYTES: u64 = 1024 * 1024 * 1024;
/// How far clocks may be apart before it is worth a word, in milliseconds.
const CLOCK_MS: u64 = 30_000;
/// Files that a relay opens beside its TCP links.
const FILES: u64 = 64;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    Ok,
    Warning,
    Problem,
}

/// What one look has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: &'static str,
    state: State,
    /// One word for programs: `ok`, or what is wrong.
    code: &'static str,
    /// The cause, for people.
    cause: String,
    /// What to do; empty when nothing is to be done.
    action: String,
}

impl Finding {
    fn ok(check: &'static str, cause: impl Into<String>) -> Self {
        Self {
            check,
            state: State::Ok,
            code: "ok",
            cause: cause.into(),
            action: String::new(),
        }
    }

    fn warning(
        check: &'static str,
        code: &'static str,
        cause: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self {
            check,
            state: State::Warning,
            code,
            cause: cause.into(),
            action: action.into(),
        }
    }

    fn problem(
        check: &'static str,
        code: &'static str,
        cause: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        Self {
            state: State::Problem,
            ..Self::warning(check, code, cause, action)
        }
    }
}

/// Looks at everything, and prints what it has found.
///
/// # Errors
/// [`Failure::Said`] with 1 when there is a problem; 15 when the configuration is wrong.
pub fn doctor(options: &Options, json: bool) -> Result<(), Failure> {
    let config = Config::load(options).map_err(config_error)?;
    let at = directory(Some(config.directory.clone()))?;
    let running = status::read(&at);
    let mut findings = local(&config, &running);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(other)?;
    findings.extend(runtime.block_on(network::look(&config, running.as_ref().ok())));
    findings.extend(multicast::look());
    let worst = findings
        .iter()
        .any(|finding| finding.state == State::Problem);
    if json {
        print(serde_json::json!({"version": 1, "findings": findings}))?;
    } else {
        for finding in &findings {
            print(line(finding))?;
        }
    }
    match worst {
        true => Err(Failure::Said(1)),
        false => Ok(()),
    }
}

fn line(finding: &Finding) -> String {
    let word = match finding.state {
        State::Ok => "ok     ",
        State::Warning => "warning",
        State::Problem => "PROBLEM",
    };
    let action = match finding.action.as_str() {
        "" => String::new(),
        action => format!("; {action}"),
    };
    format!("{word}  {:9}  {}{action}", finding.check, finding.cause)
}

/// What can be seen without the network.
fn local(config: &Config, running: &Result<Status, Failure>) -> Vec<Finding> {
    let at = &config.directory;
    let runs = status::runs(at);
    let process = match running {
        Ok(status) if status.store.failed => Finding::problem(
            "relay",
            "store-failed",
            "it runs, and its store cannot be written",
            "look at the disk below and at its log",
        ),
        Ok(status) => Finding::ok("relay", format!("runs as process {}", status.pid)),
        Err(error) if runs => Finding::warning("relay", "no-status", error.to_string(), ""),
        Err(_) => Finding::ok("relay", "does not run here now"),
    };
    let inodes = rustix::fs::statvfs(at).map_or(u64::MAX, |disk| match disk.f_files {
        0 => u64::MAX,
        _ => disk.f_favail,
    });
    let mut findings = vec![process];
    match free_bytes(at) {
        None => findings.push(Finding::ok("disk", "the directory is not made yet")),
        Some(free) => findings.push(disk(free, inodes)),
    }
    if !runs && at.join(STORE).exists() {
        findings.push(store(&at.join(STORE)));
    }
    findings.push(key(at, running.as_ref().ok()));
    findings.push(files(config.transport.connections as u64));
    findings.push(own_clock(at));
    findings
}

fn disk(free: u64, inodes: u64) -> Finding {
    let left = format!("{} MiB are free", free / (1024 * 1024));
    if free < FULL_BYTES || inodes == 0 {
        let action = "make room or a larger disk: until then new chunks are refused";
        Finding::problem(
            "disk",
            "disk-full",
            format!("the disk is full: {left}"),
            action,
        )
    } else if free < SCARCE_BYTES {
        Finding::warning("disk", "disk-scarce", left, "make room before it is full")
    } else {
        Finding::ok("disk", left)
    }
}

fn store(path: &Path) -> Finding {
    let (mut first, mut count) = (None, 0_u64);
    let examined = SqliteStore::open(path).and_then(|store| {
        store.examine(|name, _| {
            count += 1;
            first.get_or_insert(name);
        })
    });
    let problem = |cause, action| Finding::problem("store", "store-damaged", cause, action);
    match (examined, first) {
        (Err(error), _) => problem(
            error.to_string(),
            "`treeline-relay run --rebuild` begins an empty one",
        ),
        (Ok(_), Some(name)) => problem(
            format!(
                "{count} chunks in {} are damaged, {name} the first",
                path.display()
            ),
            "look at the disk; the relay drops them at its start, and asks its parent for them",
        ),
        (Ok(false), None) => problem(
            format!("indexes in {} are damaged", path.display()),
            "look at the disk; the relay makes them again at its start, and loses nothing",
        ),
        (Ok(true), None) => Finding::ok("store", "is whole"),
    }
}

/// The key on the disk is the one that others pin.
fn key(at: &Path, running: Option<&Status>) -> Finding {
    match (tls::load(&at.join(RELAY_KEY)), running) {
        (Err(error), _) => {
            Finding::problem("key", "key-damaged", error.to_string(), "restore the file")
        }
        (Ok(None), Some(_)) => Finding::problem(
            "key",
            "key-changed",
            "relay.key is gone while the relay runs",
            "restore it before the relay is started again, or everybody has to pin a new key",
        ),
        (Ok(None), None) => Finding::ok("key", "is made at the first start"),
        (Ok(Some(own)), Some(status)) if !status.address.ends_with(&own.public_key().to_hex()) => {
            Finding::problem(
                "key",
                "key-changed",
                "relay.key is not the key that the running relay shows",
                "restore the old file, or start the relay again and have everybody pin the new key",
            )
        }
        (Ok(Some(own)), _) => Finding::ok("key", own.public_key().to_hex()),
    }
}

fn files(connections: u64) -> Finding {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    // A relay raises its own limit up to the hard one.
    let most = limit.maximum.unwrap_or(u64::MAX);
    let wanted = connections + FILES;
    if most < wanted {
        let cause = format!("{most} open files are allowed, {wanted} may be needed");
        let action = "raise LimitNOFILE in the unit (or ulimit -n), or lower transport.connections";
        Finding::warning("limits", "few-files", cause, action)
    } else {
        Finding::ok("limits", format!("{most} open files are allowed"))
    }
}

/// Without a parent to compare with: the clock is not before what was written under it.
fn own_clock(at: &Path) -> Finding {
    let written = [STORE, RELAY_KEY]
        .iter()
        .filter_map(|name| std::fs::metadata(at.join(name)).ok()?.modified().ok())
        .filter_map(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .map(|time| time.as_millis() as u64)
        .max();
    let behind = written.map_or(0, |at| at.saturating_sub(now().millis()));
    if behind > limits::CLOCK_SKEW_MS {
        clock_wrong(format!(
            "the clock is {} s before the store's last write",
            behind / 1000
        ))
    } else {
        Finding::ok("clock", "is not behind the store")
    }
}

fn clock_wrong(cause: String) -> Finding {
    let action = "set the clock (timedatectl set-ntp true): chunks seem expired, or too long-lived";
    Finding::problem("clock", "clock-wrong", cause, action)
}

/// Our clock and the parent's, both at the same moment.
fn clocks(ours: Timestamp, parents: Timestamp, parent: &str) -> Finding {
    let (ahead, behind) = (ours.since(parents), parents.since(ours));
    let apart = ahead.max(behind);
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let cause = format!(
        "the clock is {} s {direction} that of {parent}",
        apart / 1000
    );
    if apart > limits::CLOCK_SKEW_MS {
        clock_wrong(cause)
    } else if apart > CLOCK_MS {
        Finding::warning(
            "clock",
            "clock-drifts",
            cause,
            "set the clock on both by NTP",
        )
    } else {
        Finding::ok("clock", format!("agrees with {parent}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_scarce_one_are_told_apart() {
        let code = |free, inodes| disk(free, inodes).code;
        assert_eq!(code(0, 9), "disk-full");
        assert_eq!(code(u64::MAX, 0), "disk-full");
        assert_eq!(code(FULL_BYTES, 9), "disk-scarce");
        assert_eq!(code(SCARCE_BYTES, 9), "ok");
    }

    #[test]
    fn clocks_may_differ_a_little() {
        let at = Timestamp::from_millis;
        let base = 1_800_000_000_000;
        let code = |ours| clocks(at(ours), at(base), "a:1").code;
        assert_eq!(code(base + CLOCK_MS), "ok");
        assert_eq!(code(base - CLOCK_MS - 1), "clock-drifts");
        assert_eq!(code(base + limits::CLOCK_SKEW_MS + 1), "clock-wrong");
        assert_eq!(code(base - limits::CLOCK_SKEW_MS - 1), "clock-wrong");
    }
}
