//! The children and their pipes: what the starter's thread owns.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use confinement::Isolation;
use endpoint_secure_api::control::{Control, Packet, Tag, stream_pair};
use rustix::process::{Pid, Signal, kill_process};

use crate::{FrontEnd, StartError};

/// Deaths in a row, without `ready` in between, after which a child that others cannot do without is
/// given up.
const TRIES: u32 = 5;
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// Who lived so long is started again at once.
const LONG_LIFE: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(5);
/// A front end's isolation before it has said it. Only then Secure's status is without this word.
const UNHEARD: &[u8] = b"partial (it has not said yet)";
/// What a part says of its isolation is no longer than this, in bytes.
const ISOLATION_BYTES: usize = 4096;
/// A child's log is begun anew above this size.
const LOG_BYTES: u64 = 1024 * 1024;

/// The parts of an endpoint that are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Secure,
    Net,
    Window,
}

const ROLES: [Role; 3] = [Role::Secure, Role::Net, Role::Window];

/// What the other threads tell the starter's.
pub(super) enum Report {
    /// A child of this role and start ended.
    Ended(Role, u32, io::Result<ExitStatus>),
    /// A child of this role and start said something.
    Said(Role, u32, Packet),
    /// A child of this role and start sent what it may not.
    Wrong(Role, u32),
    /// The terminal front end said something.
    Front(Packet),
    /// The terminal front end sent what it may not.
    WrongFront,
    /// The terminal front end is gone, or the starter is being dropped.
    Stop,
}

#[derive(Default)]
struct Child {
    control: Option<Control>,
    pid: Option<u32>,
    /// Counts the starts, so that a late report of an earlier one is known.
    start: u32,
    /// Deaths without `ready` in between.
    failures: u32,
    /// Deaths after short lives, ready or not: what the delay grows with.
    short_lives: u32,
    started: Option<Instant>,
    again: Option<Instant>,
    last_words: String,
}

impl Child {
    /// Ends the control socket, which tells the child to end and our thread to stop reading.
    fn close(&mut self) {
        if let Some(control) = self.control.take() {
            control.close();
        }
    }

    fn kill(&self) {
        if let Some(pid) = self.pid.and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended in this moment.
            kill_process(pid, Signal::KILL).ok();
        }
    }
}

/// The one table of what each child may send. Everything else ends it: it is started again.
fn may_send(role: Role, packet: &Packet) -> bool {
    let known = match (role, packet.tag) {
        (Role::Secure, Tag::Configuration) | (Role::Net, Tag::Relays) | (_, Tag::Line) => true,
        (Role::Net | Role::Window, Tag::Isolation) => is_isolation(&packet.body),
        _ => false,
    };
    known && packet.descriptor.is_none()
}

/// The same for a terminal front end, which is not started again.
fn front_may_send(packet: &Packet) -> bool {
    let known = match packet.tag {
        Tag::Door => true,
        Tag::Isolation => is_isolation(&packet.body),
        _ => false,
    };
    known && packet.descriptor.is_none()
}

/// Secure ends when it is told what it cannot read: that must not be a child's to choose.
fn is_isolation(body: &[u8]) -> bool {
    let text = str::from_utf8(body).unwrap_or_default();
    body.len() <= ISOLATION_BYTES && text.parse::<Isolation>().is_ok()
}

pub(super) struct Children {
    directory: PathBuf,
    front: FrontEnd,
    reports: SyncSender<Report>,
    children: [Child; 3],
    /// The newest network configuration that Secure sent, for a Net that starts later.
    configuration: Option<Vec<u8>>,
    /// How the other parts said they are confined, for Secure, which tells people. The front end's
    /// stands in the window's place.
    isolation: [Option<Vec<u8>>; 3],
    /// The newest list of relays that Net has found, for a Secure that starts later.
    found: Option<Vec<u8>>,
}

impl Children {
    pub(super) fn start(
        directory: &Path,
        front: FrontEnd,
        reports: SyncSender<Report>,
    ) -> Result<Self, StartError> {
        let directory = directory.to_owned();
        let children = Default::default();
        let mut this = Self {
            directory,
            front,
            reports,
            children,
            configuration: None,
            isolation: [None, None, Some(UNHEARD.to_vec())],
            found: None,
        };
        this.listen_to_front()?;
        for role in ROLES {
            this.start_child(role)?;
        }
        this.tell_isolation();
        this.wire_link();
        this.wire_door();
        Ok(this)
    }

