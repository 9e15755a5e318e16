//! The house rules of docs/architecture.md as tests: who may import whom, which crates may not be
//! reached from where, what files and modules may look like. They read `cargo tree` and the sources,
//! so that they hold transitively and without review.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod imports;
mod sources;
