//! The configuration of `treeline-relay`: flag > environment `TREELINE_RELAY_*` > file > default.
//! What people write ([`Options`], the file) is one type, what the relay runs with ([`Config`]) another;
//! [`check`] is the only way from one to the other, and remembers where each value came from.

use std::collections::BTreeSet;
use std::fmt::{self, Display};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context as _;
use clap::{ArgMatches, Args, parser::ValueSource};
use proto::{PublicKey, Tier};
use relay_core::Limits;
use serde::Serialize;
use toml::Spanned;

use crate::address::Upstream;
use crate::discovery::mdns::Interfaces;
use crate::link::settings::Settings;

mod file;
mod limits;

/// The address without a configuration: this machine only. The port has no other user at IANA.
pub const LISTEN: &str = "127.0.0.1:4470";
/// How far the admin listener's port is from the port for links, without a configuration: relays
/// that do not share a port do not share this one either.
const ADMIN_OFFSET: u16 = 10_000;

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
    /// The relay above this one, or a domain that names relays; the nearest of several is used.
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
    /// Where to tell health, metrics and status over HTTP: an address, or off
    /// [default: 127.0.0.1, the port of --listen + 10000]
    #[arg(long, value_name = "ADDR", env = "TREELINE_RELAY_ADMIN")]
    pub admin: Option<String>,
    /// The DNS server to ask for domains: IP:PORT [default: this machine's]
    #[arg(long, value_name = "ADDR", env = "TREELINE_RELAY_DNS")]
    pub dns: Option<String>,
    /// Whether to say on the local network that this relay is here: on or off
    /// [default: on, unless it listens on loopback]
    #[arg(long, value_name = "WHETHER", env = "TREELINE_RELAY_MDNS")]
    pub mdns: Option<String>,
    /// The network interfaces on which to say so [default: all but loopback]
    #[arg(
        long,
        value_name = "NAME",
        env = "TREELINE_RELAY_MDNS_INTERFACE",
        value_delimiter = ','
    )]
    pub mdns_interface: Vec<String>,
    /// A TOML file with any of these; docs/operations.md and relay.example.toml show all.
    #[arg(long, value_name = "FILE", env = "TREELINE_RELAY_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to log to stderr: error, warn, info, debug, or a tracing filter [default: warn]
    #[arg(long, value_name = "FILTER", env = "TREELINE_RELAY_LOG")]
    pub log: Option<String>,
    /// Log as JSON, one object per line.
    #[arg(long, env = "TREELINE_RELAY_LOG_JSON")]
    pub log_json: bool,
    /// The options above that the environment gave.
    #[arg(skip)]
    pub from_environment: BTreeSet<&'static str>,
}

/// Options, as clap and [`Setting`] name them.
const NAMES: [&str; 12] = [
    "directory",
    "listen",
    "tier",
    "parent",
    "origin",
    "admin",
    "dns",
    "mdns",
    "mdns_interface",
    "config",
    "log",
    "log_json",
];

impl Options {
    /// Notes which options the environment gave.
    pub fn sources(&mut self, matches: &ArgMatches) {
        self.from_environment = NAMES
            .into_iter()
            .filter(|name| matches.value_source(name) == Some(ValueSource::EnvVariable))
            .collect();
    }

    fn source(&self, name: &'static str) -> Source {
        if self.from_environment.contains(name) {
            Source::Environment(name)
        } else {
            Source::Flag(name)
        }
    }
}

/// Where the relay tells how it is, over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// There, or the relay does not start.
    At(SocketAddr),
    /// Behind the listener's port on 127.0.0.1, if that is free.
    Beside,
}

impl Admin {
    /// The address to bind when the relay listens at `port`, or `None` for nowhere.
    pub fn address(self, port: u16) -> Option<SocketAddr> {
        match self {
            Self::Off => None,
            Self::At(address) => Some(address),
            Self::Beside => {
                let beside = match port {
                    0 => 0,
                    _ => port
                        .checked_add(ADMIN_OFFSET)
                        .unwrap_or_else(|| port - ADMIN_OFFSET),
                };
                Some((Ipv4Addr::LOCALHOST, beside).into())
            }
        }
    }
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
    pub parents: Vec<Upstream>,
    /// The origins to serve; a root without any makes its own.
    pub origins: Vec<PublicKey>,
    /// Where to tell how it is.
    pub admin: Admin,
    /// The DNS server to ask; without one, this machine's.
    pub dns: Option<SocketAddr>,
    /// The interfaces on which to say that it is here; `None` to say nothing.
    pub mdns: Option<Interfaces>,
    /// What to log.
    pub log: String,
    /// Whether to log as JSON.
    pub log_json: bool,
    /// Whether the whole store is read at the start, to find damage.
    pub check_store: bool,
    /// What a connection may use.
    pub transport: Settings,
    /// What peers may use, and what is kept.
    pub limits: Limits,
}

