//! Tries every attack as everybody, and says whether it went as promised.

use std::collections::BTreeMap;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, Stdio};
use std::ptr;

use confinement::{Isolation, Role};

use crate::attacks::{self, Attack, By};
use crate::kernel::{self, Lack};
use crate::scene::{Scene, Victim, program};
use crate::table::{FAMILY, Table, errno};

/// A user who owns nothing, on every Linux.
const NOBODY: u32 = 65534;
/// So many attacks must succeed without confinement, on any kernel and for any user: a suite whose
/// attacks do not work shows nothing.
const LEAST: usize = 24;
/// The version of Landlock that keeps a window from the sockets of its user.
const UNIX_SOCKETS: i64 = 9;

/// How an attacker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Done,
    Refused(i32),
    /// By the filter.
    Killed,
    /// Any other way that gave the attacker nothing.
    Dead(i32),
}

/// One try.
struct Trial {
    /// How well the attacker was confined.
    isolation: Option<Isolation>,
    ending: Ending,
}

/// Runs it all.
pub fn run() -> ExitCode {
    let root = rustix::process::geteuid().is_root();
    let users: &[Option<u32>] = if root { &[None, Some(NOBODY)] } else { &[None] };
    let mut failures = Vec::new();
    for user in users {
        let who = match (user, root) {
            (Some(_), _) => "nobody",
            (None, true) => "root",
            (None, false) => "this user",
        };
        let scene = Scene::new(*user);
        println!("\n== as {who}");
        everything(&scene, &mut failures);
        into_secure(&scene, root && user.is_none(), &mut failures);
        for lack in [Lack::Landlock, Lack::Seccomp] {
            println!("\n== as {who}, on a kernel without {}", lack.word());
            lacking(&scene, lack, &mut failures);
        }
    }
    for failure in &failures {
        println!("FAILED {failure}");
    }
    println!("\nescape: {} failures", failures.len());
    ExitCode::from(u8::from(!failures.is_empty()))
}

/// Every attack from everybody.
fn everything(scene: &Scene, failures: &mut Vec<String>) {
    let mut table = Table::new();
    let mut worked = 0;
    let mut isolations = BTreeMap::new();
    let mut impossible = Vec::new();
    for attack in attacks::all() {
        let control = attempt(scene, "control", &attack, Lack::Nothing);
        match control.ending {
            Ending::Done => worked += 1,
            ending if attack.rare => {
                impossible.push(format!("{} ({})", attack.name, ending.word()))
            }
            ending => failures.push(format!(
                "{}: the control could not: {ending:?}",
                attack.name
            )),
        }
        let mut row = vec![control.ending.word()];
        for role in Role::ALL {
            let open = attempt(
                scene,
                &format!("{}/open", role.name()),
                &attack,
                Lack::Nothing,
            );
            let sealed = attempt(scene, role.name(), &attack, Lack::Nothing);
            row.push(cell(&attack, role, open.ending, sealed.ending));
            if let Some(failure) = judge(&attack, role, &sealed) {
                failures.push(failure);
            }
            isolations.insert(role.name(), sealed.isolation);
        }
        table.add(attack.name, row);
    }
    table.print();
    for (role, isolation) in isolations {
        println!(
            "isolation of {role}: {}",
            isolation.map_or("?".into(), |it| it.to_string())
        );
    }
    println!("{worked} attacks work where nothing confines the attacker");
    let (families, others): (Vec<_>, Vec<String>) = impossible
        .into_iter()
        .partition(|line| line.starts_with(FAMILY));
    println!(
        "this machine refuses to everybody: {}, sockets of {} families",
        others.join(", "),
        families.len()
    );
    if worked < LEAST {
        failures.push(format!(
            "only {worked} attacks work in the control; {LEAST} must"
        ));
    }
}

/// What a process that nothing confines gets of a confined Secure of the same user. Root may look into
/// everything, and is not kept out.
fn into_secure(scene: &Scene, root: bool, failures: &mut Vec<String>) {
    let names = [
        "ptrace",
        "process_vm_readv",
        "/proc/PID/mem",
        "/proc/PID/environ",
        "/proc/PID/maps",
    ];
    println!("an unconfined process of the same user against a confined Secure:");
    for attack in attacks::all()
        .iter()
        .filter(|attack| names.contains(&attack.name))
    {
        let trial = attempt_on(scene, &scene.confined, "control", attack, Lack::Nothing);
        println!("  {}: {}", attack.name, trial.ending.word());
        if trial.ending == Ending::Done && !root {
            failures.push(format!("{}: reaches into a confined Secure", attack.name));
        }
    }
}

/// A process that cannot be confined in full starts all the same, says so, and keeps the rest.
fn lacking(scene: &Scene, lack: Lack, failures: &mut Vec<String>) {
    let word = if lack == Lack::Landlock {
        "no Landlock"
    } else {
        "no seccomp"
    };
    for role in Role::ALL {
        let mut told = None;
        let mut open = Vec::new();
        for attack in attacks::all().iter().filter(|attack| !attack.rare) {
            let trial = attempt(scene, role.name(), attack, lack);
            failures.extend(judge(attack, role, &trial).map(|it| format!("without {word}: {it}")));
            if trial.ending == Ending::Done && !attack.may.contains(&role) {
                open.push(attack.name);
            }
            told = trial.isolation;
        }
        let text = told.as_ref().map_or("?".into(), ToString::to_string);
        println!("{}: {text}; open: {}", role.name(), open.join(", "));
        if !matches!(told, Some(Isolation::Partial(text)) if text.contains(word)) {
            failures.push(format!(
                "{} does not say that it has {word}: {text}",
                role.name()
            ));
        }
        if open.is_empty() {
            failures.push(format!(
                "{}: {word}, and yet nothing is open: is it pretended?",
                role.name()
            ));
        }
    }
}

