//! Worlds of devices on the real engine, drawn from seeds: islands, several admins at once, insiders
//! that lie, crashes at every write, states that are forgotten early; and one list of crashes, at
//! each write of an addition, a removal and a message.
//!
//! A seed fixes what is done and when. Keys come from the system, so what depends on the digest of a
//! commit may fall out otherwise the next time.

mod world;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use endpoint_secure_api::{Answer, Command, Role};

use crate::group::Change;
use world::{Random, Template, World};

/// Worlds in the test command.
const SEEDS: u64 = 2_000;
/// Members at the beginning: three admins among them.
const MEMBERS: usize = 5;
/// Devices that may join.
const OTHERS: usize = 1;
const ALL: usize = MEMBERS + OTHERS;

/// What happened in all worlds.
#[derive(Default)]
struct Figures {
    commits: AtomicU64,
    concurrent: AtomicU64,
    messages: AtomicU64,
    reissued: AtomicU64,
    removed: AtomicU64,
    crashes: AtomicU64,
    lies: AtomicU64,
}

impl Figures {
    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// One world and what was done in it.
struct Run<'a> {
    world: World,
    random: Random,
    said: Vec<(usize, String)>,
    joined: BTreeSet<usize>,
    figures: &'a Figures,
}

impl Run<'_> {
    fn act(&mut self) {
        let at = self.random.below(ALL);
        match self.random.below(20) {
            0..=1 => self.part(),
            2 => self.heal(),
            3..=8 => self.say(at),
            9..=11 => self.remove(),
            12..=13 => self.change_role(),
            14 => self.announce(),
            15 => self.bring_in(),
            16 => self.crash(at),
            17 => self.crash_while_writing(at),
            18 => self.lie(),
            _ => {}
        }
        for _ in 0..self.random.below(8) {
            let ms = 50 + self.random.below(900) as u64;
            self.world.step(ms);
        }
        for at in 0..ALL {
            if self.world.peers[at].device.is_none() {
                Figures::add(&self.figures.crashes, 1);
                self.world.start(at);
            }
        }
    }

    fn part(&mut self) {
        let islands = 2 + self.random.below(2);
        for at in 0..ALL {
            self.world.peers[at].island = self.random.below(islands);
        }
    }

    fn heal(&mut self) {
        for peer in &mut self.world.peers {
            peer.island = 0;
        }
    }

    fn say(&mut self, at: usize) {
        let text = format!("message {}", self.said.len());
        if self.world.say(at, &text, 10_000 + self.said.len() as u64) {
            self.said.push((at, text));
        }
    }

    fn remove(&mut self) {
        let (admin, target) = (self.random.below(3), 1 + self.random.below(ALL - 1));
        // Seldom enough that some stay.
        if self.random.below(3) == 0 {
            let (team, device) = (self.world.team, self.world.number(target));
            self.world
                .ask(admin, Command::RemoveDevice { team, device })
                .ok();
        }
    }

    fn change_role(&mut self) {
        let (admin, target) = (self.random.below(3), 1 + self.random.below(ALL - 1));
        let role = [Role::Admin, Role::Member, Role::Guest][self.random.below(3)];
        let (team, device) = (self.world.team, self.world.number(target));
        if device == 0 {
            return;
        }
        self.world
            .ask(admin, Command::SetRole { team, device, role })
            .ok();
    }

    fn announce(&mut self) {
        let (admin, on) = (self.random.below(3), self.random.below(3) == 0);
        let channel = self.world.channel();
        self.world
            .ask(admin, Command::SetAnnounce { channel, on })
            .ok();
    }

    fn bring_in(&mut self) {
        let at = MEMBERS + self.random.below(OTHERS);
        if self.joined.insert(at) {
            let admin = self.random.below(3);
            self.world.bring_in(admin, at);
        }
    }

    fn crash(&mut self, at: usize) {
        self.world.kill(at);
    }

    fn crash_while_writing(&mut self, at: usize) {
        let writes = self.random.below(40) as u32;
        if let Some(session) = self.world.peers[at]
            .device
            .as_mut()
            .and_then(|one| one.open_session())
        {
            session.store.crash_after(writes);
        }
        self.say(at);
    }

    /// A changed client: commits that the rules forbid, or that follow a state long left, or two of
    /// one state.
    fn lie(&mut self) {
        let at = 1 + self.random.below(MEMBERS - 1);
        let kind = self.random.below(3);
        let target = self.random.below(MEMBERS);
        let target = self.world.number(target);
        let (team, now) = (self.world.team, self.world.now);
        let older = self.random.below(4);
        let Some(session) = self.world.peers[at]
            .device
            .as_mut()
            .and_then(|one| one.open_session())
        else {
            return;
        };
        let Some(mut known) = session.memory.teams.get(&team).cloned() else {
            return;
        };
        let honest = known.tip;
        let path = session.memory.verdicts[&team].path.clone();
        let change = match kind {
            // Removes somebody above itself, or without being an admin.
            0 => Change {
                remove: vec![target],
                ..Change::default()
            },
            _ => Change::default(),
        };
        if kind > 0 {
            known.tip = path[path.len().saturating_sub(1 + older)];
        }
        session.begin(now).unwrap();
        session.memory.teams.insert(team, known);
        let made = session.make(team, change);
        if made.is_ok() && session.commit().is_ok() {
            Figures::add(&self.figures.lies, 1);
            self.world.peers[at].lies |= kind == 0;
        } else {
            session.roll_back();
            if let Some(team) = session.memory.teams.get_mut(&team) {
                team.tip = honest;
            }
        }
        self.world.drain(at);
    }

    /// All that is promised, after everybody has met.
    fn check(&mut self, seed: u64) {
        self.heal();
        for at in 0..ALL {
            self.world.restart(at);
        }
        self.world.settle();
        let truth = self.world.tip(0).expect("the owner cannot be removed");
        let mut lasting = Vec::new();
        for at in 0..ALL {
            if self.world.peers[at].lies {
                continue;
            }
            let number = self.world.number(at);
            let team = self.world.team_of(at);
            let joined = team
                .as_ref()
                .is_some_and(|one| one.stage == endpoint_secure_api::JoinStage::Joined);
            if !joined {
                continue;
            }
            if truth.devices.contains(&number) {
                let tip = self.world.tip(at).expect("it is in");
                if tip.id != truth.id {
                    self.world.describe(0);
                    self.world.describe(at);
                }
                assert_eq!(tip.id, truth.id, "seed {seed}: {at} is elsewhere");
                assert_eq!(
                    (tip.devices, tip.roles),
                    (truth.devices.clone(), truth.roles.clone())
                );
                lasting.push(at);
            } else {
                Figures::add(&self.figures.removed, 1);
                let stays_out = self
                    .world
                    .tip(at)
                    .is_none_or(|tip| tip.id != truth.id || tip.namespace.is_none());
                assert!(stays_out, "seed {seed}: {at} is out and does not know");
            }
        }
        self.check_texts(seed, &lasting);
        self.count();
    }

    fn check_texts(&mut self, seed: u64, lasting: &[usize]) {
        self.world
            .ask(
                0,
                Command::SetAnnounce {
                    channel: self.world.channel(),
                    on: false,
                },
            )
            .ok();
        self.world.settle();
        assert!(
            self.world.say(0, "after all", 1),
            "seed {seed}: the owner cannot write"
        );
        self.world.settle();
        for at in 0..ALL {
            let texts = self.world.texts(at);
            let read = texts.iter().any(|(text, _)| text == "after all");
            let inside = lasting.contains(&at);
            if !self.world.peers[at].lies {
                assert_eq!(read, inside, "seed {seed}: {at}");
            } else {
                let number = self.world.number(at);
                let still = self
                    .world
                    .tip(0)
                    .is_some_and(|tip| tip.devices.contains(&number));
                assert!(still || !read, "seed {seed}: {at} was removed and reads");
            }
            if !inside || at >= MEMBERS {
                continue;
            }
            for (from, text) in self.said.iter().filter(|(from, _)| lasting.contains(from)) {
                let there = texts.iter().any(|(known, _)| known == text);
                if !there {
                    self.world.describe(*from);
                    self.world.describe(at);
                }
                assert!(there, "seed {seed}: {at} lacks {text:?} of {from}");
            }
        }
        Figures::add(&self.figures.messages, self.said.len());
    }

    fn count(&mut self) {
        let team = self.world.team;
        let session = self.world.peers[0]
            .device
            .as_mut()
            .and_then(|one| one.open_session())
            .unwrap();
        let path = session.memory.verdicts[&team].path.len();
        let states = session.states(team).count();
        Figures::add(&self.figures.commits, states.saturating_sub(1));
        Figures::add(&self.figures.concurrent, states - path);
        for at in 0..ALL {
            let session = self.world.peers[at]
                .device
                .as_mut()
                .and_then(|one| one.open_session())
                .unwrap();
            let again = session
                .memory
                .operations
                .values()
                .map(|one| one.turn.saturating_sub(1));
            Figures::add(&self.figures.reissued, again.sum::<u32>() as usize);
        }
    }
}

