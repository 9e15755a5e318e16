//! Text that must not be seen: the passphrase on its way through the door.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

/// A passphrase. Its memory is overwritten when it is dropped, and `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(ts_rs::TS))]
#[serde(transparent)]
pub struct Passphrase(String);

impl Passphrase {
    /// Takes the text over.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text itself, to derive a key from and nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl Drop for Passphrase {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Passphrase(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        let shown = format!("{:?}", Passphrase::new("correct horse".into()));
        assert_eq!(shown, "Passphrase(..)");
    }
}
