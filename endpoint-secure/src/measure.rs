//! What the operations of a team's group cost: the door through which `treeline-bench groups` measures.
//!
//! It runs the group and the sealed store of this crate, as the device does, without feeds, names and
//! outbox: each operation loads its state from its namespace, and its transaction is on disk when the
//! clock stops. Source: docs/performance.md, "Groups".

use std::path::Path;
use std::time::{Duration, Instant};

use endpoint_secure_api::{Suite, TeamId};
use proto::Signer;
use thiserror::Error;

use crate::group::{
    self, Candidate, Change, Crypto, Group, GroupError, LeafSigner, Made, Provider,
};
use crate::lock::{LockError, MasterKey};
use crate::naming::{Credential, FOUNDERS_SALT};
use crate::store::{Store, StoreError};

const TEAM: TeamId = TeamId {
    origin: 1,
    org: 2,
    team: 3,
};
/// As many messages as one transaction of the device takes when a team is busy.
const MESSAGES: u32 = 64;
/// Bytes of a message's text.
const TEXT: usize = 200;
/// What is told to a newcomer inside the welcome is measured by its own length: here it is empty.
const NO_NOTES: &[u8] = &[];

/// Why a measurement cannot go on.
#[derive(Debug, Error)]
pub enum MeasureError {
    /// The group refused.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no randomness.
    #[error(transparent)]
    Lock(#[from] LockError),
}

/// What one operation made and took.
#[derive(Debug, Clone)]
pub struct Cost {
    /// Which one.
    pub operation: &'static str,
    /// Bytes that leave the device by it; none for reading.
    pub bytes: Option<usize>,
    /// How many credentials are in them, each of [`Team::credential`] bytes.
    pub credentials: usize,
    /// Time to the end of its transaction; none for what comes with another operation.
    pub time: Option<Duration>,
}

/// One device's place in the group.
struct Party {
    signer: LeafSigner,
    credential: Credential,
    namespace: i64,
}

/// A team in one store: its founder, and the device that came last.
pub struct Team {
    store: Store,
    crypto: Crypto,
    suite: Suite,
    namespaces: i64,
    founder: Party,
    last: Option<Party>,
    size: u32,
}

impl Team {
    /// Founds a team of one in a directory.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn found(directory: &Path, suite: Suite) -> Result<Self, MeasureError> {
        let store = Store::open(directory, &MasterKey::random()?)?;
        let crypto = Crypto::default();
        let founder = party(0, 1);
        store.begin()?;
        let provider = Provider::new(&store, &crypto, founder.namespace);
        Group::found(&provider, TEAM, suite, &founder.signer, &founder.credential)?;
        store.commit()?;
        Ok(Self {
            store,
            crypto,
            suite,
            namespaces: 1,
            founder,
            last: None,
            size: 1,
        })
    }