    /// Runs until the window is closed, [`Report::Stop`], or a child cannot be kept running.
    pub(super) fn serve(&mut self, incoming: &Receiver<Report>) -> Result<(), StartError> {
        loop {
            let next = self.children.iter().filter_map(|child| child.again).min();
            let wait = next.map_or(Duration::from_secs(3600), |at| {
                at.saturating_duration_since(Instant::now())
            });
            match incoming.recv_timeout(wait) {
                Ok(Report::Stop) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
                Ok(Report::Ended(Role::Window, _, Ok(status))) if status.success() => return Ok(()),
                Ok(Report::Ended(role, start, status)) => self.ended(role, start, &status)?,
                Ok(Report::Said(role, start, packet)) => self.said(role, start, packet),
                Ok(Report::Wrong(role, start)) => self.end_wrong(role, start),
                Ok(Report::Front(packet)) => self.front_said(packet),
                Ok(Report::WrongFront) => return Err(StartError::WrongFront),
                Err(RecvTimeoutError::Timeout) => self.restart_due()?,
            }
        }
    }

    /// Closes the control sockets, waits for the children, and kills who does not end.
    pub(super) fn end(&mut self, incoming: &Receiver<Report>) {
        self.children.iter_mut().for_each(Child::close);
        let until = Instant::now() + GRACE;
        while self.children.iter().any(|child| child.pid.is_some()) {
            match incoming.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Report::Ended(role, start, _)) if self.child(role).start == start => {
                    self.child(role).pid = None;
                }
                Ok(_) => {}
                Err(_) => break,
            }
        }
        self.children.iter().for_each(Child::kill);
    }

    fn child(&mut self, role: Role) -> &mut Child {
        &mut self.children[role as usize]
    }

    fn ended(
        &mut self,
        role: Role,
        start: u32,
        status: &io::Result<ExitStatus>,
    ) -> Result<(), StartError> {
        if self.child(role).start != start {
            return Ok(());
        }
        self.note(role, status);
        let child = self.child(role);
        child.close();
        child.pid = None;
        child.failures += 1;
        let long = child.started.is_some_and(|at| at.elapsed() > LONG_LIFE);
        child.short_lives = if long { 1 } else { child.short_lives + 1 };
        if child.failures > TRIES && role != Role::Net {
            let words = std::mem::take(&mut child.last_words);
            let line = if words.is_empty() {
                format!("treeline-{} ends at once", name(role))
            } else {
                words
            };
            return Err(StartError::LastWords(line));
        }
        child.again = Some(Instant::now() + delay(child.short_lives));
        Ok(())
    }

    fn restart_due(&mut self) -> Result<(), StartError> {
        let now = Instant::now();
        for role in ROLES {
            if self.child(role).again.is_some_and(|at| at <= now) {
                self.child(role).again = None;
                self.start_child(role)?;
                if role != Role::Window {
                    self.wire_link();
                }
                if role == Role::Secure {
                    self.tell_isolation();
                }
                if role != Role::Net {
                    self.wire_door();
                }
            }
        }
        Ok(())
    }

    fn said(&mut self, role: Role, start: u32, packet: Packet) {
        if self.child(role).start != start {
            return;
        }
        match (role, packet.tag) {
            (Role::Secure, Tag::Configuration) => {
                self.configuration = Some(packet.body);
                self.configure_net();
            }
            (_, Tag::Isolation) => self.isolated(role, packet.body),
            (_, Tag::Relays) => {
                self.found = Some(packet.body);
                self.tell_found();
            }
            (_, Tag::Line) if packet.body == b"ready" => self.child(role).failures = 0,
            (_, Tag::Line) => {
                let words = String::from_utf8_lossy(&packet.body);
                self.child(role).last_words = words.lines().next().unwrap_or_default().to_owned();
            }
            // `may_send` lets nothing else through.
            _ => {}
        }
    }

    /// It does not work as it was made to: nobody can say what it would do with its socket's end.
    fn end_wrong(&mut self, role: Role, start: u32) {
        if self.child(role).start == start {
            self.write_log(role, "sent its starter what it may not, and is ended");
            self.child(role).close();
            self.child(role).kill();
        }
    }

    fn front_said(&mut self, packet: Packet) {
        match packet.tag {
            Tag::Isolation => self.isolated(Role::Window, packet.body),
            _ => self.wire_door(),
        }
    }

    fn isolated(&mut self, role: Role, body: Vec<u8>) {
        self.isolation[role as usize] = Some(body);
        self.tell_isolation();
    }

    /// Reads what a terminal front end says, in a thread of its own.
    fn listen_to_front(&self) -> Result<(), StartError> {
        let FrontEnd::Terminal(control) = &self.front else {
            return Ok(());
        };
        let control = control.try_clone().map_err(StartError::Control)?;
        let reports = self.reports.clone();
        thread::spawn(move || {
            loop {
                let report = match control.receive() {
                    Ok(Some(packet)) if front_may_send(&packet) => Report::Front(packet),
                    Ok(None) => Report::Stop,
                    _ => Report::WrongFront,
                };
                let goes_on = matches!(report, Report::Front(_));
                if reports.send(report).is_err() || !goes_on {
                    return;
                }
            }
        });
        Ok(())
    }

    /// Starts a child. Without Net a person is offline, and has everything else: it is tried again.
    fn start_child(&mut self, role: Role) -> Result<(), StartError> {
        match self.spawn(role) {
            Err(error) if role == Role::Net => {
                self.write_log(role, &format!("does not start: {error}"));
                let child = self.child(role);
                child.short_lives += 1;
                child.again = Some(Instant::now() + delay(child.short_lives));
                Ok(())
            }
            done => done,
        }
    }

    fn spawn(&mut self, role: Role) -> Result<(), StartError> {
        match (&self.front, role) {
            (FrontEnd::Terminal(_), Role::Window) => Ok(()),
            (FrontEnd::Window(window), Role::Window) => {
                let mut command = Command::new(&window.program);
                command.args(&window.arguments);
                for (key, value) in &window.environment {
                    match value {
                        Some(value) => command.env(key, value),
                        None => command.env_remove(key),
                    };
                }
                self.spawn_program(role, command)
            }
            _ => {
                let mut command = Command::new(sibling(&format!("treeline-{}", name(role)))?);
                let own = self.directory.join(name(role));
                command.arg("--directory").arg(own);
                self.spawn_program(role, command)
            }
        }
    }

    fn spawn_program(&mut self, role: Role, mut command: Command) -> Result<(), StartError> {
        let program = PathBuf::from(command.get_program());
        let failed = |error| StartError::Program {
            program: program.clone(),
            error,
        };
        let (ours, theirs) = Control::pair().map_err(failed)?;
        let reader = ours.try_clone().map_err(failed)?;
        let log = self.log(role).map_err(failed)?;
        command
            .stdin(Stdio::from(theirs))
            .stdout(Stdio::null())
            .stderr(log);
        let mut process = command.spawn().map_err(failed)?;
        let child = self.child(role);
        child.start += 1;
        child.control = Some(ours);
        child.pid = Some(process.id());
        child.started = Some(Instant::now());
        let start = child.start;
        let (ends, words) = (self.reports.clone(), self.reports.clone());
        thread::spawn(move || {
            loop {
                let report = match reader.receive() {
                    Ok(Some(packet)) if may_send(role, &packet) => {
                        Report::Said(role, start, packet)
                    }
                    Ok(None) => return,
                    _ => Report::Wrong(role, start),
                };
                let goes_on = matches!(report, Report::Said(..));
                if words.send(report).is_err() || !goes_on {
                    return;
                }
            }
        });
        thread::spawn(move || {
            ends.send(Report::Ended(role, start, process.wait())).ok();
        });
        Ok(())
    }

    /// That a child ended before its time stands in its log, with the signal that ended it: a filter's
    /// is SIGSYS.
    fn note(&self, role: Role, status: &io::Result<ExitStatus>) {
        let how = status
            .as_ref()
            .map_or_else(ToString::to_string, ToString::to_string);
        self.write_log(role, &format!("ended: {how}"));
    }

    fn write_log(&self, role: Role, what: &str) {
        if let Ok(mut log) = self.log(role) {
            // A full disk is told by the child, when it is back.
            writeln!(log, "treeline-{} {what}", name(role)).ok();
        }
    }

    /// What the child writes to its standard error: never plaintext or keys.
    fn log(&self, role: Role) -> std::io::Result<File> {
        let path = self.directory.join(format!("{}.log", name(role)));
        let fresh = fs::metadata(&path).is_ok_and(|file| file.len() > LOG_BYTES);
        File::options()
            .create(true)
            .append(!fresh)
            .write(true)
            .truncate(fresh)
            .mode(0o600)
            .open(path)
    }

    /// A new link between Secure and Net. One that cannot be handed over is left: its child is dying,
    /// and its report brings a new one.
    fn wire_link(&mut self) {
        let Ok((secure, net)) = stream_pair() else {
            return;
        };
        self.configure_net();
        self.tell_found();
        for (role, end) in [(Role::Secure, secure), (Role::Net, net)] {
            if let Some(control) = &self.child(role).control {
                control.send(Tag::Link, b"", Some(end.as_fd())).ok();
            }
        }
    }

    fn wire_door(&mut self) {
        let Ok((secure, front)) = stream_pair() else {
            return;
        };
        // Without a Secure there is no door to hand over; its next start brings one.
        let Some(control) = &self.child(Role::Secure).control else {
            return;
        };
        if control.send(Tag::Door, b"", Some(secure.as_fd())).is_err() {
            return;
        }
        let to = match &self.front {
            FrontEnd::Terminal(control) => Some(control),
            FrontEnd::Window(_) => self.children[Role::Window as usize].control.as_ref(),
        };
        if let Some(to) = to {
            to.send(Tag::Door, b"", Some(front.as_fd())).ok();
        }
    }

    fn tell_isolation(&self) {
        let Some(secure) = &self.children[Role::Secure as usize].control else {
            return;
        };
        let terminal = matches!(self.front, FrontEnd::Terminal(_));
        for (role, told) in ROLES.iter().zip(&self.isolation) {
            if let Some(text) = told {
                let front = terminal && *role == Role::Window;
                let part = if front { "terminal" } else { name(*role) };
                let body = [part.as_bytes(), b" ", text].concat();
                // A Secure that is gone is told when it is back.
                secure.send(Tag::Isolation, &body, None).ok();
            }
        }
    }

    fn tell_found(&self) {
        let secure = self.children[Role::Secure as usize].control.as_ref();
        if let (Some(secure), Some(found)) = (secure, &self.found) {
            secure.send(Tag::Relays, found, None).ok();
        }
    }

    fn configure_net(&self) {
        let net = self.children[Role::Net as usize].control.as_ref();
        if let (Some(net), Some(configuration)) = (net, &self.configuration) {
            net.send(Tag::Configuration, configuration, None).ok();
        }
    }
}

