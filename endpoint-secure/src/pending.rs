//! Chunks on their way in: joined to objects, handed to the room they are for, and kept on disk
//! while their other fragments or their MLS state are missing.
//!
//! It trusts no chunk: names find, hashes and signatures decide in the room that takes the object.

use endpoint_secure_api::{ChannelId, TeamId};
use proto::limits::{COMMIT_FRAGMENTS, MESSAGE_FRAGMENTS, OBJECT_BYTES, SMALL_FRAGMENTS};
use proto::{Chunk, Fields, Join, Joined, Name, Path, PublicKey};

use crate::device::session::{Failure, Session};
use crate::group::StateId;
use crate::naming;
use crate::waiting::{Author, fragment};

/// How long nothing may come until an entry that is held for those before it is taken after all, when no
/// end of a backlog comes, and how long it is held at most, in milliseconds.
const HOLD_MS: (u64, u64) = (2_000, 20_000);

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It was used, or never will be.
    Done,
    /// The MLS state that it is of, or that it follows, has not come yet.
    Lacks(StateId),
}

fn most(fields: Fields) -> usize {
    match fields {
        Fields::Message { .. } => MESSAGE_FRAGMENTS,
        Fields::Commit { .. } => COMMIT_FRAGMENTS,
        Fields::Blob { .. } => crate::commit::TREE_RUN as usize,
        _ => SMALL_FRAGMENTS,
    }
}

impl Session {
    /// Takes the chunks of one frame, in the order of their names.
    pub(crate) fn received(&mut self, id: u32, mut chunks: Vec<Chunk>) -> Result<(), Failure> {
        if !self.is_subscribed(id) {
            return Ok(());
        }
        chunks.sort_by_key(Chunk::name);
        self.link.heard_ms = self.now.millis();
        for chunk in chunks {
            let done = self.receive(chunk);
            self.contain(done)?;
        }
        Ok(())
    }

    fn receive(&mut self, chunk: Chunk) -> Result<(), Failure> {
        let name = chunk.name();
        if self.own_echo(&chunk)? {
            return Ok(());
        }
        if name.path() == Path::Record {
            return self.take_record(&chunk);
        }
        if !self.wants(name)? || self.is_forged(&chunk) {
            return Ok(());
        }
        self.memory.waiting.insert(chunk, &self.memory.teams);
        self.try_objects([name])?;
        self.limit_waiting(name);
        Ok(())
    }

    /// What was of use is gone by now. A chunk that waits may be too much.
    fn limit_waiting(&mut self, name: Name) {
        let Some((team, author)) = self.memory.waiting.holder(name.0) else {
            return;
        };
        if matches!(author, Author::Device(device) if self.is_long_gone(team, device)) {
            return self.memory.waiting.remove(name.0);
        }
        let Some((team, author)) = self.memory.waiting.make_room((team, author)) else {
            return;
        };
        let name = self.memory.teams.get(&team).map_or("", |team| &team.name);
        let what = match author {
            Author::Device(device) => format!("messages of device {device}"),
            Author::Unknown => "messages of unknown devices".into(),
            Author::Grant(_) => "changes of the team".into(),
            // Whoever finds an invite may ask as often as it likes.
            Author::Newcomer => return,
        };
        self.notice_once(format!(
            "{name}: too many {what} wait for a change of the team that has not come; the oldest are dropped"
        ));
    }

    /// Whether a device was out of a team before the oldest state that is kept: nothing that it says can
    /// be read any more.
    fn is_long_gone(&self, team: TeamId, device: u32) -> bool {
        let path = self.memory.verdicts.get(&team).map(|verdict| &verdict.path);
        let oldest = path.and_then(|path| path.first());
        let oldest = oldest.and_then(|id| self.memory.states.get(&(team, *id)));
        oldest.is_some_and(|state| {
            !state.devices.contains(&device) && state.used.key(device).is_some()
        })
    }

    /// Uses the objects that these names belong to, in the order of names, and what can be used after
    /// them. An object may make others usable while it is used, and these again others, as many as wait:
    /// all are used here, and none of them within another.
    fn try_objects(&mut self, names: impl IntoIterator<Item = Name>) -> Result<(), Failure> {
        self.to_try.extend(names);
        if std::mem::replace(&mut self.trying, true) {
            return Ok(());
        }
        let mut done = Ok(());
        while done.is_ok()
            && let Some(name) = self.to_try.pop_first()
        {
            done = self.try_object(name);
        }
        self.trying = false;
        done
    }

