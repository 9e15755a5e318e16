//! New chunks: cheap checks, one commit for many, then acknowledgements and live deliveries.
//!
//! Nothing is acknowledged, delivered or sent up before [`Store::put_if_absent`] has returned.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use proto::{
    Chunk, Frame, GrantId, Misbehaved, Name, Outcome, Path, PublicKey, Refused, Tier,
    first_unsigned, limits,
};

use super::quota::Pending;
use super::{Closed, Effect, LinkId, Node, Note};
use crate::store::{Batch, Insert, Progress, Put, ResumePoint, Store, StoreError, StoreId};

/// Who sent a chunk, and so who is told what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A downstream published it and waits for an answer.
    Published(LinkId),
    /// A downstream sent it as a grant, and waits for nothing.
    Granted(LinkId),
    /// The parent sent it, for a subscription or as a grant.
    Above,
    /// The parent sent it as the answer to this fetch.
    Fetched(u32),
}

impl Source {
    fn downstream(self) -> Option<LinkId> {
        match self {
            Self::Published(link) | Self::Granted(link) => Some(link),
            Self::Above | Self::Fetched(_) => None,
        }
    }
}

struct Queued {
    source: Source,
    chunk: Chunk,
    /// Whose signature is still to be verified; `None` if it has been.
    signer: Option<PublicKey>,
}

/// What was found out about a chunk before its commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Examined {
    /// The same is stored.
    Known,
    /// Another is stored under its name.
    Taken,
    /// Nothing is, and its key has signed it.
    New,
    /// Nothing is, and its key has not signed it.
    Unsigned,
    /// Its sender sent an unsigned one before it: not looked at.
    Unseen,
}

/// What the next commit will look at and write. The node commits when it is full.
#[derive(Default)]
pub(super) struct Feed {
    queue: Vec<Queued>,
    progress: Vec<(Name, Progress)>,
    resume: Vec<ResumePoint>,
    fetches_done: Vec<u32>,
    in_step: Option<StoreId>,
    /// Links with acknowledgements to be sent.
    acks_due: BTreeSet<LinkId>,
    /// Links that were cut off during this commit: what else they sent is not looked at.
    banned: BTreeSet<LinkId>,
}

impl Feed {
    pub(super) fn len(&self) -> usize {
        self.queue.len()
            + self.progress.len()
            + self.resume.len()
            + self.fetches_done.len()
            + usize::from(self.in_step.is_some())
    }

    pub(super) fn is_due(&self) -> bool {
        self.len() > 0 || !self.acks_due.is_empty()
    }

    /// Drops what a misbehaving link has sent.
    pub(super) fn discard(&mut self, link: LinkId) {
        self.queue
            .retain(|queued| queued.source.downstream() != Some(link));
    }

    pub(super) fn push_progress(&mut self, name: Name, progress: Progress) {
        self.progress.push((name, progress));
    }

    pub(super) fn push_resume(&mut self, point: ResumePoint) {
        self.resume.push(point);
    }

    pub(super) fn push_fetch_done(&mut self, id: u32) {
        self.fetches_done.push(id);
    }

    pub(super) fn set_in_step(&mut self, store: StoreId) {
        self.in_step = Some(store);
    }

    /// Drops what depends on chunks from above that could not be stored.
    pub(super) fn discard_marks(&mut self) {
        self.resume.clear();
        self.in_step = None;
    }
}

/// A chunk that was new in a commit.
struct Fresh {
    chunk: Chunk,
    sequence: u64,
    /// The link it came from, if that link's peer has it and need not get it back.
    not_to: Option<LinkId>,
}

impl<S: Store> Node<S> {
    /// PUBLISH: what can be refused cheaply is refused now, the rest waits for the commit.
    pub(super) fn receive_published(&mut self, link: LinkId, chunks: Vec<Chunk>) {
        for chunk in chunks {
            let name = chunk.name();
            match self.check_published(link, &chunk) {
                Ok(signer) => {
                    let source = Source::Published(link);
                    self.feed.queue.push(Queued {
                        source,
                        chunk,
                        signer,
                    });
                }
                Err(reason) => {
                    self.count_refused(name, reason);
                    self.acknowledge(link, name, Outcome::Refused(reason));
                    if reason == Refused::BadSignature {
                        self.flush_acks();
                        return self.misbehaved(link, Misbehaved::BadSignature);
                    }
                }
            }
        }
    }

