//! What Secure tells its front ends unasked: that something changed, never the thing itself.
//! A front end that wants it asks; so a slow one misses nothing and costs nothing.

use serde::{Deserialize, Serialize};

use crate::{ChannelId, Connectivity, Lock, TeamId};

/// A hint that something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "event", content = "value", rename_all = "camelCase")]
pub enum Event {
    /// The profile was created, locked or unlocked.
    Lock(Lock),
    /// The list of teams, a team's stage, epoch or devices changed.
    Teams,
    /// A team's channels changed.
    Channels(TeamId),
    /// Messages came, or their delivery moved.
    Messages(ChannelId),
    /// The network changed.
    Connectivity(Connectivity),
    /// A relay was found that somebody has to judge, or one was judged.
    Relays,
    /// Something a person should know: one line.
    Notice(String),
}
