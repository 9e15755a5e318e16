//! How a terminal front end prints: lines for people, or one JSON object a line.
//!
//! Everything goes through here, because much of it was written by others: a name, a text, what a relay
//! or the network process says. None of it steers the terminal.

use std::fmt::{Display, Write};

use serde::Serialize;

/// Prints a line, or several, to standard output.
#[expect(clippy::print_stdout, reason = "this is the place")]
pub fn say(lines: impl Display) {
    println!("{}", printable(&lines.to_string()));
}

/// Prints a line to standard error.
#[expect(clippy::print_stderr, reason = "this is the place")]
pub fn complain(line: impl Display) {
    eprintln!("{}", printable(&line.to_string()));
}

/// Prints a value: its lines for people, or as [`object`].
pub fn show<T: Serialize>(json: bool, kind: &str, value: &T, lines: &str) {
    if json {
        object(kind, value);
    } else {
        say(lines);
    }
}

/// Prints `{"v":1,"kind":…,…}` with the fields of the value.
#[expect(clippy::print_stdout, reason = "this is the place")]
pub fn object<T: Serialize>(kind: &str, value: &T) {
    let mut object = serde_json::json!({ "v": 1, "kind": kind });
    if let (Some(object), Ok(serde_json::Value::Object(fields))) =
        (object.as_object_mut(), serde_json::to_value(value))
    {
        object.extend(fields);
    }
    println!("{}", escaped(&object.to_string()));
}

/// The text with a mark for each character that would steer the terminal; lines stay lines.
fn printable(text: &str) -> String {
    let steers = |c: char| c.is_control() && c != '\n';
    text.replace(steers, "\u{fffd}")
}

/// JSON with the control characters escaped that it need not escape: DEL and U+0080 to U+009F.
fn escaped(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_control() {
            // Writing to a text does not fail.
            write!(out, "\\u{:04x}", u32::from(c)).ok();
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        let text = "a\u{1b}[2Jb\r\u{9b}c\u{7f}\nd";
        assert_eq!(printable(text), "a\u{fffd}[2Jb\u{fffd}\u{fffd}c\u{fffd}\nd");
    }

    #[test]
    fn json_keeps_what_it_escapes() {
        let text = "a\u{1b}[2J\u{9b}\u{7f}ü";
        let json = escaped(&serde_json::json!({ "text": text }).to_string());
        assert!(!json.chars().any(char::is_control), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["text"], text);
    }
}
