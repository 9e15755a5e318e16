//! What a front end may ask for, and what it is answered.
//!
//! Every command has exactly one answer; which one is said at the command. A locked Secure answers
//! only [`Command::Status`], [`Command::CreateProfile`] and [`Command::Unlock`].

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::text::closed;

use crate::{
    Anchor, Channel, ChannelId, Connectivity, Device, Invite, Issued, Locking, MessageId,
    Organisation, Page, Passphrase, Preview, Profile, Relay, Request, Role, Status, Suite, Team,
    TeamId,
};

/// A request from a front end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(
    tag = "command",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Command {
    /// Asks for the state of the process. Answer: [`Answer::Status`].
    Status,
    /// Makes a new profile in an empty directory and unlocks it. Answer: [`Answer::Profile`].
    CreateProfile {
        /// What will unlock it.
        passphrase: Passphrase,
        /// The person's display name, 1 to 64 characters.
        user: String,
        /// The device's display name, 1 to 64 characters.
        device: String,
    },
    /// Unlocks the profile. Answer: [`Answer::Profile`].
    Unlock {
        /// What was set when it was created.
        passphrase: Passphrase,
    },
    /// Sets another passphrase. Until the answer the old one opens the profile, from then on only the
    /// new one. Answer: [`Answer::Done`].
    ChangePassphrase {
        /// The one that was set before; it counts as an attempt to unlock.
        old: Passphrase,
        /// What will unlock it.
        new: Passphrase,
    },
    /// Forgets every key and all text in memory. Answer: [`Answer::Done`].
    Lock,
    /// Founds an organisation at an origin, with its administration team (team 1), of which this
    /// device is device 0. Answer: [`Answer::Team`].
    CreateOrganisation {
        /// Its name, 1 to 64 characters.
        name: String,
        /// What `treeline-relay org register` printed: `treeline-org-…`. Empty for an organisation
        /// that has no origin but the names that devices and LANs exchange among themselves.
        registration: String,
        /// Relays to use, as `host:port#key`.
        relays: Vec<String>,
    },
    /// Creates a team with one channel, `general`. Answer: [`Answer::Team`].
    CreateTeam {
        /// Its name, 1 to 64 characters.
        name: String,
        /// Its cipher suite, for good.
        suite: Suite,
    },
    /// Makes the text that leads the next device of this person to all teams of this one. Answer:
    /// [`Answer::Link`].
    CreateLink,
    /// Asks to join all teams of a link. Answer: [`Answer::Teams`].
    JoinLink {
        /// The text of [`Command::CreateLink`] on another device.
        link: String,
    },
    /// Lets another device of this person into all teams of this one: admins' devices add it, with the same
    /// role. Answer: [`Answer::Done`] at once, when it is noted.
    LinkDevice {
        /// 64 hex digits; blanks between them are ignored.
        fingerprint: String,
    },
    /// Has another device of this person, which it linked or was linked by, removed from all teams. Answer:
    /// [`Answer::Done`] at once, when it is noted.
    UnlinkDevice {
        /// 64 hex digits; blanks between them are ignored.
        fingerprint: String,
    },
    /// Creates a direct conversation: a team that any device of an organisation may found, and in which
    /// nobody is but whom it adds. Answer: [`Answer::Team`].
    CreateDirect {
        /// Its name, 1 to 64 characters.
        name: String,
    },
    /// Creates a channel. Answer: [`Answer::Channel`].
    CreateChannel {
        /// The team.
        team: TeamId,
        /// Its name, 1 to 64 characters.
        name: String,
    },
    /// Makes an invite, with which one new device may ask to be added. Answer: [`Answer::Invite`].
    CreateInvite {
        /// The team.
        team: TeamId,
        /// How long it is good, 1 to [`Command::INVITE_HOURS`]; `null`: a week.
        hours: Option<u32>,
    },
    /// Lists the invites to a team that this device has issued. Answer: [`Answer::Invites`].
    Invites {
        /// The team.
        team: TeamId,
    },
    /// Takes an open invite back. Answer: [`Answer::Done`].
    RevokeInvite {
        /// The team.
        team: TeamId,
        /// Its id, 16 hex digits.
        id: String,
    },
    /// Lists the devices that ask to be added with invites of this device. Answer:
    /// [`Answer::Requests`].
    Requests {
        /// The team.
        team: TeamId,
    },
    /// Says what an invite holds, and changes nothing. Answer: [`Answer::Invite`].
    ReadInvite {
        /// The invite text.
        invite: String,
    },
    /// Publishes key packages for the team of an invite. Joining twice is the same as once.
    /// Answer: [`Answer::Team`], with [`crate::JoinStage::WaitingForAdmin`].
    Join {
        /// The invite: any of its three texts.
        invite: String,
    },
    /// Shows the team that this device was added to, before it goes in. Answer: [`Answer::Preview`].
    Preview {
        /// The team.
        team: TeamId,
    },
    /// Goes into the team that this device was added to. Answer: [`Answer::Team`].
    Enter {
        /// The team.
        team: TeamId,
    },
    /// Forgets a team that this device has asked to join, also when it was added. Answer:
    /// [`Answer::Done`].
    Decline {
        /// The team.
        team: TeamId,
    },
    /// Adds the device with this fingerprint as soon as its key package is here. Answer:
    /// [`Answer::Done`] at once; [`crate::Event::Teams`] when it is in. Adding twice is once.
    AddDevice {
        /// The team.
        team: TeamId,
        /// All 64 hex digits of it, or its 30 decimal ones; blanks between them are ignored.
        fingerprint: String,
    },
    /// Removes a device of lower rank. Answer: [`Answer::Done`] at once, when it is noted;
    /// [`crate::Event::Teams`] when it is out.
    RemoveDevice {
        /// The team.
        team: TeamId,
        /// Its number.
        device: u32,
    },
    /// Gives a device of lower rank another role; a new admin stands last. Answer: [`Answer::Done`]
    /// at once, when it is noted.
    SetRole {
        /// The team.
        team: TeamId,
        /// Its number.
        device: u32,
        /// Admin, member or guest.
        role: Role,
    },
    /// Lets only admins write in a channel, or everybody again. Answer: [`Answer::Done`] at once,
    /// when it is noted.
    SetAnnounce {
        /// The channel.
        channel: ChannelId,
        /// Whether only admins write.
        on: bool,
    },
    /// Gives the text with which the organisation of a team can be let into teams of others. Answer:
    /// [`Answer::Organisation`].
    Organisation {
        /// The team.
        team: TeamId,
    },
    /// Lets devices of another organisation into a team as guests, or no longer. Answer:
    /// [`Answer::Organisation`] at once, when it is noted.
    AllowOrganisation {
        /// The team.
        team: TeamId,
        /// What the other organisation gave: `treeline-organisation-…`.
        organisation: String,
        /// Whether they may come.
        on: bool,
    },
    /// Ends everything that the organisation founded on this device has said of another device, in all
    /// teams. Answer: [`Answer::Done`].
    RevokeDevice {
        /// 64 hex digits; blanks between them are ignored.
        fingerprint: String,
    },
    /// Lists the teams. Answer: [`Answer::Teams`].
    Teams,
    /// Lists a team's channels. Answer: [`Answer::Channels`].
    Channels {
        /// The team.
        team: TeamId,
    },
    /// Lists the devices in a team's group. Answer: [`Answer::Devices`].
    Devices {
        /// The team.
        team: TeamId,
    },
    /// Writes a message. Answer: [`Answer::Sent`], when it is on disk.
    Send {
        /// Where.
        channel: ChannelId,
        /// 1 byte to 64 KiB.
        text: String,
        /// Chosen by the front end, below 2^53: a second `Send` with the same token in the same
        /// channel sends nothing and has the same answer. Tokens of what is to stay in order count up:
        /// while one was refused for want of room, so are the [`Command::SEND_WINDOW`] after it.
        token: u64,
    },
    /// Asks for a page of the timeline. Answer: [`Answer::Page`].
    Timeline {
        /// Where.
        channel: ChannelId,
        /// Where the page starts.
        anchor: Anchor,
        /// At most [`Command::PAGE_LIMIT`].
        count: u16,
    },
    /// Moves the read mark forward. Answer: [`Answer::Done`].
    MarkRead {
        /// The newest message that was seen.
        up_to: MessageId,
    },
    /// Lists the relays that were found and those that were judged. Answer: [`Answer::Relays`].
    Relays,
    /// Trusts a relay that was found, after its words were compared. Answer: [`Answer::Done`].
    TrustRelay {
        /// Its key, 64 hex digits.
        key: String,
    },
    /// Refuses a relay, whoever else vouches for it: it is not used because it was found, and not asked
    /// about again. Answer: [`Answer::Done`].
    RefuseRelay {
        /// Its key, 64 hex digits.
        key: String,
    },
    /// Forgets what was judged of a relay. Answer: [`Answer::Done`].
    ForgetRelay {
        /// Its key, 64 hex digits.
        key: String,
    },
    /// Says whether this device serves its local network as a relay. Answer: [`Answer::Done`].
    ServeLan {
        /// `null`: only while no relay is configured.
        serve: Option<bool>,
    },
    /// Asks when the profile locks by itself. Answer: [`Answer::Locking`].
    Locking,
    /// Says when the profile locks by itself. Answer: [`Answer::Done`].
    SetLocking {
        /// From now on.
        locking: Locking,
    },
    /// Says that a person is there: a key, the pointer, scrolling. It puts off the lock that follows
    /// idling. Answer: [`Answer::Done`].
    Present,
    /// Asks for the network's state. Answer: [`Answer::Connectivity`].
    Connectivity,
}

