//! Standing invites: what leads the next device of a member into a team, and a device back into it that
//! had to become a new one, without an admin who issues something first.
//!
//! They let nobody in: a package that answers one is read only when a person, or a member's own device,
//! has named its sender by the whole fingerprint. Source: docs/architecture.md, "Devices".

use endpoint_secure_api::{Role, TeamId};
use proto::{Fingerprint, PublicKey};
use sha2::{Digest, Sha256};

use crate::admission::Adding;
use crate::device::session::{Failure, Session};
use crate::group::Candidate;
use crate::invite::{Invite, InviteId, Nonce};
use crate::operation::What;
use crate::store::StoreError;
use crate::team::{Seed, Team};

impl Session {
    /// An invite to a team that leads to one of its admins, and that every member can make.
    pub(crate) fn standing_invite(&self, team: &Team, admin: u32) -> Result<Invite, Failure> {
        let admin = team.members.get(&admin).ok_or(StoreError::Corrupt)?;
        let admin = PublicKey(admin.publishing).fingerprint().0;
        let hash: [u8; 32] = Sha256::new()
            .chain_update(b"treeline standing invite 1")
            .chain_update(team.return_key.0)
            .chain_update(admin)
            .finalize()
            .into();
        let mut nonce = Nonce([0; 16]);
        nonce.0.copy_from_slice(&hash[..16]);
        Ok(Invite {
            origin: team.origin,
            org: team.id.org,
            team: team.id.team,
            suite: team.suite,
            expires_s: u32::MAX,
            admin,
            nonce,
            organisation: team.organisation.clone(),
            team_name: team.name.clone(),
            relays: self.memory.network.relays.clone(),
        })
    }

    /// The key under which packages are sealed that answer a standing invite of the team.
    pub(crate) fn standing_key(&self, id: TeamId, invite: InviteId) -> Option<Seed> {
        let team = self.memory.teams.get(&id)?;
        let mut admins = self.tip(team).ok()?.roles.admins.iter();
        admins.find_map(|admin| {
            let standing = self.standing_invite(team, *admin).ok()?;
            (standing.id() == invite).then(|| standing.key())
        })
    }

    /// Whether somebody has named the device that answers a standing invite; others are not heard.
    pub(crate) fn is_named(&self, id: TeamId, invite: InviteId, device: Fingerprint) -> bool {
        let mut expected = self.memory.adding.values();
        let mut own = self.memory.operations.range((id, 0)..=(id, u64::MAX));
        self.standing_key(id, invite).is_none()
            || expected.any(|one| one.team == id && one.means(device))
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
