//! A damaged store is named and rebuilt from the parent; a copied store goes on where it was.

use std::fs;
use std::path::Path;
use std::time::Duration;

use proto::{
    Chunk, Fields, GrantId, Name, Order, Outcome, Path as NamePath, Place, Prefix, Refused,
    Registration, Signer, Start, Tier,
};
use relay::client::{Client, Said};

use crate::process::{Process, output, text, until};

const COUNT: u32 = 300;

fn registration(origin: &Path) -> Registration {
    let said = output(&["org", "register", "--directory", origin.to_str().unwrap()]);
    Registration::from_text(&text(&said.stdout)).unwrap()
}

fn chunks(of: &Registration) -> (Prefix, Vec<Chunk>) {
    let place = Place {
        origin: of.origin.origin_id(),
        org: of.org,
        team: 2,
    };
    let expiry = relay::driver::now().plus_millis(86_400_000);
    let (signer, grant) = (Signer::from_seed(&of.seed), GrantId::of(&of.grant));
    let sign = |number| {
        let fields = Fields::Message {
            channel: 1,
            device: 3,
            number,
        };
        Chunk::sign(Name::new(place, fields), expiry, grant, &[7; 900], &signer).unwrap()
    };
    let prefix = Name::team_prefix(place, NamePath::Message);
    (prefix, (0..COUNT).map(sign).collect())
}

async fn publish(relay: &Process, of: &Registration) {
    let own = relay::tls::random_signer().unwrap();
    let address = relay.line("relay ").parse().unwrap();
    let mut client = Client::connect(&address, &own).await.unwrap();
    client.grant(std::slice::from_ref(&of.grant)).await.unwrap();
    let (_, chunks) = chunks(of);
    let outcomes = client
        .publish_and_wait(&chunks, Tier::Origin)
        .await
        .unwrap();
    let stored = |outcome: &Outcome| *outcome == Outcome::Stored(Tier::Origin);
    assert!(outcomes.values().all(stored), "{outcomes:?}");
}

async fn read(relay: &Process, of: &Registration) -> usize {
    let own = relay::tls::random_signer().unwrap();
    let address = relay.line("relay ").parse().unwrap();
    let mut client = Client::connect(&address, &own).await.unwrap();
    let (prefix, _) = chunks(of);
    let start = (Start::All, Order::OldestFirst);
    client.subscribe(prefix, start.0, start.1).await.unwrap();
    let mut names = std::collections::BTreeSet::new();
    while names.len() < COUNT as usize {
        let said = tokio::time::timeout(Duration::from_secs(30), client.next());
        if let Said::Chunks { chunks, .. } = said.await.expect("chunks are missing").unwrap() {
            names.extend(chunks.iter().map(Chunk::name));
        }
    }
    names.len()
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(test)
}

/// Overwrites pages in the middle of a file.
fn damage(store: &Path) {
    let mut bytes = fs::read(store).unwrap();
    let middle = bytes.len() / 8192 / 2 * 8192;
    bytes[middle..middle + 3 * 8192].fill(0xA5);
    fs::write(store, bytes).unwrap();
}

#[test]
fn a_damaged_store_is_named_and_comes_back_from_the_parent() {
    let directory = tempfile::tempdir().unwrap();
    let (top, low) = (directory.path().join("top"), directory.path().join("low"));
    let origin = Process::start(&top, &[]);
    let of = registration(&top);
    let below = origin.below();
    let more: Vec<&str> = below.iter().map(String::as_str).collect();
    let local = Process::start(&low, &more);
    run(publish(&local, &of));
    let key = local.line("relay ").split_once('#').unwrap().1.to_owned();
    local.signal("TERM");
    assert_eq!(local.ends_with(), Some(0));
    damage(&low.join("store.db"));
    let words = [
        &[
            "run",
            "--directory",
            low.to_str().unwrap(),
            "--listen",
            "127.0.0.1:0",
        ],
        more.as_slice(),
    ];
    let refused = output(&words.concat());
    let line = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{line}");
    assert!(
        line.contains("store.db is damaged") && line.contains("--rebuild"),
        "{line}"
    );
    assert_eq!(line.lines().count(), 1, "{line}");
    let local = Process::start(&low, &[more.as_slice(), &["--rebuild"]].concat());
    assert_eq!(
        local.line("relay ").split_once('#').unwrap().1,
        key,
        "the key stays"
    );
    assert_eq!(run(read(&local, &of)), COUNT as usize);
    let aside = fs::read_dir(&low)
        .unwrap()
        .map(|entry| entry.unwrap().file_name());
    let aside: Vec<_> = aside
        .filter(|name| name.to_string_lossy().starts_with("damaged-"))
        .collect();
    assert_eq!(aside.len(), 1, "the damaged store is kept");
}

#[test]
fn a_copied_directory_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let (old, new) = (directory.path().join("old"), directory.path().join("new"));
    let relay = Process::start(&old, &[]);
    let of = registration(&old);
    run(publish(&relay, &of));
    let key = relay.line("relay ").split_once('#').unwrap().1.to_owned();
    relay.signal("TERM");
    assert_eq!(relay.ends_with(), Some(0));
    fs::create_dir(&new).unwrap();
    for file in fs::read_dir(&old).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), new.join(file.file_name())).unwrap();
    }
    fs::remove_dir_all(&old).unwrap();
    let relay = Process::start(&new, &[]);
    assert_eq!(relay.line("relay ").split_once('#').unwrap().1, key);
    assert_eq!(run(read(&relay, &of)), COUNT as usize);
    until("it is not ready", || relay.ask("/readyz").0.contains("200"));
}

