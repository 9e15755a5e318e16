//! A name and the number of its fixed leading bits, as in CIDR (docs/protocol.md, "Prefix").

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use crate::path::Path;
use crate::{Name, TextError};

const SCHEME: &str = "treeline://";
/// Ends of the fields before the path's own: origin, app and path, organisation, team.
const ENDS: [u8; 4] = [24, 40, 58, Name::TEAM_BITS];

/// Every name whose first `bits` bits are these. It takes 17 bytes: a relay holds very many.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix {
    /// The lowest name under it, as bytes: a number of 16 bytes would be padded to 32 with its length.
    first: [u8; 16],
    bits: u8,
}

/// Why a name and a length are not a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PrefixError {
    /// More than 128 bits.
    #[error("a prefix has at most 128 bits, not {0}")]
    Length(u8),
    /// A bit behind the length is one.
    #[error("a bit behind the prefix's length is set")]
    LooseBits,
}

impl Prefix {
    /// The prefix of all names.
    pub const ALL: Self = Self {
        first: [0; 16],
        bits: 0,
    };

    /// The prefix of a name's first `bits` bits; the others are cleared, and 128 is the most.
    pub fn of(name: Name, bits: u8) -> Self {
        let bits = bits.min(128);
        Self {
            first: (name.0 & Self::mask(bits)).to_be_bytes(),
            bits,
        }
    }

    /// The prefix of exactly this name and length.
    ///
    /// # Errors
    /// [`PrefixError`] if it is not in its one form.
    pub fn new(first: Name, bits: u8) -> Result<Self, PrefixError> {
        if bits > 128 {
            return Err(PrefixError::Length(bits));
        }
        let prefix = Self::of(first, bits);
        if prefix.first() == first {
            Ok(prefix)
        } else {
            Err(PrefixError::LooseBits)
        }
    }

    /// The fixed leading bits, 0 to 128.
    pub const fn bits(self) -> u8 {
        self.bits
    }

    /// The lowest name under it.
    pub const fn first(self) -> Name {
        Name(u128::from_be_bytes(self.first))
    }

    /// The highest name under it.
    pub const fn last(self) -> Name {
        Name(self.first().0 | !Self::mask(self.bits))
    }

    /// Whether the name is under it.
    pub const fn contains(self, name: Name) -> bool {
        name.0 & Self::mask(self.bits) == self.first().0
    }

    /// Whether every name under `other` is under it.
    pub const fn covers(self, other: Self) -> bool {
        self.bits <= other.bits && self.contains(other.first())
    }

    pub(crate) const fn mask(bits: u8) -> u128 {
        if bits == 0 {
            0
        } else {
            u128::MAX << (128 - bits as u32)
        }
    }
}

impl fmt::Display for Prefix {
    /// The text form, in parts where the length is a field's end, else `treeline:<hex>/<bits>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.first().path();
        let whole_app = self.first().app() == 1 && path.word().is_some();
        let mut end = Name::TEAM_BITS;
        let mut ends = ENDS.to_vec();
        for (_, width) in path.layout() {
            end += *width as u8;
            ends.push(end);
        }
        if !ends.contains(&self.bits) || (self.bits > 24 && !whole_app) {
            return write!(f, "treeline:{:032x}/{}", self.first().0, self.bits);
        }
        let place = self.first().place();
        write!(f, "{SCHEME}{:06x}", place.origin.get())?;
        let head = [
            path.word().unwrap_or("").to_owned(),
            format!("org-{}", place.org),
            format!("team-{}", place.team),
        ];
        for (part, end) in head.iter().zip(&ENDS[1..]) {
            if self.bits >= *end {
                write!(f, "/{part}")?;
            }
        }
        let mut end = u32::from(Name::TEAM_BITS);
        for (label, width) in path.layout() {
            end += width;
            if u32::from(self.bits) >= end {
                let value = (self.first().0 >> (128 - end)) & ((1 << width) - 1);
                match *label {
                    "key-" => write!(f, "/key-{value:012x}")?,
                    label => write!(f, "/{label}{value}")?,
                }
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Prefix({self})")
    }
}

impl FromStr for Prefix {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        match text.strip_prefix(SCHEME) {
            Some(parts) => parse_parts(parts),
            None => parse_bits(text),
        }
    }
}

fn unexpected(found: &str, expected: &'static str) -> TextError {
    TextError::Part {
        found: found.into(),
        expected,
    }
}

/// `treeline:<32 hex digits>/<bits>`.
fn parse_bits(text: &str) -> Result<Prefix, TextError> {
    let rest = text
        .strip_prefix("treeline:")
        .ok_or(TextError::Beginning(SCHEME))?;
    let (hex, bits) = rest.split_once('/').unwrap_or((rest, "128"));
    let name = crate::text::from_hex(hex).ok_or_else(|| unexpected(hex, "32 hex digits"))?;
    let bits = parse_number(bits, 8)? as u8;
    Prefix::new(Name(u128::from_be_bytes(name)), bits)
        .map_err(|_| unexpected(text, "a length of at most 128 and no bits behind it"))
}

