//! What others have done that no honest device does: kept on disk, said once, and shown beside the
//! device in its team's list for as long as it is in.
//!
//! It judges nobody: to remove a device is an admin's business. Source: docs/architecture.md, "Which
//! commit wins".

use endpoint_secure_api::TeamId;
use serde::{Deserialize, Serialize};

use crate::branch::StateId;
use crate::device::session::{Failure, Session};
use crate::naming;
use crate::store::Kind;

/// Something that a device has done, of each kind the first.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Evidence {
    /// The team.
    pub team: TeamId,
    /// Who.
    pub device: u32,
    /// What.
    pub what: Misdeed,
}

/// What no honest device does. The values let two people compare what each of them has.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Misdeed {
    /// It signed two commits of one state.
    TwoCommits {
        /// The state.
        parent: StateId,
        /// The SHA-256 of both.
        digests: [[u8; 32]; 2],
    },
    /// It is in the same state with other secrets.
    OtherSecrets {
        /// The state.
        state: StateId,
        /// The tag here and there.
        tags: [[u8; 8]; 2],
    },
    /// An entry of its feed does not follow the one before it.
    BrokenFeed {
        /// The channel.
        channel: u16,
        /// The number of the entry.
        number: u32,
    },
}

/// Team, device, kind of misdeed.
pub(crate) type EvidenceKey = (TeamId, u32, u8);

impl Evidence {
    pub(crate) fn key(&self) -> EvidenceKey {
        (self.team, self.device, self.what.kind())
    }
}

impl Misdeed {
    fn kind(&self) -> u8 {
        match self {
            Self::TwoCommits { .. } => 1,
            Self::OtherSecrets { .. } => 2,
            Self::BrokenFeed { .. } => 3,
        }
    }

    /// For a person, after "device 7 ".
    fn text(&self) -> &'static str {
        match self {
            Self::TwoCommits { .. } => {
                "has made two different changes of one state of its team: it shows others else, or \
                 was copied; an admin should remove it"
            }
            Self::OtherSecrets { .. } => {
                "has other secrets for the same state of its team than this one: somebody stands \
                 between them; compare fingerprints, and remove it"
            }
            Self::BrokenFeed { .. } => {
                "has written messages that do not follow each other: it may show others else"
            }
        }
    }
}

impl Session {
    /// Keeps evidence, and says so once.
    pub(crate) fn accuse(
        &mut self,
        team: TeamId,
        device: u32,
        what: Misdeed,
    ) -> Result<(), Failure> {
        let evidence = Evidence { team, device, what };
        let key = evidence.key();
        if self.memory.evidence.contains_key(&key) {
            return Ok(());
        }
        self.notice(format!("device {device} {}", evidence.what.text()));
        self.store
            .put(Kind::Evidence, &evidence_bytes(key), &evidence)?;
        self.memory.evidence.insert(key, evidence);
        self.told.teams = true;
        Ok(())
    }

    /// What is to be shown beside a device; empty if there is nothing.
    pub(crate) fn warning(&self, team: TeamId, device: u32) -> String {
        let all = (team, device, u8::MIN)..=(team, device, u8::MAX);
        let found = self.memory.evidence.range(all);
        let texts: Vec<_> = found.map(|(_, one)| one.what.text()).collect();
        texts.join("; ")
    }
}

fn evidence_bytes((team, device, kind): EvidenceKey) -> Vec<u8> {
    [
        &naming::team_bytes(team)[..],
        &device.to_be_bytes(),
        &[kind],
    ]
    .concat()
}
