//! What each command does: asks Secure, waits where something has to travel, prints.

use std::fs;
use std::time::Duration;

use endpoint_secure_api::{
    Answer, Channel as ApiChannel, Code, Command, Device, Standing, Team, TeamId,
};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::{find_channel, find_team};
use endpoint_secure_client::output::{complain, show};
use endpoint_secure_client::terminal::{DEPARTURE, Failure, departed, unexpected};

use crate::options::{self, Channel, Found, Job, Options, Org, Switch};
use crate::{devices, invites, organisations};

/// How long a device that serves its local network waits for another one there: whoever comes later
/// gets everything from it.
const ALONE: Duration = Duration::from_secs(2);

/// Carries the command out.
pub fn run(options: &Options) -> Result<(), Failure> {
    let json = options.json;
    if let Job::Org(Org::Create(found)) = &options.job {
        return create_org(options, found);
    }
    if let Job::Pages(pages) = &options.job {
        let written = pages.write::<Options>();
        return written.map_err(|line| Failure::new(Code::Usage, line));
    }
    if let Job::Passphrase { new_file } = &options.job {
        return options.profile.change_passphrase(new_file.as_deref());
    }
    let endpoint = options.profile.open()?;
    match &options.job {
        Job::Pages(_) | Job::Passphrase { .. } => Ok(()),
        Job::Org(job) => organisations::run(&endpoint, job, json),
        Job::Team(options::Team::Create { name, suite }) => {
            let command = Command::CreateTeam {
                name: name.clone(),
                suite: (*suite).into(),
            };
            let Answer::Team(team) = endpoint.call(&command)? else {
                return Err(unexpected());
            };
            told_when_offline(&endpoint)?;
            show(json, "team", &team, &team_line(&team));
            Ok(())
        }
        Job::Team(options::Team::List) => {
            for team in teams(&endpoint)? {
                show(json, "team", &team, &team_line(&team));
            }
            Ok(())
        }
        Job::Channel(channel) => channels(&endpoint, channel, json),
        Job::Invite(job) => invites::run(&endpoint, job, json),
        Job::Device(job) => devices::run(&endpoint, job, json),
        Job::Admin(job) => devices::administer(&endpoint, job, json),
    }
}

fn create_org(options: &Options, found: &Found) -> Result<(), Failure> {
    let registration = match &found.registration_file {
        Some(path) => fs::read_to_string(path)
            .map_err(|e| Failure::new(Code::Configuration, format!("{}: {e}", path.display())))?,
        None => String::new(),
    };
    if found.registration_file.is_some() && registration.trim().is_empty() {
        let line = "the registration file is empty; it has to hold what `treeline-relay org register` printed";
        return Err(Failure::new(Code::Configuration, line));
    }
    let endpoint = options.profile.open_or_create(&found.user, &found.device)?;
    let answer = endpoint.call(&Command::CreateOrganisation {
        name: found.name.clone(),
        registration,
        relays: found.relay.clone(),
    })?;
    let Answer::Team(team) = answer else {
        return Err(unexpected());
    };
    if !found.lan_only {
        told_when_offline(&endpoint)?;
    }
    show(
        options.json,
        "team",
        &team,
        &format!("founded {}\n{}", found.name, team_line(&team)),
    );
    Ok(())
}

pub(super) fn show_org(endpoint: &Endpoint, json: bool) -> Result<(), Failure> {
    let teams = teams(endpoint)?;
    let administration = teams.iter().find(|team| team.id.team == 1);
    let Some(team) = administration else {
        return Err(Failure::new(
            Code::NotFound,
            "this profile administers no organisation",
        ));
    };
    let line = format!(
        "{}: number {} at origin {:06x}, {} teams",
        team.organisation,
        team.id.org,
        team.id.origin,
        teams.len()
    );
    show(json, "organisation", team, &line);
    Ok(())
}

fn channels(endpoint: &Endpoint, job: &Channel, json: bool) -> Result<(), Failure> {
    let (Channel::Create { team, .. } | Channel::List { team } | Channel::Announce { team, .. }) =
        job;
    let team = find_team(&teams(endpoint)?, team)?.id;
    if let Channel::Create { name, .. } = job {
        let answer = endpoint.call(&Command::CreateChannel {
            team,
            name: name.clone(),
        })?;
        let Answer::Channel(channel) = answer else {
            return Err(unexpected());
        };
        told_when_offline(endpoint)?;
        show(
            json,
            "channel",
            &channel,
            &format!("{}  {}", channel.id.channel, channel.name),
        );
        return Ok(());
    }
    if let Channel::Announce {
        channel,
        only,
        wait,
        ..
    } = job
    {
        let on = *only == Switch::On;
        let found = find_channel(&list_channels(endpoint, team)?, channel)?.clone();
        let command = Command::SetAnnounce {
            channel: found.id,
            on,
        };
        let done = |_: &[Device]| {
            let channels = list_channels(endpoint, team)?;
            let mut channels = channels.into_iter();
            Ok(channels.find(|one| one.id == found.id && one.announce == on))
        };
        let channel = devices::change(endpoint, team, &command, *wait, done)?;
        let line = if on {
            "only admins write in"
        } else {
            "everybody writes in"
        };
        show(
            json,
            "channel",
            &channel,
            &format!("{line} {}", channel.name),
        );
        return Ok(());
    }
    let channels = list_channels(endpoint, team)?;
    for channel in channels {
        let line = format!(
            "{}  {}  {} messages",
            channel.id.channel, channel.name, channel.messages
        );
        show(json, "channel", &channel, &line);
    }
    Ok(())
}

/// Waits until a relay has everything. Without a relay it stays queued, which is said and is no
/// failure: it leaves the next time that this profile is open.
pub(super) fn told_when_offline(endpoint: &Endpoint) -> Result<(), Failure> {
    let limit = if serves(endpoint)? { ALONE } else { DEPARTURE };
    if !departed(endpoint, limit)? {
        complain(
            "treeline-member: no relay has all of it yet; it is safe on this device and leaves when one \
             can be reached and this profile is open",
        );
    }
    Ok(())
}

/// Whether this device serves its local network for want of a relay.
fn serves(endpoint: &Endpoint) -> Result<bool, Failure> {
    match endpoint.call_when_back(&Command::Relays, DEPARTURE)? {
        Answer::Relays(relays) => {
            Ok(relays.iter().all(|one| one.standing == Standing::Own) && !relays.is_empty())
        }
        _ => Err(unexpected()),
    }
}

fn list_channels(endpoint: &Endpoint, team: TeamId) -> Result<Vec<ApiChannel>, Failure> {
    match endpoint.call_when_back(&Command::Channels { team }, DEPARTURE)? {
        Answer::Channels(channels) => Ok(channels),
        _ => Err(unexpected()),
    }
}

pub(super) fn teams(endpoint: &Endpoint) -> Result<Vec<Team>, Failure> {
    match endpoint.call_when_back(&Command::Teams, DEPARTURE)? {
        Answer::Teams(teams) => Ok(teams),
        _ => Err(unexpected()),
    }
}

fn team_line(team: &Team) -> String {
    let admin = match (team.removed, team.admin) {
        (true, _) => ", this device was removed",
        (_, true) => ", admin",
        _ => "",
    };
    format!(
        "team {}  {}  epoch {}, {} devices{admin}",
        team.id.team, team.name, team.epoch, team.devices
    )
}
