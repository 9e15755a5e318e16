//! What an organisation says to others: its introduction, whom a team lets in, and what it revokes.

use endpoint_secure_api::{Answer, Command, Device};
use endpoint_secure_client::Endpoint;
use endpoint_secure_client::naming::find_team;
use endpoint_secure_client::output::show;
use endpoint_secure_client::terminal::{DEPARTURE, Failure, unexpected};

use crate::devices;
use crate::jobs::{show_org, teams, told_when_offline};
use crate::options::{Org, Wait};

/// Carries a command about organisations out.
pub fn run(endpoint: &Endpoint, job: &Org, json: bool) -> Result<(), Failure> {
    match job {
        Org::Create(_) | Org::Show => show_org(endpoint, json),
        Org::Introduce { team } => {
            let team = find_team(&teams(endpoint)?, team)?.id;
            let answer = endpoint.call(&Command::Organisation { team })?;
            let Answer::Organisation(organisation) = answer else {
                return Err(unexpected());
            };
            show(json, "organisation", &organisation, &organisation.text);
            Ok(())
        }
        Org::Allow { team, organisation } => allow(endpoint, (team, organisation), true, json),
        Org::Forbid { team, organisation } => allow(endpoint, (team, organisation), false, json),
        Org::Revoke { fingerprint } => {
            let digits: String = fingerprint.chars().filter(|c| !c.is_whitespace()).collect();
            let fingerprint = digits.to_lowercase();
            endpoint.call(&Command::RevokeDevice { fingerprint })?;
            told_when_offline(endpoint)?;
            show(
                json,
                "revoked",
                &(),
                "revoked; admins' devices remove it from their teams",
            );
            Ok(())
        }
    }
}

fn allow(
    endpoint: &Endpoint,
    (team, text): (&str, &str),
    on: bool,
    json: bool,
) -> Result<(), Failure> {
    let team = find_team(&teams(endpoint)?, team)?.clone();
    let command = Command::AllowOrganisation {
        team: team.id,
        organisation: text.to_owned(),
        on,
    };
    let Answer::Organisation(organisation) = endpoint.call_when_back(&command, DEPARTURE)? else {
        return Err(unexpected());
    };
    let settled = |_: &[Device]| {
        let mut teams = teams(endpoint)?.into_iter();
        let waits = teams.any(|one| one.id == team.id && one.waiting > 0);
        Ok((!waits).then_some(()))
    };
    devices::change(endpoint, team.id, &command, Wait { wait: 60 }, settled)?;
    let name = &organisation.name;
    let line = if on {
        format!("devices of {name} may come into {}, as guests", team.name)
    } else {
        format!("devices of {name} come into {} no longer", team.name)
    };
    show(json, "organisation", &organisation, &line);
    Ok(())
}
