//! An organisation without an origin's operator: its devices find each other on the local network.
//! It is no other kind of organisation, only one whose origin nobody runs.

use endpoint_secure_api::Answer;
use proto::limits::DAY_MS;
use proto::{Place, PublicKey, Registration, Signer};

use crate::device::session::{Failure, Session};
use crate::naming;
use crate::team::{ADMINISTRATION, Seed};

/// How long an organisation without an origin's operator may last, in milliseconds: ten years, as long as
/// `treeline-relay org register` gives.
const OWN_ORIGIN_MS: u64 = 3653 * DAY_MS;
/// Its number at the origin that is only its own.
const OWN_ORIGIN_ORG: u32 = 1;
impl Session {
    /// Founds an organisation at an origin of its own, whose key is used for this and forgotten. A
    /// second time with the same name it is the same one.
    pub(crate) fn create_on_lan(
        &mut self,
        name: String,
        relays: &[String],
    ) -> Result<Answer, Failure> {
        let mut own = self.memory.organisations.values();
        if let Some(known) = own.find(|one| one.name == name) {
            let (origin, org) = (PublicKey(known.origin).origin_id(), known.org);
            let id = naming::team_id(Place {
                origin,
                org,
                team: ADMINISTRATION,
            });
            return self
                .team(id)
                .map(|team| Answer::Team(self.team_answer(team)));
        }
        let (origin, seed) = (Seed::random()?, Seed::random()?);
        let not_after = self.now.plus_millis(OWN_ORIGIN_MS);
        let origin = Signer::from_seed(&origin.0);
        let registration = Registration::issue(&origin, OWN_ORIGIN_ORG, seed.0, not_after);
        let registration = registration.expect("one rule fits into a grant");
        self.register(&registration, name, relays)
    }
}