impl Command {
    /// The most messages one page holds.
    pub const PAGE_LIMIT: u16 = 240;
    /// The longest message text, in bytes.
    pub const TEXT_LIMIT: usize = 64 * 1024;
    /// How many messages may be on their way to Secure at a time, if they are to stay in order.
    pub const SEND_WINDOW: u64 = 64;
    /// The longest life of an invite, in hours.
    pub const INVITE_HOURS: u32 = 30 * 24;
    /// A front end says [`Command::Present`] at most so often, in milliseconds: shorter than the
    /// shortest time of idling.
    pub const PRESENCE_MS: u64 = 20_000;
    /// The longest name of a person, device, team or channel, in characters.
    pub const NAME_LIMIT: usize = 64;
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        closed(self, "command", f)
    }
}

/// The answer to a command that was carried out.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(tag = "answer", content = "value", rename_all = "camelCase")]
pub enum Answer {
    /// It is done, and on disk.
    Done,
    /// The state of the process.
    Status(Status),
    /// The profile.
    Profile(Profile),
    /// The network.
    Connectivity(Connectivity),
    /// One team.
    Team(Team),
    /// All teams, by name.
    Teams(Vec<Team>),
    /// One channel.
    Channel(Channel),
    /// A team's channels, by number.
    Channels(Vec<Channel>),
    /// A team's devices, by number.
    Devices(Vec<Device>),
    /// A text that leads to teams, `treeline-link-…`.
    Link(String),
    /// An organisation.
    Organisation(Organisation),
    /// An invite.
    Invite(Invite),
    /// When the profile locks by itself.
    Locking(Locking),
    /// Invites of this device, newest first.
    Invites(Vec<Issued>),
    /// Devices that ask to be added, by when they came.
    Requests(Vec<Request>),
    /// A team, before this device goes in.
    Preview(Preview),
    /// Relays, by name.
    Relays(Vec<Relay>),
    /// The message's name.
    Sent(MessageId),
    /// A page of a timeline.
    Page(Page),
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        closed(self, "answer", f)
    }
}