/// `<origin>/<path>/org-<n>/team-<n>/…`, cut after any part.
fn parse_parts(text: &str) -> Result<Prefix, TextError> {
    let mut parts = text.trim_end_matches('/').split('/');
    let origin = parts.next().unwrap_or("");
    let number = u32::from_str_radix(origin, 16)
        .ok()
        .filter(|_| origin.len() == 6);
    let number = number.ok_or_else(|| unexpected(origin, "an origin of 6 hex digits"))?;
    let mut bits = (u128::from(number), 24);
    let Some(word) = parts.next() else {
        return Ok(shifted(bits));
    };
    let path = Path::NAMED
        .into_iter()
        .find(|path| path.word() == Some(word));
    let path = path.ok_or_else(|| unexpected(word, "a path (message, commit, …)"))?;
    bits = (bits.0 << 16 | 1 << 8 | u128::from(path.number()), 40);
    for (label, width) in [("org-", 18), ("team-", 20)].iter().chain(path.layout()) {
        let Some(part) = parts.next() else {
            return Ok(shifted(bits));
        };
        let digits = part
            .strip_prefix(label)
            .ok_or_else(|| unexpected(part, label))?;
        let value = match *label {
            "key-" => parse_key(digits)?,
            _ => parse_number(digits, *width)?,
        };
        bits = (bits.0 << width | u128::from(value), bits.1 + width);
    }
    match parts.next() {
        Some(part) => Err(unexpected(part, "the end of the name")),
        None => Ok(shifted(bits)),
    }
}

fn shifted((value, bits): (u128, u32)) -> Prefix {
    Prefix::of(Name(value << (128 - bits)), bits as u8)
}

/// A decimal number in its one form that fits so many bits.
fn parse_number(digits: &str, width: u32) -> Result<u64, TextError> {
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    let value: u64 = digits
        .parse()
        .ok()
        .filter(|_| plain)
        .ok_or_else(|| unexpected(digits, "a number"))?;
    if value >> width == 0 {
        Ok(value)
    } else {
        Err(TextError::TooLarge(value))
    }
}

fn parse_key(digits: &str) -> Result<u64, TextError> {
    let lower = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    let value = u64::from_str_radix(digits, 16)
        .ok()
        .filter(|_| lower && digits.len() == 12);
    let value = value.ok_or_else(|| unexpected(digits, "12 lower-case hex digits"))?;
    if value >> 46 == 0 {
        Ok(value)
    } else {
        Err(TextError::TooLarge(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, OriginId, Place};

    fn name() -> Name {
        let place = Place {
            origin: OriginId::new(0xabc),
            org: 2,
            team: 3,
        };
        Name::new(
            place,
            Fields::Message {
                channel: 4,
                device: 5,
                number: 6,
            },
        )
    }

    #[test]
    fn text_in_parts() {
        let whole = "treeline://000abc/message/org-2/team-3/ch-4/dev-5/6";
        assert_eq!(name().to_string(), whole);
        assert_eq!(whole.parse::<Name>().unwrap(), name());
        let mut part = whole;
        while let Some((shorter, _)) = part.rsplit_once('/') {
            part = shorter;
            if part.len() <= SCHEME.len() {
                break;
            }
            let prefix: Prefix = part.parse().unwrap();
            assert!(prefix.contains(name()));
            assert_eq!(prefix.to_string(), part);
        }
    }

    #[test]
    fn odd_lengths_and_unknown_paths_have_a_text_too() {
        for prefix in [
            Prefix::of(name(), 33),
            Prefix::of(Name(u128::MAX), 128),
            Prefix::ALL,
        ] {
            assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
        }
    }

    #[test]
    fn bad_text_is_refused() {
        for text in [
            "",
            "http://000abc",
            "treeline://abc",
            "treeline://000abc/nothing",
            "treeline://000abc/message/org-262144",
            "treeline://000abc/message/org-02",
            "treeline://000abc/message/team-3",
            "treeline://000abc/message/org-2/team-3/ch-4/dev-5/6/7",
            "treeline://000abc/welcome/org-2/team-3/key-ABC000000000",
            "treeline:00/3",
            "treeline:ffffffffffffffffffffffffffffffff/3",
            "treeline:00000000000000000000000000000000/129",
        ] {
            assert!(text.parse::<Prefix>().is_err(), "{text}");
        }
    }

    #[test]
    fn bounds_and_cover() {
        let prefix = Prefix::of(name(), 78);
        assert!(prefix.first() <= name() && name() <= prefix.last());
        assert!(prefix.covers(Prefix::of(name(), 100)));
        assert!(!Prefix::of(name(), 100).covers(prefix));
        assert!(Prefix::ALL.covers(prefix));
        assert_eq!(Prefix::new(name(), 78), Err(PrefixError::LooseBits));
    }
}
