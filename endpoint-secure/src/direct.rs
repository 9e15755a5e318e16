//! Direct conversations: teams of their own that any device of an organisation may found, and in which
//! nobody is but whom its founder adds. No admin of the organisation is in them.
//!
//! The number of such a team has its highest bit set; the next 11 are of the founder's fingerprint, so
//! that the organisation can grant each device numbers without being asked for each. Source:
//! docs/architecture.md, "Organisations".

use endpoint_secure_api::{Answer, Code, Suite, TeamId};
use proto::{Chunk, Fingerprint, Grant, Name, Path, PublicKey, Verbs};

use crate::device::checked;
use crate::device::session::{Failure, Session, refuse};
use crate::naming;
use crate::store::Kind;
use crate::team::{Founding, Organisation};

/// The first number of a direct conversation.
pub const DIRECT: u32 = 1 << 19;
/// Bits of a number that are the founder's to choose.
const OWN_BITS: u8 = 8;

/// The first of a device's numbers.
fn first_team((origin, org): (u32, u32), device: Fingerprint) -> TeamId {
    let slot = u32::from(u16::from_be_bytes([device.0[0], device.0[1]])) >> 5;
    TeamId {
        origin,
        org,
        team: DIRECT | slot << OWN_BITS,
    }
}

impl Founding {
    fn first_team(&self, device: Fingerprint) -> TeamId {
        let origin = PublicKey(self.origin).origin_id().get();
        first_team((origin, self.org), device)
    }
}

impl Organisation {
    /// Lets a device found direct conversations.
    pub fn direct(&self, subject: PublicKey) -> Result<Founding, Failure> {
        let team = first_team(self.key(), subject.fingerprint());
        self.founding_of(team, Name::TEAM_BITS - OWN_BITS, subject)
    }
}

impl Session {
    /// Founds a conversation; who joins comes in by an invite, as in any team.
    pub(crate) fn create_direct(&mut self, name: &str) -> Result<Answer, Failure> {
        let name = checked(name)?;
        let own = self.memory.signer.public_key();
        let mut organisations = self.memory.organisations.values();
        let founding = match (&self.memory.founding, organisations.next()) {
            (Some(founding), _) => founding.clone(),
            (None, Some(organisation)) => organisation.direct(own)?,
            (None, None) => {
                return refuse(
                    Code::Forbidden,
                    "no organisation has let this device found conversations; its founder's device does \
                     when it adds a device to a team",
                );
            }
        };
        let first = founding.first_team(own.fingerprint());
        let numbers = first.team..first.team + (1 << OWN_BITS);
        let mut ids = numbers.map(|team| TeamId { team, ..first });
        match ids.find(|id| !self.memory.teams.contains_key(id)) {
            Some(id) => self.found_team(id, founding, name, Suite::default()),
            None => refuse(
                Code::Forbidden,
                "this device has founded 256 conversations, and cannot found more",
            ),
        }
    }

    /// Keeps what lets this device found direct conversations, if it does.
    pub(crate) fn take_founding(&mut self, founding: Founding) -> Result<(), Failure> {
        let own = self.memory.signer.public_key();
        let place = naming::place(founding.first_team(own.fingerprint()));
        let chunk = founding.chain.last();
        let chunk = chunk.and_then(|bytes| Chunk::decode(bytes.clone().into()).ok());
        let grant = chunk.and_then(|chunk| Grant::decode(&chunk).ok());
        let first = Name::team_prefix(place, Path::Message).first();
        let holds = grant.is_some_and(|one| one.subject == own && one.permits(Verbs::GRANT, first));
        if holds {
            self.store.put(Kind::Founding, b"", &founding)?;
            self.memory.founding = Some(founding);
        }
        Ok(())
    }

    pub(crate) fn forget_founding(&mut self) -> Result<(), Failure> {
        self.memory.founding = None;
        Ok(self.store.delete(Kind::Founding, b"")?)
    }
}
