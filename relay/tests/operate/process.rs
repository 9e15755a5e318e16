//! Relay processes, and what a test asks of them.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_treeline-relay");
const PATIENCE: Duration = Duration::from_secs(30);

/// A relay; killed when dropped.
pub struct Process {
    pub child: Child,
    lines: Vec<String>,
}

impl Process {
    /// Starts `treeline-relay run` on any port, and waits until it is ready. Its log goes to `log`.
    pub fn start(directory: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command
            .args(["run", "--directory"])
            .arg(directory)
            .args(more);
        if !more.contains(&"--config") && !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        Self::spawn(command, directory)
    }

    pub fn spawn(mut command: Command, directory: &Path) -> Self {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(directory.with_extension("log"))
            .unwrap();
        command.stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap())
            .lines()
            .map(Result::unwrap)
            .take_while(|line| line != "ready")
            .collect();
        Self { child, lines }
    }

    pub fn line(&self, key: &str) -> String {
        let found = self.lines.iter().find_map(|line| line.strip_prefix(key));
        found
            .unwrap_or_else(|| panic!("{key} is not in {:?}", self.lines))
            .to_owned()
    }

    pub fn below(&self) -> [String; 4] {
        let (parent, origin) = (self.line("relay "), self.line("origin "));
        ["--parent".into(), parent, "--origin".into(), origin]
    }

    /// The answer of the admin listener: its head and its body.
    pub fn ask(&self, path: &str) -> (String, String) {
        let place = self.line("admin http://");
        let mut stream = TcpStream::connect(&place).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {place}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(sent.unwrap().success());
    }

    pub fn ends_with(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command of the program to its end.
pub fn output(words: &[&str]) -> Output {
    Command::new(PROGRAM).args(words).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Waits until it holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
