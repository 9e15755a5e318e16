//! Chunks that wait for their other fragments or their MLS state: which of them are an object, whose they
//! are, and when they go.
//!
//! An author has a share and no more, so that whoever floods a device keeps nobody else's chunks out. What
//! is done with an object is `pending`'s business.

use std::collections::{BTreeMap, BTreeSet};

use endpoint_secure_api::TeamId;
use proto::{Chunk, Fields, GrantId, Name, Timestamp};

use crate::commit::TREE_RUN;
use crate::group::StateId;
use crate::naming;
use crate::store::{Store, StoreError};
use crate::team::Team;

/// Chunks that wait, at most: 20,000 take 22 MB.
const ALL: usize = 20_000;
/// Those of one team among them: a backlog of 10,000 messages, in any order, is within it.
const TEAM: usize = ALL / 4 * 3;
/// Those of one author among these.
const AUTHOR: usize = TEAM / 2;
/// Those of all newcomers to a team: their key packages are short.
const NEWCOMERS: usize = 1_024;
// A newcomer's ratchet tree waits until it is whole.
const _: () = assert!(TREE_RUN as usize <= AUTHOR);

/// Who has written a chunk, as far as that is known before it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Author {
    /// A device of the team, whose signature was checked.
    Device(u32),
    /// Whoever has this grant: the names of commits tell no device.
    Grant(GrantId),
    /// All devices that are not known: one of them could call itself many.
    Unknown,
    /// All devices that ask to be added: anybody may.
    Newcomer,
}

/// Whose share of which team a chunk counts in.
pub(crate) type Holder = (TeamId, Author);

/// A chunk that waits.
struct Held {
    chunk: Chunk,
    holder: Holder,
    /// Its place in the order in which they came.
    place: u64,
    /// What the object that it begins was found to lack.
    lacks: Option<StateId>,
}

/// Chunks that wait, mirrored in memory.
#[derive(Default)]
pub(crate) struct Waiting {
    chunks: BTreeMap<u128, Held>,
    /// Their names, oldest first.
    shares: BTreeMap<Holder, BTreeMap<u64, u128>>,
    expiries: BTreeSet<(Timestamp, u128)>,
    came: u64,
    stored: BTreeSet<u128>,
    fresh: BTreeSet<u128>,
    gone: BTreeSet<u128>,
}

impl Waiting {
    pub(crate) fn load(store: &Store, teams: &BTreeMap<TeamId, Team>) -> Result<Self, StoreError> {
        let mut this = Self::default();
        for bytes in store.pending()? {
            let chunk = Chunk::decode(bytes.into()).map_err(|_| StoreError::Corrupt)?;
            this.stored.insert(chunk.name().0);
            this.list(chunk, teams);
        }
        Ok(this)
    }

    /// Writes what changed; a chunk that came and went within one event is never written.
    pub(crate) fn flush(&mut self, store: &Store) -> Result<(), StoreError> {
        for name in std::mem::take(&mut self.gone) {
            store.drop_pending(name)?;
        }
        for name in std::mem::take(&mut self.fresh) {
            if let Some(chunk) = self.chunk(name) {
                store.keep_pending(name, chunk.encoded())?;
                self.stored.insert(name);
            }
        }
        Ok(())
    }

    pub(crate) fn is_dirty(&self) -> bool {
        !self.fresh.is_empty() || !self.gone.is_empty()
    }

    /// Keeps a chunk, beyond all limits until [`Self::make_room`].
    pub(crate) fn insert(&mut self, chunk: Chunk, teams: &BTreeMap<TeamId, Team>) {
        self.unlist(chunk.name().0);
        self.fresh.insert(chunk.name().0);
        self.list(chunk, teams);
    }

    pub(crate) fn remove(&mut self, name: u128) {
        self.unlist(name);
        self.fresh.remove(&name);
        if self.stored.remove(&name) {
            self.gone.insert(name);
        }
    }

    /// Whose a chunk is that waits.
    pub(crate) fn holder(&self, name: u128) -> Option<Holder> {
        self.chunks.get(&name).map(|held| held.holder)
    }

    /// Drops what is too much since a chunk of this author came: the oldest of whoever has most. Gives
    /// whose that was.
    pub(crate) fn make_room(&mut self, newest: Holder) -> Option<Holder> {
        let mut dropped = None;
        while let Some(holder) = self.surplus(newest) {
            let Some((_, oldest)) = self.shares.get(&holder).and_then(BTreeMap::first_key_value)
            else {
                break;
            };
            self.remove(*oldest);
            dropped = Some(holder);
        }
        dropped
    }

