//! Sending: one message, or a file line by line, exactly once over any interruption.

use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::fs;
use std::path::Path;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Anchor, Answer, Channel, Code, Command, Delivery, Event, MessageId, Refusal,
};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::output::complain;
use endpoint_secure_client::terminal::{Failure, departed, hear, unexpected};

use crate::channel::{PATIENCE, find, page};
use crate::options::Send;
use crate::output;

/// Commands on their way to Secure at one time.
const WINDOW: usize = Command::SEND_WINDOW as usize;
/// How long a sending without `--wait` waits for a relay before it ends.
const SOON: Duration = Duration::from_secs(5);

/// What is to be sent.
pub fn texts(options: &Send) -> Result<Vec<String>, Failure> {
    match (&options.lines, &options.text) {
        (Some(path), _) => lines(path),
        (None, text) => Ok(vec![text.clone().unwrap_or_default()]),
    }
}

/// Carries `send` out.
pub fn run(
    endpoint: &Endpoint,
    json: bool,
    options: &Send,
    texts: &[String],
) -> Result<(), Failure> {
    let channel = find(endpoint, &options.channel)?;
    let batch = options.batch.clone().unwrap_or_else(fresh_batch);
    let sent = send_all(endpoint, &channel, texts, &batch)?;
    if let Some(wait) = options.wait {
        let limit = Duration::from_secs(options.limit);
        wait_for(endpoint, (&channel, &sent), wait.into(), limit)?;
    } else if !departed(endpoint, SOON)? {
        complain(
            "treeline-chat: no relay has all of it yet; it is safe on this device and leaves when one can \
             be reached and this profile is open",
        );
    }
    output::sent(json, &sent);
    Ok(())
}

/// The file's lines, each with its end.
fn lines(path: &Path) -> Result<Vec<String>, Failure> {
    let failed = |why: String| Failure::new(Code::Usage, format!("{}: {why}", path.display()));
    let bytes = fs::read(path).map_err(|e| failed(e.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        failed(format!(
            "is not UTF-8 behind byte {}",
            e.utf8_error().valid_up_to()
        ))
    })?;
    let lines: Vec<_> = text.split_inclusive('\n').map(str::to_owned).collect();
    match lines
        .iter()
        .position(|line| line.len() > Command::TEXT_LIMIT)
    {
        Some(at) => Err(failed(format!("line {} is longer than 64 KiB", at + 1))),
        None => Ok(lines),
    }
}

/// Sends the texts in order, with several on their way at a time. When Secure dies, what it did not
/// answer is sent again under the same token, which is once.
fn send_all(
    endpoint: &Endpoint,
    channel: &Channel,
    texts: &[String],
    batch: &str,
) -> Result<Vec<MessageId>, Failure> {
    let mut sent = Vec::with_capacity(texts.len());
    let mut window: VecDeque<Receiver<Result<String, Refusal>>> = VecDeque::new();
    while sent.len() < texts.len() {
        while window.len() < WINDOW && sent.len() + window.len() < texts.len() {
            match endpoint.ask(&command(channel, texts, batch, sent.len() + window.len())) {
                Ok(answer) => window.push_back(answer),
                Err(refusal) if window.is_empty() => return Err(refusal.into()),
                Err(_) => break,
            }
        }
        match window.pop_front().map(|answer| answer.recv()) {
            Some(Ok(Ok(body))) => sent.push(sent_id(&body)?),
            Some(Ok(Err(refusal)))
                if refusal.code != Code::Unreachable && refusal.code != Code::Locked =>
            {
                return Err(refusal.into());
            }
            // The door is closed: nothing behind this one is answered either.
            _ => {
                window.clear();
                let again = command(channel, texts, batch, sent.len());
                let Answer::Sent(id) = endpoint.call_when_back(&again, PATIENCE)? else {
                    return Err(unexpected());
                };
                sent.push(id);
            }
        }
    }
    Ok(sent)
}

fn command(channel: &Channel, texts: &[String], batch: &str, at: usize) -> Command {
    Command::Send {
        channel: channel.id,
        text: texts[at].clone(),
        token: token(batch, at as u64),
    }
}

fn sent_id(body: &str) -> Result<MessageId, Failure> {
    match serde_json::from_str(body) {
        Ok(Answer::Sent(id)) => Ok(id),
        _ => Err(unexpected()),
    }
}

