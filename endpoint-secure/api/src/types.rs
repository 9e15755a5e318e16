//! The nouns of the door. Sizes and units are in the field names; times are milliseconds since 1970.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::text::closed;

macro_rules! plain {
    ($($item:item)*) => { door! { $(#[derive(Debug)] $item)* } };
}

macro_rules! door {
    ($($item:item)*) => {$(
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(test, derive(ts_rs::TS))]
        #[serde(rename_all = "camelCase")]
        $item
    )*};
}

plain! {
    /// Whether the profile's keys are in memory.
    #[derive(Copy)]
    pub enum Lock {
        /// The directory holds no profile yet: only `CreateProfile` makes sense.
        Empty,
        /// A profile, its keys sealed: only `Unlock` makes sense.
        Locked,
        /// Everything works.
        Unlocked,
    }

    /// Why a profile is locked.
    #[derive(Copy, Default)]
    pub enum LockCause {
        /// Nobody has unlocked it since Secure was started.
        #[default]
        Start,
        /// A person locked it.
        Person,
        /// Nobody did anything for as long as was set.
        Idle,
        /// The machine has slept.
        Sleep,
    }

    /// The MLS cipher suite of a team, fixed when the team is created.
    #[derive(Copy, Default)]
    pub enum Suite {
        /// 0x004F: ML-KEM-768 with X25519, Ed25519 signatures. Post-quantum confidentiality.
        #[default]
        PostQuantum,
        /// 0x0001: X25519, Ed25519 signatures. For teams of more than 100 devices.
        Classic,
    }

    /// Names a team over all organisations and origins.
    #[derive(Copy)]
    pub struct TeamId {
        /// The origin's number: the first 24 bits of the SHA-256 of its public key.
        pub origin: u32,
        /// The owning organisation's number at that origin, 18 bits.
        pub org: u32,
        /// The team's number in that organisation, 20 bits.
        pub team: u32,
    }

    /// Names a channel.
    #[derive(Copy)]
    pub struct ChannelId {
        /// The team that has it.
        pub team: TeamId,
        /// 10 bits; channel 0 of a team carries its names and settings and is never shown.
        pub channel: u16,
    }

    /// Names a message: its channel, the device that wrote it, and its number in that device's feed.
    #[derive(Copy)]
    pub struct MessageId {
        /// Where it was written.
        pub channel: ChannelId,
        /// The author's device number in that team, 20 bits.
        pub device: u32,
        /// The number of the message's first chunk, 20 bits.
        pub number: u32,
    }

    /// How far one of our own messages has come. Ordered: later is farther.
    #[derive(Copy)]
    pub enum Delivery {
        /// A relay refused it for good; the text is in `Message::failure`.
        Failed,
        /// On disk on this device.
        Queued,
        /// On disk at a relay on the local network.
        Lan,
        /// On disk at a cloud relay.
        Cloud,
        /// On disk at the origin.
        Origin,
    }

    /// The farthest tier that the network process reaches at this moment.
    #[derive(Copy, Default)]
    pub enum Reach {
        /// No relay answers.
        #[default]
        Offline,
        /// A local relay, and nothing beyond it.
        Lan,
        /// A cloud relay or the origin.
        Cloud,
    }

    /// What stands between this device and a team it asked to join.
    #[derive(Copy)]
    pub enum JoinStage {
        /// The key package is published; an admin has to add the fingerprint.
        WaitingForAdmin,
        /// The welcome has come; its ratchet tree is still being fetched.
        Fetching,
        /// Added, and outside: [`crate::Command::Preview`] shows who is in, [`crate::Command::Enter`]
        /// goes in.
        Admitted,
        /// The invite was refused: `Team::refused` says why.
        Refused,
        /// In.
        Joined,
    }

    /// What a device may do in a team.
    #[derive(Copy)]
    pub enum Role {
        /// The first of the admins.
        Owner,
        /// Adds, removes and names; acts on those of lower rank only.
        Admin,
        /// Reads and writes.
        Member,
        /// Reads and writes, but in channels for announcements.
        Guest,
    }

    /// When a profile locks by itself.
    pub struct Locking {
        /// After so many minutes in which nobody was there; 0 for never.
        pub idle_minutes: u32,
        /// When the machine has slept.
        pub on_suspend: bool,
    }

    /// The state of the whole process.
    pub struct Status {
        /// Whether the keys are in memory.
        pub lock: Lock,
        /// Why they are not, where there is a profile.
        pub lock_cause: LockCause,
        /// The profile, when unlocked.
        pub profile: Option<Profile>,
        /// The version of treeline-secure.
        pub version: String,
        /// `full`, `partial (what is missing)` or `none (why)`, of all parts together.
        pub isolation: String,
        /// The network, as last reported.
        pub connectivity: Connectivity,
    }

    /// Who this device says it is.
    pub struct Profile {
        /// The person's display name.
        pub user: String,
        /// The device's display name.
        pub device: String,
        /// SHA-256 of the device's publishing key: 64 lower-case hex digits.
        pub fingerprint: String,
        /// The same for people who compare it by voice: 30 decimal digits in groups of five.
        pub digits: String,
    }

    /// The network as a member sees it.
    #[derive(Default)]
    pub struct Connectivity {
        /// The farthest tier reached.
        pub reach: Reach,
        /// The relay in use, as `host:port`, empty when offline.
        pub relay: String,
        /// Own messages that no relay has acknowledged; a change to a team, a key package and the like
        /// count as one more. At 0, nothing is lost with this device.
        pub queued: u32,
    }

    /// How a relay that was found stands with this profile.
    #[derive(Copy)]
    pub enum Standing {
        /// Nobody has judged it: it is not used. Compare its words with its operator.
        Unknown,
        /// It shows another key than the one that was trusted under its name: it is not used.
        Changed,
        /// It is this device, which serves its local network: others compare its words.
        Own,
        /// A person has compared it.
        Trusted,
        /// A person has refused it.
        Refused,
    }

    /// A relay that was found, or that somebody has judged. Configured ones are not among them.
    pub struct Relay {
        /// Its name on its network.
        pub name: String,
        /// Where it is, as `ip:port`; empty when it is judged and not in sight.
        pub place: String,
        /// Its key: 64 lower-case hex digits.
        pub key: String,
        /// The same for people who compare it by voice: six words.
        pub words: String,
        /// How it stands.
        pub standing: Standing,
    }

    /// A team this device is in, or has asked to join.
    pub struct Team {
        /// Its number.
        pub id: TeamId,
        /// Its name; empty while joining.
        pub name: String,
        /// The owning organisation's name; empty while joining.
        pub organisation: String,
        /// The MLS epoch of the state in use.
        pub epoch: u64,
        /// Devices in the group.
        pub devices: u32,
        /// Its cipher suite.
        pub suite: Suite,
        /// Whether this device may add others.
        pub admin: bool,
        /// Where joining stands.
        pub stage: JoinStage,
        /// This device's number in the team.
        pub own_device: u32,
        /// Whether this device was removed: it reads nothing newer and cannot write.
        pub removed: bool,
        /// Changes asked for on this device that are not in effect yet.
        pub waiting: u32,
        /// 30 digits that are the same on all devices with the same members and secrets; empty while
        /// joining and after removal.
        pub code: String,
        /// Why the invite was refused, in one line; empty otherwise.
        pub refused: String,
        /// Whether it is a direct conversation.
        pub direct: bool,
    }

    /// A channel of a team.
    pub struct Channel {
        /// Its number.
        pub id: ChannelId,
        /// Its name.
        pub name: String,
        /// Messages in it.
        pub messages: u32,
        /// Messages of others newer than the read mark.
        pub unread: u32,
        /// When the newest message was written; 0 without one.
        pub newest_ms: u64,
        /// Whether only admins write in it.
        pub announce: bool,
    }

    /// A device in a team.
    pub struct Device {
        /// Its number in the team; 0 is the founder's admin device.
        pub device: u32,
        /// The person's display name.
        pub user: String,
        /// The device's display name.
        pub name: String,
        /// SHA-256 of its publishing key: 64 lower-case hex digits.
        pub fingerprint: String,
        /// The same for people who compare it by voice: 30 decimal digits in groups of five.
        pub digits: String,
        /// Whether it may add others.
        pub admin: bool,
        /// Whether it is this device.
        pub own: bool,
        /// What it may do.
        pub role: Role,
        /// Among admins, its rank: 0 is the owner's.
        pub rank: Option<u32>,
        /// The epoch it came with, as far as this device knows.
        pub since_epoch: u64,
        /// What it did that no honest device does, for a person to read; empty otherwise.
        pub warning: String,
        /// The number of the other organisation that it is a guest of; none if it is of the team's own.
        pub guest_of: Option<u32>,
        /// When it was last heard of, as far as this device knows.
        pub last_seen_ms: u64,
    }

    /// An organisation as it introduces itself to others.
    pub struct Organisation {
        /// The number of its origin.
        pub origin: u32,
        /// Its number there.
        pub org: u32,
        /// Its name.
        pub name: String,
        /// The text for admins of other organisations' teams, `treeline-organisation-…`.
        pub text: String,
    }

    /// What has become of an invite.
    #[derive(Copy)]
    pub enum Fate {
        /// One device may still come in with it.
        Open,
        /// A device was added with it.
        Used,
        /// Its time is over.
        Expired,
        /// It was taken back.
        Revoked,
    }

    /// An invite that this device has issued.
    pub struct Issued {
        /// What it says.
        pub invite: Invite,
        /// When it was issued.
        pub created_ms: u64,
        /// What has become of it.
        pub fate: Fate,
        /// The fingerprint of the device that was added with it; empty before.
        pub used_by: String,
    }

    /// A device that asks to be added, with an invite of this device.
    pub struct Request {
        /// Its full fingerprint.
        pub fingerprint: String,
        /// The same as 30 decimal digits: compare them with what it shows, before it is added.
        pub digits: String,
        /// What it says its person is called.
        pub user: String,
        /// What it says it is called.
        pub device: String,
        /// The id of the invite that it answers.
        pub invite: String,
        /// When it came.
        pub came_ms: u64,
        /// Whether it is to be added, as soon as it is this device's turn.
        pub adding: bool,
        /// Why it is refused, in one line; empty if it is not.
        pub refused: String,
    }

    /// A team that this device was added to, before it goes in.
    pub struct Preview {
        /// The team.
        pub team: TeamId,
        /// Its name.
        pub name: String,
        /// The owning organisation's name.
        pub organisation: String,
        /// Who has added this device.
        pub by: Device,
        /// What this device will be.
        pub role: Role,
        /// All devices in the team, by number; this one is `own`.
        pub devices: Vec<Device>,
    }

    /// Where a page of the timeline starts.
    #[derive(Copy)]
    #[serde(tag = "at")]
    pub enum Anchor {
        /// The page ends with the newest message.
        Newest,
        /// The page begins with the oldest message.
        Oldest,
        /// Messages directly before this one, without it.
        Before {
            /// The message to page back from.
            id: MessageId,
        },
        /// Messages directly after this one, without it.
        After {
            /// The message to page on from.
            id: MessageId,
        },
    }

    /// What was said in a channel before this device came in, and is not for it: one row at the beginning.
    #[derive(Copy)]
    pub struct Earlier {
        /// When it came in.
        pub joined_ms: u64,
        /// Messages before that, at most, of those who have written since: as far as their feeds tell.
        pub messages: u32,
    }

    /// A page of a channel's timeline, oldest first.
    pub struct Page {
        /// The channel.
        pub channel: ChannelId,
        /// At most as many as were asked for.
        pub messages: Vec<Message>,
        /// Whether older messages than the first exist.
        pub more_before: bool,
        /// Whether newer messages than the last exist.
        pub more_after: bool,
        /// Messages in the channel.
        pub total: u32,
        /// What stands before the first message, where that is on this page and this device was not in
        /// the team from its beginning.
        pub earlier: Option<Earlier>,
    }
}

door! {
    /// What an invite says, for a person to look at before joining.
    pub struct Invite {
        /// What its issuer knows it by: 16 hex digits.
        pub id: String,
        /// The invite as text to paste, `treeline-invite-…`.
        pub text: String,
        /// The same for a QR code, `TREELINE-INVITE:…`: digits and capital letters only.
        pub qr: String,
        /// The same to say, about 50 words of five letters: without names, and without relays but domains.
        pub words: String,
        /// The team it leads to.
        pub team: TeamId,
        /// The name of the organisation; empty from words.
        pub organisation: String,
        /// The name of the team; empty from words.
        pub team_name: String,
        /// The admin device's full fingerprint, which the welcome must come from.
        pub admin: String,
        /// The same as 30 decimal digits.
        pub admin_digits: String,
        /// Relays to try, as `host:port#key`, or domains.
        pub relays: Vec<String>,
        /// When it ends.
        pub expires_ms: u64,
    }

    /// One message as it stands in the timeline.
    pub struct Message {
        /// Its name.
        pub id: MessageId,
        /// The author's display name.
        pub user: String,
        /// The author's device name.
        pub device_name: String,
        /// When it was written, clamped to when it arrived.
        pub sent_ms: u64,
        /// Its text, up to 64 KiB of UTF-8.
        pub text: String,
        /// Whether this device wrote it.
        pub own: bool,
        /// How far it has come; of other people's messages, always `Origin`.
        pub delivery: Delivery,
        /// Why a relay refused it, in one line; empty otherwise.
        pub failure: String,
        /// Messages of this author that are missing right before this one.
        pub missing_before: u32,
        /// Whether it was sent while its author was cut off, on a branch of the team that lost.
        pub disconnected: bool,
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        closed(self, "", f)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        closed(self, "", f)
    }
}

/// Sleeping locks; idling does where a person wants it.
impl Default for Locking {
    fn default() -> Self {
        Self {
            idle_minutes: 0,
            on_suspend: true,
        }
    }
}
