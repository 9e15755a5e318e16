//! One publisher and many readers of all it publishes, beside the floor: the same bytes to the same
//! readers over the same transport, neither verified nor stored.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use proto::Frame;
use tokio::task::JoinSet;

use crate::link::{Link, Transport};
use crate::load::{Publisher, publish};
use crate::process::Process;
use crate::report::{Report, Row};

/// How many read how much.
#[derive(Args)]
pub struct Options {
    /// Numbers of readers.
    #[arg(
        long,
        default_value = "100,1000",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    readers: Vec<usize>,
    /// Deliveries in all; the number of chunks follows from the number of readers.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    deliveries: usize,
    /// Unanswered chunks at most.
    #[arg(long, default_value_t = 512, value_name = "N")]
    window: usize,
    /// Only this transport.
    #[arg(long)]
    transport: Option<Transport>,
}

const CPU: &str = "CPU s per million deliveries";

/// Measures the floor and the relay in turns.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let both = [Transport::Quic, Transport::Tls];
    for &readers in &options.readers {
        for transport in both
            .into_iter()
            .filter(|own| options.transport.is_none_or(|only| only == *own))
        {
            let (mut floors, mut relays) = (Vec::new(), Vec::new());
            for _ in 0..report.runs() {
                floors.push(floor(options, readers, transport).await?);
                relays.push(relay(options, readers, transport).await?);
            }
            let floor = report.add(&floors)?;
            let relay = report.add(&relays)?;
            let ratio = relay.get(CPU).unwrap_or(f64::NAN) / floor.get(CPU).unwrap_or(f64::NAN);
            report.push(
                Row::new(format!("1 to {readers} over {}", transport.word()))
                    .with("relay CPU / floor CPU", ratio),
            )?;
        }
    }
    Ok(())
}

async fn relay(options: &Options, readers: usize, transport: Transport) -> Result<Row> {
    let (process, registration) = Process::relay()?;
    let mut publisher = Publisher::new(&registration, 2);
    let tasks = Readers::open(&process, readers, transport, (publisher.prefix(), false)).await?;
    let chunks = publisher.chunks(options.deliveries / readers);
    let mut link = Link::greet(&process.address, transport).await?;
    link.send(&[publisher.grant()]).await?;
    let running = tasks.start(chunks.len(), &process)?;
    publish(&mut link, &chunks, options.window).await?;
    running
        .finish(
            &process,
            format!("relay, 1 to {readers} over {}", transport.word()),
        )
        .await
}

async fn floor(options: &Options, readers: usize, transport: Transport) -> Result<Row> {
    let process = Process::floor(transport)?;
    let (_, registration) = Process::relay()?;
    let mut publisher = Publisher::new(&registration, 2);
    let tasks = Readers::open(&process, readers, transport, (publisher.prefix(), true)).await?;
    let chunks = publisher.chunks(options.deliveries / readers);
    let mut link = Link::open(&process.address, transport).await?;
    let running = tasks.start(chunks.len(), &process)?;
    for part in chunks.chunks(options.window) {
        let frames: Vec<_> = part
            .iter()
            .map(|chunk| Frame::Chunks {
                id: 1,
                chunks: vec![chunk.clone()],
            })
            .collect();
        link.send(&frames).await?;
    }
    running
        .finish(
            &process,
            format!("floor, 1 to {readers} over {}", transport.word()),
        )
        .await
}

struct Readers {
    links: Vec<Link>,
    /// By which the process grew for each.
    bytes: f64,
}

struct Running {
    tasks: JoinSet<Result<()>>,
    cpu: f64,
    start: Instant,
    deliveries: f64,
    bytes: f64,
}

impl Readers {
    async fn open(
        process: &Process,
        count: usize,
        transport: Transport,
        what: (proto::Prefix, bool),
    ) -> Result<Self> {
        let before = process.memory()?;
        let mut links = Vec::with_capacity(count);
        for _ in 0..count {
            links.push(Link::reader(&process.address, transport, what).await?);
        }
        let grown = process.memory()?.saturating_sub(before);
        let bytes = grown as f64 / count.max(1) as f64;
        Ok(Self { links, bytes })
    }

    fn start(self, chunks: usize, process: &Process) -> Result<Running> {
        let deliveries = (self.links.len() * chunks) as f64;
        let mut tasks = JoinSet::new();
        for mut link in self.links {
            tasks.spawn(async move { link.read(chunks).await });
        }
        let cpu = process.cpu()?.as_secs_f64();
        Ok(Running {
            tasks,
            cpu,
            start: Instant::now(),
            deliveries,
            bytes: self.bytes,
        })
    }
}

impl Running {
    async fn finish(mut self, process: &Process, case: String) -> Result<Row> {
        while let Some(done) = self.tasks.join_next().await {
            done??;
        }
        let seconds = self.start.elapsed().as_secs_f64();
        let cpu = process.cpu()?.as_secs_f64() - self.cpu;
        Ok(Row::new(case)
            .with("deliveries/s", self.deliveries / seconds)
            .with(CPU, cpu * 1e6 / self.deliveries)
            .with("KiB a reader", self.bytes / 1024.0))
    }
}
