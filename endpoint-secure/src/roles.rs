//! Who may do what in a team: a value in the group's context, and the rule for changing it.
//!
//! Every Secure judges every commit by this rule in the state that the commit follows, so a changed
//! client changes nothing for others. It knows no group and no store. Source: docs/architecture.md,
//! "State, commits".

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::naming::FOUNDER;
use crate::orgs::OrgId;

const VERSION: u8 = 1;
/// Admins of a team, at most.
pub const ADMINS: usize = 64;
/// Guests of a team, at most: their list travels in every change of roles.
const GUESTS: usize = 1024;
/// Other organisations that a team lets in, at most.
const ORGS: usize = 32;

/// Organisations with their keys.
pub type Orgs = BTreeMap<OrgId, [u8; 32]>;

/// The roles of a team in one of its states. Devices are meant by their numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roles {
    /// In the order of rank; the first is the owner.
    pub admins: Vec<u32>,
    /// Members who may not write into channels for announcements and never become admins as such.
    pub guests: BTreeSet<u32>,
    /// Channels into which only admins write.
    pub announce: BTreeSet<u16>,
    /// Other organisations whose devices may be guests, with their keys.
    #[serde(default)]
    pub orgs: Orgs,
}

/// What a commit does, as far as roles decide about it.
#[derive(Debug)]
pub struct Deed<'a> {
    /// Who commits.
    pub author: u32,
    /// Devices that come.
    pub added: &'a [u32],
    /// Devices that go.
    pub removed: &'a [u32],
    /// The roles afterwards.
    pub roles: &'a Roles,
    /// All devices afterwards.
    pub devices: &'a BTreeSet<u32>,
}

impl Roles {
    /// Of a team that has just been founded.
    pub fn founded() -> Self {
        Self {
            admins: vec![FOUNDER],
            guests: BTreeSet::new(),
            announce: BTreeSet::new(),
            orgs: BTreeMap::new(),
        }
    }

    /// The place in the list of admins: 0 is the owner's.
    pub fn rank(&self, device: u32) -> Option<usize> {
        self.admins.iter().position(|admin| *admin == device)
    }

    /// Whether one device stands above another.
    pub fn outranks(&self, device: u32, other: u32) -> bool {
        match (self.rank(device), self.rank(other)) {
            (Some(own), Some(other)) => own < other,
            (Some(_), None) => true,
            (None, _) => false,
        }
    }

    /// Whether a device may write into a channel.
    pub fn may_write(&self, device: u32, channel: u16) -> bool {
        let open = channel > 0 && !self.announce.contains(&channel);
        open || self.rank(device).is_some()
    }

    /// Whether this deed is allowed in a state with these roles.
    pub fn allow(&self, deed: &Deed<'_>) -> bool {
        if deed.added.is_empty() && deed.removed.is_empty() && deed.roles == self {
            // Anybody renews its own leaf.
            return true;
        }
        let Some(rank) = self.rank(deed.author) else {
            return false;
        };
        let after = &deed.roles.admins;
        let above_stay = after.get(..rank) == Some(&self.admins[..rank]);
        let own = after.get(rank) == Some(&deed.author) || !after.contains(&deed.author);
        let below = |target: &u32| self.outranks(deed.author, *target);
        above_stay && own && deed.removed.iter().all(below) && deed.roles.are_of(deed.devices)
    }

    /// Whether all who have a role are in the group, and there is somebody to administer it.
    fn are_of(&self, devices: &BTreeSet<u32>) -> bool {
        !self.admins.is_empty()
            && self.admins.iter().all(|admin| devices.contains(admin))
            && self.guests.is_subset(devices)
            && !self.admins.iter().any(|admin| self.guests.contains(admin))
    }

    /// These roles without some devices.
    pub fn without(&self, gone: &[u32]) -> Self {
        let mut roles = self.clone();
        roles.admins.retain(|admin| !gone.contains(admin));
        roles.guests.retain(|guest| !gone.contains(guest));
        roles
    }

    /// The bytes in the group's context.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.admins.iter().copied());
        put(&mut out, self.guests.iter().copied());
        put(&mut out, self.announce.iter().map(|one| u32::from(*one)));
        out.push(self.orgs.len() as u8);
        for ((origin, org), key) in &self.orgs {
            out.extend_from_slice(&origin.to_be_bytes());
            out.extend_from_slice(&org.to_be_bytes());
            out.extend_from_slice(key);
        }
        out
    }

    /// Reads them; exactly one encoding is read.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (version, rest) = bytes.split_first()?;
        let (admins, rest) = take(rest, ADMINS)?;
        let (guests, rest) = take(rest, GUESTS)?;
        let (announce, rest) = take(rest, 1 << 10)?;
        let (orgs, rest) = take_orgs(rest)?;
        let channel = |number: u32| u16::try_from(number).ok().filter(|one| *one < 1 << 10);
        let this = Self {
            guests: guests.into_iter().collect(),
            announce: announce.into_iter().map(channel).collect::<Option<_>>()?,
            admins,
            orgs,
        };
        let apart = this.admins.iter().collect::<BTreeSet<_>>().len() == this.admins.len();
        let whole = *version == VERSION && rest.is_empty() && apart && this.encode() == bytes;
        whole.then_some(this)
    }

    /// Whether they fit the group's context.
    pub fn fit(&self) -> bool {
        self.admins.len() <= ADMINS && self.guests.len() <= GUESTS && self.orgs.len() <= ORGS
    }
}

