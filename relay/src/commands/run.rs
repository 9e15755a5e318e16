//! `run`: the relay as a service. Signals, logs, what is printed at the start, what the service manager
//! is told; the relay itself is `crate::relay`.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use confinement::{Places, Role};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tracing_subscriber::EnvFilter;

use super::{Failure, config_error, other};
use crate::config::{Config, Options};
use crate::driver::now;
use crate::notify::Notify;
use crate::relay::{Relay, STORE, make_directory, own_directory};

/// How often it is looked whether the node lives, without a service manager that asks for it.
const LOOK: Duration = Duration::from_secs(5);
/// How long a node that works may take to say how it is, unless the service manager is stricter.
const ANSWER: Duration = Duration::from_secs(60);

/// Takes another filter for what is logged.
type SetFilter = Box<dyn Fn(&str)>;

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// [`Failure`].
pub fn run(options: &Options, rebuild: bool) -> Result<(), Failure> {
    let config = Config::load(options).map_err(config_error)?;
    let set_filter = log(&config)?;
    if rebuild {
        move_store_aside(&config)?;
    }
    // Its socket is made before none can be made any more.
    let notify = Notify::from_environment();
    confine(options, &config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(other)?;
    runtime.block_on(serve(options, &config, &set_filter, &notify))
}

/// Before the runtime starts its threads, which inherit it. How well it works is in the log.
fn confine(options: &Options, config: &Config) -> Result<(), Failure> {
    make_directory(&config.directory)?;
    // The file is read again on SIGHUP, and may be another one by then.
    let read = options
        .config
        .iter()
        .filter_map(|file| file.canonicalize().ok());
    let places = Places {
        own: vec![config.directory.clone()],
        read: read
            .filter_map(|file| Some(file.parent()?.to_owned()))
            .collect(),
        ..Places::default()
    };
    confinement::enclose(Role::Relay, &places).seal();
    Ok(())
}

async fn serve(
    options: &Options,
    config: &Config,
    set_filter: &SetFilter,
    notify: &Notify,
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(other)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(other)?;
    let hangup = signal(SignalKind::hangup()).map_err(other)?;
    let mut relay = Relay::start(config).await?;
    announce(&relay).map_err(other)?;
    notify.ready(&format!("serves {}", relay.address().place));
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        ended = tend(&mut relay, (options, set_filter), notify, hangup) => ended,
    };
    notify.stopping();
    relay.stop().await;
    ended
}

/// Reloads when asked, and tells the service manager that the node lives. Ends when it does not.
async fn tend(
    relay: &mut Relay,
    (options, set_filter): (&Options, &SetFilter),
    notify: &Notify,
    mut hangup: Signal,
) -> Result<(), Failure> {
    let every = notify.every.unwrap_or(LOOK);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answered = Instant::now();
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                notify.reloading();
                reload(relay, options, set_filter).await;
                notify.ready(&format!("serves {}", relay.address().place));
            }
            _ = ticks.tick() => match timeout(every, relay.handle().snapshot()).await {
                Ok(Ok(_)) => {
                    answered = Instant::now();
                    notify.alive();
                }
                Ok(Err(stopped)) => return Err(other(stopped)),
                Err(_) if answered.elapsed() > ANSWER => {
                    tracing::error!("the node has not answered for {} s", ANSWER.as_secs());
                    answered = Instant::now();
                }
                Err(_) => {}
            },
        }
    }
}

async fn reload(relay: &mut Relay, options: &Options, set_filter: &SetFilter) {
    let config = match Config::load(options) {
        Ok(config) => config,
        Err(error) => {
            return tracing::error!("not reloaded, the old configuration stays: {error:#}");
        }
    };
    match relay.reload(&config).await {
        Ok(fixed) => {
            set_filter(&config.log);
            tracing::info!("reloaded the configuration");
            for name in fixed {
                tracing::warn!("`{name}` has changed and needs a restart");
            }
        }
        Err(error) => tracing::error!("not reloaded: {error}"),
    }
}

/// Tells who started us where the relay is.
fn announce(relay: &Relay) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "relay {}", relay.address())?;
    for origin in relay.origins() {
        writeln!(out, "origin {}", origin.to_hex())?;
    }
    writeln!(out, "tier {}", relay.tier().word())?;
    if let Some(admin) = relay.admin() {
        writeln!(out, "admin http://{admin}")?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

fn log(config: &Config) -> Result<SetFilter, Failure> {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(false);
    let filter = EnvFilter::new(&config.log);
    if config.log_json {
        let builder = builder.json().with_env_filter(filter);
        let builder = builder.with_filter_reloading();
        let filter = builder.reload_handle();
        builder.try_init().map_err(other)?;
        Ok(Box::new(move |text| drop(filter.reload(text))))
    } else {
        let builder = builder.with_env_filter(filter).with_filter_reloading();
        let filter = builder.reload_handle();
        builder.try_init().map_err(other)?;
        Ok(Box::new(move |text| drop(filter.reload(text))))
    }
}

/// Moves the store out of the way, into a directory of its own, so that the relay begins anew.
fn move_store_aside(config: &Config) -> Result<(), Failure> {
    let _owner = own_directory(&config.directory)?;
    let aside = config.directory.join(format!("damaged-{}", now().millis()));
    let failed = |path: &Path, error: io::Error| {
        other(format!(
            "cannot move the store to {}: {error}",
            path.display()
        ))
    };
    let mut moved = false;
    for ending in ["-wal", "-shm", ""] {
        let name = format!("{STORE}{ending}");
        let from = config.directory.join(&name);
        if from.exists() {
            fs::create_dir_all(&aside).map_err(|error| failed(&aside, error))?;
            fs::rename(&from, aside.join(&name)).map_err(|error| failed(&aside, error))?;
            moved = true;
        }
    }
    if moved {
        tracing::warn!(
            "began an empty store; the old one is in {}: remove it when you need it no more",
            aside.display()
        );
        if config.parents.is_empty() {
            tracing::warn!(
                "this relay has no parent to get chunks back from: publish a backup with \
                 `treeline-dump undump`"
            );
        }
    }
    Ok(())
}
