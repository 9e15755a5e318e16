//! Finding relays with real processes: parents, a real DNS server, a real mDNS responder.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod dns;
mod mdns;
mod parents;
mod process;
