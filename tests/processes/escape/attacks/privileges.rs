//! Ways to more rights: namespaces, mounts, the kernel's own programs and keys.

use std::io;

use super::{Attack, By, TYPING, call};

const NEW_USER: libc::c_int = libc::CLONE_NEWUSER;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "unshare into a user namespace",
        try_it: |_| call!(libc::SYS_unshare, NEW_USER).map(drop),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "clone into a user namespace",
        try_it: |_| {
            let child = call!(libc::SYS_clone, NEW_USER | libc::SIGCHLD, 0, 0, 0, 0)?;
            if child == 0 {
                // SAFETY: it ends the child without running what the parent has registered.
                unsafe { libc::_exit(0) }
            }
            call!(libc::SYS_wait4, child, 0, 0, 0).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "mount",
        try_it: |_| {
            // Root needs no namespace to be allowed, others need one; nobody may change this machine's.
            call!(libc::SYS_unshare, libc::CLONE_NEWNS)
                .or_else(|_| call!(libc::SYS_unshare, NEW_USER | libc::CLONE_NEWNS))?;
            let (kind, place) = (c"tmpfs".as_ptr(), c"/tmp".as_ptr());
            call!(
                libc::SYS_mount,
                c"none".as_ptr(),
                c"/".as_ptr(),
                0,
                libc::MS_REC | libc::MS_PRIVATE,
                0
            )?;
            call!(libc::SYS_mount, kind, place, kind, 0, 0).map(drop)
        },
        may: &[],
        by: By::Both,
        rare: true,
    },
    Attack {
        name: "chroot",
        try_it: |_| call!(libc::SYS_chroot, c".".as_ptr()).map(drop),
        may: &[],
        by: By::Process,
        rare: true,
    },
    Attack {
        name: TYPING,
        // What stands there is read by the shell, when the client has ended.
        try_it: |_| call!(libc::SYS_ioctl, 0, libc::TIOCSTI, c"!".as_ptr()).map(drop),
        may: &[],
        by: By::Calls,
        // Kernels since 6.2 can keep it for root.
        rare: true,
    },
    Attack {
        name: "the kernel's keyring",
        try_it: |_| {
            let (kind, name) = (c"user".as_ptr(), c"treeline".as_ptr());
            // Into the process's own keyring, which ends with it.
            call!(libc::SYS_add_key, kind, name, name, 8, -2).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "bpf",
        try_it: |_| {
            // An array of one number.
            let attributes: [u32; 32] =
                std::array::from_fn(|at| [2, 4, 4, 1].get(at).copied().unwrap_or(0));
            call!(libc::SYS_bpf, 0, attributes.as_ptr(), 128).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "perf_event_open",
        try_it: |_| {
            // A software event, the processor's clock, of this process without the kernel.
            let mut attributes = [0u64; 16];
            attributes[0] = 1 | (128 << 32);
            attributes[5] = 1 << 5 | 1 << 6;
            call!(libc::SYS_perf_event_open, attributes.as_ptr(), 0, -1, -1, 0).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "raise the core limit again",
        try_it: |_| {
            let mut now = [0u64; 2];
            call!(
                libc::SYS_prlimit64,
                0,
                libc::RLIMIT_CORE,
                0,
                now.as_mut_ptr()
            )?;
            now[0] = now[1];
            call!(libc::SYS_prlimit64, 0, libc::RLIMIT_CORE, now.as_ptr(), 0)?;
            // One byte is no core.
            if now[1] <= 1 {
                Err(io::Error::from_raw_os_error(libc::EPERM))
            } else {
                Ok(())
            }
        },
        may: &[],
        by: By::Process,
        rare: true,
    },
    Attack {
        name: "be dumpable again",
        try_it: |_| call!(libc::SYS_prctl, libc::PR_SET_DUMPABLE, 1, 0, 0, 0).map(drop),
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "rights by a set-user-id program",
        try_it: |_| match call!(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0)? {
            0 => Ok(()),
            _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
        },
        may: &[],
        by: By::Process,
        rare: false,
    },
];