/// Why a command was not carried out. The text is one line for a person: what, where, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Error)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[error("{text}")]
pub struct Refusal {
    /// The kind of refusal.
    pub code: Code,
    /// One line, without plaintext and keys.
    pub text: String,
}

impl Refusal {
    /// A refusal with its line.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}

/// The kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(rename_all = "camelCase")]
pub enum Code {
    /// The command is malformed, or does not fit the state.
    Usage,
    /// There is no such team, channel, message or profile.
    NotFound,
    /// The profile is locked.
    Locked,
    /// The passphrase does not open the profile.
    WrongPassphrase,
    /// No relay answers, or the process is gone.
    Unreachable,
    /// A signature, hash or fingerprint does not match.
    Verification,
    /// The profile or an invite or a registration cannot be read.
    Configuration,
    /// This device may not do that.
    Forbidden,
    /// The disk is full, or the store cannot be written.
    Storage,
}

impl Code {
    /// The exit code of a command line that ends with this refusal (docs/operations.md).
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Usage | Self::Forbidden | Self::Storage => 2,
            Self::NotFound => 10,
            Self::Locked => 11,
            Self::WrongPassphrase => 12,
            Self::Unreachable => 13,
            Self::Verification => 14,
            Self::Configuration => 15,
        }
    }
}
