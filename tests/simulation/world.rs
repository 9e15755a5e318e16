//! A simulated world: hosts, clients, links, one virtual clock and one list of what happens next.
//! Nothing in it depends on anything but the seed.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::Name;
use relay_core::store::StoreId;
use relay_core::{Event, LinkId};

use crate::cast::CAST;
use crate::chance::Chance;
use crate::clients::Client;
use crate::disk::Disk;
use crate::hosts::Host;
use crate::model::{Model, Promise, Violation};
use crate::mutant::Mutant;
use crate::plan::{Fault, Kind, Plan};
use crate::tally::Tally;
use crate::wires::{End, Wire};

/// How long LANs stay alone while all else is well.
const ISLAND_MS: u64 = 30_000;
/// By when everything is everywhere after the heal: links that fell silent are noticed, parents are
/// found, refusals for now are tried again.
const HEAL_MS: u64 = 60_000;
/// For how long nothing may be said after that.
const QUIET_MS: u64 = 130_000;
/// Things that may happen at the same instant, at most: more is a world that never comes to rest.
const STEPS: u64 = 400_000;

/// Something that happens at its time.
#[derive(Debug, Clone, Copy)]
pub enum What {
    Arrive {
        wire: usize,
        to: usize,
    },
    Read {
        wire: usize,
        to: usize,
    },
    Gone {
        wire: usize,
        to: usize,
    },
    Start(usize),
    Maintain(usize),
    ClientTick(usize),
    Act(usize),
    Fault(Fault),
    Mend(Fault, usize),
    /// A planted fault: a node thinks that what it has sent is gone.
    Forget {
        host: usize,
        link: LinkId,
        bytes: usize,
    },
}

pub struct Report {
    pub violation: Option<Violation>,
    pub tally: Tally,
    /// Of everything that was sent, and when.
    pub digest: u64,
}

pub struct World {
    /// Virtual milliseconds.
    pub now: u64,
    pub chance: Chance,
    pub plan: Plan,
    pub mutant: Option<Mutant>,
    pub hosts: Vec<Host>,
    pub clients: Vec<Client>,
    pub wires: Vec<Wire>,
    pub model: Model,
    pub tally: Tally,
    pub next_link: u64,
    pub last_traffic: u64,
    pub cut_lans: BTreeSet<usize>,
    pub split_lans: BTreeSet<usize>,
    events: BTreeMap<(u64, u64), What>,
    scheduled: u64,
    digest: u64,
    steps: u64,
    /// Whether to tell what happens, for a person who looks at one seed.
    tells: bool,
}

