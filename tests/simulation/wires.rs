//! Links of a simulated world: reliable ordered byte streams both ways, as QUIC and pipes are. What
//! can be lost is the link, with what was under way; each end learns of that in its own time.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use proto::{FrameDecoder, Prefix};
use relay_core::{Event, LinkId};

use crate::model::Promise;
use crate::mutant::Mutant;
use crate::world::{What, World};

/// Who is at one end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Host(usize, LinkId),
    Client(usize),
}

/// The bytes that go to one end.
#[derive(Default)]
pub struct Way {
    flying: VecDeque<Bytes>,
    last_at: u64,
    /// Here, and not read.
    arrived: BytesMut,
    /// Sends that are not read to their end, as bytes left.
    sends: VecDeque<usize>,
    bytes: usize,
    /// Nothing comes after what is there.
    finished: bool,
    pub decoder: FrameDecoder,
}

/// A link. Side 0 is who connected, side 1 who was connected to.
pub struct Wire {
    pub ends: [End; 2],
    /// Whether each end still thinks that there is a link.
    pub alive: [bool; 2],
    /// Whatever is sent now gets lost.
    pub cut: bool,
    ways: [Way; 2],
    delay_ms: u64,
    /// Live subscriptions, as side 0 has asked for them.
    pub interest: std::collections::BTreeMap<u32, Prefix>,
}

impl World {
    pub fn add_wire(&mut self, ends: [End; 2], delay_ms: u64) -> usize {
        self.wires.push(Wire {
            ends,
            alive: [true; 2],
            cut: false,
            ways: Default::default(),
            delay_ms,
            interest: Default::default(),
        });
        self.wires.len() - 1
    }

    /// Sends bytes to one end of a link.
    pub fn transmit(&mut self, wire: usize, to: usize, bytes: Bytes) {
        let now = self.now;
        let jitter = self.chance.below(self.wires[wire].delay_ms + 1);
        let link = &mut self.wires[wire];
        if link.cut || !link.alive[to] {
            return;
        }
        let at = link.ways[to].last_at.max(now + link.delay_ms + jitter);
        let way = &mut link.ways[to];
        way.last_at = at;
        let sent = bytes.len();
        way.sends.push_back(sent);
        way.bytes += bytes.len();
        way.flying.push_back(bytes);
        self.schedule(at, What::Arrive { wire, to });
        if let End::Host(host, link) = self.wires[wire].ends[1 - to] {
            let way = &self.wires[wire].ways[to];
            let limits = &self.hosts[host].limits;
            // A node's last word to a peer that it cuts off may come on top.
            let (bytes, sends) = (limits.outstanding_bytes + 512, limits.outstanding_sends + 1);
            if self.hosts[host].honest && (way.bytes > bytes || way.sends.len() > sends) {
                let text = format!("{} bytes wait on a link of host {host}", way.bytes);
                self.violated(Promise::P9Bounded, text);
            }
            if self.mutant == Some(Mutant::SlowReaderUnbounded) {
                self.schedule(
                    now,
                    What::Forget {
                        host,
                        link,
                        bytes: sent,
                    },
                );
            }
        }
    }

    pub fn arrive(&mut self, wire: usize, to: usize) {
        let way = &mut self.wires[wire].ways[to];
        if let Some(bytes) = way.flying.pop_front() {
            way.arrived.extend_from_slice(&bytes);
        }
        self.read(wire, to);
    }

    /// Reads some of what is there, cut wherever it happens to be.
    pub fn read(&mut self, wire: usize, to: usize) {
        let link = &mut self.wires[wire];
        if link.cut || !link.alive[to] {
            return;
        }
        if let End::Client(client) = link.ends[to]
            && self.clients[client].slow
        {
            return;
        }
        let way = &mut link.ways[to];
        if way.arrived.is_empty() {
            if way.finished && way.flying.is_empty() {
                self.gone(wire, to);
            }
            return;
        }
        let all = way.arrived.len();
        let part = if self.chance.one_in(4) {
            1 + self.chance.index(all)
        } else {
            all
        };
        let piece = way.arrived.split_to(part);
        let sends = way.take_read(part);
        if part < all || way.finished {
            let at = self.now + self.chance.below(8);
            self.schedule(at, What::Read { wire, to });
        }
        if let End::Host(host, link) = self.wires[wire].ends[1 - to]
            && self.wires[wire].alive[1 - to]
            && self.mutant != Some(Mutant::SlowReaderUnbounded)
        {
            self.tell(
                host,
                Event::Drained {
                    link,
                    sends,
                    bytes: part,
                },
            );
        }
        self.feed(wire, to, &piece);
    }

    fn feed(&mut self, wire: usize, to: usize, piece: &[u8]) {
        self.wires[wire].ways[to].decoder.push(piece);
        while self.wires[wire].alive[to] && !self.wires[wire].cut {
            let frame = match self.wires[wire].ways[to].decoder.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(misbehaved) => {
                    return self
                        .violated(Promise::Civil, format!("a link was garbled: {misbehaved}"));
                }
            };
            match self.wires[wire].ends[to] {
                End::Host(host, link) => self.host_hears(host, link, (wire, to), frame),
                End::Client(client) => self.client_hears(client, frame),
            }
        }
    }

    /// The link is lost, with what is under way; both ends notice later.
    pub fn cut(&mut self, wire: usize) {
        if self.wires[wire].cut {
            return;
        }
        self.wires[wire].cut = true;
        for to in 0..2 {
            let at = self.now + self.chance.below(8_000);
            self.schedule(at, What::Gone { wire, to });
        }
    }

    /// One end has closed: the other reads what was sent before, then notices.
    pub fn finish(&mut self, wire: usize, from: usize) {
        self.wires[wire].alive[from] = false;
        let way = &mut self.wires[wire].ways[1 - from];
        way.finished = true;
        let at = way.last_at.max(self.now);
        self.schedule(at, What::Read { wire, to: 1 - from });
    }

    /// An end notices that the link is gone.
    pub fn gone(&mut self, wire: usize, to: usize) {
        if !std::mem::replace(&mut self.wires[wire].alive[to], false) {
            return;
        }
        match self.wires[wire].ends[to] {
            End::Host(host, link) => {
                self.hosts[host].links.remove(&link);
                self.tell(host, Event::Disconnected { link });
            }
            End::Client(client) => self.client_lost(client),
        }
    }
}

impl Way {
    /// Accounts for bytes that were read, and says how many sends that ended.
    fn take_read(&mut self, mut bytes: usize) -> usize {
        self.bytes -= bytes;
        let mut done = 0;
        while let Some(first) = self.sends.front_mut() {
            if *first > bytes {
                *first -= bytes;
                break;
            }
            bytes -= *first;
            self.sends.pop_front();
            done += 1;
        }
        done
    }
}
