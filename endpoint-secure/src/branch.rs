//! Which commit wins: a pure function of the set of valid commits and authenticated messages.
//!
//! No clock, no order of arrival, no store: whoever knows the same set comes to the same state. From
//! the oldest known state on, all children of a state are judged together, because with bans a
//! comparison of two is not transitive. Source: docs/architecture.md, "Which commit wins".

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Names a state of a team's group.
pub type StateId = [u8; 8];

/// A subtree that is this deep is sealed, whoever has spoken in it.
pub const SEALED_DEPTH: usize = 16;

/// What a commit does, the weightiest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Class {
    /// It removes devices.
    Remove,
    /// It changes roles.
    Roles,
    /// It adds devices.
    Add,
    /// It renews its author's leaf.
    Update,
}

/// A valid commit, and the state that it makes.
#[derive(Debug, Clone)]
pub struct Commit<'a> {
    /// The state that it follows.
    pub parent: StateId,
    /// Who made it.
    pub author: u32,
    /// What it does.
    pub class: Class,
    /// Whom it removes.
    pub removed: &'a [u32],
    /// The SHA-256 of its bytes.
    pub digest: [u8; 32],
}

/// A state that is known.
#[derive(Debug, Clone)]
pub struct Known<'a> {
    /// Its name.
    pub id: StateId,
    /// How it came about; none for the oldest that is known.
    pub commit: Option<Commit<'a>>,
    /// Its admins by rank.
    pub admins: &'a [u32],
    /// Its devices.
    pub devices: &'a BTreeSet<u32>,
    /// Who has written a message in it that was authenticated.
    pub witnesses: &'a BTreeSet<u32>,
}

/// What is so, given what is known.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// From the oldest state to the tip, which is the last.
    pub path: Vec<StateId>,
    /// States of the path whose choice is settled: they are sealed.
    pub sealed: BTreeSet<StateId>,
    /// Devices that a losing branch has removed, where that removal stands: it has to be done again
    /// where the device is still in.
    pub carried: BTreeSet<u32>,
}

impl Verdict {
    /// The state in use.
    pub fn tip(&self) -> StateId {
        self.path.last().copied().unwrap_or_default()
    }

    /// Whether a state is on the way to the tip.
    pub fn holds(&self, state: StateId) -> bool {
        self.path.contains(&state)
    }
}

/// Judges everything that comes from one oldest state. States that do not are not looked at.
pub fn judge(root: StateId, known: &[Known<'_>]) -> Verdict {
    let states = known.iter().map(|state| (state.id, state)).collect();
    let mut children: BTreeMap<StateId, Vec<StateId>> = BTreeMap::new();
    for state in known {
        if let Some(commit) = &state.commit {
            children.entry(commit.parent).or_default().push(state.id);
        }
    }
    for list in children.values_mut() {
        list.sort_unstable();
    }
    Tree { states, children }.walk(root)
}

struct Tree<'a> {
    states: BTreeMap<StateId, &'a Known<'a>>,
    children: BTreeMap<StateId, Vec<StateId>>,
}

/// One child of a state, with everything that has come of it.
struct Side<'a> {
    child: StateId,
    first: &'a Commit<'a>,
    states: Vec<StateId>,
    /// Who has committed or written in it.
    evidence: BTreeSet<u32>,
    depth: usize,
    /// Who may not speak for it: another side has removed them.
    banned: BTreeSet<u32>,
}

/// A removal somewhere in a side.
struct Removal<'a> {
    side: usize,
    rank: usize,
    commit: &'a Commit<'a>,
}

impl<'a> Tree<'a> {
    fn walk(&self, root: StateId) -> Verdict {
        let mut verdict = Verdict {
            path: vec![root],
            ..Verdict::default()
        };
        let mut at = root;
        while let Some(children) = self.children.get(&at) {
            let mut sides: Vec<Side<'a>> = children
                .iter()
                .filter_map(|child| self.side(*child))
                .collect();
            let stand = self.ban(at, &mut sides);
            let Some(best) = self.choose(at, &sides) else {
                break;
            };
            if self.seal(at, &sides[best]) > Seal::Open {
                verdict.sealed.insert(sides[best].child);
            }
            self.carry(&sides, best, &stand, &mut verdict.carried);
            at = sides[best].child;
            verdict.path.push(at);
        }
        verdict
    }

