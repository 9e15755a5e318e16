//! What the terminal front ends share: where the profile is, where the passphrase comes from, how a
//! failure is told, and the exit codes of docs/operations.md.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, IsTerminal, Read, Write};

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use endpoint_secure_api::{Answer, Code, Command, Event, Lock, Passphrase, Refusal};
use zeroize::{Zeroize, Zeroizing};

use crate::output::complain;
use crate::{Endpoint, StartError, default_directory};

/// How long what was written may take to reach a relay before a command ends without that.
pub const DEPARTURE: Duration = Duration::from_secs(20);

/// The question for a passphrase that is chosen now.
const NEW: &str = "New passphrase, six random words are good: ";
/// A passphrase is no longer than this, in bytes.
const PASSPHRASE_BYTES: u64 = 1024;

/// The options that every terminal front end takes.
#[derive(Debug, Clone, Args)]
pub struct ProfileOptions {
    /// The profile's directory [default: $XDG_DATA_HOME/treeline].
    #[arg(long, global = true, value_name = "DIR")]
    pub directory: Option<PathBuf>,
    /// Reads the passphrase from the first line of this file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        conflicts_with = "passphrase_fd"
    )]
    pub passphrase_file: Option<PathBuf>,
    /// Reads the passphrase from the first line of this open descriptor.
    #[arg(long, global = true, value_name = "N")]
    pub passphrase_fd: Option<u32>,
}

/// Why a terminal front end ends without having done what it was asked: a code and one line.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Failure(#[from] pub Refusal);

impl Failure {
    /// A failure with its line.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self(Refusal::new(code, text))
    }

    /// Prints the line behind the program's name, and gives the exit code.
    pub fn report(&self, program: &str) -> ExitCode {
        complain(format_args!("{program}: {}", self.0.text));
        ExitCode::from(self.0.code.exit_code())
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        Self::new(Code::Usage, error.to_string())
    }
}

/// The next hint, or `None` when there was none for so long. A line for the person goes to stderr.
pub fn hear(endpoint: &Endpoint, limit: Duration) -> Option<Event> {
    let event = endpoint.next_event(limit);
    if let Some(Event::Notice(line)) = &event {
        complain(format_args!("treeline: {line}"));
    }
    event
}

impl ProfileOptions {
    /// Starts the endpoint without unlocking it, and confines this process: files have to be read before.
    ///
    /// # Errors
    /// No directory, or [`StartError`].
    pub fn start(&self) -> Result<Endpoint, Failure> {
        let directory = self.directory.clone().or_else(default_directory);
        let directory = directory.ok_or_else(|| {
            Failure::new(
                Code::Usage,
                "there is no home directory: say --directory DIR",
            )
        })?;
        Ok(Endpoint::start(&directory)?)
    }

    /// Starts the endpoint and unlocks its profile.
    ///
    /// # Errors
    /// [`Code::NotFound`] for an empty directory, [`Code::WrongPassphrase`], and all of
    /// [`ProfileOptions::start`].
    pub fn open(&self) -> Result<Endpoint, Failure> {
        let given = self.given()?;
        let endpoint = self.start()?;
        if lock(&endpoint)? == Lock::Empty {
            let line = "there is no profile in this directory yet: `treeline-chat init` makes one";
            return Err(Failure::new(Code::NotFound, line));
        }
        endpoint.unlock(or_typed(given, "Passphrase: ")?)?;
        Ok(endpoint)
    }

    /// Starts the endpoint, and makes its profile if there is none, else unlocks it.
    ///
    /// # Errors
    /// As [`ProfileOptions::open`].
    pub fn open_or_create(&self, user: &str, device: &str) -> Result<Endpoint, Failure> {
        let given = self.given()?;
        let endpoint = self.start()?;
        if lock(&endpoint)? != Lock::Empty {
            endpoint.unlock(or_typed(given, "Passphrase: ")?)?;
            return Ok(endpoint);
        }
        let passphrase = or_typed(given, NEW)?;
        let (user, device) = (user.to_owned(), device.to_owned());
        endpoint.call(&Command::CreateProfile {
            passphrase: passphrase.clone(),
            user,
            device,
        })?;
        endpoint.keep(passphrase);
        Ok(endpoint)
    }

    /// Starts the endpoint, unlocks its profile and sets another passphrase, from the first line of a
    /// file, else from the terminal, twice.
    ///
    /// # Errors
    /// As [`ProfileOptions::open`]; [`Code::Usage`] for one that is too short, or not the same twice.
    pub fn change_passphrase(&self, new_file: Option<&Path>) -> Result<(), Failure> {
        let given = self.given()?;
        let new = new_file.map(file_line).transpose()?;
        let endpoint = self.start()?;
        let old = or_typed(given, "Passphrase: ")?;
        endpoint.unlock(old.clone())?;
        let new = new.map_or_else(typed_twice, Ok)?;
        let change = Command::ChangePassphrase {
            old,
            new: new.clone(),
        };
        endpoint.call(&change)?;
        endpoint.keep(new);
        Ok(())
    }

    /// The passphrase, if the options say where it is.
    fn given(&self) -> Result<Option<Passphrase>, Failure> {
        if let Some(path) = &self.passphrase_file {
            return file_line(path).map(Some);
        }
        let Some(number) = self.passphrase_fd else {
            return Ok(None);
        };
        // The descriptor is opened anew through /proc: taking it over would need unsafe code.
        let path = format!("/proc/self/fd/{number}");
        let failed = |_| Failure::new(Code::Usage, format!("descriptor {number} is not open"));
        first_line(File::open(path).map_err(failed)?).map(Some)
    }
}

