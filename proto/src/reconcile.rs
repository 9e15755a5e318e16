//! What RECONCILE says: spans of names, what lies in them, and what of it is wanted
//! (docs/protocol.md, "RECONCILE"). Who asks what, and when, is decided in the node.
//!
//! Names are written as distances from the one before, so that a run of a feed costs a byte a name,
//! and spans that overlap or stand in disorder cannot be written at all.

use crate::codec::{DecodeError, Reader, put_varint};
use crate::limits::{NAMES_PER_PART, PARTS_PER_SPAN, SPANS_PER_ASK, SPANS_PER_WANT};
use crate::{Name, Prefix};

/// All names from one to another, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    first: Name,
    last: Name,
}

impl Span {
    /// The span of all names.
    pub const ALL: Self = Self {
        first: Name(0),
        last: Name(u128::MAX),
    };

    /// The span between two names; `None` if they stand in the wrong order.
    pub fn new(first: Name, last: Name) -> Option<Self> {
        (first <= last).then_some(Self { first, last })
    }

    /// The lowest name in it.
    pub const fn first(self) -> Name {
        self.first
    }

    /// The highest name in it.
    pub const fn last(self) -> Name {
        self.last
    }

    /// Whether the name lies in it.
    pub fn contains(self, name: Name) -> bool {
        (self.first..=self.last).contains(&name)
    }

    /// What of it lies behind a name.
    pub fn behind(self, name: Name) -> Option<Self> {
        let first = Name(name.0.checked_add(1)?).max(self.first);
        Self::new(first, self.last)
    }
}

impl From<Prefix> for Span {
    fn from(prefix: Prefix) -> Self {
        Self {
            first: prefix.first(),
            last: prefix.last(),
        }
    }
}

/// The fingerprint of a set of chunks: how many, and the sum of their digests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// The digests ([`crate::Chunk::digest`]), added up modulo 2^128.
    pub sum: u128,
}

impl Summary {
    /// Takes one chunk more into it.
    pub fn add(&mut self, digest: u128) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(digest);
    }

    /// Takes the chunks of another set into it.
    pub fn join(&mut self, other: Self) {
        self.count += other.count;
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

/// A chunk in a list: its name, and the first four bytes of its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: Name,
    /// Tells apart two chunks of one name.
    pub check: u32,
}

impl Listed {
    /// The entry of a chunk with this digest.
    pub const fn new(name: Name, digest: u128) -> Self {
        Self {
            name,
            check: (digest >> 96) as u32,
        }
    }
}

/// What lies in a part of a span.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holds {
    /// More than are listed.
    Summary(Summary),
    /// At most 32 chunks, in the order of their names.
    Names(Vec<Listed>),
}

/// A part of a span, and what lies in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Which part.
    pub span: Span,
    /// What lies in it.
    pub holds: Holds,
}

/// The body of a RECONCILE frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reconcile {
    /// Downstream to upstream: what have you there?
    Ask {
        /// Chosen by the asker, not in use on this link.
        id: u32,
        /// At most 64, ascending, none overlaps another.
        spans: Vec<Span>,
    },
    /// Upstream to downstream: the answer, in parts that fill exactly the spans.
    Tell {
        /// Of the question.
        id: u32,
        /// At most 16 for each span, ascending.
        parts: Vec<Part>,
    },
    /// Downstream to upstream: all that you have there, once.
    Want {
        /// Chosen by the asker, not in use on this link.
        id: u32,
        /// At most 1024, ascending, none overlaps another.
        spans: Vec<Span>,
    },
}

const ASK: u8 = 0;
const TELL: u8 = 1;
const WANT: u8 = 2;
const SUMMARY: u8 = 0;
const NAMES: u8 = 1;

