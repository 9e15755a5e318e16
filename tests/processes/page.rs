//! docs/operations.md, as an operator follows it: each command of its code blocks is run as it stands
//! there, on machines that this test makes, so that the page cannot say what is not so.

mod blocks;
mod host;

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use xtask::process::{binary, line_in};

use crate::scene::{built, until};
pub use blocks::under;
use blocks::{blocks, filled, first_cells, spans};
use host::Host;

const SERVICES: &str = "A local and a cloud relay as services, in five minutes";
const START: Duration = Duration::from_secs(30);

/// Every heading with code, and how many blocks stand there. Each is run by a test of this file, or by
/// the one that is named: whoever adds a block here has to add what runs it.
const RUN: [(&str, usize); 7] = [
    (SERVICES, 3),
    ("Run a relay", 2),
    ("Options of `run`", 1),
    ("A damaged store", 1),
    ("Names and domains", 1),
    // In `trust`.
    ("On the local network", 1),
    ("Back up and restore", 1),
];

#[test]
fn every_block_of_the_page_is_run() {
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for block in blocks() {
        *found.entry(block.heading).or_default() += 1;
    }
    let run = RUN.map(|(heading, count)| (heading.to_owned(), count));
    assert_eq!(found, run.into());
}

/// The word behind a key at the beginning of a line.
fn word(text: &str, key: &str) -> String {
    let mut lines = text.lines();
    let found = lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    found
        .unwrap_or_else(|| panic!("{key} is not in: {text}"))
        .to_owned()
}

fn status(host: &Host, directory: &str) -> Value {
    let line = format!("treeline-relay status --json --directory {directory}");
    serde_json::from_str(&host.types(&line)).unwrap()
}

fn is_connected(host: &Host, directory: &str) -> bool {
    let status = status(host, directory);
    status["ready"] == true && status["parents"][0]["state"] == "connected"
}

/// Two machines become a cloud and a local relay; then what else the page has their operator do.
#[test]
fn a_cloud_and_a_local_relay_are_services_in_five_minutes() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let known = "10.77.0.1 cloud.example.org\n";
    let machine = |name: &str| Host::with_services(&folder.path().join(name), known);
    let (cloud, local) = match (machine("cloud"), machine("local")) {
        (Ok(cloud), Ok(local)) => (cloud, local),
        (Err(why), _) | (_, Err(why)) => {
            return println!("not run: no systemd can run here: {why}");
        }
    };
    cloud.cable(&local, ["10.77.0.1", "10.77.0.2"]);
    let steps = under(SERVICES);
    let [both, above, below] = &steps[..] else {
        panic!("{} blocks", steps.len());
    };
    for host in [&cloud, &local] {
        host.types(both);
        verify_unit(host);
    }
    let said = cloud.types(above);
    let (key, origin) = (word(&said, "key"), word(&said, "origin"));
    let said = local.types(&filled(below, &[("KEY", &key), ("HEX", &origin)]));
    for line in ["ready ", "parent "] {
        assert!(said.contains(line), "{said}");
    }
    let store = "/var/lib/treeline";
    until("the parent is connected", || is_connected(&local, store));

    let damaged = under("A damaged store");
    local.types(&damaged[0]);
    until("it is connected again", || is_connected(&local, store));
    local.types(&format!("test -f {store}/damaged/store.db"));

    // What can be typed as it stands, between the blocks.
    let doctor =
        "treeline-relay doctor --config /etc/treeline/relay.toml --directory /var/lib/treeline";
    let lines = [
        doctor,
        "systemctl reload treeline-relay",
        "journalctl -u treeline-relay",
        "curl http://127.0.0.1:14470/metrics",
    ];
    for line in lines {
        assert!(spans().iter().any(|span| span == line), "{line}");
        let out = local.tries(line);
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        match line {
            // It may find that this machine has little room on its disk.
            line if line == doctor => {
                assert!(said.contains("answers over UDP"), "{said}");
            }
            line => assert!(out.status.success(), "{line}"),
        }
        if line.starts_with("curl") {
            assert!(said.contains("\ntreeline_relay_ready 1\n"), "{said}");
        }
    }
    let journal = local.types("journalctl -u treeline-relay");
    assert!(journal.contains("ready"), "{journal}");
    let id = status(&local, store)["pid"].clone();
    local.types("systemctl kill --signal=KILL treeline-relay");
    until("systemd has started it again", || {
        let asked = local.tries(&format!("treeline-relay status --json --directory {store}"));
        let now: Value = serde_json::from_slice(&asked.stdout).unwrap_or_default();
        now["ready"] == true && now["pid"] != id
    });

    let register = "treeline-relay org register --directory /var/lib/treeline";
    assert!(spans().iter().any(|span| span == register));
    assert!(cloud.types(register).starts_with("treeline-org-"));
}

