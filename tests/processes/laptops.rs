//! Two laptops and no other machine: two network namespaces with a cable between them, the member tool
//! and the terminal client, no relay and no origin. One serves the other.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use xtask::process::binary;

use crate::network::machines::Machine;
use crate::scene::{built, until};

const CHANNEL: &str = "Kitchen/general";

/// A person at a laptop.
struct Laptop<'a> {
    machine: &'a Machine,
    folder: &'a Path,
    name: &'a str,
}

impl Laptop<'_> {
    fn new<'a>(machine: &'a Machine, folder: &'a Path, name: &'a str) -> Laptop<'a> {
        let passphrase = folder.join(format!("{name}.passphrase"));
        fs::write(
            passphrase,
            format!("{name} walks six miles before breakfast\n"),
        )
        .unwrap();
        Laptop {
            machine,
            folder,
            name,
        }
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary(program).unwrap());
        let passphrase = self.folder.join(format!("{}.passphrase", self.name));
        command.arg("--directory").arg(self.folder.join(self.name));
        command
            .arg("--passphrase-file")
            .arg(passphrase)
            .args(arguments);
        command
    }

    /// Runs a program to its end.
    fn run(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(program, arguments);
        self.machine
            .inside(|| command.stdin(Stdio::null()).output())
            .unwrap()
    }

    /// Runs it, and returns what it prints; it has to end well.
    fn tool(&self, program: &str, arguments: &[&str]) -> String {
        let out = self.run(program, arguments);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(
            out.status.success(),
            "{}: {arguments:?}: {errors}",
            self.name
        );
        String::from_utf8(out.stdout).unwrap()
    }

    /// Starts it, with what it prints in a file.
    fn start(&self, program: &str, arguments: &[&str]) -> Running {
        let out = self.folder.join(format!("{}.out", self.name));
        let mut command = self.command(program, arguments);
        command
            .stdin(Stdio::piped())
            .stdout(File::create(&out).unwrap());
        let child = self.machine.inside(|| command.spawn()).unwrap();
        Running { child, out }
    }
}

/// A program that runs; ended when it is dropped.
struct Running {
    child: Child,
    out: PathBuf,
}

impl Running {
    fn says(&self, text: &str) {
        until(text, || {
            fs::read_to_string(&self.out).unwrap().contains(text)
        });
    }

    fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    fn ends_well(mut self) -> String {
        drop(self.child.stdin.take());
        let status = self.child.wait().unwrap();
        let said = fs::read_to_string(&self.out).unwrap();
        assert!(status.success(), "{said}");
        said
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lan() -> [Machine; 2] {
    let machines = ["one", "two"].map(Machine::new);
    machines[0].cable("lan", &machines[1], "lan");
    for (machine, address) in machines.iter().zip(["10.99.0.1/24", "10.99.0.2/24"]) {
        machine.run(&format!(
            "ip addr add {address} dev lan
             ip route add 224.0.0.0/4 dev lan"
        ));
    }
    machines
}

/// The words and the key of the first relay that stands so in `relays list`.
fn relay(list: &str, standing: &str) -> Option<(String, String)> {
    let mut lines = list.lines();
    let line = lines.find_map(|line| line.strip_prefix(standing)?.strip_prefix("  "))?;
    let mut parts = line.split("  ").map(str::to_owned);
    Some((parts.next()?, parts.next()?))
}

#[test]
fn two_laptops_and_no_other_machine_chat() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let machines = lan();
    let alice = Laptop::new(&machines[0], folder.path(), "alice");
    let bob = Laptop::new(&machines[1], folder.path(), "bob");
    let (member, chat) = ("treeline-member", "treeline-chat");

    let found = [
        "org",
        "create",
        "Home",
        "--lan-only",
        "--user",
        "Alice",
        "--device",
        "laptop",
    ];
    let first = alice.tool(member, &found);
    assert_eq!(
        alice.tool(member, &found),
        first,
        "founding twice is founding once"
    );
    alice.tool(member, &["team", "create", "Kitchen"]);
    let invite = alice.tool(member, &["invite", "create", "Kitchen"]);
    bob.tool(chat, &["init", "--user", "Bob", "--device", "laptop"]);
    let asked = bob.run(chat, &["join", invite.trim()]);
    assert_eq!(asked.status.code(), Some(13), "nobody is there yet");
    let said = String::from_utf8(asked.stdout).unwrap();
    let mut lines = said.lines();
    let fingerprint = lines.find_map(|line| line.strip_prefix("fingerprint "));
    let fingerprint = fingerprint.unwrap().to_owned();

    // Both serve, and whoever has the larger key uses the other, whose words are compared.
    let admit = ["device", "add", "Kitchen", &fingerprint, "--wait", "120"];
    let waiting = alice.start(member, &admit);
    let list = |of: &Laptop, wait| of.tool(chat, &["relays", "list", "--wait", wait]);
    let seen = list(&bob, "8");
    let (words, _) = relay(&seen, "this device").unwrap();
    let admitted = if let Some((theirs, key)) = relay(&seen, "not judged yet") {
        assert_ne!(theirs, words);
        bob.tool(chat, &["relays", "trust", &key, "--wait", "60"]);
        let open = bob.start(chat, &["join", invite.trim(), "--wait", "120"]);
        waiting.ends_well();
        // Who serves has to be there for the other to come in.
        let _serving = alice.start(chat, &[]);
        open.ends_well()
    } else {
        drop(waiting);
        let open = bob.start(chat, &["join", invite.trim(), "--wait", "120"]);
        let seen = list(&alice, "60");
        let (theirs, key) = relay(&seen, "not judged yet").unwrap();
        assert_eq!(theirs, words);
        alice.tool(chat, &["relays", "trust", &key, "--wait", "60"]);
        alice.tool(member, &admit);
        open.ends_well()
    };
    assert!(admitted.contains("joined Kitchen"), "{admitted}");

    converse([&alice, &bob]);
}

/// Both write, both read, and both are told that the other has it.
fn converse([alice, bob]: [&Laptop; 2]) {
    let chat = "treeline-chat";
    let (mut one, mut two) = (alice.start(chat, &[]), bob.start(chat, &[]));
    one.says("-- general");
    two.says("-- general");
    one.type_line(&format!("/join {CHANNEL}"));
    one.type_line("is there tea?");
    two.says("Alice: is there tea?");
    two.type_line("in the blue tin");
    one.says("Bob: in the blue tin");
    // To the one that serves as to the other, what the other has is on the LAN.
    one.says("your message is on the LAN");
    two.says("your message is on the LAN");
    one.ends_well();
    two.ends_well();
    for laptop in [alice, bob] {
        let history = laptop.tool(chat, &["history", "--channel", CHANNEL]);
        let texts = ["is there tea?", "in the blue tin"];
        assert!(texts.iter().all(|text| history.contains(text)), "{history}");
        assert!(history.contains("[on the LAN]"), "{history}");
    }
}
