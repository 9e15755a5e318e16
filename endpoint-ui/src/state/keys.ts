// Names of teams, channels and messages as strings: for maps, lists and the DOM.

import type { ChannelId, MessageId, TeamId } from "../door";

/** A team's name as one string. */
export const teamKey = (id: TeamId): string => `${id.origin}.${id.org}.${id.team}`;

/** A channel's name as one string. */
export const channelKey = (id: ChannelId): string => `${teamKey(id.team)}.${id.channel}`;

/** A message's name as one string. */
export const messageKey = (id: MessageId): string =>
  `${channelKey(id.channel)}.${id.device}.${id.number}`;
