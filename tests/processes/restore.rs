//! A dump brings a wiped tree back, and every device goes on with it.

use std::fs;

use proto::PublicKey;
use xtask::tree::Tree;

use crate::scene::{Scene, command};

#[test]
fn wiped_relays_come_back_from_a_dump() {
    let mut scene = Scene::new();
    for number in 0..20 {
        scene.say(number % 2, &format!("message {number} before the fire"));
    }
    let relay = scene.tree.local.clone();
    let key = PublicKey::from_hex(&scene.tree.origin).unwrap();
    let origin = format!("treeline://{:06x}", key.origin_id().get());
    let dump = scene.folder().join("dump");
    let dump = dump.to_str().unwrap();
    let out = command("treeline-dump", &["dump", &origin, dump, "--relay", &relay]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );

    scene.tree.relays.clear();
    for relay in ["origin", "cloud", "local"] {
        let mut wiped = 0;
        for entry in fs::read_dir(scene.store_of(relay))
            .unwrap()
            .map(Result::unwrap)
        {
            // The keys stay: the relays are the same, their stores are gone.
            if entry
                .path()
                .extension()
                .is_none_or(|ending| ending != "key")
            {
                fs::remove_file(entry.path()).unwrap();
                wiped += 1;
            }
        }
        assert!(wiped > 0);
    }
    scene.tree = Tree::restart(&scene.folder().join("relays"), &scene.tree).unwrap();
    let relay = scene.tree.local.clone();
    let out = command("treeline-dump", &["undump", dump, "--relay", &relay]);
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );

    scene.say(0, "after the fire, from Alice");
    scene.say(1, "after the fire, from Bob");
    for who in [0, 1] {
        let seen = scene.history(who, 22);
        for number in 0..20 {
            assert!(seen.contains(&format!("message {number} before")), "{seen}");
        }
        assert!(
            seen.contains("from Alice") && seen.contains("from Bob"),
            "{seen}"
        );
    }
}
