//! What an operator does with real relay processes: status, health, metrics, reload, drain, service
//! manager, a damaged store, a store that is moved.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod configuration;
mod diagnosis;
mod life;
mod process;
mod storage;
mod watching;
