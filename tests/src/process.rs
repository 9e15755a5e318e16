//! What the system says of a running process, for tests of how it is confined.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What `sh` needs to become a program that inherits an open file, as from a starter that closes nothing.
pub fn inheriting(program: &Path, file: &Path) -> [OsString; 5] {
    let script = "exec 7<\"$1\"; shift; exec \"$@\"";
    [
        "-c".into(),
        script.into(),
        "sh".into(),
        file.into(),
        program.into(),
    ]
}

/// Whether a process has a file open.
pub fn holds(pid: u32, file: &Path) -> bool {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    open.filter_map(|entry| fs::read_link(entry.path()).ok())
        .any(|there| there == file)
}

/// The name of the limit of cores.
pub const CORES: &str = "Max core file size";

/// One of a process's hard limits, by its name in `/proc/PID/limits`. None: it has no end.
pub fn limit(pid: u32, name: &str) -> Option<u64> {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let values = limits.lines().find_map(|line| line.strip_prefix(name));
    let hard = values.unwrap().split_ascii_whitespace().nth(1).unwrap();
    hard.parse().ok()
}

/// The hard limit of cores that a confined process has: that of its starter if nobody may raise it.
pub fn core_limit() -> Option<u64> {
    let ours = limit(std::process::id(), CORES);
    let stays = ours == Some(0) && !rustix::process::geteuid().is_root();
    Some(if stays { 0 } else { 1 })
}

/// How many filters of system calls a process is under.
pub fn filters(pid: u32) -> usize {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Seccomp_filters:"));
    count.map_or(0, |count| count.trim().parse().unwrap())
}

/// A command for a program of this user that has no privileges, also where this is root: none but the one
/// that a relay may keep, because who has less than another looks into it only by a privilege.
pub fn unprivileged(program: &str) -> Command {
    if !rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    // Of Debian's util-linux.
    let mut command = Command::new("setpriv");
    let rights = ["--inh-caps=-all", "--bounding-set=-all,+net_bind_service"];
    command.args(rights).arg(program);
    command
}

/// Whether another process of the same user, without privileges, cannot read where its memory lies.
pub fn is_hidden(pid: u32) -> bool {
    let out = unprivileged("head")
        .arg("--bytes=1")
        .arg(format!("/proc/{pid}/maps"))
        .stdin(Stdio::null())
        .output();
    out.unwrap().stdout.is_empty()
}
