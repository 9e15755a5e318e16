//! `status`: how the relay that runs in a directory is, as its admin listener tells.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Failure, directory, other, print};
use crate::relay::{ADMIN, LOCK};
use crate::status::Status;

/// How long a running relay may take to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Bytes of an answer, at most.
const ANSWER_BYTES: u64 = 4 * 1024 * 1024;

/// Prints the status, for people or as JSON.
///
/// # Errors
/// [`Failure::Unreachable`] when no relay runs there.
pub fn status(named: Option<PathBuf>, json: bool) -> Result<(), Failure> {
    let directory = directory(named)?;
    let status = read(&directory)?;
    if json {
        print(serde_json::to_string(&status).map_err(other)?)
    } else {
        print(text(&status).trim_end())
    }
}

/// Asks the relay that runs in a directory.
///
/// # Errors
/// [`Failure::Unreachable`].
pub(super) fn read(directory: &Path) -> Result<Status, Failure> {
    let shown = directory.display();
    let gone = |why: String| Failure::Unreachable(why);
    if !runs(directory) {
        return Err(gone(format!(
            "no relay runs in {shown}; start one, or name its directory with --directory"
        )));
    }
    let place = fs::read_to_string(directory.join(ADMIN)).map_err(|_| {
        gone(format!(
            "the relay in {shown} has no admin listener; set `admin` in its configuration"
        ))
    })?;
    let place = place.trim();
    let body = ask(place).map_err(|error| {
        gone(format!(
            "the relay in {shown} does not answer at {place}: {error}; look into its log"
        ))
    })?;
    serde_json::from_str(&body).map_err(|_| {
        gone(format!(
            "what answers at {place} is not this program's relay"
        ))
    })
}

/// Whether a process holds the directory.
pub(super) fn runs(directory: &Path) -> bool {
    fs::File::open(directory.join(LOCK)).is_ok_and(|file| file.try_lock_shared().is_err())
}

fn ask(place: &str) -> io::Result<String> {
    let address: SocketAddr = place.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    write!(
        stream,
        "GET /status HTTP/1.1\r\nHost: {place}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES).read_to_string(&mut answer)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.to_owned()),
        _ => Err(io::Error::other("it refused")),
    }
}

fn text(status: &Status) -> String {
    let mut lines = vec![
        format!("relay          {}", status.address),
        format!("tier           {}, reaches {}", status.tier, status.reach),
        format!("ready          {}", if status.ready { "yes" } else { "no" }),
        format!("process        {}, for {} s", status.pid, status.uptime_s),
        format!("directory      {}", status.directory.display()),
    ];
    if status.parents.is_empty() {
        lines.push("parent         none: this is a root".into());
    }
    for parent in &status.parents {
        let what = match &parent.reach {
            Some(reach) => format!(
                "{}, reaches {reach}, {} subscriptions, {} chunks unanswered",
                parent.state, parent.subscriptions, parent.in_flight
            ),
            None => match &parent.error {
                Some(error) => format!("{}: {error}", parent.state),
                None => parent.state.clone(),
            },
        };
        let place = match &parent.relay {
            Some(relay) if *relay != parent.place => format!("{} ({relay})", parent.place),
            _ => parent.place.clone(),
        };
        lines.push(format!("parent         {place} {what}"));
        if parent.left_out > 0 {
            let left_out = parent.left_out;
            lines.push(format!(
                "left out       {left_out} prefixes wanted below, too many to ask for above"
            ));
        }
    }
    let (store, counters) = (&status.store, &status.counters);
    lines.extend([
        format!("links          {}", status.links),
        format!("subscriptions  {}", status.subscriptions),
        format!("grants         {}", status.grants),
        format!(
            "store          {} bytes, {} free on its disk{}",
            store.bytes,
            store.free_bytes,
            if store.failed {
                "; it cannot be written"
            } else {
                ""
            }
        ),
        format!(
            "chunks         {} stored, {} known already, {} delivered",
            counters.stored, counters.duplicates, counters.delivered
        ),
    ]);
    if counters.damaged > 0 {
        let dropped = counters.damaged;
        lines.push(format!(
            "damaged        {dropped} chunks of the store, dropped"
        ));
    }
    for (reason, count) in &counters.refused {
        lines.push(format!("refused        {count} {reason}"));
    }
    for (reason, count) in &counters.refused_above {
        lines.push(format!("refused above  {count} {reason}"));
    }
    for (reason, count) in &counters.misbehaved {
        lines.push(format!("misbehaved     {count} {reason}"));
    }
    lines.join("\n")
}
