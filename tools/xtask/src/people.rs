//! An organisation with two people on two devices, made with the real member tool and client.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::process::{Process, line_in, output};
use crate::tree::Tree;

/// The team that both are in.
pub const TEAM: &str = "Ward 3";
/// Its channel.
pub const CHANNEL: &str = "Ward 3/general";
const WAIT: Duration = Duration::from_secs(120);

/// A person with a profile directory.
pub struct Person {
    /// Lower-case name, as in process names.
    pub name: &'static str,
    /// The display name.
    pub user: &'static str,
    /// The profile.
    pub directory: PathBuf,
    passphrase_file: PathBuf,
}

impl Person {
    /// Somebody without a profile yet; it will be made below `directory`.
    ///
    /// # Errors
    /// When the passphrase cannot be written there.
    pub fn new(name: &'static str, user: &'static str, directory: &Path) -> Result<Self> {
        let passphrase_file = directory.join(format!("{name}.passphrase"));
        fs::write(
            &passphrase_file,
            format!("{name} walks six miles before breakfast\n"),
        )?;
        Ok(Self {
            name,
            user,
            directory: directory.join(name),
            passphrase_file,
        })
    }

    /// The passphrase, to be typed into a window.
    pub fn passphrase(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.passphrase_file)?.trim().to_owned())
    }

    /// The arguments that every command for this person begins with, and more.
    pub fn arguments(&self, more: &[&str]) -> Vec<String> {
        let own = ["--directory", &*self.directory.to_string_lossy()].map(str::to_owned);
        let pass = [
            "--passphrase-file",
            &*self.passphrase_file.to_string_lossy(),
        ]
        .map(str::to_owned);
        own.into_iter()
            .chain(pass)
            .chain(more.iter().map(|s| (*s).to_owned()))
            .collect()
    }

    /// Runs a tool for this person to its end.
    pub fn tool(&self, program: &str, more: &[&str]) -> Result<String> {
        let arguments = self.arguments(more);
        output(
            program,
            &arguments.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    }

    /// Starts the terminal client for this person.
    pub fn client(&self, out: &Path, more: &[&str]) -> Result<Process> {
        let arguments = self.arguments(more);
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        Process::start(
            &format!("client-{}", self.name),
            "treeline-chat",
            &arguments,
            out,
        )
    }
}

/// Founds the organisation as Alice, and admits Bob to a team by his fingerprint.
pub fn provision(directory: &Path, tree: &Tree) -> Result<[Person; 2]> {
    let alice = Person::new("alice", "Alice", directory)?;
    let bob = Person::new("bob", "Bob", directory)?;
    let registration = directory.join("registration");
    fs::write(&registration, tree.register()?)?;
    let registration = registration.to_string_lossy();
    alice.tool(
        "treeline-member",
        &[
            "org",
            "create",
            "Harbour Hospital",
            "--registration-file",
            &registration,
            "--relay",
            &tree.local,
            "--user",
            alice.user,
            "--device",
            "ward laptop",
        ],
    )?;
    alice.tool("treeline-member", &["team", "create", TEAM])?;
    admit(&alice, &bob)?;
    println!("organisation Harbour Hospital, team {TEAM}: Alice and Bob, one device each");
    println!(
        "{}",
        alice
            .tool("treeline-member", &["device", "list", TEAM])?
            .trim_end()
    );
    Ok([alice, bob])
}

/// Makes a profile for somebody, and brings it into the team by its fingerprint.
///
/// # Errors
/// When a tool fails, or does not come to its end.
pub fn admit(admin: &Person, newcomer: &Person) -> Result<()> {
    let invite = admin.tool("treeline-member", &["invite", "create", TEAM])?;
    let invite = invite
        .split_whitespace()
        .find(|word| word.starts_with("treeline-invite-"));
    let invite = invite.context("the member tool printed no invite")?;
    newcomer.tool(
        "treeline-chat",
        &["init", "--user", newcomer.user, "--device", "desk"],
    )?;
    let joining = newcomer.directory.with_extension("join");
    let join = newcomer.client(&joining, &["join", invite, "--wait", "120"])?;
    let fingerprint = line_in(&joining, "fingerprint ", WAIT)?;
    admin.tool(
        "treeline-member",
        &["device", "add", TEAM, &fingerprint, "--wait", "120"],
    )?;
    join.wait(WAIT)
}
