//! P5, P7: no file of a relay, of Net, or of a locked Secure holds a word of the conversation.

use crate::scene::{Scene, files};

const TEXTS: &[&str] = &[
    "the quarantine begins at seventeen hundred",
    "Zweibettzimmer vierhundertzwölf bleibt gesperrt",
];

/// What must be found nowhere: words that no file format has by chance.
const WORDS: &[&str] = &[
    "quarantine",
    "seventeen",
    "hundred",
    "Zweibettzimmer",
    "vierhundert",
    "gesperrt",
    "Harbour Hospital",
    "Ward 3",
    "ward laptop",
    "general",
    "breakfast",
];

#[test]
fn no_file_holds_a_word() {
    let scene = Scene::new();
    for (turn, text) in TEXTS.iter().enumerate() {
        scene.say(turn % 2, text);
    }
    assert!(scene.history(0, 2).contains("quarantine") && scene.history(1, 2).contains("gesperrt"));

    let mut looked = 0;
    for part in ["relays", "alice", "bob"] {
        for (path, content) in files(&scene.folder().join(part)) {
            looked += content.len();
            for word in WORDS {
                let found = content
                    .windows(word.len())
                    .any(|at| at.eq_ignore_ascii_case(word.as_bytes()));
                assert!(!found, "{} holds {word:?}", path.display());
            }
        }
    }
    assert!(
        looked > 100_000,
        "only {looked} bytes were there to look at"
    );
}
