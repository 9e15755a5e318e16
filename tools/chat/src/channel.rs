//! One channel as it is read: everything in it exactly once, whenever and wherever it turns up.

use std::collections::BTreeSet;
use std::time::Duration;

use endpoint_secure_api::{
    Anchor, Answer, Channel, Code, Command, Message, MessageId, Page, Team, TeamId,
};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::{find_channel, find_team};
use endpoint_secure_client::terminal::{Failure, unexpected};

/// How long a question may take over restarts of Secure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// All teams.
pub fn teams(endpoint: &Endpoint) -> Result<Vec<Team>, Failure> {
    match endpoint.call_when_back(&Command::Teams, PATIENCE)? {
        Answer::Teams(teams) => Ok(teams),
        _ => Err(unexpected()),
    }
}

/// A team's channels.
pub fn channels(endpoint: &Endpoint, team: TeamId) -> Result<Vec<Channel>, Failure> {
    match endpoint.call_when_back(&Command::Channels { team }, PATIENCE)? {
        Answer::Channels(channels) => Ok(channels),
        _ => Err(unexpected()),
    }
}

/// The channel that `TEAM/CHANNEL` names.
pub fn find(endpoint: &Endpoint, text: &str) -> Result<Channel, Failure> {
    let Some((team, channel)) = text.rsplit_once('/') else {
        let line = format!("{text:?} is no channel: say TEAM/CHANNEL, each by name or number");
        return Err(Failure::new(Code::Usage, line));
    };
    let team = find_team(&teams(endpoint)?, team)?.id;
    Ok(find_channel(&channels(endpoint, team)?, channel)?.clone())
}

/// A page of the channel.
pub fn page(endpoint: &Endpoint, channel: &Channel, anchor: Anchor) -> Result<Page, Failure> {
    let count = Command::PAGE_LIMIT;
    let command = Command::Timeline {
        channel: channel.id,
        anchor,
        count,
    };
    match endpoint.call_when_back(&command, PATIENCE)? {
        Answer::Page(page) => Ok(page),
        _ => Err(unexpected()),
    }
}

/// Remembers which messages of a channel have been handed out.
///
/// A message that comes late may sort anywhere before those already seen; the page's total says
/// whether one is missing, and pages are read backwards until all are found.
#[derive(Default)]
pub struct Reader {
    seen: BTreeSet<MessageId>,
    /// The last message handed out: what is new stands mostly behind it.
    last: Option<MessageId>,
    /// Keeps back what follows a gap in its author's feed.
    gapless: bool,
}

impl Reader {
    /// A reader that keeps back what follows a gap, or one that does not.
    pub fn new(gapless: bool) -> Self {
        Self {
            seen: BTreeSet::new(),
            last: None,
            gapless,
        }
    }

    /// The messages not handed out before, in the order of the timeline, and with a gapless reader in
    /// the order of each device's feed, whatever its clock did.
    pub fn fresh(
        &mut self,
        endpoint: &Endpoint,
        channel: &Channel,
    ) -> Result<Vec<Message>, Failure> {
        let mut fresh = match self.behind_last(endpoint, channel)? {
            Some(fresh) => fresh,
            None => self.anywhere(endpoint, channel)?,
        };
        if let Some(last) = fresh.last() {
            self.last = Some(last.id);
        }
        if self.gapless {
            fresh.sort_by_key(|message| (message.id.device, message.id.number));
            keep_back(&mut fresh);
        }
        self.seen.extend(fresh.iter().map(|message| message.id));
        Ok(fresh)
    }

    /// What stands behind the last message; `None` when something new stands elsewhere, or too much is
    /// new for one page.
    fn behind_last(
        &self,
        endpoint: &Endpoint,
        channel: &Channel,
    ) -> Result<Option<Vec<Message>>, Failure> {
        let Some(id) = self.last else { return Ok(None) };
        let page = page(endpoint, channel, Anchor::After { id })?;
        let fresh = self.unseen(page.messages);
        let all = self.seen.len() + fresh.len() >= page.total as usize;
        Ok(all.then_some(fresh))
    }

    fn unseen(&self, mut messages: Vec<Message>) -> Vec<Message> {
        messages.retain(|message| !self.seen.contains(&message.id));
        messages
    }

    /// Reads pages backwards until everything new is found.
    fn anywhere(&self, endpoint: &Endpoint, channel: &Channel) -> Result<Vec<Message>, Failure> {
        let mut fresh = Vec::new();
        let mut anchor = Anchor::Newest;
        loop {
            let page = page(endpoint, channel, anchor)?;
            let first = page.messages.first().map(|message| message.id);
            let mut older = self.unseen(page.messages);
            older.append(&mut fresh);
            fresh = older;
            let all = self.seen.len() + fresh.len() >= page.total as usize;
            match first {
                Some(id) if page.more_before && !all => anchor = Anchor::Before { id },
                _ => return Ok(fresh),
            }
        }
    }
}

/// Takes out every message behind a gap of its device.
fn keep_back(messages: &mut Vec<Message>) {
    let mut blocked = BTreeSet::new();
    messages.retain(|message| {
        if message.missing_before > 0 {
            blocked.insert(message.id.device);
        }
        !blocked.contains(&message.id.device)
    });
}

#[cfg(test)]
mod tests {
    use endpoint_secure_api::{ChannelId, Delivery};

    use super::*;

    fn message(device: u32, number: u32, missing_before: u32) -> Message {
        let team = TeamId {
            origin: 1,
            org: 1,
            team: 2,
        };
        Message {
            id: MessageId {
                channel: ChannelId { team, channel: 1 },
                device,
                number,
            },
            user: String::new(),
            device_name: String::new(),
            sent_ms: 0,
            text: String::new(),
            own: false,
            delivery: Delivery::Origin,
            failure: String::new(),
            missing_before,
            disconnected: false,
        }
    }

    #[test]
    fn what_follows_a_gap_is_kept_back_for_its_device_alone() {
        let mut messages = vec![
            message(1, 0, 0),
            message(2, 0, 0),
            message(1, 5, 3),
            message(2, 1, 0),
            message(1, 6, 0),
        ];
        keep_back(&mut messages);
        let left: Vec<_> = messages
            .iter()
            .map(|m| (m.id.device, m.id.number))
            .collect();
        assert_eq!(left, [(1, 0), (2, 0), (2, 1)]);
    }
}
