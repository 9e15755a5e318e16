//! The ways to the parents and to ourselves: names, both transports, packet size, keys, clocks.

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use proto::{PublicKey, Signer};
use tokio::time::timeout;

use super::{Finding, clocks};
use crate::address::{RelayAddress, Upstream};
use crate::client::Client;
use crate::config::Config;
use crate::discovery::dns::Names;
use crate::driver::now;
use crate::link::connect::Failure;
use crate::link::listen::Listener;
use crate::link::{quic, tcp};
use crate::status::Status;
use crate::tls;

/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(4);
/// How long a connection looks for the largest packet that gets through.
const PROBE: Duration = Duration::from_millis(600);
/// UDP payload of the smallest packets that QUIC can live with (RFC 9000, section 14).
const LEAST_MTU: u16 = 1200;

/// Looks at this relay's own address, and at every parent.
pub async fn look(config: &Config, running: Option<&Status>) -> Vec<Finding> {
    let own = match tls::random_signer() {
        Ok(own) => own,
        Err(error) => {
            let action = "start again when the system is up";
            return vec![Finding::problem(
                "system",
                "no-randomness",
                error.to_string(),
                action,
            )];
        }
    };
    let mut findings = vec![match running {
        Some(status) => itself(status, &own).await,
        None => free(config, &own),
    }];
    if config.parents.is_empty() {
        findings.push(Finding::ok("parent", "none is configured: this is a root"));
    }
    let before = findings.len();
    for upstream in &config.parents {
        match upstream {
            Upstream::Relay(relay) => findings.extend(parent(relay, &own).await),
            Upstream::Domain { name, key } => {
                let (found, relays) = domain(name, *key, config.dns).await;
                findings.push(found);
                for relay in &relays {
                    findings.extend(parent(relay, &own).await);
                }
            }
        }
    }
    let reached = findings[before..]
        .iter()
        .any(|f| f.check == "parent" && f.code == "ok");
    if !config.parents.is_empty() && !reached {
        findings.push(Finding::problem(
            "parents",
            "no-parent",
            "no parent can be used: this relay is alone",
            "mend one of the ways above; nothing is lost meanwhile",
        ));
    }
    findings
}

