//! `treeline-dump` as people run it, against relays on loopback: a dump brings an empty tree back, and
//! nothing that is not exactly what was signed is taken for one.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use proto::{Chunk, Tier};
use serde_json::Value;

use crate::tree::{LIFE_MS, Tree, device, organisation};

/// Its one line of JSON; it has ended well.
fn good(out: &Output) -> Value {
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{} {error}", out.status);
    assert_eq!(error, "");
    let value: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(value["v"], 1);
    value
}

/// It has ended with this code and one line that says these words.
fn fails(out: &Output, code: i32, words: &[&str]) {
    let line = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(line.starts_with("treeline-dump: "), "{line}");
    for word in words {
        assert!(line.contains(word), "`{word}` is not in: {line}");
    }
}

fn files(dir: &Path, beginning: &str) -> Vec<PathBuf> {
    let all = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all
        .filter(|path| {
            path.file_name()
                .unwrap()
                .to_str()
                .unwrap()
                .starts_with(beginning)
        })
        .collect();
    found.sort();
    found
}

#[test]
fn an_empty_tree_comes_back_from_a_dump_once() {
    let mut tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    let mut chunks = tree.say(&chain, 2, 0..1200, Tier::Local);
    let dir = tree.at("backup");
    let made = good(&tree.dump(&tree.prefix(), &dir, Tier::Local));
    assert_eq!(
        (&made["chunks"], &made["grants"]),
        (&1203.into(), &3.into())
    );
    let origin = tree.registration.origin.to_hex();
    let sound = good(&tree.verify(&dir, &["--origin", &origin]));
    assert_eq!(
        (&sound["unproven"], &sound["signer"]),
        (&0.into(), &made["signer"])
    );

    // With everything there, nothing is published.
    let known = good(&tree.undump(&dir, Tier::Local, &[]));
    assert_eq!(
        (&known["stored"], &known["known"]),
        (&0.into(), &1203.into())
    );

    tree.wipe();
    assert_eq!(tree.content(Tier::Origin), []);
    let would = good(&tree.undump(&dir, Tier::Local, &["--dry-run"]));
    assert_eq!(would["stored"], 1203);
    assert_eq!(tree.content(Tier::Local), []);
    let stored = good(&tree.undump(&dir, Tier::Local, &["--wait", "origin"]));
    assert_eq!(
        (&stored["stored"], &stored["refused"]),
        (&1203.into(), &0.into())
    );
    chunks.sort_by_key(Chunk::name);
    assert_eq!(tree.content(Tier::Origin), chunks);
    assert_eq!(tree.content(Tier::Local), chunks);
    let again = good(&tree.undump(&dir, Tier::Origin, &["--wait", "origin"]));
    assert_eq!(
        (&again["stored"], &again["known"]),
        (&0.into(), &1203.into())
    );
    // Whoever held the grants can go on.
    tree.say(&chain, 2, 1200..1210, Tier::Local);
}

#[test]
fn a_part_of_a_tree_takes_its_grants_with_it() {
    let mut tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    tree.say(&chain, 2, 0..5, Tier::Origin);
    let other = tree.chain(4, LIFE_MS);
    let team = tree.say(&other, 4, 0..5, Tier::Origin);
    let dir = tree.at("team");
    let prefix = format!("{}/message/org-3/team-4", tree.prefix());
    // The local relay has none of it yet: it comes from above while the dump waits.
    let made = good(&tree.dump(&prefix, &dir, Tier::Local));
    assert_eq!((&made["chunks"], &made["grants"]), (&8.into(), &3.into()));
    let listed = tree.run(&["ls", dir.to_str().unwrap()]);
    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.contains(&prefix) && listed.contains("/grant/org-3/team-0"),
        "{listed}"
    );
    let names = tree.run(&["ls", dir.to_str().unwrap(), "--names", "--json"]);
    assert_eq!(String::from_utf8(names.stdout).unwrap().lines().count(), 8);
    tree.wipe();
    good(&tree.undump(&dir, Tier::Cloud, &["--wait", "origin"]));
    let mut team = team;
    team.sort_by_key(Chunk::name);
    assert_eq!(tree.content(Tier::Origin), team);
}

