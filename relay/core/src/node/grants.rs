//! The grants that the node knows, each verified once up to a pinned origin key
//! (docs/protocol.md, "Grant"). They live in the store under path 7; this is the index over them.

use std::collections::BTreeMap;

use proto::{
    Chunk, Fields, Grant, GrantError, GrantId, Name, OriginId, Path, Place, Prefix, PublicKey,
    Refused, Revocation, Span, Timestamp, limits,
};

use super::quota::Bucket;
use crate::store::{Store, StoreError};

/// Grants read from the store at once.
const READ_CHUNKS: usize = 256;
/// The part of the table, one in so many, that an organisation may fill.
const SHARE: usize = 4;
/// Grants that an organisation may have in any case, if the table has room for them.
const SHARE_LEAST: usize = 1024;
/// The leading bits of a name that say origin, application and path.
const PATH_BITS: u8 = 40;

pub(super) struct Held {
    pub(super) grant: Grant,
    chunk: Chunk,
    depth: usize,
    /// Whether the store has it: until then it is taken again from whoever shows it.
    stored: bool,
    /// New chunks a second, if the grant says how many.
    rate: Option<Bucket>,
    /// Whether a record has ended it.
    revoked: bool,
}

/// A record that ends grants below its own.
struct Ending {
    revocation: Revocation,
    place: Place,
    /// The grant that it was published under.
    issuer: GrantId,
    expiry: Timestamp,
}

pub(super) struct Grants {
    origins: BTreeMap<OriginId, PublicKey>,
    held: BTreeMap<GrantId, Held>,
    endings: BTreeMap<Name, Ending>,
    /// The records that are stored, revocations or not, with their expiry.
    records: BTreeMap<(OriginId, u32), BTreeMap<Name, Timestamp>>,
    /// Of each organisation the grants that the origin gave it, with their subscription bits.
    firsts: BTreeMap<(OriginId, u32), BTreeMap<GrantId, u8>>,
    /// How many are held of each organisation.
    counts: BTreeMap<(OriginId, u32), usize>,
    capacity: usize,
}

