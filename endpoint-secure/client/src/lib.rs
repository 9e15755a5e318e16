//! Starts treeline-secure and treeline-net for one profile, wires their pipes, starts again what dies,
//! and gives a front end one handle: [`Endpoint`].
//!
//! The desktop's launcher uses [`Starter`] alone and hands each new door to the window's process. A
//! terminal client uses [`Endpoint`] alone, whose starter is the program of this package.
//! Nothing here reads a chunk, a key or a database; threads, no async runtime.

#![forbid(unsafe_code)]
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod endpoint;
pub mod naming;
pub mod output;
mod profile;
mod starter;
pub mod terminal;

pub use endpoint::Endpoint;
pub use profile::{ProfileLock, default_directory};
pub use starter::{FrontEnd, StartError, Starter, Window};