#[test]
fn a_second_dump_adds_what_is_new_and_keeps_what_the_tree_has_lost() {
    let mut tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    tree.say(&chain, 2, 0..10, Tier::Origin);
    let dir = tree.at("backup");
    good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    tree.say(&chain, 2, 10..15, Tier::Origin);
    let second = good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    assert_eq!((&second["chunks"], &second["new"]), (&18.into(), &5.into()));
    let before = files(&dir, "");
    let third = good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    assert_eq!((&third["chunks"], &third["new"]), (&18.into(), &0.into()));
    assert_eq!(files(&dir, ""), before, "manifest, lock, grants, chunks");
    assert_eq!(before.len(), 4);
    tree.wipe();
    let emptied = good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    assert_eq!(
        (&emptied["chunks"], &emptied["new"]),
        (&18.into(), &0.into())
    );
    // A later dump at another relay sees everything again, and takes it once.
    good(&tree.undump(&dir, Tier::Origin, &[]));
    let cloud = good(&tree.dump(&tree.prefix(), &dir, Tier::Cloud));
    assert_eq!((&cloud["chunks"], &cloud["new"]), (&18.into(), &0.into()));

    let other = format!("{}/message", tree.prefix());
    fails(
        &tree.dump(&other, &dir, Tier::Origin),
        2,
        &["another directory"],
    );
    fs::remove_dir_all(tree.at("state")).unwrap();
    fails(
        &tree.dump(&tree.prefix(), &dir, Tier::Origin),
        12,
        &["--key"],
    );
    good(&tree.verify(&dir, &[]));
}

#[test]
fn what_is_not_what_was_signed_is_refused() {
    let tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    tree.say(&chain, 2, 0..10, Tier::Origin);
    let dir = tree.at("backup");
    let made = good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    let signer = made["signer"].as_str().unwrap();
    good(&tree.verify(&dir, &["--signer", signer]));
    let foreign = organisation().public_key().to_hex();
    fails(&tree.verify(&dir, &["--signer", &foreign]), 12, &[signer]);
    fails(
        &tree.verify(&dir, &["--origin", &foreign]),
        14,
        &["signature"],
    );
    fails(
        &tree.verify(&dir, &["--origin", "abc"]),
        2,
        &["64 hex digits"],
    );

    for name in ["chunks-", "grants-", "manifest"] {
        let path = files(&dir, name).remove(0);
        let whole = fs::read(&path).unwrap();
        let both = |words: &[&str]| {
            fails(&tree.verify(&dir, &[]), 14, words);
            fails(&tree.undump(&dir, Tier::Origin, &[]), 14, words);
            fails(&tree.run(&["ls", dir.to_str().unwrap()]), 14, words);
            fails(&tree.dump(&tree.prefix(), &dir, Tier::Origin), 14, words);
        };
        let shown = path.to_str().unwrap();
        let mut flipped = whole.clone();
        flipped[whole.len() / 2] ^= 4;
        fs::write(&path, &flipped).unwrap();
        both(&[shown]);
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        both(&[shown]);
        fs::remove_file(&path).unwrap();
        if name == "manifest" {
            fails(&tree.verify(&dir, &[]), 14, &["incomplete"]);
            fails(&tree.undump(&dir, Tier::Origin, &[]), 14, &["incomplete"]);
        } else {
            both(&["missing"]);
        }
        fs::write(&path, &whole).unwrap();
        good(&tree.verify(&dir, &[]));
    }
    let path = dir.join("manifest");
    let later = fs::read_to_string(&path)
        .unwrap()
        .replace("\"version\":1", "\"version\":2");
    fs::write(&path, later).unwrap();
    fails(&tree.verify(&dir, &[]), 2, &["version 2"]);
}

