//! Which system calls each role may make, and why: data to be reviewed, and the way to read it.
//!
//! A call that no row allows ends the process (in the window: is refused), also through the 32-bit and
//! the x32 entry. New files appear only where Landlock lets them (`files`).

use libc::c_long;

use crate::Role;

/// One call, with conditions on its arguments that must all hold.
pub(super) struct Call {
    pub(super) number: c_long,
    pub(super) when: &'static [When],
}

/// A condition on the lower 32 bits of an argument, counted from 0.
pub(super) enum When {
    Is(u8, u64),
    IsNot(u8, u64),
    /// The bits of a mask have a value.
    Bits(u8, u64, u64),
    /// It is this process's id.
    Own(u8),
}

/// Calls that are allowed for one reason, which stands in front of each group below.
pub(super) struct Group {
    pub(super) calls: &'static [Call],
}

pub(super) enum Otherwise {
    Kill,
    Refuse(i32),
}

/// What one role may do. A call in `refused` fails with that error, where the process lives on without
/// it; everything else that is not in `allowed` meets `otherwise`.
pub(super) struct Table {
    pub(super) allowed: Vec<&'static Group>,
    pub(super) refused: &'static [(i32, &'static [Call])],
    pub(super) otherwise: Otherwise,
}

/// The tables.
pub(super) fn table(role: Role) -> Table {
    use Otherwise::{Kill, Refuse};
    let base = [
        &OWN_MEMORY,
        &OWN_THREADS,
        &TIME,
        &FILES,
        &OLD_NUMBERS,
        &PIPES,
    ];
    let (more, refused, otherwise): (&[&Group], _, _) = match role {
        Role::Secure => (&[&DATA_ONLY], SECURE_REFUSED, Kill),
        Role::Terminal => (
            &[&DATA_ONLY, &NEW_THREADS, &TERMINAL],
            WITH_THREADS_REFUSED,
            Kill,
        ),
        Role::Net | Role::Relay => (
            &[&LIBRARIES, &NEW_THREADS, &READINESS, &NETWORK],
            NETWORK_REFUSED,
            Kill,
        ),
        Role::Window => (WINDOW, WITH_THREADS_REFUSED, Refuse(libc::EPERM)),
        Role::SteeredWindow => (STEERED, WITH_THREADS_REFUSED, Refuse(libc::EPERM)),
    };
    Table {
        allowed: base.into_iter().chain(more.iter().copied()).collect(),
        refused,
        otherwise,
    }
}

const WINDOW: &[&Group] = &[
    &LIBRARIES,
    &NEW_PROCESSES,
    &READINESS,
    &TERMINAL,
    &DISPLAY,
    &OLD_DISPLAY,
    &SCHEDULING,
];
const STEERED: &[&Group] = &[
    &LIBRARIES,
    &NEW_PROCESSES,
    &READINESS,
    &TERMINAL,
    &DISPLAY,
    &OLD_DISPLAY,
    &SCHEDULING,
    &DRIVER,
];

macro_rules! calls {
    ($($name:ident $([$($when:expr),+])?),* $(,)?) => {
        &[$(Call { number: libc::$name, when: &[$($($when),+)?] }),*]
    };
}

/// `prctl`: the C library names an area of memory; a program asks for its own start values.
const PR_SET_VMA: u64 = 0x5356_4d41;
const PR_GET_AUXV: u64 = 0x4155_5856;
const WRITE_XOR_EXECUTE: When = When::Bits(2, libc::PROT_EXEC as u64, 0);
const A_THREAD: When = When::Bits(0, libc::CLONE_THREAD as u64, libc::CLONE_THREAD as u64);
/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID, NET: none of them.
const NO_NAMESPACE: When = When::Bits(0, 0x7e02_0000, 0);
const STREAM: When = When::Bits(1, 0xf, libc::SOCK_STREAM as u64);
const DATAGRAM: When = When::Bits(1, 0xf, libc::SOCK_DGRAM as u64);
/// What a family has for a kind by itself: TCP for streams, UDP for datagrams.
const ITS_OWN: When = When::Is(2, 0);
const TCP: When = When::Is(2, libc::IPPROTO_TCP as u64);
const UDP: When = When::Is(2, libc::IPPROTO_UDP as u64);
const UNIX: u64 = libc::AF_UNIX as u64;
const INET: u64 = libc::AF_INET as u64;
const INET6: u64 = libc::AF_INET6 as u64;
const NETLINK: u64 = libc::AF_NETLINK as u64;

