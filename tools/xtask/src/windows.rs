//! Two desktop windows, one for each person.

use std::path::Path;

use anyhow::Result;

use crate::people::Person;
use crate::process::Process;

/// Whether there is a display to open windows on.
pub fn display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
}

/// Opens the windows and waits until both are closed.
pub fn open(directory: &Path, people: &[Person; 2]) -> Result<()> {
    let mut windows = Vec::new();
    for person in people {
        let profile = person.directory.to_string_lossy();
        let out = directory.join(format!("{}.out", person.name));
        let window = Process::start(person.name, "treeline", &["--directory", &profile], &out)?;
        println!(
            "{}'s window is open (pid {:?}); it unlocks with: {}",
            person.user,
            window.pid(),
            person.passphrase()?
        );
        windows.push(window);
    }
    println!("close both windows to end");
    for window in &windows {
        window.wait(std::time::Duration::from_secs(7 * 24 * 3600))?;
    }
    Ok(())
}
