//! The process: a node of tier Device, driven by what comes over the control socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use proto::{PublicKey, Signer, Tier};
use relay::discovery::mdns::{self, Advert, Advertised, Interfaces};
use relay::discovery::{self, Plan, Standing, Stranger, Trust};
use relay::driver::{self, Handle, now};
use relay::link::listen::Listener;
use relay::link::settings::Settings;
use relay::link::{self, pipe};
use relay::parents::{self, Above, Offer};
use relay::relay::{StartError, own_directory};
use relay::store::sqlite::SqliteStore;
use relay::tls;
use relay_core::{Config, Event, Limits, Node, Role};
use serde::Serialize;
use thiserror::Error;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::NetworkConfig;
use crate::control::{Control, Packet};

/// Our own key for TLS, in the directory. It says nothing about the device or the person.
const KEY: &str = "net.key";
/// The cache of chunks, and what the relays have not acknowledged.
const STORE: &str = "net.db";
/// Packets from the starter that may wait.
const PACKETS: usize = 8;

/// What the command line and the environment say.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// The DNS server for relays that are given by their domain, IP:PORT [default: this machine's]
    #[arg(long, value_name = "ADDR", env = "TREELINE_NET_DNS")]
    pub dns: Option<SocketAddr>,
    /// Whether to look for relays on the local network and, where the profile says so, to serve it: off,
    /// or the interfaces to use [default: all but loopback, and none if all relays are on this machine]
    #[arg(
        long,
        value_name = "NAME",
        env = "TREELINE_NET_MDNS",
        value_delimiter = ','
    )]
    pub mdns: Vec<String>,
}

impl Options {
    fn interfaces(&self, here: bool) -> Option<Interfaces> {
        match self.mdns.first().map(String::as_str) {
            Some("off") => None,
            None if here => None,
            _ => Some(Interfaces(self.mdns.clone())),
        }
    }
}

/// The local network while it is served.
struct Lan {
    advertised: Advertised,
    place: SocketAddr,
    endpoint: quinn::Endpoint,
    task: JoinHandle<()>,
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.task.abort();
        self.endpoint.close(quinn::VarInt::from_u32(0), b"stopped");
    }
}

#[derive(Clone, PartialEq, Serialize)]
struct Told {
    name: String,
    place: String,
    key: String,
    changed: bool,
    /// This device, which serves its local network: others compare its words.
    own: bool,
}

impl From<&Stranger> for Told {
    fn from(stranger: &Stranger) -> Self {
        Self {
            name: stranger.name.clone(),
            place: stranger.place.clone(),
            key: stranger.key.to_hex(),
            changed: stranger.standing == Standing::Changed,
            own: false,
        }
    }
}

