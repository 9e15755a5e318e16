//! `diff`: what one dump has that another lacks, chunk by chunk.

use std::collections::BTreeSet;
use std::path::Path;

use proto::{Chunk, Name};
use serde::Serialize;

use crate::failure::Failure;
use crate::folder::Dump;
use crate::options::DiffOptions;
use crate::output;

/// A chunk by its name and the first half of its BLAKE3, so that a large dump fits into memory.
type Key = (Name, [u8; 16]);

#[derive(Serialize)]
struct Difference {
    name: String,
    only_in: &'static str,
}

#[derive(Serialize)]
struct Sum {
    both: u64,
    first: u64,
    second: u64,
}

/// Runs the command.
///
/// # Errors
/// As [`Dump::open`] and [`Dump::read`]; [`Failure::Partial`] when the dumps differ.
pub fn run(options: &DiffOptions, json: bool) -> Result<(), Failure> {
    let (first, second) = (&options.first, &options.second);
    let mut missing = BTreeSet::new();
    each(first, |key| {
        missing.insert(key);
    })?;
    let mut sum = Sum {
        both: 0,
        first: 0,
        second: 0,
    };
    each(second, |key| {
        if missing.remove(&key) {
            sum.both += 1;
        } else {
            sum.second += 1;
            show(json, key.0, "second", '>');
        }
    })?;
    for (name, _) in &missing {
        show(json, *name, "first", '<');
    }
    sum.first = missing.len() as u64;
    let line = format!(
        "{} chunks in both, {} only in {}, {} only in {}",
        sum.both,
        sum.first,
        first.display(),
        sum.second,
        second.display()
    );
    output::show(json, "diff", &sum, &line);
    match sum.first + sum.second {
        0 => Ok(()),
        _ => Err(Failure::Partial("the dumps differ".into())),
    }
}

fn each(folder: &Path, mut take: impl FnMut(Key)) -> Result<(), Failure> {
    let dump = Dump::open(folder)?;
    for entry in &dump.manifest.files {
        dump.read(entry)?
            .iter()
            .for_each(|chunk| take((chunk.name(), digest(chunk))));
    }
    Ok(())
}

fn digest(chunk: &Chunk) -> [u8; 16] {
    let hash = blake3::hash(chunk.encoded());
    let mut half = [0; 16];
    half.copy_from_slice(&hash.as_bytes()[..16]);
    half
}

fn show(json: bool, name: Name, only_in: &'static str, sign: char) {
    let name = name.to_string();
    let line = format!("{sign} {name}");
    output::show(json, "difference", &Difference { name, only_in }, &line);
}
