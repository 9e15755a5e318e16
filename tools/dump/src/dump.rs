//! `dump`: reads everything under a prefix from a relay, with the grants that it relies on, and adds
//! it to a directory. A dump only grows: what a tree has lost, its backup keeps.

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use indicatif::ProgressBar;
use proto::{Chunk, Cursor, Name, Path, Prefix, Signer, Start, Tier};
use relay::client::Said;
use relay::tls::load_or_make;
use serde::Serialize;
use tokio::time::Instant;

use crate::failure::Failure;
use crate::files::Writer;
use crate::folder::{Dump, Target};
use crate::grants::Grants;
use crate::link::{self, Link, PATIENCE};
use crate::manifest::{Entry, FILE_BYTES, Kind, Manifest};
use crate::options::DumpOptions;
use crate::output;

/// How many leading bits a prefix needs: a relay does not serve what spans origins.
const ORIGIN_BITS: u8 = 24;
/// A tree that is never quiet is waited for so many times as long as one that is.
const RESTLESS: u32 = 15;

#[derive(Serialize)]
struct Summary {
    prefix: String,
    directory: String,
    chunks: u64,
    grants: u64,
    new: u64,
    signer: String,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`]. Unless it is [`Failure::Partial`], the directory's earlier dump is as it was.
pub async fn run(options: &DumpOptions, json: bool) -> Result<(), Failure> {
    let prefix = parse_prefix(&options.prefix)?;
    let relay = link::address(&options.relay)?;
    let target = Target::open(&options.dir)?;
    let signer = signer(options.key.clone())?;
    let earlier = target.earlier()?;
    if let Some(earlier) = &earlier {
        check_same(earlier, prefix, &signer)?;
    }
    let first = earlier.is_none();
    let mut collected = Collected::after(&target, earlier)?;
    let mut link = Link::open(&relay).await?;
    let settle = Duration::from_secs(options.settle);
    let settled = collected.read(&mut link, prefix, settle).await?;
    link.close().await;
    if first && collected.new == 0 {
        return Err(Failure::NotFound(format!(
            "the relay {} has nothing under {prefix}; check the prefix, and whether the relay serves that origin",
            relay.place
        )));
    }
    let new = collected.new;
    let (cursor, files) = collected.finish(&target)?;
    let made = (relay::driver::now().millis(), relay.to_string());
    let manifest = Manifest::new(prefix, made, cursor.as_ref(), files, &signer.public_key());
    target.complete(&manifest, &signer)?;
    let summary = Summary {
        prefix: prefix.to_string(),
        directory: options.dir.display().to_string(),
        chunks: manifest.count,
        grants: manifest.grants(),
        new,
        signer: manifest.key().to_hex(),
    };
    let line = format!(
        "{} chunks, {} of them grants, {new} of them new, in {}; signed by {}",
        summary.chunks, summary.grants, summary.directory, summary.signer
    );
    output::show(json, "dump", &summary, &line);
    if settled {
        return Ok(());
    }
    Err(Failure::Partial(format!(
        "chunks still came to the relay {} from above when the dump ended; run the same command again to add them",
        relay.place
    )))
}

fn parse_prefix(text: &str) -> Result<Prefix, Failure> {
    let prefix: Prefix = text.parse().map_err(|error| {
        Failure::General(format!(
            "`{text}` is no prefix: {error}; it has the form treeline://<origin>/<path>/org-<n>/team-<n>"
        ))
    })?;
    if prefix.bits() < ORIGIN_BITS {
        return Err(Failure::General(format!(
            "`{text}` is too short; a prefix names at least the origin: treeline://<origin>"
        )));
    }
    Ok(prefix)
}

/// The key that signs manifests.
fn signer(path: Option<PathBuf>) -> Result<Signer, Failure> {
    let path = match path.or_else(default_key) {
        Some(path) => path,
        None => {
            return Err(Failure::General(
                "there is no home directory for the signing key; say --key FILE".into(),
            ));
        }
    };
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        let made = std::fs::create_dir_all(parent);
        made.map_err(|error| Failure::file("make", parent, &error))?;
    }
    Ok(load_or_make(&path)?)
}

fn default_key() -> Option<PathBuf> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let state = set("XDG_STATE_HOME").map(PathBuf::from);
    let state = state.or_else(|| Some(PathBuf::from(set("HOME")?).join(".local/state")))?;
    Some(state.join("treeline/dump.key"))
}

/// What is in a directory is signed again with what is added: it has to be ours.
fn check_same(earlier: &Dump, prefix: Prefix, signer: &Signer) -> Result<(), Failure> {
    let own = earlier.manifest.prefix();
    if own != prefix {
        return Err(Failure::General(format!(
            "the directory holds a dump of {own}, not of {prefix}; choose another directory"
        )));
    }
    if earlier.manifest.key() != signer.public_key() {
        return Err(Failure::WrongKey(format!(
            "the dump in the directory is signed by {}, which is not this key; say --key FILE, or choose another directory",
            earlier.manifest.key().to_hex()
        )));
    }
    Ok(())
}

/// What a dump will hold.
struct Collected {
    /// Files of the earlier dump that stay as they are.
    kept: Vec<Entry>,
    names: HashSet<Name>,
    grants: Grants,
    writer: Writer,
    cursor: Option<Cursor>,
    new: u64,
    progress: ProgressBar,
}

impl Collected {
    /// Everything of the earlier dump; its last file is written again, so that it can be filled up.
    fn after(target: &Target, earlier: Option<Dump>) -> Result<Self, Failure> {
        let mut all = Self {
            kept: Vec::new(),
            names: HashSet::new(),
            grants: Grants::default(),
            writer: Writer::new(target.path(), Kind::Chunks),
            cursor: None,
            new: 0,
            progress: output::spinner("dumping"),
        };
        let Some(earlier) = earlier else {
            return Ok(all);
        };
        all.cursor = earlier.manifest.cursor();
        let files = &earlier.manifest.files;
        for (index, entry) in files.iter().enumerate() {
            let chunks = earlier.read(entry)?;
            if entry.kind == Kind::Grants {
                for chunk in chunks {
                    all.grants.insert(chunk);
                }
                continue;
            }
            all.names.extend(chunks.iter().map(Chunk::name));
            if index + 1 == files.len() && entry.bytes < FILE_BYTES / 2 {
                for chunk in &chunks {
                    all.writer.push(chunk)?;
                }
            } else {
                all.kept.push(entry.clone());
            }
        }
        Ok(all)
    }

    /// Reads until the relay has caught up, and, where others are above it, until nothing comes from
    /// there any more: `false` if that does not end.
    async fn read(
        &mut self,
        link: &mut Link,
        prefix: Prefix,
        settle: Duration,
    ) -> Result<bool, Failure> {
        let start = self.cursor.clone().map_or(Start::All, Start::After);
        let own = link.subscribe(prefix, start).await?;
        let settle = match link.tier() {
            Tier::Origin => Duration::ZERO,
            _ => settle,
        };
        let mut caught_up: Option<Instant> = None;
        let mut last = Instant::now();
        loop {
            let patience = match caught_up {
                Some(since) if since.elapsed() > settle * RESTLESS => return Ok(settle.is_zero()),
                Some(_) if last.elapsed() >= settle => return Ok(true),
                Some(_) => settle.saturating_sub(last.elapsed()),
                None => PATIENCE,
            };
            match link.next(patience).await? {
                Some(Said::Grants(chain)) => self.take_all(chain)?,
                Some(Said::Chunks { id, mut chunks }) if id == own => {
                    last = Instant::now();
                    chunks.retain(|chunk| prefix.contains(chunk.name()));
                    self.take_all(chunks)?;
                }
                Some(Said::CaughtUp { id, cursor, live }) if id == own => {
                    self.cursor = Some(cursor);
                    if live && caught_up.is_none() {
                        last = Instant::now();
                        caught_up = Some(last);
                    }
                }
                Some(_) => {}
                None if caught_up.is_some() => return Ok(true),
                None => return Err(link::silent(link.place())),
            }
        }
    }

    fn take_all(&mut self, chunks: Vec<Chunk>) -> Result<(), Failure> {
        for chunk in chunks {
            let new = if chunk.name().path() == Path::Grant {
                self.grants.insert(chunk)
            } else if self.names.insert(chunk.name()) {
                self.writer.push(&chunk)?;
                true
            } else {
                false
            };
            self.new += u64::from(new);
        }
        self.progress.set_position(self.new);
        Ok(())
    }

    /// Writes the grants, and returns where the next dump goes on and all files.
    fn finish(self, target: &Target) -> Result<(Option<Cursor>, Vec<Entry>), Failure> {
        self.progress.finish_and_clear();
        let mut grants = Writer::new(target.path(), Kind::Grants);
        for chunk in self.grants.ordered() {
            grants.push(chunk)?;
        }
        let mut files = grants.finish()?;
        files.extend(self.kept);
        files.extend(self.writer.finish()?);
        Ok((self.cursor, files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_are_read_or_refused_in_one_line() {
        assert!(parse_prefix("treeline://00abcd").is_ok());
        assert!(parse_prefix("treeline://00abcd/message/org-1/").is_ok());
        for text in [
            "",
            "message",
            "treeline://00abcd/nothing",
            "treeline:00000000000000000000000000000000/3",
        ] {
            let error = parse_prefix(text).unwrap_err();
            assert_eq!(error.code(), 2);
            assert_eq!(error.to_string().lines().count(), 1, "{error}");
        }
    }
}
