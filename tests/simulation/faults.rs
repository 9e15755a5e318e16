//! What goes wrong, and how it is mended.

use crate::plan::Fault;
use crate::wires::End;
use crate::world::{What, World};

impl World {
    pub fn strike(&mut self, fault: Fault) {
        *self.tally.faults.entry(fault).or_default() += 1;
        let host = self.chance.index(self.hosts.len());
        let lan = self.hosts[host].site;
        self.story(|| format!("{fault:?} may hit host {host} in site {lan}"));
        match fault {
            Fault::CutLink => {
                let live = (0..self.wires.len()).filter(|wire| {
                    self.wires[*wire].alive == [true; 2]
                        && matches!(self.wires[*wire].ends[0], End::Host(..))
                });
                let live: Vec<usize> = live.collect();
                if !live.is_empty() {
                    let wire = self.chance.pick(&live);
                    self.cut(wire);
                }
            }
            Fault::CutLan if lan > 0 => {
                self.cut_lans.insert(lan);
                self.part();
                self.mend_later(fault, lan);
            }
            Fault::SplitLan if lan > 0 => {
                self.split_lans.insert(lan);
                self.part();
                self.mend_later(fault, lan);
            }
            Fault::Crash => self.crash(host),
            Fault::CrashInCommit => self.doom(host),
            Fault::DiskFull | Fault::DiskFailing => {
                if let Some(disk) = self.hosts[host].disk() {
                    disk.full |= fault == Fault::DiskFull;
                    disk.failing |= fault == Fault::DiskFailing;
                    self.mend_later(fault, host);
                }
            }
            Fault::ClockJump => {
                let skew = self.chance.between(0, 1_200_000).cast_signed() - 600_000;
                // Whoever sleeps goes on sleeping for as long as it meant to.
                self.hosts[host].skew_ms = skew;
            }
            Fault::SlowReader => {
                let client = self.chance.index(self.clients.len());
                self.clients[client].slow = true;
                self.mend_later(fault, client);
            }
            Fault::ClientGone => {
                let client = self.chance.index(self.clients.len());
                if let Some(wire) = self.clients[client].wire {
                    self.client_lost(client);
                    self.finish(wire, 0);
                }
            }
            Fault::OtherParent => self.move_to_other_parent(host),
            Fault::CutLan | Fault::SplitLan => {}
        }
    }

    fn mend_later(&mut self, fault: Fault, whom: usize) {
        let at = self.now + self.chance.between(500, 30_000);
        self.schedule(at, What::Mend(fault, whom));
    }

    pub fn mend(&mut self, fault: Fault, whom: usize) {
        match fault {
            // An island stays one until all is healed.
            Fault::CutLan if !self.plan.island => {
                self.cut_lans.remove(&whom);
            }
            Fault::SplitLan if !self.plan.island => {
                self.split_lans.remove(&whom);
            }
            Fault::DiskFull | Fault::DiskFailing => {
                if let Some(disk) = self.hosts[whom].disk() {
                    (disk.full, disk.failing) = (false, false);
                }
            }
            Fault::SlowReader => {
                self.clients[whom].slow = false;
                if let Some(wire) = self.clients[whom].wire {
                    self.read(wire, 0);
                }
            }
            _ => {}
        }
    }

    /// A shell that thinks better of its parent: the new one replaces the old one.
    fn move_to_other_parent(&mut self, host: usize) {
        let own = &self.hosts[host];
        let others: Vec<usize> = own
            .parents
            .iter()
            .copied()
            .filter(|parent| {
                self.hosts[*parent].node.is_some()
                    && self.reachable(host, *parent)
                    && own.parent.is_none_or(|(current, _)| current != *parent)
            })
            .collect();
        if own.node.is_some() && !others.is_empty() {
            let parent = self.chance.pick(&others);
            self.join(host, parent);
        }
    }
}
