//! A client of a relay for tools and tests: it publishes, subscribes and fetches, and shows every
//! answer. It keeps nothing, resumes nothing and decides nothing; a node does that.
//!
//! One task uses it: send, then take answers with [`Client::next`] until the awaited one has come.

use std::collections::BTreeMap;

use bytes::Bytes;
use proto::{
    Chunk, Cursor, Frame, Hello, Misbehaved, Name, Order, Outcome, Prefix, Signer, Start, Tier,
    limits,
};
use thiserror::Error;

use crate::address::RelayAddress;
use crate::driver::now;
use crate::link::connect::{ConnectError, Connected, Ground, NetSink, NetSource, connect};
use crate::link::{self, Frames, Sink};

/// Chunks sent before the first of them has been answered, at most.
const UNANSWERED: usize = 512;

/// Why a client cannot go on. One line.
#[derive(Debug, Error)]
pub enum ClientError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The relay ended the link.
    #[error("the relay {place} ended the link: {reason}")]
    Closed {
        /// Where.
        place: String,
        /// What it said, or that it said nothing.
        reason: String,
    },
}

/// What a relay said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Grants that later chunks rely on, the origin's first.
    Grants(Vec<Chunk>),
    /// What became of published chunks.
    Acks(Vec<(Name, Outcome)>),
    /// Chunks of a subscription or a fetch.
    Chunks {
        /// Which.
        id: u32,
        /// The chunks.
        chunks: Vec<Chunk>,
    },
    /// Everything up to the cursor has been sent; for a fetch: its end.
    CaughtUp {
        /// Which.
        id: u32,
        /// Where to resume.
        cursor: Cursor,
        /// False while more of the backlog follows.
        live: bool,
    },
    /// The farthest tier that the relay reaches now, and through which relay.
    Reach(Tier, String),
}

/// A link to a relay.
pub struct Client {
    place: String,
    ground: Ground,
    frames: Frames<NetSource>,
    sink: NetSink,
    hello: Hello,
    next_id: u32,
}

