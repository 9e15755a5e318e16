//! What the suites share. Each suite is a folder beside this one; see docs/architecture.md.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod process;
