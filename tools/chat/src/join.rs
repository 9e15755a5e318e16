//! A new profile, and its way into a team.

use std::io::{IsTerminal, Write, stdin, stdout};
use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Answer, Code, Command, Invite, JoinStage, Preview, Profile, Role, TeamId,
};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::output::{complain, object, say};
use endpoint_secure_client::terminal::{DEPARTURE, Failure, departed, grouped, hear, unexpected};

use crate::channel::{PATIENCE, teams};
use crate::options::{Link, Options};
use crate::output::time;

/// A profile that was just opened hears within this time whether it was added.
pub const SOON: Duration = Duration::from_secs(15);

/// Makes a profile.
pub fn init(options: &Options, user: &str, device: &str) -> Result<(), Failure> {
    let endpoint = options.profile.open_or_create(user, device)?;
    let profile = profile(&endpoint)?;
    fingerprint(options.json, &profile);
    Ok(())
}

fn profile(endpoint: &Endpoint) -> Result<Profile, Failure> {
    match endpoint.call_when_back(&Command::Status, PATIENCE)? {
        Answer::Status(status) => status.profile.ok_or_else(unexpected),
        _ => Err(unexpected()),
    }
}

fn fingerprint(json: bool, profile: &Profile) {
    let Profile {
        fingerprint,
        digits,
        ..
    } = profile;
    if json {
        let both = serde_json::json!({ "fingerprint": fingerprint, "digits": digits });
        object("profile", &both);
    } else {
        say(format_args!(
            "fingerprint {}\ndigits {digits}",
            grouped(fingerprint)
        ));
    }
}

/// Asks to join, and waits if asked to.
pub fn join(
    endpoint: &Endpoint,
    json: bool,
    invite: &str,
    wait: Option<u64>,
) -> Result<(), Failure> {
    let invite = invite.to_owned();
    let read = Command::ReadInvite {
        invite: invite.clone(),
    };
    let Answer::Invite(told) = endpoint.call_when_back(&read, PATIENCE)? else {
        return Err(unexpected());
    };
    let Answer::Team(team) = endpoint.call_when_back(&Command::Join { invite }, PATIENCE)? else {
        return Err(unexpected());
    };
    if json {
        object("invite", &told);
    } else {
        say(invite_lines(&told));
    }
    fingerprint(json, &profile(endpoint)?);
    let Some(wait) = wait else {
        if departed(endpoint, DEPARTURE)? {
            return Ok(());
        }
        let line = "no relay has the request yet; it leaves when one can be reached and this profile is open";
        return Err(Failure::new(Code::Unreachable, line));
    };
    let until = Instant::now() + Duration::from_secs(wait);
    let joined = wait_until_in(endpoint, json, team.id, until)?;
    if json {
        object("joined", &serde_json::json!({ "team": joined }));
    } else {
        say(format_args!("joined {joined}"));
    }
    Ok(())
}

/// Brings another device of the same person in, or out.
pub fn link(endpoint: &Endpoint, json: bool, job: &Link) -> Result<(), Failure> {
    let digits = |text: &str| -> String {
        let digits = text.chars().filter(|c| !c.is_whitespace());
        digits.collect::<String>().to_lowercase()
    };
    let command = match job {
        Link::Create => Command::CreateLink,
        Link::Join { link } => Command::JoinLink { link: link.clone() },
        Link::Confirm { fingerprint } => Command::LinkDevice {
            fingerprint: digits(fingerprint),
        },
        Link::Remove { fingerprint } => Command::UnlinkDevice {
            fingerprint: digits(fingerprint),
        },
    };
    match endpoint.call_when_back(&command, PATIENCE)? {
        Answer::Link(text) if json => object("link", &serde_json::json!({ "link": text })),
        Answer::Link(text) => say(text),
        Answer::Teams(_) => fingerprint(json, &profile(endpoint)?),
        Answer::Done => {}
        _ => return Err(unexpected()),
    }
    if departed(endpoint, DEPARTURE)? {
        return Ok(());
    }
    let line =
        "no relay has the request yet; it leaves when one can be reached and this profile is open";
    Err(Failure::new(Code::Unreachable, line))
}

/// Founds a direct conversation, and says how somebody comes into it.
pub fn direct(endpoint: &Endpoint, json: bool, name: &str) -> Result<(), Failure> {
    let command = Command::CreateDirect { name: name.into() };
    let Answer::Team(team) = endpoint.call_when_back(&command, PATIENCE)? else {
        return Err(unexpected());
    };
    let command = Command::CreateInvite {
        team: team.id,
        hours: None,
    };
    let Answer::Invite(invite) = endpoint.call_when_back(&command, PATIENCE)? else {
        return Err(unexpected());
    };
    if json {
        object("invite", &invite);
    } else {
        say(invite.text);
    }
    if !departed(endpoint, DEPARTURE)? {
        complain(
            "treeline-chat: no relay has the conversation yet; it leaves when one can be reached",
        );
    }
    Ok(())
}

