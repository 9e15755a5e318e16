//! One publisher, each chunk verified, stored and acknowledged when it is on disk.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Result;
use clap::Args;
use proto::{Chunk, Frame};

use crate::link::{Link, Transport};
use crate::load::{Publisher, acknowledged, publish};
use crate::process::Process;
use crate::report::{Report, Row, percentiles};

/// How much is published.
#[derive(Args)]
pub struct Options {
    /// Chunks as fast as they are acknowledged.
    #[arg(long, default_value_t = 50_000, value_name = "N")]
    chunks: usize,
    /// Unanswered chunks at most.
    #[arg(long, default_value_t = 512, value_name = "N")]
    window: usize,
    /// Chunks one by one, each after the other's acknowledgement: the latency.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    single: usize,
}

/// Measures.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    for transport in [Transport::Quic, Transport::Tls] {
        let mut rows = Vec::new();
        for _ in 0..report.runs() {
            rows.push(once(options, transport).await?);
        }
        report.add(&rows)?;
    }
    Ok(())
}

async fn once(options: &Options, transport: Transport) -> Result<Row> {
    let (relay, registration) = Process::relay()?;
    let mut publisher = Publisher::new(&registration, 2);
    let mut link = Link::greet(&relay.address, transport).await?;
    link.send(&[publisher.grant()]).await?;
    let chunks = publisher.chunks(options.chunks);
    publish(&mut link, &publisher.chunks(1000), options.window).await?;
    let (cpu, start) = (relay.cpu()?, Instant::now());
    publish(&mut link, &chunks, options.window).await?;
    let seconds = start.elapsed().as_secs_f64();
    let cpu = (relay.cpu()? - cpu).as_secs_f64();
    let count = options.chunks as f64;
    let [p50, p99, p999, _] =
        percentiles(one_by_one(&mut link, &publisher.chunks(options.single)).await?);
    Ok(Row::new(format!("publish over {}", transport.word()))
        .with("acknowledged/s", count / seconds)
        .with("relay CPU us per chunk", cpu * 1e6 / count)
        .with("ack p50 ms", p50)
        .with("p99 ms", p99)
        .with("p99.9 ms", p999))
}

async fn one_by_one(link: &mut Link, chunks: &[Chunk]) -> Result<Vec<f64>> {
    let mut sent = BTreeMap::new();
    let mut took = Vec::new();
    for chunk in chunks {
        sent.insert(chunk.name(), Instant::now());
        link.send(&[Frame::Publish(vec![chunk.clone()])]).await?;
        while sent.contains_key(&chunk.name()) {
            for name in acknowledged(&link.next().await?)? {
                if let Some(at) = sent.remove(&name) {
                    took.push(at.elapsed().as_secs_f64() * 1e3);
                }
            }
        }
    }
    Ok(took)
}