    fn check_published(
        &mut self,
        link: LinkId,
        chunk: &Chunk,
    ) -> Result<Option<PublicKey>, Refused> {
        let now = self.now;
        let key_package = chunk.name().path() == Path::KeyPackage;
        let state = self.links.get_mut(&link).ok_or(Refused::Quota)?;
        if !state.chunks.take(now) || (key_package && !state.key_packages.take(now)) {
            return Err(Refused::Quota);
        }
        if !self.grants.serves(chunk.name()) {
            // A device learns of an origin by its configuration, which may come after the first
            // chunk for it: no reason to give the chunk up.
            let device = self.config.tier == Tier::Device;
            return Err(if device {
                Refused::NoGrant
            } else {
                Refused::UnknownOrigin
            });
        }
        if key_package && chunk.grant() == GrantId::NONE {
            return chunk.check_key_package(now).map(Some);
        }
        if chunk.name().path() == Path::Grant {
            return self.grants.admit(chunk, now).map(|_| None);
        }
        let grant = self.grants.get(chunk.grant()).ok_or(Refused::NoGrant)?;
        grant.check(chunk, now)?;
        let latest = now.plus_millis(self.config.limits.life_ms);
        if chunk.expiry() > latest.plus_millis(limits::CLOCK_SKEW_MS) {
            return Err(Refused::TooLongLived);
        }
        let subject = grant.subject;
        if !self.grants.take(chunk.grant(), now) {
            return Err(Refused::Quota);
        }
        Ok(Some(subject))
    }

    /// GRANT, from either side: usable at once, stored with the next commit.
    pub(super) fn receive_grants(&mut self, link: LinkId, upstream: bool, chunks: Vec<Chunk>) {
        let source = if upstream {
            Source::Above
        } else {
            Source::Granted(link)
        };
        for chunk in chunks {
            if !upstream && !self.may_verify(link, &chunk) {
                return self.count_refused(chunk.name(), Refused::Quota);
            }
            match self.grants.admit(&chunk, self.now) {
                Ok(true) => self.feed.queue.push(Queued {
                    source,
                    chunk,
                    signer: None,
                }),
                Ok(false) => {}
                Err(Refused::BadSignature) => {
                    return self.misbehaved(link, Misbehaved::BadSignature);
                }
                Err(reason) => return self.count_refused(chunk.name(), reason),
            }
        }
    }

    /// Whether a link may have a grant looked at: a new one costs as much as a chunk, a known one
    /// nothing, so that a chain gets through however low the rate is.
    fn may_verify(&mut self, link: LinkId, grant: &Chunk) -> bool {
        let now = self.now;
        let link = self.links.get_mut(&link);
        self.grants.holds(grant) || link.is_some_and(|state| state.chunks.take(now))
    }

    /// CHUNK from the parent, for a subscription or a fetch of ours.
    pub(super) fn receive_from_above(&mut self, link: LinkId, id: u32, chunks: Vec<Chunk>) {
        let source = if self.upstream.is_fetch(id) {
            Source::Fetched(id)
        } else {
            Source::Above
        };
        let wished = self.upstream.walk().is_some_and(|walk| walk.is_wish(id));
        if source == Source::Above && !wished && !self.upstream.is_subscription(id) {
            return;
        }
        for chunk in chunks {
            match self.check_from_above(&chunk) {
                Ok(signer) => self.feed.queue.push(Queued {
                    source,
                    chunk,
                    signer,
                }),
                Err(Refused::BadSignature) => {
                    return self.misbehaved(link, Misbehaved::BadSignature);
                }
                Err(reason) => self.count_refused(chunk.name(), reason),
            }
        }
    }

    /// Who published it was judged when it was accepted: only its life and its right to the name are
    /// looked at again, not whether the grant is still in force.
    fn check_from_above(&mut self, chunk: &Chunk) -> Result<Option<PublicKey>, Refused> {
        if chunk.expiry() <= self.now {
            return Err(Refused::Expired);
        }
        match chunk.name().path() {
            Path::KeyPackage if chunk.grant() == GrantId::NONE => chunk
                .self_certifying_key()
                .map(Some)
                .ok_or(Refused::OutsideGrant),
            Path::Grant => self.grants.admit(chunk, self.now).map(|_| None),
            _ => {
                let grant = self.grants.get(chunk.grant()).ok_or(Refused::NoGrant)?;
                let permitted = grant.permits(proto::Verbs::PUBLISH, chunk.name());
                permitted
                    .then_some(Some(grant.subject))
                    .ok_or(Refused::OutsideGrant)
            }
        }
    }

