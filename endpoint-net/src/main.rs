//! `treeline-net`: started by treeline or treeline-chat, ends with it.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use confinement::{Isolation, Places, Role};
use endpoint_net::control::Control;
use endpoint_net::net::Options;

/// The network process of an endpoint. It is started by treeline or treeline-chat.
#[derive(Debug, Parser)]
#[command(name = "treeline-net", version)]
struct Arguments {
    /// Where its TLS key and its cache of encrypted chunks lie.
    #[arg(long, value_name = "DIR")]
    directory: PathBuf,
    /// What to log to stderr: error, warn, info, debug, or a tracing filter.
    #[arg(
        long,
        value_name = "FILTER",
        env = "TREELINE_NET_LOG",
        default_value = "warn"
    )]
    log: tracing_subscriber::EnvFilter,
    #[command(flatten)]
    network: Options,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // What cannot be made is told when it is used.
    let _ = relay::relay::make_directory(&arguments.directory);
    let own = vec![arguments.directory.clone()];
    let enclosed = confinement::enclose(
        Role::Net,
        &Places {
            own,
            ..Places::default()
        },
    );
    tracing_subscriber::fmt()
        .with_env_filter(arguments.log)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    match run(arguments.directory, arguments.network, &enclosed.seal()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("treeline-net: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(
    directory: PathBuf,
    network: Options,
    isolation: &Isolation,
) -> Result<(), Box<dyn std::error::Error>> {
    let control = Control::inherited()?;
    control.tell_isolation(isolation)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let result = runtime.block_on(endpoint_net::net::run(&directory, network, control));
    runtime.shutdown_background();
    Ok(result?)
}
