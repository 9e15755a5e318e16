//! Full disks: small memory file systems, each in a mount namespace of its own. What was accepted
//! stays, one line says what is wrong, and it goes on when there is room again.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use proto::{Chunk, Name, Outcome, Prefix, Refused, Registration, Tier};
use xtask::people::CHANNEL;
use xtask::process::{binary, child_of, line_in, signal};
use xtask::tree::free_address;

use crate::client::{Alone, client, message, publish, publisher, read, run, watch};
use crate::scene::{Scene, book, refused, until};

const START: Duration = Duration::from_secs(30);

/// A command in a mount namespace of its own, in which it may mount: as root, or as somebody who is
/// root there and nowhere else.
fn apart(script: &str, arguments: &[&str]) -> Command {
    let allowed = |flags: &&&str| {
        let tried = Command::new("unshare")
            .args([flags, "true"])
            .stderr(Stdio::null())
            .status();
        tried.unwrap().success()
    };
    let flags = ["-m", "-rm"].iter().find(allowed);
    let flags = flags.expect("this system allows no mount namespaces, which this test needs");
    let mut command = Command::new("unshare");
    command
        .args([flags, "sh", "-euc", script, "sh"])
        .args(arguments)
        .stdin(Stdio::null());
    command
}

/// A relay on a small disk; everything is ended when it is dropped.
struct Small {
    shell: Child,
    folder: PathBuf,
    out: PathBuf,
}

impl Small {
    /// Starts a relay with a copy of a store, and once more when it was killed.
    fn start(folder: &Path, store: &Path) -> Self {
        let script = "mount -t tmpfs -o size=24m,mode=700 none \"$1\"; cp -a \"$2\" \"$1/store\"
            head -c 12000000 /dev/zero > \"$1/ballast\"
            for start in first second; do
                \"$3\" run --directory \"$1/store\" --listen \"$4\" || true
            done";
        let disk = folder.join("disk");
        fs::create_dir(&disk).unwrap();
        let out = folder.join("small.out");
        let program = binary("treeline-relay").unwrap();
        let paths = [&disk, store, &program].map(|path: &Path| path.to_str().unwrap());
        let address = free_address().unwrap();
        let shell = apart(script, &[&paths[..], &[&address]].concat())
            .stdout(File::create(&out).unwrap())
            .stderr(File::create(out.with_extension("log")).unwrap())
            .spawn()
            .unwrap();
        Self {
            shell,
            folder: disk,
            out,
        }
    }

    fn address(&self) -> String {
        line_in(&self.out, "ready", START).unwrap();
        line_in(&self.out, "relay ", START).unwrap()
    }

    fn log(&self) -> String {
        fs::read_to_string(self.out.with_extension("log")).unwrap()
    }

    /// Its disk as it sees it, from outside of its namespace.
    fn disk(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.shell.id()));
        root.join(self.folder.strip_prefix("/").unwrap())
    }

    fn kill_relay(&self) {
        signal(child_of(self.shell.id(), "treeline-relay").unwrap(), "KILL");
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let relay = child_of(self.shell.id(), "treeline-relay");
        self.shell.kill().ok();
        self.shell.wait().ok();
        relay.inspect(|pid| signal(*pid, "KILL"));
    }
}

/// Publishes until the relay has no room; returns what it has accepted, and what it has not.
async fn fill(address: &str, registration: &Registration) -> (Vec<Chunk>, Chunk) {
    let mut link = publisher(address, registration).await;
    let mut accepted = Vec::new();
    for number in 0..10_000 {
        let chunk = message(registration, 2, number);
        match publish(&mut link, &chunk).await {
            Outcome::Stored(Tier::Origin) => accepted.push(chunk),
            outcome => {
                assert_eq!(outcome, Outcome::Refused(Refused::StoreFull));
                return (accepted, chunk);
            }
        }
    }
    panic!("the disk is not full after 10 MB");
}

