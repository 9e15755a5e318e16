//! docs/protocol.md against the code: each MUST is named by a test, and the limits are those of
//! `proto::limits`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proto::limits;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn specification() -> String {
    fs::read_to_string(Path::new(ROOT).join("docs/protocol.md")).unwrap()
}

/// The ids in a text: `P-`, a word of capitals, `-`, a number.
fn ids(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words
        .filter(|word| {
            let parts: Vec<&str> = word.split('-').collect();
            matches!(parts[..], ["P", area, number]
                if !area.is_empty()
                    && area.bytes().all(|b| b.is_ascii_uppercase())
                    && number.parse::<u8>().is_ok())
        })
        .map(str::to_owned)
        .collect()
}

/// The ids that tests name: in the vectors, and in the sources of the suites.
fn tested() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut folders = vec![Path::new(ROOT).join("tests")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let ending = path.extension().map(|ending| ending.to_string_lossy());
            if path.is_dir() && !path.ends_with("target") {
                folders.push(path);
            } else if ending.is_some_and(|ending| ending == "rs" || ending == "json") {
                found.extend(ids(&fs::read_to_string(path).unwrap()));
            }
        }
    }
    found
}

#[test]
fn every_must_has_an_id_and_a_test_that_names_it() {
    let text = specification();
    let stated = ids(&text);
    assert!(stated.len() > 40);
    let untested: Vec<_> = stated.difference(&tested()).cloned().collect();
    assert!(untested.is_empty(), "no test names {untested:?}");
    for id in &stated {
        let defined = text.matches(&format!("**{id}**")).count();
        assert_eq!(defined, 1, "{id} is stated {defined} times");
    }
}

#[test]
fn no_test_names_an_id_that_is_not_stated() {
    let stated = ids(&specification());
    let unknown: Vec<_> = tested().difference(&stated).cloned().collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// `pub const NAME: type = …;` of the limits' source, so that none can be left out of the table.
fn names_in_code() -> BTreeSet<String> {
    let source = fs::read_to_string(Path::new(ROOT).join("proto/src/limits.rs")).unwrap();
    let lines = source
        .lines()
        .filter_map(|line| line.strip_prefix("pub const "));
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.to_owned())
        .collect()
}

fn values_in_code() -> Vec<(&'static str, u64)> {
    vec![
        ("CHUNK_DATA_BYTES", limits::CHUNK_DATA_BYTES as u64),
        ("CHUNK_HEAD_BYTES", limits::CHUNK_HEAD_BYTES as u64),
        ("SIGNATURE_BYTES", limits::SIGNATURE_BYTES as u64),
        ("CHUNK_BYTES", limits::CHUNK_BYTES as u64),
        ("FRAME_HEAD_BYTES", limits::FRAME_HEAD_BYTES as u64),
        ("FRAME_BODY_BYTES", limits::FRAME_BODY_BYTES as u64),
        ("CHUNKS_PER_FRAME", limits::CHUNKS_PER_FRAME as u64),
        ("GRANT_CHAIN", limits::GRANT_CHAIN as u64),
        ("ACKS_PER_FRAME", limits::ACKS_PER_FRAME as u64),
        ("NAMES_PER_FETCH", limits::NAMES_PER_FETCH as u64),
        ("SPANS_PER_ASK", limits::SPANS_PER_ASK as u64),
        ("PARTS_PER_SPAN", limits::PARTS_PER_SPAN as u64),
        ("NAMES_PER_PART", limits::NAMES_PER_PART as u64),
        ("SPANS_PER_WANT", limits::SPANS_PER_WANT as u64),
        ("CURSOR_BYTES", limits::CURSOR_BYTES as u64),
        ("TEXT_BYTES", limits::TEXT_BYTES as u64),
        ("RULES_PER_GRANT", limits::RULES_PER_GRANT as u64),
        ("MESSAGE_FRAGMENTS", limits::MESSAGE_FRAGMENTS as u64),
        ("SMALL_FRAGMENTS", limits::SMALL_FRAGMENTS as u64),
        ("COMMIT_FRAGMENTS", limits::COMMIT_FRAGMENTS as u64),
        ("OBJECT_BYTES", limits::OBJECT_BYTES as u64),
        ("KEY_PACKAGE_LIFE_MS", limits::KEY_PACKAGE_LIFE_MS),
        ("MESSAGE_LIFE_MS", limits::MESSAGE_LIFE_MS),
        ("LIFE_MS", limits::LIFE_MS),
        ("CLOCK_SKEW_MS", limits::CLOCK_SKEW_MS),
        ("DAY_MS", limits::DAY_MS),
    ]
}

#[test]
fn the_limits_in_the_table_are_those_of_the_code() {
    let text = specification();
    let (_, section) = text.split_once("\n## Limits\n").unwrap();
    let rows: Vec<(String, u64)> = section
        .lines()
        .filter_map(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            let value = cells.get(2)?.parse().ok()?;
            Some((cells[1].to_owned(), value))
        })
        .collect();
    let code: Vec<(String, u64)> = values_in_code()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    assert_eq!(rows, code);
    let listed: BTreeSet<String> = code.into_iter().map(|(name, _)| name).collect();
    assert_eq!(listed, names_in_code());
}
