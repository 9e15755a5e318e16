//! Becoming a new device: after a removal, and when this profile turns out to be a copy.
//!
//! Numbers of devices, numbers of a feed and generations of a ratchet never repeat, and restoring a
//! profile brings no MLS state back. So a profile that was copied or restored may not go on as the
//! device that it was: it stops, draws new keys, and asks every team to let it in. Source:
//! docs/architecture.md, "Devices".

use endpoint_secure_api::{ChannelId, Code, Delivery, TeamId};
use proto::{Chunk, Fields, Name, Path};

use crate::device::session::{Failure, Session, refuse};
use crate::invite::Invite;
use crate::join::Joining;
use crate::naming;
use crate::store::Kind;
use crate::store::outbox::NO_MESSAGE;
use crate::team::{Seed, Team};

/// What the person is told.
const COPY: &str = "this profile is a copy: its device has written elsewhere what is not in here. It sends \
                    nothing as that device any more, has become a new one, and can write again when \
                    an admin has added it";

impl Session {
    /// Looks at a chunk of this device's own feed that has come back. Whether it was of use.
    pub(crate) fn own_echo(&mut self, chunk: &Chunk) -> Result<bool, Failure> {
        let name = chunk.name();
        let Fields::Message {
            channel,
            device,
            number,
        } = name.fields()
        else {
            return Ok(false);
        };
        let id = naming::team_id(name.place());
        let Some(team) = self.memory.teams.get(&id).filter(|one| !one.is_out()) else {
            return Ok(false);
        };
        if device != team.device {
            return Ok(false);
        }
        let channel = self.memory.channels.get(&ChannelId { team: id, channel });
        let feed = channel.and_then(|one| self.memory.feeds.get(&(one.row, device)));
        let ahead = number >= feed.map_or(0, |feed| feed.next);
        let posted = self.store.posted(name)?;
        let refused = self.link.conflicts.get(&name);
        let mut own = posted.iter().chain(refused);
        let other = !ahead && own.any(|own| own != chunk);
        // What others put under the name proves nothing.
        if (ahead || other) && chunk.verifies(&self.memory.signer.public_key()) {
            self.become_new()?;
        }
        Ok(true)
    }

    /// Stops being the device that this profile was: new keys, and a request to each of its teams.
    pub(crate) fn become_new(&mut self) -> Result<(), Failure> {
        self.notice(COPY);
        self.fail_queued()?;
        let joining: Vec<Joining> = self.memory.joining.values().cloned().collect();
        for one in &joining {
            self.forget_joining(one.team)?;
        }
        self.forget_certificates()?;
        self.forget_founding()?;
        self.memory.identity.seed = Seed::random()?;
        self.memory.signer = self.memory.identity.signer();
        self.store.put(Kind::Identity, b"", &self.memory.identity)?;
        let teams: Vec<Team> = self.memory.teams.values().cloned().collect();
        for mut team in teams {
            self.forget_changes(team.id)?;
            if team.is_out() {
                continue;
            }
            team.copied = true;
            let id = team.id;
            self.put_team(team)?;
            // A team whose only admin this device was has nobody to ask.
            if let Ok(invite) = self.invite_back(id) {
                self.ask_to_join(invite)?;
            }
        }
        for one in joining.into_iter().filter(|one| one.in_ms == 0) {
            self.ask_to_join(one.invite)?;
        }
        Ok(())
    }

    /// A copy asks again where nobody has answered for as long as its invite was good.
    pub(crate) fn ask_again(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        let waits = |one: &&Joining| {
            let unanswered = one.in_ms == 0 && one.ready.is_none() && one.welcome.is_empty();
            unanswered && one.invite.expires_ms() <= now
        };
        let over = self.memory.joining.values().filter(waits);
        let over: Vec<TeamId> = over.map(|one| one.team).collect();
        for id in over {
            let copied = self.memory.teams.get(&id).is_some_and(|team| team.copied);
            if let (true, Ok(invite)) = (copied, self.invite_back(id)) {
                self.ask_to_join(invite)?;
            }
        }
        Ok(())
    }

    /// An invite back into a team that this device was in.
    pub(crate) fn invite_back(&self, id: TeamId) -> Result<Invite, Failure> {
        let team = self.team(id)?;
        let roles = &self.tip(team)?.roles;
        match roles.admins.iter().find(|one| **one != team.device) {
            Some(admin) => self.standing_invite(team, *admin),
            None => refuse(
                Code::Forbidden,
                "the team has no other admin who could let this device in again",
            ),
        }
    }

    /// Own messages and everything else that no relay has are never published any more.
    fn fail_queued(&mut self) -> Result<(), Failure> {
        for owner in self.store.clear_outbox()? {
            if owner.0 == NO_MESSAGE {
                continue;
            }
            if let Some(mut kept) = self.store.message(owner.0, owner.1, owner.2)? {
                kept.delivery = Delivery::Failed;
                kept.sealed.failure = "it was written on a copy of a profile".into();
                self.store.put_message(&kept)?;
            }
            self.tell_channel(owner.0);
        }
        self.link.forget_posted();
        self.told.queue_moved = true;
        Ok(())
    }

    /// Changes and messages of this device that a team has not heard of.
    fn forget_changes(&mut self, id: TeamId) -> Result<(), Failure> {
        for key in self.operations_of(id) {
            self.drop_operation(key)?;
        }
        self.drop_held(id, "this device became a new one before it was sent")
    }

    /// Takes the place of the device that this profile was in a team: what that one knew of states
    /// and feeds is not this one's.
    pub(crate) fn succeed(&mut self, before: &Team, team: &mut Team) -> Result<(), Failure> {
        let id = team.id;
        team.former.clone_from(&before.former);
        team.former.push(before.chain.clone());
        team.lost.clone_from(&before.lost);
        team.joined_ms = before.joined_ms;
        self.forget_changes(id)?;
        self.forget_states(id)?;
        let rows: Vec<i64> = self.channels_of(id).map(|one| one.row).collect();
        for row in rows {
            self.forget_feeds(row, before.device)?;
        }
        let place = naming::place(id);
        for path in [Path::Commit, Path::Message] {
            self.resubscribe(Name::team_prefix(place, path))?;
        }
        Ok(())
    }
}
