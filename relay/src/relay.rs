//! A running relay: its keys, its store, its node, its listener and its way to the parent.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use proto::{PublicKey, Signer, Tier};
use relay_core::store::StoreError;
use relay_core::{Limits, Node};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::address::RelayAddress;
use crate::config::Config;
use crate::driver::{self, Handle, now};
use crate::link::listen::Listener;
use crate::parents::{self, Candidate};
use crate::store::sqlite::SqliteStore;
use crate::tls::{self, KeyError};

/// The relay's own key, in its directory.
pub const RELAY_KEY: &str = "relay.key";
/// The origin's key, in the directory of a relay that is one.
pub const ORIGIN_KEY: &str = "origin.key";
/// The store, in its directory.
pub const STORE: &str = "store.db";
/// Its owner's process id; the owner holds it locked.
const LOCK: &str = "lock";
/// How long another process may take to end in the directory.
const ENDING: Duration = Duration::from_secs(5);
/// How often the lock is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// A process id and its line end are shorter than this.
const PID_BYTES: u64 = 20;

/// Why a relay does not start. One line: what, where, what to do.
#[derive(Debug, Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error("cannot use the directory {path}: {source}; choose another with --directory")]
    Directory {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Another process works in the directory.
    #[error(
        "the directory {path} is in use by process {pid}; stop that one, or choose another directory"
    )]
    InUse {
        /// Which.
        path: String,
        /// Its owner.
        pid: String,
    },
    /// A key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} (UDP and TCP): {source}; stop what uses it, or choose another with --listen"
    )]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A relay that runs until [`Relay::stop`].
pub struct Relay {
    address: RelayAddress,
    origins: Vec<PublicKey>,
    tier: Tier,
    handle: Handle,
    endpoint: quinn::Endpoint,
    node: thread::JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
    _owner: File,
}

impl Relay {
    /// Starts a relay. Keys, directory and store are made when they are not there.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let owner = own_directory(&config.directory)?;
        let own = tls::load_or_make(&config.directory.join(RELAY_KEY))?;
        let mut origins = config.origins.clone();
        if origins.is_empty() {
            let origin = tls::load_or_make(&config.directory.join(ORIGIN_KEY))?;
            origins.push(origin.public_key());
        }
        let store = SqliteStore::open(&config.directory.join(STORE))?;
        let listen = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener =
            Listener::bind(config.listen, &own, config.transport.clone()).map_err(listen)?;
        let place = listener.local_addr().map_err(listen)?.to_string();
        let limits = Limits {
            links: config.transport.connections,
            ..Limits::default()
        };
        let node = relay_core::Config {
            tier: config.tier,
            origins: origins.clone(),
            limits,
        };
        let node = Node::new(node, store, now())?;
        let (handle, node) =
            driver::start(node, (config.tier, String::new())).map_err(StartError::Thread)?;
        let endpoint = listener.endpoint().clone();
        let mut tasks = vec![tokio::spawn(listener.accept(handle.clone()))];
        if !config.parents.is_empty() {
            tasks.push(tokio::spawn(up(
                handle.clone(),
                config.parents.clone(),
                own.clone(),
            )));
        }
        let address = RelayAddress {
            place,
            key: own.public_key(),
        };
        Ok(Self {
            address,
            origins,
            tier: config.tier,
            handle,
            endpoint,
            node,
            tasks,
            _owner: owner,
        })
    }

    /// Where others reach it, and its key.
    pub fn address(&self) -> &RelayAddress {
        &self.address
    }

    /// The origins that it serves.
    pub fn origins(&self) -> &[PublicKey] {
        &self.origins
    }

    /// Its place in the tree.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// The way to its node.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Commits what has been received, closes every link, and frees the address and the store.
    pub async fn stop(self) {
        for task in &self.tasks {
            task.abort();
        }
        self.handle.stop().await;
        let node = self.node;
        let _ = tokio::task::spawn_blocking(move || node.join()).await;
        self.endpoint.close(quinn::VarInt::from_u32(0), b"stopped");
        self.endpoint.wait_idle().await;
    }
}

async fn up(handle: Handle, parents: Vec<RelayAddress>, own: Signer) {
    let (_offer, candidates) = watch::channel(Candidate::configured(&parents));
    // It ends only with the node.
    let _ = parents::keep(&handle, &own, candidates).await;
}

/// Makes a directory that only this user can read, if there is none, and holds it for this process
/// for as long as the file lives. A process that is just ending in it is waited for, a few seconds.
///
/// # Errors
/// [`StartError::Directory`], [`StartError::InUse`].
pub fn own_directory(path: &Path) -> Result<File, StartError> {
    make_directory(path)?;
    let failed = |source| StartError::Directory {
        path: path.display().to_string(),
        source,
    };
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path.join(LOCK)).map_err(failed)?;
    let until = Instant::now() + ENDING;
    loop {
        match file.try_lock() {
            Ok(()) => break,
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < until => thread::sleep(LOOK),
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                // Its owner may not have written it; that it is owned is known anyhow.
                file.take(PID_BYTES).read_to_string(&mut pid).ok();
                return Err(StartError::InUse {
                    path: path.display().to_string(),
                    pid: pid.trim().to_owned(),
                });
            }
        }
    }
    // The lock is what counts: on a full disk it holds without a name.
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .ok();
    Ok(file)
}

fn make_directory(path: &Path) -> Result<(), StartError> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .and_then(|()| fs::read_dir(path).map(drop))
        .map_err(|source| StartError::Directory {
            path: path.display().to_string(),
            source,
        })
}