    /// Uses the object that this name belongs to, if all of it is here.
    fn try_object(&mut self, name: Name) -> Result<(), Failure> {
        let fields = name.fields();
        let Some(run) = self.memory.waiting.run_of(name.0, most(fields)) else {
            return Ok(());
        };
        let first = run[0].name();
        let count = run.len() as u32;
        if self.is_early(first) {
            self.link.held_since_ms.get_or_insert(self.now.millis());
            return Ok(());
        }
        let object = join(&run);
        // Before signatures are checked: it may be looked at often.
        let lacks = object.as_ref();
        if let Some(state) = lacks.and_then(|object| self.lacks_state(first, object)) {
            self.memory.waiting.lacks(first, state);
            return Ok(());
        }
        let (forged, run): (Vec<_>, Vec<_>) = run.into_iter().partition(|one| self.is_forged(one));
        if !forged.is_empty() {
            // The true ones may still come; the others of the run stay.
            for chunk in forged {
                self.memory.waiting.remove(chunk.name().0);
            }
            return Ok(());
        }
        let taken = match object {
            Some(object) => {
                let taken = self.take(first, count, &object, &run[0]);
                self.contain(taken)?.unwrap_or(Taken::Done)
            }
            None => Taken::Done,
        };
        if let Taken::Lacks(state) = taken {
            self.memory.waiting.lacks(first, state);
            return Ok(());
        }
        for chunk in run {
            self.memory.waiting.remove(chunk.name().0);
        }
        self.to_try.extend(self.next_held(first, count));
        Ok(())
    }

    /// What was held for the entry that has just been taken.
    fn next_held(&self, first: Name, count: u32) -> Option<Name> {
        let next = first.offset(count)?;
        let held = self.memory.waiting.holder(next.0).is_some();
        (held && matches!(first.fields(), Fields::Message { .. })).then_some(next)
    }

    /// When entries that are held for those before them are taken after all. While much comes, what is
    /// missing may be behind it.
    pub(crate) fn release_ms(&self) -> Option<u64> {
        let since = self.link.held_since_ms?;
        let quiet = self.link.heard_ms.max(since) + HOLD_MS.0;
        Some(quiet.min(since + HOLD_MS.1))
    }

    /// The end of a backlog, or patience, has come: what is missing stays missing for now.
    pub(crate) fn release_held(&mut self) -> Result<(), Failure> {
        self.link.held_since_ms = None;
        self.releasing_all = true;
        let teams: Vec<TeamId> = self.memory.teams.keys().copied().collect();
        let names = teams
            .into_iter()
            .flat_map(|team| self.memory.waiting.beginnings(team, None))
            .collect::<Vec<Name>>();
        let done = self.try_objects(names);
        self.releasing_all = false;
        done
    }

    /// Whether entries before this one in its feed have yet to come: it is held, so that any order
    /// of arrival costs no key of a skipped message.
    fn is_early(&self, first: Name) -> bool {
        let Fields::Message {
            channel,
            device,
            number,
        } = first.fields()
        else {
            return false;
        };
        let team = naming::team_id(first.place());
        let channel = self.memory.channels.get(&ChannelId { team, channel });
        let feed = channel.and_then(|one| self.memory.feeds.get(&(one.row, device)));
        !self.releasing_all && number > feed.map_or(0, |feed| feed.next)
    }

    fn take(
        &mut self,
        first: Name,
        count: u32,
        object: &[u8],
        chunk: &Chunk,
    ) -> Result<Taken, Failure> {
        let team = naming::team_id(first.place());
        match first.fields() {
            Fields::Message { .. } => self.take_message(first, count, object),
            Fields::Commit { epoch, .. } => self.take_commit(team, epoch, (object, chunk)),
            Fields::KeyPackage { .. } => match chunk.self_certifying_key() {
                Some(key) => self.take_key_package(team, key, object),
                None => Ok(Taken::Done),
            },
            Fields::Welcome { .. } => self.take_welcome(team, object),
            Fields::Blob { .. } => self.take_tree(team, first, object),
            _ => Ok(Taken::Done),
        }
    }

    /// After a new state: what may have waited for it.
    pub(crate) fn retry_waiting(&mut self, team: TeamId, state: StateId) -> Result<(), Failure> {
        let names = self.memory.waiting.beginnings(team, Some(state));
        self.try_objects(names)
    }

    /// Whether a chunk of this name can be of use.
    fn wants(&self, name: Name) -> Result<bool, Failure> {
        let team = naming::team_id(name.place());
        Ok(match name.fields() {
            Fields::Message { .. } => self.wants_message(team, name)?,
            Fields::Commit { .. } => self.memory.teams.contains_key(&team),
            Fields::KeyPackage { .. } => self.wants_key_package(team),
            Fields::Welcome { .. } | Fields::Blob { .. } => self.memory.joining.contains_key(&team),
            _ => false,
        })
    }

    /// Whether the signature is another's than that of the device the name belongs to. An author
    /// who is not known yet is judged when it is.
    fn is_forged(&self, chunk: &Chunk) -> bool {
        let team = self
            .memory
            .teams
            .get(&naming::team_id(chunk.name().place()));
        let key = match chunk.name().fields() {
            Fields::KeyPackage { .. } => match chunk.self_certifying_key() {
                Some(key) => Some(key),
                None => return true,
            },
            Fields::Message { device, .. } => team
                .and_then(|team| team.members.get(&device))
                .map(|member| PublicKey(member.publishing)),
            _ => None,
        };
        key.is_some_and(|key| !chunk.verifies(&key))
    }
}

fn join(run: &[Chunk]) -> Option<Vec<u8>> {
    let mut join = Join::default();
    for chunk in run {
        if let Joined::Object(object) = join.push(&fragment(chunk), OBJECT_BYTES).ok()? {
            return Some(object);
        }
    }
    None
}
