//! What the two ends of a link say to each other (docs/protocol.md, "Frames").
//!
//! `type u8 | length u32 | body`. One bidirectional stream carries all frames of a link, in order.

use bytes::{Buf, Bytes, BytesMut};

use crate::codec::{DecodeError, Reader, put_text, put_u48};
use crate::limits::{
    ACKS_PER_FRAME, CHUNKS_PER_FRAME, CURSOR_BYTES, FRAME_BODY_BYTES, FRAME_HEAD_BYTES,
    GRANT_CHAIN, NAMES_PER_FETCH,
};
use crate::{Chunk, Misbehaved, Name, Prefix, Reconcile, Timestamp};

/// How far from a device a node stands in the tree. Ordered: later is farther.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Tier {
    /// endpoint-net on the device itself.
    Device = 0,
    /// A relay on the local network.
    Local = 1,
    /// A relay in the cloud.
    Cloud = 2,
    /// The root.
    Origin = 3,
}

impl Tier {
    /// The tier of a number.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Device,
            1 => Self::Local,
            2 => Self::Cloud,
            3 => Self::Origin,
            _ => return None,
        })
    }

    /// The word in configurations and outputs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Local => "local",
            Self::Cloud => "cloud",
            Self::Origin => "origin",
        }
    }
}

/// A place in a store's order, made by that store and opaque to everybody else: at most 160 bytes.
/// To another store it means the beginning.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cursor(Bytes);

impl Cursor {
    /// Wraps a store's bytes; `None` for more than 160.
    pub fn new(bytes: impl Into<Bytes>) -> Option<Self> {
        let bytes = bytes.into();
        (bytes.len() <= CURSOR_BYTES).then_some(Self(bytes))
    }

    /// The store's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// The first frame of either side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version spoken.
    pub oldest: u16,
    /// The newest version spoken.
    pub newest: u16,
    /// Optional abilities, as bits: [`Hello::FEATURES`]; unknown ones mean nothing.
    pub features: u64,
    /// Where in the tree the sender stands.
    pub tier: Tier,
    /// The sender's clock.
    pub time: Timestamp,
    /// Names the sender's store; a cursor is of use only to the store that made it.
    pub store: [u8; 16],
}

impl Hello {
    /// The oldest version that this code speaks.
    pub const OLDEST: u16 = 1;
    /// The newest version that this code speaks.
    pub const VERSION: u16 = 1;
    /// The feature of answering RECONCILE.
    pub const RECONCILES: u64 = 1;
    /// The feature of a sender that can be reached over QUIC, or could if it listened.
    pub const QUIC: u64 = 2;
    /// The same for TLS over TCP, on the same port number.
    pub const TCP: u64 = 4;
    /// All transports.
    pub const TRANSPORTS: u64 = Self::QUIC | Self::TCP;
    /// All features of a node.
    pub const FEATURES: u64 = Self::RECONCILES | Self::TRANSPORTS;

    /// The version in force on a link whose peer says this to us: the newest that both speak.
    pub fn version_in_force(&self) -> Option<u16> {
        let newest = self.newest.min(Self::VERSION);
        (newest >= self.oldest && newest >= Self::OLDEST).then_some(newest)
    }
}

/// Where a subscription begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// With everything that the store has.
    All,
    /// With so many newest chunks.
    Newest(u32),
    /// Behind a cursor of this store.
    After(Cursor),
}

/// The order of a subscription's backlog.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// As stored, oldest first.
    OldestFirst,
    /// Newest first.
    NewestFirst,
}

/// Why a chunk was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Refused {
    /// The receiver does not have the chunk's grant: send it, then the chunk again.
    #[error("its grant is not known here")]
    NoGrant = 1,
    /// The grant does not allow this name.
    #[error("its grant does not allow this name")]
    OutsideGrant = 2,
    /// The grant's time is over.
    #[error("its grant has expired")]
    GrantExpired = 3,
    /// The signature is not the subject's.
    #[error("its signature is bad")]
    BadSignature = 4,
    /// It has expired.
    #[error("it has expired")]
    Expired = 5,
    /// It wants to live longer than it may.
    #[error("it wants to be kept longer than its grant allows")]
    TooLongLived = 6,
    /// Other bytes stand under this name.
    #[error("other bytes already stand under its name")]
    Conflict = 7,
    /// The disk is full.
    #[error("the relay's disk is full")]
    StoreFull = 8,
    /// A quota is used up.
    #[error("a quota is used up")]
    Quota = 9,
    /// The receiver does not serve this origin.
    #[error("the relay does not serve its origin")]
    UnknownOrigin = 10,
    /// A grant that does not verify.
    #[error("its grant does not verify")]
    BadGrant = 11,
}

