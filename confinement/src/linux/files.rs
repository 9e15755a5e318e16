//! Which files each role may touch: data to be reviewed, and its way to Landlock.
//!
//! What was open before stays usable: the log on standard error, the pipes.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, PathFdError, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, make_bitflags,
};

use crate::isolation::Missing;
use crate::{Places, Role};

/// The newest version that this was written for; an older kernel does what it can.
const NEWEST: ABI = ABI::V9;
/// From this version on a file that may only be read cannot be cut to nothing either.
const FILES: ABI = ABI::V3;
/// From this version on signals and abstract UNIX sockets end at the process's own.
const SIGNALS: ABI = ABI::V6;
/// From this version on a path to a UNIX socket is a file like another.
const UNIX_SOCKETS: ABI = ABI::V9;

/// Files and directories that a role reads on every machine.
fn read(role: Role) -> &'static [&'static str] {
    match role {
        Role::Secure => &[],
        // How names are resolved here, and the modules that do it. The files change while we run,
        // and are replaced: so it is their directories.
        Role::Net | Role::Relay => &[
            "/etc",
            "/run/systemd/resolve",
            "/run/NetworkManager",
            "/run/resolvconf",
            "/lib",
            "/lib64",
            "/usr/lib",
            "/usr/lib64",
            "/proc/sys/net",
            "/sys/class/net",
            "/sys/fs/cgroup",
        ],
        // What the hour is where the person is.
        Role::Terminal => &["/etc/localtime", "/usr/share/zoneinfo"],
        Role::Window | Role::SteeredWindow => &[
            "/bin",
            "/lib",
            "/lib32",
            "/lib64",
            "/usr",
            "/opt",
            "/etc",
            "/sys",
            "/proc",
            "/var/cache/fontconfig",
            "/var/lib/flatpak/exports",
            "/run/opengl-driver",
            "/nix/store",
            "/gnu/store",
            "/run/current-system",
        ],
    }
}

/// Programs and libraries that a role runs on every machine.
fn run(role: Role) -> &'static [&'static str] {
    match role {
        Role::Window | Role::SteeredWindow => &[
            "/bin",
            "/lib",
            "/lib32",
            "/lib64",
            "/usr",
            "/opt",
            "/nix/store",
            "/gnu/store",
            "/run/opengl-driver",
            "/run/current-system",
        ],
        _ => &[],
    }
}

/// Devices that a role reads, writes and steers.
fn devices(role: Role) -> &'static [&'static str] {
    match role {
        Role::Window | Role::SteeredWindow => &[
            "/dev/null",
            "/dev/zero",
            "/dev/urandom",
            "/dev/random",
            "/dev/dri",
        ],
        Role::Terminal => &["/dev/tty", "/dev/null"],
        _ => &["/dev/null"],
    }
}

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const RUN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});
const DEVICE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | IoctlDev | Truncate});
/// No programs, no devices, no sockets, no links that lead elsewhere.
const OWN: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | Truncate | MakeReg | MakeDir | RemoveFile | RemoveDir | Refer
});

pub(super) fn restrict(role: Role, places: &Places, missing: &mut Missing) {
    match rules(role, places).and_then(RulesetCreated::restrict_self) {
        Err(error) => missing.lack(format!("no Landlock: {error}")),
        Ok(status) => judge(role, &status, missing),
    }
}

fn rules(role: Role, places: &Places) -> Result<RulesetCreated, RulesetError> {
    let ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .scope(Scope::Signal)?;
    let window = matches!(role, Role::Window | Role::SteeredWindow);
    let x11 = window && std::env::var_os("DISPLAY").is_some();
    let ruleset = if x11 {
        ruleset
    } else {
        ruleset.scope(Scope::AbstractUnixSocket)?
    };
    let network = matches!(role, Role::Net | Role::Relay);
    let ruleset = if network {
        ruleset
    } else {
        ruleset.handle_access(AccessNet::from_all(NEWEST))?
    };
    let mut rules = ruleset.create()?;
    for (paths, more, access) in [
        (read(role), &places.read, READ),
        (run(role), &places.run, RUN),
        (devices(role), &Vec::new(), DEVICE),
        (&[], &places.own, OWN),
    ] {
        let fixed = paths.iter().map(Path::new);
        for path in fixed.chain(more.iter().map(PathBuf::as_path)) {
            rules = allow(rules, path, access)?;
        }
    }
    if let Some(port) = places.driver {
        rules = rules.add_rule(NetPort::new(port, AccessNet::from_all(NEWEST)))?;
    }
    if window {
        for path in displays() {
            rules = allow(rules, &path, AccessFs::ResolveUnix.into())?;
        }
    }
    Ok(rules)
}

/// Where the display server listens.
fn displays() -> Vec<PathBuf> {
    let mut paths = vec![PathBuf::from("/tmp/.X11-unix")];
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let name = std::env::var_os("WAYLAND_DISPLAY");
    paths.extend(runtime.zip(name).map(|(folder, name)| folder.join(name)));
    paths
}

/// A file gets those rights that a file can have; what is not there needs none.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> Result<RulesetCreated, RulesetError> {
    match PathFd::new(path) {
        Ok(place) if path.is_dir() => rules.add_rule(PathBeneath::new(place, access)),
        Ok(place) => rules.add_rule(PathBeneath::new(
            place,
            access & AccessFs::from_file(NEWEST),
        )),
        Err(PathFdError::OpenCall { .. } | _) => Ok(rules),
    }
}

fn judge(role: Role, status: &RestrictionStatus, missing: &mut Missing) {
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi,
        LandlockStatus::NotEnabled => return missing.lack("no Landlock: it is switched off here"),
        LandlockStatus::NotImplemented => return missing.lack("no Landlock: this kernel has none"),
    };
    if status.ruleset == RulesetStatus::NotEnforced {
        return missing.lack("no Landlock: it is not enforced");
    }
    missing.step("", Ok::<(), &str>(()));
    let mut lacks = |since: ABI, what: &str| {
        if version < since {
            missing.lack(format!(
                "{what} (Landlock {} needed, {} here)",
                since as i32, version as i32
            ));
        }
    };
    lacks(FILES, "files can be emptied");
    // The other roles have no `kill` and no `connect` for it.
    if matches!(role, Role::Window | Role::SteeredWindow) {
        lacks(SIGNALS, "it can end other programs of this user");
        lacks(UNIX_SOCKETS, "it can reach UNIX sockets of this user");
        if std::env::var_os("DISPLAY").is_some() {
            missing.lack("it can reach abstract UNIX sockets, which X11 needs");
        }
    }
}
