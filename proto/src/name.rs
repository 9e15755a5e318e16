//! The 128-bit name of a chunk (docs/protocol.md, "Name").

use std::fmt;
use std::str::FromStr;

use crate::path::{Fields, Path, Place};
use crate::{Prefix, TextError};

/// The application number of Treeline's messenger; other numbers are carried and not understood.
const MESSENGER: u8 = 1;
const APP_SHIFT: u32 = 96;
const PATH_SHIFT: u32 = 88;
const ORG_SHIFT: u32 = 70;
const TEAM_SHIFT: u32 = 50;

/// `origin 24 | app 8 | path 8 | org 18 | team 20 | 50 bits that depend on path`, big-endian.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(pub u128);

impl Name {
    /// Bits before the 50 that depend on the path: a prefix of this length is one path of one team.
    pub const TEAM_BITS: u8 = 78;

    /// The name with these fields.
    pub fn new(place: Place, fields: Fields) -> Self {
        let head = (u128::from(place.origin.get()) << 104)
            | (u128::from(MESSENGER) << APP_SHIFT)
            | (u128::from(fields.path().number()) << PATH_SHIFT)
            | (u128::from(place.org & Place::ORG_MAX) << ORG_SHIFT)
            | (u128::from(place.team & Place::TEAM_MAX) << TEAM_SHIFT);
        Self(head | u128::from(fields.pack()))
    }

    /// The origin, organisation and team.
    pub fn place(self) -> Place {
        Place::of_bits(
            (self.0 >> 104) as u32,
            (self.0 >> ORG_SHIFT) as u32,
            (self.0 >> TEAM_SHIFT) as u32,
        )
    }

    /// The application number.
    pub fn app(self) -> u8 {
        (self.0 >> APP_SHIFT) as u8
    }

    /// What the name is for. Under another application than the messenger: [`Path::Other`].
    pub fn path(self) -> Path {
        let number = (self.0 >> PATH_SHIFT) as u8;
        if self.app() == MESSENGER {
            Path::from_number(number)
        } else {
            Path::Other(number)
        }
    }

    /// The low 50 bits, read as the path says.
    pub fn fields(self) -> Fields {
        Fields::unpack(self.path(), self.0 as u64 & Fields::MASK)
    }

    /// All chunks of one path of one team.
    pub fn team_prefix(place: Place, path: Path) -> Prefix {
        let zero = Self::new(place, Fields::unpack(path, 0));
        Prefix::of(zero, Self::TEAM_BITS)
    }

    /// The name `count` numbers further on, within its number field: the next fragment of a run.
    /// `None` when the field is full.
    pub fn offset(self, count: u32) -> Option<Self> {
        let bits = self.fields().number_bits();
        let mask = (1u64 << bits) - 1;
        let number = (self.0 as u64 & mask)
            .checked_add(u64::from(count))
            .filter(|n| *n <= mask)?;
        Some(Self(self.0 & !u128::from(mask) | u128::from(number)))
    }

    /// The 16 bytes on the wire.
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Prefix::of(*self, 128), f)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Name({self})")
    }
}

impl FromStr for Name {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, TextError> {
        let prefix: Prefix = text.parse()?;
        if prefix.bits() < 128 {
            return Err(TextError::Part {
                found: text.into(),
                expected: "a whole name",
            });
        }
        Ok(prefix.first())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OriginId;

    fn place() -> Place {
        Place {
            origin: OriginId::new(0xabcdef),
            org: 0x2aaaa,
            team: 0x55555,
        }
    }

    #[test]
    fn fields_do_not_cross_their_widths() {
        let full = Place {
            origin: OriginId::new(u32::MAX),
            org: u32::MAX,
            team: u32::MAX,
        };
        let fields = Fields::Message {
            channel: u16::MAX,
            device: u32::MAX,
            number: u32::MAX,
        };
        let name = Name::new(full, fields);
        assert_eq!(name.path(), Path::Message);
        assert_eq!(name.app(), MESSENGER);
        assert_eq!(name.place().org, Place::ORG_MAX);
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let fields = Fields::Message {
            channel: 1,
            device: 2,
            number: 3,
        };
        let name = Name::new(place(), fields);
        let expected = (0xabcdef_u128 << 104)
            | (1 << 96)
            | (1 << 88)
            | (0x2aaaa << 70)
            | (0x55555 << 50)
            | (1 << 40)
            | (2 << 20)
            | 3;
        assert_eq!(name.0, expected);
        assert_eq!(name.fields(), fields);
        assert_eq!(name.place(), place());
    }

    #[test]
    fn offset_stays_in_the_number_field() {
        let last = Fields::Message {
            channel: 1,
            device: 2,
            number: 0xfffff,
        };
        assert_eq!(Name::new(place(), last).offset(1), None);
        let first = Name::new(
            place(),
            Fields::Message {
                channel: 1,
                device: 2,
                number: 0,
            },
        );
        assert_eq!(
            first.offset(5).map(Name::fields),
            Some(Fields::Message {
                channel: 1,
                device: 2,
                number: 5
            })
        );
    }
}
