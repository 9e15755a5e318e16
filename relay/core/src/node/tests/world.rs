//! A few nodes and pretended clients, joined by links that lose nothing. Time stands still until a
//! test moves it.

use std::collections::BTreeMap;

use proto::{
    Chunk, Cursor, Fields, Frame, FrameDecoder, Grant, GrantId, Hello, Limits as GrantLimits, Name,
    Order, Outcome, Path, Pattern, Place, Prefix, PublicKey, Registration, Rule, Signer, Start,
    Tier, Timestamp, Verbs,
};

use super::super::{Closed, Config, Effect, Event, Limits, LinkId, Node, Note, Role};
use crate::store::{MemoryStore, Store as _, StoreId};

pub(super) const START_MS: u64 = 1_800_000_000_000;
const HOUR_MS: u64 = 3_600_000;

/// Where a link of a node ends.
#[derive(Clone, Copy)]
enum End {
    Node(usize, LinkId),
    Client(usize),
}

/// What a client has heard.
pub(super) struct Client {
    node: usize,
    link: LinkId,
    decoder: FrameDecoder,
    pub(super) heard: Vec<Frame>,
    pub(super) closed: Option<Closed>,
    /// A client that reads nothing: its bytes stay on the link.
    pub(super) slow: bool,
    undrained: usize,
    sends: usize,
}

impl Client {
    pub(super) fn chunks(&self) -> Vec<Chunk> {
        let chunks = self.heard.iter().filter_map(|frame| match frame {
            Frame::Chunks { chunks, .. } => Some(chunks.clone()),
            _ => None,
        });
        chunks.flatten().collect()
    }

    pub(super) fn outcomes(&self, name: Name) -> Vec<Outcome> {
        let acks = self.heard.iter().filter_map(|frame| match frame {
            Frame::Ack(acks) => Some(acks.clone()),
            _ => None,
        });
        acks.flatten()
            .filter(|(of, _)| *of == name)
            .map(|(_, outcome)| outcome)
            .collect()
    }

    pub(super) fn cursor(&self) -> Option<Cursor> {
        self.heard.iter().rev().find_map(|frame| match frame {
            Frame::CaughtUp { cursor, .. } => Some(cursor.clone()),
            _ => None,
        })
    }

    pub(super) fn undrained(&self) -> usize {
        self.undrained
    }
}

pub(super) struct World {
    pub(super) nodes: Vec<Node<MemoryStore>>,
    pub(super) clients: Vec<Client>,
    pub(super) notes: Vec<(usize, Note)>,
    /// Every frame that went from one node to another, as (from, to, frame).
    pub(super) between: Vec<(usize, usize, Frame)>,
    ends: BTreeMap<(usize, LinkId), End>,
    decoders: BTreeMap<(usize, LinkId), FrameDecoder>,
    next_link: u64,
    pub(super) now: Timestamp,
    pub(super) origin: Signer,
    pub(super) registration: Registration,
}

impl World {
    pub(super) fn new(tiers: &[Tier]) -> Self {
        Self::with_limits(tiers, &Limits::default())
    }

    pub(super) fn with_limits(tiers: &[Tier], limits: &Limits) -> Self {
        let origin = Signer::from_seed(&[1; 32]);
        let now = Timestamp::from_millis(START_MS);
        let not_after = now.plus_millis(1000 * HOUR_MS);
        let registration = Registration::issue(&origin, 1, [2; 32], not_after).unwrap();
        let node = |(index, tier): (usize, &Tier)| {
            let store = MemoryStore::new(StoreId([index as u8 + 1; 16]));
            let origins = vec![origin.public_key()];
            Node::new(
                Config {
                    tier: *tier,
                    origins,
                    limits: limits.clone(),
                },
                store,
                now,
            )
            .unwrap()
        };
        let nodes = tiers.iter().enumerate().map(node).collect();
        Self {
            nodes,
            clients: Vec::new(),
            notes: Vec::new(),
            between: Vec::new(),
            ends: BTreeMap::new(),
            decoders: BTreeMap::new(),
            next_link: 0,
            now,
            origin,
            registration,
        }
    }

