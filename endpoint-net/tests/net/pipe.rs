//! The real treeline-net between a pretended Secure on its pipe and a real relay on loopback.

use std::process::{Command, Stdio};

use proto::Tier;
use rustix::net::{SendFlags, send};

use crate::process::{Net, PROGRAM, World};

#[test]
fn chunks_go_up_come_back_and_survive_both_processes() {
    let world = World::new();
    let mut net = world.net();
    net.configure(&world.origin, &[]);
    let mut secure = net.link();
    let first = world.chunk(1);
    world.publish(&mut secure, &first);
    assert_eq!(secure.wait_for(first.name(), Tier::Device), [Tier::Device]);

    // Killed without a relay in sight, it still has the chunk, and sends it when there is one.
    net.child.kill().unwrap();
    net.child.wait().unwrap();
    let relay = world.relay("127.0.0.1:0");
    let net = world.net();
    net.configure(&world.origin, std::slice::from_ref(relay.address()));
    let mut secure = net.link();
    world.publish(&mut secure, &first);
    assert_eq!(
        secure.wait_for(first.name(), Tier::Origin).last(),
        Some(&Tier::Origin)
    );

    // What others publish comes down, also after a new link, and after the relay was away.
    world.subscribe(&mut secure);
    assert_eq!(secure.chunks(1), std::slice::from_ref(&first));
    let mut secure = net.link();
    world.subscribe(&mut secure);
    assert_eq!(secure.chunks(1), [first]);
    let place = relay.address().place.clone();
    world.runtime.block_on(relay.stop());
    let second = world.chunk(2);
    world.publish(&mut secure, &second);
    secure.wait_for(second.name(), Tier::Device);
    let relay = world.relay(&place);
    secure.wait_for(second.name(), Tier::Origin);
    world.runtime.block_on(relay.stop());
}

#[test]
fn it_ends_with_the_starter() {
    let directory = tempfile::tempdir().unwrap();
    let mut net = Net::start(directory.path());
    drop(net.control.take());
    assert!(net.child.wait().unwrap().success());
}

#[test]
fn a_packet_that_is_not_for_it_ends_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut net = Net::start(directory.path());
    let control = net.control.take().unwrap();
    send(&control, b"Dxyz", SendFlags::empty()).unwrap();
    assert_eq!(net.child.wait().unwrap().code(), Some(2));
}

#[test]
fn started_by_hand_it_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let out = Command::new(PROGRAM)
        .arg("--directory")
        .arg(directory.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(
        String::from_utf8(out.stderr)
            .unwrap()
            .contains("control socket")
    );
}
