//! Locking, unlocking and another passphrase, in the window alone.

use xtask::people::provision;
use xtask::tree::Tree;

use crate::desk::{Theme, Window, tell};

const WIDE: (u32, u32) = (1280, 800);
const NEW: &str = "eleven herons over the frozen weir";

/// Waits until the page says why it is locked, and that nothing of the profile is left on it.
async fn is_locked(window: &Window) {
    window
        .until(
            "it says why it is locked",
            "return document.querySelector('[data-testid=lock-cause]')?.innerText === 'You locked this profile.'",
        )
        .await;
    window
        .until(
            "nothing is left on the page",
            "return !/Alice|Ward 3|heron stands/.test(document.body.innerText)",
        )
        .await;
}

/// From now on with another passphrase, which the dialog takes only if it is told the old one.
async fn change_passphrase(window: &Window, old: &str) {
    window.press("security").await;
    window.find("lock-now").await;
    for (id, text) in [
        ("old", "not this one"),
        ("fresh", NEW),
        ("fresh-again", NEW),
    ] {
        window.write(id, text).await;
    }
    window.press("change-passphrase").await;
    window.find("error").await;
    window.picture("passphrase-refused").await;
    window
        .run("document.querySelector('[data-testid=old]').select()")
        .await;
    window.write("old", old).await;
    window.press("change-passphrase").await;
    window.find("passphrase-changed").await;
    window.picture("passphrase-changed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_locks_unlocks_and_changes_the_passphrase() {
    tell(locking).await;
}

async fn locking() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::start(&folder.path().join("relays")).unwrap();
    let people = provision(folder.path(), &tree).unwrap();
    let old = people[0].passphrase().unwrap();
    let window = Window::open(&people[0].directory, WIDE, Theme::Light).await;
    window.unlock(&old).await;
    window.say("A heron stands in the car park.").await;
    window.reads("A heron stands in the car park.").await;

    // By the button, and by the keyboard.
    window.press("lock").await;
    is_locked(&window).await;
    window.picture("locked-by-person").await;
    window.unlock(&old).await;
    window.reads("A heron stands in the car park.").await;

    change_passphrase(&window, &old).await;
    window.press("lock-now").await;
    is_locked(&window).await;
    window.write("passphrase", &format!("{old}\u{e007}")).await;
    window.find("error").await;
    window
        .run("document.querySelector('[data-testid=passphrase]').select()")
        .await;
    window.unlock(NEW).await;
    window.reads("A heron stands in the car park.").await;
    window.close().await;
}

/// Who turns the wheel is there: Secure is told, at most every 20 seconds.
async fn is_told_that_somebody_reads(window: &Window) {
    // What the page asks goes to the window's process this way.
    let listen = "const fetch = window.fetch; window.asked = []; \
                  window.fetch = (place, options) => { \
                      window.asked.push(String(options?.body)); return fetch(place, options); \
                  }";
    window.run(listen).await;
    let turn = "document.body.dispatchEvent(new WheelEvent('wheel', { bubbles: true })); \
                return window.asked.some((body) => body.includes('\"present\"'))";
    window
        .until("Secure is told that somebody is here", turn)
        .await;
    let count = "return window.asked.filter((body) => body.includes('\"present\"')).length";
    window.run(turn).await;
    assert_eq!(window.run(count).await, 1);
}

/// What is chosen is in force, and there when the dialog is opened again.
#[tokio::test(flavor = "multi_thread")]
async fn when_it_locks_by_itself_is_chosen() {
    tell(choosing).await;
}

async fn choosing() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::start(&folder.path().join("relays")).unwrap();
    let people = provision(folder.path(), &tree).unwrap();
    let window = Window::open(&people[0].directory, WIDE, Theme::Dark).await;
    window.unlock(&people[0].passphrase().unwrap()).await;
    window.press("security").await;
    window.find("idle").await;
    window
        .run(
            "const idle = document.querySelector('[data-testid=idle]'); idle.value = '5'; \
             idle.dispatchEvent(new Event('change', { bubbles: true }))",
        )
        .await;
    window.press("sleep").await;
    window
        .until(
            "it is chosen",
            "return document.querySelector('[data-testid=idle]').value === '5' \
             && !document.querySelector('[data-testid=sleep]').checked",
        )
        .await;
    window.picture("security-dark").await;
    is_told_that_somebody_reads(&window).await;
    window.close().await;
    let said = people[0].tool("treeline-chat", &["locking"]).unwrap();
    assert!(said.contains("idle: after 5 minutes"), "{said}");
    assert!(said.contains("has slept: no"), "{said}");
}
