//! P6: a terminal client and a Net that were taken over, and say to their starter whatever they like.
//! Nothing of it reaches Secure, but what each may say of itself: such a Net is ended and started again,
//! and such a client is without a starter, as if it had gone.

use std::fs::{self, Permissions};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use endpoint_secure_api::control::{Control, Tag, stream_pair};
use endpoint_secure_api::door::Door;
use endpoint_secure_api::{Answer, Command as Ask, Status};
use xtask::process::{NO_KEYRING, binary, child_of};

use crate::scene::{built, until};

/// What neither a Net nor a front end may send, and whether with a descriptor of its own making. Each
/// isolation would end a Secure that was told it.
const LIES: [(Tag, &[u8], bool); 6] = [
    (Tag::Isolation, b"none (\x1b[2J)", false),
    (Tag::Isolation, b"partial (\nisolation: full)", false),
    (Tag::Isolation, b"\xff\xfe", false),
    (Tag::Isolation, b"full", true),
    (Tag::Link, b"", true),
    (Tag::Configuration, b"{}", false),
];
const PATIENCE: Duration = Duration::from_secs(60);
/// Names the file in which each start of Net is a line.
const STARTS: &str = "TREELINE_TEST_STARTS";
/// A network process that does nothing, and ends with its control socket.
const IDLE: &str = "exec cat > /dev/null";

/// A network process that lies at each start, goes on after it, and at last says what it may.
#[test]
#[ignore = "it is a process of the others"]
fn as_net() {
    let Ok(control) = Control::inherited() else {
        return;
    };
    let starts = fs::read_to_string(std::env::var(STARTS).unwrap()).unwrap();
    if let Some(lie) = LIES.get(starts.lines().count() - 1) {
        tell(&control, lie);
        // The starter may have closed the socket.
        control.send(Tag::Isolation, b"none (lied)", None).ok();
        std::thread::sleep(PATIENCE);
        return;
    }
    let long = vec![b'x'; Control::BODY_BYTES];
    control.send(Tag::Relays, &long, None).unwrap();
    control
        .send(Tag::Isolation, b"none (it was taken over)", None)
        .unwrap();
    control.send(Tag::Line, b"ready", None).unwrap();
    while let Ok(Some(_)) = control.receive() {}
}

fn tell(control: &Control, (tag, body, with): &(Tag, &[u8], bool)) {
    let (near, _far) = stream_pair().unwrap();
    let end = with.then(|| near.as_fd());
    control.send(*tag, body, end).unwrap();
}

/// Puts a shell script in the place of the network process's program, in one step.
fn put_net(folder: &Path, net: &str) {
    let (script, program) = (folder.join("net.sh"), folder.join("treeline-net"));
    fs::write(&script, format!("#!/bin/sh\n{net}\n")).unwrap();
    fs::set_permissions(&script, Permissions::from_mode(0o700)).unwrap();
    fs::rename(script, program).unwrap();
}

/// The real starter and Secure, with that Net beside them, and the test as its client.
struct Started {
    starter: Child,
    control: Control,
}

impl Started {
    fn with_net(folder: &Path, net: &str) -> Self {
        built();
        for program in ["treeline-starter", "treeline-secure", "treeline-keyring"] {
            fs::copy(binary(program).unwrap(), folder.join(program)).unwrap();
        }
        put_net(folder, net);
        let (control, theirs) = Control::pair().unwrap();
        let starter = Command::new(folder.join("treeline-starter"))
            .arg("--directory")
            .arg(folder.join("profile"))
            .envs(NO_KEYRING)
            .env(STARTS, folder.join("starts"))
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let control = control.only_from(starter.id());
        Self { starter, control }
    }

    /// The next door that it hands over.
    fn door(&self) -> Door {
        let packet = self.control.receive().unwrap().unwrap();
        assert_eq!(packet.tag, Tag::Door);
        let stream = UnixStream::from(packet.descriptor.unwrap());
        Door::new(stream.try_clone().unwrap(), stream, |_| {})
    }

    fn secure(&self) -> Option<u32> {
        child_of(self.starter.id(), "treeline-secure")
    }
}

