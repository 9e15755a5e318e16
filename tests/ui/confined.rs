//! The window as people start it, without a WebDriver: drawn, and confined in every thread of every
//! process, web processes included.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use tests::process::{CORES, core_limit, holds, inheriting, is_hidden, limit};
use xtask::process::{binary, child_of, signal};

use crate::desk::{at, display_with};

const PATIENCE: Duration = Duration::from_secs(90);
/// A desktop without a window has one colour, an empty window a few; text has many.
const COLOURS: usize = 64;
const WIDTH: u32 = 900;
const HEIGHT: u32 = 700;

#[test]
fn every_thread_of_the_window_is_confined_and_the_page_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).unwrap();
    let (mut display, name) = display_with((WIDTH, HEIGHT), &["-fbdir", frames.to_str().unwrap()]);
    let profile = folder.path().join("profile");
    let planted = folder.path().join("planted");
    fs::write(&planted, "open").unwrap();
    let mut launcher = at(&name, "sh".as_ref())
        .args(inheriting(&binary("treeline").unwrap(), &planted))
        .arg("--directory")
        .arg(&profile)
        .spawn()
        .unwrap();
    let picture = frames.join("Xvfb_screen0");
    until("the page is drawn", || colours(&picture) > COLOURS);
    let child = |parent, name| child_of(parent, name).unwrap_or_else(|| panic!("no {name}"));
    let window = child(launcher.id(), "treeline-ui");
    let confined = [
        child(launcher.id(), "treeline-secure"),
        child(launcher.id(), "treeline-net"),
        window,
        child(window, "WebKitWebProcess"),
        child(window, "WebKitNetworkProcess"),
    ];
    confined
        .iter()
        .for_each(|pid| every_thread_is_confined(*pid));
    assert!(holds(launcher.id(), &planted));
    assert!(confined.iter().all(|pid| !holds(*pid, &planted)));
    assert!(is_hidden(window));
    for pid in &confined[2..] {
        assert_eq!(limit(*pid, "Max open files"), Some(4096));
        assert_eq!(limit(*pid, CORES), core_limit());
    }
    // What it writes is its own: nothing of it lies beside the profile's parts.
    assert!(profile.join("window").is_dir());
    let log = fs::read_to_string(profile.join("window.log")).unwrap();
    assert!(!log.contains("ended"), "{log}");
    signal(launcher.id(), "TERM");
    launcher.wait().unwrap();
    display.kill().unwrap();
    display.wait().unwrap();
}

fn every_thread_is_confined(pid: u32) {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for thread in threads.flatten() {
        // A thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(thread.path().join("status")) else {
            continue;
        };
        let has = |line: &str| status.lines().any(|there| there == line);
        assert!(
            has("Seccomp:\t2") && has("NoNewPrivs:\t1"),
            "{pid}: {status}"
        );
        assert!(has("CapEff:\t0000000000000000"), "{pid}: {status}");
    }
}

/// How many different values of a pixel there are.
fn colours(picture: &Path) -> usize {
    let bytes = fs::read(picture).unwrap_or_default();
    // The pixels stand at the end, behind a table of colours.
    let start = bytes
        .len()
        .saturating_sub(WIDTH as usize * HEIGHT as usize * 4);
    let pixels = bytes[start..].chunks_exact(4);
    pixels.collect::<BTreeSet<_>>().len()
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "waited too long until {what}");
        thread::sleep(Duration::from_millis(100));
    }
}