impl Refused {
    const ALL: [Self; 11] = [
        Self::NoGrant,
        Self::OutsideGrant,
        Self::GrantExpired,
        Self::BadSignature,
        Self::Expired,
        Self::TooLongLived,
        Self::Conflict,
        Self::StoreFull,
        Self::Quota,
        Self::UnknownOrigin,
        Self::BadGrant,
    ];

    /// Whether the same chunk may be accepted at another time.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::NoGrant | Self::StoreFull | Self::Quota)
    }
}

/// What became of a published chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is on disk at this tier.
    Stored(Tier),
    /// It was refused at the node that answers, or at one above it.
    Refused(Refused),
}

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Both, first: who I am.
    Hello(Hello),
    /// Both: a chain of grant chunks, the origin's first, that later chunks rely on.
    Grant(Vec<Chunk>),
    /// Downstream to upstream: store these.
    Publish(Vec<Chunk>),
    /// Upstream to downstream: what became of them.
    Ack(Vec<(Name, Outcome)>),
    /// Downstream to upstream: every chunk under a prefix, existing and future.
    Subscribe {
        /// Chosen by the asker, not in use on this link.
        id: u32,
        /// Which chunks.
        prefix: Prefix,
        /// Where to begin.
        start: Start,
        /// The order of the backlog.
        order: Order,
    },
    /// Upstream to downstream: chunks of a subscription or a fetch.
    Chunks {
        /// Which.
        id: u32,
        /// At most 32.
        chunks: Vec<Chunk>,
    },
    /// Upstream to downstream: everything up to the cursor has been sent. Comes after the backlog,
    /// again after later chunks, and once at the end of a fetch.
    CaughtUp {
        /// Which.
        id: u32,
        /// Where to resume.
        cursor: Cursor,
        /// False while more of the backlog follows.
        live: bool,
    },
    /// Downstream to upstream: no more of this.
    Unsubscribe {
        /// Which.
        id: u32,
    },
    /// Downstream to upstream: these chunks, once.
    Fetch {
        /// Chosen by the asker, not in use on this link.
        id: u32,
        /// At most 512.
        names: Vec<Name>,
    },
    /// Both: what lies in spans of names, and what of it is wanted.
    Reconcile(Reconcile),
    /// Upstream to downstream: the farthest tier that I am connected to now.
    Reach {
        /// The tier; my own when nothing is above me.
        tier: Tier,
        /// The address of the relay above me, or empty.
        relay: String,
    },
    /// Both, last: why I leave.
    Close {
        /// One line.
        reason: String,
    },
}

mod code {
    pub(super) const HELLO: u8 = 1;
    pub(super) const GRANT: u8 = 2;
    pub(super) const PUBLISH: u8 = 3;
    pub(super) const ACK: u8 = 4;
    pub(super) const SUBSCRIBE: u8 = 5;
    pub(super) const CHUNK: u8 = 6;
    pub(super) const CAUGHT_UP: u8 = 7;
    pub(super) const UNSUBSCRIBE: u8 = 8;
    pub(super) const FETCH: u8 = 9;
    pub(super) const RECONCILE: u8 = 10;
    pub(super) const REACH: u8 = 11;
    pub(super) const CLOSE: u8 = 12;
    /// Types from here on may be skipped by who does not know them.
    pub(super) const OPTIONAL: u8 = 0x80;
}

impl Frame {
    /// KEEP-ALIVE, whole: what a link says over TCP that has nothing to say. It is skipped like every
    /// frame from 128 on that is not known, and so never becomes a [`Frame`].
    pub const KEEP_ALIVE: [u8; FRAME_HEAD_BYTES] = [code::OPTIONAL, 0, 0, 0, 0];

