//! What the parent is asked for when the links below want very much.

use proto::limits::DAY_MS;
use proto::{
    Chunk, Frame, Misbehaved, Name, OriginId, Path, Place, Prefix, Registration, Signer, Start,
    Tier,
};

use super::super::{Event, Limits};
use super::world::{World, hello};
use crate::store::StoreId;

/// A relay below an origin.
fn pair() -> World {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    world.join(1, 0);
    world.settle();
    world
}

fn team(world: &World, org: u32, team: u32) -> Prefix {
    let place = Place {
        org,
        team,
        ..world.place()
    };
    Name::team_prefix(place, Path::Message)
}

/// Has clients of the relay ask for prefixes, as many each as a link may; returns the clients.
fn ask(world: &mut World, prefixes: &[Prefix]) -> Vec<usize> {
    let parts = prefixes.chunks(4096).map(|part| {
        let client = world.client(1);
        for (id, prefix) in (0..).zip(part) {
            world.subscribe(client, id, *prefix, Start::All);
        }
        world.settle();
        client
    });
    parts.collect()
}

/// What the relay is subscribed to at its parent since its link there is up.
fn above(world: &World) -> Vec<Prefix> {
    let mut above = std::collections::BTreeMap::new();
    for (_, to, frame) in &world.between {
        match frame {
            Frame::Hello(_) if *to == 0 => above.clear(),
            Frame::Subscribe { id, prefix, .. } if *to == 0 => {
                above.insert(*id, *prefix);
            }
            Frame::Unsubscribe { id } if *to == 0 => {
                above.remove(id);
            }
            _ => {}
        }
    }
    above.into_values().collect()
}

/// Whether what is published above comes to a client of the relay that asked for it.
fn comes(world: &mut World, client: usize, chunk: &Chunk) -> bool {
    let writer = world.client(0);
    world.publish(writer, std::slice::from_ref(chunk));
    world.settle();
    world.clients[client].chunks().contains(chunk)
}

fn cut_off(world: &World) -> bool {
    world.nodes[1].snapshot().parent.is_none()
}

#[test]
fn the_parent_is_asked_for_an_organisation_when_too_many_of_its_teams_are_wanted() {
    let mut world = pair();
    let teams: Vec<Prefix> = (0..5000).map(|number| team(&world, 1, number)).collect();
    let clients = ask(&mut world, &teams);
    assert!(!cut_off(&world));
    let organisation = Prefix::of(world.team().first(), 58);
    assert_eq!(above(&world), [organisation]);
    let chunk = world.chunk(1, 0);
    assert!(comes(&mut world, clients[0], &chunk));
    // It resumes where the shorter prefix was, and is asked for just what is wanted again.
    world.wait(300);
    world.between.clear();
    for (client, ids) in [(clients[0], 3..4096), (clients[1], 0..904)] {
        for id in ids {
            world.say(client, &Frame::Unsubscribe { id });
        }
    }
    world.settle();
    let starts = world
        .between
        .iter()
        .filter_map(|(_, _, frame)| match frame {
            Frame::Subscribe { prefix, start, .. } if teams[..3].contains(prefix) => Some(start),
            _ => None,
        });
    let starts: Vec<&Start> = starts.collect();
    assert!(
        starts.len() == 3 && starts.iter().all(|start| matches!(start, Start::After(_))),
        "{starts:?}"
    );
    assert_eq!(above(&world).len(), 3);
    let next = world.chunk(1, 1);
    assert!(comes(&mut world, clients[0], &next));
}

#[test]
fn the_parent_is_asked_for_an_origin_when_too_many_organisations_are_wanted() {
    let mut world = pair();
    let origin = world.place().origin;
    let mut orgs: Vec<Prefix> = (0..3000).map(|number| team(&world, number, 2)).collect();
    // Nothing can come of origins that the relay does not serve.
    let elsewhere = Place {
        origin: OriginId::new(origin.get() ^ 1),
        ..world.place()
    };
    orgs.push(Name::team_prefix(elsewhere, Path::Message));
    let clients = ask(&mut world, &orgs);
    assert_eq!(above(&world), [Prefix::of(world.team().first(), 24)]);
    let chunk = world.chunk(1, 0);
    assert!(comes(&mut world, clients[0], &chunk));
}

