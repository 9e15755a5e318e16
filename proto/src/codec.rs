//! Reading and writing of big-endian fields. A reader never reads past its end, and a value is
//! complete only when the reader is empty: exactly one encoding for a value.

use bytes::Bytes;
use thiserror::Error;

/// Why bytes are not the encoding of a value (docs/protocol.md, "Errors").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the bytes end too early")]
    Truncated,
    /// Bytes are left after the value.
    #[error("bytes are left after the value")]
    Trailing,
    /// A length or count is above its limit.
    #[error("a length is above its limit")]
    TooLong,
    /// A field has a value that this version does not define.
    #[error("a field has an undefined value")]
    Undefined,
    /// The version is not 1.
    #[error("version {0} is not known")]
    Version(u8),
    /// A value has a second encoding, and this is it.
    #[error("the encoding is not the canonical one")]
    NotCanonical,
}

/// Bytes of 128 bits at seven a byte.
const VARINT_BYTES: usize = 19;

/// Takes fields from the front of some bytes without copying them.
pub(crate) struct Reader(Bytes);

impl Reader {
    pub(crate) fn new(bytes: Bytes) -> Self {
        Self(bytes)
    }

    pub(crate) fn take(&mut self, count: usize) -> Result<Bytes, DecodeError> {
        if self.0.len() < count {
            return Err(DecodeError::Truncated);
        }
        Ok(self.0.split_to(count))
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(&self.take(N)?);
        Ok(array)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Six bytes.
    pub(crate) fn u48(&mut self) -> Result<u64, DecodeError> {
        let mut array = [0; 8];
        array[2..].copy_from_slice(&self.array::<6>()?);
        Ok(u64::from_be_bytes(array))
    }

    pub(crate) fn u128(&mut self) -> Result<u128, DecodeError> {
        Ok(u128::from_be_bytes(self.array()?))
    }

    /// A number of seven bits a byte, lowest first; the highest bit says that more follow. The last
    /// byte is zero only in the encoding of zero.
    pub(crate) fn varint(&mut self) -> Result<u128, DecodeError> {
        let mut value = 0u128;
        for shift in (0..).step_by(7).take(VARINT_BYTES) {
            let byte = self.u8()?;
            let bits = u128::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(DecodeError::Undefined);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let shortest = byte != 0 || shift == 0;
                return shortest.then_some(value).ok_or(DecodeError::NotCanonical);
            }
        }
        Err(DecodeError::Undefined)
    }

    /// A count of two bytes, refused above its limit before anything is allocated.
    pub(crate) fn count(&mut self, limit: usize) -> Result<usize, DecodeError> {
        let count = usize::from(self.u16()?);
        if count > limit {
            Err(DecodeError::TooLong)
        } else {
            Ok(count)
        }
    }

    /// A text of one length byte.
    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        let length = usize::from(self.u8()?);
        String::from_utf8(self.take(length)?.to_vec()).map_err(|_| DecodeError::NotCanonical)
    }

    pub(crate) fn rest(&mut self) -> Bytes {
        self.0.split_off(0)
    }

    pub(crate) fn end(self) -> Result<(), DecodeError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::Trailing)
        }
    }
}

/// Appends a number of seven bits a byte, in its shortest form.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u128) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends the low six bytes of a number.
pub(crate) fn put_u48(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes()[2..]);
}

/// Appends a text of at most 255 bytes behind its length, cut at a character boundary.
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(crate::limits::TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    out.push(end as u8);
    out.extend_from_slice(&text.as_bytes()[..end]);
}