/// Lives one world through.
pub fn run(seed: u64, mutant: Option<Mutant>) -> Report {
    let mut world = World::new(seed, mutant);
    world.live();
    Report {
        violation: world.model.violation,
        tally: world.tally,
        digest: world.digest,
    }
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let mut chance = Chance::new(seed);
        let plan = Plan::of(&mut chance);
        let clients = plan.clients.iter();
        let mut world = Self {
            now: 0,
            hosts: Vec::new(),
            clients: clients
                .map(|own| Client::new(own, plan.rounds, plan.channels))
                .collect(),
            wires: Vec::new(),
            model: Model::default(),
            tally: Tally::default(),
            next_link: 0,
            last_traffic: 0,
            cut_lans: BTreeSet::new(),
            split_lans: BTreeSet::new(),
            events: BTreeMap::new(),
            scheduled: 0,
            digest: 0xcbf2_9ce4_8422_2325,
            steps: 0,
            tells: std::env::var_os("TREELINE_STORY").is_some(),
            chance,
            plan,
            mutant,
        };
        for (index, plan) in world.plan.hosts.iter().enumerate() {
            world.hosts.push(Host {
                tier: plan.tier,
                site: plan.site,
                half: plan.half,
                honest: !plan.hostile,
                parents: plan.parents.clone(),
                limits: world.plan.limits.clone(),
                skew_ms: plan.skew_ms,
                dead: false,
                node: None,
                disk: Some(Disk::new(
                    StoreId([index as u8 + 1; 16]),
                    mutant.filter(|_| !plan.hostile),
                )),
                wake: None,
                links: BTreeMap::new(),
                parent: None,
                joined: 0,
                acked: BTreeSet::new(),
                seen: BTreeMap::new(),
                effects_left: None,
            });
        }
        world
    }

    fn live(&mut self) {
        for host in 0..self.hosts.len() {
            self.start(host);
            self.schedule(host as u64, What::Maintain(host));
        }
        for client in 0..self.clients.len() {
            self.join_in(client);
        }
        let storm = self.plan.storm_ms;
        for _ in 0..self.plan.faults.len() * 2 {
            let fault = self.chance.pick(&self.plan.faults.clone());
            let at = self.chance.between(100, storm);
            self.schedule(at, What::Fault(fault));
        }
        self.run_until(storm);
        self.calm();
        if self.plan.island {
            self.live_alone();
        }
        self.heal();
        self.run_until(self.now + HEAL_MS);
        self.check_healed();
        self.fetch_and_rest();
    }

    fn join_in(&mut self, client: usize) {
        let at = self.chance.below(3_000);
        self.schedule(at, What::ClientTick(client));
        let at = self.chance.below(self.plan.storm_ms / 2);
        self.schedule(at, What::Act(client));
        if self.clients[client].kind == Kind::Member {
            for _ in 0..self.chance.between(1, 2) {
                let channel = self.chance.below(self.plan.channels.into()) as u16;
                let prefix = self.chance.pick(&[CAST.team(), CAST.channel(channel)]);
                self.subscribe(client, prefix);
            }
        }
    }

    /// Everything is mended, but LANs may stay cut off and split.
    fn calm(&mut self) {
        for host in 0..self.hosts.len() {
            if let Some(disk) = self.hosts[host].disk() {
                (disk.full, disk.failing, disk.cut) = (false, false, None);
            }
            self.hosts[host].effects_left = None;
            self.start(host);
        }
        for client in 0..self.clients.len() {
            self.mend(Fault::SlowReader, client);
        }
        self.plan.faults.clear();
    }

    /// P3: a few more chunks, and time for them to go round.
    fn live_alone(&mut self) {
        self.run_until(self.now + ISLAND_MS / 2);
        for client in 0..self.clients.len() {
            if self.clients[client].kind == Kind::Member && self.clients[client].wire.is_some() {
                let names = self.publish_new(client);
                self.model
                    .probes
                    .extend(names.into_iter().map(|name| (client, name)));
            }
        }
        let roots: Vec<_> = (0..self.hosts.len()).map(|host| self.root(host)).collect();
        self.run_until(self.now + ISLAND_MS);
        self.check_islands(&roots);
    }

    fn heal(&mut self) {
        self.cut_lans.clear();
        self.split_lans.clear();
        for host in 0..self.hosts.len() {
            if !self.hosts[host].honest {
                self.hosts[host].dead = true;
                self.crash(host);
            }
        }
    }

    /// P10, then quiet: who lacks nothing says nothing.
    fn fetch_and_rest(&mut self) {
        let mut asked = Vec::new();
        for client in 0..self.clients.len() {
            let own = &self.clients[client];
            let promised = self.model.promised.iter().copied();
            let lacks =
                |name: &Name| !own.got.contains_key(name) && !self.model.lied.contains(name);
            let names: Vec<Name> = promised
                .filter(|name| lacks(name) && self.is_long(*name))
                .take(20)
                .collect();
            if own.kind == Kind::Member && !names.is_empty() {
                asked.extend(names.iter().map(|name| (client, *name)));
                self.fetch(client, names);
            }
        }
        self.run_until(self.now + HEAL_MS / 2);
        self.check_fetched(&asked);
        let rested = self.now;
        self.run_until(self.now + QUIET_MS);
        if self.last_traffic > rested {
            let text = format!("somebody still spoke at {} ms", self.last_traffic);
            self.violated(Promise::Quiet, text);
        }
    }

    pub fn schedule(&mut self, at: u64, what: What) {
        self.scheduled += 1;
        self.events.insert((at, self.scheduled), what);
    }

    fn run_until(&mut self, end: u64) {
        while self.model.violation.is_none() {
            let event = self.events.first_key_value().map(|(key, _)| *key);
            let wakes = self.hosts.iter().enumerate();
            let wake = wakes
                .filter_map(|(host, own)| own.wake.map(|at| (at, host)))
                .min();
            let next = event
                .map(|(at, _)| at)
                .into_iter()
                .chain(wake.map(|(at, _)| at))
                .min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            self.steps += 1;
            if self.steps > STEPS {
                return self.violated(Promise::Quiet, "the world never comes to rest".into());
            }
            match (event, wake) {
                (_, Some((at, host))) if at == next => self.wake(host),
                (Some(key), _) => {
                    if let Some(what) = self.events.remove(&key) {
                        self.happen(what);
                    }
                }
                _ => {}
            }
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, what: What) {
        match what {
            What::Arrive { wire, to } => self.arrive(wire, to),
            What::Read { wire, to } => self.read(wire, to),
            What::Gone { wire, to } => self.gone(wire, to),
            What::Start(host) => self.start(host),
            What::Maintain(host) => self.maintain(host),
            What::ClientTick(client) => self.client_tick(client),
            What::Act(client) => self.act(client),
            What::Fault(fault) => self.strike(fault),
            What::Mend(fault, whom) => self.mend(fault, whom),
            What::Forget { host, link, bytes } => {
                self.tell(
                    host,
                    Event::Drained {
                        link,
                        sends: 1,
                        bytes,
                    },
                );
            }
        }
    }

    pub fn trace(&mut self, numbers: &[u64]) {
        for number in numbers {
            self.digest = (self.digest ^ number).wrapping_mul(0x100_0000_01b3);
        }
    }

    pub fn trace_bytes(&mut self, bytes: &Bytes) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.trace(&[u64::from_le_bytes(word)]);
        }
    }

    /// Tells the story of a world to a person.
    pub fn story(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>7} {}", self.now, what());
        }
    }

    /// Whether two hosts can reach each other now.
    pub fn reachable(&self, one: usize, other: usize) -> bool {
        let (one, other) = (&self.hosts[one], &self.hosts[other]);
        if one.site == other.site {
            return one.half == other.half || !self.split_lans.contains(&one.site);
        }
        // The way out of a split LAN is on one side.
        let outside = |host: &Host| {
            host.site == 0
                || !(self.cut_lans.contains(&host.site)
                    || self.split_lans.contains(&host.site) && host.half)
        };
        outside(one) && outside(other)
    }

    /// Cuts every link between hosts that cannot reach each other.
    pub fn part(&mut self) {
        for wire in 0..self.wires.len() {
            if let [End::Host(one, _), End::Host(other, _)] = self.wires[wire].ends
                && self.wires[wire].alive != [false; 2]
                && !self.reachable(one, other)
            {
                self.cut(wire);
            }
        }
    }
}
