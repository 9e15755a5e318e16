//! P6: the binaries themselves, as they are built: each has the limits, the filters and the directory of
//! its own row of docs/threats.md, nothing of what its starter had open, and a memory that others of the
//! same user do not read. What a role may do is the escape suite's business.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use endpoint_secure_api::control::{Control, Tag};
use tests::process::{
    CORES, core_limit, filters, holds, inheriting, is_hidden, limit, unprivileged,
};
use xtask::process::{NO_KEYRING, binary};

use crate::scene::{built, until};

const GIB: u64 = 1 << 30;

/// What a binary is, and what it must have.
struct Row {
    program: &'static str,
    /// Its directory, below the test's folder, and the one of another part.
    own: &'static str,
    other: &'static str,
    /// A file in it that it cannot do without.
    file: &'static str,
    /// So many has its role: Secure fewer than the two that have a network.
    filters: usize,
    descriptors: Option<u64>,
    memory: Option<u64>,
    /// Whether it may keep what its starter had open.
    inherits: bool,
}

const ROWS: [Row; 3] = [
    Row {
        program: "treeline-secure",
        own: "secure",
        other: "net",
        file: "keys.db",
        filters: 2,
        descriptors: Some(128),
        memory: Some(4 * GIB),
        inherits: false,
    },
    Row {
        program: "treeline-net",
        own: "net",
        other: "secure",
        file: "net.key",
        filters: 4,
        descriptors: Some(1024),
        memory: Some(4 * GIB),
        inherits: false,
    },
    Row {
        program: "treeline-relay",
        own: "relay",
        other: "net",
        file: "relay.key",
        filters: 4,
        descriptors: None,
        memory: None,
        // The socket of its service manager.
        inherits: true,
    },
];

/// A part that was started, and ends with this value.
struct Part {
    child: Child,
    control: Control,
    log: PathBuf,
}

impl Row {
    fn start(&self, folder: &Path) -> Part {
        let (control, theirs) = Control::pair().unwrap();
        let program = binary(self.program).unwrap();
        let mut command = Command::new("sh");
        command.args(inheriting(&program, &planted(folder)));
        if self.program == "treeline-relay" {
            command.args(["run", "--listen", "127.0.0.1:0", "--admin", "off"]);
        }
        let log = folder.join("log");
        let child = command
            .arg("--directory")
            .arg(folder.join(self.own))
            .envs(NO_KEYRING)
            .stdin(theirs)
            .stdout(Stdio::piped())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let control = control.only_from(child.id());
        Part {
            child,
            control,
            log,
        }
    }

    /// Moves its file to another place, and leaves a link there.
    fn move_file(&self, folder: &Path, place: &str) {
        let file = folder.join(self.own).join(self.file);
        let place = folder.join(place);
        fs::create_dir_all(&place).unwrap();
        let there = place.join(self.file);
        fs::rename(file.canonicalize().unwrap(), &there).unwrap();
        fs::remove_file(&file).ok();
        symlink(there, file).unwrap();
    }
}

impl Part {
    /// What it says when it has begun, `ready`, or else why it has not.
    fn says(&mut self, row: &Row) -> String {
        if row.program == "treeline-relay" {
            let out = self.child.stdout.take().unwrap();
            let mut lines = BufReader::new(out).lines().map_while(Result::ok);
            let ready = lines.find(|line| line == "ready");
            return ready.unwrap_or_else(|| fs::read_to_string(&self.log).unwrap());
        }
        while let Ok(Some(packet)) = self.control.receive() {
            if packet.tag == Tag::Line {
                return String::from_utf8(packet.body).unwrap();
            }
        }
        fs::read_to_string(&self.log).unwrap()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn planted(folder: &Path) -> PathBuf {
    folder.join("planted")
}

fn folder() -> tempfile::TempDir {
    built();
    let folder = tempfile::tempdir().unwrap();
    fs::write(planted(folder.path()), "open").unwrap();
    folder
}

#[test]
fn each_binary_has_the_limits_of_its_role_and_nothing_of_its_starter() {
    let ours = std::process::id();
    for row in &ROWS {
        let folder = folder();
        let mut part = row.start(folder.path());
        let (pid, name) = (part.child.id(), row.program);
        assert_eq!(part.says(row), "ready", "{name}");
        let sealed = || filters(pid) == filters(ours) + row.filters;
        until("it is sealed, by as many filters as its role has", sealed);
        let descriptors = row.descriptors.or(limit(ours, "Max open files"));
        assert_eq!(limit(pid, "Max open files"), descriptors, "{name}");
        let memory = row.memory.or(limit(ours, "Max data size"));
        assert_eq!(limit(pid, "Max data size"), memory, "{name}");
        assert_eq!(limit(pid, CORES), core_limit(), "{name}");
        assert_eq!(holds(pid, &planted(folder.path())), row.inherits, "{name}");
        assert!(is_hidden(pid), "{name}");
    }
}

/// What looks into them does look into a process that is not hidden, and sees what it holds.
#[test]
fn a_process_that_is_not_confined_is_seen_through() {
    let folder = folder();
    let mut child = unprivileged("sh")
        .args(inheriting("sleep".as_ref(), &planted(folder.path())))
        .arg("60")
        .spawn()
        .unwrap();
    until("it is there", || holds(child.id(), &planted(folder.path())));
    assert!(!is_hidden(child.id()));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A link in its directory leads each part to its file in another place: below its own directory it
/// follows it, and into another part's it does not get.
#[test]
fn each_binary_has_its_own_directory_and_not_another_ones() {
    for row in &ROWS {
        let folder = folder();
        let says = || row.start(folder.path()).says(row);
        assert_eq!(says(), "ready", "{}", row.program);
        row.move_file(folder.path(), &format!("{}/below", row.own));
        assert_eq!(says(), "ready", "{} in its own directory", row.program);
        row.move_file(folder.path(), row.other);
        let said = says();
        assert!(said.contains(row.file), "{}: {said}", row.program);
    }
}
