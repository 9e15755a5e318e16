//! What stands inside the ciphertext: one entry of a device's feed in a channel.
//!
//! Bytes in, values out: it knows no group and no store. Source: docs/protocol.md, "Feed entry".

use std::fmt;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const VERSION: u8 = 1;
const HEAD: usize = 1 + 1 + 1 + 8 + 4 + 16 + 8 + 8 + 8 + 8 + 4;
/// Lengths that short entries are padded to, in bytes; longer ones to a multiple of the last.
const BUCKETS: [usize; 4] = [256, 512, 768, 1024];
/// The longest body, in bytes: 64 KiB of text.
pub const BODY_LIMIT: usize = 64 * 1024;

/// The types of body.
pub mod kind {
    /// Text, Markdown in UTF-8.
    pub const TEXT: u8 = 1;
    /// The name of the team or of a channel; only in channel 0.
    pub const NAME: u8 = 2;
    /// What a member asks of the admins' devices; only in channel 0.
    pub const REQUEST: u8 = 3;
}

/// One entry.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// The type of the body.
    pub kind: u8,
    /// When it was written, in milliseconds since 1970, by the author's clock.
    pub created_ms: u64,
    /// Its number in the feed: that of its first chunk.
    pub number: u32,
    /// The hash of the entry before it; zeroes for the first.
    pub prev_hash: [u8; 16],
    /// One more than the highest that the author had seen in the channel.
    pub lamport: u64,
    /// What the author had seen of all feeds of the channel.
    pub heads_digest: [u8; 8],
    /// The MLS state it was written in.
    pub state_id: [u8; 8],
    /// That state's authenticator.
    pub auth_tag: [u8; 8],
    /// The body.
    pub body: Vec<u8>,
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, {} bytes)", self.number, self.body.len())
    }
}

impl Entry {
    /// The padded bytes.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let length = HEAD + self.body.len();
        let mut out = Zeroizing::new(Vec::with_capacity(padded(length)));
        out.extend_from_slice(&[VERSION, self.kind, 0]);
        out.extend_from_slice(&self.created_ms.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.prev_hash);
        out.extend_from_slice(&self.lamport.to_be_bytes());
        out.extend_from_slice(&self.heads_digest);
        out.extend_from_slice(&self.state_id);
        out.extend_from_slice(&self.auth_tag);
        out.extend_from_slice(&(self.body.len() as u32).to_be_bytes());
        out.extend_from_slice(&self.body);
        out.resize(padded(length), 0);
        out
    }

    /// Reads padded bytes; `None` if they are not the one encoding of an entry.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut read = Reader(bytes);
        let [version, kind, flags] = read.take()?;
        if version != VERSION || flags != 0 {
            return None;
        }
        let this = Self {
            kind,
            created_ms: u64::from_be_bytes(read.take()?),
            number: u32::from_be_bytes(read.take()?),
            prev_hash: read.take()?,
            lamport: u64::from_be_bytes(read.take()?),
            heads_digest: read.take()?,
            state_id: read.take()?,
            auth_tag: read.take()?,
            body: {
                let length = u32::from_be_bytes(read.take()?) as usize;
                read.bytes(length.min(BODY_LIMIT + 1))?.to_vec()
            },
        };
        let whole = this.body.len() <= BODY_LIMIT
            && bytes.len() == padded(HEAD + this.body.len())
            && read.0.iter().all(|byte| *byte == 0);
        whole.then_some(this)
    }
}

/// The hash that the next entry of the feed carries.
pub fn hash(encoded: &[u8]) -> [u8; 16] {
    let full: [u8; 32] = Sha256::new()
        .chain_update(b"treeline entry 1")
        .chain_update(encoded)
        .finalize()
        .into();
    let mut hash = [0; 16];
    hash.copy_from_slice(&full[..16]);
    hash
}

/// The body of a name: of the team (channel 0) or of a channel.
pub fn name_body(channel: u16, name: &str) -> Vec<u8> {
    [&channel.to_be_bytes()[..], name.as_bytes()].concat()
}

/// Reads the body of a name.
pub fn read_name(body: &[u8]) -> Option<(u16, String)> {
    let (channel, name) = body.split_first_chunk::<2>()?;
    let name = String::from_utf8(name.to_vec()).ok()?;
    let fits = !name.is_empty() && name.chars().count() <= endpoint_secure_api::Command::NAME_LIMIT;
    // It comes to screens and terminals of others.
    let plain = !name.chars().any(char::is_control);
    (fits && plain).then(|| (u16::from_be_bytes(*channel), name))
}

fn padded(length: usize) -> usize {
    let last = BUCKETS[BUCKETS.len() - 1];
    BUCKETS
        .into_iter()
        .find(|bucket| length <= *bucket)
        .unwrap_or_else(|| length.div_ceil(last) * last)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: usize) -> Entry {
        Entry {
            kind: kind::TEXT,
            created_ms: 1,
            number: 2,
            prev_hash: [3; 16],
            lamport: 4,
            heads_digest: [5; 8],
            state_id: [6; 8],
            auth_tag: [7; 8],
            body: vec![b'x'; body],
        }
    }

    #[test]
    fn entries_of_all_sizes_come_back_padded() {
        for body in [0, 1, 188, 189, 190, 1000, 10_000, BODY_LIMIT] {
            let bytes = entry(body).encode();
            assert!(BUCKETS.contains(&bytes.len()) || bytes.len().is_multiple_of(1024));
            assert_eq!(Entry::decode(&bytes), Some(entry(body)));
        }
    }

    #[test]
    fn nothing_but_the_one_encoding_is_read() {
        let good = entry(10).encode();
        for end in 0..good.len() {
            assert_eq!(Entry::decode(&good[..end]), None);
        }
        let mut padded = good.to_vec();
        *padded.last_mut().unwrap() = 1;
        assert_eq!(Entry::decode(&padded), None);
        let mut longer = good.to_vec();
        longer.resize(512, 0);
        assert_eq!(Entry::decode(&longer), None);
        let mut version = good.to_vec();
        version[0] = 2;
        assert_eq!(Entry::decode(&version), None);
        let huge = Entry {
            body: vec![0; BODY_LIMIT + 1],
            ..entry(0)
        };
        assert_eq!(Entry::decode(&huge.encode()), None);
    }

    #[test]
    fn debug_shows_no_text() {
        assert_eq!(format!("{:?}", entry(3)), "Entry(2, 3 bytes)");
    }

    #[test]
    fn a_name_comes_back() {
        assert_eq!(
            read_name(&name_body(3, "tides")),
            Some((3, "tides".to_string()))
        );
        assert_eq!(read_name(&name_body(3, "")), None);
        assert_eq!(read_name(&name_body(3, "tides\u{1b}[2J")), None);
        assert_eq!(read_name(&name_body(3, "tides\nnow")), None);
        assert_eq!(read_name(&[0]), None);
    }
}
