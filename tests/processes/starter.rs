//! P6: a terminal client and a Net that were taken over, and say to their starter whatever they like.
//! Nothing of it ends Secure or reaches it, but what each may say of itself.

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

/// No isolation: each would end a Secure that was told it.
const LIES: [&[u8]; 7] = [
    b"",
    b"whole",
    b"full ",
    b"partial (",
    b"\xff\xfe",
    b"none (\x1b[2J)",
    b"partial (\nisolation: full)",
];
const PATIENCE: Duration = Duration::from_secs(60);

/// A network process that lies, and then waits for the end of its control socket.
#[test]
#[ignore = "it is a process of the others"]
fn as_net() {
    let Ok(control) = Control::inherited() else {
        return;
    };
    lie(&control);
    let long = vec![b'x'; Control::BODY_BYTES];
    control.send(Tag::Relays, &long, None).unwrap();
    control
        .send(Tag::Isolation, b"none (it was taken over)", None)
        .unwrap();
    control.send(Tag::Line, b"ready", None).unwrap();
    while let Ok(Some(_)) = control.receive() {}
}

/// Everything that a child or a front end must not say, with descriptors of its own making.
fn lie(control: &Control) {
    let (near, _far) = stream_pair().unwrap();
    for text in LIES {
        control.send(Tag::Isolation, text, None).unwrap();
    }
    let long = [b"partial (", vec![b'x'; 9000].as_slice(), b")"].concat();
    control.send(Tag::Isolation, &long, None).unwrap();
    for tag in [Tag::Link, Tag::Configuration, Tag::Relays, Tag::Line] {
        control
            .send(tag, b"secure full", Some(near.as_fd()))
            .unwrap();
    }
}

/// The real starter and Secure, with that Net beside them, and the test as its client.
struct Started {
    starter: Child,
    control: Control,
}

impl Started {
    fn new(folder: &Path) -> Self {
        let own = std::env::current_exe().unwrap();
        let net = format!("exec {} --exact starter::as_net --ignored", own.display());
        Self::with_net(folder, &net)
    }

    fn with_net(folder: &Path, net: &str) -> Self {
        built();
        for program in ["treeline-starter", "treeline-secure", "treeline-keyring"] {
            fs::copy(binary(program).unwrap(), folder.join(program)).unwrap();
        }
        fs::write(folder.join("treeline-net"), format!("#!/bin/sh\n{net}\n")).unwrap();
        let mode = Permissions::from_mode(0o700);
        fs::set_permissions(folder.join("treeline-net"), mode).unwrap();
        let (control, theirs) = Control::pair().unwrap();
        let starter = Command::new(folder.join("treeline-starter"))
            .arg("--directory")
            .arg(folder.join("profile"))
            .envs(NO_KEYRING)
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
fn who_lies_to_the_starter_ends_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut started = Started::new(folder.path());
    let door = started.door();
    let end = Instant::now() + PATIENCE;
    while !status(&door).isolation.contains("it was taken over") {
        assert!(Instant::now() < end, "{}", status(&door).isolation);
    }
    let secure = started.secure().unwrap();
    lie(&started.control);
    started
        .control
        .send(Tag::Isolation, b"none (a test)", None)
        .unwrap();
    // Behind all of it.
    started.control.send(Tag::Door, b"", None).unwrap();
    let next = started.door();
    let said = status(&next).isolation;
    assert!(said.contains("terminal: not confined: a test"), "{said}");
    assert!(
        said.contains("net: not confined: it was taken over"),
        "{said}"
    );
    assert_eq!(started.secure(), Some(secure), "it was started again");

    // The starter ends with its client, and everything with it.
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
