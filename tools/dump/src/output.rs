//! What people and programs see: one thing a line on stdout, for people or as JSON, and progress on a
//! terminal.

use std::io::{self, Write};
use std::process;

use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use serde::Serialize;

/// Prints a value: its line for people, or `{"v":1,"kind":…,…}`.
pub fn show<T: Serialize>(json: bool, kind: &str, value: &T, line: &str) {
    let written = if json {
        let mut object = serde_json::json!({ "v": 1, "kind": kind });
        if let (Some(object), Ok(serde_json::Value::Object(fields))) =
            (object.as_object_mut(), serde_json::to_value(value))
        {
            object.extend(fields);
        }
        writeln!(io::stdout(), "{object}")
    } else {
        writeln!(io::stdout(), "{line}")
    };
    // Whoever reads it has seen enough: there is nobody left to tell.
    if written.is_err() {
        process::exit(2);
    }
}

/// A count that goes up, on a terminal only.
pub fn spinner(what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{spinner} {msg}: {human_pos} chunks, {per_sec}");
    ProgressBar::new_spinner()
        .with_style(style.expect("the template is sound"))
        .with_message(what)
        .with_finish(ProgressFinish::AndClear)
}

/// A bar up to a number of chunks, on a terminal only.
pub fn bar(what: &'static str, chunks: u64) -> ProgressBar {
    let style = ProgressStyle::with_template(
        "{msg} {wide_bar} {human_pos}/{human_len} chunks, {eta} to go",
    );
    ProgressBar::new(chunks)
        .with_style(style.expect("the template is sound"))
        .with_message(what)
        .with_finish(ProgressFinish::AndClear)
}
