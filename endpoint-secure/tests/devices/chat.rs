//! From an organisation to a conversation.

use endpoint_secure_api::{Delivery, JoinStage, Suite};

use crate::hub::World;

#[test]
fn two_devices_meet_and_talk_with_both_suites() {
    for suite in [Suite::PostQuantum, Suite::Classic] {
        let (mut world, channel) = World::pair(suite);
        let team = world.teams(1).remove(0);
        assert_eq!(team.stage, JoinStage::Joined);
        assert_eq!((team.suite, team.devices), (suite, 2));
        assert_eq!(team.name, "Night watch");
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
