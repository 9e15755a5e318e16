//! The real binaries: relays, Secure, Net and the command lines, started as a user would, killed as
//! a power cut would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alone;
mod bad_input;
mod client;
mod full_disk;
mod main_job;
mod outsider;
mod owner;
mod restore;
mod scene;
mod taken_over;
mod words;