    /// Appends the frame. The caller keeps to the counts of [`crate::limits`]; a frame above them
    /// is refused by every receiver.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[self.code(), 0, 0, 0, 0]);
        self.encode_body(out);
        let length = (out.len() - start - FRAME_HEAD_BYTES) as u32;
        out[start + 1..start + FRAME_HEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    /// The frame alone.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::new();
        self.encode(&mut out);
        out.into()
    }

    fn code(&self) -> u8 {
        match self {
            Self::Hello(_) => code::HELLO,
            Self::Grant(_) => code::GRANT,
            Self::Publish(_) => code::PUBLISH,
            Self::Ack(_) => code::ACK,
            Self::Subscribe { .. } => code::SUBSCRIBE,
            Self::Chunks { .. } => code::CHUNK,
            Self::CaughtUp { .. } => code::CAUGHT_UP,
            Self::Unsubscribe { .. } => code::UNSUBSCRIBE,
            Self::Fetch { .. } => code::FETCH,
            Self::Reconcile(_) => code::RECONCILE,
            Self::Reach { .. } => code::REACH,
            Self::Close { .. } => code::CLOSE,
        }
    }

    fn encode_body(&self, out: &mut Vec<u8>) {
        match self {
            Self::Hello(hello) => put_hello(out, hello),
            Self::Grant(chunks) | Self::Publish(chunks) => put_chunks(out, chunks),
            Self::Ack(acks) => put_acks(out, acks),
            Self::Subscribe {
                id,
                prefix,
                start,
                order,
            } => {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&prefix.first().to_bytes());
                out.extend_from_slice(&[prefix.bits(), u8::from(*order == Order::NewestFirst)]);
                put_start(out, start);
            }
            Self::Chunks { id, chunks } => {
                out.extend_from_slice(&id.to_be_bytes());
                put_chunks(out, chunks);
            }
            Self::CaughtUp { id, cursor, live } => {
                out.extend_from_slice(&id.to_be_bytes());
                out.push(u8::from(*live));
                put_cursor(out, cursor);
            }
            Self::Unsubscribe { id } => out.extend_from_slice(&id.to_be_bytes()),
            Self::Fetch { id, names } => {
                out.extend_from_slice(&id.to_be_bytes());
                out.extend_from_slice(&(names.len() as u16).to_be_bytes());
                names
                    .iter()
                    .for_each(|name| out.extend_from_slice(&name.to_bytes()));
            }
            Self::Reconcile(body) => body.encode(out),
            Self::Reach { tier, relay } => {
                out.push(*tier as u8);
                put_text(out, relay);
            }
            Self::Close { reason } => put_text(out, reason),
        }
    }

    /// Reads a frame of a type and a body. `None` for a type that may be skipped.
    fn decode(kind: u8, body: Bytes) -> Result<Option<Self>, DecodeError> {
        let mut reader = Reader::new(body);
        let read = &mut reader;
        let frame = match kind {
            code::HELLO => Self::Hello(take_hello(read)?),
            code::GRANT => Self::Grant(take_chunks(read, GRANT_CHAIN)?),
            code::PUBLISH => Self::Publish(take_chunks(read, CHUNKS_PER_FRAME)?),
            code::ACK => Self::Ack(take_acks(read)?),
            code::SUBSCRIBE => take_subscribe(read)?,
            code::CHUNK => Self::Chunks {
                id: read.u32()?,
                chunks: take_chunks(read, CHUNKS_PER_FRAME)?,
            },
            code::CAUGHT_UP => {
                let (id, live) = (read.u32()?, take_bool(read)?);
                Self::CaughtUp {
                    id,
                    live,
                    cursor: take_cursor(read)?,
                }
            }
            code::UNSUBSCRIBE => Self::Unsubscribe { id: read.u32()? },
            code::FETCH => {
                let (id, count) = (read.u32()?, read.count(NAMES_PER_FETCH)?);
                let names = (0..count)
                    .map(|_| read.u128().map(Name))
                    .collect::<Result<_, _>>()?;
                Self::Fetch { id, names }
            }
            code::RECONCILE => Self::Reconcile(Reconcile::decode(read)?),
            code::REACH => {
                let tier = Tier::from_number(read.u8()?).ok_or(DecodeError::Undefined)?;
                Self::Reach {
                    tier,
                    relay: read.text()?,
                }
            }
            code::CLOSE => Self::Close {
                reason: read.text()?,
            },
            code::OPTIONAL.. => return Ok(None),
            _ => return Err(DecodeError::Undefined),
        };
        reader.end()?;
        Ok(Some(frame))
    }
}

