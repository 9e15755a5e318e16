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

/// No word is among the bytes in whatever case; a word that chance would find there proves nothing
/// and is refused.
pub fn without(words: &[&str], content: &[u8], what: &str) {
    for word in words {
        let one = word.as_bytes();
        // Of 256 values of a byte two are this letter.
        let chances = one.iter().map(|byte| match byte {
            letter if letter.is_ascii_alphabetic() => 2.0 / 256.0,
            _ => 1.0 / 256.0,
        });
        let chance = chances.product::<f64>() * content.len() as f64;
        assert!(
            chance < 1e-4,
            "{word:?} is too short for {} bytes",
            content.len()
        );
        let mut places = content.windows(one.len());
        if let Some(at) = places.position(|place| place.eq_ignore_ascii_case(one)) {
            let around = &content[at.saturating_sub(32)..content.len().min(at + one.len() + 32)];
            panic!("{what} holds {word:?} at {at}: {}", around.escape_ascii());
        }
    }
}

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
            without(WORDS, &content, &path.display().to_string());
        }
    }
    assert!(
        looked > 100_000,
        "only {looked} bytes were there to look at"
    );
}
