//! A newcomer in a large team. `TREELINE_CROWD=1000` makes it that large; the suite is the one for
//! teams of more than 100 devices.
//!
//! Most of the team are leaves without a device behind them: they are added by commits of the founder
//! as any, and never speak.

use std::time::Instant;

use endpoint_secure_api::Suite;
use proto::{Path, Signer};

use super::world::{Template, World};
use crate::group::{Candidate, Change, LeafSigner, Provider, key_package};
use crate::naming::Credential;

/// Devices in the test command.
const CROWD: usize = 150;
/// Devices that one commit adds: it has to fit its fragments.
const BATCH: usize = 200;

fn add_leaves(world: &mut World, from: usize, to: usize) {
    let (team, now) = (world.team, world.now);
    let device = world.peers[0].device.as_mut();
    let session = device.and_then(|one| one.open_session()).unwrap();
    session.begin(now).unwrap();
    let mut add = Vec::new();
    for number in from..to {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let (publishing, signer) = (Signer::from_seed(&seed), LeafSigner::from_seed(&seed));
        let mut salt = [1; 16];
        salt[..8].copy_from_slice(&(number as u64 + 1).to_be_bytes());
        let name = format!("person {number}");
        let names = (name.as_str(), "laptop");
        let credential = Credential::bind((names, None), &publishing, salt, team, &signer.public());
        let namespace = session.new_namespace().unwrap();
        let provider = Provider::new(&session.store, &session.crypto, namespace);
        let kind = (&credential, false);
        let package = key_package(&provider, Suite::Classic, &signer, kind).unwrap();
        session.store.delete_mls(namespace).unwrap();
        add.push(Candidate::read(&session.crypto, team, Suite::Classic, &package).unwrap());
    }
    let change = Change {
        add,
        ..Change::default()
    };
    session.make(team, (change, None)).unwrap();
    session.commit().unwrap();
    world.drain(0);
    world.settle();
}

#[test]
fn a_large_team_is_joined_and_talks() {
    let asked = std::env::var("TREELINE_CROWD").ok();
    let crowd = asked.and_then(|text| text.parse().ok()).unwrap_or(CROWD);
    let mut world = Template::new(3, 1).world();
    world.settle();
    for from in (0..crowd - 4).step_by(BATCH) {
        add_leaves(&mut world, from, (from + BATCH).min(crowd - 4));
    }
    let before = world.published(0);
    let start = Instant::now();
    world.bring_in(0, 3);
    world.settle();
    let took = start.elapsed();
    let truth = world.tip(0).unwrap();
    assert_eq!(truth.devices.len(), crowd);
    for at in 1..4 {
        assert_eq!(world.tip(at).unwrap().id, truth.id, "{at}");
    }
    let after = world.published(0);
    let grown = |path| after.get(&path).unwrap_or(&0) - before.get(&path).unwrap_or(&0);
    println!(
        "{crowd} devices: the last came in after {took:?}; commit {} B, welcome {} B, blob {} B",
        grown(Path::Commit),
        grown(Path::Welcome),
        grown(Path::Blob),
    );
    assert!(grown(Path::Welcome) < 4_096 && grown(Path::Commit) < 4_096);
    for at in [0, 3] {
        assert!(world.say(at, &format!("from {at}"), 5));
    }
    world.settle();
    for at in 0..4 {
        let texts: Vec<String> = world.texts(at).into_iter().map(|one| one.0).collect();
        assert_eq!(texts.len(), 2, "{at}: {texts:?}");
    }
}
