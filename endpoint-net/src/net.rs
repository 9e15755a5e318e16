//! The process: a node of tier Device, driven by what comes over the control socket.

use std::io;
use std::path::Path;
use std::sync::Arc;

use proto::{Signer, Tier};
use relay::driver::{self, Handle, now};
use relay::link::{self, pipe};
use relay::parents::{self, Candidate};
use relay::relay::{StartError, own_directory};
use relay::store::sqlite::SqliteStore;
use relay::tls;
use relay_core::{Config, Event, Limits, Node, Role};
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

/// Runs until the starter is gone, then flushes.
///
/// # Errors
/// [`StartError`] when it cannot begin. It has been said on the control socket, too.
pub async fn run(directory: &Path, control: Control) -> Result<(), StartError> {
    let started = own_directory(directory).and_then(|owner| Ok((start(directory)?, owner)));
    let ((mut net, node), _owner) = match started {
        Ok(started) => started,
        Err(error) => {
            // If the starter is gone as well, the exit code is all there is to say.
            let _ = control.say(&error.to_string());
            return Err(error);
        }
    };
    let _ = control.say("ready");
    let mut packets = listen(control);
    while let Some(packet) = packets.recv().await {
        match packet {
            Packet::Config(text) => net.configure(&text).await,
            Packet::Link(stream) => net.link(stream),
        }
    }
    net.stop_tasks();
    net.handle.stop().await;
    let _ = tokio::task::spawn_blocking(move || node.join()).await;
    Ok(())
}

fn start(directory: &Path) -> Result<(Net, std::thread::JoinHandle<()>), StartError> {
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
        parent: None,
        link: None,
    };
    Ok((net, node))
}

/// Reads the control socket on a thread of its own: it blocks.
fn listen(control: Control) -> mpsc::Receiver<Packet> {
    let (packets, queue) = mpsc::channel(PACKETS);
    tokio::task::spawn_blocking(move || {
        while let Ok(Some(packet)) = control.receive() {
            if packets.blocking_send(packet).is_err() {
                return;
            }
        }
    });
    queue
}

struct Net {
    handle: Handle,
    own: Arc<Signer>,
    config: NetworkConfig,
    parent: Option<JoinHandle<()>>,
    link: Option<JoinHandle<()>>,
}

impl Net {
    async fn configure(&mut self, text: &[u8]) {
        let config = match NetworkConfig::parse(text) {
            Ok(config) => config,
            Err(error) => return tracing::error!("{error}; the one before stays in force"),
        };
        if config.origins != self.config.origins {
            // It fails only with the node, and then the control socket is all that is left to read.
            let _ = self
                .handle
                .send(Event::Origins(config.origins.clone()))
                .await;
        }
        if config.relays != self.config.relays {
            if let Some(parent) = self.parent.take() {
                parent.abort();
            }
            if !config.relays.is_empty() {
                let (handle, own) = (self.handle.clone(), self.own.clone());
                let relays = config.relays.clone();
                self.parent = Some(tokio::spawn(async move {
                    let (_offer, candidates) = watch::channel(Candidate::configured(&relays));
                    let _ = parents::keep(&handle, &own, candidates).await;
                }));
            }
        }
        self.config = config;
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
        for task in [self.parent.take(), self.link.take()].into_iter().flatten() {
            task.abort();
        }
    }
}

fn to_async(stream: std::os::unix::net::UnixStream) -> io::Result<UnixStream> {
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}