/// P1: a relay with a full disk refuses, keeps what it has acknowledged, and goes on with new room.
#[test]
fn a_relay_without_room_refuses_and_goes_on() {
    let Alone {
        relay,
        registration,
        folder,
        ..
    } = Alone::new();
    drop(relay);
    let small = Small::start(folder.path(), &folder.path().join("origin"));
    let address = small.address();
    let team = Prefix::of(message(&registration, 2, 0).name(), Name::TEAM_BITS);
    run(async {
        let (mut accepted, refused) = fill(&address, &registration).await;
        assert!(accepted.len() > 100, "{}", accepted.len());
        let log = small.log();
        assert_eq!(log.lines().count(), 1, "{log}");
        for word in ["no room", "store.db", "nothing new is accepted until"] {
            assert!(log.contains(word), "no {word:?} in {log}");
        }
        assert_eq!(read(&address, team).await, accepted);

        fs::remove_file(small.disk().join("ballast")).unwrap();
        let mut link = publisher(&address, &registration).await;
        assert_eq!(
            publish(&mut link, &refused).await,
            Outcome::Stored(Tier::Origin)
        );
        accepted.push(refused);
        small.kill_relay();
        let again = || {
            fs::read_to_string(&small.out)
                .unwrap()
                .matches("ready\n")
                .count()
                == 2
        };
        until("the relay is started again", again);
        let mut link = client(&address).await;
        let count = accepted.len();
        assert_eq!(
            watch(&mut link, team, |seen| seen.len() >= count).await,
            accepted
        );
    });
}

#[test]
fn a_relay_does_not_begin_on_a_full_disk() {
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=64k none \"$1\"; mkdir \"$1/store\"
        cat /dev/zero > \"$1/ballast\" 2> \"$3\" || true
        exec \"$2\" run --directory \"$1/store\" --listen 127.0.0.1:0";
    let program = binary("treeline-relay").unwrap();
    let paths =
        [folder.path(), &program, Path::new("/dev/null")].map(|path| path.to_str().unwrap());
    let out: Output = apart(script, &paths).output().unwrap();
    refused(&out, 2, &["store", "space"]);
}

/// P2: a device with a full disk refuses a message in one line, and the same sending, run again with
/// room, goes on where it was: everything arrives once, in order.
#[test]
fn a_device_without_room_refuses_and_goes_on() {
    let scene = Scene::new();
    let text = book(3000);
    let lines = scene.folder().join("book.txt");
    fs::write(&lines, &text).unwrap();
    let disk = scene.folder().join("disk");
    fs::create_dir(&disk).unwrap();
    let script = "mount -t tmpfs -o size=64m,mode=700 none \"$1\"; cp -a \"$2\" \"$1/profile\"
        chat=$3; book=$4; pass=$5; room=1500000
        free=$(df -B1 --output=avail \"$1\" | tail -1)
        head -c $((free - room)) /dev/zero > \"$1/ballast\"
        send() { \"$chat\" --directory \"$1/profile\" --passphrase-file \"$pass\" send \\
            --channel \"$6\" --lines \"$book\" --batch once --wait origin > /dev/null; }
        code=0; send \"$@\" || code=$?
        rm \"$1/ballast\"
        send \"$@\"
        exit $code";
    let alice = &scene.people[0];
    let pass = scene.folder().join("alice.passphrase");
    let program = binary("treeline-chat").unwrap();
    let paths =
        [&disk, &alice.directory, &program, &lines, &pass].map(|path| path.to_str().unwrap());
    let out = apart(script, &[paths.as_slice(), &[CHANNEL]].concat())
        .output()
        .unwrap();
    refused(&out, 2, &["store", "full", "free space"]);
    let tail = [
        "tail",
        "--channel",
        CHANNEL,
        "--from-oldest",
        "--author",
        "Alice",
        "--raw",
        "--count",
        "3000",
    ];
    let seen = scene.people[1].tool("treeline-chat", &tail).unwrap();
    let sent = String::from_utf8(text).unwrap();
    let mut both = seen.lines().zip(sent.lines()).enumerate();
    let differs = both.find(|(_, (seen, sent))| seen != sent);
    assert!(
        seen == sent,
        "what arrived is not what was sent: {differs:?}"
    );
}