impl Reconcile {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let (kind, id, count) = match self {
            Self::Ask { id, spans } => (ASK, id, spans.len()),
            Self::Tell { id, parts } => (TELL, id, parts.len()),
            Self::Want { id, spans } => (WANT, id, spans.len()),
        };
        out.push(kind);
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&(count as u16).to_be_bytes());
        let mut next = 0;
        match self {
            Self::Ask { spans, .. } | Self::Want { spans, .. } => {
                spans
                    .iter()
                    .for_each(|span| put_span(out, *span, &mut next));
            }
            Self::Tell { parts, .. } => {
                for part in parts {
                    put_span(out, part.span, &mut next);
                    put_holds(out, part);
                }
            }
        }
    }

    pub(crate) fn decode(read: &mut Reader) -> Result<Self, DecodeError> {
        let (kind, id) = (read.u8()?, read.u32()?);
        let mut next = Some(0);
        Ok(match kind {
            ASK => Self::Ask {
                id,
                spans: take_spans(read, SPANS_PER_ASK)?,
            },
            TELL => {
                let count = read.count(SPANS_PER_ASK * PARTS_PER_SPAN)?;
                let mut parts = Vec::with_capacity(count);
                for _ in 0..count {
                    let span = take_span(read, &mut next)?;
                    let holds = take_holds(read, span)?;
                    parts.push(Part { span, holds });
                }
                Self::Tell { id, parts }
            }
            WANT => Self::Want {
                id,
                spans: take_spans(read, SPANS_PER_WANT)?,
            },
            _ => return Err(DecodeError::Undefined),
        })
    }
}

/// A span as its distance from the end of the one before, and its length less one.
fn put_span(out: &mut Vec<u8>, span: Span, next: &mut u128) {
    put_varint(out, span.first.0.wrapping_sub(*next));
    put_varint(out, span.last.0 - span.first.0);
    *next = span.last.0.wrapping_add(1);
}

fn take_spans(read: &mut Reader, limit: usize) -> Result<Vec<Span>, DecodeError> {
    let count = read.count(limit)?;
    let mut next = Some(0);
    (0..count).map(|_| take_span(read, &mut next)).collect()
}

/// `next` is the lowest name that the span may begin with, `None` behind the highest of all.
fn take_span(read: &mut Reader, next: &mut Option<u128>) -> Result<Span, DecodeError> {
    let beyond = DecodeError::Undefined;
    let first = next
        .ok_or(beyond)?
        .checked_add(read.varint()?)
        .ok_or(beyond)?;
    let last = first.checked_add(read.varint()?).ok_or(beyond)?;
    *next = last.checked_add(1);
    Ok(Span {
        first: Name(first),
        last: Name(last),
    })
}

fn put_holds(out: &mut Vec<u8>, part: &Part) {
    match &part.holds {
        Holds::Summary(Summary { count, sum }) => {
            out.push(SUMMARY);
            put_varint(out, u128::from(*count));
            out.extend_from_slice(&sum.to_be_bytes());
        }
        Holds::Names(names) => {
            out.extend_from_slice(&[NAMES, names.len() as u8]);
            let mut next = part.span.first.0;
            for Listed { name, check } in names {
                put_varint(out, name.0.wrapping_sub(next));
                out.extend_from_slice(&check.to_be_bytes());
                next = name.0.wrapping_add(1);
            }
        }
    }
}

fn take_holds(read: &mut Reader, span: Span) -> Result<Holds, DecodeError> {
    let beyond = DecodeError::Undefined;
    match read.u8()? {
        SUMMARY => {
            let count = u64::try_from(read.varint()?).map_err(|_| beyond)?;
            let sum = read.u128()?;
            Ok(Holds::Summary(Summary { count, sum }))
        }
        NAMES => {
            let count = usize::from(read.u8()?);
            if count > NAMES_PER_PART {
                return Err(DecodeError::TooLong);
            }
            let mut names = Vec::with_capacity(count);
            let mut next = Some(span.first.0);
            for _ in 0..count {
                let name = next
                    .ok_or(beyond)?
                    .checked_add(read.varint()?)
                    .ok_or(beyond)?;
                if name > span.last.0 {
                    return Err(beyond);
                }
                next = name.checked_add(1);
                let check = read.u32()?;
                names.push(Listed {
                    name: Name(name),
                    check,
                });
            }
            Ok(Holds::Names(names))
        }
        _ => Err(beyond),
    }
}

