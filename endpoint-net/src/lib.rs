//! endpoint-net: the smallest relay. The same node, driver, store and QUIC as `relay`; its downstream is
//! the Secure process, over an inherited pipe. It listens only where it serves its local network: while no
//! relay is configured, or where a person says so.
//!
//! It holds no plaintext and no key but its own for TLS, and it imports nothing that could make sense
//! of a chunk: whoever takes it over can withhold and watch, nothing else.

pub mod config;
pub mod control;
pub mod net;
