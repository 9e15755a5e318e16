//! How things are printed: a line for people, or a JSON object.

use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Answer, Channel, Command, Delivery, Earlier, JoinStage, Lock, Message, MessageId,
};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::find_team;
use endpoint_secure_client::output::{object, say};
use endpoint_secure_client::terminal::{Failure, grouped, hear, unexpected};

use crate::channel::{PATIENCE, channels as channels_of, teams as all_teams};

/// One message.
pub fn message(json: bool, message: &Message) {
    if json {
        return object("message", message);
    }
    if message.missing_before > 0 {
        say(format_args!(
            "  … {} entries of {} are missing here",
            message.missing_before, message.user
        ));
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
    say(format_args!(
        "{}  {}: {}{apart}{mark}{why}",
        time(message.sent_ms),
        message.user,
        set_in(&message.text)
    ));
}

/// What came before this device did, in one row.
pub fn earlier(json: bool, earlier: Option<&Earlier>) {
    let Some(earlier) = earlier else { return };
    if json {
        return object("earlier", earlier);
    }
    let joined = time(earlier.joined_ms);
    match earlier.messages {
        0 => say(format_args!(
            "  … what was said before {joined}, when this device came in, is not here"
        )),
        most => say(format_args!(
            "  … up to {most} messages from before {joined}, when this device came in, are not here"
        )),
    }
}

/// The text, its further lines set in: none of them looks like one of somebody else's.
fn set_in(text: &str) -> String {
    let lines: Vec<&str> = text.trim_end_matches(['\r', '\n']).lines().collect();
    lines.join("\n    ")
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
        say(format_args!("{} sent", sent.len()));
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
        say(format_args!(
            "{}  {name}  {} devices, epoch {}",
            team.id.team, team.devices, team.epoch
        ));
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
                say(channel_line(&team.name, &channel));
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
            say(format_args!(
                "{}  {} / {}{own}  {}",
                device.device,
                device.user,
                device.name,
                grouped(&device.fingerprint)
            ));
            if !device.warning.is_empty() {
                say(format_args!("  ! this device {}", device.warning));
            }
        }
    }
    if !json {
        say(format_args!("code {}", found.code));
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
        0 => say("idle: never"),
        minutes => say(format_args!("idle: after {minutes} minutes")),
    }
    let suspend = if locking.on_suspend { "yes" } else { "no" };
    say(format_args!("when the machine has slept: {suspend}"));
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
    say(format_args!(
        "profile: {lock}\nisolation: {}\nversion: {}",
        status.isolation, status.version
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_write_a_line_of_somebody_else() {
        let text = "yes\r\n12:00  Bob: no\n\n";
        assert_eq!(set_in(text), "yes\n    12:00  Bob: no");
        assert_eq!(set_in(""), "");
    }
}