    /// Lets devices come until there are so many. Each renews its leaf as soon as it is in, so that
    /// the tree has no blank node, as in a team that has talked for a while.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn grow(&mut self, devices: u32) -> Result<(), MeasureError> {
        while self.size < devices {
            self.store.begin()?;
            let (mut comer, package) = self.comer()?;
            let made = self.add(&package)?;
            self.join(&comer, &made)?;
            let update = self.commit(&mut comer, Change::default(), None)?;
            self.apply_as_founder(&update.commit)?;
            if let Some(before) = self.last.replace(comer) {
                self.store.delete_mls(before.namespace)?;
            }
            self.store.commit()?;
            self.size += 1;
        }
        Ok(())
    }

    /// Measures each operation once: the last device goes and comes again, so that the team is as large afterwards.
    ///
    /// # Errors
    /// [`MeasureError`].
    pub fn measure(&mut self) -> Result<Vec<Cost>, MeasureError> {
        let mut costs = self.messages()?;
        costs.extend(self.changes()?);
        Ok(costs)
    }

    /// Bytes of each device's credential.
    pub fn credential(&self) -> usize {
        self.founder.credential.encode().len()
    }

    fn messages(&mut self) -> Result<Vec<Cost>, MeasureError> {
        let text = [b'x'; TEXT];
        let Some(last) = &self.last else {
            return Ok(Vec::new());
        };
        let (provider, start) = (self.at(self.founder.namespace), Instant::now());
        self.store.begin()?;
        let mut group = Group::load(&provider, TEAM)?;
        let state = group.state_id().to_vec();
        let mut sent = Vec::new();
        for _ in 0..MESSAGES {
            sent.push(group.encrypt(&provider, &self.founder.signer, state.clone(), &text)?);
        }
        self.store.commit()?;
        let written = start.elapsed() / MESSAGES;
        let (provider, start) = (self.at(last.namespace), Instant::now());
        self.store.begin()?;
        let mut group = Group::load(&provider, TEAM)?;
        for message in &sent {
            group.decrypt(&provider, message)?;
        }
        self.store.commit()?;
        let read = start.elapsed() / MESSAGES;
        let bytes = sent.first().map(Vec::len);
        Ok(vec![
            cost("write a message of 200 B", bytes, 0, written),
            cost("read a message", None, 0, read),
        ])
    }

    fn changes(&mut self) -> Result<Vec<Cost>, MeasureError> {
        let Some(mut last) = self.last.take() else {
            return Ok(Vec::new());
        };
        let start = self.begin()?;
        let update = self.commit(&mut last, Change::default(), None)?;
        let renewed = self.end(start)?;
        let start = self.begin()?;
        self.apply_as_founder(&update.commit)?;
        let applied = self.end(start)?;

        let start = self.begin()?;
        let device = last_device(&self.crypto, &self.store, last.namespace, &last)?;
        let change = Change {
            remove: vec![device],
            ..Change::default()
        };
        let removal = self.as_founder(change, None)?;
        let removed = self.end(start)?;
        self.store.begin()?;
        self.store.delete_mls(last.namespace)?;
        self.store.commit()?;

        let start = self.begin()?;
        let (mut comer, package) = self.comer()?;
        let packed = self.end(start)?;
        let start = self.begin()?;
        let made = self.add(&package)?;
        let added = self.end(start)?;
        let start = self.begin()?;
        self.join(&comer, &made)?;
        let joined = self.end(start)?;

        // The tree is full again.
        self.store.begin()?;
        let update_again = self.commit(&mut comer, Change::default(), None)?;
        self.apply_as_founder(&update_again.commit)?;
        self.store.commit()?;
        self.last = Some(comer);
        let welcome = made.welcome.as_ref().map(Vec::len);
        Ok(vec![
            cost("key package", Some(package.len()), 1, packed),
            cost("add", Some(made.commit.len()), 1, added),
            cost("welcome, tree apart", welcome, 0, None),
            cost("tree", Some(made.tree.len()), self.size as usize, None),
            cost("join", None, 0, joined),
            cost("renew the own leaf", Some(update.commit.len()), 1, renewed),
            cost("read a commit", None, 0, applied),
            cost("remove", Some(removal.commit.len()), 1, removed),
        ])
    }

    fn begin(&self) -> Result<Instant, MeasureError> {
        let start = Instant::now();
        self.store.begin()?;
        Ok(start)
    }

    fn end(&self, start: Instant) -> Result<Duration, MeasureError> {
        self.store.commit()?;
        Ok(start.elapsed())
    }

    fn at(&self, namespace: i64) -> Provider<'_> {
        Provider::new(&self.store, &self.crypto, namespace)
    }

    /// A device with a key package.
    fn comer(&mut self) -> Result<(Party, Vec<u8>), MeasureError> {
        self.namespaces += 1;
        let comer = party(self.namespaces, self.namespaces);
        let kind = (&comer.credential, false);
        let package =
            group::key_package(&self.at(comer.namespace), self.suite, &comer.signer, kind)?;
        Ok((comer, package))
    }

    fn add(&mut self, package: &[u8]) -> Result<Made, MeasureError> {
        let candidate = Candidate::read(&self.crypto, TEAM, self.suite, package)?;
        let change = Change {
            add: vec![candidate],
            ..Change::default()
        };
        self.as_founder(change, Some(Vec::new()))
    }

    fn join(&self, comer: &Party, made: &Made) -> Result<(), MeasureError> {
        let welcome = made.welcome.as_deref().unwrap_or_default();
        group::join(&self.at(comer.namespace), TEAM, welcome, &made.tree)?;
        Ok(())
    }

    fn as_founder(
        &mut self,
        change: Change,
        bundle: Option<Vec<u8>>,
    ) -> Result<Made, MeasureError> {
        let mut founder = std::mem::replace(&mut self.founder, party(0, 0));
        let made = self.commit(&mut founder, change, bundle);
        self.founder = founder;
        made
    }

    /// Commits in a new namespace, and leaves the old one.
    fn commit(
        &mut self,
        by: &mut Party,
        change: Change,
        bundle: Option<Vec<u8>>,
    ) -> Result<Made, MeasureError> {
        let child = self.child(by.namespace)?;
        let provider = self.at(child);
        let group = Group::load(&provider, TEAM)?;
        let made = group.commit(&provider, &by.signer, change, (NO_NOTES, bundle))?;
        self.store.delete_mls(by.namespace)?;
        by.namespace = child;
        Ok(made)
    }

    fn apply_as_founder(&mut self, commit: &[u8]) -> Result<(), MeasureError> {
        let child = self.child(self.founder.namespace)?;
        let provider = self.at(child);
        Group::load(&provider, TEAM)?.apply(&provider, commit)?;
        self.store.delete_mls(self.founder.namespace)?;
        self.founder.namespace = child;
        Ok(())
    }

    fn child(&mut self, parent: i64) -> Result<i64, MeasureError> {
        self.namespaces += 1;
        self.store.copy_mls(parent, self.namespaces)?;
        Ok(self.namespaces)
    }
}

