//! What a chunk costs the node by the number of subscriptions there are, one of which it matches; and
//! what a subscription and a connection hold. In this process, over the store in memory: no transport
//! hides the cost.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use proto::{Chunk, Frame, Hello, Order, Prefix, Registration, Signer, Start, Tier};
use relay::driver::now;
use relay_core::store::{MemoryStore, StoreId};
use relay_core::{Config, Effect, Event, Limits, LinkId, Node, Role};

use crate::load::Publisher;
use crate::process;
use crate::report::{Report, Row};

/// How many subscriptions.
#[derive(Args)]
pub struct Options {
    /// Numbers of subscriptions.
    #[arg(
        long,
        default_value = "1,10000,1000000",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    subscriptions: Vec<u32>,
    /// Chunks published in each run.
    #[arg(long, default_value_t = 20_000, value_name = "N")]
    chunks: usize,
}

const COST: &str = "us per chunk";
const LINKS: u32 = 256;
const PUBLISHER: LinkId = LinkId(1);

/// Measures.
pub fn run(options: &Options, report: &mut Report) -> Result<()> {
    let mut first = None;
    for &count in &options.subscriptions {
        let mut rows = Vec::new();
        let mut held = None;
        for _ in 0..report.runs() {
            let (cost, grown) = once(count, options)?;
            // Later runs take the memory that the first has given back.
            let held = *held.get_or_insert(grown);
            let row = Row::new(format!("{count} subscriptions")).with(COST, cost);
            rows.push(row.with("bytes per subscription", held / f64::from(count)));
        }
        let row = report.add(&rows)?;
        let cost = row.get(COST).unwrap_or(f64::NAN);
        let ratio = cost / *first.get_or_insert(cost);
        report.push(
            Row::new(format!("{count} subscriptions")).with("cost / cost with the first", ratio),
        )?;
    }
    Ok(())
}

/// Microseconds per chunk, and the bytes by which the process grew.
fn once(count: u32, options: &Options) -> Result<(f64, f64)> {
    let origin = Signer::from_seed(&[7; 32]);
    let registration = Registration::issue(&origin, 3, [9; 32], now().plus_millis(86_400_000))?;
    let mut node = node(&origin, count)?;
    let mut publisher = Publisher::new(&registration, 2);
    connect(&mut node, PUBLISHER);
    receive(&mut node, PUBLISHER, publisher.grant());
    let before = process::memory(std::process::id())?;
    subscribe(&mut node, &registration, count);
    let held = process::memory(std::process::id())?.saturating_sub(before) as f64;
    let chunks = publisher.chunks(options.chunks);
    let delivered = node.counters().delivered;
    let start = Instant::now();
    for part in chunks.chunks(32) {
        publish(&mut node, part);
    }
    let cost = start.elapsed().as_secs_f64() * 1e6 / options.chunks as f64;
    let delivered = node.counters().delivered - delivered;
    anyhow::ensure!(
        delivered == options.chunks as u64,
        "{delivered} chunks were delivered"
    );
    Ok((cost, held))
}

fn node(origin: &Signer, count: u32) -> Result<Node<MemoryStore>> {
    let limits = Limits {
        subscriptions_per_link: count as usize,
        chunks_per_second: u32::MAX,
        ..Limits::default()
    };
    let config = Config {
        tier: Tier::Origin,
        origins: vec![origin.public_key()],
        limits,
    };
    Ok(Node::new(
        config,
        MemoryStore::new(StoreId([1; 16])),
        now(),
    )?)
}

/// The team's prefix once, and prefixes of other channels and devices, on many links.
fn subscribe(node: &mut Node<MemoryStore>, registration: &Registration, count: u32) {
    let mut own = Publisher::new(registration, 2);
    let name = own.chunks(1)[0].name();
    for link in 0..LINKS {
        connect(node, LinkId(u64::from(link) + 2));
    }
    for number in 0..count {
        let prefix = match number {
            0 => own.prefix(),
            // Whole teams, channels, and devices: several prefix lengths, as people have them.
            number if number % 3 == 0 => Publisher::new(registration, 10 + number).prefix(),
            number => {
                let other = Publisher::new(registration, 10 + number)
                    .chunk(0, &Signer::from_seed(&[9; 32]));
                Prefix::of(other.name(), if number % 3 == 1 { 88 } else { 108 })
            }
        };
        debug_assert!(number == 0 || !prefix.contains(name));
        let link = LinkId(u64::from(number % LINKS) + 2);
        let frame = Frame::Subscribe {
            id: number + 1,
            prefix,
            start: Start::All,
            order: Order::OldestFirst,
        };
        receive(node, link, frame);
    }
}

fn connect(node: &mut Node<MemoryStore>, link: LinkId) {
    node.handle(
        Event::Connected {
            link,
            role: Role::Downstream,
        },
        now(),
    );
    receive(
        node,
        link,
        Frame::Hello(Hello {
            oldest: Hello::VERSION,
            newest: Hello::VERSION,
            features: 0,
            tier: Tier::Device,
            time: now(),
            store: [0; 16],
        }),
    );
}

fn receive(node: &mut Node<MemoryStore>, link: LinkId, frame: Frame) {
    node.handle(Event::Received { link, frame }, now());
    settle(node);
}

fn publish(node: &mut Node<MemoryStore>, chunks: &[Chunk]) {
    node.handle(
        Event::Received {
            link: PUBLISHER,
            frame: Frame::Publish(chunks.to_vec()),
        },
        now(),
    );
    settle(node);
}

/// Everything that is sent has left at once.
fn settle(node: &mut Node<MemoryStore>) {
    loop {
        while let Some(effect) = node.next_effect() {
            if let Effect::Send { link, bytes } = effect {
                node.handle(
                    Event::Drained {
                        link,
                        sends: 1,
                        bytes: bytes.len(),
                    },
                    now(),
                );
            }
        }
        if node.next_timeout().is_none_or(|at| at > now()) {
            return;
        }
        node.handle_timeout(now());
    }
}
