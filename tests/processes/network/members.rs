//! Members of one team: each a profile with its own treeline-secure and treeline-net, driven through
//! the door as front ends do.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use endpoint_secure_api::{
    Anchor, Answer, ChannelId, Command, JoinStage, Message, Passphrase, Profile, Standing, Suite,
    Team, TeamId,
};
use endpoint_secure_client::Endpoint;

use super::machines::Machine;

const PATIENCE: Duration = Duration::from_secs(60);

/// A person at one device.
pub struct Member {
    pub name: String,
    pub endpoint: Endpoint,
    fingerprint: String,
    said: u64,
}

impl Member {
    /// Starts it on a machine.
    pub fn new(machine: &Machine, folder: &Path, name: &str) -> Self {
        machine.inside(|| Self::here(folder, name))
    }

    /// Starts it on this machine.
    pub fn here(folder: &Path, name: &str) -> Self {
        let endpoint = Endpoint::start_for_test(&folder.join(name)).unwrap();
        let passphrase = Passphrase::new(format!("{name} walks six miles before breakfast"));
        let create = Command::CreateProfile {
            passphrase: passphrase.clone(),
            user: name.into(),
            device: "desk".into(),
        };
        let Answer::Profile(Profile { fingerprint, .. }) = endpoint.call(&create).unwrap() else {
            panic!("no profile")
        };
        endpoint.keep(passphrase);
        Self {
            name: name.into(),
            endpoint,
            fingerprint,
            said: 0,
        }
    }

    fn ask(&self, command: &Command) -> Answer {
        let answer = self.endpoint.call_when_back(command, PATIENCE);
        answer.unwrap_or_else(|refusal| panic!("{}: {command:?}: {refusal}", self.name))
    }

    /// Founds an organisation with these relays, and a team.
    pub fn found(&self, registration: &str, relays: &[&str]) -> TeamId {
        self.ask(&Command::CreateOrganisation {
            name: "Harbour Hospital".into(),
            registration: registration.trim().into(),
            relays: relays.iter().map(ToString::to_string).collect(),
        });
        let (name, suite) = ("Ward 3".into(), Suite::Classic);
        let Answer::Team(team) = self.ask(&Command::CreateTeam { name, suite }) else {
            panic!("no team")
        };
        team.id
    }

    /// Makes an invite for one more.
    pub fn invite(&self, team: TeamId) -> String {
        let hours = None;
        let Answer::Invite(invite) = self.ask(&Command::CreateInvite { team, hours }) else {
            panic!("no invite")
        };
        invite.text
    }

    /// Asks to join.
    pub fn join(&self, invite: &str) {
        let invite = invite.to_owned();
        self.ask(&Command::Join { invite });
    }

    /// Adds another member's device.
    pub fn admit(&self, team: TeamId, other: &Self) {
        let fingerprint = other.fingerprint.clone();
        self.ask(&Command::AddDevice { team, fingerprint });
    }

    /// Whether it is in its team, and knows of so many devices there: what is said before that is not
    /// for those who come later.
    pub fn is_among(&self, devices: usize) -> bool {
        let Answer::Teams(teams) = self.ask(&Command::Teams) else {
            panic!("no teams")
        };
        let joined = |team: &Team| team.stage == JoinStage::Joined;
        for team in teams
            .iter()
            .filter(|team| team.stage == JoinStage::Admitted)
        {
            self.ask(&Command::Enter { team: team.id });
        }
        let mut teams = teams.into_iter();
        teams.any(|team| joined(&team) && team.devices as usize == devices)
    }

    /// Trusts the relay of this key once it has been found.
    pub fn trust(&self, key: &str) {
        self.until("the relay of the LAN is found", || self.sees(key).is_some());
        let key = key.to_owned();
        if self.sees(&key) == Some(Standing::Unknown) {
            self.ask(&Command::TrustRelay { key });
        }
    }

    /// Refuses the relay of this key.
    pub fn refuse(&self, key: &str) {
        let key = key.to_owned();
        self.ask(&Command::RefuseRelay { key });
    }

    /// How the relay of this key stands, once it has been found.
    pub fn sees(&self, key: &str) -> Option<Standing> {
        let Answer::Relays(relays) = self.ask(&Command::Relays) else {
            panic!("no relays")
        };
        let found = relays.into_iter().find(|relay| relay.key == key);
        found.map(|relay| relay.standing)
    }

    /// Says the next thing; returns it.
    pub fn say(&mut self, channel: ChannelId) -> String {
        self.said += 1;
        let text = format!("{} says number {}", self.name, self.said);
        self.ask(&Command::Send {
            channel,
            text: text.clone(),
            token: self.said,
        });
        text
    }

    /// Everything that it shows, in order.
    pub fn shows(&self, channel: ChannelId) -> Vec<Message> {
        let (mut all, mut anchor) = (Vec::new(), Anchor::Newest);
        loop {
            let count = Command::PAGE_LIMIT;
            let command = Command::Timeline {
                channel,
                anchor,
                count,
            };
            let Answer::Page(mut page) = self.ask(&command) else {
                panic!("no page")
            };
            page.messages.append(&mut all);
            all = page.messages;
            match all.first() {
                Some(first) if page.more_before => anchor = Anchor::Before { id: first.id },
                _ => return all,
            }
        }
    }

    /// Waits until it shows all of these, but not for ever.
    pub fn shows_all(&self, channel: ChannelId, texts: &BTreeSet<String>) {
        let missing = || {
            let shown = self.shows(channel).into_iter().map(|message| message.text);
            let shown: BTreeSet<String> = shown.collect();
            texts.difference(&shown).cloned().collect::<Vec<_>>()
        };
        let first = |texts: Vec<String>| texts.first().cloned();
        let end = Instant::now() + PATIENCE;
        while let Some(text) = first(missing()) {
            let waited = Instant::now() >= end;
            assert!(
                !waited,
                "after a minute {} does not show: {text}",
                self.name
            );
            self.endpoint.next_event(Duration::from_millis(200));
        }
    }

    /// Waits for a condition on it.
    pub fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let end = Instant::now() + PATIENCE;
        while !condition() {
            assert!(
                Instant::now() < end,
                "{} waited for a minute until {what}",
                self.name
            );
            // A hint is no promise that it concerns us; the condition says.
            self.endpoint.next_event(Duration::from_millis(200));
        }
    }
}
