//! Objects longer than a chunk's data (docs/protocol.md, "Fragments"): split into consecutive
//! chunks, and joined again. Names only find the parts; the hash in the first decides.

use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::PublicKey;
use crate::limits::{CHUNK_DATA_BYTES, OBJECT_BYTES};

const WHOLE: u8 = 0;
const FIRST: u8 = 1;
const CONTINUED: u8 = 2;
const FIRST_HEAD: usize = 1 + 4 + 32;

/// Why an object cannot be split, or its fragments not joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FragmentError {
    /// It needs more fragments than its path's number field has room for.
    #[error("the object is too long for its path")]
    TooLong,
    /// A fragment stands where another kind belongs, or is cut short.
    #[error("a fragment is not the one that belongs here")]
    Unexpected,
    /// The joined bytes are not what the first fragment announced.
    #[error("the joined object does not have the announced hash")]
    Hash,
}

/// The data of the chunks that carry `object`: one for up to 1,023 bytes, else several of which the
/// first announces length and hash.
///
/// # Errors
/// [`FragmentError::TooLong`] if that makes more than `most`.
pub fn split(object: &[u8], most: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
    cut(object, most, CHUNK_DATA_BYTES)
}

/// As [`split`], with the publishing key in front of every fragment, as path 2 wants it.
///
/// # Errors
/// [`FragmentError::TooLong`].
pub fn split_with_key(
    object: &[u8],
    most: usize,
    key: &PublicKey,
) -> Result<Vec<Vec<u8>>, FragmentError> {
    let parts = cut(object, most, CHUNK_DATA_BYTES - key.0.len())?;
    Ok(parts
        .into_iter()
        .map(|part| [&key.0[..], &part].concat())
        .collect())
}

fn cut(object: &[u8], most: usize, room: usize) -> Result<Vec<Vec<u8>>, FragmentError> {
    if object.len() < room {
        return Ok(vec![[&[WHOLE], object].concat()]);
    }
    if object.len() > OBJECT_BYTES {
        return Err(FragmentError::TooLong);
    }
    let (first, rest) = object.split_at(room - FIRST_HEAD);
    let hash: [u8; 32] = Sha256::digest(object).into();
    let head = [
        &[FIRST],
        &(object.len() as u32).to_be_bytes()[..],
        &hash,
        first,
    ]
    .concat();
    let parts: Vec<_> = std::iter::once(head)
        .chain(
            rest.chunks(room - 1)
                .map(|part| [&[CONTINUED], part].concat()),
        )
        .collect();
    if parts.len() > most {
        Err(FragmentError::TooLong)
    } else {
        Ok(parts)
    }
}

/// What [`Join::push`] makes of a fragment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Joined {
    /// More fragments belong to the object.
    More,
    /// The object.
    Object(Vec<u8>),
}

/// Joins the fragments of one object after another, pushed in the order of their numbers.
#[derive(Debug, Clone, Default)]
pub struct Join {
    begun: Option<Begun>,
}

#[derive(Debug, Clone)]
struct Begun {
    length: usize,
    hash: [u8; 32],
    bytes: Vec<u8>,
}

impl Join {
    /// Takes the next fragment's data (without the key that path 2 puts in front). `limit` is the
    /// longest object accepted, in bytes. After an error it waits for a new object.
    ///
    /// # Errors
    /// [`FragmentError`].
    pub fn push(&mut self, data: &[u8], limit: usize) -> Result<Joined, FragmentError> {
        let begun = self.begun.take();
        let (kind, rest) = data.split_first().ok_or(FragmentError::Unexpected)?;
        match (*kind, begun) {
            (WHOLE, None) => Ok(Joined::Object(rest.to_vec())),
            (FIRST, None) => self.begin(data, limit),
            (CONTINUED, Some(begun)) => self.go_on(begun, rest),
            _ => Err(FragmentError::Unexpected),
        }
    }

    /// Whether an object has begun and not ended.
    pub fn is_open(&self) -> bool {
        self.begun.is_some()
    }

    fn begin(&mut self, data: &[u8], limit: usize) -> Result<Joined, FragmentError> {
        if data.len() <= FIRST_HEAD {
            return Err(FragmentError::Unexpected);
        }
        let mut length = [0; 4];
        length.copy_from_slice(&data[1..5]);
        let length = u32::from_be_bytes(length) as usize;
        if length > limit.min(OBJECT_BYTES) {
            return Err(FragmentError::TooLong);
        }
        let bytes = data[FIRST_HEAD..].to_vec();
        if bytes.len() >= length {
            return Err(FragmentError::Unexpected);
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(&data[5..FIRST_HEAD]);
        self.begun = Some(Begun {
            length,
            hash,
            bytes,
        });
        Ok(Joined::More)
    }

    fn go_on(&mut self, mut begun: Begun, rest: &[u8]) -> Result<Joined, FragmentError> {
        if rest.is_empty() || begun.bytes.len() + rest.len() > begun.length {
            return Err(FragmentError::Unexpected);
        }
        begun.bytes.extend_from_slice(rest);
        if begun.bytes.len() < begun.length {
            self.begun = Some(begun);
            return Ok(Joined::More);
        }
        if <[u8; 32]>::from(Sha256::digest(&begun.bytes)) == begun.hash {
            Ok(Joined::Object(begun.bytes))
        } else {
            Err(FragmentError::Hash)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn join(parts: &[Vec<u8>]) -> Result<Joined, FragmentError> {
        let mut join = Join::default();
        let mut last = Ok(Joined::More);
        for part in parts {
            last = Ok(join.push(part, OBJECT_BYTES)?);
        }
        last
    }

    #[test]
    fn every_length_comes_back() {
        for length in [
            0, 1, 986, 987, 988, 1022, 1023, 1024, 2009, 2010, 2011, 10_000, 65_536,
        ] {
            let object: Vec<u8> = (0..length).map(|i| (i * 7 % 251) as u8).collect();
            let parts = split(&object, 255).unwrap();
            assert!(
                parts.iter().all(|part| part.len() <= CHUNK_DATA_BYTES),
                "{length}"
            );
            assert_eq!(join(&parts), Ok(Joined::Object(object)), "{length}");
        }
    }

    #[test]
    fn a_key_stands_in_front_of_every_part() {
        let key = PublicKey([5; 32]);
        let parts = split_with_key(&[1; 3000], 16, &key).unwrap();
        assert!(
            parts
                .iter()
                .all(|p| p.len() <= CHUNK_DATA_BYTES && p[..32] == key.0)
        );
        let bare: Vec<_> = parts.iter().map(|part| part[32..].to_vec()).collect();
        assert_eq!(join(&bare), Ok(Joined::Object(vec![1; 3000])));
    }

    #[test]
    fn wrong_order_cuts_and_flips_are_errors() {
        let parts = split(&[1; 3000], 255).unwrap();
        assert_eq!(join(&parts[1..]), Err(FragmentError::Unexpected));
        assert_eq!(
            join(&[parts[0].clone(), parts[0].clone()]),
            Err(FragmentError::Unexpected)
        );
        let mut flipped = parts.clone();
        flipped[1][5] ^= 1;
        assert_eq!(join(&flipped), Err(FragmentError::Hash));
        assert_eq!(split(&[0; 20_000], 16), Err(FragmentError::TooLong));
        assert_eq!(join(&[vec![]]), Err(FragmentError::Unexpected));
    }

    #[test]
    fn an_announced_length_above_the_limit_is_refused_at_once() {
        let parts = split(&[1; 3000], 255).unwrap();
        assert_eq!(
            Join::default().push(&parts[0], 2999),
            Err(FragmentError::TooLong)
        );
    }
}