    /// Drops what relays have dropped by now.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while let Some((at, name)) = self.expiries.first().copied()
            && at <= now
        {
            self.remove(name);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.chunks.len()
    }

    /// When the next chunk expires.
    pub(crate) fn expires_at(&self) -> Option<Timestamp> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Notes what the object that begins with a chunk lacks.
    pub(crate) fn lacks(&mut self, name: Name, state: StateId) {
        if let Some(held) = self.chunks.get_mut(&name.0) {
            held.lacks = Some(state);
        }
    }

    /// The chunks of a team that an object begins with: all, or those that do not lack another state.
    pub(crate) fn beginnings(&self, team: TeamId, new: Option<StateId>) -> Vec<Name> {
        let ours = self.chunks.values().filter(|held| held.holder.0 == team);
        let ready = |held: &&Held| new.is_none() || held.lacks.is_none() || held.lacks == new;
        let chunks = ours.filter(ready).map(|held| &held.chunk);
        chunks
            .filter(|chunk| matches!(kind(chunk), Part::Begins))
            .map(Chunk::name)
            .collect()
    }

    fn list(&mut self, chunk: Chunk, teams: &BTreeMap<TeamId, Team>) {
        self.came += 1;
        let (name, place) = (chunk.name().0, self.came);
        let holder = holder_of(&chunk, teams);
        self.shares.entry(holder).or_default().insert(place, name);
        self.expiries.insert((chunk.expiry(), name));
        let held = Held {
            chunk,
            holder,
            place,
            lacks: None,
        };
        self.chunks.insert(name, held);
    }

    fn unlist(&mut self, name: u128) {
        let Some(held) = self.chunks.remove(&name) else {
            return;
        };
        self.expiries.remove(&(held.chunk.expiry(), name));
        if let Some(share) = self.shares.get_mut(&held.holder) {
            share.remove(&held.place);
            if share.is_empty() {
                self.shares.remove(&held.holder);
            }
        }
    }

    /// Who has to give something up, if there is too much since a chunk of this author came.
    fn surplus(&self, (team, author): Holder) -> Option<Holder> {
        let most = match author {
            Author::Newcomer => NEWCOMERS,
            _ => AUTHOR,
        };
        let own = self.shares.get(&(team, author)).map_or(0, BTreeMap::len);
        if own > most {
            Some((team, author))
        } else if self.count(team) > TEAM {
            self.greatest(team)
        } else if self.chunks.len() > ALL {
            let teams: BTreeSet<TeamId> = self.shares.keys().map(|holder| holder.0).collect();
            let team = teams.into_iter().max_by_key(|team| self.count(*team))?;
            self.greatest(team)
        } else {
            None
        }
    }

    fn count(&self, team: TeamId) -> usize {
        self.of_team(team).map(|(_, share)| share.len()).sum()
    }

    fn greatest(&self, team: TeamId) -> Option<Holder> {
        let greatest = self.of_team(team).max_by_key(|(_, share)| share.len());
        greatest.map(|(holder, _)| *holder)
    }

    fn of_team(&self, team: TeamId) -> impl Iterator<Item = (&Holder, &BTreeMap<u64, u128>)> {
        let all = (team, Author::Device(0))..=(team, Author::Newcomer);
        self.shares.range(all)
    }

    fn chunk(&self, name: u128) -> Option<&Chunk> {
        self.chunks.get(&name).map(|held| &held.chunk)
    }

    /// The run of fragments that this name is in, if all of it is here: from its first.
    pub(crate) fn run_of(&self, name: u128, most: usize) -> Option<Vec<Chunk>> {
        let mut first = name;
        for _ in 0..most {
            match kind(self.chunk(first)?) {
                Part::Continued => first = first.checked_sub(1)?,
                Part::Begins => return self.run_from(first, most),
            }
        }
        None
    }

    fn run_from(&self, first: u128, most: usize) -> Option<Vec<Chunk>> {
        let mut run: Vec<Chunk> = Vec::new();
        let mut length = 0usize;
        for index in 0..most as u128 {
            let chunk = self.chunk(first + index)?;
            let data = fragment(chunk);
            if index == 0 {
                match announced(&data) {
                    None => return Some(vec![chunk.clone()]),
                    Some(announced) => length = announced,
                }
                length = length.saturating_sub(data.len().saturating_sub(37));
            } else {
                length = length.saturating_sub(data.len().saturating_sub(1));
            }
            run.push(chunk.clone());
            if length == 0 {
                return Some(run);
            }
        }
        None
    }
}