/// Tells who was found and is not used, and what we serve ourselves, when that changes.
async fn tell_strangers(
    mut strangers: watch::Receiver<Vec<Stranger>>,
    mut serving: watch::Receiver<Option<Told>>,
    control: Control,
) {
    loop {
        let mut told: Vec<Told> = serving.borrow_and_update().iter().cloned().collect();
        told.extend(strangers.borrow_and_update().iter().map(Told::from));
        if let Ok(json) = serde_json::to_string(&told) {
            // When the starter is gone, we end.
            let _ = control.tell_strangers(&json);
        }
        let changed = tokio::select! {
            changed = strangers.changed() => changed,
            changed = serving.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// Why the process ends before its starter does.
#[derive(Debug, Error)]
pub enum RunError {
    /// It cannot begin. It has been said on the control socket, too.
    #[error(transparent)]
    Start(#[from] StartError),
    /// What came over the control socket is not for it.
    #[error("the control socket: {0}")]
    Control(#[source] io::Error),
}

/// Runs until the starter is gone, then flushes.
///
/// # Errors
/// [`RunError`].
pub async fn run(directory: &Path, options: Options, control: Control) -> Result<(), RunError> {
    let started = own_directory(directory)
        .and_then(|owner| Ok((start(directory, options, control.clone())?, owner)));
    let ((mut net, node), _owner) = match started {
        Ok(started) => started,
        Err(error) => {
            // If the starter is gone as well, the exit code is all there is to say.
            let _ = control.say(&error.to_string());
            return Err(error.into());
        }
    };
    let _ = control.say("ready");
    let mut packets = listen(control);
    let ended = loop {
        match packets.recv().await {
            Some(Ok(Packet::Config(text))) => net.configure(&text).await,
            Some(Ok(Packet::Link(stream))) => net.link(stream),
            Some(Err(error)) => break Err(RunError::Control(error)),
            None => break Ok(()),
        }
    };
    net.stop_tasks();
    net.handle.stop().await;
    let _ = tokio::task::spawn_blocking(move || node.join()).await;
    ended
}

fn start(
    directory: &Path,
    options: Options,
    control: Control,
) -> Result<(Net, std::thread::JoinHandle<()>), StartError> {
    let own = tls::load_or_make(&directory.join(KEY))?;
    let store = SqliteStore::open(&directory.join(STORE))?;
    let config = Config {
        tier: Tier::Device,
        origins: Vec::new(),
        limits: Limits::default(),
    };
    let node = Node::new(config, store, now())?;
    let (handle, node) =
        driver::start(node, (Tier::Device, String::new())).map_err(StartError::Thread)?;
    let config = NetworkConfig::default();
    let net = Net {
        handle,
        own: Arc::new(own),
        config,
        options,
        control,
        trust: watch::Sender::new(Trust::default()),
        serving: watch::Sender::new(None),
        parents: None,
        lan: None,
        link: None,
    };
    Ok((net, node))
}

/// Reads the control socket on a thread of its own: it blocks.
fn listen(control: Control) -> mpsc::Receiver<io::Result<Packet>> {
    let (packets, queue) = mpsc::channel(PACKETS);
    tokio::task::spawn_blocking(move || {
        while let Some(packet) = control.receive().transpose() {
            let last = packet.is_err();
            if packets.blocking_send(packet).is_err() || last {
                return;
            }
        }
    });
    queue
}

struct Net {
    handle: Handle,
    own: Arc<Signer>,
    options: Options,
    control: Control,
    config: NetworkConfig,
    trust: watch::Sender<Trust>,
    serving: watch::Sender<Option<Told>>,
    parents: Option<JoinHandle<()>>,
    lan: Option<Lan>,
    link: Option<JoinHandle<()>>,
}

impl Net {
    async fn configure(&mut self, text: &[u8]) {
        let config = match NetworkConfig::parse(text) {
            Ok(config) => config,
            Err(error) => return tracing::error!("{error}; the one before stays in force"),
        };
        let old = std::mem::replace(&mut self.config, config);
        let config = &self.config;
        let moved = config.origins != old.origins;
        if moved {
            let origins = Event::Origins(config.origins.clone());
            // It fails only with the node, and then the control socket is all that is left to read.
            let _ = self.handle.send(origins).await;
        }
        self.trust.send_replace(config.trust.clone());
        if moved || config.serves() != old.serves() {
            self.lan = None;
            self.lan = config.serves().then(|| self.serve()).flatten();
            let own = self.lan.as_ref().map(|lan| Told {
                name: lan.advertised.name().to_owned(),
                place: lan.place.to_string(),
                key: self.own.public_key().to_hex(),
                changed: false,
                own: true,
            });
            self.serving.send_replace(own);
        }
        if moved || config.relays != old.relays {
            self.find_parents();
        }
    }

    /// Looks for relays, and keeps the nearest as the parent.
    fn find_parents(&mut self) {
        if let Some(parents) = self.parents.take() {
            parents.abort();
        }
        let plan = Plan {
            upstreams: self.config.relays.clone(),
            dns: self.options.dns,
            mdns: self.options.interfaces(self.config.is_here()),
            origins: self.config.origins.clone(),
            own: Some(self.own.public_key()),
        };
        if plan.origins.is_empty() {
            return;
        }
        let (offer, offers) = watch::channel(Offer::default());
        let (tell, strangers) = watch::channel(Vec::new());
        // Nobody asks a device how its relays are; its log says so.
        let above = watch::Sender::new(Above::default());
        let trust = self.trust.subscribe();
        let searching = discovery::search(plan, trust, offer, tell, above.clone());
        let telling = tell_strangers(strangers, self.serving.subscribe(), self.control.clone());
        let (handle, own) = (self.handle.clone(), self.own.clone());
        self.parents = Some(tokio::spawn(async move {
            tokio::select! {
                // It ends only with the node.
                _ = parents::keep(&handle, &own, offers, above) => {}
                () = async { tokio::join!(searching, telling); } => {}
            }
        }));
    }

    /// Serves the local network: others of the same origins find this device there.
    fn serve(&self) -> Option<Lan> {
        let interfaces = self.options.interfaces(self.config.is_here())?;
        let any = (Ipv4Addr::UNSPECIFIED, 0).into();
        let bound = Listener::bind(any, &self.own, Settings::default());
        let listening = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
        let (place, listener) = listening
            .inspect_err(|error| tracing::warn!("cannot serve the local network: {error}"))
            .ok()?;
        let advert = Advert {
            key: self.own.public_key(),
            origins: self
                .config
                .origins
                .iter()
                .map(PublicKey::origin_id)
                .collect(),
            tier: Tier::Device,
            record: None,
        };
        let advertised = mdns::advertise(&advert, place, &interfaces)
            .inspect_err(|error| tracing::warn!("{error}"))
            .ok()?;
        tracing::info!(%place, "serving the local network");
        let endpoint = listener.endpoint().clone();
        Some(Lan {
            advertised,
            place,
            endpoint,
            task: tokio::spawn(listener.accept(self.handle.clone())),
        })
    }

    /// The newest link is the one that is served.
    fn link(&mut self, stream: std::os::unix::net::UnixStream) {
        if let Some(link) = self.link.take() {
            link.abort();
        }
        match to_async(stream) {
            Err(error) => tracing::error!("a link to Secure cannot be used: {error}"),
            Ok(stream) => {
                let handle = self.handle.clone();
                self.link = Some(tokio::spawn(async move {
                    let role = (Role::Downstream, "treeline-secure".into());
                    let (source, sink) = pipe::halves(stream);
                    let _ = link::run(&handle, role, source, sink).await;
                }));
            }
        }
    }

    fn stop_tasks(&mut self) {
        self.lan = None;
        for task in [self.parents.take(), self.link.take()]
            .into_iter()
            .flatten()
        {
            task.abort();
        }
    }
}

fn to_async(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