#[test]
fn gc_lists_what_goes_and_then_removes_it() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("relay");
    let relay = Process::start(&at, &[]);
    let of = registration(&at);
    let words =
        |more: &[&str]| output(&[&["gc", "--directory", at.to_str().unwrap()], more].concat());
    let busy = words(&[]);
    assert_eq!(busy.status.code(), Some(11), "{}", text(&busy.stderr));
    let place = Place {
        origin: of.origin.origin_id(),
        org: of.org,
        team: 2,
    };
    let soon = relay::driver::now().plus_millis(6_000);
    let (signer, grant) = (Signer::from_seed(&of.seed), GrantId::of(&of.grant));
    let fields = |number| Fields::Message {
        channel: 1,
        device: 9,
        number,
    };
    let sign = |number| {
        Chunk::sign(
            Name::new(place, fields(number)),
            soon,
            grant,
            &[1; 100],
            &signer,
        )
        .unwrap()
    };
    let short: Vec<Chunk> = (0..5).map(sign).collect();
    run(async {
        let own = relay::tls::random_signer().unwrap();
        let address = relay.line("relay ").parse().unwrap();
        let mut client = Client::connect(&address, &own).await.unwrap();
        client.grant(std::slice::from_ref(&of.grant)).await.unwrap();
        let outcomes = client.publish_and_wait(&short, Tier::Origin).await.unwrap();
        let stored = |outcome: &Outcome| *outcome == Outcome::Stored(Tier::Origin);
        assert!(outcomes.values().all(stored), "{outcomes:?}");
        publish(&relay, &of).await;
    });
    relay.signal("TERM");
    assert_eq!(relay.ends_with(), Some(0));
    until("they never expire", || relay::driver::now() > soon);
    let mut expected: Vec<String> = short
        .iter()
        .map(|chunk| format!("{} {}", chunk.name(), chunk.encoded().len()))
        .collect();
    let dry = text(&words(&["--dry-run"]).stdout);
    let mut listed: Vec<String> = dry.lines().map(str::to_owned).collect();
    expected.sort();
    listed.sort();
    assert_eq!(listed, expected);
    let done = words(&["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(json["chunks"], 5);
    assert_eq!(text(&words(&["--dry-run"]).stdout), "");
    let relay = Process::start(&at, &[]);
    assert_eq!(run(read(&relay, &of)), COUNT as usize, "the others stay");
}

#[test]
fn a_quota_is_in_force_after_a_reload() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().join("relay");
    let relay = Process::start(&at, &["--log", "info"]);
    let of = registration(&at);
    // Room for the grant itself, and for less than one chunk.
    let seconds = of.grant.expiry().since(relay::driver::now()) / 1000;
    let quota = (of.grant.encoded().len() as u64 * seconds + 1_000_000).to_string();
    let number = of.org.to_string();
    let words = [
        "org",
        "quota",
        &number,
        &quota,
        "--directory",
        at.to_str().unwrap(),
    ];
    assert!(output(&words).status.success());
    relay.signal("HUP");
    let log = || fs::read_to_string(directory.path().join("relay.log")).unwrap();
    until("it does not say that it reloaded", || {
        log().contains("reloaded")
    });
    let outcomes = run(async {
        let own = relay::tls::random_signer().unwrap();
        let address = relay.line("relay ").parse().unwrap();
        let mut client = Client::connect(&address, &own).await.unwrap();
        client.grant(std::slice::from_ref(&of.grant)).await.unwrap();
        let (_, chunks) = chunks(&of);
        client
            .publish_and_wait(&chunks[..1], Tier::Origin)
            .await
            .unwrap()
    });
    let refused = |outcome: &Outcome| *outcome == Outcome::Refused(Refused::Quota);
    assert!(outcomes.values().all(refused), "{outcomes:?}");
    let (_, metrics) = relay.ask("/metrics");
    assert!(
        metrics.contains("chunks_refused_total{reason=\"quota\"} 1"),
        "{metrics}"
    );
}

#[test]
fn an_origin_signs_a_record_of_a_relay_and_only_that_relay_keeps_it() {
    let directory = tempfile::tempdir().unwrap();
    let (top, low) = (directory.path().join("top"), directory.path().join("low"));
    let origin = Process::start(&top, &[]);
    let below = origin.below();
    let more: Vec<&str> = below.iter().map(String::as_str).collect();
    let local = Process::start(&low, &more);
    let [top, low] = [&top, &low].map(|path| path.to_str().unwrap());
    let relay = local.line("relay ");
    let signed = output(&["trust", "sign", &relay, "--directory", top]);
    let record = text(&signed.stdout);
    let keep = |at| output(&["trust", "record", record.trim(), "--directory", at]);
    assert_eq!(keep(low).status.code(), Some(0));
    assert_eq!(
        keep(top).status.code(),
        Some(2),
        "it is about another relay"
    );
    let elsewhere = output(&["trust", "sign", &relay, "--directory", low]);
    assert_eq!(elsewhere.status.code(), Some(10), "this is no origin");
    let kept = proto::RelayRecord::from_text(&fs::read_to_string(format!("{low}/record")).unwrap());
    let origin_key = proto::PublicKey::from_hex(&origin.line("origin ")).unwrap();
    let named = kept.unwrap().verify(&[origin_key], relay::driver::now());
    assert_eq!(named.unwrap().to_hex(), relay.split_once('#').unwrap().1);
}
