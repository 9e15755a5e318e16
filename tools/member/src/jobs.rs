//! What each command does: asks Secure, waits where something has to travel, prints.

use std::fs;
use std::time::{Duration, Instant};

use endpoint_secure_api::{Answer, Code, Command, Device, Team, TeamId};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::find_team;
use endpoint_secure_client::terminal::{DEPARTURE, Failure, departed, grouped, unexpected};

use crate::options::{self, Channel, Found, Invite, Job, Options, Org};
use crate::output::show;

/// Carries the command out.
pub fn run(options: &Options) -> Result<(), Failure> {
    let json = options.json;
    if let Job::Org(Org::Create(found)) = &options.job {
        return create_org(options, found);
    }
    let endpoint = options.profile.open()?;
    match &options.job {
        Job::Org(_) => show_org(&endpoint, json),
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
        Job::Invite(Invite::Create { team }) => {
            let team = find_team(&teams(&endpoint)?, team)?.id;
            let answer = endpoint.call(&Command::CreateInvite { team })?;
            let Answer::Invite(invite) = answer else {
                return Err(unexpected());
            };
            show(json, "invite", &invite, &invite.text);
            Ok(())
        }
        Job::Device(options::Device::Add {
            team,
            fingerprint,
            wait,
        }) => {
            let team = find_team(&teams(&endpoint)?, team)?.id;
            let device = add(&endpoint, team, fingerprint, Duration::from_secs(*wait))?;
            show(
                json,
                "device",
                &device,
                &format!("added {}", device_line(&device)),
            );
            Ok(())
        }
        Job::Device(options::Device::List { team }) => {
            let team = find_team(&teams(&endpoint)?, team)?.id;
            for device in devices(&endpoint, team)? {
                show(json, "device", &device, &device_line(&device));
            }
            Ok(())
        }
    }
}

fn create_org(options: &Options, found: &Found) -> Result<(), Failure> {
    let path = &found.registration_file;
    let registration = fs::read_to_string(path)
        .map_err(|e| Failure::new(Code::Configuration, format!("{}: {e}", path.display())))?;
    let endpoint = options.profile.open_or_create(&found.user, &found.device)?;
    let answer = endpoint.call(&Command::CreateOrganisation {
        name: found.name.clone(),
        registration,
        relays: found.relay.clone(),
    })?;
    let Answer::Team(team) = answer else {
        return Err(unexpected());
    };
    told_when_offline(&endpoint)?;
    show(
        options.json,
        "team",
        &team,
        &format!("founded {}\n{}", found.name, team_line(&team)),
    );
    Ok(())
}

fn show_org(endpoint: &Endpoint, json: bool) -> Result<(), Failure> {
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
    let (Channel::Create { team, .. } | Channel::List { team }) = job;
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
    let answer = endpoint.call(&Command::Channels { team })?;
    let Answer::Channels(channels) = answer else {
        return Err(unexpected());
    };
    for channel in channels {
        let line = format!(
            "{}  {}  {} messages",
            channel.id.channel, channel.name, channel.messages
        );
        show(json, "channel", &channel, &line);
    }
    Ok(())
}

/// Adds the device and waits until it is in the group and nothing of it waits on this device.
fn add(
    endpoint: &Endpoint,
    team: TeamId,
    fingerprint: &str,
    wait: Duration,
) -> Result<Device, Failure> {
    let until = Instant::now() + wait;
    let digits: String = fingerprint.chars().filter(|c| !c.is_whitespace()).collect();
    let digits = digits.to_lowercase();
    endpoint.call_when_back(
        &Command::AddDevice {
            team,
            fingerprint: digits.clone(),
        },
        wait,
    )?;
    loop {
        let found = devices(endpoint, team)?
            .into_iter()
            .find(|d| d.fingerprint == digits);
        if let Some(device) = found {
            let left = until.saturating_duration_since(Instant::now());
            if departed(endpoint, left.max(DEPARTURE))? {
                return Ok(device);
            }
            let line = "the device is in the team and its welcome has reached no relay yet; it leaves when \
                        one can be reached and this profile is open. Run this again to wait for it";
            return Err(Failure::new(Code::Unreachable, line));
        }
        let Some(left) = until.checked_duration_since(Instant::now()) else {
            let line = "the device has not published its key package; is it online, and did it use an \
                        invite to this team? Run this again: it goes on where it was";
            return Err(Failure::new(Code::Unreachable, line));
        };
        endpoint.next_event(left.min(Duration::from_secs(1)));
    }
}

/// Waits until a relay has everything. Without a relay it stays queued, which is said and is no
/// failure: it leaves the next time that this profile is open.
fn told_when_offline(endpoint: &Endpoint) -> Result<(), Failure> {
    if !departed(endpoint, DEPARTURE)? {
        eprintln!(
            "treeline-member: no relay has all of it yet; it is safe on this device and leaves when one \
             can be reached and this profile is open"
        );
    }
    Ok(())
}

fn teams(endpoint: &Endpoint) -> Result<Vec<Team>, Failure> {
    match endpoint.call_when_back(&Command::Teams, DEPARTURE)? {
        Answer::Teams(teams) => Ok(teams),
        _ => Err(unexpected()),
    }
}

fn devices(endpoint: &Endpoint, team: TeamId) -> Result<Vec<Device>, Failure> {
    match endpoint.call_when_back(&Command::Devices { team }, DEPARTURE)? {
        Answer::Devices(devices) => Ok(devices),
        _ => Err(unexpected()),
    }
}

fn team_line(team: &Team) -> String {
    let admin = if team.admin { ", admin" } else { "" };
    format!(
        "team {}  {}  epoch {}, {} devices{admin}",
        team.id.team, team.name, team.epoch, team.devices
    )
}

fn device_line(device: &Device) -> String {
    let own = if device.own { " (this device)" } else { "" };
    format!(
        "device {}  {} / {}{own}  {}",
        device.device,
        device.user,
        device.name,
        grouped(&device.fingerprint)
    )
}
