//! Connections to a relay or to the floor: frames, over the transport that is asked for.

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use proto::{Frame, FrameDecoder, Hello, Order, Prefix, Signer, Start, Tier};
use relay::address::RelayAddress;
use relay::driver::now;
use relay::link::connect::{NetSink, NetSource};
use relay::link::{Sink as _, Source as _, quic, tcp};

/// How a connection is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Transport {
    /// QUIC over UDP.
    Quic,
    /// TLS over TCP.
    Tls,
}

impl Transport {
    /// As it is written on the command line and in rows.
    pub fn word(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tls => "tls",
        }
    }
}

/// A connection.
pub struct Link {
    source: NetSource,
    sink: NetSink,
    decoder: FrameDecoder,
    _ground: Option<quic::Ground>,
}

impl Link {
    /// Connects.
    pub async fn open(relay: &RelayAddress, transport: Transport) -> Result<Self> {
        let own = Signer::from_seed(&relay::tls::random_signer()?.seed());
        let address = tokio::net::lookup_host(&relay.place)
            .await?
            .next()
            .with_context(|| format!("{} has no address", relay.place))?;
        let (source, sink, ground) = match transport {
            Transport::Quic => {
                let opened = quic::connect(address, &own, relay.key).await;
                let Ok((ground, source, sink)) = opened else {
                    bail!("no QUIC connection to {address}");
                };
                (NetSource::Quic(source), NetSink::Quic(sink), Some(ground))
            }
            Transport::Tls => {
                let Ok((source, sink)) = tcp::connect(address, &own, relay.key).await else {
                    bail!("no TLS connection to {address}");
                };
                (NetSource::Tcp(source), NetSink::Tcp(sink), None)
            }
        };
        Ok(Self {
            source,
            sink,
            decoder: FrameDecoder::default(),
            _ground: ground,
        })
    }

    /// Connects and greets a relay.
    pub async fn greet(relay: &RelayAddress, transport: Transport) -> Result<Self> {
        let mut link = Self::open(relay, transport).await?;
        link.send(&[Frame::Hello(Hello {
            oldest: Hello::VERSION,
            newest: Hello::VERSION,
            features: 0,
            tier: Tier::Device,
            time: now(),
            store: [0; 16],
        })])
        .await?;
        match link.next().await? {
            Frame::Hello(_) => Ok(link),
            other => bail!("the relay did not greet but said {other:?}"),
        }
    }

    /// Connects, greets, and subscribes; with the floor, only asks to be a reader.
    pub async fn reader(
        relay: &RelayAddress,
        transport: Transport,
        (prefix, floor): (Prefix, bool),
    ) -> Result<Self> {
        let mut link = if floor {
            Self::open(relay, transport).await?
        } else {
            Self::greet(relay, transport).await?
        };
        link.send(&[Frame::Subscribe {
            id: 1,
            prefix,
            start: Start::All,
            order: Order::OldestFirst,
        }])
        .await?;
        // The subscription stands when this has come.
        while !matches!(link.next().await?, Frame::CaughtUp { live: true, .. }) {}
        Ok(link)
    }

    /// Sends frames, together.
    pub async fn send(&mut self, frames: &[Frame]) -> Result<()> {
        let mut bytes: Vec<_> = frames.iter().map(Frame::to_bytes).collect();
        Ok(self.sink.write(&mut bytes).await?)
    }

    /// Sends bytes that are frames, or are not.
    pub async fn send_bytes(&mut self, bytes: bytes::Bytes) -> Result<()> {
        Ok(self.sink.write(&mut [bytes]).await?)
    }

    /// The next frame.
    pub async fn next(&mut self) -> Result<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().context("a frame")? {
                return Ok(frame);
            }
            if !self.source.read(&mut self.decoder).await? {
                bail!("the connection ended");
            }
        }
    }

    /// Reads until so many chunks have come.
    pub async fn read(&mut self, mut chunks: usize) -> Result<()> {
        while chunks > 0 {
            match self.next().await? {
                Frame::Chunks { chunks: come, .. } => chunks = chunks.saturating_sub(come.len()),
                Frame::Close { reason } => bail!("the relay closed the link: {reason}"),
                _ => {}
            }
        }
        Ok(())
    }
}