/// Connects to the running relay over UDP, as its clients do.
async fn itself(status: &Status, own: &Signer) -> Finding {
    let Ok(address) = status.address.parse::<RelayAddress>() else {
        return Finding::ok("listen", status.address.clone());
    };
    let Ok(mut place) = address.place.parse::<SocketAddr>() else {
        return Finding::ok("listen", address.place);
    };
    if place.ip().is_unspecified() {
        place.set_ip(match place.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    match within(quic::connect(place, own, address.key)).await {
        Ok((ground, ..)) => {
            ground.close().await;
            Finding::ok("listen", format!("answers at {place} over UDP"))
        }
        Err(Failure::WrongKey) => Finding::problem(
            "listen",
            "key-changed",
            format!("another key is shown at {place}"),
            "another relay has this address: stop one of the two",
        ),
        Err(Failure::Other(why)) => Finding::problem(
            "listen",
            "udp-blocked",
            format!("UDP to {place} is blocked: {why}"),
            "let UDP to this port through this machine's firewall",
        ),
    }
}

/// Without a relay that runs: its address can be had.
fn free(config: &Config, own: &Signer) -> Finding {
    match Listener::bind(config.listen, own, config.transport.clone()) {
        Ok(_) => Finding::ok("listen", format!("{} is free", config.listen)),
        Err(error) => Finding::problem(
            "listen",
            "listen-failed",
            format!("cannot listen on {} (UDP and TCP): {error}", config.listen),
            "stop what uses it, or choose another with --listen",
        ),
    }
}

/// What a domain says: a finding, and an address of each of its relays.
async fn domain(
    name: &str,
    fixed: Option<PublicKey>,
    server: Option<SocketAddr>,
) -> (Finding, Vec<RelayAddress>) {
    let said = match Names::new(server) {
        Ok(names) => names.relays(name).await,
        Err(error) => Err(error),
    };
    let answer = match said {
        Ok(answer) => answer,
        Err(error) => {
            let action = "set the SRV and TXT records of the domain, or check the DNS server";
            let finding = Finding::problem("dns", "no-service", error.to_string(), action);
            return (finding, Vec::new());
        }
    };
    let relays: Vec<RelayAddress> = answer
        .relays
        .iter()
        .filter_map(|relay| {
            Some(RelayAddress {
                place: relay.addresses.first()?.to_string(),
                key: fixed.or(relay.key)?,
            })
        })
        .collect();
    let text = format!(
        "{name} names {} relays, {} of them with a key",
        answer.relays.len(),
        relays.len()
    );
    let finding = match relays.is_empty() {
        false => Finding::ok("dns", text),
        true => Finding::problem(
            "dns",
            "no-key",
            text,
            "add a TXT record `treeline1 relay=KEY`, or write the domain with #KEY",
        ),
    };
    (finding, relays)
}

async fn parent(relay: &RelayAddress, own: &Signer) -> Vec<Finding> {
    let place = &relay.place;
    let found = timeout(ATTEMPT, tokio::net::lookup_host(place.as_str())).await;
    let found: Vec<SocketAddr> = match found {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => return vec![unknown(place, &error.to_string())],
        Err(_) => return vec![unknown(place, "the DNS server does not answer")],
    };
    let Some(address) = found.first().copied() else {
        return vec![unknown(place, "the name has no address")];
    };
    let mut findings = Vec::new();
    if place.parse::<SocketAddr>().is_err() {
        findings.push(Finding::ok("dns", format!("{place} is {}", address.ip())));
    }
    let (udp, tcp) = tokio::join!(
        within(quic::connect(address, own, relay.key)),
        within(tcp::connect(address, own, relay.key)),
    );
    let over_tcp = tcp.is_ok();
    findings.extend(match (udp, tcp) {
        (Err(Failure::WrongKey), _) | (_, Err(Failure::WrongKey)) => vec![Finding::problem(
            "parent",
            "key-changed",
            format!("{place} shows another key than the one behind its #"),
            "ask its operator whether the key was changed, and only then write the new one",
        )],
        (Err(Failure::Other(why)), Ok(_)) => vec![
            Finding::ok("parent", format!("{place} answers over TCP")),
            Finding::warning(
                "udp",
                "udp-blocked",
                format!("UDP to {place} is blocked, or packets of {LEAST_MTU} bytes are: {why}"),
                "open UDP to that port; until then links are slower, over TCP",
            ),
        ],
        (Err(Failure::Other(why)), Err(_)) => vec![Finding::problem(
            "parent",
            "unreachable",
            format!("{place} answers neither over UDP nor over TCP: {why}"),
            "check that it runs, its address, and the firewalls between (UDP and TCP)",
        )],
        (Ok((ground, ..)), _) => {
            let mtu = packet_size(ground.connection()).await;
            ground.close().await;
            answers(place, mtu, over_tcp)
        }
    });
    if findings
        .iter()
        .any(|finding| finding.check == "parent" && finding.code == "ok")
    {
        findings.extend(clock(relay, own).await);
    }
    findings
}

fn unknown(place: &str, why: &str) -> Finding {
    Finding::problem(
        "dns",
        "dns-failed",
        format!("the address of {place} is not known: {why}"),
        "check the name and this machine's DNS servers (resolvectl status)",
    )
}

/// The largest packet known to get through: found by probes after the handshake.
async fn packet_size(connection: &quinn::Connection) -> u16 {
    tokio::time::sleep(PROBE).await;
    connection.stats().path.current_mtu
}

fn answers(place: &str, mtu: u16, tcp: bool) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("parent", format!("{place} answers over UDP"))];
    findings.push(if mtu > LEAST_MTU {
        Finding::ok("mtu", format!("packets of {mtu} bytes reach {place}"))
    } else {
        let cause = format!("only packets of {mtu} bytes reach {place}");
        let action = "nothing has to be done; a tunnel or a firewall on the way drops larger ones";
        Finding::warning("mtu", "mtu-small", cause, action)
    });
    if !tcp {
        findings.push(Finding::warning(
            "tcp",
            "tcp-blocked",
            format!("{place} does not answer over TCP"),
            "open TCP to that port too, for the times when UDP is lost",
        ));
    }
    findings
}

async fn clock(relay: &RelayAddress, own: &Signer) -> Option<Finding> {
    let client = timeout(ATTEMPT, Client::connect(relay, own))
        .await
        .ok()?
        .ok()?;
    let finding = clocks(now(), client.hello().time, &relay.place);
    client.close().await;
    Some(finding)
}

async fn within<T>(attempt: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match timeout(ATTEMPT, attempt).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Other("no answer".into())),
    }
}
