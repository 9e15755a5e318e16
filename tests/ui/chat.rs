//! Two people write to each other from two windows.

use std::fs;

use xtask::people::{CHANNEL, Person, provision};
use xtask::tree::Tree;

use crate::desk::{Theme, Window, tell};

const WIDE: (u32, u32) = (1280, 800);

async fn both(people: &[Person; 2], themes: [Theme; 2]) -> [Window; 2] {
    let alice = Window::open(&people[0].directory, WIDE, themes[0]).await;
    let bob = Window::open(&people[1].directory, WIDE, themes[1]).await;
    alice.unlock(&people[0].passphrase().unwrap()).await;
    bob.unlock(&people[1].passphrase().unwrap()).await;
    [alice, bob]
}

/// What Alice asks and Bob answers, round by round.
const SAID: [(&str, &str); 10] = [
    (
        "Is the water back in wing B?",
        "Since noon. Please boil it until tomorrow.",
    ),
    (
        "How long does the generator last?",
        "Nine hours with what is in the tank.",
    ),
    (
        "I need two more cots on the third floor.",
        "They are on their way with Chiara.",
    ),
    (
        "Did the pharmacy get our list?",
        "Yes: “all there, except the saline”.",
    ),
    (
        "Then we share with ward 5.",
        "I told them. They keep forty bags for us.",
    ),
    (
        "The uplink is down again.",
        "This still reaches me over the house network ☺",
    ),
    (
        "Who has the night shift?",
        "Dr. Ó Briain and Zeynep, from 21:00.",
    ),
    ("Good. Is bed 12 free now?", "Free and cleaned."),
    ("Thank you! Coffee at four?", "At four, same place."),
    ("See you there.", "See you."),
];

/// What is typed in one window is read in the other, ten times in a row, each time in new windows.
#[tokio::test(flavor = "multi_thread")]
async fn what_one_types_the_other_reads() {
    tell(ten_rounds).await;
}

async fn ten_rounds() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::start(&folder.path().join("relays")).unwrap();
    let people = provision(folder.path(), &tree).unwrap();
    for (round, (question, answer)) in SAID.iter().enumerate() {
        let themes = if round % 2 == 0 {
            [Theme::Light, Theme::Dark]
        } else {
            [Theme::Dark, Theme::Light]
        };
        let [alice, bob] = both(&people, themes).await;
        alice.say(question).await;
        alice.reads(question).await;
        bob.reads(question).await;
        bob.say(answer).await;
        alice.reads(answer).await;
        // The answer's delivery goes all the way without anybody's doing.
        let arrived = "return [...document.querySelectorAll('[data-testid=delivery]')].at(-1)?.dataset.state === 'origin'";
        bob.until("delivered to the origin", arrived).await;
        bob.until(
            "the network is there, and nothing waits",
            "const pill = document.querySelector('[data-testid=connectivity]'); \
             return pill.dataset.reach === 'cloud' && !/\\d/.test(pill.innerText)",
        )
        .await;
        let shown = alice.texts().await;
        assert_eq!(shown.len(), 2 * (round + 1), "{shown:?}");
        assert_eq!(shown, bob.texts().await);
        if round + 1 == SAID.len() {
            bob.picture("window-light").await;
            alice.picture("window-dark").await;
        }
        alice.close().await;
        bob.close().await;
    }
}

/// A long history is paged through; the page holds a part of it, and nothing jumps.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_history_is_paged_through() {
    tell(a_long_history).await;
}

async fn a_long_history() {
    let folder = tempfile::tempdir().unwrap();
    let tree = Tree::start(&folder.path().join("relays")).unwrap();
    let people = provision(folder.path(), &tree).unwrap();
    let input = folder.path().join("lines");
    let lines: String = (0..400).map(|n| format!("line {n}\n")).collect();
    fs::write(&input, lines).unwrap();
    let input = input.to_string_lossy().into_owned();
    let send = [
        "send",
        "--channel",
        CHANNEL,
        "--lines",
        &input,
        "--wait",
        "lan",
    ];
    people[0].tool("treeline-chat", &send).unwrap();

    let bob = Window::open(&people[1].directory, WIDE, Theme::Light).await;
    bob.unlock(&people[1].passphrase().unwrap()).await;
    bob.until(
        "all arrived",
        "return document.querySelectorAll('article').length > 0",
    )
    .await;
    bob.reads("line 399").await;
    let up = "const p = document.querySelector('[data-testid=timeline]'); p.scrollTop = 0; \
              return [...document.querySelectorAll('[data-testid=message-text]')][0]?.textContent === 'line 0'";
    bob.until("the beginning", up).await;
    let held = bob.texts().await;
    assert!(held.len() <= 240, "{} messages are held", held.len());
    let first: usize = held[0].strip_prefix("line ").unwrap().parse().unwrap();
    let expected: Vec<_> = (first..first + held.len())
        .map(|n| format!("line {n}"))
        .collect();
    assert_eq!(held, expected);
    bob.close().await;
}
