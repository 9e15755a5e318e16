//! What came to pass in simulated worlds, for the one line that sums it up.

use std::collections::BTreeMap;
use std::fmt;

use crate::plan::Fault;

#[derive(Debug, Clone, Default)]
pub struct Tally {
    pub chunks: u64,
    pub deliveries: u64,
    /// Chunks that somebody published again.
    pub duplicates: u64,
    /// Junk of a squatter.
    pub squats: u64,
    /// Publications that a hostile relay acknowledged and threw away.
    pub lies: u64,
    /// Chunks that a hostile relay did not pass on.
    pub withheld: u64,
    pub faults: BTreeMap<Fault, u64>,
}

impl Tally {
    pub fn add(&mut self, other: &Self) {
        self.chunks += other.chunks;
        self.deliveries += other.deliveries;
        self.duplicates += other.duplicates;
        self.squats += other.squats;
        self.lies += other.lies;
        self.withheld += other.withheld;
        for (fault, count) in &other.faults {
            *self.faults.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} chunks, {} deliveries", self.chunks, self.deliveries)?;
        let rest = [
            ("Duplicate", self.duplicates),
            ("Squat", self.squats),
            ("Lie", self.lies),
            ("Withheld", self.withheld),
        ];
        rest.iter()
            .try_for_each(|(name, count)| write!(f, ", {name} {count}"))?;
        let mut faults = self.faults.iter();
        faults.try_for_each(|(fault, count)| write!(f, ", {fault:?} {count}"))
    }
}