    /// Verifies and writes all that waits, then answers and delivers it. A driver calls it when no
    /// event waits.
    pub fn commit(&mut self, now: proto::Timestamp) {
        self.tick(now);
        if self.feed.len() > 0 {
            let queue = mem::take(&mut self.feed.queue);
            let fetches_done = mem::take(&mut self.feed.fetches_done);
            let mut sources = Vec::with_capacity(queue.len());
            let mut inserts = Vec::with_capacity(queue.len());
            let mut pending = Pending::default();
            let examined = self.look_up(&queue);
            for (queued, examined) in queue.into_iter().zip(examined) {
                let source = queued.source;
                if let Some(insert) = self.examine(queued, examined, &mut pending) {
                    sources.push(source);
                    inserts.push(insert);
                }
            }
            self.feed.banned.clear();
            let progress = mem::take(&mut self.feed.progress);
            let resume = mem::take(&mut self.feed.resume);
            let batch = Batch {
                inserts,
                progress,
                resume,
                in_step: mem::take(&mut self.feed.in_step),
            };
            if !batch.is_empty() {
                match self.store.put_if_absent(&batch) {
                    Ok(puts) => self.written(&sources, batch, puts),
                    Err(error) => self.unwritten(&sources, &batch, error),
                }
            }
            for id in fetches_done {
                self.fetch_done_above(id);
            }
        }
        self.flush_acks();
    }

    /// What the store has under each name, and whether new chunks are signed: all together, because
    /// that costs less. Chunks that are here already need no look at their signature. A link's first
    /// is verified alone, so that who connects to send junk costs one verification each time.
    fn look_up(&mut self, queue: &[Queued]) -> Vec<Examined> {
        let mut examined = Vec::with_capacity(queue.len());
        let mut all = Vec::new();
        let mut senders: BTreeMap<Option<LinkId>, Vec<usize>> = BTreeMap::new();
        let mut unsigned = BTreeSet::new();
        for (index, queued) in queue.iter().enumerate() {
            let sender = queued.source.downstream();
            if unsigned.contains(&sender) {
                examined.push(Examined::Unseen);
                continue;
            }
            examined.push(match self.store.get(queued.chunk.name()) {
                Ok(Some(stored)) if stored.chunk == queued.chunk => Examined::Known,
                Ok(Some(_)) => Examined::Taken,
                Ok(None) | Err(_) => Examined::New,
            });
            let (Examined::New, Some(key)) = (examined[index], queued.signer) else {
                continue;
            };
            if sender.is_none_or(|link| self.has_signed(link)) {
                all.push((key, &queued.chunk));
                senders.entry(sender).or_default().push(index);
            } else if !queued.chunk.verifies(&key) {
                examined[index] = Examined::Unsigned;
                unsigned.insert(sender);
            } else if let Some(link) = sender.and_then(|link| self.links.get_mut(&link)) {
                link.has_signed = true;
            }
        }
        if first_unsigned(&all).is_none() {
            return examined;
        }
        // One sender's bad signature costs the others no more than a second look at all of theirs.
        for indices in senders.values() {
            let signed = |index: &usize| Some((queue[*index].signer?, &queue[*index].chunk));
            let chunks: Vec<_> = indices.iter().filter_map(signed).collect();
            if let Some(first) = first_unsigned(&chunks) {
                examined[indices[first]] = Examined::Unsigned;
                for index in &indices[first + 1..] {
                    examined[*index] = Examined::Unseen;
                }
            }
        }
        examined
    }

    fn has_signed(&self, link: LinkId) -> bool {
        self.links.get(&link).is_some_and(|state| state.has_signed)
    }

