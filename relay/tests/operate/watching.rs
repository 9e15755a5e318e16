//! Status, health, metrics, pins, completions and man pages.

use std::path::Path;

use crate::process::{Process, output, text, until};

fn status(directory: &Path) -> serde_json::Value {
    let said = output(&[
        "status",
        "--json",
        "--directory",
        directory.to_str().unwrap(),
    ]);
    assert!(said.status.success(), "{}", text(&said.stderr));
    serde_json::from_slice(&said.stdout).unwrap()
}

#[test]
fn a_root_is_ready_and_tells_how_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("relay");
    let relay = Process::start(&path, &[]);
    let told = status(&path);
    assert_eq!(told["version"], 1);
    assert_eq!(told["address"], relay.line("relay "));
    assert_eq!(
        (&told["tier"], &told["ready"]),
        (&"origin".into(), &true.into())
    );
    assert_eq!(told["parents"], serde_json::json!([]));
    assert!(told["store"]["bytes"].as_u64().unwrap() > 0);
    assert!(told["store"]["free_bytes"].as_u64().unwrap() > 0);
    for (path, code, word) in [
        ("/healthz", "200", "ok"),
        ("/readyz", "200", "ok"),
        ("/metrics", "200", "\ntreeline_relay_ready 1\n"),
        ("/status", "200", "\"version\":1"),
        ("/etc/passwd", "404", "/metrics"),
    ] {
        let (head, body) = relay.ask(path);
        assert!(
            head.starts_with(&format!("HTTP/1.1 {code} ")),
            "{path}: {head}"
        );
        assert!(body.contains(word), "{path}: {body}");
    }
    let said = output(&["status", "--directory", path.to_str().unwrap()]);
    assert!(text(&said.stdout).contains("this is a root"));
    relay.signal("TERM");
    assert_eq!(relay.ends_with(), Some(0));
    let gone = output(&["status", "--directory", path.to_str().unwrap()]);
    assert_eq!(gone.status.code(), Some(13), "{}", text(&gone.stderr));
}

#[test]
fn a_relay_is_ready_while_its_parent_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let (top, low) = (directory.path().join("top"), directory.path().join("low"));
    let origin = Process::start(&top, &[]);
    let below = origin.below();
    let more: Vec<&str> = below.iter().map(String::as_str).collect();
    let local = Process::start(&low, &more);
    until("it never became ready", || {
        local.ask("/readyz").0.contains("200")
    });
    let told = status(&low);
    assert_eq!(told["parents"][0]["state"], "connected");
    assert_eq!(told["parents"][0]["tier"], "origin");
    assert_eq!(status(&top)["links"], 1);
    origin.signal("TERM");
    assert_eq!(origin.ends_with(), Some(0));
    until("it stayed ready", || local.ask("/readyz").0.contains("503"));
    assert!(
        local.ask("/healthz").0.contains("200"),
        "it lives without a parent"
    );
    until("it is not away", || {
        status(&low)["parents"][0]["state"] == "away"
    });
}

#[test]
fn a_second_parent_stands_by_and_a_third_is_not_needed() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let origin = Process::start(&at("origin"), &[]);
    let below = origin.below();
    let mut more: Vec<&str> = below.iter().map(String::as_str).collect();
    let cloud = [&more[..], &["--tier", "cloud"]].concat();
    let clouds = ["one", "two"].map(|name| Process::start(&at(name), &cloud));
    let parents = [&clouds[0], &clouds[1], &origin].map(|relay| relay.line("relay "));
    let list = parents.join(",");
    more[1] = &list;
    let low = Process::start(&at("low"), &more);
    let told = || status(&at("low"));
    let states = || {
        let parents = told()["parents"].as_array().unwrap().clone();
        parents.into_iter().map(|parent| parent["state"].clone())
    };
    until("one is used, another beside it", || {
        states().eq(["connected", "standing by", "away"])
    });
    let second = told()["parents"][1].clone();
    let place = parents[1].split('#').next().unwrap();
    assert_eq!(
        (&second["place"], &second["relay"]),
        (&place.into(), &place.into())
    );
    assert_eq!(
        (&second["tier"], &second["reach"]),
        (&"cloud".into(), &().into())
    );
    assert_eq!(second["error"], serde_json::Value::Null);
    until("it says that the third is not needed", || {
        let third = told()["parents"][2]["error"].clone();
        third.as_str().is_some_and(|why| why.contains("not needed"))
    });
    let said = output(&["status", "--directory", at("low").to_str().unwrap()]);
    let line = format!("parent         {place} standing by\n");
    assert!(text(&said.stdout).contains(&line), "{}", text(&said.stdout));
    let metrics = low.ask("/metrics").1;
    for line in ["parents 3", "parents_connected 1", "parents_standing_by 1"] {
        assert!(
            metrics.contains(&format!("\ntreeline_relay_{line}\n")),
            "{metrics}"
        );
    }
    clouds[0].signal("KILL");
    until("the other one is used", || {
        states().eq(["away", "connected", "standing by"])
    });
}