fn or_typed(given: Option<Passphrase>, prompt: &str) -> Result<Passphrase, Failure> {
    if let Some(passphrase) = given {
        return Ok(passphrase);
    }
    if !std::io::stdin().is_terminal() {
        let line = "the passphrase can be read from nowhere: say --passphrase-file FILE";
        return Err(Failure::new(Code::Usage, line));
    }
    prompted(prompt)
}

fn typed_twice() -> Result<Passphrase, Failure> {
    let new = prompted(NEW)?;
    if new != prompted("The same again: ")? {
        let line = "the two are not the same; nothing is changed";
        return Err(Failure::new(Code::Usage, line));
    }
    Ok(new)
}

fn lock(endpoint: &Endpoint) -> Result<Lock, Failure> {
    match endpoint.call(&Command::Status)? {
        Answer::Status(status) => Ok(status.lock),
        _ => Err(unexpected()),
    }
}

/// Waits until a relay has everything that this device wrote; `false` when none had in time.
///
/// # Errors
/// As [`Endpoint::call_when_back`].
pub fn departed(endpoint: &Endpoint, limit: Duration) -> Result<bool, Failure> {
    let until = Instant::now() + limit;
    loop {
        match endpoint.call_when_back(&Command::Connectivity, DEPARTURE)? {
            Answer::Connectivity(state) if state.queued == 0 => return Ok(true),
            Answer::Connectivity(_) if Instant::now() > until => return Ok(false),
            Answer::Connectivity(_) => drop(hear(endpoint, Duration::from_millis(100))),
            _ => return Err(unexpected()),
        }
    }
}

/// For an answer of a kind that the command does not have.
pub fn unexpected() -> Failure {
    Failure::new(
        Code::Usage,
        "Secure gave an answer of another kind; are all programs of one version?",
    )
}

fn file_line(path: &Path) -> Result<Passphrase, Failure> {
    let failed = |e| Failure::new(Code::Usage, format!("{}: {e}", path.display()));
    first_line(File::open(path).map_err(failed)?)
}

fn first_line(file: File) -> Result<Passphrase, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = BufReader::new(file.take(PASSPHRASE_BYTES)).read_line(&mut text);
    read.map_err(|_| Failure::new(Code::Usage, "the passphrase cannot be read"))?;
    Ok(Passphrase::new(
        text.trim_end_matches(['\r', '\n']).to_owned(),
    ))
}

/// Asks on the terminal, without showing what is typed.
fn prompted(prompt: &str) -> Result<Passphrase, Failure> {
    let failed = |_| {
        Failure::new(
            Code::Usage,
            "there is no terminal to ask for the passphrase on",
        )
    };
    let mut terminal = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(failed)?;
    let before = rustix::termios::tcgetattr(&terminal).map_err(|e| failed(e.into()))?;
    let mut silent = before.clone();
    silent.local_modes.remove(rustix::termios::LocalModes::ECHO);
    let now = rustix::termios::OptionalActions::Now;
    // Who types as soon as the question is there must not be shown either.
    rustix::termios::tcsetattr(&terminal, now, &silent).map_err(|e| failed(e.into()))?;
    let asked = write!(terminal, "{prompt}");
    let mut text = Zeroizing::new(String::new());
    let read = asked.and_then(|()| BufReader::new(&terminal).read_line(&mut text));
    // Whatever was read, the terminal must show again what is typed.
    rustix::termios::tcsetattr(&terminal, now, &before).map_err(|e| failed(e.into()))?;
    read.map_err(failed)?;
    writeln!(terminal).map_err(failed)?;
    let passphrase = Passphrase::new(text.trim_end_matches(['\r', '\n']).to_owned());
    text.zeroize();
    Ok(passphrase)
}

/// A fingerprint in groups of four digits, to be read aloud.
pub fn grouped(fingerprint: &str) -> String {
    let digits: Vec<char> = fingerprint.chars().collect();
    let groups: Vec<String> = digits
        .chunks(4)
        .map(|group| group.iter().collect())
        .collect();
    groups.join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::*;

    fn options(file: Option<PathBuf>) -> ProfileOptions {
        ProfileOptions {
            directory: None,
            passphrase_file: file,
            passphrase_fd: None,
        }
    }

    #[test]
    fn a_passphrase_is_the_first_line_without_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        fs::write(&path, "six words of poem \r\nnot this\n").unwrap();
        let passphrase = options(Some(path)).given().unwrap().unwrap();
        assert_eq!(passphrase.expose(), "six words of poem ");
    }

    #[test]
    fn a_missing_passphrase_file_is_named() {
        let options = options(Some("/nonexistent/p".into()));
        let failure = options.given().unwrap_err();
        assert!(failure.to_string().contains("/nonexistent/p"), "{failure}");
        assert_eq!(failure.0.code.exit_code(), 2);
    }

    #[test]
    fn a_descriptor_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p");
        fs::write(&path, "word\n").unwrap();
        let file = OwnedFd::from(File::open(path).unwrap());
        let number = u32::try_from(file.as_raw_fd()).unwrap();
        let options = ProfileOptions {
            passphrase_fd: Some(number),
            ..options(None)
        };
        assert_eq!(options.given().unwrap().unwrap().expose(), "word");
    }

    #[test]
    fn fingerprints_are_grouped() {
        assert_eq!(grouped("0123456789ab"), "0123 4567 89ab");
    }
}
