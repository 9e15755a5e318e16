//! The real binaries: relays, Secure, Net and the command lines, started as a user would, killed as
//! a power cut would.

mod bad_input;
mod main_job;
mod outsider;
mod restore;
mod scene;
mod words;
