//! The device secret: what the operating system's keyring keeps, so that a copy of the profile's
//! directory is of no use elsewhere, whatever the passphrase.
//!
//! It is asked for by a program of its own (`treeline-keyring`), before this process is locked down:
//! no bus and no library of one is in the process that has the keys.

use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fmt, fs};

use data_encoding::HEXLOWER;
use rustix::event::{PollFd, PollFlags, poll};
use zeroize::{Zeroize, Zeroizing};

use super::expand;
use super::guarded::Guarded;

/// The program, beside our own.
const PROGRAM: &str = "treeline-keyring";
/// Names the file with the number under which the keyring knows the profile. It is no secret.
const NUMBER: &str = "keyring-number";
/// How long the keyring may take, which may have to ask a person to unlock it.
const PATIENCE: Duration = Duration::from_secs(20);
/// 32 bytes in hex, and the end of the line.
const ANSWER: usize = 65;

/// 32 bytes that the keyring keeps. They are needed for each unlocking, and so stay in memory, guarded.
/// `Debug` shows none of them.
pub struct DeviceSecret(Guarded);

impl DeviceSecret {
    /// Reads 64 hex digits. `None` also when the system has no memory for a secret.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0; 32]);
        if hex.len() != 64 || HEXLOWER.decode_mut(hex, &mut bytes[..]).is_err() {
            return None;
        }
        Guarded::take(&mut bytes).map(Self)
    }

    /// The bytes, to derive a key from.
    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose()
    }

    /// Tells one secret from another, and nothing of either.
    pub(super) fn mark(&self) -> [u8; 16] {
        let mut mark = [0; 16];
        mark.copy_from_slice(&expand(self.expose(), b"treeline device secret mark 1")[..16]);
        mark
    }
}

impl fmt::Debug for DeviceSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DeviceSecret(..)")
    }
}

/// Asks the keyring for the secret of the profile in a directory, which must exist. Where there is no
/// profile yet, a new secret is made. To be called before the process has threads and is confined.
///
/// # Errors
/// One line: why there is none. A profile can do without.
pub fn fetch(directory: &Path) -> Result<DeviceSecret, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let number = number(directory).map_err(|error| format!("{NUMBER}: {error}"))?;
    let job = if super::is_new(directory) {
        "make"
    } else {
        "read"
    };
    let mut child = Command::new(program.with_file_name(PROGRAM))
        .args([job, &number])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{PROGRAM} does not start: {error}"))?;
    let until = Instant::now() + PATIENCE;
    let mut answer = Zeroizing::new([0; ANSWER]);
    let read = child
        .stdout
        .take()
        .map_or(Ok(0), |mut out| read(&mut out, &mut answer[..], until));
    // One that has answered is on its way out; one that has not is of no use.
    child.kill().ok();
    let said = child.wait_with_output().map(|out| out.stderr);
    let secret = answer.strip_suffix(b"\n").and_then(DeviceSecret::from_hex);
    match (read, secret, said) {
        (_, Some(secret), _) => Ok(secret),
        (Ok(0), _, Ok(said)) if !said.is_empty() => {
            let line = String::from_utf8_lossy(&said);
            Err(line.lines().next().unwrap_or_default().to_owned())
        }
        _ => Err("the keyring does not answer".to_owned()),
    }
}

/// Reads until the buffer is full, the pipe ends, or time is over.
fn read(
    out: &mut (impl Read + std::os::fd::AsFd),
    answer: &mut [u8],
    until: Instant,
) -> io::Result<usize> {
    let mut at = 0;
    while at < answer.len() {
        let left = until.saturating_duration_since(Instant::now());
        let left = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: left.subsec_nanos().into(),
        };
        if poll(&mut [PollFd::new(out, PollFlags::IN)], Some(&left))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match out.read(&mut answer[at..])? {
            0 => break,
            count => at += count,
        }
    }
    Ok(at)
}

fn number(directory: &Path) -> io::Result<String> {
    let path = directory.join(NUMBER);
    match fs::read_to_string(&path) {
        Ok(text) if text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit()) => Ok(text),
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|_| io::Error::other("no randomness"))?;
            let text = HEXLOWER.encode(&bytes);
            bytes.zeroize();
            // A profile that is bound to a number does not open without it.
            let mut file = fs::File::create(&path)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::File::open(directory)?.sync_all()?;
            Ok(text)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_and_not_shown() {
        let secret = DeviceSecret::from_hex("ab".repeat(32).as_bytes()).unwrap();
        let other = DeviceSecret::from_hex("ac".repeat(32).as_bytes()).unwrap();
        assert_ne!(secret.mark(), other.mark());
        assert_ne!(&secret.mark()[..], &secret.expose()[..16]);
        assert_eq!(format!("{secret:?}"), "DeviceSecret(..)");
        for wrong in ["", "ab", &"zz".repeat(32), &"ab".repeat(33)] {
            assert!(DeviceSecret::from_hex(wrong.as_bytes()).is_none());
        }
    }

    #[test]
    fn a_profile_keeps_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let first = number(directory.path()).unwrap();
        assert_eq!(number(directory.path()).unwrap(), first);
        fs::write(directory.path().join(NUMBER), "../../etc").unwrap();
        assert!(number(directory.path()).is_err());
    }
}
