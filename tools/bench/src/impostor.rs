//! A relay that was taken over: it greets as an origin, and answers each subscription with forgeries, as
//! fast as they are taken. It ends with the task that serves it.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Result;
use bytes::Bytes;
use proto::{Chunk, Frame, FrameDecoder, Hello, Tier};
use relay::address::RelayAddress;
use relay::driver::now;
use relay::link::settings::Settings;
use relay::link::{Sink as _, Source as _, quic};
use relay::tls;
use tokio::task::JoinSet;

/// Chunks in a frame.
const CHUNKS: usize = 32;

/// Listens, and gives what serves it.
pub fn start(forged: Vec<Chunk>) -> Result<(RelayAddress, impl Future<Output = ()>)> {
    let own = tls::random_signer()?;
    let any = (Ipv4Addr::LOCALHOST, 0).into();
    let endpoint = quic::listen(any, &own, &Settings::default())?;
    let address = RelayAddress {
        place: endpoint.local_addr()?.to_string(),
        key: own.public_key(),
    };
    let forged = Arc::new(forged);
    let serving = async move {
        let mut links = JoinSet::new();
        while let Some(incoming) = endpoint.accept().await {
            let forged = forged.clone();
            links.spawn(async move {
                // It fails when the relay below has had enough.
                let _ = serve(incoming, &forged).await;
            });
        }
    };
    Ok((address, serving))
}

async fn serve(incoming: quinn::Incoming, forged: &[Chunk]) -> Result<()> {
    let connection = incoming.await?;
    let (sink, source) = connection.accept_bi().await?;
    let (mut source, mut sink) = quic::halves(source, sink);
    let hello = Frame::Hello(Hello {
        oldest: Hello::VERSION,
        newest: Hello::VERSION,
        features: 0,
        tier: Tier::Origin,
        time: now(),
        store: [7; 16],
    });
    sink.write(&mut [hello.to_bytes()]).await?;
    let mut decoder = FrameDecoder::default();
    let mut asked = None;
    loop {
        while let Some(frame) = decoder.next_frame()? {
            if let Frame::Subscribe { id, .. } = frame {
                asked = Some(id);
            }
        }
        let Some(id) = asked else {
            if !source.read(&mut decoder).await? {
                return Ok(());
            }
            continue;
        };
        let mut frames: Vec<Bytes> = forged
            .chunks(CHUNKS)
            .map(|part| {
                let chunks = part.to_vec();
                Frame::Chunks { id, chunks }.to_bytes()
            })
            .collect();
        sink.write(&mut frames).await?;
    }
}
