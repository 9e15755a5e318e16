//! `undump`: publishes a dump again, grants first. What the tree has is left alone, so that a run that
//! was cut off is gone on with by another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proto::{Chunk, GrantId, Name, Outcome, Refused, Tier};
use relay::client::Said;
use serde::Serialize;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::folder::Dump;
use crate::grants::Grants;
use crate::link::{self, Link, PATIENCE};
use crate::options::UndumpOptions;
use crate::{output, verify};

/// Chunks that wait for an answer at the same time; also as many as one fetch may name.
const BATCH: usize = 512;
/// How long a chunk waits that the relay could not take for now.
const PAUSE: Duration = Duration::from_secs(1);

/// What became of the chunks of a dump.
#[derive(Debug, Default, Serialize)]
struct Tally {
    /// New in the tree; in a dry run, what would be.
    stored: u64,
    /// Already there.
    known: u64,
    /// Over: the chunk's life, or its grant's.
    expired: u64,
    refused: u64,
    /// Refusals by what the relay said.
    reasons: BTreeMap<String, u64>,
    #[serde(skip)]
    example: Option<Name>,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]; [`Failure::Partial`] when something was refused.
pub async fn run(options: &UndumpOptions, json: bool) -> Result<(), Failure> {
    let relay = link::address(&options.relay)?;
    let origin = options.origin.as_deref().map(verify::key).transpose()?;
    let dump = verify::open(&options.dir, options.signer.as_deref())?;
    let (grants, _) = verify::check(&dump, origin)?;
    let mut link = Link::open(&relay).await?;
    let tier = link.tier();
    let mut replay = Replay {
        wait: options.wait.map_or(tier, Tier::from).max(tier),
        grants: &grants,
        shown: BTreeSet::new(),
        tally: Tally::default(),
        dry_run: options.dry_run,
        link: &mut link,
    };
    let outcome = replay.all(&dump).await;
    let tally = replay.tally;
    let would = if options.dry_run { "would be " } else { "" };
    let line = format!(
        "{} chunks {would}stored, {} known, {} expired, {} refused",
        tally.stored, tally.known, tally.expired, tally.refused
    );
    output::show(json, "undump", &tally, &line);
    outcome?;
    link.close().await;
    tally.verdict()
}

impl Tally {
    fn refuse(&mut self, name: Name, reason: Refused) {
        if matches!(reason, Refused::Expired | Refused::GrantExpired) {
            self.expired += 1;
            return;
        }
        self.refused += 1;
        *self.reasons.entry(reason.to_string()).or_default() += 1;
        self.example.get_or_insert(name);
    }

    fn verdict(&self) -> Result<(), Failure> {
        let Some(example) = self.example else {
            return Ok(());
        };
        let reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} because {reason}"))
            .collect();
        Err(Failure::Partial(format!(
            "{} chunks were refused, the first of them {example}: {}; the others are there",
            self.refused,
            reasons.join(", ")
        )))
    }
}

/// A dump on its way into a tree.
struct Replay<'a> {
    link: &'a mut Link,
    grants: &'a Grants,
    /// Grants whose chains this link has seen.
    shown: BTreeSet<GrantId>,
    /// The tier whose disk chunks have to be on.
    wait: Tier,
    dry_run: bool,
    tally: Tally,
}

