//! A running relay: its keys, its store, its node, its listener and its way to the parent.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use proto::limits::DAY_MS;
use proto::{PublicKey, RelayRecord, Signer, Tier};
use relay_core::store::StoreError;
use relay_core::{Event, Limits, Node};
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::address::RelayAddress;
use crate::admin;
use crate::config::{Admin, Config};
use crate::discovery::mdns::{self, Advert, Advertised};
use crate::discovery::{self, Plan, Trust};
use crate::driver::{self, Handle, now};
use crate::link::listen::Listener;
use crate::organisations::{self, OrganisationError};
use crate::parents::{self, Above, Offer};
use crate::pins::Pins;
use crate::status::View;
use crate::store::sqlite::SqliteStore;
use crate::tls::{self, KeyError};

/// The relay's own key, in its directory.
pub const RELAY_KEY: &str = "relay.key";
/// The origin's key, in the directory of a relay that is one.
pub const ORIGIN_KEY: &str = "origin.key";
/// The origin's record of the relay, in its directory, if it was given one.
pub const RECORD: &str = "record";
/// The store, in its directory.
pub const STORE: &str = "store.db";
/// The admin listener's address, while a relay runs in the directory.
pub const ADMIN: &str = "admin";
/// Its owner's process id; the owner holds it locked.
pub(crate) const LOCK: &str = "lock";
/// How long another process may take to end in the directory.
const ENDING: Duration = Duration::from_secs(5);
/// How long links may take to end when the relay does.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// How often the lock or the links are looked at meanwhile.
const LOOK: Duration = Duration::from_millis(20);
/// How often the pins are looked at, so that one is in force without a restart.
const PINS_LOOK: Duration = Duration::from_secs(1);
/// How long an origin's record of itself is good: it signs another at every start.
const OWN_RECORD_MS: u64 = 365 * DAY_MS;
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
    /// The organisations cannot be read.
    #[error(transparent)]
    Organisations(#[from] OrganisationError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(StoreError),
    /// The store is damaged.
    #[error(
        "{0}, or begin an empty one with `treeline-relay run --rebuild`: what the parent has comes back"
    )]
    Damaged(StoreError),
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
    /// The admin listener's address cannot be listened on.
    #[error(
        "cannot listen on {address} (TCP): {source}; choose another with --admin, or --admin off"
    )]
    Admin {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The system refuses a thread.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Damaged(_) => Self::Damaged(error),
            _ => Self::Store(error),
        }
    }
}