// Reserve, share out and give back its own memory.
const OWN_MEMORY: Group = Group {
    calls: calls![
        SYS_brk,
        SYS_munmap,
        SYS_mremap,
        SYS_madvise,
        SYS_mlock,
        SYS_munlock,
        SYS_membarrier,
    ],
};

// Memory that is data and never code: nothing can be loaded any more.
const DATA_ONLY: Group = Group {
    calls: calls![SYS_mmap[WRITE_XOR_EXECUTE], SYS_mprotect[WRITE_XOR_EXECUTE]],
};

// The C library loads resolver modules when a name is looked up; a web engine makes code.
const LIBRARIES: Group = Group {
    calls: calls![SYS_mmap, SYS_mprotect],
};

// Wait for and end its own threads, catch its own signals, abort itself.
const OWN_THREADS: Group = Group {
    calls: calls![
        SYS_futex,
        SYS_rseq,
        SYS_set_robust_list,
        SYS_get_robust_list,
        SYS_set_tid_address,
        SYS_rt_sigaction,
        SYS_rt_sigprocmask,
        SYS_rt_sigreturn,
        SYS_sigaltstack,
        SYS_restart_syscall,
        SYS_gettid,
        SYS_getpid,
        SYS_getppid,
        SYS_geteuid,
        SYS_getuid,
        SYS_getegid,
        SYS_getgid,
        SYS_sched_yield,
        SYS_sched_getaffinity,
        SYS_getrandom,
        SYS_prctl[When::Is(0, libc::PR_SET_NAME as u64)],
        SYS_prctl[When::Is(0, PR_SET_VMA)],
        SYS_prctl[When::Is(0, PR_GET_AUXV)],
        SYS_tgkill[When::Own(0)],
        SYS_exit,
        SYS_exit_group,
    ],
};

const TIME: Group = Group {
    calls: calls![
        SYS_clock_gettime,
        SYS_clock_getres,
        SYS_clock_nanosleep,
        SYS_nanosleep,
        SYS_gettimeofday,
    ],
};

// SQLite's files, keys and logs. Landlock decides which; fcntl cannot hand signals to others. Nothing
// that changes a file's mode, owner or times: Landlock does not look at it, nor at how a file was opened.
const FILES: Group = Group {
    calls: calls![
        SYS_openat,
        SYS_close,
        SYS_read,
        SYS_write,
        SYS_readv,
        SYS_writev,
        SYS_pread64,
        SYS_pwrite64,
        SYS_preadv,
        SYS_pwritev,
        SYS_lseek,
        SYS_fstat,
        SYS_newfstatat,
        SYS_statx,
        SYS_faccessat,
        SYS_faccessat2,
        SYS_fsync,
        SYS_fdatasync,
        SYS_ftruncate,
        SYS_fallocate,
        SYS_flock,
        SYS_unlinkat,
        SYS_mkdirat,
        SYS_renameat,
        SYS_renameat2,
        SYS_readlinkat,
        SYS_getdents64,
        SYS_getcwd,
        SYS_fstatfs,
        SYS_umask,
        SYS_dup,
        SYS_fcntl[When::Is(1, libc::F_GETFD as u64)],
        SYS_fcntl[When::Is(1, libc::F_SETFD as u64)],
        SYS_fcntl[When::Is(1, libc::F_GETFL as u64)],
        SYS_fcntl[When::Is(1, libc::F_SETFL as u64)],
        SYS_fcntl[When::Is(1, libc::F_DUPFD_CLOEXEC as u64)],
        SYS_fcntl[When::Is(1, libc::F_GETLK as u64)],
        SYS_fcntl[When::Is(1, libc::F_SETLK as u64)],
        SYS_fcntl[When::Is(1, libc::F_SETLKW as u64)],
        SYS_fcntl[When::Is(1, libc::F_OFD_GETLK as u64)],
        SYS_fcntl[When::Is(1, libc::F_OFD_SETLK as u64)],
        SYS_fcntl[When::Is(1, libc::F_OFD_SETLKW as u64)],
        // "Is it a terminal?"
        SYS_ioctl[When::Is(1, libc::TCGETS)],
    ],
};

// The same by their old numbers, which only this architecture has.
#[cfg(target_arch = "x86_64")]
const OLD_NUMBERS: Group = Group {
    calls: calls![
        SYS_open,
        SYS_stat,
        SYS_lstat,
        SYS_access,
        SYS_unlink,
        SYS_rename,
        SYS_mkdir,
        SYS_rmdir,
        SYS_readlink,
        SYS_dup2,
        SYS_poll,
        SYS_time,
        SYS_epoll_wait,
    ],
};
#[cfg(not(target_arch = "x86_64"))]
const OLD_NUMBERS: Group = Group { calls: &[] };

