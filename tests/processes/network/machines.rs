//! Machines with networks between them, all in network namespaces that this test makes. It takes root,
//! as in a container; without it the first machine fails and says so.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A machine: a network namespace that lives as long as a sleeping process in it.
pub struct Machine {
    name: String,
    keeper: Child,
}

impl Machine {
    pub fn new(name: &str) -> Self {
        let script = "ip link set lo up && echo up && exec sleep infinity";
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", script])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare (Debian's util-linux) is installed");
        let mut line = String::new();
        let out = keeper.stdout.take().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        assert_eq!(
            line, "up\n",
            "no network namespace can be made here: run this test as root, in a container that may \
             (CAP_SYS_ADMIN and CAP_NET_ADMIN)"
        );
        let name = name.to_owned();
        Self { name, keeper }
    }

    /// Runs a function on this machine. Threads and processes that it starts stay there.
    pub fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let place = format!("/proc/{}/ns/net", self.keeper.id());
        let run = || {
            let namespace = File::open(place).unwrap();
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).unwrap();
            run()
        };
        thread::scope(|scope| scope.spawn(run).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs commands on this machine, one a line; each has to succeed.
    pub fn run(&self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (program, arguments) = line.split_once(' ').unwrap();
            let run = || Command::new(program).args(arguments.split(' ')).output();
            let done = self
                .inside(run)
                .unwrap_or_else(|error| panic!("{program}: {error}"));
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {line}: {said}", self.name);
        }
    }

    /// A cable from here to another machine, with this name at both ends; both are up.
    pub fn cable(&self, name: &str, other: &Self, there: &str) {
        let id = other.keeper.id();
        self.run(&format!(
            "ip link add {name} type veth peer name {there} netns {id}
             ip link set {name} up"
        ));
        other.run(&format!("ip link set {there} up"));
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// A LAN of two machines, a cloud and an origin, and the router between them.
pub struct Wan {
    /// The router; 10.81.1.1 on the LAN's side.
    router: Machine,
    /// 10.81.1.2, with the LAN's relay.
    pub server: Machine,
    /// 10.81.1.3, with the endpoints of the LAN.
    pub desks: Machine,
    /// 10.81.2.2.
    pub cloud: Machine,
    /// 10.81.3.2.
    pub origin: Machine,
}

impl Wan {
    /// All of it, with 2 of 100 packets lost between the LAN and the rest.
    pub fn new() -> Self {
        let machine = Machine::new;
        let this = Self {
            router: machine("router"),
            server: machine("server"),
            desks: machine("desks"),
            cloud: machine("cloud"),
            origin: machine("origin"),
        };
        let router = &this.router;
        router.run("ip link add lan type bridge\nip link set lan up");
        for (name, host, address) in [
            ("server", &this.server, "10.81.1.2"),
            ("desks", &this.desks, "10.81.1.3"),
        ] {
            router.cable(name, host, "net");
            router.run(&format!("ip link set {name} master lan"));
            Self::join(host, address, "10.81.1.1");
        }
        router.run("ip addr add 10.81.1.1/24 dev lan");
        for (name, host, number) in [("cloud", &this.cloud, 2), ("origin", &this.origin, 3)] {
            router.cable(name, host, "net");
            router.run(&format!("ip addr add 10.81.{number}.1/24 dev {name}"));
            let (address, gateway) = (format!("10.81.{number}.2"), format!("10.81.{number}.1"));
            Self::join(host, &address, &gateway);
        }
        router.run(
            "sysctl -q -w net.ipv4.ip_forward=1
             nft add table inet wan
             nft add chain inet wan in { type filter hook prerouting priority 0 ; }
             nft add chain inet wan out { type filter hook postrouting priority 0 ; }",
        );
        this.heal();
        this
    }

    fn join(host: &Machine, address: &str, gateway: &str) {
        host.run(&format!(
            "ip addr add {address}/24 dev net
             ip route add default via {gateway}
             ip route add 224.0.0.0/4 dev net"
        ));
    }

    /// The LAN loses the rest of the world: every packet either way is dropped without a word.
    pub fn cut(&self) {
        self.rules("drop");
    }

    /// It has it back, less one packet in fifty.
    pub fn heal(&self) {
        self.rules("numgen random mod 100 < 2 drop");
    }

    /// Runs a function on the router.
    pub fn on_router<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        self.router.inside(run)
    }

    /// Sets the rule for what goes between the LAN and the rest. Some kernels show these chains also what
    /// only crosses the bridge, from one machine of the LAN to another: that is let through.
    fn rules(&self, rule: &str) {
        let within =
            "ip saddr 10.81.1.2-10.81.1.3 ip daddr { 10.81.1.2-10.81.1.3, 224.0.0.0/4 } accept";
        self.router.run(&format!(
            "nft flush chain inet wan in
             nft flush chain inet wan out
             nft add rule inet wan in {within}
             nft add rule inet wan out {within}
             nft add rule inet wan in iifname lan {rule}
             nft add rule inet wan out oifname lan {rule}"
        ));
    }
}
