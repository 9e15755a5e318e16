//! The configuration of `treeline-relay`: flag > environment `TREELINE_RELAY_*` > file > default.
//! What people write ([`Options`], [`File`]) is one type, what the relay runs with ([`Config`]) another.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use clap::Args;
use proto::{PublicKey, Tier};
use serde::Deserialize;

use crate::address::RelayAddress;
use crate::link::settings::Settings;

/// The address without a configuration: this machine only. The port has no other user at IANA.
pub const LISTEN: &str = "127.0.0.1:4470";

/// What the command line and the environment may say about a run.
#[derive(Debug, Clone, Default, Args)]
pub struct Options {
    /// Where keys and the store lie; made when it is not there.
    #[arg(long, value_name = "DIR", env = "TREELINE_RELAY_DIRECTORY")]
    pub directory: Option<PathBuf>,
    /// address to listen on, UDP and TCP; port 0 lets the system choose [default: 127.0.0.1:4470]
    #[arg(long, value_name = "ADDR", env = "TREELINE_RELAY_LISTEN")]
    pub listen: Option<String>,
    /// Where this relay stands in the tree: local, cloud or origin [default: origin; with a parent: local]
    #[arg(long, value_name = "TIER", env = "TREELINE_RELAY_TIER")]
    pub tier: Option<String>,
    /// The relay above this one; several are tried in order.
    #[arg(
        long,
        value_name = "HOST:PORT#KEY",
        env = "TREELINE_RELAY_PARENT",
        value_delimiter = ','
    )]
    pub parent: Vec<String>,
    /// The origin keys that this relay serves, as the origin's relay prints them.
    #[arg(
        long,
        value_name = "HEX",
        env = "TREELINE_RELAY_ORIGIN",
        value_delimiter = ','
    )]
    pub origin: Vec<String>,
    /// A TOML file with any of these: directory, listen, tier, parents, origins, log, log_json.
    #[arg(long, value_name = "FILE", env = "TREELINE_RELAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log to stderr: error, warn, info, debug, or a tracing filter [default: warn]
    #[arg(long, value_name = "FILTER", env = "TREELINE_RELAY_LOG")]
    pub log: Option<String>,
    /// Log as JSON, one object per line.
    #[arg(long, env = "TREELINE_RELAY_LOG_JSON")]
    pub log_json: bool,
}

/// What a configuration file may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct File {
    directory: Option<PathBuf>,
    listen: Option<String>,
    tier: Option<String>,
    parents: Vec<String>,
    origins: Vec<String>,
    log: Option<String>,
    log_json: bool,
    transport: Settings,
}

/// What a relay runs with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Keys and the store.
    pub directory: PathBuf,
    /// Where to listen.
    pub listen: SocketAddr,
    /// The place in the tree.
    pub tier: Tier,
    /// The relays above, in the order in which they are tried; none for a root.
    pub parents: Vec<RelayAddress>,
    /// The origins to serve; a root without any makes its own.
    pub origins: Vec<PublicKey>,
    /// What to log.
    pub log: String,
    /// Whether to log as JSON.
    pub log_json: bool,
    /// What a connection may use.
    pub transport: Settings,
}

impl Config {
    /// Puts together what was said, and checks it.
    ///
    /// # Errors
    /// One line: what is wrong, and where.
    pub fn load(options: &Options) -> anyhow::Result<Self> {
        let file = match &options.config {
            None => File::default(),
            Some(path) => read(path)?,
        };
        let or = |flags: &Vec<String>, file: Vec<String>| {
            if flags.is_empty() {
                file
            } else {
                flags.clone()
            }
        };
        let parents = parse_all(&or(&options.parent, file.parents), RelayAddress::from_str)?;
        let origins = parse_all(&or(&options.origin, file.origins), |text| {
            PublicKey::from_hex(text).with_context(|| {
                format!("origin `{text}` is no key: it has 64 hex digits, as the origin's relay prints it")
            })
        })?;
        let tier = match options.tier.clone().or(file.tier).as_deref() {
            None if parents.is_empty() => Tier::Origin,
            None | Some("local") => Tier::Local,
            Some("cloud") => Tier::Cloud,
            Some("origin") => Tier::Origin,
            Some(other) => bail!("tier `{other}` is not known: write local, cloud or origin"),
        };
        if !parents.is_empty() && tier == Tier::Origin {
            bail!(
                "a relay with a parent is no origin: leave out --parent, or write --tier local or cloud"
            );
        }
        if !parents.is_empty() && origins.is_empty() {
            bail!("--parent needs --origin: write the key that the parent prints behind `origin`");
        }
        let listen = options
            .listen
            .clone()
            .or(file.listen)
            .unwrap_or_else(|| LISTEN.into());
        let listen = listen.parse().with_context(|| {
            format!("listen address `{listen}` is not IP:PORT, as in {LISTEN} or [::]:4470")
        })?;
        if let Some(mistake) = file.transport.mistake() {
            bail!("[transport]: {mistake}");
        }
        Ok(Self {
            directory: directory(options.directory.clone().or(file.directory))?,
            listen,
            tier,
            parents,
            origins,
            log: options
                .log
                .clone()
                .or(file.log)
                .unwrap_or_else(|| "warn".into()),
            log_json: options.log_json || file.log_json,
            transport: file.transport,
        })
    }
}

