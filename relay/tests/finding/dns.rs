//! A domain whose service records name relays, served by a real DNS server on loopback.

use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use proto::Tier;
use relay::client::Client;

use crate::process::{PATIENCE, Process, chunk, client, goes_through, register};

const DOMAIN: &str = "treeline.test";

/// dnsmasq with these records; ended when dropped.
struct Server(Child);

impl Server {
    fn start(port: u16, records: &[String]) -> Self {
        let child = Command::new("dnsmasq")
            .args([
                "--no-daemon",
                "--conf-file=/dev/null",
                "--no-resolv",
                "--no-hosts",
            ])
            .args([
                "--listen-address=127.0.0.1",
                "--bind-interfaces",
                "--pid-file=",
            ])
            .args([format!("--port={port}"), format!("--local=/{DOMAIN}/")])
            .args(records)
            .stderr(Stdio::null())
            .spawn()
            .expect("dnsmasq is installed: Debian package dnsmasq-base");
        Self(child)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Records of one relay: `host` is a name in the domain. Its first address has nobody behind it.
fn records(host: &str, relay: &Process, priority: u16) -> Vec<String> {
    let port = relay.place().rsplit(':').next().unwrap();
    let key = relay.address.split('#').next_back().unwrap();
    let name = format!("{host}.{DOMAIN}");
    vec![
        format!("--srv-host=_treeline._udp.{DOMAIN},{name},{port},{priority},10"),
        format!("--txt-record=_treeline._udp.{DOMAIN},treeline1 relay={key} host={name}"),
        format!("--host-record={name},127.0.0.2"),
        format!("--host-record={name},127.0.0.1"),
    ]
}

struct Tree {
    _directory: tempfile::TempDir,
    registration: proto::Registration,
    origin: Process,
    first: Process,
    second: Process,
}

impl Tree {
    fn start(at: impl Fn(&Path, &str, &Process) -> Process) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let origin = Process::start(&directory.path().join("origin"), &[]);
        let first = at(directory.path(), "first", &origin);
        let second = at(directory.path(), "second", &origin);
        let registration = register(&directory.path().join("origin"));
        Self {
            _directory: directory,
            registration,
            origin,
            first,
            second,
        }
    }
}

fn cloud(directory: &Path, name: &str, origin: &Process) -> Process {
    let (parent, key) = (&origin.address, &origin.origin);
    let more = ["--tier", "cloud", "--parent", parent, "--origin", key];
    Process::start(&directory.join(name), &more)
}

/// A free port for the server.
fn port() -> u16 {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().port()
}

#[test]
fn relays_of_a_domain_are_used_by_priority_and_replaced_when_they_die() {
    let tree = Tree::start(cloud);
    let port = port();
    let mut all = records("a", &tree.first, 10);
    all.extend(records("b", &tree.second, 20));
    let origin = &tree.origin.origin;
    all.push(format!(
        "--txt-record=_treeline._udp.{DOMAIN},treeline1 origin={origin}"
    ));
    let _server = Server::start(port, &all);
    let own = tempfile::tempdir().unwrap();
    let dns = format!("127.0.0.1:{port}");
    let more = [
        "--tier", "local", "--parent", DOMAIN, "--dns", &dns, "--origin", origin,
    ];
    let own = Process::start(own.path(), &more);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let story = async {
        let mut writer = client(&own, &tree.registration).await;
        goes_through(&mut writer, &tree.first).await;
        let say = |number| [chunk(&tree.registration, number)];
        writer
            .publish_and_wait(&say(1), Tier::Origin)
            .await
            .unwrap();
        tree.first.signal("KILL");
        goes_through(&mut writer, &tree.second).await;
        writer
            .publish_and_wait(&say(2), Tier::Origin)
            .await
            .unwrap();
    };
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, story)
            .await
            .expect("in time")
    });
}

#[test]
fn after_a_reload_the_new_origins_and_the_new_server_count() {
    let tree = Tree::start(cloud);
    let origin = &tree.origin.origin;
    let port = port();
    let names =
        |origin: &str| format!("--txt-record=_treeline._udp.{DOMAIN},treeline1 origin={origin}");
    let mut all = records("a", &tree.first, 10);
    all.push(names(origin));
    let _server = Server::start(port, &all);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    let configure = |origin: &str, port: u16| {
        let text = format!(
            "tier = \"local\"\nparents = [\"{DOMAIN}\"]\norigins = [\"{origin}\"]\ndns = \"127.0.0.1:{port}\"\n"
        );
        std::fs::write(&file, text).unwrap();
    };
    // The domain does not serve this origin.
    configure(&"ab".repeat(32), port);
    let more = ["--config", file.to_str().unwrap()];
    let own = Process::start(&directory.path().join("own"), &more);
    let signer = relay::tls::random_signer().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let story = async {
        let address = own.address.parse().unwrap();
        let mut client = Client::connect(&address, &signer).await.unwrap();
        configure(origin, port);
        own.signal("HUP");
        goes_through(&mut client, &tree.first).await;
        let other_port = self::port();
        let mut all = records("b", &tree.second, 10);
        all.push(names(origin));
        let _other = Server::start(other_port, &all);
        configure(origin, other_port);
        own.signal("HUP");
        goes_through(&mut client, &tree.second).await;
    };
    runtime.block_on(async {
        tokio::time::timeout(PATIENCE, story)
            .await
            .expect("in time")
    });
}
