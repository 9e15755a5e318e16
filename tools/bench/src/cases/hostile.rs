//! What an honest pair notices while others misbehave: the time from one's publishing to the other's
//! reading, with and without them, in the same run.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::{Args, ValueEnum};
use proto::{Chunk, Frame, Order, Registration, Signer, Start};
use relay::address::RelayAddress;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::impostor;
use crate::link::{Link, Transport};
use crate::load::{Publisher, publish};
use crate::process::Process;
use crate::report::{Report, Row, percentiles};

/// How long, how much.
#[derive(Args)]
pub struct Options {
    /// Messages of the honest pair, each run.
    #[arg(long, default_value_t = 2000, value_name = "N")]
    messages: usize,
    /// Messages per second.
    #[arg(long, default_value_t = 500, value_name = "N")]
    rate: u64,
    /// Chunks that the stalled reader leaves unread.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    stalled: usize,
    /// Connections that say one byte a second.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    slow: usize,
    /// Only these.
    #[arg(
        long,
        value_enum,
        default_value = "stalled,slow,junk,squatter,relay",
        value_delimiter = ',',
        value_name = "ATTACK,…"
    )]
    attacks: Vec<Attack>,
}

/// What somebody does beside the honest pair.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Nothing.
    #[value(skip)]
    None,
    /// A reader that reads nothing.
    Stalled,
    /// Connections that say one byte a second.
    Slow,
    /// Chunks with wrong signatures.
    Junk,
    /// Chunks under the names of the honest device, well signed by somebody with a grant of his own.
    Squatter,
    /// The relay's parent sends forgeries for everything that is asked of it.
    Relay,
}

/// Chunks of a flood; then it begins again.
const FLOOD: usize = 2000;
const P99: &str = "p99 ms";
/// As long as a slow connection lasts, and its pause.
const SPREAD: Duration = Duration::from_secs(6);
/// The pair's team; attackers have another.
const TEAM: u32 = 2;
const OTHER_TEAM: u32 = 4;

/// Measures.
pub async fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut alone = f64::NAN;
    for (attack, name) in [
        (Attack::None, "nobody else"),
        (Attack::Stalled, "a stalled reader"),
        (Attack::Slow, "slow connections"),
        (Attack::Junk, "a flood of junk signatures"),
        (Attack::Squatter, "a squatter"),
        (Attack::Relay, "a hostile relay above"),
    ] {
        if attack != Attack::None && !options.attacks.contains(&attack) {
            continue;
        }
        let mut rows = Vec::new();
        for _ in 0..report.runs() {
            rows.push(once(options, attack, name).await?);
        }
        let row = report.add(&rows)?;
        let p99 = row.get(P99).unwrap_or(f64::NAN);
        if matches!(attack, Attack::None) {
            alone = p99;
        }
        report.push(Row::new(name).with("p99 / p99 alone", p99 / alone))?;
    }
    Ok(())
}

async fn once(options: &Options, attack: Attack, name: &str) -> Result<Row> {
    let (origin, registration) = Process::relay()?;
    let mut attackers = JoinSet::new();
    let relay = if attack == Attack::Relay {
        let forged = forgeries(&Publisher::new(&registration, TEAM));
        let (address, serving) = impostor::start(forged)?;
        attackers.spawn(serving);
        Process::below(&address, &registration.origin)?
    } else {
        origin
    };
    let mut publisher = Publisher::new(&registration, TEAM);
    let reader = Link::reader(&relay.address, Transport::Quic, (publisher.prefix(), false)).await?;
    let mut writer = Link::greet(&relay.address, Transport::Quic).await?;
    writer.send(&[publisher.grant()]).await?;
    let before = relay.memory()?;
    begin(attack, options, (&relay, &registration), &mut attackers).await?;
    let [p50, p99, p999, most] = percentiles(pair(writer, reader, &mut publisher, options).await?);
    let grown = relay.memory()?.saturating_sub(before) as f64;
    attackers.abort_all();
    Ok(Row::new(name)
        .with("p50 ms", p50)
        .with(P99, p99)
        .with("p99.9 ms", p999)
        .with("longest ms", most)
        .with("relay grew by MiB", grown / 1048576.0))
}

