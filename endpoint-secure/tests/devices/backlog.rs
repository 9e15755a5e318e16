//! Catching up: a device that was away while the team changed and talked. `TREELINE_BACKLOG=10000`
//! makes the backlog that long.

use std::collections::BTreeSet;

use endpoint_secure_api::{Answer, Command, Suite};

use crate::hub::World;

const EPOCHS: usize = 50;
/// Messages in the test command.
const MESSAGES: usize = 1_000;

#[test]
fn a_shuffled_backlog_over_fifty_epochs_decrypts_completely() {
    let asked = std::env::var("TREELINE_BACKLOG").ok();
    let messages = asked.and_then(|text| text.parse().ok()).unwrap_or(MESSAGES);
    let (mut world, channel) = World::pair(Suite::Classic);
    let team = channel.team;
    let cem = world.member("Cem");
    world.bring_in(0, team, cem);
    let name = "tides".to_owned();
    let Answer::Channel(other) = world.ask(0, Command::CreateChannel { team, name }).unwrap()
    else {
        panic!("no channel");
    };
    world.settle();
    let before = world.team_of(1, team).epoch;
    world.unlink(1);
    let mut said = BTreeSet::new();
    for epoch in 0..EPOCHS {
        let (channel, on) = (other.id, epoch % 2 == 0);
        world.ask(0, Command::SetAnnounce { channel, on }).unwrap();
        world.settle();
        for number in epoch * messages / EPOCHS..(epoch + 1) * messages / EPOCHS {
            let text = format!("message {number}");
            let at = if number % 2 == 0 { 0 } else { cem };
            world.say(at, crate::hub::first(team), &text);
            said.insert(text);
        }
        world.settle();
    }
    world.hub.shuffle = true;
    let start = std::time::Instant::now();
    world.link(1);
    world.settle();
    let page = world.page(1, channel);
    println!(
        "{messages} messages over {EPOCHS} epochs: read in {:?}",
        start.elapsed()
    );
    assert_eq!(world.team_of(1, team).epoch, before + EPOCHS as u64);
    assert!(page.iter().all(|one| one.missing_before == 0));
    assert_eq!(page.len(), messages);
    let read: BTreeSet<String> = page.into_iter().map(|one| one.text).collect();
    assert_eq!(read, said);
}
