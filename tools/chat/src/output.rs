//! How things are printed: a line for people, or a JSON object.

use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Answer, Channel, Command, Delivery, Earlier, JoinStage, Lock, Message, MessageId,
};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::find_team;
use endpoint_secure_client::terminal::{Failure, grouped, hear, unexpected};
use serde::Serialize;

use crate::channel::{PATIENCE, channels as channels_of, teams as all_teams};

/// Prints `{"v":1,"kind":…,…}`.
pub fn object<T: Serialize>(kind: &str, value: &T) {
    let mut object = serde_json::json!({ "v": 1, "kind": kind });
    if let (Some(object), Ok(serde_json::Value::Object(fields))) =
        (object.as_object_mut(), serde_json::to_value(value))
    {
        object.extend(fields);
    }
    println!("{object}");
}

/// One message.
pub fn message(json: bool, message: &Message) {
    if json {
        return object("message", message);
    }
    if message.missing_before > 0 {
        println!(
            "  … {} entries of {} are missing here",
            message.missing_before, message.user
        );
    }
    let mark = if message.own {
        format!("  [{}]", delivery(message.delivery))
    } else {
        String::new()
    };
    let why = if message.failure.is_empty() {
        String::new()
    } else {
        format!(" {}", message.failure)
    };
    let apart = if message.disconnected {
        "  (sent while disconnected)"
    } else {
        ""
    };
    println!(
        "{}  {}: {}{apart}{mark}{why}",
        time(message.sent_ms),
        message.user,
        printable(&message.text)
    );
}

/// What came before this device did, in one row.
pub fn earlier(json: bool, earlier: Option<&Earlier>) {
    let Some(earlier) = earlier else { return };
    if json {
        return object("earlier", earlier);
    }
    let joined = time(earlier.joined_ms);
    match earlier.messages {
        0 => println!("  … what was said before {joined}, when this device came in, is not here"),
        most => println!(
            "  … up to {most} messages from before {joined}, when this device came in, are not here"
        ),
    }
}

/// The text without what would steer the terminal.
fn printable(text: &str) -> String {
    let plain = text.trim_end_matches(['\r', '\n']);
    plain
        .chars()
        .map(|c| {
            if c.is_control() && c != '\n' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// The word for how far a message has come.
pub fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::Failed => "failed",
        Delivery::Queued => "queued on this device",
        Delivery::Lan => "on the LAN",
        Delivery::Cloud => "in the cloud",
        Delivery::Origin => "at the origin",
    }
}

/// Hours and minutes here, with the date on another day.
pub fn time(ms: u64) -> String {
    let Ok(at) = jiff::Timestamp::from_millisecond(ms as i64) else {
        return "?".into();
    };
    let at = at.to_zoned(jiff::tz::TimeZone::system());
    let today = jiff::Zoned::now().date() == at.date();
    at.strftime(if today { "%H:%M" } else { "%Y-%m-%d %H:%M" })
        .to_string()
}

/// What was sent.
pub fn sent(json: bool, sent: &[MessageId]) {
    if json {
        sent.iter().for_each(|id| object("sent", id));
    } else {
        println!("{} sent", sent.len());
    }
}

/// The teams.
pub fn teams(endpoint: &Endpoint, json: bool) -> Result<(), Failure> {
    for team in all_teams(endpoint)? {
        if json {
            object("team", &team);
            continue;
        }
        let name = match team.stage {
            JoinStage::Joined => &team.name,
            JoinStage::WaitingForAdmin | JoinStage::Fetching => "(waiting for an admin)",
            JoinStage::Admitted => "(added: treeline-chat enter)",
            JoinStage::Refused => &team.refused,
        };
        println!(
            "{}  {name}  {} devices, epoch {}",
            team.id.team, team.devices, team.epoch
        );
    }
    Ok(())
}

/// The channels of all teams.
pub fn channels(endpoint: &Endpoint, json: bool) -> Result<(), Failure> {
    for team in all_teams(endpoint)? {
        for channel in channels_of(endpoint, team.id)? {
            if json {
                object("channel", &channel);
            } else {
                println!("{}", channel_line(&team.name, &channel));
            }
        }
    }
    Ok(())
}

/// A channel for people.
pub fn channel_line(team: &str, channel: &Channel) -> String {
    let unread = if channel.unread > 0 {
        format!(", {} unread", channel.unread)
    } else {
        String::new()
    };
    let (number, name) = (channel.id.channel, &channel.name);
    format!(
        "{}/{number}  {team}/{name}  {} messages{unread}",
        channel.id.team.team, channel.messages
    )
}

/// A team's devices.
pub fn devices(endpoint: &Endpoint, json: bool, team: &str) -> Result<(), Failure> {
    let found = find_team(&all_teams(endpoint)?, team)?.clone();
    let team = found.id;
    let answer = endpoint.call_when_back(&Command::Devices { team }, PATIENCE)?;
    let Answer::Devices(devices) = answer else {
        return Err(unexpected());
    };
    for device in devices {
        if json {
            object("device", &device);
        } else {
            let own = if device.own { "  (this device)" } else { "" };
            println!(
                "{}  {} / {}{own}  {}",
                device.device,
                device.user,
                device.name,
                grouped(&device.fingerprint)
            );
            if !device.warning.is_empty() {
                println!("  ! this device {}", device.warning);
            }
        }
    }
    if !json {
        println!("code {}", found.code);
    }
    Ok(())
}

/// When the profile locks by itself, after a change if there is one.
pub fn locking(
    endpoint: &Endpoint,
    json: bool,
    (idle, suspend): (Option<u32>, Option<bool>),
) -> Result<(), Failure> {
    let Answer::Locking(mut locking) = endpoint.call_when_back(&Command::Locking, PATIENCE)? else {
        return Err(unexpected());
    };
    if idle.is_some() || suspend.is_some() {
        locking.idle_minutes = idle.unwrap_or(locking.idle_minutes);
        locking.on_suspend = suspend.unwrap_or(locking.on_suspend);
        let locking = locking.clone();
        endpoint.call_when_back(&Command::SetLocking { locking }, PATIENCE)?;
    }
    if json {
        object("locking", &locking);
        return Ok(());
    }
    match locking.idle_minutes {
        0 => println!("idle: never"),
        minutes => println!("idle: after {minutes} minutes"),
    }
    let suspend = if locking.on_suspend { "yes" } else { "no" };
    println!("when the machine has slept: {suspend}");
    Ok(())
}

/// How long a part of the endpoint may take to say how it is confined.
const SAYING: Duration = Duration::from_secs(5);

/// The state of the profile, without unlocking it.
pub fn status(endpoint: &Endpoint, json: bool) -> Result<(), Failure> {
    let until = Instant::now() + SAYING;
    let status = loop {
        let Answer::Status(status) = endpoint.call(&Command::Status)? else {
            return Err(unexpected());
        };
        // After that long it is shown as it is: not said.
        if !status.isolation.contains("has not said yet") || Instant::now() > until {
            break status;
        }
        hear(endpoint, Duration::from_millis(20));
    };
    if json {
        object("status", &status);
        return Ok(());
    }
    let lock = match status.lock {
        Lock::Empty => "no profile yet",
        Lock::Locked => "locked",
        Lock::Unlocked => "unlocked",
    };
    println!(
        "profile: {lock}\nisolation: {}\nversion: {}",
        status.isolation, status.version
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_steer_the_terminal() {
        assert_eq!(printable("a\u{1b}[2Jb\r\n"), "a\u{fffd}[2Jb");
    }
}