#[test]
fn a_dump_that_was_cut_off_is_none_until_it_is_made_again() {
    let tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    tree.say(&chain, 2, 0..20, Tier::Origin);
    let dir = tree.at("backup");
    for (signal, code) in [("INT", Some(130)), ("KILL", None)] {
        // It waits at the local relay, with everything read and nothing signed.
        let address = tree.address(Tier::Local);
        let cut = Command::new(env!("CARGO_BIN_EXE_treeline-dump"))
            .args(["dump", &tree.prefix(), dir.to_str().unwrap()])
            .args(["--relay", &address, "--settle", "600"])
            .env("XDG_STATE_HOME", tree.at("state"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while !dir.join("chunks.part").exists() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let second = tree.dump(&tree.prefix(), &dir, Tier::Local);
        fails(&second, 11, &["another"]);
        let pid = cut.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(sent.unwrap().success());
        let out = cut.wait_with_output().unwrap();
        assert_eq!(out.status.code(), code);
        if code.is_some() {
            fails(&out, 130, &["interrupted"]);
        }
        fails(&tree.verify(&dir, &[]), 14, &["incomplete"]);
        fails(&tree.undump(&dir, Tier::Origin, &[]), 14, &["incomplete"]);
        fs::remove_file(dir.join("chunks.part")).unwrap();
    }
    fs::write(dir.join("chunks.part"), "half of one").unwrap();
    good(&tree.dump(&tree.prefix(), &dir, Tier::Local));
    assert_eq!(good(&tree.verify(&dir, &[]))["chunks"], 23);
    assert_eq!(files(&dir, "").len(), 4);
}

#[test]
fn what_is_there_stays_and_what_contradicts_it_is_a_failure() {
    let mut tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    let chunks = tree.say(&chain, 2, 0..600, Tier::Origin);
    let dir = tree.at("backup");
    good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    tree.wipe();
    // As after an undump that was cut off.
    tree.publish(&chain, &chunks[..250], Tier::Origin);
    let out = good(&tree.undump(&dir, Tier::Origin, &[]));
    assert_eq!((&out["stored"], &out["known"]), (&350.into(), &253.into()));

    tree.wipe();
    let other = tree.chain(2, LIFE_MS / 2);
    tree.say(&other, 2, 0..4, Tier::Origin);
    let out = tree.undump(&dir, Tier::Origin, &[]);
    fails(&out, 1, &["4 chunks were refused", "other bytes"]);
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&told["stored"], &told["known"]), (&598.into(), &1.into()));
}

#[test]
fn what_is_over_is_counted_and_what_a_relay_does_not_serve_is_a_failure() {
    let mut tree = Tree::start();
    let short = tree.chain(2, 6000);
    tree.say(&short, 2, 0..3, Tier::Origin);
    let long = tree.chain(4, LIFE_MS);
    tree.say(&long, 4, 0..3, Tier::Origin);
    let dir = tree.at("backup");
    good(&tree.dump(&tree.prefix(), &dir, Tier::Origin));
    std::thread::sleep(Duration::from_millis(6200));
    tree.wipe();
    let out = good(&tree.undump(&dir, Tier::Origin, &[]));
    assert_eq!((&out["stored"], &out["expired"]), (&6.into(), &5.into()));

    let elsewhere = Tree::start();
    let out = elsewhere.undump(&dir, Tier::Origin, &[]);
    fails(&out, 1, &["6 chunks were refused", "origin"]);
    let told: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!((&told["refused"], &told["expired"]), (&6.into(), &5.into()));
}

