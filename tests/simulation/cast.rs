//! Who appears in every simulated world: one origin, one organisation, its devices, a squatter with
//! a grant of its own. Their keys and grants are made once.

use std::sync::LazyLock;

use proto::{
    Chunk, Fields, Grant, GrantId, Limits, Name, Path, Pattern, Place, Prefix, Registration, Rule,
    Signer, Timestamp, Verbs,
};

/// Virtual time 0 in the worlds' clocks.
pub const START_MS: u64 = 1_800_000_000_000;
/// Chunks that outlive every simulated run live so long.
pub const LONG_LIFE_MS: u64 = 10 * HOUR_MS;
/// Devices that may publish; the last one is the squatter's.
pub const DEVICES: usize = 12;
pub const SQUATTER: usize = DEVICES;
pub const CHANNELS: u16 = 3;
const HOUR_MS: u64 = 3_600_000;

/// A device: its number is its index and 1.
pub struct Device {
    pub number: u32,
    pub key: Signer,
    pub grant: GrantId,
    /// The chain of its grant, the origin's first.
    pub chain: Vec<Chunk>,
}

pub struct Cast {
    pub origin: Signer,
    pub devices: Vec<Device>,
}

pub static CAST: LazyLock<Cast> = LazyLock::new(|| {
    let origin = Signer::from_seed(&[1; 32]);
    let not_after = Timestamp::from_millis(START_MS + 1000 * HOUR_MS);
    let registration =
        Registration::issue(&origin, 1, [2; 32], not_after).expect("one rule fits a grant");
    let founder = Signer::from_seed(&registration.seed);
    let parent = GrantId::of(&registration.grant);
    let device = |index: usize| {
        let (number, key) = (index as u32 + 1, Signer::from_seed(&[index as u8 + 10; 32]));
        let grant = Grant {
            subject: key.public_key(),
            not_after: Timestamp::from_millis(START_MS + 500 * HOUR_MS),
            limits: Limits {
                life_ms: 20 * HOUR_MS,
                ..Limits::default()
            },
            rules: vec![Rule {
                verbs: Verbs::PUBLISH.and(Verbs::SUBSCRIBE),
                pattern: Pattern::of_device(place(&origin), Path::Message, number),
            }],
        };
        let chunk = grant
            .sign(place(&origin), number, parent, &founder)
            .expect("one rule fits a grant");
        let grant = GrantId::of(&chunk);
        Device {
            number,
            key,
            grant,
            chain: vec![registration.grant.clone(), chunk],
        }
    };
    let devices = (0..=SQUATTER).map(device).collect();
    Cast { origin, devices }
});

fn place(origin: &Signer) -> Place {
    Place {
        origin: origin.public_key().origin_id(),
        org: 1,
        team: 2,
    }
}

impl Cast {
    pub fn place(&self) -> Place {
        place(&self.origin)
    }

    pub fn name(&self, device: usize, channel: u16, number: u32) -> Name {
        let device = self.devices[device].number;
        Name::new(
            self.place(),
            Fields::Message {
                channel,
                device,
                number,
            },
        )
    }

    pub fn team(&self) -> Prefix {
        Name::team_prefix(self.place(), Path::Message)
    }

    pub fn channel(&self, channel: u16) -> Prefix {
        Prefix::of(self.name(0, channel, 0), Name::TEAM_BITS + 10)
    }

    /// A chunk as its owner makes it.
    pub fn chunk(&self, device: usize, name: Name, expiry_ms: u64, data: &[u8]) -> Chunk {
        let Device { key, grant, .. } = &self.devices[device];
        let expiry = Timestamp::from_millis(START_MS + expiry_ms);
        Chunk::sign(name, expiry, *grant, data, key).expect("the data fits")
    }
}
