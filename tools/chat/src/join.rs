//! A new profile, and its way into a team.

use std::time::{Duration, Instant};

use endpoint_secure_api::{Answer, Code, Command, JoinStage, Profile, TeamId};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::terminal::{DEPARTURE, Failure, departed, grouped, unexpected};

use crate::channel::{PATIENCE, teams};
use crate::options::Options;

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
    if json {
        println!(
            "{}",
            serde_json::json!({ "v": 1, "kind": "profile", "fingerprint": profile.fingerprint })
        );
    } else {
        println!("fingerprint {}", grouped(&profile.fingerprint));
    }
}

/// Asks to join, and waits if asked to.
pub fn join(
    endpoint: &Endpoint,
    json: bool,
    invite: &str,
    wait: Option<u64>,
) -> Result<(), Failure> {
    let command = Command::Join {
        invite: invite.to_owned(),
    };
    let Answer::Team(team) = endpoint.call_when_back(&command, PATIENCE)? else {
        return Err(unexpected());
    };
    fingerprint(json, &profile(endpoint)?);
    let Some(wait) = wait else {
        if departed(endpoint, DEPARTURE)? {
            return Ok(());
        }
        let line = "no relay has the request yet; it leaves when one can be reached and this profile is open";
        return Err(Failure::new(Code::Unreachable, line));
    };
    let until = Instant::now() + Duration::from_secs(wait);
    let joined = wait_until_in(endpoint, team.id, until)?;
    if json {
        println!(
            "{}",
            serde_json::json!({ "v": 1, "kind": "joined", "team": joined })
        );
    } else {
        println!("joined {joined}");
    }
    Ok(())
}

fn wait_until_in(endpoint: &Endpoint, id: TeamId, until: Instant) -> Result<String, Failure> {
    loop {
        let teams = teams(endpoint)?;
        if let Some(team) = teams
            .iter()
            .find(|t| t.id == id && t.stage == JoinStage::Joined)
        {
            return Ok(team.name.clone());
        }
        if Instant::now() > until {
            let line = "no admin has added this device yet: give one the fingerprint above; the join goes on \
                        whenever this profile is open";
            return Err(Failure::new(Code::Unreachable, line));
        }
        endpoint.next_event(Duration::from_secs(1));
    }
}
