//! A new reader gets what is stored, beside a plain scan of the same store.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use proto::{Chunk, Tier, limits};
use relay::driver::now;
use relay::store::sqlite::SqliteStore;
use relay_core::store::{Batch, Direction, Insert, Scan, Store as _};

use crate::link::{Link, Transport};
use crate::load::{Publisher, publish};
use crate::process::Process;
use crate::report::{Report, Row};

/// How much is stored.
#[derive(Args)]
pub struct Options {
    /// Chunks under the prefix.
    #[arg(long, default_value_t = 100_000, value_name = "N")]
    chunks: usize,
}

const RATE: &str = "chunks/s";
/// Chunks in one commit, as in the relay.
const BATCH: usize = 128;

/// Measures.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let (relay, registration) = Process::relay()?;
    let mut publisher = Publisher::new(&registration, 2);
    let mut link = Link::greet(&relay.address, Transport::Quic).await?;
    link.send(&[publisher.grant()]).await?;
    publish(&mut link, &publisher.chunks(options.chunks), 2048).await?;
    let mut rates = Vec::new();
    for transport in [Transport::Quic, Transport::Tls] {
        let mut rows = Vec::new();
        for _ in 0..report.runs() {
            let (cpu, start) = (relay.cpu()?, Instant::now());
            let mut reader = Link::greet(&relay.address, transport).await?;
            reader
                .send(&[proto::Frame::Subscribe {
                    id: 1,
                    prefix: publisher.prefix(),
                    start: proto::Start::All,
                    order: proto::Order::OldestFirst,
                }])
                .await?;
            reader.read(options.chunks).await?;
            let seconds = start.elapsed().as_secs_f64();
            let cpu = (relay.cpu()? - cpu).as_secs_f64();
            let case = format!("catch-up over {}", transport.word());
            rows.push(row(case, options.chunks, (seconds, cpu)));
        }
        rates.push((transport, report.add(&rows)?));
    }
    drop(relay);
    let chunks = publisher.chunks(options.chunks);
    let mut rows = Vec::new();
    let folder = tempfile::tempdir()?;
    let mut store = SqliteStore::open(&folder.path().join("plain.db"))?;
    fill(&mut store, &chunks)?;
    for _ in 0..report.runs() {
        rows.push(scan(&mut store, &publisher, options)?);
    }
    let scan = report.add(&rows)?;
    for (transport, rate) in rates {
        let ratio = rate.get(RATE).unwrap_or(f64::NAN) / scan.get(RATE).unwrap_or(f64::NAN);
        let case = format!("catch-up over {}", transport.word());
        report.push(Row::new(case).with("share of a plain scan", ratio))?;
    }
    Ok(())
}

fn row(case: String, chunks: usize, (seconds, cpu): (f64, f64)) -> Row {
    let chunks = chunks as f64;
    Row::new(case)
        .with(RATE, chunks / seconds)
        .with("CPU us per chunk", cpu * 1e6 / chunks)
}

fn fill(store: &mut SqliteStore, chunks: &[Chunk]) -> Result<()> {
    for part in chunks.chunks(BATCH) {
        let insert = |chunk: &Chunk| Insert::new(chunk.clone(), Tier::Origin, false);
        let batch = Batch {
            inserts: part.iter().map(insert).collect(),
            ..Batch::default()
        };
        store.put_if_absent(&batch)?;
    }
    Ok(())
}

/// Reads everything in pages as large as the relay's.
fn scan(store: &mut SqliteStore, publisher: &Publisher, options: &Options) -> Result<Row> {
    let start = Instant::now();
    let (mut position, mut read) = (0, 0);
    while read < options.chunks {
        let page = store.scan(&Scan {
            prefix: publisher.prefix(),
            direction: Direction::Above(position),
            limit: limits::CHUNKS_PER_FRAME,
            now: now(),
        })?;
        anyhow::ensure!(
            !page.end || read + page.chunks.len() == options.chunks,
            "chunks are missing"
        );
        (position, read) = (page.position, read + page.chunks.len());
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(row(
        "plain scan of the store".into(),
        read,
        (seconds, seconds),
    ))
}
