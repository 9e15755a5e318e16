//! Several devices of one person: a device that is in lets the next one in.
//!
//! A text leads the next device to all teams of the first; the first says its fingerprint to each team,
//! in a message that only members read, and admins' devices add it with the same role. What links two
//! devices is the word of the one that was there. Source: docs/architecture.md, "Devices".

use data_encoding::BASE64URL_NOPAD;
use endpoint_secure_api::{Answer, ChannelId, Code, Role, TeamId};
use proto::{Fingerprint, PublicKey};
use serde::{Deserialize, Serialize};

use crate::device::session::{Failure, Session, refuse};
use crate::message::kind;
use crate::naming::FOUNDER;
use crate::operation::What;
use crate::store::{decode, encode};
use crate::team::Team;

const TEXT_HEAD: &str = "treeline-link-";
/// The longest link text, in bytes.
const TEXT_BYTES: usize = 512 * 1024;
/// Devices that one device may let in, at most.
const LINKED: usize = 8;

/// What a member asks of the admins' devices.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Request {
    /// Let in another device of mine.
    Link {
        /// Its whole fingerprint.
        device: [u8; 32],
    },
    /// Remove another device of mine.
    Unlink {
        /// Its number.
        device: u32,
    },
}

impl Session {
    /// The text that leads the next device of this person to all teams.
    pub(crate) fn create_link(&mut self) -> Result<Answer, Failure> {
        let mut invites = Vec::new();
        for team in self.memory.teams.values().filter(|one| !one.is_out()) {
            let adder = self.adder(team, team.device)?;
            invites.push(self.standing_invite(team, adder)?.to_text());
        }
        let text = BASE64URL_NOPAD.encode(&encode(&invites)?);
        Ok(Answer::Link(format!("{TEXT_HEAD}{text}")))
    }

    /// Asks to join all teams of a link.
    pub(crate) fn join_link(&mut self, text: &str) -> Result<Answer, Failure> {
        let body = text.trim().strip_prefix(TEXT_HEAD);
        let bytes = body
            .filter(|body| body.len() <= TEXT_BYTES)
            .and_then(|body| BASE64URL_NOPAD.decode(body.as_bytes()).ok());
        let invites: Option<Vec<String>> = bytes.and_then(|bytes| decode(&bytes).ok());
        let Some(invites) = invites else {
            return refuse(
                Code::Configuration,
                "this is not a link; copy the whole text that begins with treeline-link-",
            );
        };
        for invite in invites {
            self.join(&invite)?;
        }
        Ok(self.teams())
    }

    /// Lets another device of this person into all teams that this one is in.
    pub(crate) fn link_device(&mut self, fingerprint: &str) -> Result<Answer, Failure> {
        let Some(device) = Fingerprint::from_hex(fingerprint) else {
            return refuse(
                Code::Usage,
                "a fingerprint has 64 hex digits; copy all of it",
            );
        };
        self.ask_all(|_| Some(Request::Link { device: device.0 }))
    }

    /// Has another device of this person removed from all teams.
    pub(crate) fn unlink_device(&mut self, fingerprint: &str) -> Result<Answer, Failure> {
        let Some(device) = Fingerprint::from_hex(fingerprint) else {
            return refuse(
                Code::Usage,
                "a fingerprint has 64 hex digits; copy all of it",
            );
        };
        if device == self.memory.signer.public_key().fingerprint() {
            return refuse(
                Code::Usage,
                "a device cannot remove itself; do it on another one",
            );
        }
        self.ask_all(|used| {
            let mut used = used.iter().copied();
            let is_it = |key: [u8; 32]| PublicKey(key).fingerprint() == device;
            let (device, _) = used.find(|(_, key)| is_it(*key))?;
            Some(Request::Unlink { device })
        })
    }

    fn ask_all(
        &mut self,
        request: impl Fn(&[(u32, [u8; 32])]) -> Option<Request>,
    ) -> Result<Answer, Failure> {
        let teams: Vec<Team> = self
            .memory
            .teams
            .values()
            .filter(|one| !one.is_out())
            .cloned()
            .collect();
        let mut asked = false;
        for team in teams {
            let tip = self.tip(&team)?;
            let present = tip
                .used
                .iter()
                .filter(|(device, _)| tip.devices.contains(device));
            let Some(request) = request(&present.collect::<Vec<_>>()) else {
                continue;
            };
            asked = true;
            let settings = ChannelId {
                team: team.id,
                channel: 0,
            };
            self.write(settings, kind::REQUEST, &encode(&request)?)?;
            self.follow(team.id, team.device, request)?;
        }
        if asked {
            Ok(Answer::Done)
        } else {
            refuse(Code::NotFound, "no such device is in a team of this one")
        }
    }

    /// Takes what a member has asked.
    pub(crate) fn take_request(
        &mut self,
        id: TeamId,
        from: u32,
        body: &[u8],
    ) -> Result<(), Failure> {
        match decode(body) {
            Ok(request) => {
                let done = self.follow(id, from, request);
                self.contain(done)?;
                Ok(())
            }
            // Of a later version.
            Err(_) => Ok(()),
        }
    }

    fn follow(&mut self, id: TeamId, from: u32, request: Request) -> Result<(), Failure> {
        let mut team = self.team(id)?.clone();
        match request {
            Request::Link { device } => {
                if team.linked.get(&from).map_or(0, |all| all.len()) >= LINKED {
                    return Ok(());
                }
                if self.adder(&team, from)? == team.device && self.administered(id).is_ok() {
                    // Before it takes one of its member's places: there may be no room for it.
                    self.expect_linked(id, Fingerprint(device), from)?;
                    team = self.team(id)?.clone();
                }
                team.linked.entry(from).or_default().insert(device);
                self.put_team(team)?;
            }
            Request::Unlink { device } => {
                let ours = self.is_linked(&team, from, device)?;
                let below = self.administered(id).is_ok_and(|team| {
                    self.tip(team)
                        .is_ok_and(|tip| tip.roles.outranks(team.device, device))
                });
                if ours && below {
                    self.ask_for(id, What::Remove { device })?;
                }
            }
        }
        Ok(())
    }

    /// Exactly one adds a linked device: an admin its own next one, the owner those of others.
    fn adder(&self, team: &Team, from: u32) -> Result<u32, Failure> {
        let roles = &self.tip(team)?.roles;
        let owner = roles.admins.first().copied().unwrap_or(FOUNDER);
        Ok(roles.rank(from).map_or(owner, |_| from))
    }

    /// Whether one device has let the other in, or both were by the same.
    fn is_linked(&self, team: &Team, one: u32, other: u32) -> Result<bool, Failure> {
        let tip = self.tip(team)?;
        let print = |device| {
            tip.used
                .key(device)
                .map(|key| PublicKey(key).fingerprint().0)
        };
        let (Some(first), Some(second)) = (print(one), print(other)) else {
            return Ok(false);
        };
        let has = |by: u32, device: &[u8; 32]| {
            team.linked.get(&by).is_some_and(|all| all.contains(device))
        };
        let same = team
            .linked
            .values()
            .any(|all| all.contains(&first) && all.contains(&second));
        Ok(has(one, &second) || has(other, &first) || same)
    }

    /// What a device that another one has let in becomes: what that one is.
    pub(crate) fn role_like(&self, team: &Team, like: u32) -> Result<Role, Failure> {
        let roles = &self.tip(team)?.roles;
        Ok(match roles.rank(like) {
            Some(_) => Role::Admin,
            None if roles.guests.contains(&like) => Role::Guest,
            None => Role::Member,
        })
    }
}
