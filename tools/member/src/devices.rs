//! Devices and admins of a team: each command asks Secure, waits until the change is in effect, and
//! prints what became of it.

use std::time::{Duration, Instant};

use endpoint_secure_api::{Answer, Code, Command, Device, Role, TeamId};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::find_team;
use endpoint_secure_client::output::{complain, say, show};
use endpoint_secure_client::terminal::{DEPARTURE, Failure, departed, grouped, hear, unexpected};

use crate::jobs::teams;
use crate::options::{self, Admin, Wait};

/// Carries a command about devices out.
pub fn run(endpoint: &Endpoint, job: &options::Device, json: bool) -> Result<(), Failure> {
    match job {
        options::Device::Add {
            team,
            fingerprint,
            wait,
        } => {
            let team = find_team(&teams(endpoint)?, team)?.id;
            let device = add(endpoint, team, fingerprint, Duration::from_secs(*wait))?;
            let line = format!("added {}", device_line(&device));
            show(json, "device", &device, &line);
            Ok(())
        }
        options::Device::Remove { team, device, wait } => {
            let team = find_team(&teams(endpoint)?, team)?.id;
            let device = find(endpoint, team, device)?;
            let command = Command::RemoveDevice {
                team,
                device: device.device,
            };
            let gone = |all: &[Device]| {
                let there = all.iter().any(|one| one.device == device.device);
                Ok((!there).then_some(()))
            };
            change(endpoint, team, &command, *wait, gone)?;
            let line = format!("removed {}", device_line(&device));
            show(json, "device", &device, &line);
            Ok(())
        }
        options::Device::Guest { team, device, wait } => {
            set_role(endpoint, (team, device), Role::Guest, *wait, json)
        }
        options::Device::Member { team, device, wait } => {
            set_role(endpoint, (team, device), Role::Member, *wait, json)
        }
        options::Device::List { team } => {
            let team = find_team(&teams(endpoint)?, team)?.clone();
            for device in list(endpoint, team.id)? {
                show(json, "device", &device, &device_line(&device));
            }
            if !json {
                say(format_args!("code {}", team.code));
            }
            Ok(())
        }
    }
}

/// Carries a command about admins out.
pub fn administer(endpoint: &Endpoint, job: &Admin, json: bool) -> Result<(), Failure> {
    match job {
        Admin::Add { team, device, wait } => {
            set_role(endpoint, (team, device), Role::Admin, *wait, json)
        }
        Admin::Remove { team, device, wait } => {
            set_role(endpoint, (team, device), Role::Member, *wait, json)
        }
        Admin::List { team } => {
            let team = find_team(&teams(endpoint)?, team)?.id;
            let mut admins = list(endpoint, team)?;
            admins.retain(|device| device.rank.is_some());
            admins.sort_by_key(|device| device.rank);
            for device in admins {
                show(json, "device", &device, &device_line(&device));
            }
            Ok(())
        }
    }
}

fn set_role(
    endpoint: &Endpoint,
    (team, device): (&str, &str),
    role: Role,
    wait: Wait,
    json: bool,
) -> Result<(), Failure> {
    let team = find_team(&teams(endpoint)?, team)?.id;
    let number = find(endpoint, team, device)?.device;
    let command = Command::SetRole {
        team,
        device: number,
        role,
    };
    let has_it = |all: &[Device]| {
        let mut all = all.iter();
        let owner = |one: &Device| role == Role::Admin && one.role == Role::Owner;
        let found = all.find(|one| one.device == number && (one.role == role || owner(one)));
        Ok(found.cloned())
    };
    let device = change(endpoint, team, &command, wait, has_it)?;
    show(json, "device", &device, &device_line(&device));
    Ok(())
}

/// Asks for a change, and waits until it is in effect and nothing of it waits on this device.
pub fn change<T>(
    endpoint: &Endpoint,
    team: TeamId,
    command: &Command,
    wait: Wait,
    done: impl Fn(&[Device]) -> Result<Option<T>, Failure>,
) -> Result<T, Failure> {
    let until = Instant::now() + Duration::from_secs(wait.wait);
    endpoint.call_when_back(command, DEPARTURE)?;
    loop {
        if let Some(result) = done(&list(endpoint, team)?)? {
            let left = until.saturating_duration_since(Instant::now());
            if !departed(endpoint, left.max(DEPARTURE))? {
                complain(
                    "treeline-member: no relay has the change yet; it is safe on this device and leaves \
                     when one can be reached and this profile is open",
                );
            }
            return Ok(result);
        }
        let Some(left) = until.checked_duration_since(Instant::now()) else {
            let line = "the change is noted and not in effect yet; other admins may be changing the team. \
                        Run this again: it goes on where it was";
            return Err(Failure::new(Code::Unreachable, line));
        };
        hear(endpoint, left.min(Duration::from_secs(1)));
    }
}

fn find(endpoint: &Endpoint, team: TeamId, text: &str) -> Result<Device, Failure> {
    let digits: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    let digits = digits.to_lowercase();
    let mut devices = list(endpoint, team)?.into_iter();
    let is_it = |one: &Device| {
        let spoken = one.digits.replace(' ', "") == digits;
        one.device.to_string() == digits || one.fingerprint == digits || spoken
    };
    devices.find(is_it).ok_or_else(|| {
        let line = format!(
            "no device {text:?} is in the team: say its number or its whole fingerprint, as \
             `treeline-member device list` prints them"
        );
        Failure::new(Code::NotFound, line)
    })
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
    let is_it = |one: &Device| one.fingerprint == digits || one.digits.replace(' ', "") == digits;
    endpoint.call_when_back(
        &Command::AddDevice {
            team,
            fingerprint: digits.clone(),
        },
        wait,
    )?;
    loop {
        let found = list(endpoint, team)?.into_iter().find(is_it);
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
                        open invite of this device? Run this again: it goes on where it was";
            return Err(Failure::new(Code::Unreachable, line));
        };
        hear(endpoint, left.min(Duration::from_secs(1)));
    }
}

fn list(endpoint: &Endpoint, team: TeamId) -> Result<Vec<Device>, Failure> {
    match endpoint.call_when_back(&Command::Devices { team }, DEPARTURE)? {
        Answer::Devices(devices) => Ok(devices),
        _ => Err(unexpected()),
    }
}

/// How long ago a device was last heard of.
fn seen(at_ms: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let now_ms = now.map_or(0, |now| now.as_millis() as u64);
    match now_ms.saturating_sub(at_ms) / (24 * 3600 * 1000) {
        0 => "seen within a day".to_owned(),
        days => format!("not seen for {days} days"),
    }
}

fn device_line(device: &Device) -> String {
    let own = if device.own { " (this device)" } else { "" };
    let role = match (device.role, device.rank) {
        (Role::Owner, _) => "owner".to_owned(),
        (Role::Admin, Some(rank)) => format!("admin of rank {rank}"),
        (Role::Admin, None) => "admin".to_owned(),
        (Role::Member, _) => "member".to_owned(),
        (Role::Guest, _) => "guest".to_owned(),
    };
    let warning = match device.warning.as_str() {
        "" => String::new(),
        text => format!("\n  ! this device {text}"),
    };
    format!(
        "device {}  {} / {}{own}  {role}, since epoch {}, {}  {}{warning}",
        device.device,
        device.user,
        device.name,
        device.since_epoch,
        seen(device.last_seen_ms),
        grouped(&device.fingerprint)
    )
}
