//! A set of names by value and mask, with any bits free (docs/protocol.md, "Pattern"). Grants need
//! it, because the channel stands before the device in a message's name.

use crate::{Name, Prefix};

/// All names that equal `value` in the bits of `mask`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    value: u128,
    mask: u128,
}

impl Pattern {
    /// The pattern with these fixed bits; bits of `value` outside `mask` are cleared.
    pub const fn new(value: u128, mask: u128) -> Self {
        Self {
            value: value & mask,
            mask,
        }
    }

    /// Exactly the names under a prefix.
    pub fn of_prefix(prefix: Prefix) -> Self {
        Self::new(prefix.first().0, Prefix::mask(prefix.bits()))
    }

    /// Every name of an origin, of any application.
    pub const fn of_origin(origin: crate::OriginId) -> Self {
        Self::new((origin.get() as u128) << 104, 0x00ff_ffff << 104)
    }

    /// Every name of an organisation of the messenger, on any path.
    pub fn of_org(origin: crate::OriginId, org: u32) -> Self {
        let place = crate::Place {
            origin,
            org,
            team: 0,
        };
        let name = Name::new(place, crate::Fields::unpack(crate::Path::Other(0), 0));
        Self::new(name.0, 0xffff_ffff << 96 | 0x3_ffff << 70)
    }

    /// This device's names on this path of this team, in every channel where the path has channels.
    pub fn of_device(place: crate::Place, path: crate::Path, device: u32) -> Self {
        use crate::Fields;
        let width = |bits: u32| (1u128 << bits) - 1;
        let (fields, free) = match path {
            crate::Path::Message => (
                Fields::Message {
                    channel: 0,
                    device,
                    number: 0,
                },
                width(10) << 40 | width(20),
            ),
            crate::Path::Blob => (Fields::Blob { device, number: 0 }, width(30)),
            other => (Fields::unpack(other, 0), width(50)),
        };
        Self::new(Name::new(place, fields).0, !free)
    }

    /// The fixed bits' values.
    pub const fn value(self) -> u128 {
        self.value
    }

    /// One for each fixed bit.
    pub const fn mask(self) -> u128 {
        self.mask
    }

    /// Whether the name is in the set.
    pub const fn matches(self, name: Name) -> bool {
        name.0 & self.mask == self.value
    }

    /// Whether every name of `other` is in this set.
    pub const fn covers(self, other: Self) -> bool {
        self.mask & other.mask == self.mask && other.value & self.mask == self.value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Fields, OriginId, Path, Place};

    #[test]
    fn a_device_pattern_holds_all_channels_and_no_other_device() {
        let place = Place {
            origin: OriginId::new(1),
            org: 2,
            team: 3,
        };
        let pattern = Pattern::of_device(place, Path::Message, 7);
        let name = |channel, device| {
            Name::new(
                place,
                Fields::Message {
                    channel,
                    device,
                    number: 9,
                },
            )
        };
        assert!(pattern.matches(name(0, 7)) && pattern.matches(name(1023, 7)));
        assert!(!pattern.matches(name(0, 8)));
        let blob = Pattern::of_device(place, Path::Blob, 7);
        assert!(blob.matches(Name::new(
            place,
            Fields::Blob {
                device: 7,
                number: 1
            }
        )));
        assert!(!blob.matches(name(0, 7)));
    }

    #[test]
    fn covering_is_by_fixed_bits() {
        let wide = Pattern::new(0xf0 << 120, 0xf0 << 120);
        let narrow = Pattern::new(0xf1 << 120, 0xff << 120);
        assert!(wide.covers(narrow) && wide.covers(wide));
        assert!(!narrow.covers(wide));
        assert!(!wide.covers(Pattern::new(0xe1 << 120, 0xff << 120)));
    }
}
