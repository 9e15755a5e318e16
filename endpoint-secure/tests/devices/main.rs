//! Whole devices against each other, in one process, with a hub in the place of the network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod anew;
mod backlog;
mod chat;
mod disturbed;
mod groups;
mod hub;
mod joining;
mod link;
mod locked;
mod orgs;
mod turns;
