//! Text that must not be seen: the passphrase on its way through the door, and what `Debug` shows of
//! values that hold what people wrote, or what lets somebody in.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroize;

/// A passphrase. Its memory is overwritten when it is dropped, and `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(transparent)]
pub struct Passphrase(String);

impl Passphrase {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, to derive a key from and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Passphrase {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

/// `Debug` without text: the value's JSON, with each text but that under `tag` as its length in bytes.
pub(crate) fn closed(value: &impl Serialize, tag: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut json = serde_json::to_value(value).map_err(|_| fmt::Error)?;
    close(&mut json, tag);
    write!(f, "{json}")
}

fn close(json: &mut Value, tag: &str) {
    match json {
        Value::String(text) => {
            let length = text.len();
            text.zeroize();
            *json = format!("{length} bytes").into();
        }
        Value::Array(all) => all.iter_mut().for_each(|one| close(one, tag)),
        Value::Object(fields) => {
            let fields = fields.iter_mut().filter(|(name, _)| *name != tag);
            fields.for_each(|(_, one)| close(one, tag));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Answer, ChannelId, Command, Delivery, Invite, Message, MessageId, TeamId};

    const TEAM: TeamId = TeamId {
        origin: 1,
        org: 2,
        team: 3,
    };
    const CHANNEL: ChannelId = ChannelId {
        team: TEAM,
        channel: 4,
    };

    fn text() -> String {
        "marmalade".into()
    }

    fn invite() -> Invite {
        Invite {
            id: text(),
            text: text(),
            qr: text(),
            words: text(),
            team: TEAM,
            organisation: text(),
            team_name: text(),
            admin: text(),
            admin_digits: text(),
            relays: vec![text()],
            expires_ms: 5,
        }
    }

    fn message() -> Message {
        let (device, number) = (6, 7);
        let id = MessageId {
            channel: CHANNEL,
            device,
            number,
        };
        Message {
            id,
            user: text(),
            device_name: text(),
            sent_ms: 8,
            text: text(),
            own: true,
            delivery: Delivery::Queued,
            failure: text(),
            missing_before: 0,
            disconnected: false,
        }
    }

    #[test]
    fn debug_of_what_goes_through_the_door_shows_no_text() {
        let passphrase = || Passphrase::new(text());
        let (team, channel, fingerprint) = (TEAM, CHANNEL, text);
        let commands = [
            Command::CreateProfile {
                passphrase: passphrase(),
                user: text(),
                device: text(),
            },
            Command::CreateOrganisation {
                name: text(),
                registration: text(),
                relays: vec![text()],
            },
            Command::JoinLink { link: text() },
            Command::Join { invite: text() },
            Command::ReadInvite { invite: text() },
            Command::AddDevice {
                team,
                fingerprint: fingerprint(),
            },
            Command::Send {
                channel,
                text: text(),
                token: 9,
            },
        ];
        let answers = [
            Answer::Link(text()),
            Answer::Invite(invite()),
            Answer::Page(crate::Page {
                channel,
                messages: vec![message()],
                more_before: false,
                more_after: false,
                total: 1,
                earlier: None,
            }),
        ];
        let commands = commands.iter().map(|one| format!("{one:?}"));
        let answers = answers.iter().map(|one| format!("{one:?}"));
        let nouns = [format!("{:?}", invite()), format!("{:?}", message())];
        for shown in commands.chain(answers).chain(nouns) {
            assert!(!shown.contains("marmalade"), "{shown}");
            assert!(shown.contains("9 bytes"), "{shown}");
        }
        let send = format!("{:?}", Command::JoinLink { link: text() });
        assert_eq!(send, r#"{"command":"joinLink","link":"9 bytes"}"#);
    }

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?}", Passphrase::new("correct horse".into()));
        assert_eq!(shown, "Passphrase(..)");
    }
}
