//! The words of the relay tree: names, prefixes, patterns, chunks, grants, frames, and their one
//! encoding. docs/protocol.md is the specification; section numbers in the module docs refer to it.
//!
//! Everything here is a value or a pure function. There is no I/O, no clock, no randomness and no
//! async: time and seeds are arguments. Nothing here knows plaintext or MLS.

#![forbid(unsafe_code)]

mod chunk;
mod codec;
mod fragment;
mod frame;
mod grant;
mod key;
pub mod limits;
mod misbehaved;
mod name;
mod path;
mod pattern;
mod prefix;
mod reconcile;
mod record;
mod registration;
mod revocation;
mod text;
mod time;
mod verify;
pub mod words;

pub use chunk::{Chunk, ChunkError};
pub use codec::DecodeError;
pub use fragment::{FragmentError, Join, Joined, split, split_with_key};
pub use frame::{Cursor, Frame, FrameDecoder, Hello, Order, Outcome, Refused, Start, Tier};
pub use grant::{Grant, GrantError, GrantId, Limits, Rule, Verbs};
pub use key::{Fingerprint, PublicKey, Signer};
pub use misbehaved::Misbehaved;
pub use name::Name;
pub use path::{Fields, OriginId, Path, Place};
pub use pattern::Pattern;
pub use prefix::{Prefix, PrefixError};
pub use reconcile::{Holds, Listed, Part, Reconcile, Span, Splitter, Summary};
pub use record::RelayRecord;
pub use registration::{Registration, RegistrationError};
pub use revocation::Revocation;
pub use text::TextError;
pub use time::Timestamp;
pub use verify::first_unsigned;
