//! The Secure process: keys and plaintext of one device.
//!
//! [`device::Device`] is a state machine: one event is one transaction, and its effects leave after
//! the commit. There is no socket and no async runtime in here; `main.rs` is the shell around it.
//! Source: docs/architecture.md.

mod admission;
mod anew;
mod branch;
mod commit;
pub mod device;
mod direct;
mod evidence;
mod fault;
mod feed;
mod group;
mod history;
mod hold;
mod invite;
mod issued;
mod join;
mod lan_only;
mod link;
pub mod lock;
mod locking;
pub mod measure;
mod message;
mod naming;
mod operation;
mod orgs;
mod outbox;
mod pending;
mod relays;
mod roles;
mod seen;
pub mod shell;
#[cfg(test)]
mod simulation;
mod standing;
mod states;
mod store;
mod team;
mod waiting;
