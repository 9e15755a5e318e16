//! The import table, and the crates that may not be reached from a package at all.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Package, and the packages of ours that it may name as a dependency.
const TABLE: &[(&str, &[&str])] = &[
    ("confinement", &[]),
    ("proto", &[]),
    ("endpoint-secure-api", &[]),
    ("relay-core", &["proto"]),
    ("pages", &[]),
    ("relay", &["confinement", "pages", "relay-core", "proto"]),
    (
        "endpoint-net",
        &["confinement", "relay", "relay-core", "proto"],
    ),
    (
        "endpoint-secure",
        &["confinement", "endpoint-secure-api", "proto"],
    ),
    (
        "endpoint-secure-client",
        &["confinement", "endpoint-secure-api"],
    ),
    ("endpoint-secure-keyring", &[]),
    ("endpoint-ui", &["confinement", "endpoint-secure-api"]),
    (
        "launcher",
        &[
            "confinement",
            "endpoint-secure-client",
            "endpoint-secure-api",
        ],
    ),
    (
        "member",
        &["endpoint-secure-client", "endpoint-secure-api", "pages"],
    ),
    (
        "chat",
        &["endpoint-secure-client", "endpoint-secure-api", "pages"],
    ),
    ("dump", &["pages", "relay", "proto"]),
    (
        "bench",
        &[
            "endpoint-secure",
            "endpoint-secure-api",
            "relay",
            "relay-core",
            "proto",
        ],
    ),
    ("xtask", &[]),
];

/// Packages, and what may be reached from none of them, however indirectly.
const BANNED: &[(&[&str], &[&str])] = &[
    (
        &["proto", "relay-core", "endpoint-secure-api"],
        &[
            "tokio",
            "quinn",
            "rustls",
            "rusqlite",
            "rand",
            "getrandom",
            "openmls",
            "mio",
            "socket2",
        ],
    ),
    (
        &["endpoint-secure"],
        &[
            "tokio",
            "quinn",
            "rustls",
            "mio",
            "socket2",
            "hickory-resolver",
            "mdns-sd",
            "hyper",
            "dbus",
            "zbus",
        ],
    ),
    (
        &["endpoint-net", "relay", "dump"],
        &[
            "openmls",
            "endpoint-secure",
            "endpoint-secure-api",
            "argon2",
            "chacha20poly1305",
        ],
    ),
    (
        &[
            "endpoint-ui",
            "launcher",
            "member",
            "chat",
            "endpoint-secure-client",
        ],
        &[
            "proto",
            "relay",
            "relay-core",
            "endpoint-secure",
            "endpoint-net",
            "openmls",
            "rusqlite",
            "ed25519-dalek",
            "chacha20poly1305",
            "argon2",
            "rustls",
            "quinn",
        ],
    ),
    (
        &["launcher", "member", "chat"],
        &["tauri", "wry", "webkit2gtk"],
    ),
];

/// The packages reached from one, over normal and build dependencies or only the first level.
fn reached(package: &str, depth: &[&str]) -> BTreeSet<String> {
    let out = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--format",
            "{p}",
        ])
        .args(["--edges", "normal", "--package", package])
        .args(depth)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}",
        String::from_utf8_lossy(&out.stderr)
    );
    let text = String::from_utf8(out.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split(' ').next());
    names
        .filter(|name| !name.is_empty() && *name != package)
        .map(str::to_owned)
        .collect()
}

/// The workspace's members: name, and the ours it names as any kind of dependency.
fn members() -> BTreeMap<String, BTreeSet<String>> {
    let out = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--locked",
            "--offline",
            "--no-deps",
            "--format-version",
            "1",
        ])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .output()
        .unwrap();
    let metadata: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().unwrap();
            let ours = dependencies
                .iter()
                .filter(|d| d["path"].is_string() && d["kind"] != "dev");
            let names = ours
                .map(|d| d["name"].as_str().unwrap().to_owned())
                .collect();
            (package["name"].as_str().unwrap().to_owned(), names)
        })
        .collect()
}

#[test]
fn every_package_imports_only_what_the_table_allows() {
    for (package, imports) in members() {
        if package == "tests" {
            continue;
        }
        let row = TABLE.iter().find(|(name, _)| *name == package);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{package} stands in no row of the table"));
        let allowed: BTreeSet<_> = allowed.iter().map(|s| (*s).to_owned()).collect();
        assert!(
            imports.is_subset(&allowed),
            "{package} imports {imports:?}, may {allowed:?}"
        );
    }
}

#[test]
fn banned_crates_are_not_reached() {
    for (packages, banned) in BANNED {
        for package in *packages {
            let reached = reached(package, &[]);
            assert!(
                !reached.is_empty(),
                "cargo tree showed nothing for {package}"
            );
            for crate_name in *banned {
                assert!(
                    !reached.contains(*crate_name),
                    "{package} reaches {crate_name}"
                );
            }
        }
    }
}

#[test]
fn big_crates_have_one_version() {
    let big = [
        "openmls",
        "quinn",
        "quinn-proto",
        "rustls",
        "rusqlite",
        "tauri",
        "tokio",
        "ed25519-dalek",
    ];
    let lock =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.lock")).unwrap();
    for name in big {
        let count = lock.matches(&format!("\nname = \"{name}\"\n")).count();
        assert_eq!(count, 1, "{name} stands {count} times in Cargo.lock");
    }
}

/// A rule that cannot fail proves nothing.
#[test]
fn the_checker_sees_what_it_looks_for() {
    assert!(reached("relay", &[]).contains("quinn"));
    assert!(reached("endpoint-secure", &[]).contains("openmls"));
    assert!(members()["endpoint-secure"].contains("proto"));
}