    fn side(&self, child: StateId) -> Option<Side<'a>> {
        let known = *self.states.get(&child)?;
        let first = known.commit.as_ref()?;
        let mut side = Side {
            child,
            first,
            states: Vec::new(),
            evidence: BTreeSet::new(),
            depth: 0,
            banned: BTreeSet::new(),
        };
        let mut level = vec![child];
        while !level.is_empty() {
            side.depth += 1;
            let mut next = Vec::new();
            for id in level {
                side.states.push(id);
                if let Some(known) = self.states.get(&id) {
                    side.evidence.extend(known.witnesses);
                    side.evidence
                        .extend(known.commit.as_ref().map(|one| one.author));
                }
                next.extend(self.children.get(&id).into_iter().flatten().copied());
            }
            level = next;
        }
        Some(side)
    }

    /// Step 1: every removal in all sides, the most senior remover's first, bans its targets from
    /// all other sides, unless its author is banned from its own. One exception keeps backdated
    /// removals from moving anybody: none bans from a side that its author has itself supported.
    /// Gives the removals that stand.
    fn ban(&self, at: StateId, sides: &mut [Side<'a>]) -> BTreeSet<[u8; 32]> {
        let admins = self.states.get(&at).map_or(&[][..], |known| known.admins);
        let mut removals = Vec::new();
        for (side, states) in sides.iter().map(|side| &side.states).enumerate() {
            let commits = states
                .iter()
                .filter_map(|id| self.states[id].commit.as_ref());
            removals.extend(
                commits
                    .filter(|one| !one.removed.is_empty())
                    .map(|commit| Removal {
                        side,
                        rank: rank(admins, commit.author),
                        commit,
                    }),
            );
        }
        removals.sort_by_key(|one| (one.rank, one.commit.digest));
        let mut stand = BTreeSet::new();
        for removal in removals {
            let author = removal.commit.author;
            if sides[removal.side].banned.contains(&author) {
                continue;
            }
            stand.insert(removal.commit.digest);
            for (index, side) in sides.iter_mut().enumerate() {
                if index != removal.side && !side.evidence.contains(&author) {
                    side.banned.extend(removal.commit.removed);
                }
            }
        }
        stand
    }

    /// Steps 2 to 6, among the sides whose first commit is not by somebody banned (all, if all are).
    fn choose(&self, at: StateId, sides: &[Side<'a>]) -> Option<usize> {
        let admins = self.states.get(&at).map_or(&[][..], |known| known.admins);
        let is_out = |side: &Side<'_>| side.banned.contains(&side.first.author);
        let all_out = sides.iter().all(is_out);
        let fit = sides.iter().enumerate();
        fit.filter(|(_, side)| all_out || !is_out(side))
            .min_by_key(|(_, side)| {
                let first = side.first;
                (
                    std::cmp::Reverse(self.seal(at, side)),
                    first.class,
                    rank(admins, first.author),
                    first.author,
                    first.digest,
                )
            })
            .map(|(index, _)| index)
    }

    fn seal(&self, at: StateId, side: &Side<'_>) -> Seal {
        let Some(known) = self.states.get(&at) else {
            return Seal::Open;
        };
        let counted = known.devices.difference(&side.banned);
        let (all, spoke) = counted.fold((0, 0), |(all, spoke), device| {
            (all + 1, spoke + usize::from(side.evidence.contains(device)))
        });
        if spoke * 2 > all {
            Seal::Spoken
        } else if side.depth >= SEALED_DEPTH {
            Seal::Deep
        } else {
            Seal::Open
        }
    }

    /// Removals of the losing sides that stand, judged among themselves first.
    fn carry(
        &self,
        sides: &[Side<'a>],
        best: usize,
        stand: &BTreeSet<[u8; 32]>,
        carried: &mut BTreeSet<u32>,
    ) {
        for (index, side) in sides.iter().enumerate() {
            if index == best {
                continue;
            }
            let within = self.walk(side.child);
            let of_path = within
                .path
                .iter()
                .filter_map(|id| self.states[id].commit.as_ref());
            for commit in of_path.filter(|commit| stand.contains(&commit.digest)) {
                carried.extend(commit.removed);
            }
            carried.extend(within.carried.iter().filter(|target| {
                let mut removals = side
                    .states
                    .iter()
                    .filter_map(|id| self.states[id].commit.as_ref());
                removals.any(|one| one.removed.contains(target) && stand.contains(&one.digest))
            }));
        }
    }
}

/// How firmly a side stands: a majority that has spoken counts more than depth, which a single
/// member could make alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Seal {
    Open,
    Deep,
    Spoken,
}

fn rank(admins: &[u32], device: u32) -> usize {
    let place = admins.iter().position(|admin| *admin == device);
    place.unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
