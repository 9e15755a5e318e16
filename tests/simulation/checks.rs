//! The checks: what each frame and each disk must be like at any time, and what must be true when
//! everything is well again.

use proto::{Chunk, Frame, Name, Outcome};

use crate::cast::{CAST, LONG_LIFE_MS, START_MS};
use crate::model::{Promise, Violation};
use crate::plan::Kind;
use crate::wires::End;
use crate::world::World;

impl World {
    pub fn violated(&mut self, promise: Promise, text: String) {
        let at_ms = self.now;
        self.model.violation.get_or_insert(Violation {
            promise,
            at_ms,
            text,
        });
    }

    pub fn is_host(&self, end: End) -> bool {
        matches!(end, End::Host(..))
    }

    pub fn is_honest(&self, end: End) -> bool {
        match end {
            End::Host(host, _) => self.hosts[host].honest,
            End::Client(client) => self.clients[client].kind == Kind::Member,
        }
    }

    /// Whether a name's chunk outlives the run by every clock.
    pub fn is_long(&self, name: Name) -> bool {
        let chunks = self.model.valid.get(&name);
        chunks.is_some_and(|chunks| chunks.iter().all(outlives))
    }

    /// A frame that an honest node sends.
    pub fn check_sent(&mut self, host: usize, (wire, to): (usize, usize), frame: &Frame) {
        let clock = self.clock(host);
        match frame {
            Frame::Ack(acks) => {
                for (name, outcome) in acks {
                    if let Outcome::Stored(tier) = outcome {
                        self.check_acknowledged(host, *name, *tier == self.hosts[host].tier);
                    }
                }
            }
            Frame::Chunks { chunks, .. } => {
                for chunk in chunks {
                    let name = chunk.name();
                    if chunk.expiry() <= clock {
                        self.violated(Promise::Expired, format!("host {host} served {name}"));
                    }
                    if !self.model.is_valid(chunk) {
                        self.violated(
                            Promise::P4OwnNames,
                            format!("host {host} served a junk {name}"),
                        );
                    }
                }
            }
            Frame::Subscribe { id, prefix, .. } if to == 1 => {
                let interest = &mut self.wires[wire].interest;
                let covered = interest.values().any(|own| own.covers(*prefix));
                interest.insert(*id, *prefix);
                if covered {
                    self.violated(
                        Promise::InterestOnce,
                        format!("host {host} asked again for {prefix}"),
                    );
                }
            }
            Frame::Unsubscribe { id } if to == 1 => {
                self.wires[wire].interest.remove(id);
            }
            _ => {}
        }
    }

    fn check_acknowledged(&mut self, host: usize, name: Name, here: bool) {
        if !self.model.lied.contains(&name) {
            self.model.promised.insert(name);
        }
        let own = &mut self.hosts[host];
        if here && !own.disk().is_some_and(|disk| disk.holds(name)) && self.is_long(name) {
            self.violated(
                Promise::P1OnDisk,
                format!("host {host} acknowledged {name} before it had it"),
            );
        }
        self.hosts[host].acked.insert(name);
    }

    /// Looks through a disk.
    pub fn audit(&mut self, host: usize) {
        if !self.hosts[host].honest {
            return;
        }
        let Some(disk) = self.hosts[host].disk() else {
            return;
        };
        for chunk in disk.all(CAST.team()) {
            let name = chunk.name();
            if !self.model.is_valid(&chunk) {
                self.violated(
                    Promise::P4OwnNames,
                    format!("host {host} holds a junk {name}"),
                );
            }
            let seen = self.hosts[host]
                .seen
                .entry(name)
                .or_insert_with(|| chunk.clone());
            if *seen != chunk && outlives(seen) {
                self.violated(
                    Promise::P2TrueBytes,
                    format!("{name} has changed at host {host}"),
                );
            }
        }
        for name in self.hosts[host].acked.clone() {
            let held = self.hosts[host].disk().is_some_and(|disk| disk.holds(name));
            if !held && self.is_long(name) {
                self.violated(Promise::P1OnDisk, format!("host {host} has lost {name}"));
            }
        }
    }

    /// The topmost node that a host is connected to, through honest ones.
    pub fn root(&self, host: usize) -> Option<usize> {
        let own = &self.hosts[host];
        own.node.as_ref().filter(|_| own.honest)?;
        match own.parent {
            Some((parent, wire))
                if self.wires[wire].alive == [true; 2] && !self.wires[wire].cut =>
            {
                self.root(parent)
            }
            _ => Some(host),
        }
    }

    /// P3: those who are connected have what was published among them while they were alone.
    pub fn check_islands(&mut self, roots: &[Option<usize>]) {
        for (author, name) in self.model.probes.clone() {
            for reader in 0..self.clients.len() {
                let own = &self.clients[reader];
                let from = self.clients[author].host;
                let together = roots[from].is_some()
                    && roots[from] == roots[own.host]
                    && self.root(from) == roots[from]
                    && self.root(own.host) == roots[own.host];
                if together
                    && own.kind == Kind::Member
                    && self.is_long(name)
                    && own.wants(name)
                    && !own.got.contains_key(&name)
                    && !self.model.is_disputed(name)
                {
                    let text = format!("client {reader} has not got {name} from client {author}");
                    return self.violated(Promise::P3LanAlone, text);
                }
            }
        }
    }

    /// After the heal: everything is where it was promised to be.
    pub fn check_healed(&mut self) {
        for client in 0..self.clients.len() {
            if self.clients[client].kind != Kind::Member {
                continue;
            }
            for name in self.clients[client]
                .outbox
                .keys()
                .copied()
                .collect::<Vec<_>>()
            {
                if self.is_long(name) && !self.model.is_disputed(name) {
                    let text = format!("client {client} waits for an answer to {name}");
                    self.violated(Promise::P1Told, text);
                }
            }
            let names: Vec<Name> = self.model.promised.iter().copied().collect();
            for name in names {
                let own = &self.clients[client];
                let missing = own.wants(name) && !own.got.contains_key(&name);
                if missing && self.is_long(name) && !self.model.lied.contains(&name) {
                    let text = format!("client {client} at host {} lacks {name}", own.host);
                    self.violated(Promise::P2Delivered, text);
                }
            }
            if !self.clients[client].fetches.is_empty() {
                self.violated(
                    Promise::P10Gaps,
                    format!("client {client} waits for a fetch"),
                );
            }
        }
        for host in 0..self.hosts.len() {
            self.audit(host);
        }
    }

    /// P10: what is asked for by name comes, wherever it is.
    pub fn check_fetched(&mut self, asked: &[(usize, Name)]) {
        for (client, name) in asked {
            if !self.clients[*client].got.contains_key(name) {
                let text = format!("client {client} did not get {name}, which it fetched");
                return self.violated(Promise::P10Gaps, text);
            }
        }
    }
}

/// Whether a chunk outlives the run by every clock: others may come back when a clock is set back.
pub fn outlives(chunk: &Chunk) -> bool {
    chunk.expiry().millis() >= START_MS + LONG_LIFE_MS
}
