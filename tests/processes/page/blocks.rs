//! What docs/operations.md holds of commands: its code blocks by heading, and the words in its code
//! spans. How they are run is another's business.

use std::fs;

/// A code block.
pub struct Block {
    /// The heading that it stands under.
    pub heading: String,
    /// What it holds.
    pub text: String,
}

fn page() -> String {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations.md");
    fs::read_to_string(path).unwrap()
}

/// The code blocks of the page, in their order.
pub fn blocks() -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut heading = String::new();
    let mut open: Option<String> = None;
    for line in page().lines() {
        if line.starts_with("```") {
            match open.take() {
                Some(text) => blocks.push(Block {
                    heading: heading.clone(),
                    text,
                }),
                None => open = Some(String::new()),
            }
        } else if let Some(text) = &mut open {
            text.push_str(line);
            text.push('\n');
        } else if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim().to_owned();
        }
    }
    assert!(open.is_none(), "the last code block has no end");
    blocks
}

/// The blocks under one heading.
pub fn under(heading: &str) -> Vec<String> {
    let blocks = blocks().into_iter();
    let found = blocks.filter(|block| block.heading == heading);
    let texts: Vec<String> = found.map(|block| block.text).collect();
    assert!(!texts.is_empty(), "no code stands under {heading}");
    texts
}

/// Puts values in the place of the page's words for them; each word has to be there.
pub fn filled(text: &str, values: &[(&str, &str)]) -> String {
    let mut filled = text.to_owned();
    for (word, value) in values {
        assert!(filled.contains(word), "{word} is not in: {filled}");
        filled = filled.replace(word, value);
    }
    filled
}

/// The code spans of the page: what stands between single backquotes.
pub fn spans() -> Vec<String> {
    let mut text = String::new();
    let mut inside = false;
    for line in page().lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            text.push_str(line);
            text.push('\n');
        }
    }
    let parts = text.split('`').skip(1).step_by(2);
    parts.map(|part| part.replace('\n', " ")).collect()
}

/// The first cells of the page's table under a heading.
pub fn first_cells(heading: &str) -> Vec<String> {
    let page = page();
    let from = page.find(&format!("# {heading}\n")).unwrap();
    let section = &page[from + 2..];
    let section = section.split("\n## ").next().unwrap();
    let lines = section.lines().filter(|line| line.starts_with("| `"));
    let cells = lines.filter_map(|line| line.split(" | ").next());
    cells
        .map(|cell| cell.trim_start_matches("| ").to_owned())
        .collect()
}
