//! The only loop: turns inputs into events for the node, and its effects into bytes for the links.
//!
//! The node is synchronous and has a thread of its own, where the store may wait for the disk. Links
//! run elsewhere and reach it through one bounded channel: a full one slows the links' reading, and
//! with it the peers. What goes out is bounded by the node, in bytes.

use std::collections::BTreeMap;
use std::io;
use std::mem;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proto::{Hello, Tier, Timestamp};
use relay_core::store::Store;
use relay_core::{Effect, Event, LinkId, Node, Note, Role, Snapshot};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

/// Inputs that may wait: each holds at most one frame of 64 KiB.
const INPUTS: usize = 256;
/// Writes that may wait on a link: a few more than the node allows, for its last words.
const WRITES: usize = 4096 + 16;
/// Inputs taken before what they caused is committed and sent.
const INPUTS_PER_TURN: usize = 256;

/// The other end of a link.
struct Peer {
    outbox: mpsc::Sender<Bytes>,
    place: String,
}

enum Input {
    Attach {
        link: LinkId,
        role: Role,
        peer: Peer,
    },
    Event(Event),
    /// Something stands in the ledger.
    Drained,
    Snapshot(oneshot::Sender<Snapshot>),
    Stop,
}

/// What tells the time.
pub type Clock = fn() -> Timestamp;

/// The farthest tier that can be reached now, and the address of the relay above.
pub type Reach = (proto::Tier, String);

/// What has left on each link since the node looked: sends and bytes. A thousand readers write far
/// more often than anybody publishes, and would else fill the queue of inputs.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<BTreeMap<LinkId, (usize, usize)>>>);

impl Ledger {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, (usize, usize)>> {
        // It is whole between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds to it; whether it was empty.
    fn add(&self, link: LinkId, sends: usize, bytes: usize) -> bool {
        let mut ledger = self.lock();
        let first = ledger.is_empty();
        let entry = ledger.entry(link).or_default();
        *entry = (entry.0 + sends, entry.1 + bytes);
        first
    }

    fn take(&self) -> BTreeMap<LinkId, (usize, usize)> {
        mem::take(&mut *self.lock())
    }
}

/// The way to a node that a driver runs. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    inputs: mpsc::Sender<Input>,
    drained: Ledger,
    next_link: Arc<AtomicU64>,
    /// Links whose task has not ended.
    open_links: Arc<AtomicU64>,
    reach: watch::Receiver<Reach>,
    hello: Hello,
    clock: Clock,
}

/// The node's thread has ended.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the node has stopped")]
pub struct Stopped;

impl Handle {
    /// Adds a link, and gives what is to be written to it, until the node closes it. `place` is where
    /// its peer is, for people.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn attach(
        &self,
        role: Role,
        place: String,
    ) -> Result<(LinkId, mpsc::Receiver<Bytes>), Stopped> {
        let link = LinkId(self.next_link.fetch_add(1, Ordering::Relaxed));
        let (outbox, writes) = mpsc::channel(WRITES);
        let peer = Peer { outbox, place };
        let attach = Input::Attach { link, role, peer };
        self.inputs.send(attach).await.map_err(|_| Stopped)?;
        self.open_links.fetch_add(1, Ordering::Relaxed);
        Ok((link, writes))
    }

    /// Notes that the task of an attached link has ended, whatever the node knows of it.
    pub(crate) fn ended(&self) {
        self.open_links.fetch_sub(1, Ordering::Relaxed);
    }

    /// Links whose task has not ended.
    pub(crate) fn open_links(&self) -> u64 {
        self.open_links.load(Ordering::Relaxed)
    }

    /// Hands the node an event, when it has room for one.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn send(&self, event: Event) -> Result<(), Stopped> {
        self.inputs
            .send(Input::Event(event))
            .await
            .map_err(|_| Stopped)
    }

    /// Tells the node what has left on a link, which never waits.
    pub fn drained(&self, link: LinkId, sends: usize, bytes: usize) {
        if self.drained.add(link, sends, bytes) {
            // A full queue wakes the node as well, and one that has stopped need not know.
            let _ = self.inputs.try_send(Input::Drained);
        }
    }

    /// Whether the node has ended.
    pub fn is_stopped(&self) -> bool {
        self.inputs.is_closed()
    }

    /// How the node stands, once it has handled what was sent before.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn snapshot(&self) -> Result<Snapshot, Stopped> {
        let (answer, answered) = oneshot::channel();
        let ask = Input::Snapshot(answer);
        self.inputs.send(ask).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }

    /// Has the node commit what it has, tell its peers to go elsewhere, and end.
    pub async fn stop(&self) {
        let _ = self.inputs.send(Input::Stop).await;
    }

    /// The node's own HELLO, for a link that greets before the node has it.
    pub fn hello(&self) -> Hello {
        Hello {
            time: (self.clock)(),
            ..self.hello.clone()
        }
    }

    /// The role of those who connect to the node over a network.
    pub fn guests(&self) -> Role {
        match self.hello.tier {
            Tier::Device => Role::Neighbour,
            Tier::Local | Tier::Cloud | Tier::Origin => Role::Downstream,
        }
    }

    /// What can be reached, and each change of it.
    pub fn reach(&self) -> watch::Receiver<Reach> {
        self.reach.clone()
    }
}

