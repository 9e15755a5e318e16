//! `treeline-chat`: the terminal client, for people and for scripts.
//!
//! The endpoint without pixels: it starts Secure and Net as the desktop does, and holds neither keys
//! nor network.

#![deny(clippy::print_stdout, clippy::print_stderr)]

mod channel;
mod interactive;
mod join;
mod options;
mod output;
mod read;
mod relays;
mod send;

use std::alloc::System;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use endpoint_secure_api::Code;
use endpoint_secure_client::output::say;
use endpoint_secure_client::terminal::Failure;
use zeroizing_alloc::ZeroAlloc;

use crate::options::{Job, Options};

/// What is freed is overwritten: a passphrase goes through here.
#[global_allocator]
static MEMORY: ZeroAlloc<System> = ZeroAlloc(System);

fn main() -> ExitCode {
    let options = Options::parse();
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report("treeline-chat"),
    }
}

fn run(options: &Options) -> Result<(), Failure> {
    if let Some(Job::Pages(pages)) = &options.job {
        let written = pages.write::<Options>();
        return written.map_err(|line| Failure::new(Code::Usage, line));
    }
    if let Some(Job::Init { user, device }) = &options.job {
        return join::init(options, user, device);
    }
    if let Some(Job::Status) = &options.job {
        return output::status(&options.profile.start()?, options.json);
    }
    if let Some(Job::Passphrase { new_file }) = &options.job {
        return options.profile.change_passphrase(new_file.as_deref());
    }
    // The file is read before the process is confined.
    let texts = match &options.job {
        Some(Job::Send(send)) => send::texts(send)?,
        _ => Vec::new(),
    };
    let endpoint = options.profile.open()?;
    match &options.job {
        None | Some(Job::Open) => interactive::run(&endpoint),
        Some(Job::Join { invite, wait }) => {
            join::join(&endpoint, options.json, &invite.join(" "), *wait)
        }
        Some(Job::Enter { team }) => {
            let team = join::waiting(&endpoint, *team)?;
            let until = Instant::now() + join::SOON;
            let name = join::wait_until_in(&endpoint, options.json, team, until)?;
            say(format_args!("joined {name}"));
            Ok(())
        }
        Some(Job::Decline { team }) => join::decline(&endpoint, join::waiting(&endpoint, *team)?),
        Some(Job::Send(send)) => send::run(&endpoint, options.json, send, &texts),
        Some(Job::Tail(tail)) => read::tail(&endpoint, options.json, tail),
        Some(Job::History { channel, count }) => {
            read::history(&endpoint, options.json, channel, *count)
        }
        Some(Job::Link(job)) => join::link(&endpoint, options.json, job),
        Some(Job::Direct { name }) => join::direct(&endpoint, options.json, name),
        Some(Job::Teams) => output::teams(&endpoint, options.json),
        Some(Job::Channels) => output::channels(&endpoint, options.json),
        Some(Job::Locking { idle, suspend }) => {
            output::locking(&endpoint, options.json, (*idle, *suspend))
        }
        Some(Job::Relays(job)) => relays::run(&endpoint, options.json, job),
        Some(Job::Devices { team }) => output::devices(&endpoint, options.json, team),
        Some(Job::Pages(_) | Job::Init { .. } | Job::Passphrase { .. } | Job::Status) => Ok(()),
    }
}