fn run(template: &Template, seed: u64, figures: &Figures) {
    let mut run = Run {
        world: template.world(),
        random: Random::new(seed),
        said: Vec::new(),
        joined: BTreeSet::new(),
        figures,
    };
    for _ in 0..12 + run.random.below(16) {
        run.act();
    }
    run.check(seed);
}

#[test]
fn worlds_of_devices_converge() {
    let seeds = std::env::var("TREELINE_SEEDS")
        .ok()
        .and_then(|text| text.parse().ok());
    let first = std::env::var("TREELINE_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let count = seeds.unwrap_or(first.map_or(SEEDS, |_| 1));
    let first = first.unwrap_or(0);
    let template = Template::new(MEMBERS, OTHERS);
    let figures = Figures::default();
    let failed = std::sync::Mutex::new(Vec::new());
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism().map_or(4, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                        run(&template, seed, &figures);
                    }));
                    if outcome.is_err() {
                        failed.lock().unwrap().push(seed);
                    }
                }
            });
        }
    });
    let show = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    println!(
        "{count} worlds: {} commits, {} of them concurrent and lost, {} made again, {} messages, \
         {} removals seen, {} crashes, {} lies",
        show(&figures.commits),
        show(&figures.concurrent),
        show(&figures.reissued),
        show(&figures.messages),
        show(&figures.removed),
        show(&figures.crashes),
        show(&figures.lies),
    );
    let failed = failed.into_inner().unwrap();
    assert!(
        failed.is_empty(),
        "these seeds failed: {failed:?}; TREELINE_SEED=n runs one alone"
    );
    assert!(show(&figures.concurrent) > 0 && show(&figures.reissued) > 0);
}