impl Client {
    /// Connects, and waits for the relay's greeting. `own` is the key to show; any will do.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn connect(relay: &RelayAddress, own: &Signer) -> Result<Self, ClientError> {
        Self::greet(connect(relay, own).await?).await
    }

    /// Waits for the relay's greeting on a connection that is up.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn greet(connected: Connected) -> Result<Self, ClientError> {
        let hello = Hello {
            oldest: Hello::OLDEST,
            newest: Hello::VERSION,
            features: Hello::TRANSPORTS,
            tier: Tier::Device,
            time: now(),
            store: [0; 16],
        };
        let mut client = Self {
            place: connected.relay().place.clone(),
            ground: connected.ground,
            frames: Frames::new(connected.source),
            sink: connected.sink,
            hello: hello.clone(),
            next_id: 0,
        };
        client.send(&Frame::Hello(hello)).await?;
        match client.frames.next().await {
            Some(Frame::Hello(hello)) if hello.version_in_force().is_none() => {
                return Err(client.closed(format!("it {}", Misbehaved::NoCommonVersion)));
            }
            Some(Frame::Hello(hello)) => client.hello = hello,
            Some(Frame::Close { reason }) => return Err(client.closed(reason)),
            _ => return Err(client.closed("it did not greet".into())),
        }
        Ok(client)
    }

    /// The relay's greeting: its tier, its clock and its store.
    pub fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Sends a chain of grants, the origin's first, for chunks that follow.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn grant(&mut self, chain: &[Chunk]) -> Result<(), ClientError> {
        self.send(&Frame::Grant(chain.to_vec())).await
    }

    /// Publishes chunks; each is answered by [`Said::Acks`], stored ones again for each later tier.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn publish(&mut self, chunks: &[Chunk]) -> Result<(), ClientError> {
        for part in chunks.chunks(limits::CHUNKS_PER_FRAME) {
            self.send(&Frame::Publish(part.to_vec())).await?;
        }
        Ok(())
    }

    /// Publishes chunks and waits until each has come as far as `tier` or was refused. Other things
    /// that the relay says meanwhile are dropped.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn publish_and_wait(
        &mut self,
        chunks: &[Chunk],
        tier: Tier,
    ) -> Result<BTreeMap<Name, Outcome>, ClientError> {
        let mut outcomes = BTreeMap::new();
        for part in chunks.chunks(UNANSWERED) {
            self.publish(part).await?;
            let settled = |outcome: &Outcome| !matches!(outcome, Outcome::Stored(at) if *at < tier);
            while !part
                .iter()
                .all(|chunk| outcomes.get(&chunk.name()).is_some_and(settled))
            {
                if let Said::Acks(acks) = self.next().await? {
                    outcomes.extend(acks);
                }
            }
        }
        Ok(outcomes)
    }

    /// Subscribes, and returns the id under which chunks come.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn subscribe(
        &mut self,
        prefix: Prefix,
        start: Start,
        order: Order,
    ) -> Result<u32, ClientError> {
        self.next_id += 1;
        let id = self.next_id;
        self.send(&Frame::Subscribe {
            id,
            prefix,
            start,
            order,
        })
        .await?;
        Ok(id)
    }

    /// Ends a subscription; some chunks may still be on their way.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn unsubscribe(&mut self, id: u32) -> Result<(), ClientError> {
        self.send(&Frame::Unsubscribe { id }).await
    }

    /// Reads every chunk that is under a prefix now, the grants that they rely on included when they
    /// are under it. `each` gets them in the relay's order of arrival.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn read(
        &mut self,
        prefix: Prefix,
        mut each: impl FnMut(Chunk),
    ) -> Result<(), ClientError> {
        let own = self
            .subscribe(prefix, Start::All, Order::OldestFirst)
            .await?;
        loop {
            match self.next().await? {
                Said::Chunks { id, chunks } if id == own => chunks.into_iter().for_each(&mut each),
                Said::CaughtUp { id, live: true, .. } if id == own => break,
                _ => {}
            }
        }
        self.unsubscribe(own).await
    }

    /// Fetches chunks by name, at most 512; those that the tree does not have are missing in the
    /// answer. Other things that the relay says meanwhile are dropped.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn fetch(&mut self, names: &[Name]) -> Result<Vec<Chunk>, ClientError> {
        self.next_id += 1;
        let own = self.next_id;
        self.send(&Frame::Fetch {
            id: own,
            names: names.to_vec(),
        })
        .await?;
        let mut found = Vec::new();
        loop {
            match self.next().await? {
                Said::Chunks { id, chunks } if id == own => found.extend(chunks),
                Said::CaughtUp { id, .. } if id == own => return Ok(found),
                _ => {}
            }
        }
    }

    /// The next thing that the relay says. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn next(&mut self) -> Result<Said, ClientError> {
        loop {
            return Ok(match self.frames.next().await {
                Some(Frame::Grant(chunks)) => Said::Grants(chunks),
                Some(Frame::Ack(acks)) => Said::Acks(acks),
                Some(Frame::Chunks { id, chunks }) => Said::Chunks { id, chunks },
                Some(Frame::CaughtUp { id, cursor, live }) => Said::CaughtUp { id, cursor, live },
                Some(Frame::Reach { tier, relay }) => Said::Reach(tier, relay),
                Some(Frame::Close { reason }) => return Err(self.closed(reason)),
                Some(_) => continue,
                None => return Err(self.closed("without a word".into())),
            });
        }
    }

    /// Sends any frame: also what an honest client would not, for tests.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn send(&mut self, frame: &Frame) -> Result<(), ClientError> {
        self.send_bytes(frame.to_bytes()).await
    }

    /// Sends any bytes, for tests.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn send_bytes(&mut self, bytes: Bytes) -> Result<(), ClientError> {
        match self.sink.write(&mut [bytes]).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.closed(error.to_string())),
        }
    }

    /// Says goodbye, and waits until the relay has everything that was sent.
    pub async fn close(mut self) {
        let _ = self
            .send(&Frame::Close {
                reason: "done".into(),
            })
            .await;
        link::end(&mut self.frames.source, &mut self.sink).await;
        self.ground.close().await;
    }

    fn closed(&self, reason: String) -> ClientError {
        ClientError::Closed {
            place: self.place.clone(),
            reason,
        }
    }
}
