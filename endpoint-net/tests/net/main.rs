//! treeline-net with real pipes, real relays and real networks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod lan;
mod pipe;
mod process;
