//! A machine as the operations page means it: a network namespace with directories of the system that
//! may be written, a package's worth of programs, and a service manager that does with a unit file what
//! the page has it do. It takes root, as in a container.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use xtask::process::{NO_KEYRING, binary, child_of};

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

/// Gives the machine a copy of /etc and of the list of programs, and empty places for data.
const SETUP: &str = r#"
folder=$1
mkdir -p "$folder/real" "$folder/bin"
mount --bind /usr/bin "$folder/real"
cp -as "$folder/real/." "$folder/bin/"
cp -a /etc "$folder/etc"
mkdir -p "$folder/etc/systemd/system"
rm -f "$folder/bin/systemctl" "$folder/bin/journalctl" "$folder/etc/hosts"
cp "$folder/systemctl" "$folder/journalctl" "$folder/bin/"
cp "$folder/hosts" "$folder/etc/hosts"
mount --bind "$folder/bin" /usr/bin
mount --bind "$folder/etc" /etc
for place in /run /srv /var/lib; do mount -t tmpfs none "$place"; done
ip link set lo up
echo up
while :; do sleep 3600 & wait $!; done
"#;

/// What the page asks of systemd, done with the unit file that was installed.
const SYSTEMCTL: &str = r#"#!/bin/sh -eu
unit=/etc/systemd/system/treeline-relay.service
log=/run/relay.log
value() { sed -n "s/^$1=//p" "$unit"; }
begin() {
    test "$(value StateDirectory)" = treeline
    test "$(value Type)" = notify
    mkdir -p -m 700 /var/lib/treeline
    $(value ExecStartPre) > /dev/null
    : > "$log"
    STATE_DIRECTORY=/var/lib/treeline setsid $(value ExecStart) > "$log" 2>&1 < /dev/null &
    echo $! > /run/relay.pid
    tries=0
    until grep -q '^ready$' "$log"; do
        tries=$((tries + 1))
        if [ $tries -gt 1200 ]; then cat "$log" >&2; exit 1; fi
        sleep 0.05
    done
}
end() {
    pid=$(cat /run/relay.pid)
    kill "$pid"
    tries=0
    while [ -e "/proc/$pid" ] && ! grep -q '^State:.Z' "/proc/$pid/status"; do
        tries=$((tries + 1)); test $tries -lt 1200; sleep 0.05
    done
}
case "$*" in
daemon-reload) test -f "$unit" ;;
"enable --now treeline-relay" | "start treeline-relay") begin ;;
"stop treeline-relay") end ;;
"reload treeline-relay") MAINPID=$(cat /run/relay.pid); eval "$(value ExecReload)" ;;
*) echo "systemctl: what is $*?" >&2; exit 1 ;;
esac
"#;

const JOURNALCTL: &str = r#"#!/bin/sh -eu
test "$*" = "-u treeline-relay"
cat /run/relay.log
"#;

/// A machine; everything on it ends when it is dropped.
pub struct Host {
    keeper: Child,
    shell: u32,
    source: PathBuf,
}

impl Host {
    /// A machine whose own files are below `folder`, and which knows these lines of `/etc/hosts`.
    pub fn new(folder: &Path, hosts: &str) -> Self {
        fs::create_dir_all(folder).unwrap();
        fs::write(
            folder.join("hosts"),
            format!("127.0.0.1 localhost\n{hosts}"),
        )
        .unwrap();
        for (name, script) in [("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)] {
            fs::write(folder.join(name), script).unwrap();
            let path = folder.join(name);
            let mode = Command::new("chmod").arg("755").arg(path).status();
            assert!(mode.unwrap().success());
        }
        let mut keeper = Command::new("unshare")
            .args(["--net", "--mount", "--pid", "--fork", "--kill-child"])
            .args(["--mount-proc", "sh", "-euc", SETUP, "sh"])
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
        let shell = child_of(keeper.id(), "sh").unwrap();
        let source = source(folder);
        Self {
            keeper,
            shell,
            source,
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
            .arg(self.shell.to_string())
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
        let id = other.shell;
        let made = Command::new("nsenter")
            .args(["--net", "--target", &self.shell.to_string()])
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
