//! What a name is for, and how its low 50 bits are laid out for that (docs/protocol.md, "Name").

use std::fmt;

/// The number of an origin: the first 24 bits of a hash of its public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OriginId(u32);

impl OriginId {
    /// The low 24 bits of a number.
    pub const fn new(number: u32) -> Self {
        Self(number & 0x00ff_ffff)
    }

    /// The number, 24 bits.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Debug for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OriginId({:06x})", self.0)
    }
}

/// A team of an organisation at an origin; team 1 is the organisation's administration, team 0 the
/// organisation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The origin.
    pub origin: OriginId,
    /// The organisation, 18 bits.
    pub org: u32,
    /// The team, 20 bits.
    pub team: u32,
}

impl Place {
    /// The highest organisation number.
    pub const ORG_MAX: u32 = (1 << 18) - 1;
    /// The highest team number.
    pub const TEAM_MAX: u32 = (1 << 20) - 1;

    pub(crate) const fn of_bits(origin: u32, org: u32, team: u32) -> Self {
        Self {
            origin: OriginId::new(origin),
            org: org & Self::ORG_MAX,
            team: team & Self::TEAM_MAX,
        }
    }
}

/// What a chunk is for. Numbers without a name here are stored and forwarded like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// 1: a chunk of a device's feed in a channel.
    Message,
    /// 2: the key package of a device that wants to join.
    KeyPackage,
    /// 3: the welcome for that device.
    Welcome,
    /// 4: a commit of the team's MLS group.
    Commit,
    /// 6: a run of consecutive chunks.
    Blob,
    /// 7: who may fill what.
    Grant,
    /// 8: keys of origins and organisations, relay records, revocations.
    Record,
    /// Any other number.
    Other(u8),
}

impl Path {
    /// The paths with a name, in order.
    pub const NAMED: [Self; 7] = [
        Self::Message,
        Self::KeyPackage,
        Self::Welcome,
        Self::Commit,
        Self::Blob,
        Self::Grant,
        Self::Record,
    ];

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::KeyPackage => 2,
            Self::Welcome => 3,
            Self::Commit => 4,
            Self::Blob => 6,
            Self::Grant => 7,
            Self::Record => 8,
            Self::Other(number) => number,
        }
    }

    /// The path of a number.
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Message,
            2 => Self::KeyPackage,
            3 => Self::Welcome,
            4 => Self::Commit,
            6 => Self::Blob,
            7 => Self::Grant,
            8 => Self::Record,
            other => Self::Other(other),
        }
    }

    /// The word in the text form; `None` for a number without one.
    pub const fn word(self) -> Option<&'static str> {
        Some(match self {
            Self::Message => "message",
            Self::KeyPackage => "key-package",
            Self::Welcome => "welcome",
            Self::Commit => "commit",
            Self::Blob => "blob",
            Self::Grant => "grant",
            Self::Record => "record",
            Self::Other(_) => return None,
        })
    }

    /// The fields after the team, from the left: label in the text form, and width in bits.
    pub(crate) const fn layout(self) -> &'static [(&'static str, u32)] {
        match self {
            Self::Message => &[("ch-", 10), ("dev-", 20), ("", 20)],
            Self::KeyPackage | Self::Welcome => &[("key-", 46), ("", 4)],
            Self::Commit => &[("epoch-", 24), ("tag-", 18), ("", 8)],
            Self::Blob | Self::Grant => &[("dev-", 20), ("", 30)],
            Self::Record => &[("kind-", 10), ("", 40)],
            Self::Other(_) => &[("", 50)],
        }
    }
}

/// The low 50 bits of a name, by path. A value wider than its field is cut to the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fields {
    /// Path 1.
    Message {
        /// 10 bits.
        channel: u16,
        /// The author, 20 bits.
        device: u32,
        /// The chunk's place in the feed, 20 bits.
        number: u32,
    },
    /// Path 2.
    KeyPackage {
        /// The first 30 bits of the publishing key's fingerprint, and a tag of 16.
        fingerprint: u64,
        /// 4 bits.
        fragment: u8,
    },
    /// Path 3.
    Welcome {
        /// The first 30 bits of the joiner's fingerprint, and a tag of 16.
        fingerprint: u64,
        /// 4 bits.
        fragment: u8,
    },
    /// Path 4.
    Commit {
        /// The epoch that the commit ends, 24 bits.
        epoch: u32,
        /// The first 18 bits of the SHA-256 of the commit's bytes.
        tag: u32,
        /// 8 bits.
        fragment: u8,
    },
    /// Path 6.
    Blob {
        /// The author, 20 bits.
        device: u32,
        /// 30 bits.
        number: u32,
    },
    /// Path 7.
    Grant {
        /// The subject's device number, 0 for an organisation's own key; 20 bits.
        device: u32,
        /// The first 30 bits of the SHA-256 of the grant's data.
        serial: u32,
    },
    /// Path 8.
    Record {
        /// 10 bits.
        kind: u16,
        /// 40 bits.
        serial: u64,
    },
    /// Any other path.
    Other {
        /// Its number.
        path: u8,
        /// 50 bits.
        bits: u64,
    },
}

