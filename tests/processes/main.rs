//! The real binaries: relays, Secure, Net and the command lines, started as a user would, killed as
//! a power cut would.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod alone;
mod apart;
mod bad_input;
mod client;
mod copies;
mod damage;
mod doctor;
mod full_disk;
mod hygiene;
mod keyring;
mod kills;
mod laptops;
mod machine;
mod main_job;
mod moves;
mod narrow;
mod network;
mod outsider;
mod owner;
mod page;
mod parts;
mod passphrase;
mod restore;
mod scene;
mod starter;
mod taken_over;
mod terminal;
mod trust;
mod words;

/// As treeline-secure has it: a test that looks into memory runs Secure's code in this program.
#[global_allocator]
static MEMORY: zeroizing_alloc::ZeroAlloc<std::alloc::System> =
    zeroizing_alloc::ZeroAlloc(std::alloc::System);
