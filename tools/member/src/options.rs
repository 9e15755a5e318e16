//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use endpoint_secure_api::Suite;
use endpoint_secure_client::terminal::ProfileOptions;
use pages::Pages;

const EXAMPLES: &str = "Examples:
  treeline-member org create \"Harbour Hospital\" --registration-file reg.txt --relay 10.0.0.5:4433#ab12… --user Alice --device laptop
  treeline-member org create \"Harbour Hospital\" --lan-only --user Alice --device laptop
  treeline-member team create \"Ward 3\"
  treeline-member invite create \"Ward 3\"
  treeline-member invite requests \"Ward 3\"
  treeline-member device add \"Ward 3\" \"48213 00764 …\" --wait 120
  treeline-member admin add \"Ward 3\" 417093
  treeline-member device remove \"Ward 3\" 88213
  treeline-member device list \"Ward 3\" --json

Exit codes: 0 ok, 2 usage or general error, 10 not found, 11 locked, 12 wrong passphrase,
13 unreachable, 14 verification failed, 15 an invite or registration cannot be read.";

/// Administers organisations, teams, channels and devices.
#[derive(Debug, Parser)]
#[command(name = "treeline-member", version, after_help = EXAMPLES)]
pub struct Options {
    #[command(flatten)]
    pub profile: ProfileOptions,
    /// Prints JSON, one object a line, each with `"v":1`.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub job: Job,
}

/// What to administer.
#[derive(Debug, Subcommand)]
pub enum Job {
    #[command(flatten)]
    Pages(Pages),
    /// The organisation.
    #[command(subcommand)]
    Org(Org),
    /// Teams.
    #[command(subcommand)]
    Team(Team),
    /// Channels of a team.
    #[command(subcommand)]
    Channel(Channel),
    /// Invites to a team.
    #[command(subcommand)]
    Invite(Invite),
    /// Devices in a team.
    #[command(subcommand)]
    Device(Device),
    /// Admins of a team.
    #[command(subcommand)]
    Admin(Admin),
    /// Sets another passphrase of the profile.
    Passphrase {
        /// Reads the new one from the first line of this file.
        #[arg(long, value_name = "FILE")]
        new_file: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Org {
    /// Founds an organisation at an origin, with this device as its first admin.
    Create(Found),
    /// Shows the organisation and how many teams it has.
    Show,
    /// Prints the text with which admins of other organisations let devices of this one in as guests.
    Introduce {
        /// A team of the organisation, by name or number.
        team: String,
    },
    /// Lets devices of another organisation into a team, as guests.
    Allow {
        /// The team, by name or number.
        team: String,
        /// What `treeline-member org introduce` printed there.
        organisation: String,
    },
    /// Lets devices of another organisation no longer into a team.
    Forbid {
        /// The team, by name or number.
        team: String,
        /// What `treeline-member org introduce` printed there.
        organisation: String,
    },
    /// Ends everything that this organisation has said of a device: it has to leave every team.
    Revoke {
        /// All 64 hex digits of its fingerprint; blanks are ignored.
        fingerprint: String,
    },
}

#[derive(Debug, Args)]
pub struct Found {
    /// The organisation's name.
    pub name: String,
    /// The file with what `treeline-relay org register` printed.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "lan_only",
        requires = "relay"
    )]
    pub registration_file: Option<PathBuf>,
    /// Founds it without any origin or relay: its devices find each other on the local network.
    #[arg(long, conflicts_with = "registration_file")]
    pub lan_only: bool,
    /// A relay to use, HOST:PORT#KEY as treeline-relay prints it; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub relay: Vec<String>,
    /// Your display name, for a new profile.
    #[arg(long, default_value = "admin")]
    pub user: String,
    /// This device's display name, for a new profile.
    #[arg(long, default_value = "admin device")]
    pub device: String,
}

#[derive(Debug, Subcommand)]
pub enum Team {
    /// Creates a team with one channel, `general`.
    Create {
        /// Its name.
        name: String,
        /// Its MLS cipher suite, for good.
        #[arg(long, value_enum, default_value = "post-quantum")]
        suite: SuiteName,
    },
    /// Lists the teams, with epoch and number of devices.
    List,
}

