//! What sources may look like: files that say what they are, no rooms without a name, one importer
//! of openmls and of the web view's interface.

use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
const FILE_LINES: usize = 800;
const NAMELESS: &[&str] = &[
    "util", "utils", "common", "helpers", "manager", "handler", "misc", "mod",
];
const SKIPPED: &[&str] = &["target", "node_modules", ".git", "dist", "gen", "corpus"];

/// Every file with one of these endings that is ours.
fn files(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(ROOT)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let ending = path.extension().map(|e| e.to_string_lossy().into_owned());
            if entry.file_type().unwrap().is_dir() {
                if !SKIPPED.contains(&name.as_str()) {
                    folders.push(path);
                }
            } else if ending.is_some_and(|e| endings.contains(&e.as_str())) {
                found.push((path.clone(), fs::read_to_string(path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The lines before the tests at the end of the file.
fn code(text: &str) -> &str {
    text.split("\n#[cfg(test)]\nmod tests")
        .next()
        .unwrap_or(text)
}

fn is_under(path: &Path, part: &str) -> bool {
    path.to_string_lossy().contains(part)
}

#[test]
fn every_rust_file_says_what_it_is_and_is_not_too_long() {
    for (path, text) in files(&["rs"]) {
        assert!(
            text.starts_with("//!"),
            "{} has no //! at its head",
            path.display()
        );
        let lines = code(&text).lines().count();
        assert!(
            lines <= FILE_LINES,
            "{} has {lines} lines without tests",
            path.display()
        );
    }
}

#[test]
fn no_room_without_a_name() {
    for (path, _) in files(&["rs", "ts", "svelte"]) {
        let stem = path.file_stem().unwrap().to_string_lossy().to_lowercase();
        assert!(!NAMELESS.contains(&stem.as_str()), "{}", path.display());
    }
}

#[test]
fn nothing_is_left_for_later_without_an_owner() {
    let words = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X:"),
    ];
    for (path, text) in files(&["rs", "ts", "svelte", "md", "toml"]) {
        for word in words {
            assert!(!text.contains(word), "{} says {word}", path.display());
        }
    }
}

#[test]
fn only_the_group_calls_openmls() {
    for (path, text) in files(&["rs"]) {
        let allowed = is_under(&path, "endpoint-secure/src/group");
        let storage = is_under(&path, "endpoint-secure/src/store");
        let own = is_under(&path, "tests/rules") || is_under(&path, "endpoint-secure/absent");
        let code = code(&text);
        if !own {
            assert!(
                allowed || !code.contains("openmls::"),
                "{} calls openmls",
                path.display()
            );
            let traits =
                code.contains("openmls_traits::") || code.contains("openmls_rust_crypto::");
            assert!(
                allowed || storage || !traits,
                "{} calls openmls",
                path.display()
            );
        }
    }
}

/// Whatever a person's passphrase or text goes through overwrites what it frees.
#[test]
fn who_has_a_secret_overwrites_what_is_freed() {
    let allocator = "#[global_allocator]\nstatic MEMORY: ZeroAlloc<System> = ZeroAlloc(System);";
    for own in [
        "endpoint-secure/src",
        "tools/chat/src",
        "tools/member/src",
        "endpoint-ui/src-tauri/src",
    ] {
        let path = Path::new(ROOT).join(own).join("main.rs");
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(allocator), "{}", path.display());
    }
}

#[test]
fn secure_and_core_open_no_socket() {
    let words = [
        "std::net",
        "TcpStream",
        "UdpSocket",
        "UnixListener",
        "UnixStream::connect",
    ];
    for (path, text) in files(&["rs"]) {
        let pure = [
            "endpoint-secure/src",
            "proto/src",
            "relay/core/src",
            "endpoint-secure/api/src",
        ];
        if pure.iter().any(|part| is_under(&path, part)) {
            for word in words {
                // Closing one half of an inherited pipe is no socket of its own.
                assert!(
                    !code(&text).replace("std::net::Shutdown", "").contains(word),
                    "{} names {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn proto_and_core_have_no_clock() {
    for (path, text) in files(&["rs"]) {
        if is_under(&path, "/proto/src") || is_under(&path, "/relay/core/src") {
            for word in ["SystemTime", "Instant::now", "HashMap"] {
                assert!(
                    !code(&text).contains(word),
                    "{} names {word}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn the_front_end_has_one_way_out_and_no_raw_html() {
    for (path, text) in files(&["ts", "svelte"]) {
        let runtime = path.ends_with("endpoint-ui/src/runtime.ts");
        assert!(
            runtime || !text.contains("@tauri-apps/api"),
            "{}",
            path.display()
        );
        assert!(
            !text.contains("{@html"),
            "{} renders raw HTML",
            path.display()
        );
    }
}
