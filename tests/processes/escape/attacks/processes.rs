//! Ways to have another process do it: start one, become one, end one.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::thread;

use confinement::Role::{Net, Relay, Terminal, Window};

use super::{Attack, By, Target, call};
use crate::scene::PROGRAM;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "fork",
        try_it: |_| wait_for(call!(libc::SYS_clone, libc::SIGCHLD, 0, 0, 0, 0)?),
        may: &[Window],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "vfork",
        try_it: |_| vfork(),
        may: &[Window],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "clone3",
        try_it: |_| {
            let mut arguments = [0u64; 8];
            arguments[4] = libc::SIGCHLD as u64;
            wait_for(call!(libc::SYS_clone3, arguments.as_mut_ptr(), 64)?)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "a thread after the filter",
        try_it: |_| {
            let thread = thread::Builder::new().spawn(|| 7)?;
            thread
                .join()
                .map(drop)
                .map_err(|_| io::ErrorKind::Other.into())
        },
        may: &[Net, Relay, Window, Terminal],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "execve of a system's program",
        try_it: |_| become_program("/bin/true"),
        may: &[Window],
        by: By::Both,
        rare: false,
    },
    Attack {
        name: "execve of an own file",
        try_it: |_| become_program(PROGRAM),
        may: &[],
        by: By::Both,
        rare: false,
    },
    Attack {
        name: "execveat of memory",
        try_it: program_in_memory,
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "kill of another process",
        try_it: |target| call!(libc::SYS_kill, target.pid, libc::SIGCONT).map(drop),
        may: &[],
        by: By::Scope,
        rare: false,
    },
    Attack {
        name: "slow another process",
        try_it: |target| call!(libc::SYS_setpriority, libc::PRIO_PROCESS, target.pid, 19).map(drop),
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "schedule another process",
        try_it: |target| {
            let none = [0u32; 1];
            let batch = libc::SCHED_BATCH;
            call!(
                libc::SYS_sched_setscheduler,
                target.pid,
                batch,
                none.as_ptr()
            )
            .map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "bind another process to a processor",
        try_it: |target| {
            let mut set = [0u64; 128];
            let bytes = size_of_val(&set);
            call!(
                libc::SYS_sched_getaffinity,
                target.pid,
                bytes,
                set.as_mut_ptr()
            )?;
            call!(libc::SYS_sched_setaffinity, target.pid, bytes, set.as_ptr()).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "x32 system call",
        try_it: |_| call!(0x4000_0000 + libc::SYS_getpid).map(drop),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "int 0x80",
        try_it: |_| old_entry(),
        may: &[],
        by: By::Calls,
        rare: true,
    },
];

/// In the child: done; in the parent: whether it could.
fn wait_for(child: libc::c_long) -> io::Result<()> {
    if child == 0 {
        // SAFETY: it ends the child without running what the parent has registered.
        unsafe { libc::_exit(0) }
    }
    call!(libc::SYS_wait4, child, 0, 0, 0).map(drop)
}

#[cfg(target_arch = "x86_64")]
fn vfork() -> io::Result<()> {
    let child: i64;
    // SAFETY: the child touches no memory of the parent and ends at once.
    unsafe {
        std::arch::asm!(
            "mov eax, 58",
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov eax, 231",
            "xor edi, edi",
            "syscall",
            "2:",
            out("rax") child,
            out("rcx") _,
            out("r11") _,
            out("rdi") _,
        );
    }
    if child < 0 {
        return Err(io::Error::from_raw_os_error(-child as i32));
    }
    wait_for(child)
}

#[cfg(not(target_arch = "x86_64"))]
fn vfork() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(target_arch = "x86_64")]
fn old_entry() -> io::Result<()> {
    let pid: i32;
    // SAFETY: number 20 of the 32-bit table is getpid.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") 20 => pid, lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _)
    };
    if pid > 0 {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(-pid))
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn old_entry() -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Success says it by itself: the judge sees a program that ended without a word.
fn become_program(path: &str) -> io::Result<()> {
    let path = CString::new(path).unwrap();
    let arguments = [path.as_ptr(), std::ptr::null()];
    call!(
        libc::SYS_execve,
        path.as_ptr(),
        arguments.as_ptr(),
        arguments[1..].as_ptr()
    )
    .map(drop)
}

fn program_in_memory(_: &Target<'_>) -> io::Result<()> {
    let bytes = std::fs::read(PROGRAM)?;
    let descriptor = call!(libc::SYS_memfd_create, c"x".as_ptr(), 0)?;
    // SAFETY: the call has just made it, and nobody else has it.
    let mut file = unsafe { File::from_raw_fd(descriptor as i32) };
    file.write_all(&bytes)?;
    let arguments = [c"x".as_ptr(), std::ptr::null()];
    let (fd, none) = (file.as_raw_fd(), arguments[1..].as_ptr());
    let empty = libc::AT_EMPTY_PATH;
    call!(
        libc::SYS_execveat,
        fd,
        c"".as_ptr(),
        arguments.as_ptr(),
        none,
        empty
    )
    .map(drop)
}
