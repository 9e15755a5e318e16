//! The relay: everything around `relay_core::Node` that touches the world. The store on disk, TLS
//! with raw keys, QUIC, the one loop that drives the node, the configuration, and a client for tools.
//!
//! It decides nothing about chunks: that is the node's. It knows no plaintext and no MLS.

pub mod address;
pub mod admin;
pub mod client;
pub mod commands;
pub mod config;
pub mod discovery;
pub mod driver;
pub mod link;
pub mod metrics;
pub mod notify;
pub mod organisations;
pub mod parents;
pub mod pins;
pub mod relay;
pub mod status;
pub mod store;
pub mod tls;
