//! Numbers, prefixes and keys as people read and type them (docs/protocol.md, "Text form").

use thiserror::Error;

/// Why a text is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TextError {
    /// It does not begin as it should.
    #[error("it must begin with {0}")]
    Beginning(&'static str),
    /// A part is not what stands at its place.
    #[error("{found:?} stands where {expected} belongs")]
    Part {
        /// What was read.
        found: String,
        /// What belongs there.
        expected: &'static str,
    },
    /// A number does not fit its field.
    #[error("{0} does not fit its field")]
    TooLarge(u64),
}

/// Lower-case hex digits.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// Exactly `2 N` hex digits of either case.
pub(crate) fn from_hex<const N: usize>(hex: &str) -> Option<[u8; N]> {
    data_encoding::HEXLOWER_PERMISSIVE
        .decode(hex.as_bytes())
        .ok()?
        .try_into()
        .ok()
}
