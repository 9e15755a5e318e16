//! Reading: what was said, and what is being said.

use std::io::Write;
use std::time::Duration;

use endpoint_secure_api::{Anchor, Message};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::terminal::{Failure, hear};

use crate::channel::{Reader, find, page};
use crate::options::Tail;
use crate::output;

/// Without a hint it looks by itself after so long: hints may be dropped.
const LOOK: Duration = Duration::from_secs(2);

/// Prints messages as they come.
pub fn tail(endpoint: &Endpoint, json: bool, options: &Tail) -> Result<(), Failure> {
    let channel = find(endpoint, &options.channel)?;
    let mut reader = Reader::new(options.raw);
    let mut left = options.count.unwrap_or(usize::MAX);
    if !options.from_oldest {
        reader.fresh(endpoint, &channel)?;
    }
    loop {
        let fresh = reader.fresh(endpoint, &channel)?;
        let wanted =
            |message: &&Message| options.author.as_ref().is_none_or(|a| *a == message.user);
        for message in fresh.iter().filter(wanted).take(left) {
            if options.raw {
                raw(&message.text)?;
            } else {
                output::message(json, message);
            }
            left -= 1;
        }
        if left == 0 {
            return Ok(());
        }
        hear(endpoint, LOOK);
    }
}

fn raw(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|e| {
        Failure::new(
            endpoint_secure_api::Code::Storage,
            format!("standard output: {e}"),
        )
    })
}

/// Prints the newest messages, oldest of them first.
pub fn history(
    endpoint: &Endpoint,
    json: bool,
    channel: &str,
    count: usize,
) -> Result<(), Failure> {
    let channel = find(endpoint, channel)?;
    let mut messages: Vec<Message> = Vec::new();
    let mut anchor = Anchor::Newest;
    let mut earlier = None;
    while messages.len() < count {
        let page = page(endpoint, &channel, anchor)?;
        earlier = page.earlier;
        let Some(first) = page.messages.first() else {
            break;
        };
        anchor = Anchor::Before { id: first.id };
        let more = page.more_before;
        messages.splice(0..0, page.messages);
        if !more {
            break;
        }
    }
    let skip = messages.len().saturating_sub(count);
    output::earlier(json, earlier.as_ref().filter(|_| skip == 0));
    for message in &messages[skip..] {
        output::message(json, message);
    }
    Ok(())
}