/// Waits until all of these have come so far; `limit` without progress ends it.
fn wait_for(
    endpoint: &Endpoint,
    (channel, sent): (&Channel, &[MessageId]),
    tier: Delivery,
    limit: Duration,
) -> Result<(), Failure> {
    let mut waiting: BTreeSet<_> = sent.iter().copied().collect();
    let mut progress = Instant::now();
    let Some(first) = sent.first() else {
        return Ok(());
    };
    let mut anchor = *first;
    let mut include_first = true;
    while !waiting.is_empty() {
        let before = waiting.len();
        // Everything before the anchor has arrived; the anchor itself is looked at by the first page.
        let from = if include_first {
            Anchor::Oldest
        } else {
            Anchor::After { id: anchor }
        };
        let page = page(endpoint, channel, from)?;
        let count = page.messages.len();
        let mut passed = 0;
        for message in page.messages {
            if message.delivery == Delivery::Failed && waiting.contains(&message.id) {
                let line = format!("a message was refused: {}", message.failure);
                return Err(Failure::new(Code::Verification, line));
            }
            if waiting.contains(&message.id) && message.delivery < tier {
                break;
            }
            waiting.remove(&message.id);
            anchor = message.id;
            include_first = false;
            passed += 1;
        }
        if waiting.len() < before || (passed == count && passed > 0) {
            progress = Instant::now();
        } else if progress.elapsed() > limit {
            return Err(stalled(endpoint, waiting.len(), tier));
        } else {
            settle(endpoint);
        }
    }
    Ok(())
}

/// Why what was sent has not come so far.
fn stalled(endpoint: &Endpoint, count: usize, tier: Delivery) -> Failure {
    let state = match endpoint.call_when_back(&Command::Connectivity, PATIENCE) {
        Ok(Answer::Connectivity(state)) => state,
        Ok(_) => return unexpected(),
        Err(refusal) => return refusal.into(),
    };
    let way = if state.relay.is_empty() {
        "no relay can be reached".to_owned()
    } else {
        format!("the relay {} has not passed everything on", state.relay)
    };
    let messages = if count == 1 {
        "message is"
    } else {
        "messages are"
    };
    let line = format!(
        "{way}: {count} {messages} not {} yet; nothing is lost, all of it leaves when a relay can be \
         reached and this profile is open",
        output::delivery(tier)
    );
    Failure::new(Code::Unreachable, line)
}

/// Waits for a hint about messages, a moment at most.
fn settle(endpoint: &Endpoint) {
    let until = Instant::now() + Duration::from_millis(200);
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        if let Some(Event::Messages(_)) = hear(endpoint, left) {
            return;
        }
    }
}

/// A token below 2^53 that is the same for the same batch and line: FNV-1a over the batch, mixed, and
/// counting up from there, so that Secure keeps the lines in order.
fn token(batch: &str, line: u64) -> u64 {
    let hash = batch.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((mixed ^ (mixed >> 29)) >> 12) + line
}

/// A name that no earlier sending had.
fn fresh_batch() -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!(
        "{}-{}",
        now.map_or(0, |now| now.as_nanos()),
        std::process::id()
    )
}

/// Sends one text that a person typed.
pub fn send_one(endpoint: &Endpoint, channel: &Channel, text: &str) -> Result<MessageId, Failure> {
    let texts = [text.to_owned()];
    let sent = send_all(endpoint, channel, &texts, &fresh_batch())?;
    sent.first().copied().ok_or_else(unexpected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_stable_distinct_and_small() {
        assert_eq!(token("monday", 7), token("monday", 7));
        let tokens: BTreeSet<_> = (0..10_000)
            .flat_map(|line| [token("a", line), token("b", line)])
            .collect();
        assert_eq!(tokens.len(), 20_000);
        assert!(tokens.iter().all(|token| *token < 1 << 53));
    }

    #[test]
    fn lines_put_together_are_the_file() {
        let path = std::env::temp_dir().join(format!("treeline-lines-{}", std::process::id()));
        let text = "one\n\n  two \r\nlast without end";
        fs::write(&path, text).unwrap();
        let lines = lines(&path).unwrap();
        fs::write(&path, [b'a', 0xff]).unwrap();
        let bad = super::lines(&path).unwrap_err().to_string();
        fs::remove_file(&path).unwrap();
        assert_eq!(lines.concat(), text);
        assert_eq!(lines.len(), 4);
        assert!(lines.iter().all(|line| !line.is_empty()));
        assert!(bad.contains("not UTF-8 behind byte 1"), "{bad}");
    }
}