impl Config {
    /// Puts together what was said, and checks it.
    ///
    /// # Errors
    /// One line: the first thing that is wrong, and where.
    pub fn load(options: &Options) -> anyhow::Result<Self> {
        let checked = check(options);
        match checked.faults.first() {
            Some(fault) => Err(anyhow::anyhow!("{fault}")),
            None => checked.config.context("the configuration is not whole"),
        }
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag(&'static str),
    /// The environment.
    Environment(&'static str),
    /// A line of the file.
    File(PathBuf, usize),
    /// Nobody said anything.
    Default,
}

impl Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{}", name.replace('_', "-")),
            Self::Environment(name) => write!(f, "TREELINE_RELAY_{}", name.to_uppercase()),
            Self::File(path, line) => write!(f, "{}, line {line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Its name in the file.
    pub name: String,
    /// The value as it is written.
    pub value: String,
    /// Where it came from.
    pub source: Source,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where; nowhere in particular if values do not fit together.
    pub source: Option<Source>,
    /// What, and what to do: one line.
    pub text: String,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Some(source) => write!(f, "{source}: {}", self.text),
            None => f.write_str(&self.text),
        }
    }
}

/// What came of looking at everything that was said.
#[derive(Debug, Default)]
pub struct Checked {
    /// Every value in force that could be read.
    pub settings: Vec<Setting>,
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
    /// What is right and costs more than it may seem.
    pub warnings: Vec<Fault>,
    /// What to run with, if nothing is wrong.
    pub config: Option<Config>,
}

/// Looks at everything that was said, and finds every mistake.
pub fn check(options: &Options) -> Checked {
    let mut checked = Checked::default();
    let (path, read) = match &options.config {
        None => (PathBuf::new(), file::Read::default()),
        Some(path) => match file::read(path) {
            Ok(read) => (path.clone(), read),
            Err(text) => {
                let source = Some(options.source("config"));
                checked.faults.push(Fault { source, text });
                return checked;
            }
        },
    };
    for (line, text) in &read.faults {
        checked.faults.push(Fault {
            source: Some(Source::File(path.clone(), *line)),
            text: text.clone(),
        });
    }
    let said = Said {
        options,
        path: &path,
        read: &read,
    };
    checked.config = said.together(&mut checked);
    checked
}

/// What people said, all of it.
struct Said<'a> {
    options: &'a Options,
    path: &'a Path,
    read: &'a file::Read,
}

