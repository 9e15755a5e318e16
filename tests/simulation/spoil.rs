//! What hostile parties do, and what planted faults do to the frames of honest nodes.

use proto::{Chunk, Cursor, Frame, GrantId, Name, Order, Outcome, Start, Tier, Timestamp};
use relay_core::store::{Store, StoreId};

use crate::cast::{CAST, LONG_LIFE_MS, SQUATTER, START_MS};
use crate::mutant::Mutant;
use crate::wires::End;
use crate::world::World;

impl World {
    /// Junk under the next names of the others: with the own grant, with theirs, with one forged.
    pub fn squat(&mut self, client: usize) {
        let members = self.plan.hosts.len().min(CAST.devices.len() - 1);
        let victim = self.chance.index(members);
        let channel = self.chance.index(self.clients[client].next.len()) as u16;
        let next = self.clients.iter().find(|own| own.device == victim);
        let next = next.map_or(0, |own| own.next[usize::from(channel)]);
        let number = next + self.chance.below(4) as u32;
        let name = CAST.name(victim, channel, number);
        let junk = match self.chance.below(4) {
            0 => CAST.chunk(SQUATTER, name, LONG_LIFE_MS, b"junk"),
            1 => forged(name, CAST.devices[victim].grant),
            2 => forged(name, GrantId::NONE),
            _ => {
                let mut bytes = CAST.devices[victim].chain[1].encoded().to_vec();
                let at = bytes.len() - 70;
                bytes[at] ^= 1;
                if let Ok(grant) = Chunk::decode(bytes.into()) {
                    self.say(client, &Frame::Grant(vec![grant]));
                }
                CAST.chunk(SQUATTER, name, LONG_LIFE_MS, b"junk")
            }
        };
        self.tally.squats += 1;
        let chain = CAST.devices[victim].chain.clone();
        self.say(client, &Frame::Grant(chain));
        self.send_chunks(client, &[junk]);
    }

    /// A hostile relay says that everything is at the origin, and throws it away.
    pub fn lie(&mut self, wire: usize, side: usize, chunks: &[Chunk]) {
        let names: Vec<Name> = chunks.iter().map(Chunk::name).collect();
        self.model.lied.extend(&names);
        self.tally.lies += 1;
        let acks = names
            .iter()
            .map(|name| (*name, Outcome::Stored(Tier::Origin)))
            .collect();
        self.transmit(wire, 1 - side, Frame::Ack(acks).to_bytes());
    }

    /// Changes what a node sends; returns whether it did.
    pub fn spoil(&mut self, host: usize, way: (usize, usize), frames: &mut Vec<Frame>) -> bool {
        if !self.hosts[host].honest {
            frames
                .iter_mut()
                .for_each(|frame| self.corrupt(host, frame));
            return true;
        }
        let Some(mutant) = self.mutant else {
            return false;
        };
        let before = frames.len();
        let up = way.1 == 1 && self.is_host(self.wires[way.0].ends[1]);
        let again = self.hosts[host].joined > 1;
        let tier = self.hosts[host].tier;
        let below = self.is_host(self.wires[way.0].ends[way.1]);
        match mutant {
            Mutant::NoResync if up && again => {
                frames.retain(|frame| !matches!(frame, Frame::Subscribe { .. }));
            }
            Mutant::InterestTwice if up => {
                let twice: Vec<Frame> = frames
                    .iter()
                    .filter_map(|frame| match frame.clone() {
                        Frame::Subscribe {
                            id,
                            prefix,
                            start,
                            order,
                        } => Some(Frame::Subscribe {
                            id: id + 1_000_000,
                            prefix,
                            start,
                            order,
                        }),
                        _ => None,
                    })
                    .collect();
                frames.extend(twice);
            }
            Mutant::NoBacklog if up => {
                for frame in frames.iter_mut() {
                    if let Frame::Subscribe { start, order, .. } = frame {
                        (*start, *order) = (Start::Newest(0), Order::OldestFirst);
                    }
                }
                return true;
            }
            Mutant::LaterAckDropped if !up => {
                for frame in frames.iter_mut() {
                    if let Frame::Ack(acks) = frame {
                        acks.retain(|(_, outcome)| {
                            *outcome != Outcome::Stored(Tier::Origin) || tier == Tier::Origin
                        });
                    }
                }
                return true;
            }
            Mutant::FetchUnanswered if !below => {
                for frame in frames.iter_mut() {
                    if let (Frame::Chunks { id, chunks }, End::Client(client)) =
                        (frame, self.wires[way.0].ends[way.1])
                        && self.clients[client].fetches.contains_key(id)
                    {
                        chunks.clear();
                    }
                }
                return true;
            }
            _ => {}
        }
        before != frames.len()
    }

