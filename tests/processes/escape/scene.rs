//! What there is to attack: a victim that is not confined, with a secret in its memory, its
//! environment, an open file and a socket; files of other processes and of the person.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::ptr;

use confinement::{Places, Role};
use tempfile::TempDir;

/// What an attacker wants to read.
pub const SECRET: &str = "the heron nests behind the third sluice";
static PLANTED: [u8; SECRET.len()] = *b"the heron nests behind the third sluice";

/// Files below the scene: of another process of ours, of the person, and two sockets' names.
pub const OTHERS: &str = "others/keys.db";
pub const PERSONS: &str = "person/.ssh/id_ed25519";
pub const SOCKET: &str = "person/agent.sock";
pub const SPARE: &str = "others/spare";
/// A file of the person that the attacker may read.
pub const READ: &str = "person/looks";
/// The attacker's own directory, and a program in it.
pub const OWN: &str = "own";
pub const PROGRAM: &str = "program";

/// A folder, a copy of this program in it, and the victim, all of one user.
pub struct Scene {
    pub home: PathBuf,
    pub user: Option<u32>,
    /// An unconfined process's secret.
    pub victim: Victim,
    /// The same in a process that is confined as Secure.
    pub confined: Victim,
    _folder: TempDir,
}

impl Scene {
    /// `user`: whose processes they are, else this one's.
    pub fn new(user: Option<u32>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_owned();
        for (file, mode) in [(OTHERS, 0o600), (PERSONS, 0o600), (READ, 0o600)] {
            let path = home.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, SECRET).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(home.join(OWN)).unwrap();
        fs::copy(std::env::current_exe().unwrap(), home.join("program")).unwrap();
        fs::copy("/bin/true", home.join(OWN).join(PROGRAM)).unwrap();
        if let Some(user) = user {
            let folders = ["others", "person", "person/.ssh", OWN, "."];
            for path in folders.into_iter().chain([OTHERS, PERSONS, READ]) {
                std::os::unix::fs::chown(home.join(path), Some(user), Some(user)).unwrap();
            }
        }
        let victim = Victim::start(&home, user, "victim");
        let confined = Victim::start(&home, user, "confined");
        Self {
            home,
            user,
            victim,
            confined,
            _folder: folder,
        }
    }

    /// Puts back what the last attack may have taken.
    pub fn refill(&self) {
        fs::write(self.home.join(SPARE), "x").unwrap();
        if let Some(user) = self.user {
            std::os::unix::fs::chown(self.home.join(SPARE), Some(user), Some(user)).unwrap();
        }
    }
}

/// A process that holds still.
pub struct Victim {
    /// `PID ADDRESS DESCRIPTOR SEGMENT`.
    pub secret: String,
    process: Child,
}

impl Victim {
    fn start(home: &Path, user: Option<u32>, how: &str) -> Self {
        let mut command = program(home, user);
        command
            .args([how, home.to_str().unwrap()])
            .env("SECRET", SECRET);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut secret = String::new();
        BufReader::new(process.stdout.as_mut().unwrap())
            .read_line(&mut secret)
            .unwrap();
        Self {
            secret: secret.trim().to_owned(),
            process,
        }
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// This program again, as a user who can reach its copy.
pub fn program(home: &Path, user: Option<u32>) -> Command {
    let mut command = Command::new(home.join("program"));
    command.env_remove("SECRET");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    command
}

/// Holds still to be attacked, until its standard input ends.
pub fn victim(home: &Path) -> ExitCode {
    // Where Yama lets parents alone look into a process, this one lets everybody.
    // SAFETY: it changes who may trace this process, nothing else.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::MAX) };
    let _path = UnixListener::bind(home.join(SOCKET)).unwrap();
    let _abstract = UnixListener::bind_addr(&abstract_address(home)).unwrap();
    let file = File::open(home.join(PERSONS)).unwrap();
    tell(&file, share());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    ExitCode::SUCCESS
}

/// The same, confined as Secure.
pub fn confined(home: &Path) -> ExitCode {
    let own = vec![home.join(OWN)];
    let enclosed = confinement::enclose(
        Role::Secure,
        &Places {
            own,
            ..Places::default()
        },
    );
    let file = File::open(home.join(OWN)).unwrap();
    enclosed.seal();
    tell(&file, 0);
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    ExitCode::SUCCESS
}

fn tell(file: &File, segment: i32) {
    let (pid, address) = (std::process::id(), &raw const PLANTED as usize);
    println!("{pid} {address} {} {segment}", file.as_raw_fd());
}

/// The number of shared memory with the secret in it, which ends with this process.
fn share() -> i32 {
    // SAFETY: the page is this process's own, and nobody else writes it.
    unsafe {
        let segment = libc::shmget(libc::IPC_PRIVATE, SECRET.len(), 0o600);
        let page = libc::shmat(segment, ptr::null(), 0);
        assert_ne!(page.addr(), usize::MAX, "this machine has no shared memory");
        libc::shmctl(segment, libc::IPC_RMID, ptr::null_mut());
        ptr::copy_nonoverlapping(SECRET.as_ptr(), page.cast(), SECRET.len());
        segment
    }
}

/// The victim's socket that has no file.
pub fn abstract_address(home: &Path) -> SocketAddr {
    SocketAddr::from_abstract_name(home.to_str().unwrap()).unwrap()
}