    fn fresh_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId(self.next_link)
    }

    /// Connects a node to its parent.
    pub(super) fn join(&mut self, child: usize, parent: usize) {
        let (up, down) = (self.fresh_link(), self.fresh_link());
        self.ends.insert((child, up), End::Node(parent, down));
        self.ends.insert((parent, down), End::Node(child, up));
        let role = Role::Upstream {
            relay: format!("relay {parent}"),
            key: PublicKey([parent as u8; 32]),
        };
        self.nodes[parent].handle(
            Event::Connected {
                link: down,
                role: Role::Downstream,
            },
            self.now,
        );
        self.nodes[child].handle(Event::Connected { link: up, role }, self.now);
    }

    /// Cuts every link between two nodes.
    pub(super) fn part(&mut self, one: usize, other: usize) {
        let cut: Vec<(usize, LinkId)> = self
            .ends
            .iter()
            .filter(|((node, _), end)| match end {
                End::Node(peer, _) => {
                    (*node, *peer) == (one, other) || (*peer, *node) == (one, other)
                }
                End::Client(_) => false,
            })
            .map(|(key, _)| *key)
            .collect();
        for (node, link) in cut {
            self.ends.remove(&(node, link));
            self.decoders.remove(&(node, link));
            self.nodes[node].handle(Event::Disconnected { link }, self.now);
        }
    }

    /// Ends a node and begins it again over what its store kept. All its links are gone.
    pub(super) fn restart(&mut self, node: usize, crash: bool) {
        for other in 0..self.nodes.len() {
            self.part(node, other);
        }
        self.ends.retain(|(of, _), _| *of != node);
        let config = self.nodes[node].config.clone();
        let placeholder = MemoryStore::new(StoreId([0; 16]));
        let mut store = std::mem::replace(self.nodes[node].store(), placeholder);
        if crash {
            store.crash();
        }
        self.nodes[node] = Node::new(config, store, self.now).unwrap();
    }

    /// Ends a node and begins it again with an empty store.
    pub(super) fn lose_store(&mut self, node: usize, id: u8) {
        self.restart(node, false);
        let config = self.nodes[node].config.clone();
        let store = MemoryStore::new(StoreId([id; 16]));
        self.nodes[node] = Node::new(config, store, self.now).unwrap();
    }

    /// Every name that a node holds under the team.
    pub(super) fn held(&mut self, node: usize) -> Vec<Chunk> {
        let team = self.team();
        self.nodes[node]
            .store()
            .range(team.into(), 1 << 20)
            .unwrap()
    }

    /// A client that has greeted and shown the organisation's grant.
    pub(super) fn client(&mut self, node: usize) -> usize {
        let client = self.stranger(node);
        self.say(client, &hello(self.now, Tier::Device));
        let grant = self.registration.grant.clone();
        self.say(client, &Frame::Grant(vec![grant]));
        client
    }

    /// A parent of the node that says what the test has it say, and claims this store.
    pub(super) fn impostor(&mut self, node: usize, store: [u8; 16]) -> usize {
        let key = PublicKey([99; 32]);
        let relay = "impostor".into();
        let index = self.attach(node, Role::Upstream { relay, key });
        let Frame::Hello(greeting) = hello(self.now, Tier::Origin) else {
            panic!("a HELLO");
        };
        self.say(index, &Frame::Hello(Hello { store, ..greeting }));
        index
    }

    /// A client that has not said a word.
    pub(super) fn stranger(&mut self, node: usize) -> usize {
        self.attach(node, Role::Downstream)
    }

    /// Another device on the local network of one, that has not said a word.
    pub(super) fn neighbour(&mut self, node: usize) -> usize {
        self.attach(node, Role::Neighbour)
    }

    fn attach(&mut self, node: usize, role: Role) -> usize {
        let link = self.fresh_link();
        let index = self.clients.len();
        self.ends.insert((node, link), End::Client(index));
        self.nodes[node].handle(Event::Connected { link, role }, self.now);
        self.clients.push(Client {
            node,
            link,
            decoder: FrameDecoder::default(),
            heard: Vec::new(),
            closed: None,
            slow: false,
            undrained: 0,
            sends: 0,
        });
        index
    }

    pub(super) fn say(&mut self, client: usize, frame: &Frame) {
        let Client { node, link, .. } = self.clients[client];
        self.nodes[node].handle(
            Event::Received {
                link,
                frame: frame.clone(),
            },
            self.now,
        );
    }

    pub(super) fn leave(&mut self, client: usize) {
        let Client { node, link, .. } = self.clients[client];
        self.ends.remove(&(node, link));
        self.nodes[node].handle(Event::Disconnected { link }, self.now);
    }

    pub(super) fn publish(&mut self, client: usize, chunks: &[Chunk]) {
        for part in chunks.chunks(32) {
            self.say(client, &Frame::Publish(part.to_vec()));
        }
    }

    pub(super) fn subscribe(&mut self, client: usize, id: u32, prefix: Prefix, start: Start) {
        let order = Order::OldestFirst;
        self.say(
            client,
            &Frame::Subscribe {
                id,
                prefix,
                start,
                order,
            },
        );
    }

    /// Lets a slow client read what waits for it, and be quick from now on.
    pub(super) fn catch_up(&mut self, client: usize) {
        let Client {
            node,
            link,
            undrained,
            sends,
            ..
        } = self.clients[client];
        self.clients[client].slow = false;
        self.clients[client].undrained = 0;
        self.clients[client].sends = 0;
        self.nodes[node].handle(
            Event::Drained {
                link,
                sends,
                bytes: undrained,
            },
            self.now,
        );
    }

    /// Runs one turn of every node. Returns whether anything happened.
    pub(super) fn turn(&mut self) -> bool {
        let mut busy = false;
        for node in 0..self.nodes.len() {
            if self.nodes[node]
                .next_timeout()
                .is_some_and(|at| at <= self.now)
            {
                self.nodes[node].handle_timeout(self.now);
                busy = true;
            }
            while let Some(effect) = self.nodes[node].next_effect() {
                busy = true;
                self.perform(node, effect);
            }
        }
        busy
    }

    /// Runs until nothing happens any more.
    pub(super) fn settle(&mut self) {
        for _ in 0..100_000 {
            if !self.turn() {
                return;
            }
        }
        panic!("the nodes never come to rest");
    }

    /// Moves time, and runs until nothing happens any more.
    pub(super) fn wait(&mut self, millis: u64) {
        self.now = self.now.plus_millis(millis);
        self.settle();
    }

    fn perform(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Note(note) => self.notes.push((node, note)),
            Effect::Close { link, reason } => match self.ends.remove(&(node, link)) {
                Some(End::Client(client)) => self.clients[client].closed = Some(reason),
                Some(End::Node(peer, other)) => {
                    self.ends.remove(&(peer, other));
                    self.nodes[peer].handle(Event::Disconnected { link: other }, self.now);
                }
                None => {}
            },
            Effect::Send { link, bytes } => match self.ends.get(&(node, link)).copied() {
                Some(End::Client(client)) => {
                    let client = &mut self.clients[client];
                    client.decoder.push(&bytes);
                    while let Some(frame) = client.decoder.next_frame().unwrap() {
                        client.heard.push(frame);
                    }
                    if client.slow {
                        client.undrained += bytes.len();
                        client.sends += 1;
                    } else {
                        let drained = Event::Drained {
                            link,
                            sends: 1,
                            bytes: bytes.len(),
                        };
                        self.nodes[node].handle(drained, self.now);
                    }
                }
                Some(End::Node(peer, other)) => {
                    let decoder = self.decoders.entry((peer, other)).or_default();
                    decoder.push(&bytes);
                    let frames: Vec<Frame> =
                        std::iter::from_fn(|| decoder.next_frame().unwrap()).collect();
                    for frame in frames {
                        self.between.push((node, peer, frame.clone()));
                        self.nodes[peer].handle(Event::Received { link: other, frame }, self.now);
                    }
                    let drained = Event::Drained {
                        link,
                        sends: 1,
                        bytes: bytes.len(),
                    };
                    self.nodes[node].handle(drained, self.now);
                }
                None => {}
            },
        }
    }

    pub(super) fn place(&self) -> Place {
        Place {
            origin: self.origin.public_key().origin_id(),
            org: 1,
            team: 2,
        }
    }

    pub(super) fn name(&self, channel: u16, number: u32) -> Name {
        Name::new(
            self.place(),
            Fields::Message {
                channel,
                device: 3,
                number,
            },
        )
    }

    pub(super) fn team(&self) -> Prefix {
        Name::team_prefix(self.place(), Path::Message)
    }

    pub(super) fn channel(&self, channel: u16) -> Prefix {
        Prefix::of(self.name(channel, 0), Name::TEAM_BITS + 10)
    }

    pub(super) fn founder(&self) -> Signer {
        Signer::from_seed(&self.registration.seed)
    }

    pub(super) fn chunk(&self, channel: u16, number: u32) -> Chunk {
        let expiry = self.now.plus_millis(HOUR_MS);
        let grant = GrantId::of(&self.registration.grant);
        let data = [number as u8; 800];
        Chunk::sign(
            self.name(channel, number),
            expiry,
            grant,
            &data,
            &self.founder(),
        )
        .unwrap()
    }

    pub(super) fn chunks(&self, numbers: std::ops::Range<u32>) -> Vec<Chunk> {
        numbers.map(|number| self.chunk(1, number)).collect()
    }

    /// A device's grant below the organisation's, and its key.
    pub(super) fn device(&self, device: u32) -> (Chunk, Signer) {
        let key = Signer::from_seed(&[device as u8 + 100; 32]);
        let pattern = Pattern::of_device(self.place(), Path::Message, device);
        let grant = Grant {
            subject: key.public_key(),
            not_after: self.now.plus_millis(100 * HOUR_MS),
            limits: GrantLimits {
                life_ms: 10 * HOUR_MS,
                ..GrantLimits::default()
            },
            rules: vec![Rule {
                verbs: Verbs::PUBLISH.and(Verbs::SUBSCRIBE),
                pattern,
            }],
        };
        let parent = GrantId::of(&self.registration.grant);
        (
            grant
                .sign(self.place(), device, parent, &self.founder())
                .unwrap(),
            key,
        )
    }
}

pub(super) fn hello(now: Timestamp, tier: Tier) -> Frame {
    Frame::Hello(Hello {
        oldest: 1,
        newest: 1,
        features: 0,
        tier,
        time: now,
        store: [0; 16],
    })
}
