//! P7: treeline-keyring and a profile with a real Secret Service, on a session bus of their own: no bus
//! and no keyring of whoever runs the test is touched.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use endpoint_secure_api::{Command as Ask, Passphrase, Refusal};
use tempfile::TempDir;
use xtask::process::binary;

use crate::alone::Alone;
use crate::scene::{built, files, refused, until};

const PROFILE: &str = "0123456789abcdef0123456789abcdef";
const OTHER: &str = "fedcba9876543210fedcba9876543210";
/// Only a profile that is bound to a keyring takes one so short.
const SHORT: &str = "hunter22";

/// A bus that starts no service by itself, and where anybody of this user may own any name.
const BUS: &str = r#"<busconfig><type>session</type><listen>ADDRESS</listen><auth>EXTERNAL</auth><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/>
</policy></busconfig>"#;

/// A person's desktop, as far as keyrings go.
struct Desktop {
    folder: TempDir,
    address: String,
    bus: Child,
    service: Option<Child>,
}

impl Desktop {
    /// Somebody has logged in: the keyring is there and open.
    fn new() -> Self {
        built();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let address = format!("unix:path={}", at("bus").display());
        fs::write(at("bus.conf"), BUS.replace("ADDRESS", &address)).unwrap();
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", at("bus.conf").display()))
            .args(["--nofork", "--nopidfile", "--nosyslog"])
            .stdin(Stdio::null())
            .spawn()
            .expect("dbus-daemon is installed");
        until("the bus is there", || at("bus").exists());
        let mut this = Self {
            folder,
            address,
            bus,
            service: None,
        };
        this.log_in();
        this
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        let folder = self.folder.path();
        command
            .env("DBUS_SESSION_BUS_ADDRESS", &self.address)
            .env("HOME", folder)
            .env("XDG_DATA_HOME", folder.join("data"))
            .env("XDG_RUNTIME_DIR", folder)
            .env_remove("DISPLAY")
            .env_remove("WAYLAND_DISPLAY");
        command
    }

    /// Starts the Secret Service with the log-in password, as PAM does.
    fn log_in(&mut self) {
        let log = File::create(self.folder.path().join("service.log")).unwrap();
        let control = self.folder.path().join("control");
        let mut service = self
            .command("gnome-keyring-daemon".as_ref())
            .args(["--unlock", "--foreground", "--components=secrets"])
            .arg(format!("--control-directory={}", control.display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("gnome-keyring is installed");
        let mut password = service.stdin.take().unwrap();
        password.write_all(b"the log-in password").unwrap();
        drop(password);
        self.service = Some(service);
        until("the Secret Service answers", || {
            let said = self.keyring(&["read", "00000000000000000000000000000000"]);
            String::from_utf8_lossy(&said.stderr).contains("nothing for this profile")
        });
    }

    /// Everything that the keyring still knows stands in its files.
    fn log_out(&mut self) {
        if let Some(mut service) = self.service.take() {
            service.kill().unwrap();
            service.wait().unwrap();
        }
    }

    /// The real program.
    fn keyring(&self, arguments: &[&str]) -> Output {
        let program = binary("treeline-keyring").unwrap();
        let mut command = self.command(&program);
        let command = command.args(arguments).stdin(Stdio::null());
        command.output().unwrap()
    }

    fn secret(&self, arguments: &[&str]) -> String {
        let out = self.keyring(arguments);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(out.stdout).unwrap()
    }

    /// A Secure of this desktop, which starts the real treeline-keyring.
    fn secure(&self, profile: &Path) -> Alone {
        let mut command = self.command(&binary("treeline-secure").unwrap());
        command.arg("--directory").arg(profile);
        Alone::at_its_keyring(command, &profile.with_extension("log"))
    }

    fn profile(&self) -> PathBuf {
        self.folder.path().join("profile")
    }
}

impl Drop for Desktop {
    fn drop(&mut self) {
        for child in self.service.iter_mut().chain([&mut self.bus]) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

fn unlock(secure: &Alone) -> Result<(), Refusal> {
    let passphrase = Passphrase::new(SHORT.into());
    secure.ask(&Ask::Unlock { passphrase }).map(drop)
}

#[test]
fn a_secret_service_keeps_one_secret_for_each_profile() {
    let mut desktop = Desktop::new();
    refused(
        &desktop.keyring(&["read", PROFILE]),
        2,
        &["nothing for this"],
    );
    let secret = desktop.secret(&["make", PROFILE]);
    let digits = secret.strip_suffix('\n').unwrap();
    assert!(digits.len() == 64 && digits.bytes().all(|b| b.is_ascii_hexdigit()));
    // Made once, and read for ever.
    assert_eq!(desktop.secret(&["make", PROFILE]), secret);
    assert_eq!(desktop.secret(&["read", PROFILE]), secret);
    assert_ne!(desktop.secret(&["make", OTHER]), secret);
    desktop.log_out();
    refused(&desktop.keyring(&["read", PROFILE]), 2, &["keyring"]);
    desktop.log_in();
    assert_eq!(desktop.secret(&["read", PROFILE]), secret);
    // The service seals it.
    let kept = files(&desktop.folder.path().join("data"));
    assert!(!kept.is_empty());
    for (path, bytes) in kept {
        let there = bytes.windows(64).any(|at| at == digits.as_bytes());
        assert!(!there, "{}", path.display());
    }
}

#[test]
fn a_profile_is_bound_to_the_keyring_of_its_desktop() {
    let mut desktop = Desktop::new();
    let profile = desktop.profile();
    let create = Ask::CreateProfile {
        passphrase: Passphrase::new(SHORT.into()),
        user: "Ada".into(),
        device: "desk".into(),
    };
    desktop.secure(&profile).ask(&create).unwrap();
    unlock(&desktop.secure(&profile)).unwrap();
    desktop.log_out();
    desktop.log_in();
    unlock(&desktop.secure(&profile)).unwrap();

    // The stolen directory, with the passphrase: elsewhere, and where there is no keyring at all.
    let thief = Desktop::new();
    let other = unlock(&thief.secure(&profile)).unwrap_err();
    assert!(other.text.contains("gives no secret"), "{other}");
    let none = unlock(&Alone::start(&profile)).unwrap_err();
    assert!(none.text.contains("gives no secret"), "{none}");
    // Wherever it was tried, its own desktop still opens it.
    unlock(&desktop.secure(&profile)).unwrap();
}
