//! From an organisation to a conversation.

use endpoint_secure_api::{
    Anchor, Answer, Channel, ChannelId, Code, Command, Delivery, JoinStage, Suite,
};

use crate::hub::World;

fn lines(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("line {number}")).collect()
}

#[test]
fn two_devices_meet_and_talk_with_both_suites() {
    for suite in [Suite::PostQuantum, Suite::Classic] {
        let (mut world, channel) = World::pair(suite);
        let team = world.teams(1).remove(0);
        assert_eq!(team.stage, JoinStage::Joined);
        assert_eq!((team.suite, team.devices), (suite, 2));
        assert_eq!(team.name, "Night watch");
        assert_eq!(team.organisation, "Lighthouse keepers");
        world.say(0, channel, "light the lamp");
        world.settle();
        world.say(1, channel, "it burns");
        world.settle();
        for at in 0..2 {
            assert_eq!(world.texts(at, channel), ["light the lamp", "it burns"]);
        }
        let page = world.page(1, channel);
        assert_eq!(page[1].delivery, Delivery::Origin);
        assert!(page[1].own && !page[0].own);
        assert_eq!(page[0].user, "Ada");
    }
}

#[test]
fn three_thousand_messages_arrive_in_order_however_they_are_shuffled() {
    let (mut world, channel) = World::pair(Suite::PostQuantum);
    world.hub.shuffle = true;
    for line in lines(3000) {
        world.say(0, channel, &line);
        world.hub.now = world.hub.now.plus_millis(1);
    }
    world.settle();
    for at in 0..2 {
        assert_eq!(world.texts(at, channel), lines(3000));
        let page = world.page(at, channel);
        assert!(page.iter().all(|message| message.missing_before == 0));
    }
}

#[test]
fn texts_of_every_size_arrive_whole() {
    let (mut world, channel) = World::pair(Suite::PostQuantum);
    let texts: Vec<String> = [1, 600, 10_000, 65_536]
        .into_iter()
        .map(|size| {
            "ä1é"
                .chars()
                .cycle()
                .take(size * 3 / 5)
                .chain(['.'])
                .collect()
        })
        .collect();
    world.hub.shuffle = true;
    for text in &texts {
        world.say(0, channel, text);
        world.settle();
    }
    assert_eq!(world.texts(1, channel), texts);
    let page = world.page(0, channel);
    assert!(page.iter().all(|one| one.delivery == Delivery::Origin));
    let text = "x".repeat(Command::TEXT_LIMIT + 1);
    let send = Command::Send {
        channel,
        text,
        token: 1,
    };
    assert_eq!(world.ask(0, send).unwrap_err().code, Code::Usage);
}

#[test]
fn a_token_sends_once() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let send = || Command::Send {
        channel,
        text: "once".into(),
        token: 77,
    };
    let first = world.ask(0, send()).unwrap();
    world.kill(0);
    world.start(0);
    assert_eq!(world.ask(0, send()).unwrap(), first);
    world.settle();
    assert_eq!(world.texts(1, channel), ["once"]);
}

#[test]
fn channels_are_named_for_those_who_are_in_and_for_those_who_come() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let name = "Fog horns".to_string();
    let create = Command::CreateChannel {
        team: channel.team,
        name: name.clone(),
    };
    let refused = world.ask(1, create.clone()).unwrap_err();
    assert_eq!(refused.code, Code::Forbidden);
    let Answer::Channel(Channel { id, .. }) = world.ask(0, create).unwrap() else {
        panic!("no channel");
    };
    world.settle();
    let late = world.member("Cem");
    world.bring_in(0, channel.team, late);
    for at in 0..3 {
        let channels = world.channels(at, channel.team);
        let names: Vec<_> = channels.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["general", name.as_str()]);
    }
    world.say(late, id, "here");
    world.settle();
    assert_eq!(world.texts(1, id), ["here"]);
}

#[test]
fn pages_and_read_marks_agree() {
    let (mut world, channel) = World::pair(Suite::Classic);
    for line in lines(50) {
        world.say(0, channel, &line);
    }
    world.settle();
    let unread = |world: &mut World| world.channels(1, channel.team)[0].unread;
    assert_eq!(unread(&mut world), 50);
    let all = world.page(1, channel);
    let up_to = all[19].id;
    world.ask(1, Command::MarkRead { up_to }).unwrap();
    assert_eq!(unread(&mut world), 30);
    let page = |world: &mut World, anchor, count| {
        let ask = Command::Timeline {
            channel,
            anchor,
            count,
        };
        match world.ask(1, ask).unwrap() {
            Answer::Page(page) => page,
            other => panic!("{other:?}"),
        }
    };
    let newest = page(&mut world, Anchor::Newest, 10);
    assert_eq!(newest.messages, all[40..]);
    assert!(newest.more_before && !newest.more_after);
    let before = page(&mut world, Anchor::Before { id: all[10].id }, 20);
    assert_eq!(before.messages, all[..10]);
    assert!(!before.more_before && before.more_after);
    let after = page(&mut world, Anchor::After { id: all[49].id }, 20);
    assert!(after.messages.is_empty() && after.more_before && !after.more_after);
}

#[test]
fn who_joins_later_is_shown_one_row_for_what_came_before() {
    let (mut world, channel) = World::pair(Suite::Classic);
    for text in ["one", "two", "three"] {
        world.say(0, channel, text);
    }
    world.say(1, channel, "four");
    world.settle();
    let late = world.member("Dora");
    world.bring_in(0, channel.team, late);
    world.settle();
    let earlier = |world: &mut World, at, anchor| {
        let ask = Command::Timeline {
            channel,
            anchor,
            count: 1,
        };
        match world.ask(at, ask).unwrap() {
            Answer::Page(page) => page.earlier,
            other => panic!("{other:?}"),
        }
    };
    // Who founded the team has all of it.
    assert_eq!(earlier(&mut world, 0, Anchor::Oldest), None);
    let row = earlier(&mut world, late, Anchor::Newest).unwrap();
    assert_eq!((row.messages, row.joined_ms > 0), (0, true));
    for at in [0, 1, late] {
        world.say(at, channel, "hello");
    }
    world.settle();
    let row = earlier(&mut world, late, Anchor::Oldest).unwrap();
    assert_eq!(row.messages, 4);
    assert_eq!(
        earlier(&mut world, late, Anchor::Newest),
        None,
        "not on this page"
    );
    assert_eq!(world.texts(late, channel), ["hello"; 3]);
    let page = world.page(late, channel);
    assert!(page.iter().all(|one| one.missing_before == 0));
}

#[test]
fn what_does_not_exist_is_refused() {
    let (mut world, channel) = World::pair(Suite::Classic);
    let nowhere = ChannelId {
        channel: 9,
        ..channel
    };
    let send = |channel| Command::Send {
        channel,
        text: "x".into(),
        token: 1,
    };
    assert_eq!(
        world.ask(0, send(nowhere)).unwrap_err().code,
        Code::NotFound
    );
    let settings = ChannelId {
        channel: 0,
        ..channel
    };
    assert_eq!(
        world.ask(0, send(settings)).unwrap_err().code,
        Code::NotFound
    );
    let invite = "treeline-invite-AAAA".to_string();
    let refused = world.ask(1, Command::Join { invite }).unwrap_err();
    assert_eq!(refused.code, Code::Configuration);
    let fingerprint = "00".repeat(31);
    let add = Command::AddDevice {
        team: channel.team,
        fingerprint,
    };
    assert_eq!(world.ask(0, add).unwrap_err().code, Code::Usage);
}