/// The directory that was named, or `$STATE_DIRECTORY` of a system service, or the user's own.
///
/// # Errors
/// When there is neither.
pub fn directory(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let env = |key| {
        std::env::var_os(key)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    named
        .or_else(|| env("STATE_DIRECTORY"))
        .or_else(|| env("XDG_DATA_HOME").map(|data| data.join("treeline/relay")))
        .or_else(|| env("HOME").map(|home| home.join(".local/share/treeline/relay")))
        .context("no directory to keep the store in: write --directory DIR")
}

fn read(path: &Path) -> anyhow::Result<File> {
    let shown = path.display();
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration {shown}"))?;
    toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(1, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!(
            "{shown}, line {line}: {}",
            error.message().replace('\n', " ")
        )
    })
}

fn parse_all<T, E: Into<anyhow::Error>>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, E>,
) -> anyhow::Result<Vec<T>> {
    texts
        .iter()
        .map(|text| parse(text).map_err(Into::into))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> (tempfile::TempDir, Options) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("relay.toml");
        std::fs::write(&path, text).unwrap();
        let options = Options {
            config: Some(path),
            directory: Some("/there".into()),
            ..Options::default()
        };
        (directory, options)
    }

    #[test]
    fn nothing_is_a_working_origin_on_this_machine() {
        let options = Options {
            directory: Some("/there".into()),
            ..Options::default()
        };
        let config = Config::load(&options).unwrap();
        assert_eq!(config.listen.to_string(), LISTEN);
        assert_eq!((config.tier, config.parents.len()), (Tier::Origin, 0));
    }

    #[test]
    fn flags_go_before_the_file() {
        let key = "ab".repeat(32);
        let (_directory, mut options) = file(&format!(
            "listen = \"127.0.0.1:1\"\nparents = [\"a:1#{key}\"]\norigins = [\"{key}\"]\n"
        ));
        let config = Config::load(&options).unwrap();
        assert_eq!((config.listen.port(), config.tier), (1, Tier::Local));
        options.listen = Some("127.0.0.1:2".into());
        options.tier = Some("cloud".into());
        let config = Config::load(&options).unwrap();
        assert_eq!((config.listen.port(), config.tier), (2, Tier::Cloud));
        assert_eq!(config.parents[0].place, "a:1");
    }

    #[test]
    fn mistakes_are_one_line_that_says_where() {
        let key = "ab".repeat(32);
        let parent = format!("parents = [\"a:1#{key}\"]\n");
        for (text, expected) in [
            ("listen = \"127.0.0.1:1\"\nlitsen = 3\n", "line 2"),
            ("listen = \"nowhere\"", "nowhere"),
            ("tier = \"moon\"", "moon"),
            ("origins = [\"12\"]", "64 hex digits"),
            ("parents = [\"a:1\"]", "HOST:PORT#KEY"),
            ("[transport]\nidle_ms = 5\n", "[transport]: idle_ms"),
            ("[transport]\nidle = 5\n", "line 2"),
            (parent.as_str(), "--origin"),
        ] {
            let (_directory, options) = file(text);
            let error = format!("{:#}", Config::load(&options).unwrap_err());
            assert!(error.contains(expected), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }
}