impl Replay<'_> {
    async fn all(&mut self, dump: &Dump) -> Result<(), Failure> {
        let progress = output::bar("publishing", dump.manifest.count);
        for entry in &dump.manifest.files {
            // A file is verified when it is read: what was checked before may have changed.
            for chunks in dump.read(entry)?.chunks(BATCH) {
                self.batch(chunks).await?;
                progress.inc(chunks.len() as u64);
            }
        }
        progress.finish_and_clear();
        Ok(())
    }

    /// Publishes what of at most [`BATCH`] chunks the tree does not have.
    async fn batch(&mut self, chunks: &[Chunk]) -> Result<(), Failure> {
        let now = relay::driver::now();
        let (over, alive): (Vec<&Chunk>, Vec<&Chunk>) = chunks
            .iter()
            .partition(|chunk| chunk.expiry() <= now || self.grants.over(chunk.grant(), now));
        self.tally.expired += over.len() as u64;
        let names: Vec<Name> = alive.iter().map(|chunk| chunk.name()).collect();
        if names.is_empty() {
            return Ok(());
        }
        let there = self.link.fetch(&names).await?;
        let there: BTreeMap<Name, Chunk> = there
            .into_iter()
            .map(|chunk| (chunk.name(), chunk))
            .collect();
        let mut open = BTreeMap::new();
        for chunk in alive {
            let known = match there.get(&chunk.name()) {
                Some(other) if other != chunk => {
                    self.tally.refuse(chunk.name(), Refused::Conflict);
                    continue;
                }
                known => known.is_some(),
            };
            if known && (self.dry_run || self.wait <= self.link.tier()) {
                self.tally.known += 1;
            } else if self.dry_run {
                self.tally.stored += 1;
            } else {
                open.insert(chunk.name(), Open::new(chunk, known));
            }
        }
        self.publish(open).await
    }

    /// Publishes chunks until each has come far enough or is refused for good.
    async fn publish(&mut self, mut open: BTreeMap<Name, Open<'_>>) -> Result<(), Failure> {
        let mut settled = Instant::now();
        while !open.is_empty() {
            self.send(&mut open).await?;
            let mut heard = Instant::now();
            while open.values().any(|own| own.state == State::Sent) {
                let left = PATIENCE.saturating_sub(heard.elapsed());
                let said = self.link.next(left).await?;
                let Some(said) = said else {
                    return Err(self.late(open.len()));
                };
                let Said::Acks(acks) = said else { continue };
                heard = Instant::now();
                for (name, outcome) in acks {
                    if self.settle(&mut open, name, outcome) {
                        settled = Instant::now();
                    }
                }
            }
            if let Some(State::Refused(reason)) = open.values().map(|own| own.state).next() {
                if settled.elapsed() > PATIENCE {
                    return Err(stuck(self.link.place(), open.len(), reason));
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }

    /// Sends what has not been sent, or was refused for a time, each behind the chain of its grant.
    async fn send(&mut self, open: &mut BTreeMap<Name, Open<'_>>) -> Result<(), Failure> {
        for own in open.values() {
            if own.state == State::Refused(Refused::NoGrant) {
                self.shown.remove(&own.chunk.grant());
            }
        }
        let mut chunks = Vec::new();
        for own in open.values_mut() {
            let id = own.chunk.grant();
            if id != GrantId::NONE
                && self.shown.insert(id)
                && let Some(chain) = self.grants.chain(id)
            {
                self.link.grant(&chain).await?;
            }
            own.state = State::Sent;
            own.tries += 1;
            chunks.push(own.chunk.clone());
        }
        self.link.publish(&chunks).await
    }

    /// Takes an answer in: whether it brings us on.
    fn settle(
        &mut self,
        open: &mut BTreeMap<Name, Open<'_>>,
        name: Name,
        outcome: Outcome,
    ) -> bool {
        let Some(own) = open.get_mut(&name) else {
            return false;
        };
        match outcome {
            Outcome::Stored(tier) if tier < self.wait => return true,
            Outcome::Stored(_) if own.known => self.tally.known += 1,
            Outcome::Stored(_) => self.tally.stored += 1,
            Outcome::Refused(reason) if reason.is_temporary() && !self.in_vain(own, reason) => {
                own.state = State::Refused(reason);
                return false;
            }
            Outcome::Refused(reason) => self.tally.refuse(name, reason),
        }
        open.remove(&name);
        true
    }

    /// A chain that is not in the dump, or was shown twice and is not known, will not be.
    fn in_vain(&self, own: &Open<'_>, reason: Refused) -> bool {
        reason == Refused::NoGrant
            && (own.tries > 1 || self.grants.chain(own.chunk.grant()).is_none())
    }

    fn late(&self, count: usize) -> Failure {
        if self.wait <= self.link.tier() {
            return link::silent(self.link.place());
        }
        Failure::Unreachable(format!(
            "{count} chunks are at the relay {} and have not come to the {} within {} seconds; it sends them on when it can, run the same command again to wait",
            self.link.place(),
            self.wait.word(),
            PATIENCE.as_secs()
        ))
    }
}

fn stuck(place: &str, count: usize, reason: Refused) -> Failure {
    Failure::Partial(format!(
        "the relay {place} does not take {count} chunks now, because {reason}; run the same command again later to go on"
    ))
}

/// A chunk whose fate is not known yet.
struct Open<'a> {
    chunk: &'a Chunk,
    known: bool,
    tries: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unsent,
    Sent,
    /// For a time.
    Refused(Refused),
}

impl<'a> Open<'a> {
    fn new(chunk: &'a Chunk, known: bool) -> Self {
        Self {
            chunk,
            known,
            tries: 0,
            state: State::Unsent,
        }
    }
}
