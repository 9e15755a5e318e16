//! The configuration file: what it may say, and every mistake in it with its line. It means nothing
//! here: `crate::config` puts it together with flags and environment.

use std::collections::BTreeMap;
use std::mem;
use std::path::Path;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use super::limits::{LimitsTable, RetentionTable};
use crate::link::settings::Settings;

/// Bytes of a configuration, at most.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Mistakes that are looked for, at most.
const FAULTS_MAX: usize = 64;

/// What a configuration file may say.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub(super) directory: Option<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
    pub(super) tier: Option<Spanned<String>>,
    pub(super) parents: Vec<Spanned<String>>,
    pub(super) origins: Vec<Spanned<String>>,
    pub(super) admin: Option<Spanned<String>>,
    pub(super) dns: Option<Spanned<String>>,
    pub(super) mdns: Option<Spanned<String>>,
    pub(super) mdns_interfaces: Vec<Spanned<String>>,
    pub(super) log: Option<Spanned<String>>,
    pub(super) log_json: Option<Spanned<bool>>,
    pub(super) check_store: Option<Spanned<bool>>,
    pub(super) transport: Settings,
    pub(super) limits: LimitsTable,
    pub(super) retention: Vec<RetentionTable>,
}

/// A file that was read.
#[derive(Debug, Default)]
pub(super) struct Read {
    /// What it says, without the entries that are wrong.
    pub(super) file: File,
    /// What is wrong with it: lines from 1, and one line of text each.
    pub(super) faults: Vec<(usize, String)>,
    text: String,
    /// The lines of the entries of tables, as `table.entry`, and of tables.
    entries: BTreeMap<String, usize>,
}

impl Read {
    /// The line of an entry of a table, written `table.entry`, or of a table.
    pub(super) fn entry(&self, name: &str) -> Option<usize> {
        self.entries.get(name).copied()
    }

    /// The line, from 1, of a value in the file.
    pub(super) fn line<T>(&self, value: &Spanned<T>) -> usize {
        line(&self.text, value.span().start)
    }
}

/// Reads a file, or says in one line why it cannot be read at all.
pub(super) fn read(path: &Path) -> Result<Read, String> {
    let shown = path.display();
    let long = std::fs::metadata(path).is_ok_and(|file| file.len() > FILE_BYTES_MAX);
    if long {
        return Err(format!("the configuration {shown} has more than 1 MiB"));
    }
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read the configuration {shown}: {error}"))?;
    Ok(parse(text))
}

fn parse(text: String) -> Read {
    let (table, errors) = DeTable::parse_recoverable(&text);
    let mut faults: Vec<_> = errors
        .iter()
        .map(|error| fault(&text, error))
        .take(FAULTS_MAX)
        .collect();
    let (span, mut table) = (table.span(), table.into_inner());
    let mut entries = BTreeMap::new();
    for (key, value) in &table {
        let name: &str = key.get_ref();
        entries.insert(name.to_owned(), line(&text, key.span().start));
        for (inner, _) in value.get_ref().as_table().into_iter().flatten() {
            let at = line(&text, inner.span().start);
            entries.insert(format!("{name}.{}", inner.get_ref()), at);
        }
    }
    let mut file = File::default();
    // Serde stops at the first mistake: it is taken out, and the rest is read again.
    while faults.len() < FAULTS_MAX {
        let whole = Spanned::new(span.clone(), table.clone());
        match File::deserialize(Deserializer::from(whole)) {
            Ok(read) => {
                file = read;
                break;
            }
            Err(error) => {
                faults.push(fault(&text, &error));
                let at = error.span().map(|span| span.start);
                if !at.is_some_and(|at| remove(&mut table, at)) {
                    break;
                }
            }
        }
    }
    faults.sort();
    faults.dedup();
    Read {
        file,
        faults,
        text,
        entries,
    }
}

fn fault(text: &str, error: &toml::de::Error) -> (usize, String) {
    let at = error.span().map_or(0, |span| span.start);
    (line(text, at), error.message().replace('\n', " "))
}

fn line(text: &str, at: usize) -> usize {
    let before = text.as_bytes().iter().take(at);
    before.filter(|byte| **byte == b'\n').count() + 1
}

/// Takes out the innermost entry that stands at `at`; false if there is none.
fn remove(table: &mut DeTable<'_>, at: usize) -> bool {
    if table
        .iter_mut()
        .any(|(_, value)| remove_inside(value.get_mut(), at))
    {
        return true;
    }
    let before = table.len();
    let entries = mem::take(table).into_iter();
    *table = entries
        .filter(|(key, value)| !key.span().contains(&at) && !value.span().contains(&at))
        .collect();
    table.len() < before
}

fn remove_inside(value: &mut DeValue<'_>, at: usize) -> bool {
    match value {
        DeValue::Table(table) => remove(table, at),
        DeValue::Array(items) => {
            if items
                .iter_mut()
                .any(|item| remove_inside(item.get_mut(), at))
            {
                return true;
            }
            let before = items.len();
            let all = mem::replace(items, [].into_iter().collect());
            *items = all
                .into_iter()
                .filter(|item| !item.span().contains(&at))
                .collect();
            items.len() < before
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_is_found_with_its_line() {
        let read = parse(
            "litsen = 1\nlisten = 3\nparents = [\n  \"x\",\n  5,\n]\ntier = \"cloud\"\n\
             log = \n[foo]\nx = 1\n"
                .into(),
        );
        let lines: Vec<usize> = read.faults.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 5, 8, 9], "{:?}", read.faults);
        assert_eq!(read.file.tier.unwrap().into_inner(), "cloud");
        assert_eq!(read.file.parents.len(), 1);
    }

    #[test]
    fn nonsense_ends() {
        for text in ["=", "[", "[[", "a = [", "\"", "a = {b = ", "[a]\n[a]\n"] {
            assert!(!parse(text.into()).faults.is_empty(), "{text}");
        }
        let many: String = (0..500).map(|n| format!("x{n} = 1\n")).collect();
        assert_eq!(parse(many).faults.len(), FAULTS_MAX);
    }
}
