//! `verify`: is the dump what was signed, and are its chunks what their signers signed?

use std::path::Path;

use proto::PublicKey;
use serde::Serialize;

use crate::failure::Failure;
use crate::folder::Dump;
use crate::grants::{Grants, Judge, Proof};
use crate::manifest::Kind;
use crate::options::VerifyOptions;
use crate::output;

/// What a sound dump holds.
#[derive(Debug, Serialize)]
pub struct Findings {
    prefix: String,
    made_ms: u64,
    relay: String,
    signer: String,
    files: usize,
    chunks: u64,
    grants: u64,
    /// Chunks whose grants are not in the dump.
    unproven: u64,
    /// Whether the first grants were verified with the origin's key.
    origin_checked: bool,
}

/// Runs the command.
///
/// # Errors
/// [`Failure`].
pub fn run(options: &VerifyOptions, json: bool) -> Result<(), Failure> {
    let origin = options.origin.as_deref().map(key).transpose()?;
    let dump = open(&options.dir, options.signer.as_deref())?;
    let (_, unproven) = check(&dump, origin)?;
    let manifest = &dump.manifest;
    let findings = Findings {
        prefix: manifest.prefix().to_string(),
        made_ms: manifest.made_ms,
        relay: manifest.relay.clone(),
        signer: manifest.key().to_hex(),
        files: manifest.files.len(),
        chunks: manifest.count,
        grants: manifest.grants(),
        unproven,
        origin_checked: origin.is_some(),
    };
    output::show(json, "verify", &findings, &findings.lines());
    Ok(())
}

impl Findings {
    fn lines(&self) -> String {
        let made = i64::try_from(self.made_ms).ok();
        let made = made.and_then(|made| jiff::Timestamp::from_millisecond(made).ok());
        let proven = match (self.unproven, self.origin_checked) {
            (0, true) => "all, up to the origin's key".to_owned(),
            (0, false) => "all, but the origin's own (say --origin KEY)".to_owned(),
            (some, _) => format!("all but {some}, whose grants are not in the dump"),
        };
        format!(
            "sound: {} chunks in {} files, {} of them grants\nprefix {}\nmade {} from {}\nsigner {}\nsignatures {proven}",
            self.chunks,
            self.files,
            self.grants,
            self.prefix,
            made.map_or_else(|| "?".into(), |made| made.to_string()),
            self.relay,
            self.signer,
        )
    }
}

/// Opens a dump, which has to be signed by the key, if one is given.
///
/// # Errors
/// [`Failure::WrongKey`] for another signer, and all of [`Dump::open`].
pub fn open(dir: &Path, signer: Option<&str>) -> Result<Dump, Failure> {
    let signer = signer.map(key).transpose()?;
    let dump = Dump::open(dir)?;
    let own = dump.manifest.key();
    if signer.is_some_and(|signer| signer != own) {
        return Err(Failure::WrongKey(format!(
            "the dump in {} is signed by {}, not by the key that --signer says; find out who made it",
            dir.display(),
            own.to_hex()
        )));
    }
    Ok(dump)
}

/// A key as it is typed.
///
/// # Errors
/// [`Failure::General`].
pub fn key(text: &str) -> Result<PublicKey, Failure> {
    PublicKey::from_hex(text.trim()).ok_or_else(|| {
        Failure::General("a key on the command line is not 64 hex digits; check it".into())
    })
}

/// Reads all of a dump: every file is what was signed, and every chunk as well, as far as the grants
/// are there. Returns the grants, and how many chunks rely on others.
///
/// # Errors
/// [`Failure::Unsound`] for the first thing that is wrong.
pub fn check(dump: &Dump, origin: Option<PublicKey>) -> Result<(Grants, u64), Failure> {
    let progress = output::bar("verifying", dump.manifest.count);
    let mut judge = Judge::new(origin);
    let mut grants = Grants::default();
    let mut unproven = 0;
    let first = |kind| move |entry: &&crate::manifest::Entry| entry.kind == kind;
    let files = &dump.manifest.files;
    let ordered = files.iter().filter(first(Kind::Grants));
    for entry in ordered.chain(files.iter().filter(first(Kind::Chunks))) {
        for chunk in dump.read(entry)? {
            match judge.judge(&chunk) {
                Proof::Proven => {}
                Proof::Unproven => unproven += 1,
                Proof::Refuted => {
                    return Err(Failure::Unsound(format!(
                        "the signature of {} in {} does not verify; do not use this dump",
                        chunk.name(),
                        entry.file_name()
                    )));
                }
            }
            grants.insert(chunk);
            progress.inc(1);
        }
    }
    progress.finish_and_clear();
    Ok((grants, unproven))
}