/// Takes frames from a stream of bytes, however it is cut.
///
/// Push what was read, then call [`FrameDecoder::next_frame`] until it has none: then at most one
/// unfinished frame is held.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    buffer: BytesMut,
    taken: u64,
}

impl FrameDecoder {
    /// Takes bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The number of the frame that has begun and is not complete: counted from zero, and the first
    /// one begins with the link. Frames that are skipped do not count.
    pub fn unfinished(&self) -> Option<u64> {
        (self.taken == 0 || !self.buffer.is_empty()).then_some(self.taken)
    }

    /// The next whole frame, or `None` until more bytes are pushed.
    ///
    /// # Errors
    /// The peer misbehaved; nothing after it can be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, Misbehaved> {
        loop {
            if self.buffer.len() < FRAME_HEAD_BYTES {
                return Ok(None);
            }
            let mut length = [0; 4];
            length.copy_from_slice(&self.buffer[1..FRAME_HEAD_BYTES]);
            let length = u32::from_be_bytes(length) as usize;
            if length > FRAME_BODY_BYTES {
                return Err(Misbehaved::FrameTooLong);
            }
            if self.buffer.len() < FRAME_HEAD_BYTES + length {
                return Ok(None);
            }
            let kind = self.buffer[0];
            self.buffer.advance(FRAME_HEAD_BYTES);
            // Copied, so that a stored chunk does not keep the whole read buffer alive.
            let body = Bytes::copy_from_slice(&self.buffer[..length]);
            self.buffer.advance(length);
            if let Some(frame) = Frame::decode(kind, body)? {
                self.taken += 1;
                return Ok(Some(frame));
            }
        }
    }
}

fn put_hello(out: &mut Vec<u8>, hello: &Hello) {
    out.extend_from_slice(&hello.oldest.to_be_bytes());
    out.extend_from_slice(&hello.newest.to_be_bytes());
    out.extend_from_slice(&hello.features.to_be_bytes());
    out.push(hello.tier as u8);
    put_u48(out, hello.time.millis());
    out.extend_from_slice(&hello.store);
}

/// HELLO alone may be longer than this version knows: what follows is left for later versions.
fn take_hello(read: &mut Reader) -> Result<Hello, DecodeError> {
    let hello = Hello {
        oldest: read.u16()?,
        newest: read.u16()?,
        features: read.u64()?,
        tier: Tier::from_number(read.u8()?).ok_or(DecodeError::Undefined)?,
        time: Timestamp::from_millis(read.u48()?),
        store: read.array()?,
    };
    if hello.newest > Hello::VERSION {
        read.rest();
    }
    if hello.oldest > hello.newest {
        Err(DecodeError::NotCanonical)
    } else {
        Ok(hello)
    }
}

fn put_chunks(out: &mut Vec<u8>, chunks: &[Chunk]) {
    out.extend_from_slice(&(chunks.len() as u16).to_be_bytes());
    for chunk in chunks {
        out.extend_from_slice(&(chunk.encoded().len() as u16).to_be_bytes());
        out.extend_from_slice(chunk.encoded());
    }
}

fn take_chunks(read: &mut Reader, limit: usize) -> Result<Vec<Chunk>, DecodeError> {
    let count = read.count(limit)?;
    let mut chunks = Vec::with_capacity(count);
    for _ in 0..count {
        let length = read.count(crate::limits::CHUNK_BYTES)?;
        chunks.push(Chunk::decode(read.take(length)?)?);
    }
    Ok(chunks)
}

fn put_acks(out: &mut Vec<u8>, acks: &[(Name, Outcome)]) {
    out.extend_from_slice(&(acks.len() as u16).to_be_bytes());
    for (name, outcome) in acks {
        out.extend_from_slice(&name.to_bytes());
        out.extend_from_slice(&match outcome {
            Outcome::Stored(tier) => [0, *tier as u8],
            Outcome::Refused(reason) => [1, *reason as u8],
        });
    }
}