/// An attack may succeed where it is part of the role's work, or where the process itself says that
/// what would refuse it is missing.
fn judge(attack: &Attack, role: Role, trial: &Trial) -> Option<String> {
    let Some(isolation) = &trial.isolation else {
        return Some(format!(
            "{} as {}: it did not say how it is confined",
            attack.name,
            role.name()
        ));
    };
    if trial.ending != Ending::Done || attack.may.contains(&role) {
        return None;
    }
    let said = isolation.to_string();
    let (no_filter, no_files) = (said.contains("no seccomp"), said.contains("no Landlock"));
    let excused = match attack.by {
        By::Calls => no_filter,
        By::Files => no_files,
        // A web engine starts and ends its own processes, so the window's filter leaves much to Landlock.
        By::Both if role == Role::Window => no_files,
        By::Both => no_filter && no_files,
        By::Scope if role == Role::Window => no_files || said.contains("can end other programs"),
        By::Scope => no_filter,
        // Not what it says of itself, but what this kernel has.
        By::Path if role == Role::Window => no_files || kernel::landlock() < UNIX_SOCKETS,
        By::Path => no_filter,
        By::Process => false,
    };
    let line = || {
        format!(
            "{} as {}: it worked; isolation {said}",
            attack.name,
            role.name()
        )
    };
    (!excused).then(line)
}

fn attempt(scene: &Scene, who: &str, attack: &Attack, lack: Lack) -> Trial {
    attempt_on(scene, &scene.victim, who, attack, lack)
}

fn attempt_on(scene: &Scene, victim: &Victim, who: &str, attack: &Attack, lack: Lack) -> Trial {
    scene.refill();
    let mut command = program(&scene.home, scene.user);
    let home = scene.home.to_str().unwrap();
    let (_screen, input) = if attack.name == attacks::TYPING {
        let (screen, keys) = terminal();
        (Some(screen), keys.into())
    } else {
        (None, Stdio::null())
    };
    let out = command
        .args(["attack", who, attack.name, home, &victim.secret])
        .env("LACK", lack.word())
        // What a window gets in real life.
        .env("DISPLAY", ":0")
        .stdin(input)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let mut lines = said.lines();
    let isolation = lines.next().and_then(|line| line.parse().ok());
    let ending = match (lines.next(), out.status.signal(), out.status.code()) {
        _ if out.status.core_dumped() => Ending::Done,
        (Some("done"), ..) => Ending::Done,
        (Some(line), ..) => {
            let number = line
                .strip_prefix("refused ")
                .and_then(|number| number.parse().ok());
            Ending::Refused(number.unwrap_or(0))
        }
        (None, Some(libc::SIGSYS), _) => Ending::Killed,
        (None, Some(signal), _) => Ending::Dead(signal),
        // It became another program, which had nothing to say.
        (None, None, Some(0)) => Ending::Done,
        (None, None, _) => panic!(
            "{} as {who}: {}",
            attack.name,
            String::from_utf8_lossy(&out.stderr)
        ),
    };
    Trial { isolation, ending }
}

/// The two ends of a new terminal: where it is looked at, and where it is typed into.
fn terminal() -> (OwnedFd, OwnedFd) {
    let (mut screen, mut keys) = (-1, -1);
    let (name, size) = (ptr::null_mut(), ptr::null());
    // SAFETY: it opens two descriptors, which nobody else knows, and writes their numbers.
    unsafe {
        let opened = libc::openpty(&raw mut screen, &raw mut keys, name, ptr::null(), size);
        assert_eq!(opened, 0, "this machine has no terminals");
        (OwnedFd::from_raw_fd(screen), OwnedFd::from_raw_fd(keys))
    }
}

impl Ending {
    fn word(self) -> String {
        match self {
            Self::Done => "works".into(),
            Self::Refused(number) => errno(number),
            Self::Killed => "killed".into(),
            Self::Dead(signal) => format!("signal {signal}"),
        }
    }
}

/// Refused by what.
fn cell(attack: &Attack, role: Role, open: Ending, sealed: Ending) -> String {
    match (open, sealed) {
        (_, Ending::Done) if attack.may.contains(&role) => "may".into(),
        (_, Ending::Done) => "OPEN".into(),
        (Ending::Done, Ending::Killed) => "filter".into(),
        (other, Ending::Killed) => format!("filter, {}", other.word()),
        (Ending::Done, Ending::Refused(number)) => format!("filter {}", errno(number)),
        (_, Ending::Refused(number))
            if matches!(attack.by, By::Files | By::Both | By::Scope | By::Path) =>
        {
            format!("Landlock {}", errno(number))
        }
        (_, Ending::Refused(number)) => errno(number),
        (_, Ending::Dead(signal)) => format!("no dump, signal {signal}"),
    }
}
