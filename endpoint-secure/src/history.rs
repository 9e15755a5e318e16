//! Timelines: pages of what was said, read marks.
//!
//! The order is (time written, clamped to arrival; device; number). It is a derivation of the rows
//! and of nothing else.

use endpoint_secure_api::{
    Anchor, Answer, ChannelId, Code, Command, Earlier, Message, MessageId, Page,
};

use crate::device::session::{Failure, Session, refuse};
use crate::store::Kind;
use crate::store::history::{Kept, Spot, Way};
use crate::team::{Channel, channel_bytes};

/// The text of one page, at most, in bytes: with its JSON it must fit a frame of the door.
const PAGE_BYTES: usize = 512 * 1024;

impl Session {
    pub(crate) fn timeline(
        &self,
        id: ChannelId,
        anchor: Anchor,
        count: u16,
    ) -> Result<Answer, Failure> {
        let channel = self.channel(id)?;
        let count = u32::from(count.clamp(1, Command::PAGE_LIMIT));
        let (way, spot) = match anchor {
            Anchor::Newest => (Way::Back, None),
            Anchor::Oldest => (Way::Forth, None),
            Anchor::Before { id } => (Way::Back, Some(self.spot(id)?)),
            Anchor::After { id } => (Way::Forth, Some(self.spot(id)?)),
        };
        let row = channel.row;
        let mut rows = self.store.shown_messages(row, way, spot, count + 1)?;
        let mut more = rows.len() > count as usize;
        rows.truncate(count as usize);
        let fitting = fitting(&rows);
        more |= fitting < rows.len();
        rows.truncate(fitting);
        if way == Way::Back {
            rows.reverse();
        }
        let (more_before, more_after) = match way {
            Way::Back => (more, self.has_more(row, Way::Forth, rows.last(), spot)?),
            Way::Forth => (self.has_more(row, Way::Back, rows.first(), spot)?, more),
        };
        let messages = rows
            .into_iter()
            .map(|kept| self.message_answer(id, kept))
            .collect::<Result<_, _>>()?;
        let (total, _, _) = self.store.count_messages(row, channel.read)?;
        Ok(Answer::Page(Page {
            channel: id,
            messages,
            more_before,
            more_after,
            total,
            earlier: self.earlier(row, id, more_before)?,
        }))
    }

    /// The one row for what came before this device did.
    fn earlier(
        &self,
        row: i64,
        id: ChannelId,
        more_before: bool,
    ) -> Result<Option<Earlier>, Failure> {
        let joined_ms = self.team(id.team)?.joined_ms;
        if more_before || joined_ms == 0 {
            return Ok(None);
        }
        let mut messages = 0;
        for (_, feed) in self.memory.feeds.range((row, 0)..=(row, u32::MAX)) {
            // A device that was in before has some of them.
            let had = self.store.numbers_before(row, feed.device, feed.base)?;
            messages += feed.base.saturating_sub(had);
        }
        Ok(Some(Earlier {
            joined_ms,
            messages,
        }))
    }

    fn has_more(
        &self,
        row: i64,
        way: Way,
        edge: Option<&Kept>,
        anchor: Option<Spot>,
    ) -> Result<bool, Failure> {
        let Some(spot) = edge.map(spot_of).or(anchor) else {
            return Ok(false);
        };
        // An empty page beside its anchor has at least the anchor on the other side.
        let beyond = self.store.shown_messages(row, way, Some(spot), 1)?;
        Ok(!beyond.is_empty() || (edge.is_none() && anchor.is_some()))
    }

    fn message_answer(&self, id: ChannelId, kept: Kept) -> Result<Message, Failure> {
        let before = self
            .store
            .message_before(kept.channel, kept.device, kept.number)?;
        let feed = self.memory.feeds.get(&(kept.channel, kept.device));
        let expected = match before {
            // Before the base of a feed this device was not in the team.
            Some((number, chunks)) => feed
                .filter(|feed| feed.base <= kept.number)
                .map_or(number + chunks, |feed| feed.base.max(number + chunks)),
            None => feed.map_or(kept.number, |feed| feed.base),
        };
        Ok(Message {
            id: MessageId {
                channel: id,
                device: kept.device,
                number: kept.number,
            },
            user: kept.sealed.user,
            device_name: kept.sealed.device_name,
            sent_ms: kept.sent_ms,
            text: String::from_utf8_lossy(&kept.sealed.body).into_owned(),
            own: kept.own,
            delivery: kept.delivery,
            failure: kept.sealed.failure,
            missing_before: kept.number.saturating_sub(expected),
            disconnected: self.team(id.team)?.lost.contains(&kept.sealed.state),
        })
    }

    pub(crate) fn mark_read(&mut self, up_to: MessageId) -> Result<Answer, Failure> {
        let spot = self.spot(up_to)?;
        let channel = self.channel(up_to.channel)?;
        if spot > channel.read {
            let channel = Channel {
                read: spot,
                ..channel.clone()
            };
            self.store
                .put(Kind::Channel, &channel_bytes(channel.id), &channel)?;
            self.told.channels.insert(channel.id.team);
            self.memory.channels.insert(channel.id, channel);
        }
        Ok(Answer::Done)
    }

    fn channel(&self, id: ChannelId) -> Result<&Channel, Failure> {
        self.team(id.team)?;
        match self.memory.channels.get(&id) {
            Some(channel) if id.channel > 0 => Ok(channel),
            _ => refuse(Code::NotFound, "the team has no such channel"),
        }
    }

    fn spot(&self, id: MessageId) -> Result<Spot, Failure> {
        let channel = self.channel(id.channel)?;
        match self.store.message(channel.row, id.device, id.number)? {
            Some(kept) => Ok(spot_of(&kept)),
            None => refuse(Code::NotFound, "the channel has no such message"),
        }
    }
}

fn spot_of(kept: &Kept) -> Spot {
    Spot {
        sent_ms: kept.sent_ms,
        device: kept.device,
        number: kept.number,
    }
}

/// How many of the rows fit a page; at least one.
fn fitting(rows: &[Kept]) -> usize {
    let mut bytes = 0;
    rows.iter()
        .take_while(|kept| {
            let first = bytes == 0;
            bytes += kept.sealed.body.len();
            first || bytes <= PAGE_BYTES
        })
        .count()
}
