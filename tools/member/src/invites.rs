//! Invites to a team: making them, looking at them, taking them back, and who answers them.

use std::time::{Duration, Instant};

use endpoint_secure_api::{Answer, Command, Fate, Issued, Request, TeamId};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::find_team;
use endpoint_secure_client::output::show;
use endpoint_secure_client::terminal::{DEPARTURE, Failure, hear, unexpected};

use crate::jobs::teams;
use crate::options::{Form, Invite};

/// Carries a command about invites out.
pub fn run(endpoint: &Endpoint, job: &Invite, json: bool) -> Result<(), Failure> {
    let (Invite::Create { team, .. }
    | Invite::List { team }
    | Invite::Revoke { team, .. }
    | Invite::Requests { team, .. }) = job;
    let team = find_team(&teams(endpoint)?, team)?.id;
    match job {
        Invite::Create { hours, form, .. } => {
            let command = Command::CreateInvite {
                team,
                hours: *hours,
            };
            let Answer::Invite(invite) = endpoint.call(&command)? else {
                return Err(unexpected());
            };
            let text = match form {
                Form::Text => &invite.text,
                Form::Words => &invite.words,
                Form::Qr => &invite.qr,
            };
            show(json, "invite", &invite, text);
            Ok(())
        }
        Invite::List { .. } => {
            let answer = endpoint.call_when_back(&Command::Invites { team }, DEPARTURE)?;
            let Answer::Invites(all) = answer else {
                return Err(unexpected());
            };
            for one in all {
                show(json, "invite", &one, &invite_line(&one));
            }
            Ok(())
        }
        Invite::Revoke { id, .. } => {
            let id = id.to_lowercase();
            endpoint.call(&Command::RevokeInvite { team, id })?;
            Ok(())
        }
        Invite::Requests { wait, .. } => {
            for one in requests(endpoint, team, Duration::from_secs(*wait))? {
                show(json, "request", &one, &request_line(&one));
            }
            Ok(())
        }
    }
}

/// Those who ask, as soon as there is one, or when the time is over.
fn requests(endpoint: &Endpoint, team: TeamId, wait: Duration) -> Result<Vec<Request>, Failure> {
    let until = Instant::now() + wait;
    loop {
        let answer = endpoint.call_when_back(&Command::Requests { team }, DEPARTURE)?;
        let Answer::Requests(all) = answer else {
            return Err(unexpected());
        };
        let left = until.saturating_duration_since(Instant::now());
        if !all.is_empty() || left.is_zero() {
            return Ok(all);
        }
        hear(endpoint, left.min(Duration::from_secs(1)));
    }
}

/// The day here.
fn day(ms: u64) -> String {
    let at = jiff::Timestamp::from_millisecond(ms as i64).unwrap_or_default();
    let at = at.to_zoned(jiff::tz::TimeZone::system());
    at.strftime("%Y-%m-%d %H:%M").to_string()
}

fn invite_line(issued: &Issued) -> String {
    let fate = match issued.fate {
        Fate::Open => format!("open until {}", day(issued.invite.expires_ms)),
        Fate::Used => format!("used by {}", issued.used_by),
        Fate::Expired => format!("expired {}", day(issued.invite.expires_ms)),
        Fate::Revoked => "revoked".to_owned(),
    };
    let made = day(issued.created_ms);
    format!("{}  made {made}  {fate}", issued.invite.id)
}

fn request_line(request: &Request) -> String {
    let how = match (request.adding, request.refused.as_str()) {
        (_, why) if !why.is_empty() => why,
        (true, _) => "is being added",
        _ => "waits",
    };
    let Request {
        digits,
        user,
        device,
        invite,
        ..
    } = request;
    format!("{digits}  {user} / {device}  invite {invite}  {how}")
}
