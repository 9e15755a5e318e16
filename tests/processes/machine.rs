//! Machines: network namespaces that a test makes, with cables between them. It needs root, as in a
//! container. Nothing here knows what runs on them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A machine: a network namespace that lives as long as a sleeping process in it.
pub struct Machine {
    sleeper: Child,
    space: File,
}

impl Machine {
    pub fn new() -> Self {
        let mut sleeper = Command::new("unshare")
            .args(["--net", "sh", "-c"])
            .arg("ip link set lo up && echo up && exec sleep infinity")
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is installed");
        let mut line = String::new();
        let out = sleeper.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(
            line, "up\n",
            "this test makes network namespaces: run it as root"
        );
        let space = File::open(format!("/proc/{}/ns/net", sleeper.id())).unwrap();
        Self { sleeper, space }
    }

    /// Does something on this machine: what it starts stays there.
    pub fn within<T: Send>(&self, deed: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let there = scope.spawn(|| {
                let space = self.space.as_fd();
                move_into_link_name_space(space, Some(LinkNameSpaceType::Network)).unwrap();
                deed()
            });
            match there.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// Runs a command, its words separated by blanks.
    pub fn run(&self, line: &str) {
        let (program, arguments) = line.split_once(' ').unwrap();
        let done = self.within(|| {
            Command::new(program)
                .args(arguments.split(' '))
                .status()
                .unwrap()
        });
        assert!(done.success(), "{line}");
    }

    /// Lays a cable to another machine: `net.1` is here and `net.2` there, each at a port of its own
    /// name.
    pub fn cable(&self, port: &str, other: &Self, others_port: &str, net: &str) {
        let id = other.sleeper.id();
        self.run(&format!(
            "ip link add {port} type veth peer name {others_port} netns {id}"
        ));
        for (machine, port, host) in [(self, port, 1), (other, others_port, 2)] {
            machine.run(&format!("ip addr add {net}.{host}/24 dev {port}"));
            machine.run(&format!("ip link set {port} up"));
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.sleeper.kill().ok();
        self.sleeper.wait().ok();
    }
}
