//! `check-config`: every mistake, and where each value came from.

use std::fs;
use std::process::Command;

use crate::process::{PROGRAM, output, text};

#[test]
fn every_mistake_is_told_with_its_line() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(
        &file,
        "listen = \"nowhere\"\ntier = \"moon\"\nlitsen = 1\nparents = [\n  \"a:1\",\n]\n\
         [transport]\nidle = 3\n",
    )
    .unwrap();
    let said = output(&["check-config", "--config", file.to_str().unwrap()]);
    let errors = text(&said.stderr);
    assert_eq!(said.status.code(), Some(15), "{errors}");
    assert_eq!(errors.lines().count(), 5, "{errors}");
    for line in ["line 1:", "line 2:", "line 3:", "line 5:", "line 8:"] {
        assert!(errors.contains(line), "{line} is not in: {errors}");
    }
}

#[test]
fn a_life_that_is_too_short_for_messages_is_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(&file, "[limits]\nchunk_life_seconds = 86400\n").unwrap();
    let look = ["check-config", "--config", file.to_str().unwrap()];
    let said = output(&look);
    let warning = text(&said.stderr);
    assert_eq!(said.status.code(), Some(0), "{warning}");
    assert!(warning.contains("line 2: [limits]: ") && warning.contains("messages"));
    let said = output(&[&look[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    let warnings = json["warnings"].as_array().unwrap();
    assert_eq!(
        (warnings.len(), &json["errors"]),
        (1, &serde_json::json!([]))
    );
    assert!(
        warnings[0]["warning"]
            .as_str()
            .unwrap()
            .contains("messages")
    );
}

#[test]
fn every_value_says_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("relay.toml");
    fs::write(
        &file,
        "# mine\ntier = \"cloud\"\n[transport]\nidle_ms = 6000\n",
    )
    .unwrap();
    let said = Command::new(PROGRAM)
        .args([
            "check-config",
            "--json",
            "--listen",
            "127.0.0.1:7",
            "--config",
        ])
        .arg(&file)
        .args(["--directory", "/there"])
        .env("TREELINE_RELAY_LOG", "info")
        .output()
        .unwrap();
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (json["version"].as_u64(), said.status.code()),
        (Some(1), Some(0))
    );
    let shown = file.display();
    for (name, value, source) in [
        ("listen", "127.0.0.1:7", "--listen".into()),
        ("log", "info", "TREELINE_RELAY_LOG".into()),
        ("tier", "cloud", format!("{shown}, line 2")),
        ("transport.idle_ms", "6000", format!("{shown}, line 4")),
        ("transport.handshakes", "512", "default".into()),
        ("admin", "beside", "default".into()),
    ] {
        let settings = json["settings"].as_array().unwrap();
        let setting = settings
            .iter()
            .find(|setting| setting["name"] == name)
            .unwrap();
        assert_eq!(setting["value"], value, "{name}");
        assert_eq!(setting["source"], source, "{name}");
    }
}

#[test]
fn the_example_holds_every_option_and_loads() {
    let example = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/relay.example.toml");
    let directory = tempfile::tempdir().unwrap();
    let commented = fs::read_to_string(example).unwrap();
    // Every `#name = value` line is an option with its default; the sample ones need values.
    let live: String = commented
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(option) if option.starts_with(|c: char| c.is_ascii_lowercase() || c == '[') => {
                option
            }
            _ => line,
        })
        .map(|line| format!("{line}\n"))
        .collect();
    let file = directory.path().join("relay.toml");
    for text_of_file in [&commented, &live] {
        fs::write(&file, text_of_file).unwrap();
        let said = output(&["check-config", "--json", "--config", file.to_str().unwrap()]);
        assert!(said.status.success(), "{}", text(&said.stdout));
    }
    let said = output(&["check-config", "--json", "--config", file.to_str().unwrap()]);
    let json: serde_json::Value = serde_json::from_slice(&said.stdout).unwrap();
    for setting in json["settings"].as_array().unwrap() {
        let source = setting["source"].as_str().unwrap();
        assert!(
            source.contains(", line "),
            "the example lacks {}",
            setting["name"]
        );
    }
}