/// A relay that runs until [`Relay::stop`].
pub struct Relay {
    address: RelayAddress,
    view: watch::Sender<View>,
    own: Signer,
    config: Config,
    endpoint: quinn::Endpoint,
    node: thread::JoinHandle<()>,
    listeners: Vec<JoinHandle<()>>,
    upward: Option<JoinHandle<()>>,
    advertised: Option<Advertised>,
    admin: Option<SocketAddr>,
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
        let origins = origins(config)?;
        let mut store = SqliteStore::open(&config.directory.join(STORE))?;
        if config.check_store {
            // What it drops, the node tells of and asks the parent for.
            store.check()?;
        }
        let listen = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener =
            Listener::bind(config.listen, &own, config.transport.clone()).map_err(listen)?;
        let place = listener.local_addr().map_err(listen)?;
        let admin = listen_admin(config.admin, place.port()).await?;
        let limits = limits(config, &origins)?;
        let node = relay_core::Config {
            tier: config.tier,
            origins: origins.clone(),
            limits,
        };
        let node = Node::new(node, store, now())?;
        let (handle, node) =
            driver::start(node, (config.tier, String::new())).map_err(StartError::Thread)?;
        let address = RelayAddress {
            place: place.to_string(),
            key: own.public_key(),
        };
        let advertised = advertise(config, &address, &origins);
        let (upward, above) = upward(&handle, config, &own);
        let view = watch::Sender::new(View {
            handle: handle.clone(),
            address: address.clone(),
            tier: config.tier,
            origins,
            parents: config.parents.clone(),
            directory: config.directory.clone(),
            above,
            began: Instant::now(),
        });
        let endpoint = listener.endpoint().clone();
        let mut listeners = vec![tokio::spawn(listener.accept(handle.clone()))];
        let admin = admin.map(|(place, listener)| {
            listeners.push(tokio::spawn(admin::serve(listener, view.subscribe())));
            place
        });
        tell_admin(&config.directory, admin);
        Ok(Self {
            upward,
            advertised,
            address,
            view,
            own,
            config: config.clone(),
            endpoint,
            node,
            listeners,
            admin,
            _owner: owner,
        })
    }

    /// Where others reach it, and its key.
    pub fn address(&self) -> &RelayAddress {
        &self.address
    }

    /// The origins that it serves.
    pub fn origins(&self) -> Vec<PublicKey> {
        self.view.borrow().origins.clone()
    }

    /// Its place in the tree.
    pub fn tier(&self) -> Tier {
        self.config.tier
    }

    /// Where it tells how it is.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// The way to its node.
    pub fn handle(&self) -> Handle {
        self.view.borrow().handle.clone()
    }

    /// Takes over what can change without a restart: parents, the DNS server that finds them, origins and
    /// limits. Returns what cannot.
    ///
    /// # Errors
    /// [`StartError`] when the origin's key or organisations cannot be read.
    pub async fn reload(&mut self, config: &Config) -> Result<Vec<&'static str>, StartError> {
        let (handle, old) = (self.handle(), &self.config);
        let fixed = [
            ("directory", old.directory != config.directory),
            ("listen", old.listen != config.listen),
            ("tier", old.tier != config.tier),
            ("admin", old.admin != config.admin),
            ("log_json", old.log_json != config.log_json),
            ("check_store", old.check_store != config.check_store),
            ("transport", old.transport != config.transport),
            ("mdns", old.mdns != config.mdns),
        ];
        let fixed = fixed.into_iter().filter(|(_, differs)| *differs);
        let fixed = fixed.map(|(name, _)| name).collect();
        self.advertised = None;
        self.advertised = advertise(&self.config, &self.address, &origins(config)?);
        if old.origins != config.origins {
            let origins = origins(config)?;
            // A node that has stopped ends the relay anyway.
            let _ = handle.send(Event::Origins(origins.clone())).await;
            self.view.send_modify(|view| view.origins = origins);
        }
        let way = |of: &Config| (of.parents.clone(), of.origins.clone(), of.dns);
        let moves = way(old) != way(config);
        self.config = Config {
            limits: config.limits.clone(),
            parents: config.parents.clone(),
            origins: config.origins.clone(),
            dns: config.dns,
            ..self.config.clone()
        };
        if moves {
            if let Some(task) = self.upward.take() {
                task.abort();
            }
            let (upward, above) = upward(&handle, &self.config, &self.own);
            self.upward = upward;
            self.view.send_modify(|view| {
                view.parents.clone_from(&config.parents);
                view.above = above;
            });
        }
        let limits = limits(&self.config, &self.origins())?;
        let _ = handle.send(Event::Limits(Box::new(limits))).await;
        Ok(fixed)
    }

    /// Takes no more links, commits what has been received, sends every peer elsewhere, and frees
    /// the address and the store.
    pub async fn stop(mut self) {
        self.advertised = None;
        self.endpoint.set_server_config(None);
        for task in self.listeners.iter().chain(&self.upward) {
            task.abort();
        }
        let handle = self.handle();
        handle.stop().await;
        let node = self.node;
        let _ = tokio::task::spawn_blocking(move || node.join()).await;
        // The links write their last words and end by themselves.
        let _ = timeout(LAST_WORDS, async {
            while handle.open_links() > 0 {
                sleep(LOOK).await;
            }
        })
        .await;
        self.endpoint.close(quinn::VarInt::from_u32(0), b"stopped");
        self.endpoint.wait_idle().await;
        tell_admin(&self.config.directory, None);
    }
}

/// The origins to serve: a root without any is its own.
fn origins(config: &Config) -> Result<Vec<PublicKey>, StartError> {
    if !config.origins.is_empty() {
        return Ok(config.origins.clone());
    }
    let origin = tls::load_or_make(&config.directory.join(ORIGIN_KEY))?;
    Ok(vec![origin.public_key()])
}

/// The node's limits: those of the configuration, and what the origin's operator gave to certain
/// organisations.
fn limits(config: &Config, origins: &[PublicKey]) -> Result<Limits, StartError> {
    let known = match (config.tier, origins) {
        (Tier::Origin, [origin]) => organisations::load(&config.directory)?
            .into_iter()
            .filter_map(|(org, quota)| Some(((origin.origin_id(), org), quota?)))
            .collect(),
        _ => BTreeMap::new(),
    };
    Ok(Limits {
        links: config.transport.connections,
        orgs: known,
        ..config.limits.clone()
    })
}

