//! The hosts: a shell around each node that keeps its clock, its disk, its links and its choice of a
//! parent, crashes and comes back. Each node is the real one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::{Chunk, Frame, FrameDecoder, Name, PublicKey, Tier, Timestamp};
use relay_core::{Config, Effect, Event, Limits, LinkId, Node, Note, Role};

use crate::cast::{CAST, START_MS};
use crate::disk::{Cut, Disk};
use crate::model::Promise;
use crate::mutant::Mutant;
use crate::wires::End;
use crate::world::{What, World};

pub struct Host {
    pub tier: Tier,
    pub site: usize,
    pub half: bool,
    pub honest: bool,
    pub parents: Vec<usize>,
    pub limits: Limits,
    pub skew_ms: i64,
    /// Gone for good.
    pub dead: bool,
    pub node: Option<Node<Disk>>,
    /// While the node is down.
    pub disk: Option<Disk>,
    pub wake: Option<u64>,
    pub links: BTreeMap<LinkId, (usize, usize)>,
    /// The parent, and the link to it.
    pub parent: Option<(usize, usize)>,
    /// How often it has connected to a parent.
    pub joined: u32,
    /// What it has acknowledged as being on its disk.
    pub acked: BTreeSet<Name>,
    /// What was ever seen on its disk.
    pub seen: BTreeMap<Name, Chunk>,
    /// Goes dark after so many effects.
    pub effects_left: Option<u32>,
}

impl Host {
    pub fn disk(&mut self) -> Option<&mut Disk> {
        match &mut self.node {
            Some(node) => Some(node.store()),
            None => self.disk.as_mut(),
        }
    }
}

impl World {
    /// What a host's clock shows.
    pub fn clock(&self, host: usize) -> Timestamp {
        let now = (START_MS + self.now).cast_signed() + self.hosts[host].skew_ms;
        Timestamp::from_millis(now.cast_unsigned())
    }

    pub fn start(&mut self, host: usize) {
        let clock = self.clock(host);
        let own = &mut self.hosts[host];
        if own.node.is_some() || own.dead {
            return;
        }
        let origins: Vec<PublicKey> = vec![CAST.origin.public_key()];
        let config = Config {
            tier: own.tier,
            origins,
            limits: own.limits.clone(),
        };
        let Some(mut disk) = own.disk.take() else {
            return;
        };
        self.story(|| format!("host {host} starts"));
        let own = &mut self.hosts[host];
        if disk.failing {
            own.disk = Some(disk);
            let at = self.now + 1_000;
            return self.schedule(at, What::Start(host));
        }
        disk.restart();
        match Node::new(config, disk, clock) {
            Ok(node) => own.node = Some(node),
            Err(error) => return self.violated(Promise::P1OnDisk, format!("no start: {error}")),
        }
        self.audit(host);
        self.plan_wake(host);
    }

    /// The power goes: only what was committed stays.
    pub fn crash(&mut self, host: usize) {
        let own = &mut self.hosts[host];
        let Some(node) = own.node.take() else { return };
        self.story(|| format!("host {host} goes dark"));
        let own = &mut self.hosts[host];
        own.disk = Some(node.into_store());
        (own.wake, own.effects_left, own.parent) = (None, None, None);
        for (wire, side) in std::mem::take(&mut self.hosts[host].links).into_values() {
            if self.wires[wire].alive[side] {
                if self.chance.one_in(2) {
                    self.finish(wire, side);
                } else {
                    self.wires[wire].alive[side] = false;
                    self.cut(wire);
                }
            }
        }
        let at = self.now + self.chance.below(10_000);
        self.schedule(at, What::Start(host));
    }

