//! Files that are not the process's own.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;

use super::{Attack, By, is_secret};
use crate::scene::{OTHERS, PERSONS, SPARE};

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
