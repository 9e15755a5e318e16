//! The wire as data: JSON vectors that any language can run, the rules of docs/protocol.md as tests,
//! and the proof that each of its MUSTs has one. After a change of the wire,
//! `TREELINE_VECTORS=write cargo test -p tests --test vectors` writes the files anew; read the difference.
//!
//! A file holds a kind and cases: ids of docs/protocol.md, a note, an input, and the value that it has
//! or the name of the error. In inputs, keys and bytes are hex.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod arbitrary;
mod behaviour;
mod cases;
mod finding;
mod judge;
mod specification;
mod transports;

use std::fs;
use std::path::PathBuf;

use judge::judge;
use serde_json::{Value, json};

/// The folder of the vectors.
fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/vectors"))
}

/// Every file: its name, and what is in it.
fn files() -> Vec<(String, Value)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder()).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            let text = fs::read_to_string(&path).unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            files.push((name, serde_json::from_str(&text).unwrap()));
        }
    }
    assert!(!files.is_empty());
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// What the generator makes of all cases, by kind.
fn generated() -> Vec<(&'static str, Value)> {
    let file = |(kind, cases): (&'static str, Vec<cases::Case>)| {
        let cases: Vec<Value> = cases.iter().map(|case| written(kind, case)).collect();
        (kind, json!({"kind": kind, "cases": cases}))
    };
    cases::all().into_iter().map(file).collect()
}

fn written(kind: &str, case: &cases::Case) -> Value {
    let judged = judge(kind, &case.input);
    let expected = case.error.map(str::to_owned);
    assert_eq!(
        judged.as_ref().err().cloned(),
        expected,
        "{kind}: {}",
        case.note
    );
    let mut value = json!({"ids": case.ids, "note": case.note, "input": case.input});
    match judged {
        Ok(read) => value["value"] = read,
        Err(error) => value["error"] = error.into(),
    }
    value
}

#[test]
fn the_files_are_what_the_generator_makes() {
    let write = std::env::var("TREELINE_VECTORS").is_ok_and(|value| value == "write");
    let generated = generated();
    for (kind, value) in &generated {
        let path = folder().join(format!("{kind}.json"));
        let text = serde_json::to_string_pretty(value).unwrap() + "\n";
        if write {
            fs::write(&path, &text).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap();
        assert!(found == text, "{} differs from the code", path.display());
    }
    assert_eq!(
        files().len(),
        generated.len(),
        "a file that nobody generates"
    );
}

#[test]
fn every_vector_has_its_value_or_its_error() {
    for (file, value) in files() {
        let kind = value["kind"].as_str().unwrap();
        for case in value["cases"].as_array().unwrap() {
            let expected = match case.get("error") {
                Some(error) => Err(error.as_str().unwrap().to_owned()),
                None => Ok(case["value"].clone()),
            };
            let judged = judge(kind, &case["input"]);
            assert_eq!(judged, expected, "{file}: {}", case["note"]);
        }
    }
}

#[test]
fn a_flipped_byte_in_a_valid_vector_is_noticed() {
    for (file, value) in files() {
        let kind = value["kind"].as_str().unwrap();
        for case in value["cases"].as_array().unwrap() {
            let Some(expected) = case.get("value") else {
                continue;
            };
            let input = &case["input"];
            for (pointer, digits) in strings(input, "") {
                for at in 0..digits {
                    let flipped = flip(input, &pointer, at);
                    let judged = judge(kind, &flipped);
                    assert!(
                        judged.as_ref() != Ok(expected) || skipped(case, &pointer),
                        "{file}: {} at {pointer}, digit {at}",
                        case["note"]
                    );
                }
            }
        }
    }
}

/// Bytes that a reader of version 1 has to ignore may be anything.
fn skipped(case: &Value, pointer: &str) -> bool {
    pointer == "/stream" && case["input"].get("skips").is_some()
}

/// Where in an input hex or text stands, and how long it is.
fn strings(value: &Value, pointer: &str) -> Vec<(String, usize)> {
    match value {
        Value::String(text) => vec![(pointer.into(), text.len())],
        Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(at, item)| strings(item, &format!("{pointer}/{at}")))
            .collect(),
        Value::Object(fields) => fields
            .iter()
            .flat_map(|(name, item)| strings(item, &format!("{pointer}/{name}")))
            .collect(),
        _ => Vec::new(),
    }
}

fn flip(input: &Value, pointer: &str, at: usize) -> Value {
    let mut flipped = input.clone();
    let place = flipped.pointer_mut(pointer).unwrap();
    let mut digits = place.as_str().unwrap().to_owned().into_bytes();
    digits[at] = if digits[at] == b'0' { b'1' } else { b'0' };
    *place = String::from_utf8(digits).unwrap().into();
    flipped
}