    fn corrupt(&mut self, host: usize, frame: &mut Frame) {
        match frame {
            Frame::Hello(hello) => {
                // It poses as another relay's store, to have its own cursors used there.
                let other = self.chance.index(self.hosts.len());
                hello.store = [other as u8 + 1; 16];
            }
            Frame::Chunks { chunks, .. } => {
                if self.chance.one_in(2) {
                    self.tally.withheld += chunks.len() as u64;
                    chunks.clear();
                } else if self.chance.one_in(8)
                    && let Some(chunk) = chunks.first_mut()
                {
                    *chunk = forged(chunk.name(), chunk.grant());
                }
            }
            Frame::CaughtUp { cursor, .. } if self.chance.one_in(2) => {
                let other = StoreId([self.chance.index(self.hosts.len()) as u8 + 1; 16]);
                *cursor = match self.chance.below(3) {
                    0 => other.cursor(self.chance.below(200)),
                    1 => StoreId([host as u8 + 1; 16]).cursor(u64::MAX),
                    _ => Cursor::new(vec![0xff; 3]).unwrap_or_else(|| other.cursor(1)),
                };
            }
            Frame::Publish(chunks) if self.chance.one_in(2) => chunks.clear(),
            _ => {}
        }
    }

    /// A planted fault: what nobody had the right to sign is stored.
    pub fn put_unchecked(&mut self, host: usize, chunks: &[Chunk]) {
        let junk: Vec<Chunk> = chunks
            .iter()
            .filter(|chunk| !self.model.is_valid(chunk))
            .cloned()
            .collect();
        if let Some(disk) = self.hosts[host].disk() {
            disk.put_unchecked(&junk);
        }
    }

    /// A planted fault: the later bytes under a name take the place of the first.
    pub fn put_over(&mut self, host: usize, chunks: &[Chunk]) {
        for chunk in chunks.iter().filter(|chunk| self.model.is_valid(chunk)) {
            if let Some(disk) = self.hosts[host].disk() {
                disk.put_over(chunk);
            }
        }
    }

    /// A planted fault: a node repeats what everybody knows.
    pub fn chatter(&mut self, host: usize) {
        let tier = self.hosts[host].tier;
        let links: Vec<_> = self.hosts[host].links.values().copied().collect();
        for (wire, side) in links.into_iter().filter(|(_, side)| *side == 1) {
            let frame = Frame::Reach {
                tier,
                relay: String::new(),
            };
            self.last_traffic = self.now;
            self.transmit(wire, 1 - side, frame.to_bytes());
        }
    }

    /// A planted fault: a cursor of any store is taken for one's own.
    pub fn trust_cursor(&mut self, host: usize, frame: Frame) -> Frame {
        let Frame::Subscribe {
            id,
            prefix,
            start: Start::After(cursor),
            order,
        } = frame
        else {
            return frame;
        };
        let mut bytes = cursor.as_bytes().to_vec();
        let own = self.hosts[host].disk().map_or([0; 16], |disk| disk.id().0);
        if bytes.len() >= 16 {
            bytes[..16].copy_from_slice(&own);
        }
        let start = Cursor::new(bytes).map_or(Start::All, Start::After);
        Frame::Subscribe {
            id,
            prefix,
            start,
            order,
        }
    }
}

/// A chunk that claims a grant and is signed by somebody else.
fn forged(name: Name, grant: GrantId) -> Chunk {
    let expiry = Timestamp::from_millis(START_MS + LONG_LIFE_MS);
    Chunk::sign(name, expiry, grant, b"forged", &CAST.devices[SQUATTER].key)
        .expect("it is short enough")
}
