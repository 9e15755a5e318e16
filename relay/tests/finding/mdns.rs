//! A relay on a local network of two machines, which are network namespaces that this test makes: a
//! real avahi on the other machine sees it. It needs root, as in a container.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use crate::process::{PATIENCE, PROGRAM, Process};

/// A machine: a network namespace that lives as long as a sleeping process in it.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        let mut command = Command::new("unshare");
        let mut child = command
            .args([
                "--net",
                "sh",
                "-c",
                "ip link set lo up && echo up && exec sleep infinity",
            ])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is installed");
        let mut line = String::new();
        let out = child.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(
            line, "up\n",
            "this test makes network namespaces: run it as root"
        );
        Self(child)
    }

    /// Runs a program on this machine.
    fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/proc/{}/ns/net", self.0.id()));
        command.arg(program);
        command
    }

    fn run(&self, line: &str) {
        let (program, arguments) = line.split_once(' ').unwrap();
        let done = self.command(program).args(arguments.split(' ')).status();
        assert!(done.unwrap().success(), "{line}");
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Two machines with a cable between them: 10.99.0.1 and 10.99.0.2.
fn lan() -> (Machine, Machine) {
    let (one, two) = (Machine::new(), Machine::new());
    let other = two.0.id();
    one.run(&format!(
        "ip link add lan0 type veth peer name lan0 netns {other}"
    ));
    for (machine, address) in [(&one, "10.99.0.1/24"), (&two, "10.99.0.2/24")] {
        machine.run(&format!("ip addr add {address} dev lan0"));
        machine.run("ip link set lan0 up");
        machine.run("ip route add 224.0.0.0/4 dev lan0");
    }
    (one, two)
}

/// A system bus and avahi on a machine, with a /run of their own; ended when dropped.
struct Avahi(Child);

impl Avahi {
    fn start(machine: &Machine, directory: &Path) -> Self {
        let bus = directory.join("bus");
        let configuration = directory.join("bus.conf");
        fs::write(
            &configuration,
            format!(
                "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" \
                 \"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n\
                 <busconfig><type>system</type><listen>unix:path={}</listen><auth>EXTERNAL</auth>\
                 <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
                 <allow send_type=\"method_call\"/><allow send_destination=\"*\"/>\
                 <allow receive_sender=\"*\"/></policy></busconfig>",
                bus.display()
            ),
        )
        .unwrap();
        let script = format!(
            "mount -t tmpfs none /run; export DBUS_SYSTEM_BUS_ADDRESS=unix:path={bus}; \
             dbus-daemon --config-file={conf} --nofork --nopidfile & \
             while [ ! -S {bus} ]; do sleep 0.05; done; \
             avahi-daemon --no-drop-root --no-chroot --no-rlimits & wait",
            bus = bus.display(),
            conf = configuration.display(),
        );
        let mut command = machine.command("unshare");
        let child = command
            .args([
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "sh",
                "-c",
                &script,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Avahi {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn browse(machine: &Machine, directory: &Path) -> String {
    let bus = format!("unix:path={}", directory.join("bus").display());
    let out = machine
        .command("avahi-browse")
        .args(["--resolve", "--terminate", "--parsable", "_treeline._udp"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", bus)
        .output()
        .expect("avahi-browse is installed: Debian package avahi-utils");
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn a_real_avahi_sees_the_relay_until_it_ends() {
    let (one, two) = lan();
    let directory = tempfile::tempdir().unwrap();
    let avahi = directory.path().join("avahi");
    fs::create_dir(&avahi).unwrap();
    let _avahi = Avahi::start(&two, &avahi);
    let command = one.command(PROGRAM);
    let more = ["--listen", "0.0.0.0:4470"];
    let relay = Process::spawn(command, &directory.path().join("relay"), &more);
    let key = relay.address.split('#').next_back().unwrap().to_owned();
    let began = Instant::now();
    let line = loop {
        let seen = browse(&two, &avahi);
        let resolved = seen
            .lines()
            .find(|line| line.starts_with("=;lan0;IPv4") && line.contains(&key));
        if let Some(line) = resolved {
            break line.to_owned();
        }
        assert!(began.elapsed() < PATIENCE, "avahi sees no relay: {seen}");
    };
    for part in [
        "10.99.0.1",
        ";4470;",
        "\"v=1\"",
        "\"t=origin\"",
        &format!("\"k={key}\""),
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    relay.signal("TERM");
    let began = Instant::now();
    while browse(&two, &avahi).contains(&key) {
        assert!(began.elapsed() < PATIENCE, "it said no goodbye");
    }
}