impl Fields {
    pub(crate) const MASK: u64 = (1 << 50) - 1;

    /// The path of these fields.
    pub const fn path(self) -> Path {
        match self {
            Self::Message { .. } => Path::Message,
            Self::KeyPackage { .. } => Path::KeyPackage,
            Self::Welcome { .. } => Path::Welcome,
            Self::Commit { .. } => Path::Commit,
            Self::Blob { .. } => Path::Blob,
            Self::Grant { .. } => Path::Grant,
            Self::Record { .. } => Path::Record,
            Self::Other { path, .. } => Path::Other(path),
        }
    }

    /// The width of the last field, the one that consecutive fragments count in.
    pub(crate) fn number_bits(self) -> u32 {
        self.path().layout().last().map_or(50, |(_, bits)| *bits)
    }

    pub(crate) fn pack(self) -> u64 {
        match self {
            Self::Message {
                channel,
                device,
                number,
            } => pack(&[
                (channel.into(), 10),
                (device.into(), 20),
                (number.into(), 20),
            ]),
            Self::KeyPackage {
                fingerprint,
                fragment,
            }
            | Self::Welcome {
                fingerprint,
                fragment,
            } => pack(&[(fingerprint, 46), (fragment.into(), 4)]),
            Self::Commit {
                epoch,
                tag,
                fragment,
            } => pack(&[(epoch.into(), 24), (tag.into(), 18), (fragment.into(), 8)]),
            Self::Blob { device, number } => pack(&[(device.into(), 20), (number.into(), 30)]),
            Self::Grant { device, serial } => pack(&[(device.into(), 20), (serial.into(), 30)]),
            Self::Record { kind, serial } => pack(&[(kind.into(), 10), (serial, 40)]),
            Self::Other { bits, .. } => bits & Self::MASK,
        }
    }

    pub(crate) fn unpack(path: Path, bits: u64) -> Self {
        let field = |shift: u32, width: u32| (bits >> shift) & ((1 << width) - 1);
        match path {
            Path::Message => Self::Message {
                channel: field(40, 10) as u16,
                device: field(20, 20) as u32,
                number: field(0, 20) as u32,
            },
            Path::KeyPackage => Self::KeyPackage {
                fingerprint: field(4, 46),
                fragment: field(0, 4) as u8,
            },
            Path::Welcome => Self::Welcome {
                fingerprint: field(4, 46),
                fragment: field(0, 4) as u8,
            },
            Path::Commit => Self::Commit {
                epoch: field(26, 24) as u32,
                tag: field(8, 18) as u32,
                fragment: field(0, 8) as u8,
            },
            Path::Blob => Self::Blob {
                device: field(30, 20) as u32,
                number: field(0, 30) as u32,
            },
            Path::Grant => Self::Grant {
                device: field(30, 20) as u32,
                serial: field(0, 30) as u32,
            },
            Path::Record => Self::Record {
                kind: field(40, 10) as u16,
                serial: field(0, 40),
            },
            Path::Other(path) => Self::Other {
                path,
                bits: field(0, 50),
            },
        }
    }
}

/// Puts values beside each other from the left, each cut to its width.
fn pack(values: &[(u64, u32)]) -> u64 {
    values.iter().fold(0, |bits, (value, width)| {
        (bits << width) | (value & ((1 << width) - 1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_layout_fills_50_bits() {
        for path in Path::NAMED {
            assert_eq!(
                path.layout().iter().map(|(_, bits)| bits).sum::<u32>(),
                50,
                "{path:?}"
            );
        }
    }

    #[test]
    fn unpacking_and_packing_is_the_identity() {
        for path in Path::NAMED.into_iter().chain([Path::Other(99)]) {
            for bits in [
                0,
                1,
                Fields::MASK,
                0x2_aaaa_aaaa_aaaa & Fields::MASK,
                1 << 49,
            ] {
                assert_eq!(Fields::unpack(path, bits).pack(), bits, "{path:?} {bits:x}");
            }
        }
    }
}