/// A cipher suite as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum SuiteName {
    /// 0x004F: ML-KEM-768 with X25519.
    PostQuantum,
    /// 0x0001: X25519, for teams of more than 100 devices.
    Classic,
}

impl From<SuiteName> for Suite {
    fn from(name: SuiteName) -> Self {
        match name {
            SuiteName::PostQuantum => Self::PostQuantum,
            SuiteName::Classic => Self::Classic,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Channel {
    /// Creates a channel.
    Create {
        /// The team, by name or number.
        team: String,
        /// The channel's name.
        name: String,
    },
    /// Lists the channels.
    List {
        /// The team, by name or number.
        team: String,
    },
    /// Lets only admins write in a channel, or everybody again.
    Announce {
        /// The team, by name or number.
        team: String,
        /// The channel, by name or number.
        channel: String,
        /// `on`: only admins write. `off`: everybody.
        #[arg(value_enum)]
        only: Switch,
        #[command(flatten)]
        wait: Wait,
    },
}

/// On or off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// How long a change may take.
#[derive(Debug, Clone, Copy, Args)]
pub struct Wait {
    /// How long to wait until it is in effect, in seconds. A second run goes on where this one ends.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub wait: u64,
}

#[derive(Debug, Subcommand)]
pub enum Invite {
    /// Makes an invite, with which one new device may ask to be added, and prints its text.
    Create {
        /// The team, by name or number.
        team: String,
        /// How long it is good, 1 to 720 hours; a week if not given.
        #[arg(long, value_name = "HOURS")]
        hours: Option<u32>,
        /// What is printed.
        #[arg(long = "as", value_enum, default_value = "text")]
        form: Form,
    },
    /// Lists the invites that this device has issued, and what has become of them.
    List {
        /// The team, by name or number.
        team: String,
    },
    /// Takes an open invite back.
    Revoke {
        /// The team, by name or number.
        team: String,
        /// Its id, as `invite list` prints it.
        id: String,
    },
    /// Lists the devices that ask to be added: compare their 30 digits, then `device add`.
    Requests {
        /// The team, by name or number.
        team: String,
        /// Waits up to so many seconds until somebody asks.
        #[arg(long, default_value_t = 5, value_name = "SECONDS")]
        wait: u64,
    },
}

/// The three texts of an invite.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// To paste: treeline-invite-…
    Text,
    /// To say: about 50 words.
    Words,
    /// For a QR code: digits and capital letters only.
    Qr,
}

#[derive(Debug, Subcommand)]
pub enum Device {
    /// Adds the device with exactly this fingerprint, once it has asked with an invite of this device.
    Add {
        /// The team, by name or number.
        team: String,
        /// Its 30 digits, or all 64 hex digits, as the device shows them; blanks are ignored.
        fingerprint: String,
        /// How long to wait until it is in, in seconds. A second run goes on where this one ends.
        #[arg(long, default_value_t = 60, value_name = "SECONDS")]
        wait: u64,
    },
    /// Removes a device of lower rank: it reads nothing newer.
    Remove {
        /// The team, by name or number.
        team: String,
        /// The device, by its number or its whole fingerprint.
        device: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Makes a device a guest: it may not write where only admins do, and is shown as a guest.
    Guest {
        /// The team, by name or number.
        team: String,
        /// The device, by its number or its whole fingerprint.
        device: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Makes a guest or an admin of lower rank an ordinary member.
    Member {
        /// The team, by name or number.
        team: String,
        /// The device, by its number or its whole fingerprint.
        device: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Lists the devices: number, user, role, the epoch it came with, fingerprint.
    List {
        /// The team, by name or number.
        team: String,
    },
}

#[derive(Debug, Subcommand)]
pub enum Admin {
    /// Makes a device of the team an admin, below all that there are.
    Add {
        /// The team, by name or number.
        team: String,
        /// The device, by its number or its whole fingerprint.
        device: String,
        #[command(flatten)]
        wait: Wait,
    },
    /// Lists the admins by rank: each acts on those below only.
    List {
        /// The team, by name or number.
        team: String,
    },
    /// Makes an admin of lower rank, or this device itself, an ordinary member.
    Remove {
        /// The team, by name or number.
        team: String,
        /// The device, by its number or its whole fingerprint.
        device: String,
        #[command(flatten)]
        wait: Wait,
    },
}
