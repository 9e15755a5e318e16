//! One node of the tree as a pure state machine: [`Event`] in, [`Effect`] out (docs/protocol.md).
//!
//! There is no clock, no randomness, no socket and no thread here: time is an argument, the store is
//! handed in, and ordered maps make a run replay exactly. The relay, endpoint-net and the simulation
//! all drive the same [`Node`].

#![forbid(unsafe_code)]

mod node;
pub mod store;

pub use node::{
    Closed, Config, Counters, Effect, Event, Limits, LinkId, Node, Note, ParentSnapshot, Retention,
    Role, Snapshot,
};