fn take_acks(read: &mut Reader) -> Result<Vec<(Name, Outcome)>, DecodeError> {
    let count = read.count(ACKS_PER_FRAME)?;
    let mut acks = Vec::with_capacity(count);
    for _ in 0..count {
        let name = Name(read.u128()?);
        let outcome = match (read.u8()?, read.u8()?) {
            (0, tier) => Tier::from_number(tier).map(Outcome::Stored),
            (1, reason) => Refused::ALL
                .into_iter()
                .find(|r| *r as u8 == reason)
                .map(Outcome::Refused),
            _ => None,
        };
        acks.push((name, outcome.ok_or(DecodeError::Undefined)?));
    }
    Ok(acks)
}

fn put_start(out: &mut Vec<u8>, start: &Start) {
    match start {
        Start::All => out.push(0),
        Start::Newest(count) => {
            out.push(1);
            out.extend_from_slice(&count.to_be_bytes());
        }
        Start::After(cursor) => {
            out.push(2);
            put_cursor(out, cursor);
        }
    }
}

fn take_subscribe(read: &mut Reader) -> Result<Frame, DecodeError> {
    let id = read.u32()?;
    let (first, bits) = (Name(read.u128()?), read.u8()?);
    let prefix = Prefix::new(first, bits).map_err(|_| DecodeError::NotCanonical)?;
    let order = if take_bool(read)? {
        Order::NewestFirst
    } else {
        Order::OldestFirst
    };
    let start = match read.u8()? {
        0 => Start::All,
        1 => Start::Newest(read.u32()?),
        2 => Start::After(take_cursor(read)?),
        _ => return Err(DecodeError::Undefined),
    };
    Ok(Frame::Subscribe {
        id,
        prefix,
        start,
        order,
    })
}

fn put_cursor(out: &mut Vec<u8>, cursor: &Cursor) {
    out.push(cursor.0.len() as u8);
    out.extend_from_slice(&cursor.0);
}

fn take_cursor(read: &mut Reader) -> Result<Cursor, DecodeError> {
    let length = usize::from(read.u8()?);
    if length > CURSOR_BYTES {
        return Err(DecodeError::TooLong);
    }
    Ok(Cursor(read.take(length)?))
}