/// What is killed at each of its writes.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Add,
    Remove,
    Send,
}

#[test]
fn a_kill_at_each_write_of_an_addition_a_removal_and_a_message_tears_nothing() {
    let template = Template::new(4, 1);
    for deed in [Deed::Add, Deed::Remove, Deed::Send] {
        let mut point = 0;
        while killed_at(&template, deed, point) {
            point += 1;
        }
        println!("{deed:?}: killed at each of {point} writes");
        assert!(point > 3);
    }
}

/// Does it with a kill at one of its writes, and looks whether all is well. `false` if it has fewer.
fn killed_at(template: &Template, deed: Deed, point: u32) -> bool {
    let mut world = template.world();
    world.settle();
    let (team, gone) = (world.team, world.number(3));
    let session = world.peers[0]
        .device
        .as_mut()
        .and_then(|one| one.open_session())
        .unwrap();
    session.store.crash_after(point);
    let ask = |world: &mut World| match deed {
        Deed::Add => world.bring_in(0, 4),
        Deed::Remove => {
            world
                .ask(0, Command::RemoveDevice { team, device: gone })
                .ok();
        }
        Deed::Send => {
            world.say(0, "once", 77);
        }
    };
    ask(&mut world);
    for _ in 0..80 {
        world.step(250);
    }
    let killed = world.peers[0].device.is_none();
    if killed {
        world.start(0);
        ask(&mut world);
    } else if let Some(session) = world.peers[0]
        .device
        .as_mut()
        .and_then(|one| one.open_session())
    {
        session.store.crash_never();
    }
    world.settle();
    let before = template.world().tip(0).unwrap().epoch;
    check_deed(&mut world, deed, point, before);
    killed
}

/// It was done once, all are in the same state, and nothing is torn.
fn check_deed(world: &mut World, deed: Deed, point: u32, before: u64) {
    let truth = world.tip(0).unwrap();
    let (devices, epochs) = match deed {
        Deed::Add => (5, 1),
        Deed::Remove => (3, 1),
        Deed::Send => (4, 0),
    };
    assert_eq!(truth.devices.len(), devices, "{deed:?} at {point}");
    assert_eq!(
        truth.epoch,
        before + epochs,
        "{deed:?} at {point}: done twice, or torn"
    );
    for at in 0..5 {
        let number = world.number(at);
        let inside = world.team_of(at).is_some() && truth.devices.contains(&number);
        if inside && world.tip(at).is_some() {
            assert_eq!(
                world.tip(at).unwrap().id,
                truth.id,
                "{deed:?} at {point}: {at}"
            );
            assert!(world.say(at, &format!("from {at}"), 5));
        }
    }
    world.settle();
    for at in [0, 1, 2] {
        let texts = world.texts(at);
        let once = texts.iter().filter(|(text, _)| text == "once").count();
        assert_eq!(
            once,
            usize::from(matches!(deed, Deed::Send)),
            "{deed:?} at {point}: {at}"
        );
        assert!(
            texts.iter().all(|(_, gap)| !gap),
            "{deed:?} at {point}: {at}"
        );
        assert!(texts.iter().any(|(text, _)| text == "from 1"));
    }
    let answer = world.ask(0, Command::Connectivity).unwrap();
    let Answer::Connectivity(state) = answer else {
        panic!("no connectivity");
    };
    assert_eq!(state.queued, 0, "{deed:?} at {point}");
}
