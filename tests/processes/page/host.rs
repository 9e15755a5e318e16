//! A machine as the operations page means it: a network namespace with directories of the system that
//! may be written, a package's worth of programs, and systemd where services are run. It takes root, as
//! in a container.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::Duration;

use xtask::process::{NO_KEYRING, binary, child_of};

use crate::scene::until;

/// The programs of the product.
const PROGRAMS: [&str; 7] = [
    "treeline-relay",
    "treeline-dump",
    "treeline-chat",
    "treeline-member",
    "treeline-net",
    "treeline-secure",
    "treeline-starter",
];

/// Gives the machine a copy of /etc and of the list of programs, and empty places for data. They stand
/// in /mnt, which services see.
const SETUP: &str = r#"
folder=$1
mount -t tmpfs none /mnt
mkdir /mnt/real /mnt/bin
mount --bind /usr/bin /mnt/real
cp -as /mnt/real/. /mnt/bin/
cp -a /etc /mnt/etc
rm -rf /mnt/etc/systemd/system /mnt/etc/hosts
mkdir -p /mnt/etc/systemd/system
cp "$folder/hosts" /mnt/etc/hosts
mount --bind /mnt/bin /usr/bin
mount --bind /mnt/etc /etc
for place in /run /srv /var/lib; do mount -t tmpfs none "$place"; done
ip link set lo up
"#;

const KEEP: &str = "
echo up
while :; do sleep 3600 & wait $!; done
";

/// systemd as the first process. It finds none of this machine's units and generators, which would clean
/// up directories that are not its own: only its targets and its journal.
const BOOT: &str = r#"
mkdir /mnt/units /mnt/generators
units=/usr/lib/systemd/system
test -d $units || units=/lib/systemd/system
for name in basic sysinit multi-user network network-online sockets shutdown umount final; do
    cp $units/$name.target /mnt/units/
done
mkdir /mnt/units/sysinit.target.wants
for name in systemd-journald.service systemd-journald.socket; do
    cp $units/$name /mnt/units/
    ln -s ../$name /mnt/units/sysinit.target.wants/
done
mount --bind /mnt/units $units
mount --bind /mnt/generators ${units%/*}/system-generators
tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id
umount --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
echo up
exec env -i container=other PATH="$PATH" "${units%/*}/systemd" --system --unit=multi-user.target \
    --log-target=null
"#;

/// A machine; everything on it ends when it is dropped.
pub struct Host {
    keeper: Child,
    first: u32,
    source: PathBuf,
    /// Removed with the machine.
    _group: Option<Group>,
}

impl Host {
    /// A machine whose own files are below `folder`, and which knows these lines of `/etc/hosts`.
    pub fn new(folder: &Path, hosts: &str) -> Self {
        Self::begin(folder, hosts, None)
    }

    /// One on which a real systemd runs; or why none can run here.
    pub fn with_services(folder: &Path, hosts: &str) -> Result<Self, String> {
        let host = Self::begin(folder, hosts, Some(Group::new()?));
        until("systemd is up", || {
            let asked = host.tries("systemctl is-active multi-user.target");
            asked.status.success()
        });
        Ok(host)
    }

    fn begin(folder: &Path, hosts: &str, group: Option<Group>) -> Self {
        fs::create_dir_all(folder).unwrap();
        let hosts = format!("127.0.0.1 localhost\n{hosts}");
        fs::write(folder.join("hosts"), hosts).unwrap();
        let (script, first) = match group {
            None => (format!("{SETUP}{KEEP}"), "sh"),
            Some(_) => (format!("{SETUP}{BOOT}"), "systemd"),
        };
        let mut begin = Command::new("unshare");
        if let Some(Group(path)) = &group {
            begin = Command::new("sh");
            begin
                .args(["-euc", r#"echo $$ > "$0/cgroup.procs"; exec "$@""#])
                .arg(path)
                .args(["unshare", "--cgroup", "--uts", "--ipc"]);
        }
        let mut keeper = begin
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-euc", &script, "sh"])
            .arg(folder)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (Debian's util-linux) is installed");
        let mut line = String::new();
        let out = keeper.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(
            line, "up\n",
            "no machine can be made here: run this test as root, in a container that may mount \
             (CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        );
        let found = || child_of(keeper.id(), first);
        until("its first process is there", || found().is_some());
        Self {
            first: found().unwrap(),
            keeper,
            source: source(folder),
            _group: group,
        }
    }

    /// Runs lines as somebody types them in the directory of the sources; each has to succeed. Returns what they print.
    pub fn types(&self, lines: &str) -> String {
        let out = self.tries(lines);
        let printed = String::from_utf8_lossy(&out.stdout).into_owned();
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{lines}\n{printed}{errors}");
        printed
    }

    /// Runs lines up to the first that fails.
    pub fn tries(&self, lines: &str) -> Output {
        let lines = format!("cd {}\n{lines}", self.source.display());
        Command::new("nsenter")
            .args(["--net", "--mount", "--pid", "--target"])
            .arg(self.first.to_string())
            .args(["sh", "-euc", &lines])
            .envs(NO_KEYRING)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// Starts a line that goes on; what it prints goes to a file.
    pub fn begins(&self, line: &str, out: &Path) {
        let line = format!("setsid {line} > {} 2>&1 < /dev/null &", out.display());
        self.types(&line);
    }

    /// A cable to another machine, with these addresses at its ends.
    pub fn cable(&self, other: &Self, addresses: [&str; 2]) {
        let id = other.first;
        let made = Command::new("nsenter")
            .args(["--net", "--target", &self.first.to_string()])
            .args(["ip", "link", "add", "net", "type", "veth", "peer"])
            .args(["name", "net", "netns", &id.to_string()])
            .status();
        assert!(made.unwrap().success());
        for (host, address) in [self, other].iter().zip(addresses) {
            host.types(&format!(
                "ip address add {address}/24 dev net\nip link set net up\n\
                 ip route add 224.0.0.0/4 dev net"
            ));
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A control group of its own, in which systemd makes those of its services.
struct Group(PathBuf);

impl Group {
    fn new() -> Result<Self, String> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let mut mounts = mounts.lines().map(|line| line.split(' '));
        let at = mounts.find_map(|mut words| {
            let at = words.nth(1)?;
            (words.next()? == "cgroup2").then_some(at)
        });
        let own = fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let (Some(at), Some(own)) = (at, own) else {
            return Err("this machine has no cgroup2".to_owned());
        };
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("treeline-test-{}-{number}", std::process::id());
        let path = Path::new(at).join(own).join(name);
        match fs::create_dir(&path) {
            Ok(()) => Ok(Self(path)),
            Err(error) => Err(format!("cannot make {}: {error}", path.display())),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // What was in it ends a moment after the first process.
        for _ in 0..100 {
            let _ = Command::new("find")
                .arg(&self.0)
                .args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"])
                .stderr(Stdio::null())
                .status();
            if !self.0.exists() {
                return;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// A directory as the sources are after a build.
fn source(folder: &Path) -> PathBuf {
    let source = folder.join("source");
    let release = source.join("target/release");
    fs::create_dir_all(&release).unwrap();
    for program in PROGRAMS {
        let path = binary(program).unwrap();
        std::os::unix::fs::symlink(path, release.join(program)).unwrap();
    }
    let packaging = concat!(env!("CARGO_MANIFEST_DIR"), "/../relay/packaging");
    fs::create_dir(source.join("relay")).unwrap();
    std::os::unix::fs::symlink(packaging, source.join("relay/packaging")).unwrap();
    source
}