fn cost(
    operation: &'static str,
    bytes: Option<usize>,
    credentials: usize,
    time: impl Into<Option<Duration>>,
) -> Cost {
    Cost {
        operation,
        bytes,
        credentials,
        time: time.into(),
    }
}

fn last_device(
    crypto: &Crypto,
    store: &Store,
    namespace: i64,
    party: &Party,
) -> Result<u32, MeasureError> {
    let group = Group::load(&Provider::new(store, crypto, namespace), TEAM)?;
    let leaves = group.leaves();
    let own = leaves
        .iter()
        .find(|leaf| leaf.credential == party.credential);
    Ok(own.map(|leaf| leaf.device).unwrap_or_default())
}

/// A device by a number: its keys follow from it.
fn party(number: i64, namespace: i64) -> Party {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let (publishing, signer) = (Signer::from_seed(&seed), LeafSigner::from_seed(&seed));
    let mut salt = FOUNDERS_SALT;
    salt[8..].copy_from_slice(&number.to_be_bytes());
    let credential = Credential::bind(
        (("Ada Lovelace", "laptop"), None),
        &publishing,
        salt,
        TEAM,
        &signer.public(),
    );
    Party {
        signer,
        credential,
        namespace,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_team_is_measured_and_is_as_large_afterwards() {
        for suite in [Suite::Classic, Suite::PostQuantum] {
            let directory = tempfile::tempdir().unwrap();
            let mut team = Team::found(directory.path(), suite).unwrap();
            team.grow(5).unwrap();
            for _ in 0..2 {
                let costs = team.measure().unwrap();
                let sized = costs.iter().filter(|one| one.bytes.is_some()).count();
                assert_eq!((costs.len(), sized), (10, 7));
                let group = Group::load(&team.at(team.founder.namespace), TEAM).unwrap();
                assert_eq!(group.leaves().len(), 5);
            }
            assert_eq!(team.store.namespaces().len(), 2);
        }
    }
}