/// systemd finds nothing to say of the unit.
fn verify_unit(host: &Host) {
    let unit = "/etc/systemd/system/treeline-relay.service";
    let out = host.tries(&format!("systemd-analyze --man=no verify {unit}"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!((out.status.code(), said.as_str()), (Some(0), ""));
}

/// The tree of three that the page starts on one machine, and what a relay prints.
#[test]
fn a_tree_of_three_runs_on_one_machine() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(&folder.path().join("one"), "");
    host.types("cp target/release/treeline-relay /usr/bin/");
    let run = under("Run a relay");
    let [printed, tree] = &run[..] else {
        panic!("{} blocks", run.len());
    };
    let mut above: Option<(String, String)> = None;
    for (line, name) in tree.lines().zip(["origin", "cloud", "local"]) {
        let line = match &above {
            Some((key, origin)) => filled(line, &[("KEY", key), ("HEX", origin)]),
            None => line.to_owned(),
        };
        let out = folder.path().join(format!("{name}.out"));
        host.begins(&line, &out);
        line_in(&out, "ready", START).unwrap();
        let address = line_in(&out, "relay ", START).unwrap();
        let (_, key) = address.split_once('#').unwrap();
        above = Some((key.to_owned(), line_in(&out, "origin ", START).unwrap()));
        if name == "origin" {
            let keys = |text: &str| -> Vec<String> {
                let words = text.lines().filter_map(|line| line.split(' ').next());
                words.map(str::to_owned).collect()
            };
            let said = fs::read_to_string(&out).unwrap();
            assert_eq!(keys(&said), keys(printed));
            let place = printed.lines().next().unwrap().split('#').next().unwrap();
            assert!(said.starts_with(place), "{said}");
        } else {
            until("it is connected", || is_connected(&host, name));
        }
    }
}

#[test]
fn the_configuration_of_the_page_is_one() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("relay.toml");
    let text = &under("Options of `run`")[0];
    fs::write(&file, text).unwrap();
    let out = Command::new(binary("treeline-relay").unwrap())
        .args(["check-config", "--json", "--config"])
        .arg(&file)
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(said["errors"], serde_json::json!([]));
    let settings = said["settings"].as_array().unwrap();
    for line in text.lines() {
        let (name, _) = line.split_once(" = ").unwrap();
        let setting = settings.iter().find(|setting| setting["name"] == name);
        let source = setting.unwrap_or_else(|| panic!("{name}"))["source"].clone();
        assert!(
            source.as_str().unwrap().contains("line"),
            "{name}: {source}"
        );
    }
}

/// The records of the page, served by a real DNS server, lead a relay to its parent.
#[test]
fn the_records_of_the_page_lead_to_a_relay() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(&folder.path().join("one"), "");
    host.types("cp target/release/treeline-relay /usr/bin/");
    let out = folder.path().join("origin.out");
    host.begins("treeline-relay run --directory origin", &out);
    line_in(&out, "ready", START).unwrap();
    let address = line_in(&out, "relay ", START).unwrap();
    let (_, key) = address.split_once('#').unwrap();
    let origin = line_in(&out, "origin ", START).unwrap();
    let zone = under("Names and domains")[0]
        .replace("relay=<64 hex digits>", &format!("relay={key}"))
        .replace("origin=<64 hex digits>", &format!("origin={origin}"));
    let mut options = Vec::new();
    for line in zone.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let name = words[0].trim_end_matches('.');
        options.push(match words[1] {
            "SRV" => {
                let target = words[5].trim_end_matches('.');
                format!(
                    "--srv-host={name},{target},{},{},{}",
                    words[4], words[2], words[3]
                )
            }
            "TXT" => {
                let text = line.split('"').nth(1).unwrap();
                format!("'--txt-record={name},{text}'")
            }
            other => panic!("a record of type {other}"),
        });
    }
    for name in ["a", "b", "backup"] {
        options.push(format!("--host-record={name}.example.org,127.0.0.1"));
    }
    let options = options.join(" ");
    host.begins(
        &format!(
            "dnsmasq --no-daemon --conf-file=/dev/null --no-resolv --no-hosts --pid-file= \
             --listen-address=127.0.0.1 --bind-interfaces --local=/example.org/ {options}"
        ),
        &folder.path().join("dns.out"),
    );
    host.begins(
        &format!(
            "treeline-relay run --directory local --listen 127.0.0.1:4471 --parent example.org \
             --dns 127.0.0.1:53 --origin {origin}"
        ),
        &folder.path().join("local.out"),
    );
    line_in(&folder.path().join("local.out"), "ready", START).unwrap();
    until("the parent is connected", || {
        status(&host, "local")["ready"] == true
    });
    let parents = &status(&host, "local")["parents"];
    assert_eq!(parents.as_array().unwrap().len(), 1, "{parents}");
    let parent = &parents[0];
    assert_eq!(
        (&parent["place"], &parent["state"]),
        (&"example.org".into(), &"connected".into())
    );
    assert_eq!(parent["relay"], "127.0.0.1:4470");
}