enum Part {
    Begins,
    Continued,
}

fn holder_of(chunk: &Chunk, teams: &BTreeMap<TeamId, Team>) -> Holder {
    let team = naming::team_id(chunk.name().place());
    let author = match chunk.name().fields() {
        Fields::Message { device, .. } => {
            let known = teams.get(&team).and_then(|team| team.members.get(&device));
            known.map_or(Author::Unknown, |_| Author::Device(device))
        }
        Fields::KeyPackage { .. } => Author::Newcomer,
        _ => Author::Grant(chunk.grant()),
    };
    (team, author)
}

/// The fragment in a chunk: key packages carry their key in front of it.
pub(crate) fn fragment(chunk: &Chunk) -> bytes::Bytes {
    let data = chunk.data();
    match chunk.name().fields() {
        Fields::KeyPackage { .. } if data.len() >= 32 => data.slice(32..),
        _ => data,
    }
}

fn kind(chunk: &Chunk) -> Part {
    match fragment(chunk).first() {
        Some(2) => Part::Continued,
        _ => Part::Begins,
    }
}

/// The length that a first fragment announces; `None` for a whole object.
fn announced(data: &[u8]) -> Option<usize> {
    let (head, rest) = data.split_first()?;
    let length = rest.first_chunk::<4>()?;
    (*head == 1).then_some(u32::from_be_bytes(*length) as usize)
}

#[cfg(test)]
mod tests {
    use proto::{OriginId, Place, Signer};

    use super::*;

    /// A fragment of a commit.
    fn piece(number: usize, author: u8) -> Chunk {
        let place = Place {
            origin: OriginId::new(1),
            org: 1,
            team: 1,
        };
        let fields = Fields::Commit {
            epoch: number as u32,
            tag: author.into(),
            fragment: 0,
        };
        let expiry = Timestamp::from_millis(1_000 + number as u64);
        let (name, grant) = (Name::new(place, fields), GrantId([author; 8]));
        Chunk::sign(name, expiry, grant, &[2], &Signer::from_seed(&[1; 32])).unwrap()
    }

    fn take(waiting: &mut Waiting, chunk: Chunk) -> Option<Holder> {
        let name = chunk.name().0;
        waiting.insert(chunk, &BTreeMap::new());
        let holder = waiting.holder(name).unwrap();
        waiting.make_room(holder)
    }

    #[test]
    fn whoever_has_most_gives_up_its_oldest() {
        let mut waiting = Waiting::default();
        for number in 0..AUTHOR {
            assert_eq!(take(&mut waiting, piece(number, 1)), None);
        }
        let dropped = take(&mut waiting, piece(AUTHOR, 1)).unwrap();
        assert_eq!(dropped.1, Author::Grant(GrantId([1; 8])));
        assert_eq!(waiting.holder(piece(0, 1).name().0), None);
        assert!(waiting.holder(piece(1, 1).name().0).is_some());
        for number in 0..AUTHOR - 10 {
            assert_eq!(take(&mut waiting, piece(number, 2)), None);
        }
        // The team's is full with these, and none of them goes.
        for number in 0..20 {
            let dropped = take(&mut waiting, piece(number, 3)).map(|holder| holder.1);
            let first = (number >= 10).then_some(Author::Grant(GrantId([1; 8])));
            assert_eq!(dropped, first);
            assert!(waiting.holder(piece(number, 3).name().0).is_some());
        }
        assert_eq!(waiting.len(), TEAM);
    }

    #[test]
    fn a_chunk_goes_when_it_expires_and_comes_again_as_a_new_one() {
        let mut waiting = Waiting::default();
        for number in 0..3 {
            take(&mut waiting, piece(number, 1));
            take(&mut waiting, piece(number, 1));
        }
        assert_eq!(waiting.len(), 3);
        assert_eq!(waiting.expires_at(), Some(Timestamp::from_millis(1_000)));
        waiting.expire(Timestamp::from_millis(1_001));
        assert_eq!(waiting.len(), 1);
        assert!(waiting.holder(piece(2, 1).name().0).is_some());
        waiting.remove(piece(2, 1).name().0);
        assert_eq!((waiting.len(), waiting.expires_at()), (0, None));
        assert!(waiting.shares.is_empty());
    }
}