#[test]
fn a_parent_that_is_away_is_shown_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (top, low) = (directory.path().join("top"), directory.path().join("low"));
    let origin = Process::start(&top, &[]);
    let place = origin.line("relay ").split('#').next().unwrap().to_owned();
    let below = origin.below();
    let more: Vec<&str> = below.iter().map(String::as_str).collect();
    let _local = Process::start(&low, &more);
    let parent = || status(&low)["parents"][0].clone();
    let error = || parent()["error"].as_str().unwrap_or_default().to_owned();
    until("it is not connected", || parent()["state"] == "connected");
    assert_eq!(parent()["error"], serde_json::Value::Null);
    drop(origin);
    until("nothing says why it is away", || {
        error().contains("cannot reach the relay") && error().contains("refused")
    });
    let text_of = || {
        let said = output(&["status", "--directory", low.to_str().unwrap()]);
        text(&said.stdout)
    };
    let line = format!("parent         {place} away: cannot reach the relay {place}");
    assert!(text_of().contains(&line), "{}", text_of());
    // Somebody else has its address now.
    std::fs::remove_file(top.join("relay.key")).unwrap();
    let origin = Process::start(&top, &["--listen", &place]);
    until("nothing says that it has another key", || {
        error().contains("shows another key")
    });
    drop(origin);
}

#[test]
fn a_domain_that_cannot_be_looked_up_is_shown_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let low = directory.path().join("low");
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let dns = nobody.local_addr().unwrap().to_string();
    let origin = "ab".repeat(32);
    let more = [
        "--parent",
        "relays.invalid",
        "--dns",
        &dns,
        "--origin",
        &origin,
    ];
    let _local = Process::start(&low, &more);
    until("nothing says why the domain is away", || {
        let parent = &status(&low)["parents"][0];
        assert_eq!(parent["state"], "away");
        parent["error"]
            .as_str()
            .is_some_and(|why| why.contains("relays.invalid"))
    });
}

#[test]
fn pins_are_kept_and_a_changed_key_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("relay");
    let trust = |words: &[&str]| {
        output(&[&["trust"], words, &["--directory", at.to_str().unwrap()]].concat())
    };
    let (one, other) = ("ab".repeat(32), "cd".repeat(32));
    assert!(
        trust(&["add", &one, "--name", "ward relay"])
            .status
            .success()
    );
    assert!(
        trust(&["add", &format!("10.0.0.5:4470#{other}")])
            .status
            .success()
    );
    let list = text(&trust(&["list"]).stdout);
    assert_eq!(list, format!("{one} ward relay\n{other} 10.0.0.5:4470\n"));
    let changed = trust(&["add", &other, "--name", "ward relay"]);
    assert_eq!(changed.status.code(), Some(12), "{}", text(&changed.stderr));
    assert!(trust(&["remove", "ward relay"]).status.success());
    assert_eq!(trust(&["remove", "ward relay"]).status.code(), Some(10));
    let list = trust(&["list", "--json"]);
    let pin: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!((&pin["version"], &pin["key"]), (&1.into(), &other.into()));
}

#[test]
fn shells_and_man_know_every_command() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let said = text(&output(&["completion", shell]).stdout);
        assert!(said.contains("check-config"), "{shell}");
    }
    let pages = directory.path().join("man");
    assert!(
        output(&["manpage", pages.to_str().unwrap()])
            .status
            .success()
    );
    for page in [
        "treeline-relay.1",
        "treeline-relay-run.1",
        "treeline-relay-status.1",
    ] {
        assert!(pages.join(page).exists(), "{page}");
    }
}

#[test]
fn organisations_have_quotas_of_their_own() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("origin");
    let _relay = Process::start(&at, &[]);
    let org = |words: &[&str]| {
        output(&[&["org"], words, &["--directory", at.to_str().unwrap()]].concat())
    };
    assert!(org(&["register"]).status.success());
    assert!(org(&["register", "--number", "7"]).status.success());
    assert!(org(&["quota", "7", "1000"]).status.success());
    assert_eq!(text(&org(&["list"]).stdout), "org-1 default\norg-7 1000\n");
    assert!(org(&["quota", "7", "default"]).status.success());
    assert_eq!(
        text(&org(&["list"]).stdout),
        "org-1 default\norg-7 default\n"
    );
    assert_eq!(org(&["quota", "8", "1"]).status.code(), Some(10));
    assert_eq!(org(&["quota", "7", "much"]).status.code(), Some(2));
}
