//! Whether multicast DNS gets out of and into this machine: a question is asked on each interface, and
//! has to come back, as every question does to the machine that asks (RFC 6762, section 11). It
//! announces nothing.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::Finding;

const GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);
const PORT: u16 = 5353;
/// How long a question may take to come back.
const WAIT: Duration = Duration::from_secs(1);
/// Asks for the pointer records of `_treeline._udp.local.`, once (RFC 1035, section 4.1).
const QUESTION: &[u8] = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x09_treeline\x04_udp\x05local\0\0\x0c\0\x01";

/// Looks at each interface that has an IPv4 address and is not loopback.
pub fn look() -> Vec<Finding> {
    let interfaces = match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces,
        Err(error) => {
            let action = "check the network interfaces (ip address)";
            return vec![Finding::warning(
                "mdns",
                "no-interface",
                error.to_string(),
                action,
            )];
        }
    };
    let places: Vec<(String, Ipv4Addr)> = interfaces
        .into_iter()
        .filter(|interface| !interface.is_loopback())
        .filter_map(|interface| match interface.ip() {
            IpAddr::V4(place) => Some((interface.name, place)),
            IpAddr::V6(_) => None,
        })
        .collect();
    if places.is_empty() {
        let cause = "there is no network interface for mDNS";
        let action =
            "nobody on a local network can find this relay; connect one, or name addresses";
        return vec![Finding::warning("mdns", "no-interface", cause, action)];
    }
    let finding = |(name, place): (String, Ipv4Addr)| match comes_back(place) {
        Ok(()) => Finding::ok("mdns", format!("works on {name}")),
        Err(error) => Finding::problem(
            "mdns",
            "mdns-blocked",
            format!("mDNS is blocked on {name}: {error}"),
            "let UDP port 5353 to and from 224.0.0.251 through this machine's firewall",
        ),
    };
    places.into_iter().map(finding).collect()
}

fn comes_back(place: Ipv4Addr) -> io::Result<()> {
    let ear = ear()?;
    ear.join_multicast_v4(&GROUP, &place)?;
    // From an address of the interface, so that it leaves there.
    let mouth = UdpSocket::bind((place, 0))?;
    mouth.set_multicast_loop_v4(true)?;
    mouth.send_to(QUESTION, (GROUP, PORT))?;
    let own = mouth.local_addr()?;
    let end = Instant::now() + WAIT;
    let mut bytes = [0; 2048];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::other("what is sent does not come back"));
        }
        ear.set_read_timeout(Some(left))?;
        match ear.recv_from(&mut bytes) {
            Ok((_, from)) if from == own => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock) => {}
            Err(error) => return Err(error),
        }
    }
}

/// A socket on mDNS's port, beside those of others.
fn ear() -> io::Result<UdpSocket> {
    let socket = rustix::net::socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    sockopt::set_socket_reuseaddr(&socket, true)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    rustix::net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, PORT))?;
    Ok(socket.into())
}
