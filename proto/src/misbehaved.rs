//! The ways in which a peer can break the protocol. Each closes the link, and is no error of ours.

use thiserror::Error;

use crate::DecodeError;

/// What a peer did (docs/protocol.md, "Misbehaviour"). The link is closed and the reason counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Error)]
pub enum Misbehaved {
    /// The bytes are not a frame.
    #[error("sent bytes that are not a frame")]
    MalformedFrame,
    /// The frame is longer than the limit.
    #[error("sent a frame above the limit")]
    FrameTooLong,
    /// The first frame was not HELLO, or a second HELLO came.
    #[error("did not begin with one HELLO")]
    HelloMisplaced,
    /// No version in common.
    #[error("speaks no version that we speak")]
    NoCommonVersion,
    /// A signature that does not verify.
    #[error("sent a chunk with a bad signature")]
    BadSignature,
    /// A frame that only the other role may send.
    #[error("sent a frame that its role does not allow")]
    NotAllowed,
    /// More subscriptions, fetches or unacknowledged chunks than were agreed.
    #[error("went over an agreed limit")]
    OverLimit,
    /// A prefix shorter than the relay, or the organisation's grant, allows.
    #[error("asked for a prefix that is shorter than this relay or the organisation allows")]
    PrefixTooShort,
    /// A subscription id that is already in use.
    #[error("used a subscription id twice")]
    IdReused,
    /// An answer of RECONCILE to another question than ours.
    #[error("answered what was not asked")]
    NotAsked,
}

impl From<DecodeError> for Misbehaved {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::TooLong => Self::FrameTooLong,
            _ => Self::MalformedFrame,
        }
    }
}
