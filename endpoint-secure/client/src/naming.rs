//! Teams and channels as people type them: by name or by number.

use endpoint_secure_api::{Channel, Code, Refusal, Team};

/// The team of this name or number.
///
/// # Errors
/// [`Code::NotFound`] with the candidates, also when several match.
pub fn find_team<'a>(teams: &'a [Team], text: &str) -> Result<&'a Team, Refusal> {
    let matching = |team: &&Team| team.name == text || team.id.team.to_string() == text;
    one(
        teams.iter().filter(matching).collect(),
        "team",
        text,
        || {
            teams
                .iter()
                .map(|team| format!("{} ({})", team.name, team.id.team))
                .collect()
        },
    )
}

/// The channel of this name or number.
///
/// # Errors
/// As [`find_team`].
pub fn find_channel<'a>(channels: &'a [Channel], text: &str) -> Result<&'a Channel, Refusal> {
    let matching =
        |channel: &&Channel| channel.name == text || channel.id.channel.to_string() == text;
    one(
        channels.iter().filter(matching).collect(),
        "channel",
        text,
        || {
            channels
                .iter()
                .map(|channel| format!("{} ({})", channel.name, channel.id.channel))
                .collect()
        },
    )
}

fn one<'a, T>(
    found: Vec<&'a T>,
    noun: &str,
    text: &str,
    candidates: impl Fn() -> Vec<String>,
) -> Result<&'a T, Refusal> {
    match found[..] {
        [only] => Ok(only),
        _ => {
            let list = candidates().join(", ");
            let how_many = if found.is_empty() {
                "no"
            } else {
                "more than one"
            };
            let line = format!("there is {how_many} {noun} {text:?}; there is: {list}");
            Err(Refusal::new(Code::NotFound, line))
        }
    }
}

#[cfg(test)]
mod tests {
    use endpoint_secure_api::{ChannelId, TeamId};

    use super::*;

    fn channel(number: u16, name: &str) -> Channel {
        let team = TeamId {
            origin: 1,
            org: 1,
            team: 2,
        };
        let id = ChannelId {
            team,
            channel: number,
        };
        Channel {
            id,
            name: name.into(),
            messages: 0,
            unread: 0,
            newest_ms: 0,
            announce: false,
        }
    }

    #[test]
    fn by_name_or_number_and_never_by_guess() {
        let channels = [channel(1, "general"), channel(2, "1"), channel(3, "night")];
        assert_eq!(find_channel(&channels, "night").unwrap().id.channel, 3);
        assert_eq!(find_channel(&channels, "3").unwrap().id.channel, 3);
        let several = find_channel(&channels, "1").unwrap_err();
        assert!(several.text.contains("more than one"), "{several}");
        let none = find_channel(&channels, "day").unwrap_err();
        assert!(
            none.text.contains("general (1)") && none.code == Code::NotFound,
            "{none}"
        );
    }
}