    pub fn tell(&mut self, host: usize, event: Event) {
        let clock = self.clock(host);
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.handle(event, clock);
            self.perform(host);
        }
    }

    pub fn wake(&mut self, host: usize) {
        let clock = self.clock(host);
        if let Some(node) = self.hosts[host].node.as_mut() {
            node.handle_timeout(clock);
            self.perform(host);
        }
    }

    pub fn plan_wake(&mut self, host: usize) {
        let pause = self.chance.below(3);
        let clock = self.clock(host);
        let now = self.now;
        let own = &mut self.hosts[host];
        own.wake = own
            .node
            .as_ref()
            .and_then(Node::next_timeout)
            .map(|at| match at.since(clock) {
                0 => now + pause,
                wait => now + wait,
            });
    }

    fn perform(&mut self, host: usize) {
        loop {
            let own = &mut self.hosts[host];
            let dark = own.disk().is_some_and(|disk| disk.dark) || own.effects_left == Some(0);
            if dark {
                return self.crash(host);
            }
            let Some(node) = own.node.as_mut() else {
                return;
            };
            let Some(effect) = node.next_effect() else {
                break;
            };
            if let Some(left) = own.effects_left.as_mut() {
                *left -= 1;
            }
            match effect {
                Effect::Send { link, bytes } => self.emit(host, link, &bytes),
                Effect::Close { link, reason } => {
                    if let Some((wire, side)) = self.hosts[host].links.remove(&link) {
                        self.trace(&[wire as u64, reason_number(reason)]);
                        self.finish(wire, side);
                    }
                }
                Effect::Note(note) => self.note(host, &note),
            }
        }
        self.plan_wake(host);
    }

    fn note(&mut self, host: usize, note: &Note) {
        if let Note::Misbehaved { link, misbehaved } = note
            && let Some((wire, side)) = self.hosts[host].links.get(link).copied()
            && self.hosts[host].honest
            && let peer = self.wires[wire].ends[1 - side]
            && self.is_honest(peer)
            && (*misbehaved != proto::Misbehaved::OverLimit || !self.is_host(peer))
        {
            self.violated(
                Promise::Civil,
                format!("host {host} says that a peer {misbehaved}"),
            );
        }
    }

    /// Hands a node a frame, after what a hostile relay or a planted fault makes of it.
    pub fn host_hears(
        &mut self,
        host: usize,
        link: LinkId,
        (wire, to): (usize, usize),
        frame: Frame,
    ) {
        let frame = match (self.mutant, frame) {
            (Some(Mutant::GrantUnchecked), Frame::Publish(chunks)) => {
                self.put_unchecked(host, &chunks);
                Frame::Publish(chunks)
            }
            (Some(Mutant::ConflictOverwrites), Frame::Publish(chunks)) => {
                self.put_over(host, &chunks);
                Frame::Publish(chunks)
            }
            (Some(Mutant::ForeignCursorTrusted), frame) => self.trust_cursor(host, frame),
            (_, frame) => frame,
        };
        if !self.hosts[host].honest
            && let Frame::Publish(chunks) = &frame
            && self.chance.one_in(2)
        {
            return self.lie(wire, to, chunks);
        }
        self.tell(host, Event::Received { link, frame });
    }

    fn emit(&mut self, host: usize, link: LinkId, bytes: &Bytes) {
        let Some((wire, side)) = self.hosts[host].links.get(&link).copied() else {
            return;
        };
        let mut decoder = FrameDecoder::default();
        decoder.push(bytes);
        let mut frames = Vec::new();
        while let Ok(Some(frame)) = decoder.next_frame() {
            frames.push(frame);
        }
        let to = 1 - side;
        let mut bytes = bytes.clone();
        if self.spoil(host, (wire, to), &mut frames) {
            let mut out = Vec::new();
            frames.iter().for_each(|frame| frame.encode(&mut out));
            bytes = out.into();
        }
        if self.hosts[host].honest {
            for frame in &frames {
                self.check_sent(host, (wire, to), frame);
            }
        }
        self.tell_frames(host, (wire, to), &frames);
        self.trace(&[self.now, wire as u64, to as u64]);
        self.trace_bytes(&bytes);
        self.last_traffic = self.now;
        if !bytes.is_empty() {
            self.transmit(wire, to, bytes);
        }
    }

    fn tell_frames(&self, host: usize, (wire, to): (usize, usize), frames: &[Frame]) {
        let peer = self.wires[wire].ends[to];
        frames.iter().for_each(|frame| {
            self.story(|| format!("host {host} -> {peer:?} by wire {wire}: {}", brief(frame)));
        });
    }

    /// Looks for a better parent, as a shell does.
    pub fn maintain(&mut self, host: usize) {
        let at = self.now + self.chance.between(500, 2_000);
        self.schedule(at, What::Maintain(host));
        let own = &self.hosts[host];
        if own.node.is_none() {
            return;
        }
        if self.mutant == Some(Mutant::NeverQuiet) {
            self.chatter(host);
        }
        let own = &self.hosts[host];
        let current = own.parent.filter(|(_, wire)| self.wires[*wire].alive[0]);
        let best = own
            .parents
            .iter()
            .copied()
            .find(|parent| self.hosts[*parent].node.is_some() && self.reachable(host, *parent));
        let Some(best) = best.filter(|best| current.is_none_or(|(parent, _)| parent != *best))
        else {
            return;
        };
        self.join(host, best);
    }

    pub fn join(&mut self, child: usize, parent: usize) {
        self.next_link += 2;
        let (up, down) = (LinkId(self.next_link - 1), LinkId(self.next_link));
        let same = self.hosts[child].site == self.hosts[parent].site;
        let delay = if same {
            self.chance.below(3)
        } else {
            self.chance.between(5, 120)
        };
        let wire = self.add_wire([End::Host(child, up), End::Host(parent, down)], delay);
        self.hosts[child].links.insert(up, (wire, 0));
        self.hosts[parent].links.insert(down, (wire, 1));
        self.hosts[child].parent = Some((parent, wire));
        self.hosts[child].joined += 1;
        self.tell(
            parent,
            Event::Connected {
                link: down,
                role: Role::Downstream,
            },
        );
        let key = PublicKey([parent as u8; 32]);
        let role = Role::Upstream {
            relay: format!("host {parent}"),
            key,
        };
        self.tell(child, Event::Connected { link: up, role });
    }

    /// Has a host go dark soon, within a commit or between two effects.
    pub fn doom(&mut self, host: usize) {
        let how = self.chance.below(3);
        let left = self.chance.below(6) as u32;
        let own = &mut self.hosts[host];
        match (how, own.disk()) {
            (0, Some(disk)) => disk.cut = Some(Cut::BeforeWrite),
            (1, Some(disk)) => disk.cut = Some(Cut::AfterWrite),
            _ => own.effects_left = Some(left),
        }
    }
}