/// One writes at a fixed rate, the other notes when each message comes.
async fn pair(
    mut writer: Link,
    mut reader: Link,
    publisher: &mut Publisher,
    options: &Options,
) -> Result<Vec<f64>> {
    let chunks = publisher.chunks(options.messages);
    let count = chunks.len();
    let reading = tokio::spawn(async move {
        let mut came = BTreeMap::new();
        while came.len() < count {
            if let Frame::Chunks { chunks, .. } = reader.next().await? {
                let now = Instant::now();
                came.extend(chunks.iter().map(|chunk| (chunk.name(), now)));
            }
        }
        anyhow::Ok(came)
    });
    let mut clock = interval(Duration::from_micros(1_000_000 / options.rate.max(1)));
    let mut sent = Vec::with_capacity(count);
    for chunk in chunks {
        clock.tick().await;
        sent.push((chunk.name(), Instant::now()));
        writer.send(&[Frame::Publish(vec![chunk])]).await?;
        // The answers have to be read, or the link fills.
        while timeout(Duration::ZERO, writer.next()).await.is_ok() {}
    }
    let came = timeout(Duration::from_secs(60), reading).await???;
    let took = |(name, at): (proto::Name, Instant)| {
        came.get(&name).map(|then| (*then - at).as_secs_f64() * 1e3)
    };
    Ok(sent.into_iter().filter_map(took).collect())
}

async fn begin(
    attack: Attack,
    options: &Options,
    (relay, registration): (&Process, &Registration),
    attackers: &mut JoinSet<()>,
) -> Result<()> {
    let mut other = Publisher::new(registration, OTHER_TEAM);
    let prefix = other.prefix();
    match attack {
        // The latter is in its place already.
        Attack::None | Attack::Relay => {}
        Attack::Stalled => {
            let mut filler = Link::greet(&relay.address, Transport::Quic).await?;
            filler.send(&[other.grant()]).await?;
            let mut left = options.stalled;
            while left > 0 {
                let some = left.min(10_000);
                publish(&mut filler, &other.chunks(some), 2048).await?;
                left -= some;
            }
            let mut stalled = Link::greet(&relay.address, Transport::Quic).await?;
            stalled
                .send(&[Frame::Subscribe {
                    id: 1,
                    prefix,
                    start: Start::All,
                    order: Order::OldestFirst,
                }])
                .await?;
            attackers.spawn(async move {
                std::future::pending::<()>().await;
                drop(stalled);
            });
        }
        Attack::Slow => {
            let slow = options.slow as f64;
            for number in 0..options.slow {
                let address = relay.address.clone();
                attackers.spawn(async move {
                    // Each at a time of its own: many handshakes at once are another attack.
                    tokio::time::sleep(SPREAD.mul_f64(number as f64 / slow)).await;
                    // Refused or cut off: it comes again, as such clients do.
                    loop {
                        if let Ok(link) = Link::open(&address, Transport::Tls).await {
                            trickle(link).await;
                        }
                        tokio::time::sleep(Duration::from_secs(1)).await;
                    }
                });
            }
            tokio::time::sleep(SPREAD).await;
        }
        Attack::Junk => {
            let chunks = forgeries(&other);
            attackers.spawn(flood(relay.address.clone(), other.grant(), chunks));
        }
        Attack::Squatter => {
            let squatter = Publisher::new(registration, TEAM).squatter(&relay.register()?);
            let grant = squatter.grant();
            let chunks = { squatter }.chunks(FLOOD);
            attackers.spawn(flood(relay.address.clone(), grant, chunks));
        }
    }
    Ok(())
}

/// What a device will publish next, signed by somebody else.
fn forgeries(target: &Publisher) -> Vec<Chunk> {
    let wrong = Signer::from_seed(&[5; 32]);
    let numbers = 0..FLOOD as u32;
    numbers.map(|number| target.chunk(number, &wrong)).collect()
}

/// Publishes these again and again, and comes again when it is cut off.
async fn flood(address: RelayAddress, grant: Frame, chunks: Vec<Chunk>) {
    loop {
        if let Ok(mut link) = Link::greet(&address, Transport::Quic).await {
            // It fails when the relay has had enough.
            let _ = all_of(&mut link, &grant, &chunks).await;
        }
    }
}

async fn all_of(link: &mut Link, grant: &Frame, chunks: &[Chunk]) -> Result<()> {
    link.send(std::slice::from_ref(grant)).await?;
    loop {
        for part in chunks.chunks(32) {
            link.send(&[Frame::Publish(part.to_vec())]).await?;
            // Answers that nobody reads would end the link.
            while let Ok(answer) = timeout(Duration::ZERO, link.next()).await {
                answer?;
            }
        }
    }
}

async fn trickle(mut link: Link) {
    let hello = bytes::Bytes::from_static(&[1, 0, 0, 0, 40]);
    for byte in hello {
        if link.send_bytes(vec![byte].into()).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
