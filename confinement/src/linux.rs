//! Linux: no new privileges, no capabilities, no core dumps, not dumpable, limits, nothing inherited,
//! Landlock (`files`), seccomp (`filter`, from the tables of `calls`).

mod calls;
mod files;
mod filter;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit,
};
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

use crate::isolation::Missing;
use crate::{Places, Role};

pub(crate) fn enclose(role: Role, places: &Places, missing: &mut Missing) {
    missing.step("no-new-privileges", rustix::thread::set_no_new_privs(true));
    // Root may raise a limit of 0 while it has its capabilities.
    missing.step("core dumps", forbid_core_dumps());
    missing.step("capabilities", drop_capabilities(role));
    hide(missing);
    for (what, resource, most) in limits(role) {
        missing.step(what, limit(*resource, *most));
    }
    if role != Role::Relay && role != Role::Terminal {
        missing.step("inherited descriptors", close_inherited(role));
    }
    files::restrict(role, places, missing);
}

/// What is started by `exec` is dumpable again; it has the limit of core dumps, and Landlock around it.
pub(crate) fn hide(missing: &mut Missing) {
    let hidden = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    missing.step("dumpable", hidden);
}

pub(crate) fn seal(role: Role, missing: &mut Missing) {
    filter::install(role, missing);
}

/// More than a process of this role ever needs; a runaway one ends there and not with the machine.
fn limits(role: Role) -> &'static [(&'static str, Resource, u64)] {
    const GIB: u64 = 1 << 30;
    match role {
        Role::Secure => &[
            ("limit of descriptors", Resource::Nofile, 128),
            ("limit of memory", Resource::Data, 4 * GIB),
        ],
        Role::Net => &[
            ("limit of descriptors", Resource::Nofile, 1024),
            ("limit of memory", Resource::Data, 4 * GIB),
        ],
        // A relay's size is its operator's business.
        Role::Relay => &[],
        // For each of its processes; but web engines reserve memory by the terabyte.
        Role::Window | Role::SteeredWindow => &[("limit of descriptors", Resource::Nofile, 4096)],
        Role::Terminal => &[("limit of memory", Resource::Data, 4 * GIB)],
    }
}

/// One byte: a file's core is never that small, and at 1 alone Linux starts no program that
/// `core_pattern` names; 0 does not keep it from that. Who may not raise a limit of 0 stays there.
fn forbid_core_dumps() -> Result<(), Errno> {
    let exactly = |bytes| Rlimit {
        current: Some(bytes),
        maximum: Some(bytes),
    };
    setrlimit(Resource::Core, exactly(1)).or_else(|_| setrlimit(Resource::Core, exactly(0)))
}

/// Lowers a limit for good; one that is lower already stays.
fn limit(resource: Resource, most: u64) -> Result<(), Errno> {
    let least = |now: Option<u64>| Some(now.map_or(most, |now| now.min(most)));
    let now = getrlimit(resource);
    let limit = Rlimit {
        current: least(now.current),
        maximum: least(now.maximum),
    };
    setrlimit(resource, limit)
}

/// Root without capabilities is a user who owns root's files. A relay may go on to bind low ports.
fn drop_capabilities(role: Role) -> Result<(), Errno> {
    let kept = match role {
        Role::Relay => capabilities(None)?.permitted & CapabilitySet::NET_BIND_SERVICE,
        _ => CapabilitySet::empty(),
    };
    set_capabilities(
        None,
        CapabilitySets {
            effective: kept,
            permitted: kept,
            inheritable: CapabilitySet::empty(),
        },
    )
}

/// Nothing but the control socket and the log comes from the starter, whatever it had open.
#[allow(unsafe_code)]
fn close_inherited(role: Role) -> Result<(), std::io::Error> {
    // A program that is about to be executed loses them then: this one may have some open itself.
    let flags = match role {
        Role::Window | Role::SteeredWindow => libc::CLOSE_RANGE_CLOEXEC,
        _ => 0,
    };
    // SAFETY: it is called before anything in this process has opened a descriptor above 2, so no
    // owner of one exists.
    let result = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, flags) };
    if result == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

    use crate::Isolation;

    #[test]
    fn who_cannot_be_hidden_says_so() {
        assert_eq!(crate::hide(), Isolation::Full);
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let architecture = std::env::consts::ARCH.try_into().unwrap();
        let rules = [(libc::SYS_prctl, Vec::new())].into();
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, architecture).unwrap();
        let program: BpfProgram = filter.try_into().unwrap();
        // On this test's own thread.
        apply_filter(&program).unwrap();
        assert!(matches!(crate::hide(), Isolation::None(why) if why.contains("dumpable")));
    }
}
