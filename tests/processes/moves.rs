//! An endpoint whose local relay goes silent without a word: what it says goes through the cloud
//! meanwhile, and through the local relay again when that one speaks.

use std::collections::BTreeSet;
use std::time::Instant;

use endpoint_secure_api::{Answer, ChannelId, Command, Delivery, Message};
use xtask::process::signal;
use xtask::tree;

use crate::network::members::Member;
use crate::scene::built;

/// The relay that a member uses now.
fn relay_of(member: &Member) -> String {
    let Answer::Status(status) = member.endpoint.call(&Command::Status).unwrap() else {
        panic!("no status")
    };
    status.connectivity.relay
}

/// Waits until a member uses this relay; says how long that took since something happened.
fn goes_through(member: &Member, place: &str, what: &str, since: Instant) {
    member.until(what, || relay_of(member) == place);
    println!("{what}: {:?}", since.elapsed());
}

/// Says something, waits until it is at the origin, and returns it.
fn says(member: &mut Member, channel: ChannelId) -> String {
    let text = member.say(channel);
    let at_origin =
        |message: &Message| message.text == text && message.delivery == Delivery::Origin;
    member.until("it is at the origin", || {
        member.shows(channel).iter().any(at_origin)
    });
    text
}

/// P2, P3: nothing is lost or shown twice by moving.
#[test]
fn an_endpoint_moves_from_a_silent_relay_to_the_cloud_and_back() {
    built();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    let (_origin, above, key) = tree::relay(path, "origin", "127.0.0.1:0", &[]).unwrap();
    let below = ["--parent", &above, "--origin", &key];
    let (_cloud, cloud, _) = tree::relay(path, "cloud", "127.0.0.1:0", &below).unwrap();
    let below = ["--parent", &cloud, "--origin", &key];
    let (local, near, _) = tree::relay(path, "local", "127.0.0.1:0", &below).unwrap();
    let registration = tree::register(&path.join("origin")).unwrap();
    let [near_place, cloud_place] = [&near, &cloud].map(|at| at.split('#').next().unwrap());

    let mut alice = Member::here(path, "alice");
    let team = alice.found(&registration, &[&near, &cloud]);
    let mut bob = Member::here(path, "bob");
    bob.join(&alice.invite(team));
    alice.admit(team, &bob);
    for one in [&alice, &bob] {
        one.until("both are in the team", || one.is_among(2));
        goes_through(one, near_place, "the local relay is used", Instant::now());
    }
    let Answer::Channels(channels) = alice.endpoint.call(&Command::Channels { team }).unwrap()
    else {
        panic!("no channels")
    };
    let channel = channels[0].id;
    let mut said = BTreeSet::from([says(&mut alice, channel)]);

    let pid = local.pid().unwrap();
    signal(pid, "STOP");
    let silent = Instant::now();
    // Written into the silence.
    let text = alice.say(channel);
    goes_through(&alice, cloud_place, "moved to the cloud", silent);
    goes_through(&bob, cloud_place, "moved to the cloud", silent);
    said.extend([text, says(&mut alice, channel), says(&mut bob, channel)]);
    for one in [&alice, &bob] {
        one.shows_all(channel, &said);
        assert_eq!(relay_of(one), cloud_place);
    }

    signal(pid, "CONT");
    let awake = Instant::now();
    goes_through(&alice, near_place, "moved back to the local relay", awake);
    goes_through(&bob, near_place, "moved back to the local relay", awake);
    said.extend([says(&mut alice, channel), says(&mut bob, channel)]);
    for one in [&alice, &bob] {
        one.shows_all(channel, &said);
        assert_eq!(one.shows(channel).len(), said.len(), "each once");
    }
}
