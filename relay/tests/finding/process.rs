//! Relays as processes, and clients at them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use proto::{Chunk, Fields, GrantId, Name, Path as NamePath, Place, Prefix, Registration, Signer};
use relay::client::{Client, Said};

/// The relay's program.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_treeline-relay");
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A relay process; killed when dropped.
pub struct Process {
    child: Child,
    pub address: String,
    pub origin: String,
}

impl Process {
    pub fn start(directory: &Path, more: &[&str]) -> Self {
        let listen = ["--listen", "127.0.0.1:0"];
        Self::spawn(Command::new(PROGRAM), directory, &[&listen, more].concat())
    }

    /// Starts a relay by a command that ends with the program.
    pub fn spawn(mut command: Command, directory: &Path, more: &[&str]) -> Self {
        let mut child = command
            .args(["run", "--admin", "off", "--directory"])
            .arg(directory)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let lines: Vec<String> = out
            .lines()
            .map(Result::unwrap)
            .take_while(|line| line != "ready")
            .collect();
        let value = |key: &str| {
            let found = lines.iter().find_map(|line| line.strip_prefix(key));
            found.expect("a line").to_owned()
        };
        Self {
            child,
            address: value("relay "),
            origin: value("origin "),
        }
    }

    pub fn place(&self) -> &str {
        self.address.split('#').next().unwrap()
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &pid])
            .status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Lets one organisation be founded at the origin with this directory.
pub fn register(origin: &Path) -> Registration {
    let made = Command::new(PROGRAM)
        .args(["org", "register", "--directory"])
        .arg(origin)
        .output()
        .unwrap();
    Registration::from_text(&String::from_utf8(made.stdout).unwrap()).unwrap()
}

pub fn chunk(registration: &Registration, number: u32) -> Chunk {
    let place = Place {
        origin: registration.origin.origin_id(),
        org: registration.org,
        team: 2,
    };
    let fields = Fields::Message {
        channel: 1,
        device: 3,
        number,
    };
    let expiry = relay::driver::now().plus_millis(86_400_000);
    let signer = Signer::from_seed(&registration.seed);
    let grant = GrantId::of(&registration.grant);
    Chunk::sign(Name::new(place, fields), expiry, grant, &[1; 300], &signer).unwrap()
}

pub fn prefix(registration: &Registration) -> Prefix {
    let place = chunk(registration, 0).name().place();
    Name::team_prefix(place, NamePath::Message)
}

pub async fn client(relay: &Process, registration: &Registration) -> Client {
    let own = relay::tls::random_signer().unwrap();
    let address = relay.address.parse().unwrap();
    let mut client = Client::connect(&address, &own).await.unwrap();
    client
        .grant(std::slice::from_ref(&registration.grant))
        .await
        .unwrap();
    client
}

/// Waits until the relay says that it goes up through this one.
pub async fn goes_through(client: &mut Client, parent: &Process) {
    while !matches!(client.next().await.unwrap(), Said::Reach(_, at) if at == parent.place()) {}
}