fn take_bool(read: &mut Reader) -> Result<bool, DecodeError> {
    match read.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(DecodeError::Undefined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GrantId, Holds, Listed, Part, Signer, Span, Summary};

    fn chunk(number: u128) -> Chunk {
        let signer = Signer::from_seed(&[1; 32]);
        Chunk::sign(
            Name(number),
            Timestamp::MAX,
            GrantId::NONE,
            &[7; 20],
            &signer,
        )
        .unwrap()
    }

    fn hello(oldest: u16, newest: u16) -> Hello {
        let time = Timestamp::from_millis(9);
        Hello {
            oldest,
            newest,
            features: 3,
            tier: Tier::Cloud,
            time,
            store: [4; 16],
        }
    }

    fn one_of_each() -> Vec<Frame> {
        let cursor = Cursor::new(vec![1, 2, 3]).unwrap();
        let prefix = Prefix::of(Name(u128::MAX), 78);
        let subscribe = |id, start| Frame::Subscribe {
            id,
            prefix,
            start,
            order: Order::NewestFirst,
        };
        let acks = vec![
            (Name(1), Outcome::Stored(Tier::Origin)),
            (Name(2), Outcome::Refused(Refused::Conflict)),
        ];
        let span = |first, last| Span::new(Name(first), Name(last)).unwrap();
        let ask = Frame::Reconcile(Reconcile::Ask {
            id: 8,
            spans: vec![span(0, 0), span(1, 1 << 90), span(1 << 100, u128::MAX)],
        });
        let names = [5, 6, u128::MAX].map(|name| Listed::new(Name(name), name << 90));
        let (count, sum) = (u64::MAX, u128::MAX);
        let parts = vec![
            Part {
                span: span(3, 4),
                holds: Holds::Summary(Summary { count, sum }),
            },
            Part {
                span: span(5, u128::MAX),
                holds: Holds::Names(names.into()),
            },
        ];
        vec![
            Frame::Hello(hello(1, 1)),
            Frame::Grant(vec![chunk(1), chunk(2)]),
            Frame::Publish(vec![chunk(3); 32]),
            Frame::Ack(acks),
            subscribe(1, Start::All),
            subscribe(2, Start::Newest(5)),
            subscribe(3, Start::After(cursor.clone())),
            Frame::Chunks {
                id: 4,
                chunks: vec![chunk(4)],
            },
            Frame::CaughtUp {
                id: 5,
                cursor,
                live: true,
            },
            Frame::Unsubscribe { id: 6 },
            Frame::Fetch {
                id: 7,
                names: vec![Name(8), Name(9)],
            },
            ask,
            Frame::Reconcile(Reconcile::Want {
                id: 8,
                spans: vec![Span::ALL],
            }),
            Frame::Reconcile(Reconcile::Tell { id: 8, parts }),
            Frame::Reach {
                tier: Tier::Local,
                relay: "127.0.0.1:4433".into(),
            },
            Frame::Close {
                reason: "done".into(),
            },
        ]
    }

    fn decode_all(bytes: &[u8], step: usize) -> Vec<Frame> {
        let mut decoder = FrameDecoder::default();
        let mut frames = Vec::new();
        for part in bytes.chunks(step) {
            decoder.push(part);
            while let Some(frame) = decoder.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn every_frame_comes_back_however_the_stream_is_cut() {
        let frames = one_of_each();
        let mut bytes = Vec::new();
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        for step in [1, 2, 3, 5, 7, 100, 1200, bytes.len()] {
            assert_eq!(decode_all(&bytes, step), frames, "step {step}");
        }
    }

    #[test]
    fn a_shortened_or_lengthened_body_is_refused() {
        for frame in one_of_each() {
            let bytes = frame.to_bytes();
            let (kind, body) = (bytes[0], bytes.slice(FRAME_HEAD_BYTES..));
            for end in 0..body.len() {
                assert!(
                    Frame::decode(kind, body.slice(..end)).is_err(),
                    "{frame:?} at {end}"
                );
            }
            let longer = [&body[..], &[0]].concat();
            assert!(Frame::decode(kind, longer.into()).is_err(), "{frame:?}");
        }
    }

    #[test]
    fn a_frame_above_the_limit_is_refused_by_its_head() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[code::PUBLISH, 0, 1, 0, 1]);
        assert_eq!(decoder.next_frame(), Err(Misbehaved::FrameTooLong));
    }

    #[test]
    fn unknown_types_are_skipped_only_where_they_may_be() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&[0x80, 0, 0, 0, 2, 1, 2]);
        decoder.push(&Frame::Unsubscribe { id: 1 }.to_bytes());
        assert_eq!(decoder.next_frame(), Ok(Some(Frame::Unsubscribe { id: 1 })));
        decoder.push(&[0x7f, 0, 0, 0, 0]);
        assert_eq!(decoder.next_frame(), Err(Misbehaved::MalformedFrame));
    }

    #[test]
    fn the_first_frame_is_awaited_and_later_ones_from_their_first_byte() {
        let mut decoder = FrameDecoder::default();
        decoder.push(&Frame::KEEP_ALIVE);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.unfinished(), Some(0));
        let frame = Frame::Unsubscribe { id: 1 };
        decoder.push(&frame.to_bytes());
        assert_eq!(decoder.next_frame(), Ok(Some(frame)));
        assert_eq!(decoder.unfinished(), None);
        decoder.push(&[code::PUBLISH]);
        assert_eq!(decoder.next_frame(), Ok(None));
        assert_eq!(decoder.unfinished(), Some(1));
    }

    #[test]
    fn versions_are_agreed_on_or_not() {
        assert_eq!(hello(1, 3).version_in_force(), Some(1));
        assert_eq!(hello(2, 5).version_in_force(), None);
        let mut longer = Frame::Hello(hello(1, 2)).to_bytes()[FRAME_HEAD_BYTES..].to_vec();
        longer.extend_from_slice(b"of a later version");
        let frame = Frame::decode(code::HELLO, longer.into());
        assert_eq!(frame, Ok(Some(Frame::Hello(hello(1, 2)))));
    }
}
