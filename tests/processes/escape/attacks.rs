//! The attacks: each one a few system calls that give something that a taken-over process should not
//! have. Each is tried in a process of its own, because most end it.

mod files;
mod memory;
mod privileges;
mod processes;
mod sockets;

use std::io::{self, Error, Write};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use confinement::{Places, Role};

use crate::kernel::Lack;
use crate::scene::{OWN, READ};

/// A system call's result.
fn result(value: libc::c_long) -> io::Result<libc::c_long> {
    if value < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(value)
    }
}

/// Makes a system call by its number.
macro_rules! call {
    ($number:expr $(, $argument:expr)*) => {
        // SAFETY: what the arguments point to lives until the call returns; what the call changes is
        // this process alone, which ends behind it, or the victim, whose death is no loss.
        $crate::attacks::result(unsafe { libc::syscall($number $(, ($argument) as libc::c_long)*) })
    };
}
use call;

/// The attack that gets a terminal as its standard input.
pub const TYPING: &str = "type into the terminal";

/// What the attacker knows.
pub struct Target<'a> {
    pub home: &'a Path,
    pub pid: libc::pid_t,
    /// Where the secret lies in the victim's memory.
    pub address: usize,
    /// The victim's descriptor of the person's file.
    pub descriptor: i32,
    /// The number of its shared memory, where the secret lies, too.
    pub segment: i32,
}

/// Who may do it by design, and what a kernel must have to refuse it to the others.
#[derive(Clone, Copy)]
pub struct Attack {
    pub name: &'static str,
    pub try_it: fn(&Target<'_>) -> io::Result<()>,
    /// Roles that may: it is part of their work, or docs/threats.md says that it is not promised.
    pub may: &'static [Role],
    /// What refuses it, where that is the only thing that does.
    pub by: By,
    /// Whether some kernels, containers or users cannot do it at all: then the control is told apart,
    /// and shown, but need not succeed.
    pub rare: bool,
}

/// What refuses an attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The filter alone.
    Calls,
    /// Landlock alone.
    Files,
    /// Either would.
    Both,
    /// The filter, and Landlock from version 6.
    Scope,
    /// The filter, and in a window Landlock from version 9.
    Path,
    /// A limit or a flag of the process, which every kernel has.
    Process,
}

pub fn all() -> Vec<Attack> {
    let listed = [
        sockets::ATTACKS,
        processes::ATTACKS,
        memory::ATTACKS,
        files::ATTACKS,
        privileges::ATTACKS,
    ];
    let listed = listed.into_iter().flatten().copied();
    listed.chain(sockets::families()).collect()
}

/// The attacker: confined as it is told (`ROLE`, or `ROLE/open` without the filter, or `control`), it
/// says how well, tries, and says how that went.
pub fn run(who: &str, name: &str, home: &Path, victim: &str) -> ExitCode {
    let numbers: Vec<usize> = victim
        .split(' ')
        .map(|word| word.parse().unwrap())
        .collect();
    let target = Target {
        home,
        pid: numbers[0] as libc::pid_t,
        address: numbers[1],
        descriptor: numbers[2] as i32,
        segment: numbers[3] as i32,
    };
    let attack = all()
        .into_iter()
        .find(|attack| attack.name == name)
        .unwrap();
    std::env::set_current_dir(home.join(OWN)).unwrap();
    Lack::of(&std::env::var("LACK").unwrap_or_default()).pretend();
    let (role, sealed) = who
        .strip_suffix("/open")
        .map_or((who, true), |role| (role, false));
    let role = Role::ALL.into_iter().find(|one| one.name() == role);
    if name == TYPING {
        lead_terminal();
    }
    let mut out = io::stdout();
    if let Some(role) = role {
        let places = Places {
            own: vec![home.join(OWN)],
            read: vec![home.join(READ)],
            ..Places::default()
        };
        let enclosed = confinement::enclose(role, &places);
        // A thread that was there before the filter has to be under it, too.
        let (ready, wait) = std::sync::mpsc::channel::<()>();
        let early = thread::spawn(move || {
            wait.recv().ok();
        });
        if sealed {
            writeln!(out, "{}", enclosed.seal()).unwrap();
        } else {
            writeln!(out, "not sealed").unwrap();
        }
        drop(ready);
        early.join().unwrap();
    } else {
        raise_core_limit().ok();
        writeln!(out, "control").unwrap();
    }
    match (attack.try_it)(&target) {
        Ok(()) => writeln!(out, "done"),
        Err(error) => writeln!(out, "refused {}", error.raw_os_error().unwrap_or(0)),
    }
    .unwrap();
    ExitCode::SUCCESS
}

/// From now on standard input is this process's own terminal, as it is a shell's.
fn lead_terminal() {
    call!(libc::SYS_setsid).unwrap();
    call!(libc::SYS_ioctl, 0, libc::TIOCSCTTY, 0).unwrap();
}

/// Many systems start programs with a limit of 0, which a program may raise.
fn raise_core_limit() -> io::Result<()> {
    let mut now = [0u64; 2];
    call!(
        libc::SYS_prlimit64,
        0,
        libc::RLIMIT_CORE,
        0,
        now.as_mut_ptr()
    )?;
    now[0] = now[1];
    call!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, now.as_ptr(), 0).map(drop)
}

/// Whether what was read is the secret.
fn is_secret(bytes: &[u8]) -> io::Result<()> {
    let found = bytes
        .windows(crate::scene::SECRET.len())
        .any(|at| at == crate::scene::SECRET.as_bytes());
    if found {
        Ok(())
    } else {
        Err(io::ErrorKind::NotFound.into())
    }
}
