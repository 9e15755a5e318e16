//! `check-config`: each value in force and where it came from, and every mistake and
//! every doubt with its place.

use serde_json::json;

use super::{Failure, print};
use crate::config::{Checked, Fault, Options, check as look};

/// Prints the values, and on stderr the mistakes and warnings, one per line.
///
/// # Errors
/// [`Failure::Said`] with 15 when there is a mistake.
pub fn check(options: &Options, json: bool) -> Result<(), Failure> {
    let checked = look(options);
    if json {
        print(object(&checked))?;
    } else {
        let names = checked.settings.iter().map(|setting| setting.name.len());
        let width = names.max().unwrap_or(0);
        for setting in &checked.settings {
            print(format_args!(
                "{:width$}  {}  ({})",
                setting.name, setting.value, setting.source
            ))?;
        }
        for warning in &checked.warnings {
            eprintln!("treeline-relay: warning: {warning}");
        }
        for fault in &checked.faults {
            eprintln!("treeline-relay: {fault}");
        }
    }
    match checked.faults.is_empty() {
        true => Ok(()),
        false => Err(Failure::Said(15)),
    }
}

fn object(checked: &Checked) -> serde_json::Value {
    let settings = checked.settings.iter().map(|setting| {
        json!({
            "name": setting.name,
            "value": setting.value,
            "source": setting.source.to_string(),
        })
    });
    let told = |faults: &[Fault], what: &str| {
        let faults = faults.iter().map(|fault| {
            let source = fault.source.as_ref().map(ToString::to_string);
            json!({"source": source, what: fault.text})
        });
        faults.collect::<Vec<_>>()
    };
    json!({
        "version": 1,
        "settings": settings.collect::<Vec<_>>(),
        "errors": told(&checked.faults, "error"),
        "warnings": told(&checked.warnings, "warning"),
    })
}