fn status(door: &Door) -> Status {
    match door.call(&Ask::Status).unwrap() {
        Answer::Status(status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_net_that_lies_to_the_starter_ends_itself_alone() {
    let folder = tempfile::tempdir().unwrap();
    let own = std::env::current_exe().unwrap();
    let run = format!("exec {} --exact starter::as_net --ignored", own.display());
    let net = format!("echo start >> \"${STARTS}\"; {run}");
    let mut started = Started::with_net(folder.path(), &net);
    let door = started.door();
    let secure = started.secure().unwrap();
    let end = Instant::now() + PATIENCE;
    loop {
        let said = status(&door).isolation;
        assert!(!said.contains("lied") && !said.contains('\u{1b}'), "{said}");
        if said.contains("net: not confined: it was taken over") {
            break;
        }
        assert!(Instant::now() < end, "{said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let starts = fs::read_to_string(folder.path().join("starts")).unwrap();
    assert_eq!(starts.lines().count(), LIES.len() + 1);
    let log = fs::read_to_string(folder.path().join("profile/net.log")).unwrap();
    let ended = log.matches("sent its starter what it may not").count();
    assert_eq!(ended, LIES.len(), "{log}");
    assert_eq!(started.secure(), Some(secure), "it was started again");
    started.control.finish();
    assert!(started.starter.wait().unwrap().success());
}

#[test]
fn a_front_end_that_lies_to_the_starter_has_none_any_more() {
    for lie in &LIES {
        let folder = tempfile::tempdir().unwrap();
        let mut started = Started::with_net(folder.path(), IDLE);
        let door = started.door();
        status(&door);
        let secure = started.secure().unwrap();
        tell(&started.control, lie);
        let said = loop {
            match started.control.receive().unwrap() {
                Some(packet) if packet.tag == Tag::Line => break packet.body,
                other => assert!(other.is_some(), "it has said nothing"),
            }
        };
        let said = String::from_utf8(said).unwrap();
        assert!(said.contains("what it may not"), "{said}");
        assert_eq!(started.starter.wait().unwrap().code(), Some(2));
        until("Secure has ended", || {
            !Path::new(&format!("/proc/{secure}")).exists()
        });
    }
}

#[test]
fn a_front_end_says_how_it_is_confined_and_the_starter_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut started = Started::with_net(folder.path(), IDLE);
    started.door();
    let secure = started.secure().unwrap();
    let say = |tag, body| started.control.send(tag, body, None).unwrap();
    say(Tag::Isolation, b"none (a test)");
    say(Tag::Door, b"");
    let said = status(&started.door()).isolation;
    assert!(said.contains("terminal: not confined: a test"), "{said}");
    assert_eq!(started.secure(), Some(secure), "it was started again");
    started.control.finish();
    assert!(started.starter.wait().unwrap().success());
    until("Secure has ended", || {
        !Path::new(&format!("/proc/{secure}")).exists()
    });
}

#[test]
fn a_net_that_cannot_start_costs_nothing_but_the_network() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let net = format!("echo start >> {}; exit 1", starts.display());
    let mut started = Started::with_net(folder.path(), &net);
    let door = started.door();
    status(&door);
    let secure = started.secure().unwrap();
    until("it was tried again and again", || {
        let all = fs::read_to_string(&starts).unwrap_or_default();
        all.lines().count() > 7
    });
    status(&door);
    assert_eq!(started.secure(), Some(secure), "Secure has ended");
    started.control.finish();
    assert!(started.starter.wait().unwrap().success());
}

#[test]
fn a_net_whose_program_is_gone_is_started_when_it_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let starts = folder.path().join("starts");
    let line = format!("echo start >> {}", starts.display());
    let mut started = Started::with_net(folder.path(), &format!("{line}; rm \"$0\"; exit 1"));
    let door = started.door();
    let secure = started.secure().unwrap();
    let log = folder.path().join("profile/net.log");
    until("its log says what is missing", || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        text.matches("does not start").count() > 2
    });
    status(&door);
    assert_eq!(started.secure(), Some(secure), "Secure has ended");
    put_net(folder.path(), &format!("{line}; {IDLE}"));
    until("it is started", || {
        fs::read_to_string(&starts).unwrap().lines().count() == 2
    });
    started.control.finish();
    assert!(started.starter.wait().unwrap().success());
}
