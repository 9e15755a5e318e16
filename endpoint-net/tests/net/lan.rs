//! Two laptops and no other machine: two network namespaces with a cable between them, which this test
//! makes. It needs root, as in a container.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use proto::{Frame, Tier};

use crate::process::{Net, PROGRAM, World};

/// A machine: a network namespace that lives as long as a sleeping process in it.
struct Machine(Child);

impl Machine {
    fn new() -> Self {
        let mut child = Command::new("unshare")
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

    fn net(&self, directory: &Path) -> Net {
        Net::spawn(self.command(PROGRAM), directory)
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

fn key(directory: &Path) -> String {
    let own = relay::tls::load_or_make(&directory.join("net.key")).unwrap();
    own.public_key().to_hex()
}

#[test]
fn two_laptops_and_no_other_machine_exchange_chunks() {
    let world = World::new();
    let (one, two) = lan();
    let (first, second) = (
        world.directory.path().join("a"),
        world.directory.path().join("b"),
    );
    std::fs::create_dir(&first).unwrap();
    std::fs::create_dir(&second).unwrap();
    // The one with the smaller key serves the other.
    let (above, below) = if key(&first) < key(&second) {
        (first, second)
    } else {
        (second, first)
    };
    let (server, client) = (one.net(&above), two.net(&below));
    let alone = format!(r#"{{"origins":["{}"],"relays":[]}}"#, world.origin);
    server.send(&alone);
    client.send(&alone);

    // It is heard of, and not used until somebody has compared its key.
    let stranger = client.stranger(&key(&above));
    assert_eq!(
        (&stranger["changed"], &stranger["own"]),
        (&false.into(), &false.into())
    );
    let name = stranger["name"].as_str().unwrap();
    // Whom to compare it with sees the same there.
    assert_eq!(server.stranger(&key(&above))["own"], true);
    let pins = |key: &str| {
        let origin = &world.origin;
        format!(
            r#"{{"origins":["{origin}"],"relays":[],"pins":[{{"name":"{name}","key":"{key}"}}]}}"#
        )
    };
    client.send(&pins(&"ab".repeat(32)));
    while client.stranger(&key(&above))["changed"] != true {}
    client.send(&pins(&key(&above)));

    let (mut here, mut there) = (server.link(), client.link());
    let (up, down) = (world.chunk(1), world.chunk(2));
    world.publish(&mut there, &up);
    // To others it is a relay on their network, and to itself while one of them is connected.
    there.wait_for(up.name(), Tier::Local);
    world.publish(&mut here, &down);
    assert_eq!(here.wait_for(down.name(), Tier::Device), [Tier::Local]);
    for secure in [&mut here, &mut there] {
        world.subscribe(secure);
        let mut chunks = secure.chunks(2);
        chunks.sort_by_key(proto::Chunk::name);
        assert_eq!(chunks, [up.clone(), down.clone()]);
    }

    // Who served goes away and comes back: what was said meanwhile arrives.
    drop(server);
    let late = world.chunk(3);
    world.publish(&mut there, &late);
    there.wait_for(late.name(), Tier::Device);
    let server = one.net(&above);
    server.send(&alone);
    let mut here = server.link();
    world.subscribe(&mut here);
    assert!(here.chunks(3).contains(&late));
    there.say(&Frame::Unsubscribe { id: 1 });
}
