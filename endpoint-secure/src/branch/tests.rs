//! Laws of the judgement, over worlds drawn from seeds.

use super::*;

const WORLDS: u64 = 5_000;

/// A state with what it owns, for tests.
#[derive(Debug, Clone)]
struct Node {
    id: StateId,
    parent: Option<StateId>,
    author: u32,
    class: Class,
    removed: Vec<u32>,
    admins: Vec<u32>,
    devices: BTreeSet<u32>,
    witnesses: BTreeSet<u32>,
}

struct World {
    nodes: Vec<Node>,
    seed: u64,
}

fn id(number: usize) -> StateId {
    (number as u64 + 1).to_be_bytes()
}

impl World {
    /// A team of so many devices, the first of which are admins.
    fn new(seed: u64, devices: u32, admins: u32) -> Self {
        let root = Node {
            id: id(0),
            parent: None,
            author: 0,
            class: Class::Update,
            removed: Vec::new(),
            admins: (0..admins).collect(),
            devices: (0..devices).collect(),
            witnesses: BTreeSet::new(),
        };
        Self {
            nodes: vec![root],
            seed: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 11) as usize % limit.max(1)
    }

    fn pick(&mut self, from: &BTreeSet<u32>) -> u32 {
        let at = self.below(from.len());
        *from.iter().nth(at).unwrap()
    }