/// The present time by this machine's clock.
pub fn now() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Starts the thread of a node.
///
/// # Errors
/// When the system has no thread to give.
pub fn start<S: Store + Send + 'static>(
    node: Node<S>,
    reach: Reach,
) -> io::Result<(Handle, JoinHandle<()>)> {
    start_by(now, node, reach)
}

/// As [`start`], by another clock than this machine's: tests run relays whose clock is wrong.
///
/// # Errors
/// When the system has no thread to give.
pub fn start_by<S: Store + Send + 'static>(
    clock: Clock,
    node: Node<S>,
    reach: Reach,
) -> io::Result<(Handle, JoinHandle<()>)> {
    let (inputs, queue) = mpsc::channel(INPUTS);
    let hello = node.hello();
    let (tell, told) = watch::channel(reach);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let drained = Ledger::default();
    let driver = Driver {
        node,
        drained: drained.clone(),
        links: BTreeMap::new(),
        reach: tell,
        clock,
    };
    let thread = std::thread::Builder::new()
        .name("node".into())
        .spawn(move || runtime.block_on(driver.run(queue)))?;
    Ok((
        Handle {
            inputs,
            drained,
            next_link: Arc::default(),
            open_links: Arc::default(),
            reach: told,
            hello,
            clock,
        },
        thread,
    ))
}

struct Driver<S> {
    node: Node<S>,
    drained: Ledger,
    links: BTreeMap<LinkId, Peer>,
    reach: watch::Sender<Reach>,
    clock: Clock,
}

impl<S: Store> Driver<S> {
    async fn run(mut self, mut queue: mpsc::Receiver<Input>) {
        loop {
            let wait = self
                .node
                .next_timeout()
                .map_or(u64::MAX, |at| at.since(self.now()));
            let first = if wait == 0 {
                queue.try_recv().ok()
            } else {
                match timeout(Duration::from_millis(wait), queue.recv()).await {
                    Ok(None) => return,
                    Ok(input) => input,
                    Err(_) => None,
                }
            };
            let rest = std::iter::from_fn(|| queue.try_recv().ok());
            let inputs: Vec<Input> = first
                .into_iter()
                .chain(rest.take(INPUTS_PER_TURN))
                .collect();
            let mut stop = queue.is_closed() && inputs.is_empty();
            for (link, (sends, bytes)) in self.drained.take() {
                self.node
                    .handle(Event::Drained { link, sends, bytes }, self.now());
            }
            for input in inputs {
                stop |= self.take(input);
                // A full batch has been committed in between: nobody waits for the rest.
                self.perform();
            }
            self.node.handle_timeout(self.now());
            self.perform();
            if stop {
                self.node.stop(self.now());
                return self.perform();
            }
        }
    }

    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Returns whether to stop.
    fn take(&mut self, input: Input) -> bool {
        match input {
            Input::Attach { link, role, peer } => {
                self.links.insert(link, peer);
                self.node
                    .handle(Event::Connected { link, role }, self.now());
            }
            Input::Event(event) => {
                if let Event::Disconnected { link } = event {
                    self.links.remove(&link);
                }
                self.node.handle(event, self.now());
            }
            Input::Snapshot(answer) => {
                // Who asked may have given up.
                let _ = answer.send(self.node.snapshot());
            }
            Input::Drained => {}
            Input::Stop => return true,
        }
        false
    }

    fn perform(&mut self) {
        while let Some(effect) = self.node.next_effect() {
            match effect {
                Effect::Send { link, bytes } => {
                    let Some(peer) = self.links.get(&link) else {
                        continue;
                    };
                    if peer.outbox.try_send(bytes).is_err() {
                        // Its task has ended: the node never has more waiting than there is room for.
                        self.links.remove(&link);
                        self.node.handle(Event::Disconnected { link }, self.now());
                    }
                }
                Effect::Close { link, reason } => {
                    tracing::debug!(link = link.0, ?reason, "link closed");
                    self.links.remove(&link);
                }
                Effect::Note(note) => self.note(note),
            }
        }
    }

    fn note(&self, note: Note) {
        match note {
            Note::Misbehaved { link, misbehaved } => {
                let place = self.links.get(&link).map(|peer| peer.place.as_str());
                tracing::warn!(peer = place, "closed a link: its peer {misbehaved}");
            }
            Note::Refused { name, reason } => tracing::warn!(%name, "refused a chunk: {reason}"),
            Note::RefusedAbove { name, reason } => {
                tracing::warn!(%name, "the parent refused a chunk: {reason}");
            }
            Note::Damaged { name, asked: true } => tracing::error!(
                %name,
                "a stored chunk was damaged: it was dropped, and the parent is asked for it"
            ),
            Note::Damaged { name, asked: false } => tracing::error!(
                %name,
                "a stored chunk was damaged: it was dropped; relays and devices below send it up again \
                 after a restart, or publish a backup with `treeline-dump undump`"
            ),
            Note::Store(error) => tracing::error!("{error}"),
            Note::StoreRecovered => tracing::info!("the store works again"),
            Note::Reach(tier, relay) => {
                tracing::info!(tier = tier.word(), relay, "reach changed");
                self.reach.send_replace((tier, relay));
            }
        }
    }
}