/// The backup of the page, from the origin to a directory and from there to a relay below it.
#[test]
fn a_backup_is_made_verified_and_published_again() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let known = "127.0.0.1 origin.example.org\n127.0.0.2 local.example.org\n";
    let host = Host::new(&folder.path().join("one"), known);
    host.types("cp target/release/treeline-* /usr/bin/");
    let start = |name: &str, line: &str| {
        let out = folder.path().join(format!("{name}.out"));
        host.begins(line, &out);
        line_in(&out, "ready", START).unwrap();
        let address = line_in(&out, "relay ", START).unwrap();
        let (_, key) = address.split_once('#').unwrap();
        (key.to_owned(), line_in(&out, "origin ", START).unwrap())
    };
    let (key, origin) = start("origin", "treeline-relay run --directory origin");
    let line = format!(
        "treeline-relay run --directory local --listen 127.0.0.2:4470 --parent 127.0.0.1:4470#{key} \
         --origin {origin}"
    );
    let (below, _) = start("local", &line);
    host.types(&format!(
        "echo alice walks six miles before breakfast > pass
         treeline-relay org register --directory origin > registration
         member='treeline-member --directory alice --passphrase-file pass'
         $member org create Acme --registration-file registration \\
             --relay 127.0.0.2:4470#{below} --user Alice --device laptop
         $member team create Kitchen
         treeline-chat --directory alice --passphrase-file pass send --channel Kitchen/general \\
             tea --wait origin"
    ));
    let backup = &under("Back up and restore")[0];
    let lines: Vec<&str> = backup.lines().collect();
    let [dump, verify, undump] = &lines[..] else {
        panic!("{backup}");
    };
    let number = proto::PublicKey::from_hex(&origin).unwrap().origin_id();
    let number = format!("treeline://{:06x}", number.get());
    let dump = filled(dump, &[("treeline://3fa2b1", &number), ("KEY", &key)]);
    host.types(&dump);
    let said = host.types("treeline-dump verify /srv/backup");
    let mut words = said.split(|c: char| !c.is_ascii_hexdigit());
    let signer = words.rfind(|word| word.len() == 64);
    let signer = signer.unwrap_or_else(|| panic!("{said}"));
    host.types(&filled(verify, &[("SIGNER", signer), ("HEX", &origin)]));
    host.types(&filled(undump, &[("KEY", &below)]));
}

/// Wherever the page names a command or a flag, the program knows it.
#[test]
fn every_command_that_the_page_names_is_one() {
    built();
    let typed = blocks().into_iter();
    let typed = typed.flat_map(|block| block.text.lines().map(str::to_owned).collect::<Vec<_>>());
    let own = spans().into_iter().chain(typed);
    let member = first_cells("Administer teams");
    let member = member.iter().flat_map(|cell| cell.split('`'));
    let verbs = ["invite", "device", "admin", "channel"];
    let member = member
        .filter(|part| verbs.contains(&part.split(' ').next().unwrap_or_default()))
        .map(|part| format!("treeline-member {part}"));
    let mut helps = String::new();
    let mut checked = 0;
    let flags: Vec<String> = spans();
    for span in own.chain(member) {
        let words: Vec<&str> = span.split(' ').collect();
        if !words[0].starts_with("treeline-") || span.contains('…') {
            continue;
        }
        if ["treeline-net", "treeline-secure"].contains(&words[0]) {
            continue;
        }
        let is_verb = |word: &&&str| {
            let letters = |c: char| c.is_ascii_lowercase() || c == '-' || c == '|';
            word.starts_with(|c: char| c.is_ascii_lowercase()) && word.chars().all(letters)
        };
        let chain: Vec<&&str> = words[1..].iter().take_while(is_verb).collect();
        let mut lines: Vec<Vec<String>> = vec![Vec::new()];
        for word in chain {
            let choices: Vec<&str> = word.split('|').collect();
            lines = lines
                .iter()
                .flat_map(|line| {
                    let with = |choice: &&str| [line.as_slice(), &[(*choice).to_owned()]].concat();
                    choices.iter().map(with).collect::<Vec<_>>()
                })
                .collect();
        }
        for line in lines {
            let out = Command::new(binary(words[0]).unwrap())
                .args(&line)
                .arg("--help")
                .output()
                .unwrap();
            assert!(out.status.success(), "the page says: {span}");
            let help = String::from_utf8(out.stdout).unwrap();
            let named = span.split(|c: char| !(c.is_ascii_lowercase() || c == '-'));
            for flag in named.filter(|word| word.starts_with("--")) {
                assert!(
                    help.contains(flag),
                    "the page says: {span}; its help:\n{help}"
                );
            }
            helps += &help;
            checked += 1;
        }
    }
    assert!(checked > 40, "{checked}");
    for flag in flags.iter().filter(|span| span.starts_with("--")) {
        let flag = flag.split([' ', '=']).next().unwrap();
        assert!(helps.contains(flag), "no program knows {flag}");
    }
}