#[test]
fn what_comes_meanwhile_is_not_missed_when_the_parent_is_asked_for_more() {
    let mut world = pair();
    let reader = world.client(1);
    world.subscribe(reader, 1, world.team(), Start::All);
    world.settle();
    let writer = world.client(0);
    let teams: Vec<Prefix> = (10..1500).map(|number| team(&world, 1, number)).collect();
    let client = world.client(1);
    let chunks = world.chunks(0..50);
    for (number, part) in (0..).zip(teams.chunks(30)) {
        world.publish(writer, &chunks[number..=number]);
        for (id, prefix) in (number as u32 * 30..).zip(part) {
            world.subscribe(client, id, *prefix, Start::All);
        }
        world.turn();
    }
    world.settle();
    assert_eq!(above(&world).len(), 1);
    assert_eq!(world.clients[reader].chunks(), chunks);
}

#[test]
fn a_parent_that_allows_no_short_prefixes_is_not_asked_for_them_again() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    world.nodes[0].config.limits.prefix_bits = 58;
    world.join(1, 0);
    let orgs: Vec<Prefix> = (0..1500).map(|number| team(&world, number, 2)).collect();
    let clients = ask(&mut world, &orgs);
    let refusals = |world: &World| {
        let refused = &world.nodes[0].counters().misbehaved;
        refused.get(&Misbehaved::PrefixTooShort).copied()
    };
    assert_eq!((cut_off(&world), refusals(&world)), (true, Some(1)));
    world.join(1, 0);
    world.settle();
    assert_eq!((cut_off(&world), refusals(&world)), (false, Some(1)));
    assert_eq!(above(&world).len(), orgs.len());
    let chunk = world.chunk(1, 0);
    assert!(comes(&mut world, clients[0], &chunk));
}

#[test]
fn a_parent_that_stops_is_asked_for_short_prefixes_again() {
    let mut world = pair();
    let teams: Vec<Prefix> = (0..5000).map(|number| team(&world, 1, number)).collect();
    let clients = ask(&mut world, &teams);
    let organisation = [Prefix::of(world.team().first(), 58)];
    assert_eq!(above(&world), organisation);
    let now = world.now;
    world.nodes[0].stop(now);
    world.settle();
    assert!(cut_off(&world));
    world.restart(0, false);
    world.join(1, 0);
    world.settle();
    assert_eq!(above(&world), organisation);
    let chunk = world.chunk(1, 0);
    assert!(comes(&mut world, clients[0], &chunk));
}

#[test]
fn a_parent_that_left_without_an_answer_is_asked_for_short_prefixes_after_an_hour() {
    let mut world = World::new(&[Tier::Origin, Tier::Local]);
    let parent = world.impostor(1, [9; 16]);
    let teams: Vec<Prefix> = (0..5000).map(|number| team(&world, 1, number)).collect();
    ask(&mut world, &teams);
    let organisation = Prefix::of(world.team().first(), 58);
    let shorter = |world: &World, parent: usize| {
        let heard = &world.clients[parent].heard;
        let asked = |frame: &Frame| matches!(frame, Frame::Subscribe { prefix, .. } if *prefix == organisation);
        heard.iter().any(asked)
    };
    assert!(shorter(&world, parent));
    let reason = "because".into();
    world.say(parent, &Frame::Close { reason });
    let again = world.impostor(1, [9; 16]);
    world.settle();
    assert!(!shorter(&world, again));
    world.wait(3_600_000);
    assert!(shorter(&world, again));
}

/// Shows the parent alone a grant of organisation 9, of which nothing shorter than a team's path may be
/// asked for.
fn forbid_short(world: &mut World, origin: &Signer) {
    let limits = proto::Limits {
        subscription_bits: 78,
        ..proto::Limits::default()
    };
    let end = world.now.plus_millis(DAY_MS);
    let narrow = Registration::issue_with(origin, 9, [9; 32], end, limits).unwrap();
    let above_it = world.client(0);
    world.say(above_it, &Frame::Grant(vec![narrow.grant]));
}