impl Grants {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            origins: BTreeMap::new(),
            held: BTreeMap::new(),
            endings: BTreeMap::new(),
            records: BTreeMap::new(),
            firsts: BTreeMap::new(),
            counts: BTreeMap::new(),
            capacity,
        }
    }

    /// How many are known.
    pub(super) fn len(&self) -> usize {
        self.held.len()
    }

    /// Pins these origins, and builds the index from what the store has of them.
    pub(super) fn load(
        &mut self,
        origins: &[PublicKey],
        store: &mut impl Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.origins = origins.iter().map(|key| (key.origin_id(), *key)).collect();
        self.held.clear();
        self.endings.clear();
        self.records.clear();
        self.firsts.clear();
        self.counts.clear();
        for origin in self.origins.clone().into_keys() {
            let place = Place {
                origin,
                org: 0,
                team: 0,
            };
            let first = Name::new(
                place,
                Fields::Grant {
                    device: 0,
                    serial: 0,
                },
            );
            let prefix = Prefix::of(first, PATH_BITS);
            // Names do not stand in the order of the chain: each pass finds one link more of it.
            for _ in 0..limits::GRANT_CHAIN {
                self.load_pass(prefix, store, now)?;
            }
            self.load_endings(place, store, now)?;
        }
        Ok(())
    }

    fn load_endings(
        &mut self,
        place: Place,
        store: &mut impl Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let first = Fields::Record { kind: 0, serial: 0 };
        let prefix = Prefix::of(Name::new(place, first), PATH_BITS);
        let mut rest = Some(Span::from(prefix));
        while let Some(span) = rest {
            let chunks = store.range(span, READ_CHUNKS)?;
            rest = chunks.last().and_then(|last| span.behind(last.name()));
            for chunk in chunks.iter().filter(|chunk| chunk.expiry() > now) {
                self.end(chunk);
            }
        }
        Ok(())
    }

    /// Takes note of a stored record: grants that it ends fill no names any more.
    pub(super) fn end(&mut self, chunk: &Chunk) {
        let records = self.records.entry(organisation(chunk)).or_default();
        records.insert(chunk.name(), chunk.expiry());
        let Some(revocation) = Revocation::decode(chunk) else {
            return;
        };
        if self.endings.len() >= self.capacity {
            return;
        }
        let ending = Ending {
            revocation,
            place: chunk.name().place(),
            issuer: chunk.grant(),
            expiry: chunk.expiry(),
        };
        let ended: Vec<GrantId> = self
            .held
            .iter()
            .filter(|(id, held)| ending.ends(**id, held, self))
            .map(|(id, _)| *id)
            .collect();
        self.endings.insert(chunk.name(), ending);
        for id in ended {
            if let Some(held) = self.held.get_mut(&id) {
                held.revoked = true;
            }
        }
    }

    /// Whether one grant hangs from another, directly or not.
    fn hangs(&self, chunk: &Chunk, from: GrantId) -> bool {
        let mut next = chunk.grant();
        while let Some(held) = self.held.get(&next) {
            if next == from {
                return true;
            }
            next = held.chunk.grant();
        }
        false
    }

    fn load_pass(
        &mut self,
        prefix: Prefix,
        store: &mut impl Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut rest = Some(Span::from(prefix));
        while let Some(span) = rest {
            let chunks = store.range(span, READ_CHUNKS)?;
            rest = chunks.last().and_then(|last| span.behind(last.name()));
            for chunk in &chunks {
                // One that does not fit is an orphan or has expired: it is of no use, and no harm.
                let _ = self.admit(chunk, now);
                self.stored(chunk);
            }
        }
        Ok(())
    }

    /// Whether the origin of a name is served here.
    pub(super) fn serves(&self, name: Name) -> bool {
        self.origins.contains_key(&name.place().origin)
    }

    /// Takes a grant chunk in, if it verifies: `Ok(true)` if it is still to be stored.
    pub(super) fn admit(&mut self, chunk: &Chunk, now: Timestamp) -> Result<bool, Refused> {
        let id = GrantId::of(chunk);
        if let Some(held) = self.held.get(&id) {
            return if held.chunk == *chunk {
                Ok(!held.stored)
            } else {
                Err(Refused::BadGrant)
            };
        }
        let origin = chunk.name().place().origin;
        let key = self.origins.get(&origin).ok_or(Refused::UnknownOrigin)?;
        if chunk.name().path() != Path::Grant {
            return Err(Refused::BadGrant);
        }
        if chunk.expiry() <= now {
            return Err(Refused::Expired);
        }
        // What costs nothing comes before the signature.
        let parent = match chunk.grant() {
            GrantId::NONE => None,
            parent => Some(self.held.get(&parent).ok_or(Refused::NoGrant)?),
        };
        let depth = parent.map_or(1, |parent| parent.depth + 1);
        if depth > limits::GRANT_CHAIN {
            return Err(Refused::BadGrant);
        }
        if !self.has_room(organisation(chunk)) {
            return Err(Refused::Quota);
        }
        let grant = match parent {
            None => Grant::from_origin(chunk, key),
            Some(parent) => Grant::from_issuer(chunk, &parent.grant),
        };
        let grant = grant.map_err(refused)?;
        let rate = grant.limits.chunks_per_second;
        if depth == 1 {
            let firsts = self.firsts.entry(organisation(chunk)).or_default();
            firsts.insert(id, grant.limits.subscription_bits);
        }
        *self.counts.entry(organisation(chunk)).or_default() += 1;
        self.held.insert(
            id,
            Held {
                revoked: false,
                rate: (rate > 0).then(|| Bucket::new(rate, 1000, now)),
                grant,
                chunk: chunk.clone(),
                depth,
                stored: false,
            },
        );
        let revoked = self.held.get(&id).is_some_and(|held| {
            let mut endings = self.endings.values();
            endings.any(|one| one.ends(id, held, self))
        });
        if let Some(held) = self.held.get_mut(&id) {
            held.revoked = revoked;
        }
        Ok(true)
    }

    /// Whether one more grant of an organisation may be held: none can fill the table for all.
    fn has_room(&self, organisation: (OriginId, u32)) -> bool {
        let own = self.counts.get(&organisation).copied().unwrap_or(0);
        self.held.len() < self.capacity && own < self.share()
    }

    /// Whether one more record of an organisation may be stored, beside so many that will be: nothing
    /// makes room for others by dropping records.
    pub(super) fn has_room_for_record(
        &self,
        organisation: (OriginId, u32),
        waiting: usize,
    ) -> bool {
        let stored = self.records.get(&organisation).map_or(0, BTreeMap::len);
        stored + waiting < self.share()
    }

    /// Grants that an organisation may have, and records.
    fn share(&self) -> usize {
        (self.capacity / SHARE).max(SHARE_LEAST)
    }

    /// Whether a chunk is a grant that is held: it is not verified again.
    pub(super) fn holds(&self, chunk: &Chunk) -> bool {
        self.held.contains_key(&GrantId::of(chunk))
    }

    /// Whether a record has ended a grant.
    pub(super) fn is_ended(&self, id: GrantId) -> bool {
        self.held.get(&id).is_some_and(|held| held.revoked)
    }

    /// The grant of an id.
    pub(super) fn get(&self, id: GrantId) -> Option<&Grant> {
        self.held.get(&id).map(|held| &held.grant)
    }

    /// Takes one chunk from the rate of each grant in a chain, from the last to the origin's.
    pub(super) fn take(&mut self, id: GrantId, now: Timestamp) -> bool {
        let mut next = id;
        while let Some(held) = self.held.get_mut(&next) {
            if held.rate.as_mut().is_some_and(|rate| !rate.take(now)) {
                return false;
            }
            next = held.chunk.grant();
        }
        true
    }

    /// The first grant of a chain, the one that the origin gave.
    pub(super) fn root(&self, id: GrantId) -> Option<&Grant> {
        let mut held = self.held.get(&id)?;
        while let Some(parent) = self.held.get(&held.chunk.grant()) {
            held = parent;
        }
        Some(&held.grant)
    }

    /// The grant chunks from the origin's to this one, and nothing for an unknown one.
    pub(super) fn chain(&self, id: GrantId) -> Vec<Chunk> {
        let mut chain = Vec::new();
        let mut next = id;
        while let Some(held) = self.held.get(&next) {
            chain.push(held.chunk.clone());
            next = held.chunk.grant();
        }
        chain.reverse();
        chain
    }

    /// The store has this grant.
    pub(super) fn stored(&mut self, chunk: &Chunk) {
        if let Some(held) = self.held.get_mut(&GrantId::of(chunk)) {
            held.stored = true;
        }
    }

    /// Forgets a grant that could not be stored, unless it was before.
    pub(super) fn unstored(&mut self, chunk: &Chunk) {
        let id = GrantId::of(chunk);
        if self.held.get(&id).is_some_and(|held| !held.stored) {
            self.forget(chunk, id);
        }
    }

    fn forget(&mut self, chunk: &Chunk, id: GrantId) {
        let organisation = organisation(chunk);
        if self.held.remove(&id).is_some()
            && let Some(count) = self.counts.get_mut(&organisation)
        {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&organisation);
            }
        }
        if let Some(firsts) = self.firsts.get_mut(&organisation) {
            firsts.remove(&id);
            if firsts.is_empty() {
                self.firsts.remove(&organisation);
            }
        }
    }

    /// The least that the grants of a name's organisation ask of a prefix of its names, in bits; 0
    /// where no grant is known, and for records, which everybody needs who meets the organisation.
    pub(super) fn subscription_bits(&self, name: Name) -> u8 {
        let least = self.least_demanding(name);
        least.map_or(0, |(_, bits)| bits)
    }

    /// The grant that says so.
    pub(super) fn least(&self, name: Name) -> Option<GrantId> {
        self.least_demanding(name).map(|(id, _)| id)
    }

    fn least_demanding(&self, name: Name) -> Option<(GrantId, u8)> {
        let place = name.place();
        let firsts = self.firsts.get(&(place.origin, place.org))?;
        let firsts = firsts.iter().map(|(id, bits)| (*id, *bits));
        let least = firsts.min_by_key(|(_, bits)| *bits);
        least.filter(|_| name.path() != Path::Record)
    }

    /// Forgets what has expired.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let over = self
            .held
            .iter()
            .filter(|(_, held)| held.chunk.expiry() <= now);
        let over: Vec<(GrantId, Chunk)> =
            over.map(|(id, held)| (*id, held.chunk.clone())).collect();
        for (id, chunk) in over {
            self.forget(&chunk, id);
        }
        self.endings.retain(|_, ending| ending.expiry > now);
        self.records.retain(|_, records| {
            records.retain(|_, expiry| *expiry > now);
            !records.is_empty()
        });
    }
}

impl Ending {
    /// Only grants that hang from the issuer's own are ended: nobody ends what others gave.
    fn ends(&self, id: GrantId, held: &Held, grants: &Grants) -> bool {
        id != self.issuer
            && self
                .revocation
                .ends(self.place, held.chunk.name(), &held.grant)
            && grants.hangs(&held.chunk, self.issuer)
    }
}

/// Whose chunk it is.
pub(super) fn organisation(chunk: &Chunk) -> (OriginId, u32) {
    let place = chunk.name().place();
    (place.origin, place.org)
}

fn refused(error: GrantError) -> Refused {
    match error {
        GrantError::Signature => Refused::BadSignature,
        _ => Refused::BadGrant,
    }
}
