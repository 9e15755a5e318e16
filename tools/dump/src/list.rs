//! `ls`: what a dump holds, by path and team or name by name.

use std::collections::BTreeMap;

use proto::{Name, Prefix};
use serde::Serialize;

use crate::failure::Failure;
use crate::folder::Dump;
use crate::options::LsOptions;
use crate::output;

#[derive(Serialize)]
struct Group {
    prefix: String,
    chunks: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct Single {
    name: String,
    bytes: usize,
    expiry_ms: u64,
}

/// Runs the command.
///
/// # Errors
/// As [`Dump::open`] and [`Dump::read`].
pub fn run(options: &LsOptions, json: bool) -> Result<(), Failure> {
    let dump = Dump::open(&options.dir)?;
    let mut groups: BTreeMap<Prefix, (u64, u64)> = BTreeMap::new();
    for entry in &dump.manifest.files {
        for chunk in dump.read(entry)? {
            let bytes = chunk.encoded().len();
            if options.names {
                let single = Single {
                    name: chunk.name().to_string(),
                    bytes,
                    expiry_ms: chunk.expiry().millis(),
                };
                output::show(json, "chunk", &single, &single.name);
            }
            let group = Prefix::of(chunk.name(), Name::TEAM_BITS);
            let sum = groups.entry(group).or_default();
            *sum = (sum.0 + 1, sum.1 + bytes as u64);
        }
    }
    if options.names {
        return Ok(());
    }
    for (prefix, (chunks, bytes)) in groups {
        let prefix = prefix.to_string();
        let line = format!("{chunks:>10} {bytes:>14}  {prefix}");
        let group = Group {
            prefix,
            chunks,
            bytes,
        };
        output::show(json, "group", &group, &line);
    }
    Ok(())
}