    /// Answers a chunk that is here already; charges for one that is not.
    fn examine(
        &mut self,
        queued: Queued,
        examined: Examined,
        pending: &mut Pending,
    ) -> Option<Insert> {
        let Queued { source, chunk, .. } = queued;
        let downstream = source.downstream();
        if downstream.is_some_and(|link| self.feed.banned.contains(&link)) {
            return None;
        }
        match examined {
            Examined::Unseen => return None,
            Examined::Taken => {
                self.refuse(source, chunk.name(), Refused::Conflict);
                return None;
            }
            Examined::Unsigned => {
                self.refuse(source, chunk.name(), Refused::BadSignature);
                self.flush_acks();
                if let Some(link) = downstream.or(self.upstream.link()) {
                    self.feed.banned.insert(link);
                    self.misbehaved(link, Misbehaved::BadSignature);
                }
                return None;
            }
            Examined::Known | Examined::New => {}
        }
        if examined == Examined::New
            && downstream.is_some()
            && let Err(reason) = self.charge(&chunk, pending)
        {
            if chunk.name().path() == Path::Grant {
                self.grants.unstored(&chunk);
            }
            self.refuse(source, chunk.name(), reason);
            return None;
        }
        let until = self.until(&chunk);
        let insert = match downstream {
            Some(_) => {
                let tier = self.config.tier;
                Insert::new(chunk, tier, tier < Tier::Origin)
            }
            None => Insert::new(chunk, self.upstream.tier(), false),
        };
        Some(Insert { until, ..insert })
    }

    /// After the write: everything here is on disk.
    fn written(&mut self, sources: &[Source], batch: Batch, puts: Vec<Put>) {
        if mem::take(&mut self.store_failed) {
            self.effects.push_back(Effect::Note(Note::StoreRecovered));
        }
        // Only what need not go up, or need not any more, can make room.
        let mut evictable = !batch.progress.is_empty();
        let mut fresh = Vec::new();
        let mut upward = Vec::new();
        let mut known = Vec::new();
        for ((source, insert), put) in sources.iter().zip(batch.inserts).zip(puts) {
            let Insert {
                chunk,
                reached,
                upward: goes_up,
                ..
            } = insert;
            if chunk.name().path() == Path::Grant && put != Put::Conflict {
                self.grants.stored(&chunk);
            }
            if chunk.name().path() == Path::Record && put != Put::Conflict {
                self.grants.end(&chunk);
            }
            match put {
                Put::New(sequence) => {
                    self.counters.stored += 1;
                    self.settle(*source, &chunk, reached);
                    evictable |= !goes_up;
                    if goes_up {
                        upward.push((sequence, chunk.clone()));
                    }
                    let not_to = source.downstream().filter(|link| self.keeps_chunks(*link));
                    fresh.push(Fresh {
                        chunk,
                        sequence,
                        not_to,
                    });
                }
                Put::Same(tier, sequence) => {
                    self.counters.duplicates += 1;
                    self.settle(*source, &chunk, tier);
                    if goes_up {
                        known.push((sequence, chunk.name(), tier));
                    }
                }
                Put::Conflict => self.refuse(*source, chunk.name(), Refused::Conflict),
            }
        }
        let mut lacking = false;
        for (name, progress) in batch.progress {
            match progress {
                Progress::Reached(tier) => self.pass_on_reached(name, tier),
                Progress::Lacking(_) => lacking = true,
                Progress::Stopped => {}
            }
        }
        self.deliver(&fresh);
        self.send_fresh_upward(upward);
        self.send_known_upward(known);
        if evictable || !self.stuck {
            self.make_room();
        }
        if lacking {
            self.retry_upward();
        }
    }

    /// Tells the sender, or those who published it, how far a stored chunk has come.
    fn settle(&mut self, source: Source, chunk: &Chunk, reached: Tier) {
        let name = chunk.name();
        match source {
            Source::Published(link) => {
                self.acknowledge(link, name, Outcome::Stored(reached));
                if reached < Tier::Origin {
                    self.upstream.remember_route(name, link);
                }
            }
            Source::Granted(_) => {}
            Source::Above => self.pass_on_reached(name, reached),
            Source::Fetched(id) => self.answer_fetch(id, chunk),
        }
    }

    /// After a failed write: nothing of the batch is there.
    fn unwritten(&mut self, sources: &[Source], batch: &Batch, error: StoreError) {
        if !mem::replace(&mut self.store_failed, true) {
            self.effects.push_back(Effect::Note(Note::Store(error)));
        }
        let mut from_above = !batch.resume.is_empty() || batch.in_step.is_some();
        for (source, insert) in sources.iter().zip(&batch.inserts) {
            let chunk = &insert.chunk;
            if chunk.name().path() == Path::Grant {
                self.grants.unstored(chunk);
            }
            match source {
                Source::Published(link) => {
                    *self.counters.refused.entry(Refused::StoreFull).or_default() += 1;
                    let outcome = Outcome::Refused(Refused::StoreFull);
                    self.acknowledge(*link, chunk.name(), outcome);
                }
                Source::Granted(_) => {}
                Source::Fetched(id) => self.answer_fetch(*id, chunk),
                Source::Above => from_above = true,
            }
        }
        for (name, _) in &batch.progress {
            self.send_later(*name);
        }
        // What the parent sent is asked for again, from the last resume point, after a reconnect.
        if let Some(link) = self.upstream.link().filter(|_| from_above) {
            self.feed.discard_marks();
            self.close(link, Closed::StoreFailed);
        }
    }

