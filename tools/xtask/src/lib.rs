//! What `cargo xtask` is made of: a tree of relays, people with profiles, processes that are started
//! again when something kills them. `tests/processes` drives the same pieces.
//!
//! Nothing here is part of the product, and nothing here imports it: everything is done through the
//! product's own binaries.

use std::path::PathBuf;

pub mod conversation;
pub mod people;
pub mod process;
pub mod run;
mod setup;
pub mod suites;
pub mod tree;
mod windows;

/// The project's root.
pub fn root() -> PathBuf {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    own.ancestors()
        .nth(2)
        .map_or_else(|| PathBuf::from("."), PathBuf::from)
}
