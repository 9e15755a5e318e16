//! Signals and the service manager.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::time::Duration;

use relay::client::{Client, ClientError};

use crate::process::{PROGRAM, Process, text, until};

#[test]
fn a_reload_changes_parents_and_says_what_it_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let (one, two) = (
        Process::start(&at("one"), &[]),
        Process::start(&at("two"), &[]),
    );
    let file = at("relay.toml");
    let configure = |above: &Process, listen: &str| {
        let (parent, origin) = (above.line("relay "), above.line("origin "));
        let text =
            format!("listen = \"{listen}\"\nparents = [\"{parent}\"]\norigins = [\"{origin}\"]\n");
        fs::write(&file, text).unwrap();
    };
    configure(&one, "127.0.0.1:0");
    let low = Process::start(&at("low"), &["--config", file.to_str().unwrap()]);
    let linked = |above: &Process| {
        above
            .ask("/metrics")
            .1
            .contains("\ntreeline_relay_links 1\n")
    };
    until("the first parent has no link", || linked(&one));
    configure(&two, "127.0.0.1:1");
    low.signal("HUP");
    until("the second parent has no link", || linked(&two));
    until("the first parent keeps a link", || !linked(&one));
    let log = || fs::read_to_string(at("low.log")).unwrap();
    until("nothing says what needs a restart", || {
        log().contains("`listen` has changed")
    });
    fs::write(&file, "listen = 3\n").unwrap();
    low.signal("HUP");
    until("nothing says that it was not reloaded", || {
        log().contains("the old configuration stays")
    });
    assert!(linked(&two));
    low.signal("TERM");
    assert_eq!(low.ends_with(), Some(0));
}

#[test]
fn a_relay_that_ends_sends_its_clients_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let relay = Process::start(&directory.path().join("relay"), &[]);
    let address = relay.line("relay ").parse().unwrap();
    let said = tokio::runtime::Runtime::new().unwrap().block_on(async {
        let own = relay::tls::random_signer().unwrap();
        let mut client = Client::connect(&address, &own).await.unwrap();
        relay.signal("TERM");
        loop {
            if let Err(ClientError::Closed { reason, .. }) = client.next().await {
                return reason;
            }
        }
    });
    assert!(said.contains("go on with another"), "{said}");
    assert_eq!(relay.ends_with(), Some(0));
}

#[test]
fn the_service_manager_hears_of_every_change() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("notify");
    let manager = UnixDatagram::bind(&place).unwrap();
    manager
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let hear = |word: &str| {
        let mut bytes = [0; 512];
        loop {
            let length = manager.recv(&mut bytes).expect(word);
            if text(&bytes[..length]).lines().any(|line| line == word) {
                return;
            }
        }
    };
    let path = directory.path().join("relay");
    let mut command = Command::new(PROGRAM);
    command
        .args(["run", "--listen", "127.0.0.1:0", "--directory"])
        .arg(&path)
        .env("NOTIFY_SOCKET", &place)
        .env("WATCHDOG_USEC", "200000");
    let relay = Process::spawn(command, &path);
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    relay.signal("HUP");
    hear("RELOADING=1");
    hear("READY=1");
    relay.signal("TERM");
    hear("STOPPING=1");
    assert_eq!(relay.ends_with(), Some(0));
}