    fn refuse(&mut self, source: Source, name: Name, reason: Refused) {
        self.count_refused(name, reason);
        if let Source::Published(link) = source {
            self.acknowledge(link, name, Outcome::Refused(reason));
        }
    }

    /// Whether the peer of a link is a relay, which has stored what it published.
    fn keeps_chunks(&self, link: LinkId) -> bool {
        let hello = self.links.get(&link).and_then(|state| state.hello.as_ref());
        hello.is_some_and(|hello| matches!(hello.tier, Tier::Local | Tier::Cloud))
    }

    pub(super) fn acknowledge(&mut self, link: LinkId, name: Name, outcome: Outcome) {
        let own = self.own_tier();
        if let Some(state) = self.links.get_mut(&link) {
            let outcome = match outcome {
                Outcome::Stored(tier) => Outcome::Stored(state.role.tier(tier).max(own)),
                refused @ Outcome::Refused(_) => refused,
            };
            state.acks.push((name, outcome));
            self.feed.acks_due.insert(link);
        }
    }

    pub(super) fn flush_acks(&mut self) {
        for link in mem::take(&mut self.feed.acks_due) {
            let Some(state) = self.links.get_mut(&link) else {
                continue;
            };
            let acks = mem::take(&mut state.acks);
            for part in acks.chunks(limits::ACKS_PER_FRAME) {
                self.send(link, &Frame::Ack(part.to_vec()));
            }
        }
    }

    /// Sends new chunks to every live subscription that wants them: one frame for each subscription,
    /// encoded once for all that want the same under the same id.
    fn deliver(&mut self, fresh: &[Fresh]) {
        let mut wanted: Vec<(u32, LinkId, usize)> = Vec::new();
        let mut passed_over: BTreeSet<(LinkId, u32)> = BTreeSet::new();
        for (index, new) in fresh.iter().enumerate() {
            self.table.visit(new.chunk.name(), |(link, id)| {
                if new.not_to == Some(link) {
                    passed_over.insert((link, id));
                } else {
                    wanted.push((id, link, index));
                }
            });
        }
        // They have it, so that they resume behind it.
        for (link, id) in passed_over {
            if self.is_live(link, id) {
                self.mark_later(link, id);
            }
        }
        wanted.sort_unstable();
        let mut encoded: Option<(u32, Vec<usize>, bytes::Bytes)> = None;
        for group in wanted.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let (id, link, first) = group[0];
            if !self.has_room_live(link, id, fresh[first].sequence) {
                continue;
            }
            let indices = group.iter().map(|(_, _, index)| *index);
            for index in indices.clone() {
                self.send_grants(link, fresh[index].chunk.grant());
            }
            let same = encoded.as_ref().is_some_and(|(of, which, _)| {
                *of == id && which.iter().copied().eq(indices.clone())
            });
            if !same {
                let indices: Vec<usize> = indices.collect();
                let bytes = encode(id, indices.iter().map(|index| &fresh[*index].chunk));
                encoded = Some((id, indices, bytes));
            }
            if let Some((_, indices, bytes)) = &encoded {
                self.counters.delivered += indices.len() as u64;
                self.send_bytes(link, bytes.clone());
                self.mark_later(link, id);
            }
        }
    }
}

/// The CHUNK frames of some chunks.
pub(super) fn encode<'a>(id: u32, chunks: impl Iterator<Item = &'a Chunk>) -> bytes::Bytes {
    let chunks: Vec<Chunk> = chunks.cloned().collect();
    let mut out = Vec::new();
    for part in chunks.chunks(limits::CHUNKS_PER_FRAME) {
        Frame::Chunks {
            id,
            chunks: part.to_vec(),
        }
        .encode(&mut out);
    }
    out.into()
}
