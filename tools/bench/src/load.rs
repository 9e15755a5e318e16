//! What is published: chunks of one device, signed before the clock starts.

use anyhow::{Result, bail};
use proto::{
    Chunk, Fields, Frame, GrantId, Name, Outcome, Path, Place, Prefix, Registration, Signer,
};
use relay::driver::now;

use crate::link::Link;

/// How long chunks live: longer than any run.
const LIFE_MS: u64 = 24 * 60 * 60 * 1000;
/// Bytes of data in a chunk: the largest, as in the floors of docs/performance.md.
const DATA: usize = 1024;

/// A device that may publish.
pub struct Publisher {
    signer: Signer,
    grant: Chunk,
    place: Place,
    next: u32,
}

impl Publisher {
    /// The holder of a registration, in a team.
    pub fn new(registration: &Registration, team: u32) -> Self {
        Self {
            signer: Signer::from_seed(&registration.seed),
            grant: registration.grant.clone(),
            place: Place {
                origin: registration.origin.origin_id(),
                org: registration.org,
                team,
            },
            next: 0,
        }
    }

    /// The holder of another registration, who aims at this one's names.
    pub fn squatter(&self, other: &Registration) -> Self {
        Self {
            place: self.place,
            ..Self::new(other, 0)
        }
    }

    /// What readers subscribe to.
    pub fn prefix(&self) -> Prefix {
        Name::team_prefix(self.place, Path::Message)
    }

    /// What has to be sent before the first chunk.
    pub fn grant(&self) -> Frame {
        Frame::Grant(vec![self.grant.clone()])
    }

    /// The next so many chunks.
    pub fn chunks(&mut self, count: usize) -> Vec<Chunk> {
        let first = self.next;
        self.next += u32::try_from(count).unwrap_or(u32::MAX);
        (first..self.next)
            .map(|number| self.chunk(number, &self.signer))
            .collect()
    }

    /// A chunk of this number, signed by whoever.
    pub fn chunk(&self, number: u32, signer: &Signer) -> Chunk {
        let name = Name::new(
            self.place,
            Fields::Message {
                channel: (number >> 20) as u16 + 1,
                device: 3,
                number: number & 0xF_FFFF,
            },
        );
        let expiry = now().plus_millis(LIFE_MS);
        Chunk::sign(
            name,
            expiry,
            GrantId::of(&self.grant),
            &[number as u8; DATA],
            signer,
        )
        .expect("the data is as long as a chunk may hold")
    }
}

/// Counts what a relay acknowledges; refusals end the run.
pub fn acknowledged(frame: &Frame) -> Result<Vec<Name>> {
    let Frame::Ack(acks) = frame else {
        return Ok(Vec::new());
    };
    let stored = |(name, outcome): &(Name, Outcome)| match outcome {
        Outcome::Stored(_) => Ok(*name),
        Outcome::Refused(why) => bail!("the relay refused {name}: {why}"),
    };
    acks.iter().map(stored).collect()
}

/// Publishes everything, so many unanswered at most, one chunk a frame, and waits for the last answer.
pub async fn publish(link: &mut Link, chunks: &[Chunk], window: usize) -> Result<()> {
    let mut answered = 0;
    let mut sent = 0;
    while answered < chunks.len() {
        let until = chunks.len().min(answered + window);
        if sent < until {
            let frames: Vec<_> = chunks[sent..until]
                .iter()
                .map(|chunk| Frame::Publish(vec![chunk.clone()]))
                .collect();
            link.send(&frames).await?;
            sent = until;
        }
        answered += acknowledged(&link.next().await?)?.len();
    }
    Ok(())
}