fn take_orgs(bytes: &[u8]) -> Option<(Orgs, &[u8])> {
    let (count, mut rest) = bytes.split_first()?;
    let mut orgs = BTreeMap::new();
    for _ in 0..*count {
        let (origin, tail) = rest.split_first_chunk()?;
        let (org, tail) = tail.split_first_chunk()?;
        let (key, tail) = tail.split_first_chunk()?;
        orgs.insert(
            (u32::from_be_bytes(*origin), u32::from_be_bytes(*org)),
            *key,
        );
        rest = tail;
    }
    (orgs.len() <= ORGS).then_some((orgs, rest))
}

fn put(out: &mut Vec<u8>, numbers: impl ExactSizeIterator<Item = u32>) {
    out.extend_from_slice(&(numbers.len() as u16).to_be_bytes());
    for number in numbers {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn take(bytes: &[u8], most: usize) -> Option<(Vec<u32>, &[u8])> {
    let (count, rest) = bytes.split_first_chunk::<2>()?;
    let count = usize::from(u16::from_be_bytes(*count));
    if count > most {
        return None;
    }
    let (numbers, rest) = rest.split_at_checked(count * 4)?;
    let numbers = numbers
        .chunks_exact(4)
        .map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
        .collect();
    Some((numbers, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(admins: &[u32], guests: &[u32]) -> Roles {
        Roles {
            admins: admins.to_vec(),
            guests: guests.iter().copied().collect(),
            announce: [3, 9].into(),
            orgs: [((1, 2), [7; 32])].into(),
        }
    }

    fn allowed(before: &Roles, author: u32, removed: &[u32], after: &Roles) -> bool {
        let devices = (0..10).filter(|one| !removed.contains(one)).collect();
        before.allow(&Deed {
            author,
            added: &[],
            removed,
            roles: after,
            devices: &devices,
        })
    }

    #[test]
    fn roles_come_back_and_no_other_bytes_are_any() {
        let value = roles(&[0, 7], &[5, 8]);
        let bytes = value.encode();
        assert_eq!(Roles::decode(&bytes), Some(value.clone()));
        for end in 0..bytes.len() {
            assert_eq!(Roles::decode(&bytes[..end]), None);
        }
        assert_eq!(Roles::decode(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(Roles::decode(&roles(&[0, 0], &[]).encode()), None);
        let mut turned = bytes.clone();
        turned.swap(16, 20);
        assert_eq!(Roles::decode(&turned), None);
    }

    #[test]
    fn removing_and_demoting_hit_lower_ranks_only() {
        let before = roles(&[0, 1, 2], &[5]);
        assert!(allowed(&before, 1, &[2], &roles(&[0, 1], &[5])));
        assert!(allowed(&before, 1, &[4], &before));
        assert!(allowed(&before, 1, &[], &roles(&[0, 1], &[5])));
        assert!(!allowed(&before, 1, &[0], &roles(&[1, 2], &[5])));
        assert!(!allowed(&before, 2, &[1], &roles(&[0, 2], &[5])));
        assert!(!allowed(&before, 2, &[], &roles(&[0, 2, 1], &[5])));
        assert!(!allowed(&before, 2, &[], &roles(&[2, 0, 1], &[5])));
        assert!(!allowed(&before, 4, &[5], &roles(&[0, 1, 2], &[])));
        assert!(!allowed(&before, 4, &[], &roles(&[0, 1, 2, 4], &[5])));
    }

    #[test]
    fn nobody_orphans_a_team_or_leaves_a_role_behind() {
        let alone = roles(&[0], &[]);
        assert!(!allowed(&alone, 0, &[], &roles(&[], &[])));
        assert!(!allowed(&alone, 0, &[], &roles(&[0, 77], &[])));
        assert!(!allowed(&alone, 0, &[], &roles(&[0, 4], &[4])));
        let two = roles(&[0, 1], &[5]);
        assert!(!allowed(&two, 0, &[1], &two));
        assert!(!allowed(&two, 0, &[5], &two));
        assert!(allowed(&two, 0, &[], &roles(&[1], &[5])));
        assert!(allowed(&two, 1, &[], &roles(&[0], &[5])));
    }

    #[test]
    fn announcements_are_for_admins() {
        let roles = roles(&[0], &[]);
        assert!(roles.may_write(4, 1) && !roles.may_write(4, 3) && roles.may_write(0, 3));
        assert!(!roles.may_write(4, 0));
    }
}
