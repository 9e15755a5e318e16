//! Those who publish and subscribe, in the place of Secure: an outbox that lasts until it is
//! acknowledged, what was received, and where to resume.

use std::collections::{BTreeMap, BTreeSet};

use proto::{
    Chunk, Cursor, Frame, Hello, Name, Order, Outcome, Prefix, Refused, Start, Tier, limits,
};
use relay_core::{Event, LinkId, Role};

use crate::cast::{CAST, LONG_LIFE_MS};
use crate::model::Promise;
use crate::plan::Kind;
use crate::wires::End;
use crate::world::{What, World};

/// A chunk that waits for its acknowledgement.
pub struct Outgoing {
    pub chunk: Chunk,
    /// When to send it again, if it was refused for now.
    again_at: Option<u64>,
}

pub struct Subscription {
    pub prefix: Prefix,
    order: Order,
    cursor: Option<Cursor>,
    /// What came before the cursor.
    settled: BTreeSet<Name>,
    /// What came on this link.
    came: BTreeSet<Name>,
    /// What came before the last mark on this link, and need not come again.
    since_mark: Vec<Name>,
}

pub struct Client {
    pub host: usize,
    pub device: usize,
    pub kind: Kind,
    pub trusting: bool,
    pub wire: Option<usize>,
    pub slow: bool,
    pub outbox: BTreeMap<Name, Outgoing>,
    pub told: BTreeMap<Name, Tier>,
    pub next: Vec<u32>,
    pub subscriptions: BTreeMap<u32, Subscription>,
    pub fetches: BTreeMap<u32, Vec<Name>>,
    pub got: BTreeMap<Name, Chunk>,
    pub rounds: u32,
    next_id: u32,
}

impl Client {
    pub fn new(plan: &crate::plan::ClientPlan, rounds: u32, channels: u16) -> Self {
        Self {
            host: plan.host,
            device: plan.device,
            kind: plan.kind,
            trusting: plan.trusting,
            wire: None,
            slow: false,
            outbox: BTreeMap::new(),
            told: BTreeMap::new(),
            next: vec![0; channels.into()],
            subscriptions: BTreeMap::new(),
            fetches: BTreeMap::new(),
            got: BTreeMap::new(),
            rounds,
            next_id: 0,
        }
    }

    pub fn fresh_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    pub fn wants(&self, name: Name) -> bool {
        self.subscriptions
            .values()
            .any(|own| own.prefix.contains(name))
    }
}

impl World {
    pub fn say(&mut self, client: usize, frame: &Frame) {
        if let Some(wire) = self.clients[client].wire {
            self.last_traffic = self.now;
            self.story(|| format!("client {client} says {}", crate::hosts::brief(frame)));
            self.transmit(wire, 1, frame.to_bytes());
        }
    }

    /// Connects, and does what is due.
    pub fn client_tick(&mut self, client: usize) {
        let at = self.now + self.chance.between(500, 3_000);
        self.schedule(at, What::ClientTick(client));
        let own = &self.clients[client];
        if own.wire.is_none() && self.hosts[own.host].node.is_some() {
            self.client_connect(client);
        }
        let now = self.now;
        let mut due = Vec::new();
        for own in self.clients[client].outbox.values_mut() {
            if own.again_at.is_some_and(|at| at <= now) {
                own.again_at = None;
                due.push(own.chunk.clone());
            }
        }
        self.send_chunks(client, &due);
    }

    fn client_connect(&mut self, client: usize) {
        self.next_link += 1;
        let link = LinkId(self.next_link);
        let host = self.clients[client].host;
        let wire = self.add_wire([End::Client(client), End::Host(host, link)], 1);
        self.clients[client].wire = Some(wire);
        self.hosts[host].links.insert(link, (wire, 1));
        self.tell(
            host,
            Event::Connected {
                link,
                role: Role::Downstream,
            },
        );
        let hello = Hello {
            oldest: 1,
            newest: 1,
            features: 0,
            tier: Tier::Device,
            time: self.clock(host),
            store: [0; 16],
        };
        self.say(client, &Frame::Hello(hello));
        self.show_grant(client);
        let ids: Vec<u32> = self.clients[client].subscriptions.keys().copied().collect();
        for id in ids {
            self.ask(client, id);
        }
        let waiting: Vec<Chunk> = self.clients[client]
            .outbox
            .values()
            .map(|own| own.chunk.clone())
            .collect();
        self.send_chunks(client, &waiting);
    }

