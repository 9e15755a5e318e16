//! The door of the Secure process: what a front end may ask ([`Command`]), what it is answered
//! ([`Answer`] or [`Refusal`]) and what it is told unasked ([`Event`]).
//!
//! Plain types and their encoding, and one blocking [`door::Door`] over any reader and writer. It
//! imports nothing of ours and knows no key, no chunk and no relay frame: whoever holds this crate
//! can show a conversation, and cannot decrypt or send one by itself.

#![forbid(unsafe_code)]

pub mod codec;
mod command;
pub mod control;
pub mod door;
mod event;
pub mod owner;
mod text;
mod types;
#[cfg(test)]
mod typescript;

pub use command::{Answer, Code, Command, Refusal};
pub use event::Event;
pub use text::Passphrase;
pub use types::{
    Anchor, Channel, ChannelId, Connectivity, Delivery, Device, Earlier, Fate, Invite, Issued,
    JoinStage, Lock, LockCause, Locking, Message, MessageId, Organisation, Page, Preview, Profile,
    Reach, Relay, Request, Role, Standing, Status, Suite, Team, TeamId,
};
