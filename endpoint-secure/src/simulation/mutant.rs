//! Faults that are planted on purpose: each has to be caught, or the checks cannot fail.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Figures, MEMBERS, OTHERS, Run, Template, branches};
use crate::fault::{Fault, plant};

/// A fault is caught within so many seeds.
const SEEDS: u64 = 400;

/// What is wrong in a world.
#[derive(Debug, Clone, Copy)]
enum Mutant {
    /// All devices do something wrong.
    Device(Fault),
    /// A relay keeps a message from somebody for ever.
    ChunkLost,
    /// A device that is killed is started from an earlier copy of its disk.
    DiskRestored,
}

const MUTANTS: [Mutant; 9] = [
    Mutant::Device(Fault::RolesUnchecked),
    Mutant::Device(Fault::ChangesLost),
    Mutant::Device(Fault::SecretsForgotten),
    Mutant::Device(Fault::NobodyRemoved),
    Mutant::Device(Fault::NobodyWelcomedAgain),
    Mutant::Device(Fault::VoicesUnheard),
    Mutant::Device(Fault::FencesOpen),
    Mutant::ChunkLost,
    Mutant::DiskRestored,
];

/// The one course of events that shows a fault which drawn worlds meet too seldom.
fn course(mutant: Mutant) -> Option<fn()> {
    match mutant {
        Mutant::Device(Fault::NobodyWelcomedAgain) => Some(branches::somebody_is_welcomed_again),
        Mutant::Device(Fault::VoicesUnheard) => Some(branches::voices_decide),
        Mutant::Device(Fault::FencesOpen) => Some(branches::all_show_the_same),
        _ => None,
    }
}

fn is_caught(template: &Template, mutant: Mutant, seed: u64) -> bool {
    let figures = Figures::default();
    plant(match mutant {
        Mutant::Device(fault) => Some(fault),
        _ => None,
    });
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        if let Some(course) = course(mutant) {
            return course();
        }
        let mut run = Run::new(template, seed, &figures);
        run.world.loses_chunks = matches!(mutant, Mutant::ChunkLost);
        run.world.restores_disks = matches!(mutant, Mutant::DiskRestored);
        run.live(seed);
    }));
    plant(None);
    outcome.is_err()
}

#[test]
fn every_planted_fault_is_caught() {
    let template = Template::new(MEMBERS, OTHERS);
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(4, usize::from);
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let mut caught = Vec::new();
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed) as usize;
                        let Some(mutant) = MUTANTS.get(at) else {
                            return caught;
                        };
                        let seed = (0..SEEDS).find(|seed| is_caught(&template, *mutant, *seed));
                        caught.push((*mutant, seed));
                    }
                })
            })
            .collect();
        let caught: Vec<_> = all
            .into_iter()
            .flat_map(|one| one.join().unwrap())
            .collect();
        for (mutant, seed) in &caught {
            println!("{mutant:?}: caught by seed {seed:?}");
        }
        assert!(
            caught.iter().all(|(_, seed)| seed.is_some()),
            "a planted fault was not caught"
        );
    });
}