/// Binds the admin listener. That the address nobody asked for is taken stops no relay.
async fn listen_admin(
    admin: Admin,
    port: u16,
) -> Result<Option<(SocketAddr, TcpListener)>, StartError> {
    let Some(address) = admin.address(port) else {
        return Ok(None);
    };
    let bound = TcpListener::bind(address).await;
    match bound.and_then(|listener| Ok((listener.local_addr()?, listener))) {
        Ok(bound) => Ok(Some(bound)),
        Err(error) if admin == Admin::Beside => {
            tracing::warn!(
                "no health, metrics and status: cannot listen on {address} (TCP): {error}; choose \
                 another with --admin"
            );
            Ok(None)
        }
        Err(source) => Err(StartError::Admin { address, source }),
    }
}

/// Leaves the admin listener's address for `treeline-relay status` in the directory.
fn tell_admin(directory: &Path, admin: Option<SocketAddr>) {
    let path = directory.join(ADMIN);
    let told = match admin {
        Some(address) => fs::write(&path, format!("{address}\n")),
        None => fs::remove_file(&path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        }),
    };
    if let Err(error) = told {
        tracing::warn!("cannot write {}: {error}", path.display());
    }
}

/// Keeps the way up, and says how the relays above are.
fn upward(
    handle: &Handle,
    config: &Config,
    own: &Signer,
) -> (Option<JoinHandle<()>>, watch::Receiver<Above>) {
    let (above, known) = watch::channel(Above::default());
    if config.parents.is_empty() {
        return (None, known);
    }
    let pins = Pins::load(&config.directory).unwrap_or_else(|error| {
        tracing::error!("{error}; no pin is known until then");
        Pins::default()
    });
    let plan = Plan {
        upstreams: config.parents.clone(),
        dns: config.dns,
        mdns: None,
        origins: config.origins.clone(),
        own: Some(own.public_key()),
    };
    let trust = Trust {
        pins,
        ..Trust::default()
    };
    let trust = watch::Sender::new(trust);
    let looking = look_at_pins(config.directory.clone(), trust.clone());
    let way = (handle.clone(), own.clone());
    let up = up(way, plan, trust.subscribe(), above);
    let task = tokio::spawn(async {
        tokio::select! {
            () = up => {}
            () = looking => {}
        }
    });
    (Some(task), known)
}

/// Takes over what `treeline-relay trust` changes while the relay runs.
async fn look_at_pins(directory: PathBuf, trust: watch::Sender<Trust>) {
    loop {
        sleep(PINS_LOOK).await;
        // What cannot be read now was said at the start, or is said by `trust`.
        if let Ok(pins) = Pins::load(&directory) {
            trust.send_if_modified(|trust| {
                let changed = trust.pins != pins;
                trust.pins = pins;
                changed
            });
        }
    }
}

async fn up(
    (handle, own): (Handle, Signer),
    plan: Plan,
    trust: watch::Receiver<Trust>,
    above: watch::Sender<Above>,
) {
    let (offer, offers) = watch::channel(Offer::default());
    let (tell, mut strangers) = watch::channel(Vec::new());
    let searching = discovery::search(plan, trust, offer, tell, above.clone());
    let telling = async {
        while strangers.changed().await.is_ok() {
            for stranger in strangers.borrow_and_update().iter() {
                tracing::error!("{stranger}");
            }
        }
    };
    tokio::select! {
        // It ends only with the node.
        _ = parents::keep(&handle, &own, offers, above) => {}
        () = async { tokio::join!(searching, telling); } => {}
    }
}

/// What the origin says of this relay: an origin says it of itself, others were given it.
fn record(directory: &Path, own: PublicKey) -> Option<RelayRecord> {
    if let Ok(Some(origin)) = tls::load(&directory.join(ORIGIN_KEY)) {
        return RelayRecord::sign(&origin, own, now().plus_millis(OWN_RECORD_MS)).ok();
    }
    let path = directory.join(RECORD);
    let text = fs::read_to_string(&path).ok()?;
    let record = RelayRecord::from_text(&text).filter(|record| record.relay() == Some(own));
    if record.is_none() {
        tracing::warn!(
            "{} is no record of this relay; it is not used",
            path.display()
        );
    }
    record
}

/// Says on the local network that the relay is here, if it shall.
fn advertise(config: &Config, address: &RelayAddress, origins: &[PublicKey]) -> Option<Advertised> {
    let interfaces = config.mdns.as_ref()?;
    let advert = Advert {
        key: address.key,
        origins: origins.iter().map(PublicKey::origin_id).collect(),
        tier: config.tier,
        record: record(&config.directory, address.key),
    };
    let listen = address.place.parse().ok()?;
    mdns::advertise(&advert, listen, interfaces)
        .inspect_err(|error| tracing::warn!("{error}"))
        .ok()
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

/// Makes a directory that only this user can read, if there is none.
///
/// # Errors
/// [`StartError::Directory`].
pub fn make_directory(path: &Path) -> Result<(), StartError> {
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