/// Divides what is pushed into it, in the order of the names, into parts of about the same number,
/// in one pass and a fixed amount of memory.
#[derive(Debug, Default)]
pub struct Splitter {
    names: Vec<Listed>,
    /// The last name of each part, and what lies in it.
    parts: Vec<(Name, Summary)>,
    capacity: u64,
    count: u64,
}

impl Splitter {
    /// Takes the next chunk of the span.
    pub fn push(&mut self, name: Name, digest: u128) {
        self.count += 1;
        if self.names.len() < NAMES_PER_PART {
            self.names.push(Listed::new(name, digest));
        }
        self.capacity = self.capacity.max(1);
        let full = |parts: &[(Name, Summary)], capacity| {
            parts.last().is_none_or(|(_, held)| held.count >= capacity)
        };
        if full(&self.parts, self.capacity) && self.parts.len() == PARTS_PER_SPAN {
            let pair = |pair: &[(Name, Summary)]| {
                let mut held = pair[0].1;
                pair[1..].iter().for_each(|(_, more)| held.join(*more));
                (pair[pair.len() - 1].0, held)
            };
            self.parts = self.parts.chunks(2).map(pair).collect();
            self.capacity *= 2;
        }
        if full(&self.parts, self.capacity) {
            self.parts.push((name, Summary::default()));
        }
        if let Some((last, held)) = self.parts.last_mut() {
            *last = name;
            held.add(digest);
        }
    }

    /// The parts, which fill the span exactly.
    pub fn finish(self, span: Span) -> Vec<Part> {
        if self.count as usize <= NAMES_PER_PART {
            let holds = Holds::Names(self.names);
            return vec![Part { span, holds }];
        }
        let mut first = span.first;
        let end = self.parts.len() - 1;
        let part = |(at, (last, held)): (usize, (Name, Summary))| {
            let last = if at == end { span.last } else { last };
            let part = Part {
                span: Span { first, last },
                holds: Holds::Summary(held),
            };
            first = Name(last.0.wrapping_add(1));
            part
        };
        self.parts.into_iter().enumerate().map(part).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(names: impl Iterator<Item = u128>, span: Span) -> Vec<Part> {
        let mut splitter = Splitter::default();
        names.for_each(|name| splitter.push(Name(name), name << 100 | 1));
        splitter.finish(span)
    }

    #[test]
    fn parts_fill_the_span_and_hold_everything_once() {
        let span = Span::new(Name(10), Name(u128::MAX)).unwrap();
        for count in [0u128, 1, 32, 33, 63, 64, 65, 1000, 12345] {
            let parts = split((0..count).map(|at| 20 + at * 3), span);
            assert!(parts.len() <= PARTS_PER_SPAN, "{count}: {}", parts.len());
            assert_eq!(
                (parts[0].span.first, parts[parts.len() - 1].span.last),
                (span.first, span.last)
            );
            for pair in parts.windows(2) {
                assert_eq!(pair[0].span.last.0 + 1, pair[1].span.first.0);
            }
            let held = parts.iter().map(|part| match &part.holds {
                Holds::Summary(held) => held.count as u128,
                Holds::Names(names) => names.len() as u128,
            });
            let most = held.clone().max().unwrap();
            assert_eq!(held.sum::<u128>(), count);
            assert!(count <= 32 || most <= count.div_ceil(4), "{count}: {most}");
        }
    }

    #[test]
    fn a_summary_does_not_depend_on_the_order() {
        let mut one = Summary::default();
        [u128::MAX, 5, 9].iter().for_each(|digest| one.add(*digest));
        let mut other = Summary::default();
        [9, u128::MAX].iter().for_each(|digest| other.add(*digest));
        other.join(Summary { count: 1, sum: 5 });
        assert_eq!(one, other);
        assert_eq!(one.count, 3);
    }

    #[test]
    fn spans_end_at_the_highest_name() {
        let span = Span::new(Name(5), Name(u128::MAX)).unwrap();
        assert_eq!(span.behind(Name(9)).map(Span::first), Some(Name(10)));
        assert_eq!(span.behind(Name(1)), Some(span));
        assert_eq!(span.behind(Name(u128::MAX)), None);
        assert_eq!(Span::new(Name(2), Name(1)), None);
    }
}