    fn commit(&mut self, parent: usize, author: u32, class: Class, targets: &[u32]) -> usize {
        let before = &self.nodes[parent];
        let mut node = Node {
            id: id(self.nodes.len()),
            parent: Some(before.id),
            author,
            class,
            removed: Vec::new(),
            admins: before.admins.clone(),
            devices: before.devices.clone(),
            witnesses: BTreeSet::new(),
        };
        match class {
            Class::Remove => {
                node.removed = targets.to_vec();
                node.devices.retain(|one| !targets.contains(one));
                node.admins.retain(|one| !targets.contains(one));
            }
            Class::Roles => node.admins.retain(|one| !targets.contains(one)),
            Class::Add => node.devices.extend(targets),
            Class::Update => {}
        }
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// A commit that the rules allow, by somebody of that state.
    fn random_commit(&mut self, parent: usize, author: u32) -> usize {
        let before = self.nodes[parent].clone();
        let rank = before.admins.iter().position(|one| *one == author);
        let Some(rank) = rank else {
            return self.commit(parent, author, Class::Update, &[]);
        };
        let lower: BTreeSet<u32> = before
            .devices
            .iter()
            .copied()
            .filter(|one| {
                before
                    .admins
                    .iter()
                    .position(|admin| admin == one)
                    .is_none_or(|r| r > rank)
            })
            .collect();
        match self.below(4) {
            0 if !lower.is_empty() => {
                let target = self.pick(&lower);
                self.commit(parent, author, Class::Remove, &[target])
            }
            1 => {
                let newcomer = 100 + self.nodes.len() as u32;
                self.commit(parent, author, Class::Add, &[newcomer])
            }
            2 if before.admins.len() > rank + 1 => {
                let target = before.admins[rank + 1];
                self.commit(parent, author, Class::Roles, &[target])
            }
            _ => self.commit(parent, author, Class::Update, &[]),
        }
    }

    fn speak(&mut self, at: usize, device: u32) {
        self.nodes[at].witnesses.insert(device);
    }

    fn judge(&self) -> Verdict {
        self.judge_in(&(0..self.nodes.len()).collect::<Vec<_>>())
    }

    fn judge_in(&self, order: &[usize]) -> Verdict {
        let known: Vec<Known<'_>> = order
            .iter()
            .map(|at| {
                let node = &self.nodes[*at];
                Known {
                    id: node.id,
                    commit: node.parent.map(|parent| Commit {
                        parent,
                        author: node.author,
                        class: node.class,
                        removed: &node.removed,
                        digest: [node.id[7]; 32],
                    }),
                    admins: &node.admins,
                    devices: &node.devices,
                    witnesses: &node.witnesses,
                }
            })
            .collect();
        judge(id(0), &known)
    }

    fn random(seed: u64) -> Self {
        let mut world = Self::new(seed, 3 + (seed % 6) as u32, 1 + (seed % 3) as u32);
        for _ in 0..world.below(30) {
            let parent = world.below(world.nodes.len());
            let devices = world.nodes[parent].devices.clone();
            if devices.is_empty() {
                continue;
            }
            let author = world.pick(&devices);
            if world.below(3) == 0 {
                world.speak(parent, author);
            } else {
                world.random_commit(parent, author);
            }
        }
        world
    }
}

#[test]
fn the_order_in_which_things_are_known_decides_nothing() {
    for seed in 0..WORLDS {
        let mut world = World::random(seed);
        let verdict = world.judge();
        let mut order: Vec<usize> = (0..world.nodes.len()).collect();
        for at in (1..order.len()).rev() {
            order.swap(at, world.below(at + 1));
        }
        assert_eq!(world.judge_in(&order), verdict, "seed {seed}");
        // The tip is a state without children, and the path leads to it.
        let tip = verdict.tip();
        assert!(
            world.nodes.iter().all(|node| node.parent != Some(tip)),
            "seed {seed}"
        );
    }
}

#[test]
fn a_removed_member_cannot_resist() {
    for seed in 0..WORLDS {
        let mut world = World::new(seed, 6, 3);
        // The owner removes device 1, an admin, who answers with whatever it can make, alone or
        // with devices that it has added and with 2, 3 and 4, who heard of nothing else.
        let removal = world.commit(0, 0, Class::Remove, &[1]);
        let mut own = vec![world.random_commit(0, 1)];
        while world.nodes[own[0]].removed.contains(&0) {
            own = vec![world.commit(0, 1, Class::Add, &[200])];
        }
        for _ in 0..world.below(40) {
            let parent = own[world.below(own.len())];
            let devices = world.nodes[parent].devices.clone();
            let others: BTreeSet<u32> = devices.into_iter().filter(|one| *one != 0).collect();
            let author = world.pick(&others);
            if world.below(2) == 0 {
                world.speak(parent, author);
            } else {
                own.push(world.random_commit(parent, author));
            }
        }
        let verdict = world.judge();
        assert!(verdict.holds(world.nodes[removal].id), "seed {seed}");
    }
}

#[test]
fn a_backdated_commit_moves_nobody() {
    for seed in 0..WORLDS {
        let mut world = World::new(seed, 5, 3);
        // A history in which most have spoken after every change.
        let mut path = vec![0];
        for _ in 0..3 + world.below(6) {
            let at = *path.last().unwrap();
            let author = world.below(3) as u32;
            let next = world.commit(at, author, Class::Update, &[]);
            path.push(next);
            for device in 0..5 {
                world.speak(next, device);
            }
        }
        let before = world.judge();
        // One of them turns, and commits where all have long gone on, as often and deep as it likes.
        let liar = world.below(5) as u32;
        let mut back = vec![path[world.below(path.len() - 1)]];
        for _ in 0..1 + world.below(25) {
            let parent = *back.last().unwrap();
            if !world.nodes[parent].devices.contains(&liar) {
                break;
            }
            let next = world.random_commit(parent, liar);
            world.speak(next, liar);
            back.push(next);
        }
        assert_eq!(world.judge().tip(), before.tip(), "seed {seed}");
    }
}

#[test]
fn what_a_majority_has_settled_stays() {
    for seed in 0..WORLDS {
        let mut world = World::new(seed, 7, 2);
        let first = world.commit(0, 0, Class::Add, &[50]);
        let mut inside = vec![first];
        for device in 0..5 {
            world.speak(first, device);
        }
        assert!(world.judge().sealed.contains(&id(first)));
        // The minority has no admin; they, and those who have spoken, do what they can elsewhere.
        let mut outside = vec![0];
        for _ in 0..world.below(30) {
            let minority = world.below(2) == 0;
            let (list, author) = if minority {
                (&mut outside, 5 + (seed % 2) as u32)
            } else {
                (&mut inside, (seed % 5) as u32)
            };
            let parent = list[list.len() / 2];
            if !world.nodes[parent].devices.contains(&author) {
                continue;
            }
            let next = world.random_commit(parent, author);
            world.speak(next, author);
            if minority {
                outside.push(next);
            } else {
                inside.push(next);
            }
        }
        assert!(world.judge().holds(id(first)), "seed {seed}");
    }
}

#[test]
fn classes_stand_in_their_order_and_rank_decides_within_one() {
    let classes = [Class::Remove, Class::Roles, Class::Add, Class::Update];
    for (stronger, one) in classes.iter().enumerate() {
        for (weaker, other) in classes.iter().enumerate().skip(stronger) {
            let mut world = World::new(1, 8, 3);
            let junior = world.commit(0, 2, *one, &[5]);
            let senior = world.commit(0, 1, *other, &[6]);
            let expected = if stronger == weaker { senior } else { junior };
            assert_eq!(world.judge().tip(), id(expected), "{one:?} {other:?}");
        }
    }
}

#[test]
fn who_removes_each_other_is_judged_by_rank() {
    let mut world = World::new(1, 6, 3);
    let by_owner = world.commit(0, 0, Class::Remove, &[2]);
    world.commit(0, 1, Class::Remove, &[4]);
    let verdict = world.judge();
    assert_eq!(verdict.tip(), id(by_owner));
    assert_eq!(verdict.carried, [4].into());
    // Had the one who is removed done it, it would be void.
    let mut world = World::new(1, 6, 3);
    let by_owner = world.commit(0, 0, Class::Remove, &[1]);
    world.commit(0, 1, Class::Remove, &[4]);
    let verdict = world.judge();
    assert_eq!(verdict.tip(), id(by_owner));
    assert!(verdict.carried.is_empty());
}

#[test]
fn depth_seals_but_less_than_voices() {
    let mut world = World::new(1, 4, 2);
    let spoken = world.commit(0, 0, Class::Update, &[]);
    for device in [0, 2, 3] {
        world.speak(spoken, device);
    }
    let mut deep = world.commit(0, 1, Class::Add, &[60]);
    let first = deep;
    for _ in 0..SEALED_DEPTH {
        deep = world.commit(deep, 1, Class::Update, &[]);
    }
    assert!(world.judge().holds(id(spoken)));
    world.nodes[spoken].witnesses.clear();
    let verdict = world.judge();
    assert!(verdict.holds(id(first)) && verdict.sealed.contains(&id(first)));
}
