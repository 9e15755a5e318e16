//! From a seed to a cast of hosts and clients, and to what will go wrong.

use proto::Tier;
use relay_core::Limits;

use crate::cast::{CHANNELS, SQUATTER};
use crate::chance::Chance;

/// A node to be, and the way its shell chooses parents.
pub struct HostPlan {
    pub tier: Tier,
    /// 0 is the internet, others are LANs.
    pub site: usize,
    /// On which side of a split LAN it stands.
    pub half: bool,
    pub hostile: bool,
    /// Possible parents, the best first.
    pub parents: Vec<usize>,
    pub skew_ms: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Member,
    /// Has a grant of its own and wants the others' names.
    Squatter,
    /// Holds a member's key and signs other bytes under the same names.
    Twin,
}

pub struct ClientPlan {
    pub host: usize,
    pub device: usize,
    pub kind: Kind,
    /// Forgets a chunk when it is acknowledged at all, not only at the origin.
    pub trusting: bool,
}

/// What goes wrong in one world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    CutLink,
    CutLan,
    SplitLan,
    Crash,
    CrashInCommit,
    DiskFull,
    DiskFailing,
    ClockJump,
    SlowReader,
    ClientGone,
    OtherParent,
}

impl Fault {
    pub const ALL: [Self; 11] = [
        Self::CutLink,
        Self::CutLan,
        Self::SplitLan,
        Self::Crash,
        Self::CrashInCommit,
        Self::DiskFull,
        Self::DiskFailing,
        Self::ClockJump,
        Self::SlowReader,
        Self::ClientGone,
        Self::OtherParent,
    ];
}

pub struct Plan {
    pub hosts: Vec<HostPlan>,
    pub clients: Vec<ClientPlan>,
    pub faults: Vec<Fault>,
    pub limits: Limits,
    /// For how long things go wrong.
    pub storm_ms: u64,
    /// Whether LANs stay cut off while everything else is well.
    pub island: bool,
    /// Times that each client publishes.
    pub rounds: u32,
    /// Whether many chunks are large.
    pub large: bool,
    /// Whether some chunks expire in the storm.
    pub short_lives: bool,
    pub channels: u16,
}

impl Plan {
    pub fn of(chance: &mut Chance) -> Self {
        let mut hosts = vec![host(Tier::Origin, 0, vec![])];
        for _ in 0..chance.below(3) {
            hosts.push(host(Tier::Cloud, 0, vec![0]));
        }
        let mut clouds: Vec<usize> = (1..hosts.len()).collect();
        clouds.push(0);
        if chance.one_in(5) {
            hosts.push(HostPlan {
                hostile: true,
                ..host(Tier::Cloud, 0, vec![0])
            });
            clouds.insert(chance.index(clouds.len()), hosts.len() - 1);
        }
        let mut clients = Vec::new();
        for site in 1..=chance.pick(&[1, 1, 1, 2, 2, 3]) {
            add_lan(chance, site, &clouds, (&mut hosts, &mut clients));
        }
        if chance.one_in(2) {
            let skewed = chance.index(hosts.len());
            hosts[skewed].skew_ms = chance.between(0, 1_200_000) as i64 - 600_000;
        }
        add_guests(chance, &hosts, &mut clients);
        let faults = Fault::ALL
            .into_iter()
            .filter(|_| chance.one_in(3))
            .collect();
        Self {
            hosts,
            clients,
            faults,
            limits: limits(chance),
            storm_ms: chance.between(10_000, 60_000),
            island: chance.one_in(3),
            rounds: chance.pick(&[1, 1, 2, 2, 3, 5]),
            large: chance.one_in(8),
            short_lives: chance.one_in(3),
            channels: chance.between(1, CHANNELS.into()) as u16,
        }
    }
}

fn host(tier: Tier, site: usize, parents: Vec<usize>) -> HostPlan {
    HostPlan {
        tier,
        site,
        half: false,
        hostile: false,
        parents,
        skew_ms: 0,
    }
}

fn add_lan(
    chance: &mut Chance,
    site: usize,
    clouds: &[usize],
    (hosts, clients): (&mut Vec<HostPlan>, &mut Vec<ClientPlan>),
) {
    let mut locals = Vec::new();
    for _ in 0..chance.pick(&[0, 1, 1, 1, 2]) {
        locals.push(hosts.len());
        hosts.push(HostPlan {
            half: chance.one_in(2),
            ..host(Tier::Local, site, turned(chance, clouds))
        });
    }
    let serves = locals.is_empty() && chance.one_in(2);
    for _ in 0..chance.pick(&[1, 1, 2, 2, 3]) {
        let parents = [locals.clone(), turned(chance, clouds)].concat();
        // An endpoint serves its LAN, which has no relay: it is the local relay then.
        let server = serves && locals.is_empty();
        if server {
            locals.push(hosts.len());
        }
        let tier = if server { Tier::Local } else { Tier::Device };
        let device = clients.len();
        clients.push(ClientPlan {
            host: hosts.len(),
            device,
            kind: Kind::Member,
            trusting: !chance.one_in(3),
        });
        hosts.push(HostPlan {
            half: chance.one_in(2),
            ..host(tier, site, parents)
        });
    }
}

/// The same relays, beginning with another one.
fn turned(chance: &mut Chance, relays: &[usize]) -> Vec<usize> {
    let mut relays = relays.to_vec();
    let at = chance.index(relays.len());
    relays.rotate_left(at);
    relays
}

fn add_guests(chance: &mut Chance, hosts: &[HostPlan], clients: &mut Vec<ClientPlan>) {
    let honest: Vec<usize> = (0..hosts.len())
        .filter(|host| !hosts[*host].hostile)
        .collect();
    let members = clients.len();
    let mut guest = |host, device, kind| {
        clients.push(ClientPlan {
            host,
            device,
            kind,
            trusting: true,
        });
    };
    if chance.one_in(3) {
        guest(chance.pick(&honest), members, Kind::Member);
    }
    if chance.one_in(3) {
        guest(chance.pick(&honest), SQUATTER, Kind::Squatter);
    }
    if chance.one_in(6) {
        guest(chance.pick(&honest), chance.index(members), Kind::Twin);
    }
}

fn limits(chance: &mut Chance) -> Limits {
    let window_bytes = chance.pick(&[1, 3_000, 20_000, 1 << 20]);
    let window_sends = chance.pick(&[1, 4, 64, 1024]);
    Limits {
        batch_chunks: chance.pick(&[1, 4, 128]),
        window_bytes,
        window_sends,
        outstanding_bytes: window_bytes + (48 << 10),
        outstanding_sends: window_sends + 256,
        in_flight: chance.pick(&[1, 5, 1024]),
        chunks_per_second: chance.pick(&[25, 50_000, 50_000]),
        ..Limits::default()
    }
}