#[test]
fn mistakes_are_one_line() {
    let mut tree = Tree::start();
    let dir = tree.at("backup");
    let prefix = tree.prefix();
    fails(&tree.verify(&dir, &[]), 10, &["no directory"]);
    fails(
        &tree.dump("treeline://zz", &dir, Tier::Origin),
        2,
        &["treeline://zz", "<origin>"],
    );
    fails(
        &tree.dump(&prefix, &dir, Tier::Origin),
        10,
        &["nothing under"],
    );
    fails(&tree.verify(&dir, &[]), 10, &["not a dump"]);
    let dir = dir.to_str().unwrap();
    fails(
        &tree.run(&["dump", &prefix, dir, "--relay", "x"]),
        2,
        &["HOST:PORT#KEY"],
    );
    let address = tree.address(Tier::Origin);
    let (place, _) = address.split_once('#').unwrap();
    let wrong = format!("{place}#{}", device().public_key().to_hex());
    fails(
        &tree.run(&["dump", &prefix, dir, "--relay", &wrong]),
        12,
        &["another key"],
    );
    fs::write(tree.at("short.key"), "short").unwrap();
    let key = tree.at("short.key");
    let key = [
        "dump",
        &prefix,
        dir,
        "--relay",
        &address,
        "--key",
        key.to_str().unwrap(),
    ];
    fails(&tree.run(&key), 12, &["32 bytes"]);
    let taken = tree.at("taken");
    fs::create_dir(&taken).unwrap();
    fs::write(taken.join("letter"), "dear").unwrap();
    fails(&tree.dump(&prefix, &taken, Tier::Origin), 2, &["letter"]);
    let root = tree.relays.remove(0);
    tree.runtime.block_on(root.stop());
    fails(
        &tree.run(&["dump", &prefix, dir, "--relay", &address]),
        13,
        &[place],
    );
}

#[test]
fn a_relay_that_will_not_take_more_for_now_is_asked_again() {
    let mut tree = Tree::start();
    // A link may publish 600 key packages at once, and ten more each second.
    let packages: Vec<Chunk> = (0..39).flat_map(|key| tree.key_packages(key)).collect();
    for part in packages.chunks(500) {
        tree.publish(&[], part, Tier::Origin);
    }
    let dir = tree.at("backup");
    let prefix = format!("{}/key-package", tree.prefix());
    let made = good(&tree.dump(&prefix, &dir, Tier::Origin));
    assert_eq!((&made["chunks"], &made["grants"]), (&624.into(), &0.into()));
    assert_eq!(good(&tree.verify(&dir, &[]))["unproven"], 0);
    tree.wipe();
    let out = good(&tree.undump(&dir, Tier::Origin, &[]));
    assert_eq!((&out["stored"], &out["refused"]), (&624.into(), &0.into()));
}

#[test]
fn diff_lists_what_only_one_dump_has() {
    let tree = Tree::start();
    let chain = tree.chain(2, LIFE_MS);
    tree.say(&chain, 2, 0..10, Tier::Local);
    let (old, new) = (tree.at("old"), tree.at("new"));
    good(&tree.dump(&tree.prefix(), &old, Tier::Local));
    let mut later = tree.say(&chain, 2, 10..13, Tier::Local);
    // The grants are in both.
    later.retain(|chunk| chunk.name().path() == proto::Path::Message);
    good(&tree.dump(&tree.prefix(), &new, Tier::Local));
    let (old, new) = (old.to_str().unwrap(), new.to_str().unwrap());
    good(&tree.run(&["diff", old, old, "--json"]));
    let differ = tree.run(&["diff", old, new]);
    fails(&differ, 1, &["differ"]);
    let text = String::from_utf8(differ.stdout).unwrap();
    let mut lines: Vec<&str> = text.lines().collect();
    let sum = lines.pop().unwrap();
    assert!(sum.starts_with("13 chunks in both, 0 only in"), "{sum}");
    let mut expected: Vec<String> = later
        .iter()
        .map(|chunk| format!("> {}", chunk.name()))
        .collect();
    expected.sort();
    lines.sort_unstable();
    assert_eq!(lines, expected);
    let back = tree.run(&["diff", new, old]);
    assert_eq!(
        String::from_utf8(back.stdout)
            .unwrap()
            .matches("< ")
            .count(),
        3
    );
    let shell = tree.run(&["completion", "bash"]);
    assert!(String::from_utf8(shell.stdout).unwrap().contains("undump"));
}