impl Said<'_> {
    fn together(&self, checked: &mut Checked) -> Option<Config> {
        let (options, file) = (self.options, &self.read.file);
        let directory = self.directory(checked);
        let listen = self
            .one("listen", &options.listen, &file.listen)
            .unwrap_or_default(LISTEN);
        let listen = checked.parse("listen", listen, |text| {
            let wrong =
                || format!("listen address `{text}` is not IP:PORT, as in {LISTEN} or [::]:4470");
            text.parse::<SocketAddr>().map_err(|_| wrong())
        });
        let parents = checked.parse_all(
            "parents",
            self.many("parent", &options.parent, &file.parents),
            |text| Upstream::from_str(text).map_err(|error| error.to_string()),
        );
        let origins = checked.parse_all(
            "origins",
            self.many("origin", &options.origin, &file.origins),
            |text| {
                PublicKey::from_hex(text).ok_or_else(|| format!(
                    "origin `{text}` is no key: it has 64 hex digits, as the origin's relay prints it"
                ))
            },
        );
        let tier = self
            .one("tier", &options.tier, &file.tier)
            .unwrap_or_default(if parents.is_empty() {
                "origin"
            } else {
                "local"
            });
        let tier = checked.parse("tier", tier, parse_tier);
        let admin = self
            .one("admin", &options.admin, &file.admin)
            .unwrap_or_default("beside");
        let admin = checked.parse("admin", admin, parse_admin);
        let dns = self.one("dns", &options.dns, &file.dns);
        let dns = checked.parse("dns", dns.unwrap_or_default("system"), parse_dns);
        let mdns = self.mdns(listen, checked);
        let log = self.one("log", &options.log, &file.log);
        let log = checked.parse("log", log.unwrap_or_default("warn"), parse_log);
        let log_json = self.flag("log_json", options.log_json, &file.log_json);
        let log_json = checked.parse("log_json", log_json, |text| Ok(text == "true"));
        let check_store = One(self.in_file(&file.check_store)).unwrap_or_default("true");
        let check_store = checked.parse("check_store", check_store, |text| Ok(text == "true"));
        self.table("transport", &file.transport, checked);
        if let Some(mistake) = file.transport.mistake() {
            checked.fault(self.at("transport"), format!("[transport]: {mistake}"));
        }
        let limits = self.limits(tier, checked);
        checked.tree(tier, &parents, &origins);
        if !checked.faults.is_empty() {
            return None;
        }
        Some(Config {
            directory: directory?,
            listen: listen?,
            tier: tier?,
            parents,
            origins,
            admin: admin?,
            dns: dns?,
            mdns: mdns?,
            log: log?,
            log_json: log_json?,
            check_store: check_store?,
            transport: file.transport.clone(),
            limits: limits?,
        })
    }

    /// The `[limits]` and `[[retention]]` tables.
    fn limits(&self, tier: Option<Tier>, checked: &mut Checked) -> Option<Limits> {
        let file = &self.read.file;
        self.table("limits", &file.limits, checked);
        if let Some(mistake) = file.limits.mistake() {
            checked.fault(self.at("limits"), format!("[limits]: {mistake}"));
        }
        if let Some(warning) = file.limits.warning() {
            checked.warnings.push(Fault {
                source: self.at("limits.chunk_life_seconds"),
                text: format!("[limits]: {warning}"),
            });
        }
        let at = self.at("retention");
        for rule in &file.retention {
            let source = at.clone().unwrap_or(Source::Default);
            let value = format!("{} for {} s", rule.prefix, rule.keep_seconds);
            checked.setting("retention", value, source);
        }
        if tier == Some(Tier::Origin) && !file.retention.is_empty() {
            let text = "[[retention]] is for relays below an origin, which keeps everything".into();
            checked.fault(at.clone(), text);
        }
        let limits = file.limits.limits(&file.retention);
        limits
            .map_err(|text| checked.fault(at, format!("[[retention]]: {text}")))
            .ok()
    }

    /// Whether and where to say that the relay is here; by default where others can reach it.
    fn mdns(
        &self,
        listen: Option<SocketAddr>,
        checked: &mut Checked,
    ) -> Option<Option<Interfaces>> {
        let (options, file) = (self.options, &self.read.file);
        let reachable = listen.is_some_and(|at| !at.ip().is_loopback());
        let said = self.one("mdns", &options.mdns, &file.mdns);
        let said = said.unwrap_or_default(if reachable { "on" } else { "off" });
        let on = checked.parse("mdns", said, |text| match text {
            "on" => Ok(true),
            "off" => Ok(false),
            other => Err(format!("mdns `{other}` is not known: write on or off")),
        });
        let interfaces = checked.parse_all(
            "mdns_interfaces",
            self.many(
                "mdns_interface",
                &options.mdns_interface,
                &file.mdns_interfaces,
            ),
            |text| Ok(text.to_owned()),
        );
        Some(on?.then_some(Interfaces(interfaces)))
    }

    fn directory(&self, checked: &mut Checked) -> Option<PathBuf> {
        let named = self.options.directory.as_ref();
        let named =
            named.map(|path| (path.display().to_string(), self.options.source("directory")));
        let (text, source) = named
            .or_else(|| self.in_file(&self.read.file.directory))
            .map_or((None, Source::Default), |(text, source)| {
                (Some(text), source)
            });
        let exact = self.options.directory.clone();
        match directory(exact.or(text.map(PathBuf::from))) {
            Ok(directory) => {
                let value = directory.display().to_string();
                checked.setting("directory", value, source);
                Some(directory)
            }
            Err(error) => {
                checked.fault(None, error.to_string());
                None
            }
        }
    }

    /// Where an entry of a table, or a table, stands in the file.
    fn at(&self, name: &str) -> Option<Source> {
        let line = self.read.entry(name)?;
        Some(Source::File(self.path.to_owned(), line))
    }

    /// Lists the entries of a table.
    fn table(&self, name: &str, table: &impl Serialize, checked: &mut Checked) {
        let Ok(serde_json::Value::Object(entries)) = serde_json::to_value(table) else {
            return;
        };
        for (entry, value) in entries {
            let entry = format!("{name}.{entry}");
            let source = self.at(&entry).unwrap_or(Source::Default);
            checked.setting(&entry, value.to_string(), source);
        }
    }

    fn in_file<T: ToString>(&self, value: &Option<Spanned<T>>) -> Option<(String, Source)> {
        let value = value.as_ref()?;
        let source = Source::File(self.path.to_owned(), self.read.line(value));
        Some((value.get_ref().to_string(), source))
    }

    fn one(
        &self,
        name: &'static str,
        option: &Option<String>,
        file: &Option<Spanned<String>>,
    ) -> One {
        let option = option.clone();
        One(option
            .map(|text| (text, self.options.source(name)))
            .or_else(|| self.in_file(file)))
    }

    fn flag(
        &self,
        name: &'static str,
        set: bool,
        file: &Option<Spanned<bool>>,
    ) -> (String, Source) {
        let option = set.then(|| ("true".to_owned(), self.options.source(name)));
        One(option.or_else(|| self.in_file(file))).unwrap_or_default("false")
    }

    fn many(
        &self,
        name: &'static str,
        options: &[String],
        file: &[Spanned<String>],
    ) -> Vec<(String, Source)> {
        if options.is_empty() {
            file.iter()
                .filter_map(|value| self.in_file(&Some(value.clone())))
                .collect()
        } else {
            let source = self.options.source(name);
            let texts = options.iter();
            texts.map(|text| (text.clone(), source.clone())).collect()
        }
    }
}