// The pipes and the control socket that came with the process, or over it. Without `socket`,
// `socketpair` and `connect` nothing else can be spoken to.
const PIPES: Group = Group {
    calls: calls![
        SYS_recvmsg,
        SYS_sendmsg,
        SYS_recvfrom,
        SYS_sendto,
        SYS_shutdown,
        SYS_getsockopt,
        SYS_ppoll,
    ],
};

// Threads of the same process, and nothing that could become another one.
const NEW_THREADS: Group = Group {
    calls: calls![SYS_clone[A_THREAD]],
};

// The web engine's own processes, which keep this filter and have no namespaces of their own.
const NEW_PROCESSES: Group = Group {
    calls: calls![SYS_clone[NO_NAMESPACE], SYS_execve, SYS_wait4, SYS_waitid],
};

// tokio's event loop.
const READINESS: Group = Group {
    calls: calls![
        SYS_epoll_create1,
        SYS_epoll_ctl,
        SYS_epoll_pwait,
        SYS_eventfd2,
        SYS_timerfd_create,
        SYS_timerfd_settime,
        SYS_pipe2,
    ],
};

// QUIC, TCP, mDNS and DNS; the machine's addresses (routing netlink, which reads without privileges);
// socket pairs for tokio's own signals, of the kind that can never be connected to somebody else.
const NETWORK: Group = Group {
    calls: calls![
        SYS_socket[When::Is(0, INET), STREAM, ITS_OWN],
        SYS_socket[When::Is(0, INET), STREAM, TCP],
        SYS_socket[When::Is(0, INET), DATAGRAM, ITS_OWN],
        SYS_socket[When::Is(0, INET), DATAGRAM, UDP],
        SYS_socket[When::Is(0, INET6), STREAM, ITS_OWN],
        SYS_socket[When::Is(0, INET6), STREAM, TCP],
        SYS_socket[When::Is(0, INET6), DATAGRAM, ITS_OWN],
        SYS_socket[When::Is(0, INET6), DATAGRAM, UDP],
        SYS_socket[When::Is(0, NETLINK), When::Is(2, libc::NETLINK_ROUTE as u64)],
        SYS_socketpair[When::Is(0, UNIX), STREAM],
        SYS_connect,
        SYS_bind,
        SYS_listen,
        SYS_accept4,
        SYS_getsockname,
        SYS_getpeername,
        SYS_setsockopt,
        SYS_sendmmsg,
        SYS_recvmmsg,
        SYS_ioctl[When::Is(1, libc::FIONBIO)],
        SYS_ioctl[When::Is(1, libc::FIONREAD)],
        // The number of an interface by its name, and the other way.
        SYS_ioctl[When::Is(1, libc::SIOCGIFINDEX)],
        SYS_ioctl[When::Is(1, libc::SIOCGIFNAME)],
        SYS_uname,
        SYS_sysinfo,
        SYS_statfs,
        SYS_getrusage,
        // Its own limits, which it raises as far as it may.
        SYS_prlimit64[When::Is(0, 0)],
        SYS_kill[When::Own(0)],
    ],
};

// What a person types, without an echo where it is a passphrase; never TIOCSTI, which types for them.
const TERMINAL: Group = Group {
    calls: calls![
        SYS_ioctl[When::Is(1, libc::TCSETS)],
        SYS_ioctl[When::Is(1, libc::TCSETSW)],
        SYS_ioctl[When::Is(1, libc::TCSETSF)],
        SYS_ioctl[When::Is(1, libc::TCGETS2)],
        SYS_ioctl[When::Is(1, libc::TCSETS2)],
        SYS_ioctl[When::Is(1, libc::TCSETSW2)],
        SYS_ioctl[When::Is(1, libc::TCSETSF2)],
        SYS_ioctl[When::Is(1, libc::TIOCGWINSZ)],
        SYS_pipe2,
        SYS_uname,
    ],
};

// The display server, shared memory with it, the graphics card, fonts and caches. No segments of System
// V: whoever guesses the number of one has it, and X11 draws without.
const DISPLAY: Group = Group {
    calls: calls![
        SYS_socket[When::Is(0, UNIX)],
        SYS_socketpair[When::Is(0, UNIX)],
        SYS_connect,
        SYS_bind,
        SYS_listen,
        SYS_accept4,
        SYS_getsockname,
        SYS_getpeername,
        SYS_setsockopt,
        SYS_sendmmsg,
        SYS_recvmmsg,
        SYS_memfd_create,
        SYS_msync,
        SYS_mincore,
        SYS_mlock2,
        SYS_fcntl,
        SYS_ioctl[When::IsNot(1, libc::TIOCSTI), When::IsNot(1, TIOCLINUX)],
        SYS_fadvise64,
        SYS_statfs,
        SYS_copy_file_range,
        SYS_sendfile,
        SYS_splice,
        SYS_linkat,
        SYS_symlinkat,
        SYS_dup3,
        SYS_signalfd4,
        SYS_pselect6,
    ],
};