/// A frame in one line.
pub fn brief(frame: &Frame) -> String {
    let names = |chunks: &[Chunk]| {
        let names: Vec<String> = chunks.iter().map(|chunk| tail(chunk.name())).collect();
        names.join(" ")
    };
    match frame {
        Frame::Publish(chunks) => format!("Publish {}", names(chunks)),
        Frame::Chunks { id, chunks } => format!("Chunks {id}: {}", names(chunks)),
        Frame::Grant(chunks) => format!("Grant of {}", chunks.len()),
        Frame::Ack(acks) => {
            let acks: Vec<String> = acks
                .iter()
                .map(|(name, outcome)| format!("{} {outcome:?}", tail(*name)))
                .collect();
            format!("Ack {}", acks.join(", "))
        }
        other => format!("{other:?}"),
    }
}

/// The end of a name's text: channel, device, number.
fn tail(name: Name) -> String {
    let text = name.to_string();
    text.split_once("team-2/")
        .map_or(text.clone(), |(_, tail)| tail.into())
}

fn reason_number(reason: relay_core::Closed) -> u64 {
    use relay_core::Closed;
    match reason {
        Closed::Misbehaved(_) => 1,
        Closed::Left => 2,
        Closed::Replaced => 3,
        _ => 4,
    }
}
