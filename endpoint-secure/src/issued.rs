//! The invites that this device has issued: making them, listing them, taking them back.
//!
//! What they say is in `invite`, who answers them in `admission`. Source: docs/protocol.md, "Invite".

use std::collections::BTreeSet;

use data_encoding::HEXLOWER;
use endpoint_secure_api::{Answer, Code, Fate, Issued as ApiIssued, TeamId};
use proto::Fingerprint;
use proto::limits::DAY_MS;
use serde::{Deserialize, Serialize};

use crate::device::session::{Failure, Session, refuse};
use crate::invite::{Invite, InviteId, Nonce};
use crate::naming;
use crate::store::{Kind, StoreError};

/// Invites to one team that are open, at most, and all that are remembered.
const OPEN: usize = 128;
const REMEMBERED: usize = 512;
/// How long an invite is remembered after its end, in milliseconds: who comes late is told why.
const REMEMBERED_MS: u64 = 30 * DAY_MS;
/// How long an invite is good if nobody says otherwise, in hours.
const HOURS: u32 = 7 * 24;

/// An invite that this device has issued.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Issued {
    /// What it says.
    pub invite: Invite,
    /// When it was issued.
    pub created_ms: u64,
    /// Whom it has let in.
    pub used_by: Option<[u8; 32]>,
    /// Whether it was taken back.
    pub revoked: bool,
}

impl Issued {
    /// What has become of it.
    pub fn fate(&self, now_ms: u64) -> Fate {
        match (self.used_by, self.revoked) {
            (Some(_), _) => Fate::Used,
            (None, true) => Fate::Revoked,
            (None, false) if self.invite.expires_ms() <= now_ms => Fate::Expired,
            (None, false) => Fate::Open,
        }
    }

    /// What it is found by.
    pub fn key(&self) -> (TeamId, InviteId) {
        (self.invite.team_id(), self.invite.id())
    }
}

impl Session {
    pub(crate) fn create_invite(
        &mut self,
        id: TeamId,
        hours: Option<u32>,
    ) -> Result<Answer, Failure> {
        let hours = hours.unwrap_or(HOURS);
        if !(1..=endpoint_secure_api::Command::INVITE_HOURS).contains(&hours) {
            return refuse(Code::Usage, "an invite is good for 1 to 720 hours");
        }
        let team = self.administered(id)?;
        let mut nonce = Nonce([0; 16]);
        getrandom::fill(&mut nonce.0).map_err(|_| StoreError::Random)?;
        let invite = Invite {
            origin: team.origin,
            org: id.org,
            team: id.team,
            suite: team.suite,
            expires_s: (self.now.millis() / 1000 + u64::from(hours) * 3600) as u32,
            admin: self.memory.signer.public_key().fingerprint().0,
            nonce,
            organisation: team.organisation.clone(),
            team_name: team.name.clone(),
            relays: self.memory.network.relays.clone(),
        };
        self.forget_invites(id)?;
        let open = self.issued(id).filter(|one| self.is_open(one)).count();
        if open >= OPEN {
            return refuse(
                Code::Usage,
                "the team has 128 open invites; revoke some of them first",
            );
        }
        let answer = invite.answer();
        self.put_issued(Issued {
            invite,
            created_ms: self.now.millis(),
            used_by: None,
            revoked: false,
        })?;
        self.follow_requests()?;
        Ok(Answer::Invite(answer))
    }

    pub(crate) fn issued(&self, team: TeamId) -> impl Iterator<Item = &Issued> {
        let range = (team, InviteId::default())..=(team, [u8::MAX; 8]);
        self.memory.issued.range(range).map(|(_, issued)| issued)
    }

    pub(crate) fn is_open(&self, issued: &Issued) -> bool {
        issued.fate(self.now.millis()) == Fate::Open
    }

    pub(crate) fn put_issued(&mut self, issued: Issued) -> Result<(), Failure> {
        let key = issued.key();
        self.store.put(Kind::Issued, &issued_bytes(key), &issued)?;
        self.memory.issued.insert(key, issued);
        self.told.teams = true;
        Ok(())
    }

    /// Forgets invites that ended long ago, and the oldest that are not open when there are too many.
    pub(crate) fn forget_invites(&mut self, team: TeamId) -> Result<(), Failure> {
        let now = self.now.millis();
        let mut all: Vec<&Issued> = self.issued(team).collect();
        all.sort_by_key(|one| (!self.is_open(one), one.created_ms));
        let many = all.len().saturating_sub(REMEMBERED - 1);
        let closed = all.iter().filter(|one| !self.is_open(one)).take(many);
        let old = all
            .iter()
            .filter(|one| one.invite.expires_ms() + REMEMBERED_MS < now);
        let gone: BTreeSet<_> = closed.chain(old).map(|one| one.key()).collect();
        for key in gone {
            self.store.delete(Kind::Issued, &issued_bytes(key))?;
            self.memory.issued.remove(&key);
        }
        Ok(())
    }

    pub(crate) fn invites(&self, id: TeamId) -> Result<Answer, Failure> {
        self.team(id)?;
        let mut all: Vec<&Issued> = self.issued(id).collect();
        all.sort_by_key(|one| std::cmp::Reverse((one.created_ms, one.key())));
        let answer = |one: &&Issued| ApiIssued {
            invite: one.invite.answer(),
            created_ms: one.created_ms,
            fate: one.fate(self.now.millis()),
            used_by: one
                .used_by
                .map_or_else(String::new, |by| Fingerprint(by).to_hex()),
        };
        // As many as a frame of the door holds.
        let shown = all.iter().take(OPEN).map(answer).collect();
        Ok(Answer::Invites(shown))
    }

    pub(crate) fn revoke_invite(&mut self, team: TeamId, id: &str) -> Result<Answer, Failure> {
        self.team(team)?;
        let bytes = HEXLOWER.decode(id.as_bytes()).ok();
        let known = bytes
            .and_then(|bytes| InviteId::try_from(bytes).ok())
            .and_then(|id| self.memory.issued.get(&(team, id)).cloned());
        let Some(issued) = known else {
            return refuse(
                Code::NotFound,
                "this device has issued no such invite; list its invites",
            );
        };
        match issued.fate(self.now.millis()) {
            Fate::Used => refuse(
                Code::Usage,
                "the invite was used already; remove the device that came with it",
            ),
            Fate::Revoked | Fate::Expired => Ok(Answer::Done),
            Fate::Open => {
                let key = issued.key();
                self.put_issued(Issued {
                    revoked: true,
                    ..issued
                })?;
                self.refuse_answers(key, None)?;
                Ok(Answer::Done)
            }
        }
    }
}

fn issued_bytes((team, invite): (TeamId, InviteId)) -> Vec<u8> {
    [&naming::team_bytes(team)[..], &invite].concat()
}
