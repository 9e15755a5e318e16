//! The desktop application as people use it: real windows under Xvfb, steered by WebDriver, over a
//! real tree of relays. Every picture goes to `target/screenshots`, to be looked at.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod chat;
mod confined;
mod desk;
mod lock;
mod newcomer;
