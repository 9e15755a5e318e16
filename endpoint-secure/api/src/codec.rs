//! How commands, answers and events stand on the pipe.
//!
//! `length u32 | kind u8 | id u64 | body`, big-endian; length counts what follows it, 9 to
//! [`FRAME_LIMIT`]. The body is JSON, so that an answer can be handed to a web view unparsed
//! (docs/decisions/0003). Ids are chosen by the asker and come back with the answer; an event's id
//! is 0.

use std::io::{self, Read, Write};

use serde::{Serialize, de::DeserializeOwned};
use thiserror::Error;

/// The longest frame after its length field, in bytes: a page of 240 messages of 64 KiB of text
/// does not fit, and Secure cuts such a page short.
pub const FRAME_LIMIT: usize = 4 * 1024 * 1024;

const HEAD: usize = 9;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Front end to Secure: a command.
    Command = 1,
    /// Secure to front end: the answer to the command with this id.
    Answer = 2,
    /// Secure to front end: the command with this id was refused.
    Refusal = 3,
    /// Secure to front end: an event.
    Event = 4,
}

/// One frame, its body still JSON text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the body is.
    pub kind: Kind,
    /// Ties an answer to its command.
    pub id: u64,
    /// JSON text.
    pub body: String,
}

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
pub enum CodecError {
    /// The pipe ended or failed.
    #[error("the pipe failed: {0}")]
    Pipe(#[from] io::Error),
    /// The length field is below 9 or above [`FRAME_LIMIT`].
    #[error("a frame of {0} bytes is outside 9 to {FRAME_LIMIT}")]
    Length(usize),
    /// The kind is not one this side accepts.
    #[error("a frame of unknown kind {0}")]
    Kind(u8),
    /// The body is not UTF-8 or not the JSON of its type.
    #[error("a frame's body cannot be read")]
    Body,
}

impl Frame {
    /// Makes a frame of a value.
    ///
    /// # Errors
    /// [`CodecError::Length`] if its JSON is longer than [`FRAME_LIMIT`].
    pub fn of<T: Serialize>(kind: Kind, id: u64, value: &T) -> Result<Self, CodecError> {
        let body = serde_json::to_string(value).map_err(|_| CodecError::Body)?;
        if body.len() + HEAD > FRAME_LIMIT {
            return Err(CodecError::Length(body.len() + HEAD));
        }
        Ok(Self { kind, id, body })
    }

    /// Reads the body as a value.
    ///
    /// # Errors
    /// [`CodecError::Body`] if it is not the JSON of a `T`.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, CodecError> {
        serde_json::from_str(&self.body).map_err(|_| CodecError::Body)
    }

    /// Writes the frame in one call.
    ///
    /// # Errors
    /// [`CodecError::Pipe`].
    pub fn write(&self, out: &mut impl Write) -> Result<(), CodecError> {
        let length = HEAD + self.body.len();
        let mut bytes = Vec::with_capacity(4 + length);
        bytes.extend_from_slice(&(length as u32).to_be_bytes());
        bytes.push(self.kind as u8);
        bytes.extend_from_slice(&self.id.to_be_bytes());
        bytes.extend_from_slice(self.body.as_bytes());
        out.write_all(&bytes)?;
        out.flush()?;
        Ok(())
    }

    /// Reads one frame, blocking. `None` at the end of the pipe.
    ///
    /// # Errors
    /// All of [`CodecError`]; the pipe is of no use afterwards.
    pub fn read(input: &mut impl Read) -> Result<Option<Self>, CodecError> {
        let mut length = [0; 4];
        match input.read_exact(&mut length) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(e.into()),
        }
        let length = u32::from_be_bytes(length) as usize;
        if !(HEAD..=FRAME_LIMIT).contains(&length) {
            return Err(CodecError::Length(length));
        }
        let mut bytes = vec![0; length];
        input.read_exact(&mut bytes)?;
        let kind = match bytes[0] {
            1 => Kind::Command,
            2 => Kind::Answer,
            3 => Kind::Refusal,
            4 => Kind::Event,
            other => return Err(CodecError::Kind(other)),
        };
        let mut id = [0; 8];
        id.copy_from_slice(&bytes[1..HEAD]);
        let body = String::from_utf8(bytes.split_off(HEAD)).map_err(|_| CodecError::Body)?;
        Ok(Some(Self {
            kind,
            id: u64::from_be_bytes(id),
            body,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Command;

    #[test]
    fn a_frame_comes_back() {
        let frame = Frame::of(Kind::Command, 7, &Command::Teams).unwrap();
        let mut bytes = Vec::new();
        frame.write(&mut bytes).unwrap();
        let back = Frame::read(&mut bytes.as_slice()).unwrap().unwrap();
        assert_eq!(back, frame);
        assert_eq!(back.parse::<Command>().unwrap(), Command::Teams);
    }

    #[test]
    fn a_length_outside_the_limits_is_refused_before_memory_is_taken() {
        for length in [0u32, 8, FRAME_LIMIT as u32 + 1, u32::MAX] {
            let error = Frame::read(&mut length.to_be_bytes().as_slice()).unwrap_err();
            assert!(matches!(error, CodecError::Length(_)), "{error}");
        }
    }

    #[test]
    fn a_cut_frame_is_an_error_and_an_end_between_frames_is_not() {
        let mut bytes = Vec::new();
        Frame::of(Kind::Command, 7, &Command::Teams)
            .unwrap()
            .write(&mut bytes)
            .unwrap();
        assert!(Frame::read(&mut &bytes[..bytes.len() - 1]).is_err());
        assert!(Frame::read(&mut &bytes[..0]).unwrap().is_none());
    }

    #[test]
    fn an_unknown_kind_and_a_body_that_is_not_text_are_refused() {
        let mut bytes = Vec::new();
        Frame::of(Kind::Command, 7, &Command::Teams)
            .unwrap()
            .write(&mut bytes)
            .unwrap();
        let mut kind = bytes.clone();
        kind[4] = 9;
        assert!(matches!(
            Frame::read(&mut kind.as_slice()),
            Err(CodecError::Kind(9))
        ));
        bytes[14] = 0xff;
        assert!(matches!(
            Frame::read(&mut bytes.as_slice()),
            Err(CodecError::Body)
        ));
    }
}