#[test]
fn a_stranger_cuts_nobody_off_with_a_prefix_that_only_the_parent_knows_to_be_too_short() {
    let mut world = pair();
    let place = Place {
        org: 9,
        ..world.place()
    };
    let origin = world.origin.clone();
    assert_eq!(origin.public_key().origin_id(), place.origin);
    forbid_short(&mut world, &origin);
    let reader = world.client(1);
    world.subscribe(reader, 1, world.team(), Start::All);
    let strangers = [(); 2].map(|()| {
        let stranger = world.stranger(1);
        world.say(stranger, &hello(world.now, Tier::Device));
        stranger
    });
    let wide = Prefix::of(Name::team_prefix(place, Path::Message).first(), 58);
    world.subscribe(strangers[0], 1, wide, Start::All);
    world.settle();
    assert!(cut_off(&world));
    // The relay has learnt why, and the stranger finds no other that has not.
    world.join(1, 0);
    world.subscribe(strangers[1], 1, wide, Start::All);
    world.settle();
    assert!(!cut_off(&world) && !above(&world).contains(&wide));
    let refused = &world.nodes[1].counters().misbehaved;
    assert_eq!(refused.get(&Misbehaved::PrefixTooShort), Some(&1));
    let chunk = world.chunk(1, 0);
    assert!(comes(&mut world, reader, &chunk));
}

/// A pair where nothing shorter than a team's path may be asked for.
fn narrow_pair() -> World {
    let limits = Limits {
        prefix_bits: 78,
        ..Limits::default()
    };
    let mut world = World::with_limits(&[Tier::Origin, Tier::Local], &limits);
    world.join(1, 0);
    world
}

fn left_out(world: &World) -> usize {
    let parent = world.nodes[1].snapshot().parent;
    parent.map_or(0, |parent| parent.left_out)
}

#[test]
fn one_link_leaves_the_others_their_share_of_the_parent() {
    let mut world = narrow_pair();
    // The prefixes that one link wants stand in front of the others', and behind them.
    let teams = (10..2058).chain(10_000..12_048);
    let teams: Vec<Prefix> = teams.map(|number| team(&world, 1, number)).collect();
    let greedy = ask(&mut world, &teams);
    let shared = teams[7];
    let modest: Vec<Prefix> = (5000..5020).map(|number| team(&world, 1, number)).collect();
    let reader = ask(&mut world, &modest)[0];
    world.subscribe(reader, 99, shared, Start::All);
    world.wait(1000);
    let asked = above(&world);
    assert_eq!((cut_off(&world), asked.len()), (false, 2048));
    assert!(
        modest
            .iter()
            .chain([&shared])
            .all(|one| asked.contains(one))
    );
    assert_eq!(left_out(&world), 4096 + 20 - 2048);
    // What one link has left another one gets.
    world.leave(reader);
    world.wait(1000);
    let asked = above(&world);
    assert_eq!((asked.len(), left_out(&world)), (2048, 2048));
    assert!(asked.iter().all(|one| teams.contains(one)));
    world.leave(greedy[0]);
    world.wait(1000);
    assert_eq!((above(&world), left_out(&world)), (vec![], 0));
}

#[test]
fn who_has_room_above_is_not_worked_out_all_the_time() {
    let mut world = narrow_pair();
    let teams: Vec<Prefix> = (10..40_010).map(|number| team(&world, 1, number)).collect();
    ask(&mut world, &teams);
    (0..3).for_each(|_| world.wait(1000));
    let late = world.client(1);
    for number in 0..2 {
        world.subscribe(late, number, team(&world, 2, number), Start::All);
        world.settle();
    }
    let has = |world: &World, number| above(world).contains(&team(world, 2, number));
    assert!(has(&world, 0) && !has(&world, 1));
    world.wait(1000);
    assert!(has(&world, 1));
}

#[test]
fn a_stranger_cuts_nobody_off_with_names_of_an_origin_that_is_not_served() {
    let mut world = pair();
    let (origin, now) = (Signer::from_seed(&[2; 32]), world.now);
    let origins = vec![world.origin.public_key(), origin.public_key()];
    world.nodes[0].handle(Event::Origins(origins), now);
    forbid_short(&mut world, &origin);
    let place = Place {
        origin: origin.public_key().origin_id(),
        org: 9,
        team: 1,
    };
    let wide = Prefix::of(Name::team_prefix(place, Path::Message).first(), 58);
    let stranger = world.client(1);
    world.subscribe(stranger, 1, wide, Start::All);
    world.settle();
    assert!(!cut_off(&world) && above(&world).is_empty());
}

