//! Standing invites: what leads the next device of a member into a team, and a device back into it that
//! had to become a new one, without an admin who issues something first.
//!
//! They let nobody in: a person, or a member's own device, has to name who answers one. They end after
//! two weeks at most; every admin's device reads what answers them. Source: docs/architecture.md, "Devices".

use endpoint_secure_api::{Role, TeamId};
use proto::limits::DAY_MS;
use proto::{Fingerprint, PublicKey};
use sha2::{Digest, Sha256};

use crate::admission::Adding;
use crate::device::session::{Failure, Session};
use crate::group::Candidate;
use crate::invite::{Invite, InviteId, Nonce};
use crate::operation::What;
use crate::store::StoreError;
use crate::team::{Seed, Team};

/// One is good in the week that it is made in, and in the next, in milliseconds.
const WEEK_MS: u64 = 7 * DAY_MS;

/// What the standing invites to an admin of a team have in common in a week.
fn nonce(return_key: &Seed, admin: [u8; 32], week: u32) -> Nonce {
    let hash: [u8; 32] = Sha256::new()
        .chain_update(b"treeline standing invite 1")
        .chain_update(return_key.0)
        .chain_update(admin)
        .chain_update(week.to_be_bytes())
        .finalize()
        .into();
    let mut nonce = Nonce([0; 16]);
    nonce.0.copy_from_slice(&hash[..16]);
    nonce
}

impl Session {
    /// An invite to a team that leads to one of its admins, and that every member can make.
    pub(crate) fn standing_invite(&self, team: &Team, admin: u32) -> Result<Invite, Failure> {
        self.standing_in(team, admin, self.week())
    }

    fn week(&self) -> u32 {
        (self.now.millis() / WEEK_MS) as u32
    }

    fn standing_in(&self, team: &Team, admin: u32, week: u32) -> Result<Invite, Failure> {
        let admin = team.members.get(&admin).ok_or(StoreError::Corrupt)?;
        let admin = PublicKey(admin.publishing).fingerprint().0;
        Ok(Invite {
            origin: team.origin,
            org: team.id.org,
            team: team.id.team,
            suite: team.suite,
            expires_s: (u64::from(week.saturating_add(2)) * (WEEK_MS / 1000)) as u32,
            nonce: nonce(&team.return_key, admin, week),
            admin,
            organisation: team.organisation.clone(),
            team_name: team.name.clone(),
            relays: self.memory.network.relays.clone(),
        })
    }

    /// The key under which packages are sealed that answer a standing invite of the team, and when that
    /// began; none for any other, and for one whose time is over.
    pub(crate) fn standing(&self, id: TeamId, invite: InviteId) -> Option<(Seed, u64)> {
        let team = self.memory.teams.get(&id)?;
        let admins = &self.tip(team).ok()?.roles.admins;
        let now = self.week();
        // Clocks differ.
        let mut weeks = now.saturating_sub(1)..=now.saturating_add(1);
        weeks.find_map(|week| {
            let mut all = admins.iter();
            all.find_map(|admin| {
                let standing = self.standing_in(team, *admin, week).ok()?;
                let begins = u64::from(week) * WEEK_MS;
                (standing.id() == invite).then(|| (standing.key(), begins))
            })
        })
    }

    /// Whether a person, or a member's own device, has named a device that is to be added.
    pub(crate) fn is_named(&self, id: TeamId, device: Fingerprint) -> bool {
        let mut expected = self.memory.adding.values();
        let mut own = self.memory.operations.range((id, 0)..=(id, u64::MAX));
        expected.any(|one| one.team == id && one.means(device))
            || own.any(|(_, one)| {
                one.what
                    == What::Add {
                        fingerprint: device.0,
                    }
            })
    }

    /// Adds a device as soon as it asks, with the role of the member that has named it.
    pub(crate) fn expect_linked(
        &mut self,
        id: TeamId,
        device: Fingerprint,
        like: u32,
    ) -> Result<(), Failure> {
        self.expect(Adding {
            team: id,
            digits: device.digits(),
            fingerprint: Some(device.0),
            like: Some(like),
        })?;
        Ok(())
    }

    /// Gives a device that is about to be added the role of the one that has named it.
    pub(crate) fn liken(&mut self, id: TeamId, device: [u8; 32], like: u32) -> Result<(), Failure> {
        let team = self.team(id)?;
        let package = self.package_for(id, device).unwrap_or_default();
        let Ok(candidate) = Candidate::read(&self.crypto, id, team.suite, &package) else {
            return Ok(());
        };
        let (role, may) = (self.role_like(team, like)?, team.may_make_admins());
        if role == Role::Guest || (role == Role::Admin && may) {
            let device = candidate.leaf.device;
            self.ask_for(id, What::Role { device, role })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standing_invite_is_of_one_key_one_admin_and_one_week() {
        let of = |key: u8, admin: u8, week| nonce(&Seed([key; 32]), [admin; 32], week).0;
        let all = [of(1, 2, 3), of(4, 2, 3), of(1, 4, 3), of(1, 2, 4)];
        let apart: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(apart.len(), all.len());
        // The first 16 bytes of the hash that docs/protocol.md says.
        let bytes = [
            &b"treeline standing invite 1"[..],
            &[1; 32],
            &[2; 32],
            &[0, 0, 0, 3],
        ];
        let hash: [u8; 32] = Sha256::digest(bytes.concat()).into();
        assert_eq!(all[0], hash[..16]);
    }
}
