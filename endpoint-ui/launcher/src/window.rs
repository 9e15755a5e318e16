//! The window's process: what it inherits, and its confinement, which has to be there before it starts.
//!
//! WebKit starts a thread before `main`, so the window cannot confine itself. The launcher starts itself
//! a second time with a control socket; that process confines itself, says how well, and becomes the
//! window.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use confinement::{Places, Role};
use endpoint_secure_api::control::{Control, Tag};
use endpoint_secure_client::Window;

/// The window's own files, below the profile's directory.
const DIRECTORY: &str = "window";
/// What people choose how their desktop looks with, below their home: read, never written.
const LOOKS: &[&str] = &[
    ".Xauthority",
    ".config/fontconfig",
    ".config/gtk-3.0",
    ".fonts",
    ".icons",
    ".local/share/fonts",
    ".local/share/icons",
    ".local/share/themes",
    ".themes",
];

/// How the starter starts it.
///
/// # Errors
/// One line, when its directory cannot be made.
pub fn window(profile: &Path, automation: bool) -> Result<Window, String> {
    let own = profile.join(DIRECTORY);
    let failed = |error| {
        format!(
            "the profile directory {} cannot be used: {error}",
            own.display()
        )
    };
    fs::create_dir_all(&own).map_err(failed)?;
    let own = own.canonicalize().map_err(failed)?;
    let mut arguments: Vec<OsString> = vec!["--become-window".into(), "--directory".into()];
    arguments.push(own.clone().into());
    if automation {
        arguments.push("--automation".into());
    }
    Ok(Window {
        program: std::env::current_exe().map_err(|error| error.to_string())?,
        arguments,
        environment: environment(&own, automation),
    })
}

/// Confines this process, and becomes the window. Returns only what kept it from that.
///
/// # Errors
/// Always.
pub fn become_window(own: Option<&Path>, automation: bool) -> Result<(), String> {
    let own = own.ok_or("--become-window is for the launcher's own use")?;
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let program = program.with_file_name("treeline-ui");
    let role = if automation {
        Role::SteeredWindow
    } else {
        Role::Window
    };
    let isolation = confinement::enclose(role, &places(own, &program, automation)).seal();
    // Standard error is the window's log.
    eprintln!("treeline-ui: isolation: {isolation}");
    let control = Control::inherited().map_err(|error| error.to_string())?;
    let told = control.send(Tag::Isolation, isolation.to_string().as_bytes(), None);
    told.map_err(|error| error.to_string())?;
    let error = Command::new(&program).exec();
    let line = format!("{} does not start: {error}", program.display());
    // The starter shows it; without a starter nobody does.
    control.send(Tag::Line, line.as_bytes(), None).ok();
    Err(line)
}

fn places(own: &Path, program: &Path, automation: bool) -> Places {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = variable("HOME").map(PathBuf::from);
    let looks = home
        .iter()
        .flat_map(|home| LOOKS.iter().map(|name| home.join(name)));
    let key = variable("XAUTHORITY").map(PathBuf::from);
    let driver = variable("WEBKIT_INSPECTOR_SERVER").filter(|_| automation);
    let driver = driver.and_then(|place| place.to_str()?.rsplit_once(':')?.1.parse().ok());
    Places {
        own: vec![own.to_owned()],
        read: looks.chain(key).collect(),
        run: vec![program.to_owned()],
        driver,
    }
}

/// What the window's process must not inherit: anything by which another program could steer it or
/// reach through it. What it writes goes to its own directory.
fn environment(own: &Path, automation: bool) -> Vec<(String, Option<String>)> {
    let below = |name: &str| Some(own.join(name).to_string_lossy().into_owned());
    let mut environment = vec![
        (
            "DBUS_SESSION_BUS_ADDRESS".to_owned(),
            Some("disabled:".to_owned()),
        ),
        ("XDG_DATA_HOME".to_owned(), below("data")),
        ("XDG_CACHE_HOME".to_owned(), below("cache")),
        ("TMPDIR".to_owned(), below("")),
    ];
    for name in [
        "TAURI_WEBVIEW_AUTOMATION",
        "WEBKIT_INSPECTOR_SERVER",
        "WEBKIT_INSPECTOR_HTTP_SERVER",
    ] {
        if !automation {
            environment.push((name.to_owned(), None));
        }
    }
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_cannot_be_steered_unless_a_test_does() {
        let removed = |automation| {
            let environment = environment(Path::new("/p/window"), automation);
            environment
                .iter()
                .filter(|(_, value)| value.is_none())
                .count()
        };
        assert_eq!((removed(false), removed(true)), (3, 0));
    }

    #[test]
    fn what_it_writes_stays_in_the_profile() {
        let environment = environment(Path::new("/p/window"), false);
        let below = |name| {
            let found = environment.iter().find(|(key, _)| key == name);
            found
                .and_then(|(_, value)| value.as_deref())
                .unwrap()
                .starts_with("/p/window")
        };
        assert!(below("XDG_DATA_HOME") && below("XDG_CACHE_HOME") && below("TMPDIR"));
    }
}
