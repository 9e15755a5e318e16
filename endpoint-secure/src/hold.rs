//! Outgoing messages that wait: while somebody who was removed on a branch that lost is still in, and
//! while this device, which was away for long, does not know the team's state.
//!
//! They take their numbers at once, and are encrypted when the removal has been made again or patience
//! ends, or when everything was heard. Source: docs/architecture.md, "Which commit wins".

use endpoint_secure_api::{ChannelId, Delivery, MessageId, TeamId};
use proto::limits::MESSAGE_FRAGMENTS;
use proto::{Fields, Name, split};
use serde::{Deserialize, Serialize};

use crate::device::session::{Failure, Session, refuse};
use crate::message::kind;
use crate::naming;
use crate::states::numbered;
use crate::store::Kind;
use crate::store::history::{Kept, Sealed};

/// Messages that wait in a team, at most.
const HELD: usize = 256;

/// A message that waits.
#[derive(Clone, Serialize, Deserialize)]
pub struct Held {
    /// Where.
    pub channel: ChannelId,
    /// The number that it will have.
    pub number: u32,
    /// How many it takes.
    pub chunks: u32,
    /// The type of its body.
    pub kind: u8,
    /// Its body.
    #[serde(with = "crate::store::bytes")]
    pub body: Vec<u8>,
    /// When it was written.
    pub created_ms: u64,
    /// Its place in the order of writing.
    pub order: u64,
}

impl Session {
    /// Whether a message written now has to wait.
    pub(crate) fn holds_sending(&self, team: TeamId) -> bool {
        let until = self.link.hold_sending_ms.get(&team);
        until.is_some_and(|until| *until > self.now.millis())
            || self.is_out_of_touch(team)
            || self.held(team).next().is_some()
    }

    fn held(&self, team: TeamId) -> impl Iterator<Item = &Held> {
        let range = (team, 0)..=(team, u64::MAX);
        self.memory.held.range(range).map(|(_, held)| held)
    }

    pub(crate) fn hold(
        &mut self,
        channel: ChannelId,
        (kind, body): (u8, &[u8]),
        created_ms: u64,
    ) -> Result<MessageId, Failure> {
        let team = self.team(channel.team)?.clone();
        if self.held(team.id).count() >= HELD {
            let why = if self.is_out_of_touch(team.id) {
                "this device was away for days, and its messages wait until it has heard what the team did; \
                 connect it to a relay, then send this again"
            } else {
                "messages wait until a removal has been made again; try again in half a minute"
            };
            return refuse(endpoint_secure_api::Code::Usage, why);
        }
        let row = self.know_channel(team.id, channel.channel, "")?;
        let feed = self.feed(row, team.device);
        let before = self.held(team.id).filter(|one| one.channel == channel);
        let number = feed.next + before.map(|one| one.chunks).sum::<u32>();
        // Encrypted once only to see how many chunks it takes: the length is the same in any state.
        let namespace = self.tip_namespace(&team)?;
        self.load_group(team.id, namespace)?;
        let entry = self.compose(&team, &feed, namespace, (kind, body))?;
        let fields = Fields::Message {
            channel: channel.channel,
            device: team.device,
            number,
        };
        let name = Name::new(naming::place(team.id), fields);
        let sealed = self.encrypt(&team, namespace, name, &entry.encode())?;
        let Ok(parts) = split(&sealed, MESSAGE_FRAGMENTS) else {
            return refuse(endpoint_secure_api::Code::Usage, "the message is too long");
        };
        self.memory.counters.operation += 1;
        self.store.put(Kind::Counters, b"", &self.memory.counters)?;
        let held = Held {
            channel,
            number,
            chunks: parts.len() as u32,
            kind,
            body: body.to_vec(),
            created_ms,
            order: self.memory.counters.operation,
        };
        self.show_held(row, team.device, &held)?;
        let order = held.order;
        self.store
            .put(Kind::Held, &numbered(team.id, order), &held)?;
        self.memory.held.insert((team.id, order), held);
        let until = self.link.hold_sending_ms.get(&team.id).copied();
        self.wake_for_pursuit(until.unwrap_or(0));
        self.told.messages.insert(channel);
        Ok(MessageId {
            channel,
            device: team.device,
            number,
        })
    }

    fn show_held(&self, row: i64, device: u32, held: &Held) -> Result<(), Failure> {
        let identity = self.memory.identity.clone();
        Ok(self.store.put_message(&Kept {
            channel: row,
            device,
            number: held.number,
            chunks: held.chunks,
            sent_ms: held.created_ms,
            shown: held.kind == kind::TEXT,
            own: true,
            delivery: Delivery::Queued,
            sealed: Sealed {
                user: identity.user,
                device_name: identity.device,
                kind: held.kind,
                body: held.body.clone(),
                hash: [0; 16],
                failure: String::new(),
                state: [0; 8],
            },
        })?)
    }

    /// Encrypts what waited, where nothing holds it any more.
    pub(crate) fn release_sending(&mut self) -> Result<(), Failure> {
        let teams: std::collections::BTreeSet<TeamId> =
            self.memory.held.keys().map(|key| key.0).collect();
        for team in teams {
            if self.is_out_of_touch(team) {
                continue;
            }
            let until = self.link.hold_sending_ms.get(&team).copied();
            if let Some(until) = until.filter(|until| *until > self.now.millis()) {
                self.wake_for_pursuit(until);
                continue;
            }
            if until.is_some() {
                self.notice(
                    "messages have been sent although somebody whose removal was lost can still read \
                     them: no admin who may remove them again is connected",
                );
            }
            let all: Vec<Held> = self.held(team).cloned().collect();
            for held in all {
                self.store.delete(Kind::Held, &numbered(team, held.order))?;
                self.memory.held.remove(&(team, held.order));
                self.release(&held)?;
            }
        }
        Ok(())
    }

    /// Gives up what waits in a team.
    pub(crate) fn drop_held(&mut self, team: TeamId, why: &str) -> Result<(), Failure> {
        let all: Vec<Held> = self.held(team).cloned().collect();
        for held in all {
            self.store.delete(Kind::Held, &numbered(team, held.order))?;
            self.memory.held.remove(&(team, held.order));
            self.fail_held(&held, why)?;
        }
        Ok(())
    }

    fn fail_held(&mut self, held: &Held, why: &str) -> Result<(), Failure> {
        let row = self.know_channel(held.channel.team, held.channel.channel, "")?;
        let device = self.team(held.channel.team)?.device;
        if let Some(mut kept) = self.store.message(row, device, held.number)? {
            kept.delivery = Delivery::Failed;
            kept.sealed.failure = why.into();
            self.store.put_message(&kept)?;
        }
        self.told.messages.insert(held.channel);
        Ok(())
    }

    fn release(&mut self, held: &Held) -> Result<(), Failure> {
        let written = self.write_now(held.channel, (held.kind, &held.body), held.created_ms);
        match written {
            Ok(id) if id.number == held.number => Ok(()),
            // The person knows it under its number: another one would be a second message.
            Ok(_) => refuse(
                endpoint_secure_api::Code::Storage,
                "a held message lost its number",
            ),
            Err(Failure::Refused(refusal)) => self.fail_held(held, &refusal.text),
            Err(error) => Err(error),
        }
    }
}