// How the web engine orders and watches its own work: what it changes, it changes for the thread that
// asks, by the number 0. Landlock keeps signals among its processes.
const SCHEDULING: Group = Group {
    calls: calls![
        SYS_sched_getattr,
        SYS_sched_setattr[When::Is(0, 0)],
        SYS_sched_getscheduler,
        SYS_sched_setscheduler[When::Is(0, 0)],
        SYS_sched_getparam,
        SYS_sched_setparam[When::Is(0, 0)],
        SYS_sched_setaffinity[When::Is(0, 0)],
        SYS_sched_get_priority_max,
        SYS_sched_get_priority_min,
        SYS_getpriority,
        SYS_setpriority[When::Is(0, libc::PRIO_PROCESS as u64), When::Is(1, 0)],
        SYS_getrusage,
        SYS_prlimit64[When::Is(0, 0)],
        SYS_times,
        SYS_sysinfo,
        SYS_uname,
        SYS_getcpu,
        SYS_getresuid,
        SYS_getresgid,
        SYS_getgroups,
        SYS_getpgid,
        SYS_getsid,
        SYS_setsid,
        SYS_kill,
        SYS_tkill,
        SYS_tgkill,
        SYS_pidfd_open,
        SYS_pidfd_send_signal,
        SYS_rt_sigpending,
        SYS_rt_sigsuspend,
        SYS_rt_sigtimedwait,
        SYS_getitimer,
        SYS_setitimer,
        SYS_timer_create,
        SYS_timer_settime,
        SYS_timer_delete,
        SYS_capget,
        SYS_prctl[When::Is(0, libc::PR_SET_PDEATHSIG as u64)],
        SYS_prctl[When::Is(0, libc::PR_SET_DUMPABLE as u64), When::Is(1, 0)],
        SYS_prctl[When::Is(0, libc::PR_GET_DUMPABLE as u64)],
        SYS_prctl[When::Is(0, libc::PR_GET_NAME as u64)],
        SYS_prctl[When::Is(0, libc::PR_SET_TIMERSLACK as u64)],
        SYS_prctl[When::Is(0, libc::PR_CAPBSET_READ as u64)],
    ],
};

// Where a WebDriver steers it; Landlock names the port.
const DRIVER: Group = Group {
    calls: calls![
        SYS_socket[When::Is(0, INET), STREAM, ITS_OWN],
        SYS_socket[When::Is(0, INET), STREAM, TCP],
    ],
};

#[cfg(target_arch = "x86_64")]
const OLD_DISPLAY: Group = Group {
    calls: calls![
        SYS_accept,
        SYS_arch_prctl,
        SYS_pipe,
        SYS_eventfd,
        SYS_epoll_create,
        SYS_select,
        SYS_getdents,
        SYS_vfork,
        SYS_fork,
        SYS_link,
        SYS_symlink,
        SYS_getpgrp,
        SYS_getrlimit,
        SYS_alarm,
        SYS_pause,
    ],
};
#[cfg(not(target_arch = "x86_64"))]
const OLD_DISPLAY: Group = Group { calls: &[] };

const TIOCLINUX: u64 = 0x541c;

// SQLite gives a new log the mode of its database, and for root its owner, and does without: the owner is
// ours already, or not to be given away.
const MODE_AND_OWNER: (i32, &[Call]) = (libc::EPERM, calls![SYS_fchmod, SYS_fchown]);

// `clone3` hides its flags behind a pointer, where no filter can read: the C library falls back to
// `clone`.
const NO_CLONE3: (i32, &[Call]) = (libc::ENOSYS, calls![SYS_clone3]);

const SECURE_REFUSED: &[(i32, &[Call])] = &[MODE_AND_OWNER];
const WITH_THREADS_REFUSED: &[(i32, &[Call])] = &[MODE_AND_OWNER, NO_CLONE3];

// The C library asks a name cache over a UNIX socket, and does without.
const NETWORK_REFUSED: &[(i32, &[Call])] = &[
    MODE_AND_OWNER,
    NO_CLONE3,
    (libc::EACCES, calls![SYS_socket[When::Is(0, UNIX)]]),
];