    fn show_grant(&mut self, client: usize) {
        let device = self.clients[client].device;
        self.say(client, &Frame::Grant(CAST.devices[device].chain.clone()));
    }

    pub fn send_chunks(&mut self, client: usize, chunks: &[Chunk]) {
        for part in chunks.chunks(limits::CHUNKS_PER_FRAME) {
            self.say(client, &Frame::Publish(part.to_vec()));
        }
    }

    /// Subscribes, from where the last mark stands.
    fn ask(&mut self, client: usize, id: u32) {
        let Some(own) = self.clients[client].subscriptions.get(&id) else {
            return;
        };
        let start = own.cursor.clone().map_or(Start::All, Start::After);
        let frame = Frame::Subscribe {
            id,
            prefix: own.prefix,
            start,
            order: own.order,
        };
        self.say(client, &frame);
    }

    pub fn subscribe(&mut self, client: usize, prefix: Prefix) {
        let newest = self.chance.one_in(4);
        let order = if newest {
            Order::NewestFirst
        } else {
            Order::OldestFirst
        };
        let own = &mut self.clients[client];
        let id = own.fresh_id();
        let subscription = Subscription {
            prefix,
            order,
            cursor: None,
            settled: BTreeSet::new(),
            came: BTreeSet::new(),
            since_mark: Vec::new(),
        };
        own.subscriptions.insert(id, subscription);
        self.ask(client, id);
    }

    /// The link is gone, as far as the client knows.
    pub fn client_lost(&mut self, client: usize) {
        let own = &mut self.clients[client];
        own.wire = None;
        own.fetches.clear();
        for subscription in own.subscriptions.values_mut() {
            subscription.came.clear();
            subscription.since_mark.clear();
        }
    }

    pub fn client_hears(&mut self, client: usize, frame: Frame) {
        match frame {
            Frame::Ack(acks) => {
                for (name, outcome) in acks {
                    self.client_told(client, name, outcome);
                }
            }
            Frame::Chunks { id, chunks } => {
                for chunk in chunks {
                    self.client_gets(client, id, chunk);
                }
            }
            Frame::CaughtUp { id, cursor, live } => self.client_marks(client, id, cursor, live),
            _ => {}
        }
    }

    fn client_told(&mut self, client: usize, name: Name, outcome: Outcome) {
        let again_at = self.now + self.chance.between(1_000, 4_000);
        let kind = self.clients[client].kind;
        let lied = self.model.lied.contains(&name);
        let disputed = self.model.is_disputed(name);
        let own = &mut self.clients[client];
        match outcome {
            Outcome::Stored(tier) => {
                let told = own.told.entry(name).or_insert(tier);
                *told = (*told).max(tier);
                if own.trusting || tier == Tier::Origin {
                    own.outbox.remove(&name);
                }
            }
            Outcome::Refused(reason) if reason.is_temporary() => {
                if let Some(waiting) = own.outbox.get_mut(&name) {
                    waiting.again_at = Some(again_at);
                }
                if reason == Refused::NoGrant && kind != Kind::Squatter {
                    self.show_grant(client);
                }
            }
            Outcome::Refused(reason) => {
                let mine = own.outbox.remove(&name).is_some();
                let long = self.is_long(name);
                if mine && kind == Kind::Member && long && !lied && !disputed {
                    self.violated(
                        Promise::P4OwnNames,
                        format!("an owner's {name} was refused: {reason}"),
                    );
                }
            }
        }
    }

    fn client_gets(&mut self, client: usize, id: u32, chunk: Chunk) {
        let name = chunk.name();
        self.tally.deliveries += 1;
        if !self.model.is_valid(&chunk) {
            return self.violated(
                Promise::P2TrueBytes,
                format!("client {client} got a wrong {name}"),
            );
        }
        let long = self.is_long(name);
        let own = &mut self.clients[client];
        if let Some(known) = own.got.get(&name)
            && *known != chunk
            && crate::checks::outlives(known)
        {
            return self.violated(
                Promise::P2TrueBytes,
                format!("{name} has changed for client {client}"),
            );
        }
        let mut again = false;
        if let Some(subscription) = own.subscriptions.get_mut(&id) {
            again = subscription.settled.contains(&name) || !subscription.came.insert(name);
            subscription.since_mark.push(name);
        } else if !own.fetches.contains_key(&id) {
            return; // Under way when the subscription ended.
        }
        own.got.insert(name, chunk);
        if again && long {
            self.violated(Promise::P2Once, format!("client {client} got {name} twice"));
        }
    }

