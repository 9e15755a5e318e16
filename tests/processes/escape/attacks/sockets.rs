//! Ways to speak to somebody: sockets of every family, and io_uring, which makes them unseen.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

use confinement::Role::{Net, Relay, Window};

use super::{Attack, By, Target, call};
use crate::scene::{SOCKET, abstract_address};

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "TCP socket",
        try_it: |_| socket(libc::AF_INET, libc::SOCK_STREAM, 0),
        may: &[Net, Relay],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "UDP socket, IPv6",
        try_it: |_| socket(libc::AF_INET6, libc::SOCK_DGRAM, 0),
        may: &[Net, Relay],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "MPTCP socket",
        try_it: |_| socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "SCTP socket",
        try_it: |_| socket(libc::AF_INET6, libc::SOCK_STREAM, libc::IPPROTO_SCTP),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "UDP-Lite socket",
        try_it: |_| socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "ping socket",
        try_it: |_| socket(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP),
        may: &[],
        by: By::Calls,
        rare: true,
    },
    Attack {
        name: "raw socket",
        try_it: |_| socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP),
        may: &[],
        by: By::Process,
        rare: true,
    },
    Attack {
        name: "packet socket",
        try_it: |_| socket(libc::AF_PACKET, libc::SOCK_RAW, 0),
        may: &[],
        by: By::Process,
        rare: true,
    },
    Attack {
        name: "routing netlink socket",
        try_it: |_| socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE),
        may: &[Net, Relay],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "other netlink socket",
        try_it: |_| {
            socket(
                libc::AF_NETLINK,
                libc::SOCK_RAW,
                libc::NETLINK_KOBJECT_UEVENT,
            )
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "UNIX socket by path",
        try_it: |target| UnixStream::connect(target.home.join(SOCKET)).map(drop),
        may: &[],
        by: By::Path,
        rare: false,
    },
    Attack {
        name: "UNIX socket, abstract",
        try_it: |target| UnixStream::connect_addr(&abstract_address(target.home)).map(drop),
        may: &[Window],
        by: By::Scope,
        rare: false,
    },
    Attack {
        name: "UNIX datagram by socketpair",
        try_it: through_a_pair,
        may: &[],
        by: By::Path,
        rare: false,
    },
    Attack {
        name: "io_uring",
        try_it: |_| {
            let mut parameters = [0u8; 120];
            call!(libc::SYS_io_uring_setup, 1, parameters.as_mut_ptr()).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: true,
    },
];

/// Every other family there is, each in a process of its own.
pub fn families() -> Vec<Attack> {
    macro_rules! family {
        ($($number:literal)*) => {
            vec![$(Attack {
                name: concat!("socket of family ", $number),
                try_it: |_| {
                    let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW, libc::SOCK_SEQPACKET];
                    let mut last = Ok(());
                    for kind in kinds {
                        last = socket($number, kind, 0);
                        if last.is_ok() {
                            return last;
                        }
                    }
                    last
                },
                may: &[],
                by: By::Calls,
                rare: true,
            }),*]
        };
    }
    family![3 4 5 6 7 8 9 11 12 13 14 15 18 19 20 21 22 23 24 26 27 28 29 30 31 32 33 34 35 36 37 38 39 40 41 42 43 44 45]
}

fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<()> {
    call!(libc::SYS_socket, family, kind, protocol).map(drop)
}

/// A pair of datagram sockets can be connected anew, to somebody else.
fn through_a_pair(target: &Target<'_>) -> io::Result<()> {
    let mut pair = [0i32; 2];
    let (family, kind) = (libc::AF_UNIX, libc::SOCK_DGRAM);
    call!(libc::SYS_socketpair, family, kind, 0, pair.as_mut_ptr())?;
    // SAFETY: the call has just made it, and nobody else has it.
    let socket = UnixDatagram::from(unsafe { OwnedFd::from_raw_fd(pair[0]) });
    match socket.connect(target.home.join(SOCKET)) {
        // It listens for streams: it was reached.
        Err(error) if error.raw_os_error() == Some(libc::EPROTOTYPE) => Ok(()),
        other => other,
    }
}