fn invite_lines(invite: &Invite) -> String {
    let named = !invite.team_name.is_empty();
    let to = if named {
        format!("{} / {}", invite.organisation, invite.team_name)
    } else {
        format!("team {}", invite.team.team)
    };
    format!(
        "invite to {to}, until {}\nits admin has the digits {}: compare them",
        time(invite.expires_ms),
        invite.admin_digits
    )
}

/// Goes into the team that this device was added to, as soon as it has heard of it.
pub fn wait_until_in(
    endpoint: &Endpoint,
    json: bool,
    id: TeamId,
    until: Instant,
) -> Result<String, Failure> {
    loop {
        let mut teams = teams(endpoint)?.into_iter();
        match teams.find(|team| team.id == id) {
            Some(team) if team.stage == JoinStage::Joined => return Ok(team.name),
            Some(team) if team.stage == JoinStage::Admitted => return enter(endpoint, json, id),
            Some(team) if team.stage == JoinStage::Refused => {
                return Err(Failure::new(Code::Forbidden, team.refused));
            }
            _ => {}
        }
        if Instant::now() > until {
            let line = "no admin has added this device yet: give one its digits or its fingerprint; the join goes on \
                        whenever this profile is open";
            return Err(Failure::new(Code::Unreachable, line));
        }
        hear(endpoint, Duration::from_secs(1));
    }
}

/// Goes into a team that this device was added to, after showing who is in it. On a terminal the person
/// is asked first.
fn enter(endpoint: &Endpoint, json: bool, team: TeamId) -> Result<String, Failure> {
    let Answer::Preview(preview) = endpoint.call_when_back(&Command::Preview { team }, PATIENCE)?
    else {
        return Err(unexpected());
    };
    if json {
        object("preview", &preview);
    } else {
        say(preview_lines(&preview));
    }
    if !json && stdin().is_terminal() && !agreed()? {
        let line = "not joined; `treeline-chat enter` asks again, `treeline-chat decline` forgets the team";
        return Err(Failure::new(Code::Usage, line));
    }
    match endpoint.call_when_back(&Command::Enter { team }, PATIENCE)? {
        Answer::Team(team) => Ok(team.name),
        _ => Err(unexpected()),
    }
}

/// Forgets a team that this device has asked to join.
pub fn decline(endpoint: &Endpoint, team: TeamId) -> Result<(), Failure> {
    match endpoint.call_when_back(&Command::Decline { team }, PATIENCE)? {
        Answer::Done => Ok(()),
        _ => Err(unexpected()),
    }
}

/// The team that waits to be entered: by number, or the only one.
pub fn waiting(endpoint: &Endpoint, number: Option<u32>) -> Result<TeamId, Failure> {
    let mut found = teams(endpoint)?;
    found.retain(|team| team.stage != JoinStage::Joined);
    found.retain(|team| number.is_none_or(|number| team.id.team == number));
    match found[..] {
        [ref only] => Ok(only.id),
        [] => Err(Failure::new(
            Code::NotFound,
            "this device waits for no such team",
        )),
        _ => Err(Failure::new(
            Code::Usage,
            "this device waits for several teams: say a number of `treeline-chat teams`",
        )),
    }
}

fn agreed() -> Result<bool, Failure> {
    let mut answer = String::new();
    let failed = |e: std::io::Error| Failure::new(Code::Usage, format!("the terminal: {e}"));
    let asked = write!(stdout(), "Join this team? [y/N] ").and_then(|()| stdout().flush());
    asked.map_err(failed)?;
    stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn preview_lines(preview: &Preview) -> String {
    let head = format!(
        "{} / {}: added by {} / {}, digits {}; you will be {}",
        preview.organisation,
        preview.name,
        preview.by.user,
        preview.by.name,
        preview.by.digits,
        role(preview.role)
    );
    let devices = preview.devices.iter().map(|device| {
        let own = if device.own { " (this device)" } else { "" };
        let what = role(device.role);
        format!("  {} / {}{own}  {what}", device.user, device.name)
    });
    let lines: Vec<String> = std::iter::once(head).chain(devices).collect();
    lines.join("\n")
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Owner => "owner",
        Role::Admin => "admin",
        Role::Member => "member",
        Role::Guest => "guest",
    }
}
