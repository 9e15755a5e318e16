//! The stores that survive a power cut. The words they answer to are `relay_core::Store`; the one in
//! memory, for simulations, is there too.

pub mod sqlite;
