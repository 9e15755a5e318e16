//! Ways into another process's memory and descriptors, and out of one's own.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::FromRawFd;
use std::os::unix::fs::FileExt;

use confinement::Role::{Net, Relay, Window};

use super::{Attack, By, Target, call, is_secret};
use crate::scene::SECRET;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "ptrace",
        try_it: |target| {
            call!(libc::SYS_ptrace, libc::PTRACE_SEIZE, target.pid, 0, 0)?;
            call!(libc::SYS_ptrace, libc::PTRACE_INTERRUPT, target.pid, 0, 0)?;
            call!(libc::SYS_wait4, target.pid, 0, 0x4000_0000, 0)?;
            call!(libc::SYS_ptrace, libc::PTRACE_DETACH, target.pid, 0, 0).map(drop)
        },
        may: &[],
        by: By::Both,
        rare: true,
    },
    Attack {
        name: "process_vm_readv",
        try_it: |target| {
            let mut bytes = [0u8; SECRET.len()];
            let (ours, theirs) = vectors(bytes.as_mut_ptr(), target.address);
            call!(
                libc::SYS_process_vm_readv,
                target.pid,
                &raw const ours,
                1,
                &raw const theirs,
                1,
                0
            )?;
            is_secret(&bytes)
        },
        may: &[],
        by: By::Both,
        rare: true,
    },
    Attack {
        name: "process_vm_writev",
        try_it: |target| {
            // Of no bytes: the victim is needed again.
            let mut byte = 0;
            let (ours, mut theirs) = vectors(&raw mut byte, target.address);
            theirs.iov_len = 0;
            call!(
                libc::SYS_process_vm_writev,
                target.pid,
                &raw const ours,
                1,
                &raw const theirs,
                1,
                0
            )
            .map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "pidfd_getfd",
        try_it: |target| {
            let process = call!(libc::SYS_pidfd_open, target.pid, 0)?;
            let taken = call!(libc::SYS_pidfd_getfd, process, target.descriptor, 0)?;
            // SAFETY: the call has just made it, and nobody else has it.
            let file = unsafe { File::from_raw_fd(taken as i32) };
            let mut bytes = [0; SECRET.len()];
            file.read_exact_at(&mut bytes, 0)?;
            is_secret(&bytes)
        },
        may: &[],
        by: By::Both,
        rare: true,
    },
    Attack {
        name: "/proc/PID/mem",
        try_it: |target| {
            let mut bytes = [0; SECRET.len()];
            File::open(proc(target, "mem"))?.read_exact_at(&mut bytes, target.address as u64)?;
            is_secret(&bytes)
        },
        may: &[],
        by: By::Files,
        rare: true,
    },
    Attack {
        name: "/proc/PID/environ",
        try_it: |target| is_secret(&fs::read(proc(target, "environ"))?),
        may: &[],
        by: By::Files,
        rare: true,
    },
    Attack {
        name: "/proc/PID/maps",
        try_it: |target| {
            let mut byte = [0];
            File::open(proc(target, "maps"))?.read_exact(&mut byte)
        },
        may: &[],
        by: By::Files,
        rare: true,
    },
    Attack {
        name: "/proc/PID/fd",
        try_it: |target| {
            is_secret(&fs::read(proc(
                target,
                &format!("fd/{}", target.descriptor),
            ))?)
        },
        may: &[],
        by: By::Files,
        rare: true,
    },
    Attack {
        name: "shared memory of another process",
        try_it: |target| {
            let at = call!(libc::SYS_shmat, target.segment, 0, libc::SHM_RDONLY)?;
            let mut bytes = [0u8; SECRET.len()];
            // SAFETY: the call has just mapped a page there, which nobody else writes any more.
            unsafe {
                let there = std::ptr::with_exposed_provenance::<u8>(at as usize);
                bytes.copy_from_slice(std::slice::from_raw_parts(there, SECRET.len()));
            }
            is_secret(&bytes)
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "new code in own memory",
        try_it: |_| {
            let (access, kind) = (
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            );
            let at = call!(libc::SYS_mmap, 0, 4096, access, kind, -1, 0)?;
            call!(
                libc::SYS_mprotect,
                at,
                4096,
                libc::PROT_READ | libc::PROT_EXEC
            )
            .map(drop)
        },
        may: &[Net, Relay, Window],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "userfaultfd",
        try_it: |_| call!(libc::SYS_userfaultfd, 1).map(drop),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "core dump",
        // The judge looks at how it ended.
        try_it: |_| {
            let thread = call!(libc::SYS_gettid)?;
            call!(libc::SYS_tgkill, std::process::id(), thread, libc::SIGABRT)?;
            Ok(())
        },
        may: &[],
        by: By::Process,
        rare: true,
    },
];

fn proc(target: &Target<'_>, file: &str) -> String {
    format!("/proc/{}/{file}", target.pid)
}

fn vectors(ours: *mut u8, theirs: usize) -> (libc::iovec, libc::iovec) {
    let at = |base| libc::iovec {
        iov_base: base,
        iov_len: SECRET.len(),
    };
    (
        at(ours.cast()),
        at(std::ptr::without_provenance_mut(theirs)),
    )
}