    fn client_marks(&mut self, client: usize, id: u32, cursor: Cursor, live: bool) {
        let takes = !self.chance.one_in(3);
        let own = &mut self.clients[client];
        if own.fetches.remove(&id).is_some() {
            return;
        }
        let Some(subscription) = own.subscriptions.get_mut(&id) else {
            return;
        };
        if takes && (live || subscription.order == Order::OldestFirst) {
            subscription.cursor = Some(cursor);
            subscription
                .settled
                .extend(subscription.since_mark.drain(..));
            // From now on it continues: the backlog that comes newest first has come.
            subscription.order = Order::OldestFirst;
        }
    }

    /// Publishes something, or does something else that a client does.
    pub fn act(&mut self, client: usize) {
        if self.clients[client].rounds == 0 {
            return;
        }
        self.clients[client].rounds -= 1;
        let at = self.now + self.chance.between(500, self.plan.storm_ms / 4);
        self.schedule(at, What::Act(client));
        if self.clients[client].kind == Kind::Squatter {
            return self.squat(client);
        }
        match self.chance.below(8) {
            0 => self.publish_again(client),
            1 => self.fetch_some(client),
            2 => {
                let id = self.clients[client].subscriptions.keys().next().copied();
                if let Some(id) = id {
                    let old = self.clients[client].subscriptions.remove(&id);
                    self.say(client, &Frame::Unsubscribe { id });
                    let prefix = old.map_or(CAST.team(), |old| old.prefix);
                    self.subscribe(client, prefix);
                }
            }
            _ => {}
        }
        self.publish_new(client);
    }

    pub fn publish_new(&mut self, client: usize) -> Vec<Name> {
        let count = self.chance.between(1, if self.plan.large { 12 } else { 3 });
        let channel = self.chance.index(self.clients[client].next.len());
        let device = self.clients[client].device;
        let mut chunks = Vec::new();
        for _ in 0..count {
            let number = self.clients[client].next[channel];
            self.clients[client].next[channel] += 1;
            let name = CAST.name(device, channel as u16, number);
            let short = self.plan.short_lives && self.chance.one_in(4);
            let life = if short {
                self.chance.between(1_000, 60_000)
            } else {
                LONG_LIFE_MS
            };
            let expiry = if short { self.now + life } else { life };
            let length = if self.plan.large {
                self.chance.index(1025)
            } else {
                8
            };
            let data = [&[client as u8; 8][..], &vec![number as u8; length]].concat();
            let chunk = CAST.chunk(device, name, expiry, &data[..length.clamp(8, 1024)]);
            self.model.sign(&chunk);
            self.tally.chunks += 1;
            let outgoing = Outgoing {
                chunk: chunk.clone(),
                again_at: None,
            };
            self.clients[client].outbox.insert(name, outgoing);
            chunks.push(chunk);
        }
        self.send_chunks(client, &chunks);
        chunks.iter().map(Chunk::name).collect()
    }

    /// Publishes again what is known: its own, or what others have signed.
    fn publish_again(&mut self, client: usize) {
        let known: Vec<Chunk> = self.clients[client].got.values().cloned().collect();
        if !known.is_empty() {
            let chunk = known[self.chance.index(known.len())].clone();
            let owner = CAST
                .devices
                .iter()
                .find(|device| device.grant == chunk.grant());
            if let Some(owner) = owner {
                self.say(client, &Frame::Grant(owner.chain.clone()));
            }
            self.tally.duplicates += 1;
            self.send_chunks(client, &[chunk.clone(), chunk]);
        }
    }

    fn fetch_some(&mut self, client: usize) {
        let all: Vec<Name> = self.model.valid.keys().copied().collect();
        let mut names = Vec::new();
        for _ in 0..self.chance.between(1, 6).min(all.len() as u64) {
            names.push(self.chance.pick(&all));
        }
        names.push(CAST.name(0, 0, 0xf_ffff));
        self.fetch(client, names);
    }

    pub fn fetch(&mut self, client: usize, names: Vec<Name>) {
        if self.clients[client].wire.is_some() {
            let id = self.clients[client].fresh_id();
            self.clients[client].fetches.insert(id, names.clone());
            self.say(client, &Frame::Fetch { id, names });
        }
    }
}
