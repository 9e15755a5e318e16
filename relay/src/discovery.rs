//! Finding relays: names and service records in the DNS, and those who say on the local network that
//! they are there. What is found is a place to try; whether it is trusted is decided elsewhere.

pub mod dns;
pub mod mdns;
mod race;
mod search;

use std::net::SocketAddr;

pub use race::race;
pub use search::{Plan, Search, Standing, Stranger, Trust, search};

/// Addresses with the families in turn, the first one's first (RFC 8305, section 4).
pub fn interleave(found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let found: Vec<SocketAddr> = found.into_iter().collect();
    let first = found.first().is_some_and(SocketAddr::is_ipv6);
    let (one, other): (Vec<SocketAddr>, Vec<SocketAddr>) =
        found.into_iter().partition(|at| at.is_ipv6() == first);
    let longest = one.len().max(other.len());
    (0..longest)
        .flat_map(|n| [one.get(n), other.get(n)])
        .flatten()
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_take_turns() {
        let found = [
            "[::1]:1",
            "[::1]:2",
            "[::1]:3",
            "127.0.0.1:4",
            "127.0.0.1:5",
        ];
        let order = interleave(found.map(|at| at.parse().unwrap()));
        let ports: Vec<u16> = order.iter().map(SocketAddr::port).collect();
        assert_eq!(ports, [1, 4, 2, 5, 3]);
        assert!(interleave([]).is_empty());
    }
}
