//! Somebody new: from an empty profile to a team, in the window alone.

use xtask::people::{CHANNEL, TEAM, provision};
use xtask::tree::Tree;

use crate::desk::{Theme, Window, tell};

const NARROW: (u32, u32) = (900, 600);
const PASSPHRASE: &str = "seven grey herons over the weir";

/// Creates a profile, joins with an invite, waits to be admitted by fingerprint, sees who is inside, goes in, reads and writes,
/// locks, and is refused with another passphrase.
#[tokio::test(flavor = "multi_thread")]
async fn a_newcomer_joins_with_an_invite() {
    tell(joining).await;
}

async fn joining() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::start(&folder.path().join("relays")).unwrap();
    let [alice, _bob] = provision(folder.path(), &tree).unwrap();
    let create = ["invite", "create", TEAM];
    let invite = alice.tool("treeline-member", &create).unwrap();
    let invite = invite
        .split_whitespace()
        .find(|word| word.starts_with("treeline-invite-"))
        .unwrap();

    let window = Window::open(&folder.path().join("chiara"), NARROW, Theme::Light).await;
    create_profile(&window).await;

    window.press("start-join").await;
    window.paste("invite", invite).await;
    window.press("read-invite").await;
    window.find("join").await;
    window.picture("read-invite").await;
    window.press("join").await;
    let own = window.find("own-fingerprint").await;
    window.picture("waiting").await;
    let fingerprint = own.attr("data-hex").await.unwrap().unwrap();
    let add = ["device", "add", TEAM, &fingerprint, "--wait", "120"];
    alice.tool("treeline-member", &add).unwrap();

    let shows = "return document.querySelectorAll('[data-testid=preview-devices] li').length === 3 \
                 && document.querySelector('[data-testid=preview]').innerText.includes('Alice')";
    window.until("who is inside", shows).await;
    window.picture("admitted").await;
    window.press("enter").await;
    window.say("Hello from the tablet.").await;
    window.reads("Hello from the tablet.").await;
    let tail = [
        "tail",
        "--channel",
        CHANNEL,
        "--from-oldest",
        "--count",
        "1",
        "--json",
    ];
    assert!(
        alice
            .tool("treeline-chat", &tail)
            .unwrap()
            .contains("Hello from the tablet.")
    );
    window.press("show-members").await;
    window
        .until(
            "three devices",
            "return document.querySelectorAll('[data-testid=members] li').length === 3",
        )
        .await;
    window.picture("members-900").await;

    window.press("lock").await;
    window.write("passphrase", "not this one\u{e007}").await;
    window.find("error").await;
    window
        .until(
            "nothing is left on the page",
            "return !document.body.innerText.includes('tablet')",
        )
        .await;
    window.picture("locked").await;
    window
        .run("document.querySelector('[data-testid=passphrase]').select()")
        .await;
    window.unlock(PASSPHRASE).await;
    window.reads("Hello from the tablet.").await;
    window.close().await;
}

async fn create_profile(window: &Window) {
    window.write("user", "Chiara Lind").await;
    window.write("device", "tablet 2").await;
    window.write("passphrase", PASSPHRASE).await;
    window.write("passphrase-again", PASSPHRASE).await;
    window.picture("create-profile").await;
    window.press("create-profile").await;
}
