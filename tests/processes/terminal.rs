//! P6: the terminal clients are confined like the window, say so, and work all the same: on a real
//! terminal, with files, with all that they print.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use confinement::{Places, Role};
use xtask::people::{CHANNEL, Person};
use xtask::process::{NO_KEYRING, binary, child_of};

use crate::scene::{Scene, until};

const PATIENCE: Duration = Duration::from_secs(60);

/// Says how well this machine can confine a process.
#[test]
#[ignore = "it is a process of the others"]
fn as_confined() {
    let isolation = confinement::enclose(Role::Terminal, &Places::default()).seal();
    println!("isolation: {isolation}\n");
}

/// What the status has to say here: `full`, on a kernel that has all parts.
fn possible_here() -> String {
    let out = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "terminal::as_confined", "--ignored"])
        .args(["--nocapture", "--test-threads=1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stdout).into_owned();
    let line = said
        .lines()
        .find_map(|line| line.split("isolation: ").nth(1));
    line.unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn the_status_is_full_where_the_kernel_has_all_parts() {
    let scene = Scene::new();
    let said = scene.people[0].tool("treeline-chat", &["status"]).unwrap();
    let line = said
        .lines()
        .find_map(|line| line.strip_prefix("isolation: "));
    let possible = possible_here();
    println!("isolation here: {possible}");
    if possible == "full" {
        assert_eq!(line, Some("full"), "{said}");
    } else {
        assert!(
            line.is_some_and(|line| line.contains("terminal: ")),
            "{said}"
        );
    }
}

fn client(person: &Person, program: &str, job: &[&str], out: &Path) -> Child {
    Command::new(binary(program).unwrap())
        .args(person.arguments(job))
        .envs(NO_KEYRING)
        .stdin(Stdio::null())
        .stdout(File::create(out).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Every thread of it is filtered, and its starter alone is not: it has neither text nor passphrase.
fn is_confined(client: &Child) {
    let threads = fs::read_dir(format!("/proc/{}/task", client.id())).unwrap();
    let status = |path: &Path| fs::read_to_string(path.join("status")).unwrap_or_default();
    let mut count = 0;
    for thread in threads.flatten() {
        let status = status(&thread.path());
        let has = |line: &str| status.lines().any(|there| there == line);
        assert!(has("Seccomp:\t2") && has("NoNewPrivs:\t1"), "{status}");
        assert!(has("CapEff:\t0000000000000000"), "{status}");
        count += 1;
    }
    assert!(count >= 2, "its threads are not seen");
    let starter = child_of(client.id(), "treeline-starter").unwrap();
    assert!(status(format!("/proc/{starter}").as_ref()).contains("Seccomp:\t0"));
    assert!(child_of(starter, "treeline-net").is_some());
}

#[test]
fn every_thread_of_the_terminal_clients_is_confined() {
    let scene = Scene::new();
    let jobs: [(&str, &[&str]); 2] = [
        (
            "treeline-chat",
            &["tail", "--channel", CHANNEL, "--from-oldest"],
        ),
        (
            "treeline-member",
            &["invite", "requests", "Ward 3", "--wait", "60"],
        ),
    ];
    scene.say(1, "good morning");
    for (program, job) in jobs {
        let out = scene.folder().join("out");
        let mut client = client(&scene.people[0], program, job, &out);
        let secure = || child_of(client.id(), "treeline-secure").is_some();
        until("Secure runs", secure);
        let sealed = || {
            let status = fs::read_to_string(format!("/proc/{}/status", client.id()));
            status.unwrap_or_default().contains("Seccomp:\t2") && {
                let threads = fs::read_dir(format!("/proc/{}/task", client.id()));
                threads.is_ok_and(|threads| threads.count() >= 2)
            }
        };
        until("it is sealed and has threads", sealed);
        is_confined(&client);
        client.kill().unwrap();
        client.wait().unwrap();
    }
}

/// A terminal, and somebody who types.
struct Typist {
    terminal: Child,
    keys: ChildStdin,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Typist {
    /// Starts a client on a terminal of its own, without a word about the passphrase.
    fn start(person: &Person, program: &str, job: &str) -> Self {
        let program = binary(program).unwrap();
        let command = format!(
            "{} --directory {} {job}",
            program.display(),
            person.directory.display()
        );
        // A test that runs in the background of a shell has been told to ignore SIGINT.
        let mut terminal = Command::new("env")
            .args(["--default-signal=INT", "script"])
            .args(["--quiet", "--flush", "--return", "--command", &command])
            .arg("/dev/null")
            .envs(NO_KEYRING)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script (Debian's bsdutils) is installed");
        let keys = terminal.stdin.take().unwrap();
        let mut out = terminal.stdout.take().unwrap();
        let shown = Arc::new(Mutex::new(Vec::new()));
        let screen = Arc::clone(&shown);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = out.read(&mut bytes) {
                screen.lock().unwrap().extend(&bytes[..count]);
            }
        });
        Self {
            terminal,
            keys,
            shown,
        }
    }

    fn types(&mut self, line: &str) {
        self.keys.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown.lock().unwrap()).into_owned()
    }

    fn reads(&self, text: &str) {
        let end = Instant::now() + PATIENCE;
        while !self.shown().contains(text) {
            assert!(Instant::now() < end, "no {text:?}: {}", self.shown());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn ends(mut self) -> (String, Option<i32>) {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.terminal.try_wait().unwrap() {
                return (self.shown(), status.code());
            }
            if Instant::now() > end {
                self.terminal.kill().unwrap();
                panic!("it does not end: {}", self.shown());
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// What is typed on a real terminal: a passphrase that is not shown, messages, and the end.
#[test]
fn a_person_chats_on_a_terminal() {
    let scene = Scene::new();
    let alice = &scene.people[0];
    scene.say(1, "good morning");
    let passphrase = alice.passphrase().unwrap();
    let mut typist = Typist::start(alice, "treeline-chat", "");
    typist.reads("Passphrase: ");
    typist.types(&passphrase);
    typist.reads("/help");
    typist.types(&format!("/join {CHANNEL}"));
    typist.reads("Bob: good morning");
    typist.types("the saline is on its way");
    typist.reads("Alice: the saline is on its way");
    typist.types("/devices Ward 3");
    typist.reads("code ");
    scene.say(1, "thank you");
    typist.reads("Bob: thank you");
    typist.types("/quit");
    let (shown, code) = typist.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains(&passphrase), "{shown}");
}

/// Ctrl-C, at the question and in the middle of a chat: 130, and the profile is free.
#[test]
fn an_interrupted_client_leaves_nothing_behind() {
    const CTRL_C: &[u8] = b"\x03";
    let scene = Scene::new();
    let alice = &scene.people[0];
    let passphrase = alice.passphrase().unwrap();
    for answer in [None, Some(&passphrase)] {
        let mut typist = Typist::start(alice, "treeline-chat", "");
        typist.reads("Passphrase: ");
        if let Some(passphrase) = answer {
            typist.types(passphrase);
            typist.reads("/help");
        }
        typist.keys.write_all(CTRL_C).unwrap();
        let (shown, code) = typist.ends();
        assert_eq!(code, Some(130), "{shown}");
        alice.tool("treeline-chat", &["teams"]).unwrap();
    }
}

/// The new passphrase is typed twice and shown never; from then on it alone opens the profile.
#[test]
fn a_passphrase_is_changed_on_a_terminal() {
    const NEW: &str = "eleven herons over the frozen weir";
    let scene = Scene::new();
    let alice = &scene.people[0];
    let old = alice.passphrase().unwrap();
    let mut typist = Typist::start(alice, "treeline-member", "passphrase");
    for (question, answer) in [
        ("Passphrase: ", &*old),
        ("New passphrase", NEW),
        ("The same again", NEW),
    ] {
        typist.reads(question);
        typist.types(answer);
    }
    let (shown, code) = typist.ends();
    assert_eq!(code, Some(0), "{shown}");
    assert!(!shown.contains(&old) && !shown.contains(NEW), "{shown}");
    let refused = alice.tool("treeline-chat", &["teams"]).unwrap_err();
    assert!(refused.to_string().contains("does not open"), "{refused}");
    let file = scene.folder().join("alice.passphrase");
    fs::write(file, NEW).unwrap();
    assert!(alice.tool("treeline-chat", &["teams"]).is_ok());
}
