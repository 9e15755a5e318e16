//! Files that are not the process's own.

use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;

use super::{Attack, By, Target, call, is_secret};
use crate::scene::{OTHERS, PERSONS, READ, SPARE};

/// Since Linux 6.6.
const FCHMODAT2: libc::c_long = 452;

pub const ATTACKS: &[Attack] = &[
    Attack {
        name: "read another process's file",
        try_it: |target| is_secret(&fs::read(target.home.join(OTHERS))?),
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "read a key of the person",
        try_it: |target| is_secret(&fs::read(target.home.join(PERSONS))?),
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "the same by a link",
        try_it: |target| {
            fs::remove_file("link").ok();
            symlink(target.home.join(PERSONS), "link")?;
            is_secret(&fs::read("link")?)
        },
        may: &[],
        by: By::Both,
        rare: false,
    },
    Attack {
        name: "list the person's folder",
        try_it: |target| fs::read_dir(target.home.join("person")).map(drop),
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "write outside",
        try_it: |target| {
            File::create(target.home.join("person/autostart"))?;
            fs::remove_file(target.home.join("person/autostart"))
        },
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "append to another's file",
        try_it: |target| {
            File::options()
                .append(true)
                .open(target.home.join(OTHERS))
                .map(drop)
        },
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "move a file out",
        try_it: |target| {
            fs::write("mine", "x")?;
            let out = target.home.join("person/mine");
            fs::rename("mine", &out)?;
            fs::remove_file(out)
        },
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "remove another's file",
        try_it: |target| fs::remove_file(target.home.join(SPARE)),
        may: &[],
        by: By::Files,
        rare: false,
    },
    Attack {
        name: "open a key of the person to all",
        try_it: |target| {
            let key = path(target, PERSONS);
            either(&[
                &|| call!(libc::SYS_fchmodat, libc::AT_FDCWD, key.as_ptr(), 0o644, 0),
                &|| call!(FCHMODAT2, libc::AT_FDCWD, key.as_ptr(), 0o644, 0),
                #[cfg(target_arch = "x86_64")]
                &|| call!(libc::SYS_chmod, key.as_ptr(), 0o644),
            ])
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "open a file to all that it reads",
        try_it: |target| {
            let file = File::open(target.home.join(READ))?;
            call!(libc::SYS_fchmod, file.as_raw_fd(), 0o666).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "give a file's group away",
        try_it: |target| {
            let key = path(target, PERSONS);
            // To whom it belongs already: others need a right for that, or a second group.
            let (same, here) = (-1, libc::AT_FDCWD);
            either(&[
                &|| call!(libc::SYS_fchownat, here, key.as_ptr(), same, same, 0),
                #[cfg(target_arch = "x86_64")]
                &|| call!(libc::SYS_chown, key.as_ptr(), same, same),
            ])
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "set a file's times",
        try_it: |target| {
            let key = path(target, PERSONS);
            let (long_ago, here) = ([0u64; 4], libc::AT_FDCWD);
            let times = long_ago.as_ptr();
            either(&[
                &|| call!(libc::SYS_utimensat, here, key.as_ptr(), times, 0),
                #[cfg(target_arch = "x86_64")]
                &|| call!(libc::SYS_utimes, key.as_ptr(), times),
                #[cfg(target_arch = "x86_64")]
                &|| call!(libc::SYS_utime, key.as_ptr(), times),
            ])
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "watch the person's folder",
        try_it: |target| {
            let folder = path(target, "person/.ssh");
            let watch = call!(libc::SYS_inotify_init1, 0)?;
            let events = libc::IN_OPEN | libc::IN_CREATE;
            call!(libc::SYS_inotify_add_watch, watch, folder.as_ptr(), events).map(drop)
        },
        may: &[],
        by: By::Calls,
        rare: false,
    },
    Attack {
        name: "open the controlling machine's disk",
        try_it: |_| {
            let disks = fs::read_dir("/sys/class/block")?;
            let names = disks.flatten().map(|disk| disk.file_name());
            let open =
                |name: std::ffi::OsString| File::open(std::path::Path::new("/dev").join(name));
            names
                .map(open)
                .find(Result::is_ok)
                .map_or(Err(io::ErrorKind::NotFound.into()), |_| Ok(()))
        },
        may: &[],
        by: By::Files,
        rare: true,
    },
];

fn path(target: &Target<'_>, name: &str) -> CString {
    CString::new(target.home.join(name).to_str().unwrap()).unwrap()
}

/// The first of several ways that works.
fn either(ways: &[&dyn Fn() -> io::Result<libc::c_long>]) -> io::Result<()> {
    let mut tries = ways.iter().map(|way| way());
    tries
        .find(Result::is_ok)
        .map_or(Err(io::Error::from_raw_os_error(libc::EPERM)), |_| Ok(()))
}