/// Nothing after a first short life, then 0.1, 0.3, 0.7 … seconds, up to the longest.
fn delay(short_lives: u32) -> Duration {
    let steps = 2u32.pow(short_lives.saturating_sub(1).min(6)) - 1;
    (Duration::from_millis(100) * steps).min(LONGEST_DELAY)
}

fn name(role: Role) -> &'static str {
    match role {
        Role::Secure => "secure",
        Role::Net => "net",
        Role::Window => "window",
    }
}

/// A program beside our own, or one folder up, where a test's are.
pub(crate) fn sibling(program: &str) -> Result<PathBuf, StartError> {
    let own = std::env::current_exe().unwrap_or_default();
    let beside: Vec<_> = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join(program))
        .collect();
    let found = beside.iter().find(|path| path.is_file()).cloned();
    found.ok_or_else(|| StartError::Program {
        program: beside.into_iter().next().unwrap_or_else(|| program.into()),
        error: std::io::ErrorKind::NotFound.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(tag: Tag, body: &[u8]) -> Packet {
        let (body, descriptor) = (body.to_vec(), None);
        Packet {
            tag,
            body,
            descriptor,
        }
    }

    #[test]
    fn each_may_send_its_own_and_nothing_else() {
        let all = [
            packet(Tag::Door, b""),
            packet(Tag::Link, b""),
            packet(Tag::Configuration, b"{}"),
            packet(Tag::Relays, b"[]"),
            packet(Tag::Line, b"ready"),
            packet(Tag::Isolation, b"full"),
        ];
        let of = |may: &dyn Fn(&Packet) -> bool| -> String {
            let may = all.iter().filter(|packet| may(packet));
            may.map(|packet| char::from(packet.tag as u8)).collect()
        };
        assert_eq!(of(&|packet| may_send(Role::Secure, packet)), "CL");
        assert_eq!(of(&|packet| may_send(Role::Net, packet)), "RLI");
        assert_eq!(of(&|packet| may_send(Role::Window, packet)), "LI");
        assert_eq!(of(&front_may_send), "DI");
    }

    #[test]
    fn an_isolation_that_is_none_and_a_descriptor_are_nobodys() {
        let long = [b"partial (", vec![b'x'; ISOLATION_BYTES].as_slice(), b")"].concat();
        let wrong: [&[u8]; 8] = [
            b"",
            b"whole",
            b"full ",
            b"partial (",
            b"\xff\xfe",
            b"none (\x1b[2J)",
            b"none (\n)",
            &long,
        ];
        for body in wrong {
            let packet = packet(Tag::Isolation, body);
            assert!(!may_send(Role::Net, &packet) && !front_may_send(&packet));
        }
        let (near, _far) = stream_pair().unwrap();
        let with = Packet {
            descriptor: Some(near.into()),
            ..packet(Tag::Line, b"ready")
        };
        assert!(ROLES.iter().all(|role| !may_send(*role, &with)));
    }
}
