//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use endpoint_secure_api::Delivery;
use endpoint_secure_client::terminal::ProfileOptions;
use pages::Pages;

const EXAMPLES: &str = "Examples:
  treeline-chat init --user Bob --device desk
  treeline-chat join treeline-invite-… --wait 600
  treeline-chat                                        chat in the terminal; /help lists what can be typed
  treeline-chat send --channel \"Ward 3/general\" \"Bed 12 is free\" --wait cloud
  treeline-chat send --channel 2/1 --lines book.txt --batch monday
  treeline-chat tail --channel \"Ward 3/general\" --json
  treeline-chat tail --channel 2/1 --from-oldest --author Alice --raw --count 3000 > book.txt

Exit codes: 0 ok, 1 partial, 2 usage or general error, 10 not found, 11 locked, 12 wrong passphrase,
13 unreachable, 14 verification failed, 15 an invite cannot be read.";

/// The terminal client.
#[derive(Debug, Parser)]
#[command(name = "treeline-chat", version, after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    pub profile: ProfileOptions,
    /// Prints JSON, one object a line, each with `"v":1`.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub job: Option<Job>,
}

/// What to do; without it: `open`.
#[derive(Debug, Subcommand)]
pub enum Job {
    #[command(flatten)]
    Pages(Pages),
    /// Chats in the terminal.
    Open,
    /// Makes a new profile.
    Init {
        /// Your display name.
        #[arg(long)]
        user: String,
        /// This device's display name.
        #[arg(long)]
        device: String,
    },
    /// Asks to join a team, and prints the fingerprint and the digits that an admin has to add.
    Join {
        /// The invite: its text, its words, or what its QR code says.
        #[arg(required = true, num_args = 1..)]
        invite: Vec<String>,
        /// Waits so many seconds until an admin has added this device, shows who is in the team, and
        /// goes in; on a terminal it asks before.
        #[arg(long, value_name = "SECONDS")]
        wait: Option<u64>,
    },
    /// Shows who is in a team that this device was added to, and goes in; on a terminal it asks before.
    Enter {
        /// The team's number, if there are several.
        team: Option<u32>,
    },
    /// Forgets a team that this device has asked to join.
    Decline {
        /// The team's number, if there are several.
        team: Option<u32>,
    },
    /// Brings another device of yours into all your teams, or out of them.
    #[command(subcommand)]
    Link(Link),
    /// Founds a direct conversation and prints the invite for whoever it is with. No admin of the
    /// organisation is in it; add them with `treeline-member device add`.
    Direct {
        /// Its name.
        name: String,
    },
    /// Lists the teams.
    Teams,
    /// Lists the channels of all teams.
    Channels,
    /// Lists a team's devices.
    Devices {
        /// The team, by name or number.
        team: String,
    },
    /// Sends a message, or every line of a file.
    Send(Send),
    /// Prints messages as they come.
    Tail(Tail),
    /// Prints the newest messages.
    History {
        /// TEAM/CHANNEL, each by name or number.
        #[arg(long)]
        channel: String,
        /// How many.
        #[arg(long, default_value_t = 60)]
        count: usize,
    },
    /// Lists and judges the relays that were found on the local network.
    #[command(subcommand)]
    Relays(Relays),
    /// Says when the profile locks by itself, and changes it.
    Locking {
        /// After so many minutes without anything written or changed; 0 for never.
        #[arg(long, value_name = "MINUTES")]
        idle: Option<u32>,
        /// When the machine has slept: true or false.
        #[arg(long, value_name = "BOOL")]
        suspend: Option<bool>,
    },
    /// Sets another passphrase.
    Passphrase {
        /// Reads the new one from the first line of this file.
        #[arg(long, value_name = "FILE")]
        new_file: Option<PathBuf>,
    },
    /// Says whether the profile is locked, and how this process is isolated.
    Status,
}

/// What to do with another device of yours.
#[derive(Debug, Subcommand)]
pub enum Link {
    /// On a device that is in: prints the text for the other one.
    Create,
    /// On the other one, after `init`: asks to come in, and prints the fingerprint to confirm.
    Join {
        /// The text, `treeline-link-…`.
        link: String,
    },
    /// On the device that is in: lets the device with this fingerprint into all teams.
    Confirm {
        /// All 64 hex digits; blanks are ignored.
        fingerprint: String,
    },
    /// Has another device of yours removed from all teams.
    Remove {
        /// All 64 hex digits; blanks are ignored.
        fingerprint: String,
    },
}

/// What to do with relays.
#[derive(Debug, Subcommand)]
pub enum Relays {
    /// Prints those that were found or judged: how each stands, its words, its key, its name.
    List {
        /// Waits up to so many seconds until another than this device is there.
        #[arg(long, value_name = "SECONDS", default_value_t = 3)]
        wait: u64,
    },
    /// Trusts a relay, after its words were compared with what its operator sees.
    Trust {
        /// Its key, 64 hex digits.
        key: String,
        /// Waits up to so many seconds until it is found.
        #[arg(long, value_name = "SECONDS", default_value_t = 10)]
        wait: u64,
    },
    /// Refuses a relay: it is not asked about again.
    Refuse {
        /// Its key, 64 hex digits.
        key: String,
    },
    /// Forgets that a relay was trusted or refused.
    Forget {
        /// Its key, 64 hex digits.
        key: String,
    },
    /// Says whether this device serves its local network as a relay.
    Serve {
        /// on, off, or auto: only while no relay is configured.
        #[arg(value_enum)]
        whether: Whether,
    },
}

/// On, off, or by the circumstances.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Whether {
    /// Always.
    On,
    /// Never.
    Off,
    /// While no relay is configured.
    Auto,
}

#[derive(Debug, Args)]
pub struct Send {
    /// TEAM/CHANNEL, each by name or number.
    #[arg(long)]
    pub channel: String,
    /// The text.
    #[arg(required_unless_present = "lines", conflicts_with = "lines")]
    pub text: Option<String>,
    /// Sends every line of this UTF-8 file as one message, with its line end, so that the messages put
    /// together are the file again.
    #[arg(long, value_name = "FILE")]
    pub lines: Option<PathBuf>,
    /// Names this sending: the same command with the same name, run again after it was interrupted,
    /// sends only what had not been sent.
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Waits until everything has come so far.
    #[arg(long, value_enum, value_name = "TIER")]
    pub wait: Option<Wait>,
    /// Gives up waiting after so many seconds without any progress; nothing is lost by that.
    #[arg(long, value_name = "SECONDS", default_value_t = 120, requires = "wait")]
    pub limit: u64,
}

/// A tier to wait for.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Wait {
    /// A relay on the local network.
    Lan,
    /// A cloud relay.
    Cloud,
    /// The origin.
    Origin,
}

impl From<Wait> for Delivery {
    fn from(wait: Wait) -> Self {
        match wait {
            Wait::Lan => Self::Lan,
            Wait::Cloud => Self::Cloud,
            Wait::Origin => Self::Origin,
        }
    }
}

#[derive(Debug, Args)]
pub struct Tail {
    /// TEAM/CHANNEL, each by name or number.
    #[arg(long)]
    pub channel: String,
    /// Begins with the oldest message, not with the next new one.
    #[arg(long)]
    pub from_oldest: bool,
    /// Ends after so many messages.
    #[arg(long)]
    pub count: Option<usize>,
    /// Only messages of this user.
    #[arg(long, value_name = "USER")]
    pub author: Option<String>,
    /// Prints the texts one after the other and nothing else, in the order of each author's feed; a
    /// message behind a gap waits until the gap is filled.
    #[arg(long, conflicts_with = "json")]
    pub raw: bool,
}