#[test]
fn fetches_above_wait_for_their_turn() {
    let mut world = pair();
    let chunk = world.chunk(1, 0);
    let writer = world.client(0);
    world.publish(writer, std::slice::from_ref(&chunk));
    world.settle();
    let readers: Vec<usize> = (0..4).map(|_| world.client(1)).collect();
    for (at, reader) in readers.iter().enumerate() {
        for id in 0..50 {
            let missing = world.name(9, id * 4 + at as u32);
            let names = vec![missing, chunk.name()];
            world.say(*reader, &Frame::Fetch { id, names });
        }
    }
    // One that goes away before its turn leaves the others theirs.
    let gone = world.client(1);
    let names = vec![world.name(8, 0)];
    world.say(gone, &Frame::Fetch { id: 1, names });
    world.turn();
    world.leave(gone);
    // The parent is slower than who asks.
    let now = world.now;
    (0..40).for_each(|_| world.nodes[1].handle_timeout(now));
    world.settle();
    assert!(!cut_off(&world));
    for reader in &readers {
        let heard = &world.clients[*reader].heard;
        let ended = |frame: &&Frame| matches!(frame, Frame::CaughtUp { .. });
        assert_eq!(heard.iter().filter(ended).count(), 50);
        assert_eq!(world.clients[*reader].chunks().len(), 50);
    }
}

#[test]
fn fetches_that_wait_end_with_the_parent() {
    let mut world = World::new(&[Tier::Local]);
    let parent = world.impostor(0, [9; 16]);
    let reader = world.client(0);
    for id in 0..60 {
        let names = vec![world.name(9, id)];
        world.say(reader, &Frame::Fetch { id, names });
    }
    world.settle();
    let asked = |frame: &&Frame| matches!(frame, Frame::Fetch { .. });
    assert_eq!(world.clients[parent].heard.iter().filter(asked).count(), 47);
    world.leave(parent);
    world.settle();
    let ended = |frame: &&Frame| matches!(frame, Frame::CaughtUp { .. });
    assert_eq!(world.clients[reader].heard.iter().filter(ended).count(), 60);
}

#[test]
fn one_link_does_not_keep_the_others_from_fetching_above() {
    let mut world = World::new(&[Tier::Local]);
    let parent = world.impostor(0, [9; 16]);
    for _ in 0..65 {
        let greedy = world.client(0);
        for id in 0..64 {
            let names = vec![world.name(9, id)];
            world.say(greedy, &Frame::Fetch { id, names });
        }
    }
    world.settle();
    let late = world.client(0);
    let names = vec![world.name(8, 0)];
    world.say(
        late,
        &Frame::Fetch {
            id: 1,
            names: names.clone(),
        },
    );
    let chunk = world.chunk(1, 0);
    world.publish(late, std::slice::from_ref(&chunk));
    world.settle();
    let ended = |frame: &Frame| matches!(frame, Frame::CaughtUp { .. });
    assert!(!world.clients[late].heard.iter().any(ended));
    let asked = |world: &World, wanted: &[Name]| {
        let mut heard = world.clients[parent].heard.iter();
        heard.any(|frame| matches!(frame, Frame::Fetch { names, .. } if names == wanted))
    };
    // What the store has lost is asked for at once.
    world.nodes[0].store().damage(chunk.name());
    world.publish(late, std::slice::from_ref(&chunk));
    world.settle();
    assert!(asked(&world, &[chunk.name()]) && !asked(&world, &names));
    // The late one has its turn when each of the others has had one (one answer mends the store).
    let cursor = StoreId([9; 16]).cursor(0);
    for at in 0..67 {
        let mut heard = world.clients[parent].heard.iter();
        let fetches = heard.by_ref().filter_map(|frame| match frame {
            Frame::Fetch { id, .. } => Some(*id),
            _ => None,
        });
        let id = fetches.collect::<Vec<_>>()[at];
        let (cursor, live) = (cursor.clone(), true);
        world.say(parent, &Frame::CaughtUp { id, cursor, live });
        world.settle();
    }
    assert!(asked(&world, &names));
}
