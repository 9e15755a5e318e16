//! When devices were last seen, and what follows from it: leaves are renewed, and those of devices that
//! nobody has seen for long are removed.
//!
//! It believes authors' clocks only as far back as this device's own goes. Source: docs/architecture.md,
//! "Devices".

use endpoint_secure_api::TeamId;
use proto::limits::DAY_MS;
use serde::{Deserialize, Serialize};

use crate::device::session::{Failure, Session};
use crate::operation::What;
use crate::states::numbered;
use crate::store::Kind;

/// A device renews its leaf after this long, in milliseconds.
const RENEW_MS: u64 = 30 * DAY_MS;
/// A device that was not seen for this long is removed, in milliseconds.
const UNSEEN_MS: u64 = 84 * DAY_MS;
/// How long an admin has to be connected before it believes that, in milliseconds.
const SURE_MS: u64 = 10 * 60 * 1000;
/// By how much a device has to be seen later for that to be written down, in milliseconds.
const STEP_MS: u64 = DAY_MS / 4;

/// When a device was last seen.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// In which team.
    team: TeamId,
    /// Its number.
    device: u32,
    /// When, in milliseconds since 1970.
    at_ms: u64,
}

impl Seen {
    pub(crate) fn entry(self) -> ((TeamId, u32), u64) {
        ((self.team, self.device), self.at_ms)
    }
}

impl Session {
    /// Notes that devices were there at a time.
    pub(crate) fn saw(
        &mut self,
        team: TeamId,
        devices: impl IntoIterator<Item = u32>,
        at_ms: u64,
    ) -> Result<(), Failure> {
        let at_ms = at_ms.min(self.now.millis());
        for device in devices {
            let known = self.memory.seen.get(&(team, device));
            if known.is_some_and(|known| at_ms < known + STEP_MS) {
                continue;
            }
            let key = numbered(team, device.into());
            let seen = Seen {
                team,
                device,
                at_ms,
            };
            self.store.put(Kind::Seen, &key, &seen)?;
            self.memory.seen.insert((team, device), at_ms);
        }
        Ok(())
    }

    /// When a device was last seen; 0 for never.
    pub(crate) fn last_seen_ms(&self, team: TeamId, device: u32) -> u64 {
        self.memory.seen.get(&(team, device)).copied().unwrap_or(0)
    }

    /// Own leaves that are old are renewed, so that keys that were stolen serve for a time only.
    /// Not where nobody hears it: whoever is away for months would end on a branch of its own.
    pub(crate) fn renew_leaves(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        let teams = self.memory.teams.values();
        let old: Vec<TeamId> = teams
            .filter(|team| !team.is_out() && team.renewed_ms + RENEW_MS < now)
            .filter(|team| self.connected_ms(team.id).is_some())
            .map(|team| team.id)
            .collect();
        for id in old {
            if self.room_for(1).is_err() {
                break;
            }
            let mut team = self.memory.teams[&id].clone();
            team.renewed_ms = now;
            self.put_team(team)?;
            self.ask_for(id, What::Renew)?;
        }
        Ok(())
    }

    /// An admin removes devices that nobody has seen for long: only one that has been connected for a
    /// while, and has heard everything, knows that.
    pub(crate) fn remove_unseen(&mut self) -> Result<(), Failure> {
        let now = self.now.millis();
        let ids: Vec<TeamId> = self.memory.teams.keys().copied().collect();
        for id in ids {
            let Some(sure_ms) = self.connected_ms(id).map(|since| since + SURE_MS) else {
                continue;
            };
            let Ok(team) = self.administered(id) else {
                continue;
            };
            let tip = self.tip(team)?;
            let below = tip.devices.iter().copied();
            let below = below.filter(|one| tip.roles.outranks(team.device, *one));
            let gone: Vec<u32> = below
                .filter(|one| self.last_seen_ms(id, *one) + UNSEEN_MS < now)
                .collect();
            if !gone.is_empty() && sure_ms > now {
                self.wake_for_pursuit(sure_ms);
                continue;
            }
            for device in gone {
                self.want(id, What::Remove { device })?;
            }
        }
        Ok(())
    }
}