/// A value with its source, if anybody said one.
struct One(Option<(String, Source)>);

impl One {
    fn unwrap_or_default(self, default: &str) -> (String, Source) {
        self.0
            .unwrap_or_else(|| (default.to_owned(), Source::Default))
    }
}

impl Checked {
    fn setting(&mut self, name: &str, value: String, source: Source) {
        self.settings.push(Setting {
            name: name.to_owned(),
            value,
            source,
        });
    }

    fn fault(&mut self, source: Option<Source>, text: String) {
        self.faults.push(Fault { source, text });
    }

    fn parse<T>(
        &mut self,
        name: &'static str,
        (text, source): (String, Source),
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(&text) {
            Ok(value) => {
                self.setting(name, text, source);
                Some(value)
            }
            Err(why) => {
                self.fault(Some(source), why);
                None
            }
        }
    }

    fn parse_all<T>(
        &mut self,
        name: &'static str,
        texts: Vec<(String, Source)>,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        if texts.is_empty() {
            self.setting(name, "none".into(), Source::Default);
        }
        let texts = texts.into_iter();
        texts
            .filter_map(|text| self.parse(name, text, &parse))
            .collect()
    }

    /// What has to fit together.
    fn tree(&mut self, tier: Option<Tier>, parents: &[Upstream], origins: &[PublicKey]) {
        if parents.is_empty() {
            return;
        }
        if tier == Some(Tier::Origin) {
            self.fault(
                None,
                "a relay with a parent is no origin: leave out --parent, or write --tier local or cloud"
                    .into(),
            );
        }
        if origins.is_empty() {
            self.fault(
                None,
                "--parent needs --origin: write the key that the parent prints behind `origin`"
                    .into(),
            );
        }
    }
}

fn parse_tier(text: &str) -> Result<Tier, String> {
    match text {
        "local" => Ok(Tier::Local),
        "cloud" => Ok(Tier::Cloud),
        "origin" => Ok(Tier::Origin),
        other => Err(format!(
            "tier `{other}` is not known: write local, cloud or origin"
        )),
    }
}

fn parse_admin(text: &str) -> Result<Admin, String> {
    match text {
        "off" => Ok(Admin::Off),
        "beside" => Ok(Admin::Beside),
        other => other.parse().map(Admin::At).map_err(|_| {
            format!("admin address `{other}` is not IP:PORT, as in 127.0.0.1:14470, and not off")
        }),
    }
}

fn parse_dns(text: &str) -> Result<Option<SocketAddr>, String> {
    match text {
        "system" => Ok(None),
        other => other.parse().map(Some).map_err(|_| {
            format!("DNS server `{other}` is not IP:PORT, as in 127.0.0.1:53, and not system")
        }),
    }
}

fn parse_log(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::try_new(text)
        .map(|_| text.to_owned())
        .map_err(|_| {
            format!("log filter `{text}` cannot be read: write error, warn, info or debug")
        })
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
        assert_eq!(config.parents[0].to_string(), format!("a:1#{key}"));
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
