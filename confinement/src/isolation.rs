//! How well a process is confined, and how that is said: `full`, `partial (what is missing)` or
//! `none (why)`, in the same words in a status, on a control socket and in a log.

use std::fmt;
use std::str::FromStr;

/// How much of what a role promises is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Isolation {
    /// All of it.
    Full,
    /// Some; the text says what is missing.
    Partial(String),
    /// Nothing; the text says why.
    None(String),
}

impl Isolation {
    /// What holds for several processes together, given by name.
    pub fn of_all(parts: &[(&str, Isolation)]) -> Self {
        let lacking: Vec<_> = parts.iter().filter(|(_, p)| *p != Self::Full).collect();
        let told = |(name, part): &&(&str, Self)| match part {
            Self::Full => String::new(),
            Self::Partial(text) => format!("{name}: {text}"),
            Self::None(text) => format!("{name}: not confined: {text}"),
        };
        let text = lacking.iter().map(told).collect::<Vec<_>>().join("; ");
        if lacking.is_empty() {
            Self::Full
        } else if parts.iter().all(|(_, p)| matches!(p, Self::None(_))) {
            Self::None(text)
        } else {
            Self::Partial(text)
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Partial(text) => write!(f, "partial ({text})"),
            Self::None(text) => write!(f, "none ({text})"),
        }
    }
}

/// The text is not one that [`Isolation`] displays, or it would steer the terminal that shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoIsolation;

impl fmt::Display for NoIsolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is not `full`, `partial (…)` or `none (…)` on one line of plain text")
    }
}

impl std::error::Error for NoIsolation {}

impl FromStr for Isolation {
    type Err = NoIsolation;

    fn from_str(text: &str) -> Result<Self, NoIsolation> {
        // Another process says it, and it comes to a person's terminal.
        if text.chars().any(char::is_control) {
            return Err(NoIsolation);
        }
        let inner = |word: &str| {
            let rest = text.strip_prefix(word)?.strip_prefix(" (")?;
            rest.strip_suffix(')').map(str::to_owned)
        };
        match (text, inner("partial"), inner("none")) {
            ("full", ..) => Ok(Self::Full),
            (_, Some(text), _) => Ok(Self::Partial(text)),
            (_, _, Some(text)) => Ok(Self::None(text)),
            _ => Err(NoIsolation),
        }
    }
}

/// What could not be taken away, gathered step by step.
#[derive(Debug, Default)]
pub(crate) struct Missing {
    lines: Vec<String>,
    in_force: bool,
}

impl Missing {
    /// One step, and what it says when it fails.
    pub(crate) fn step<E: fmt::Display>(&mut self, what: &str, result: Result<(), E>) {
        match result {
            Ok(()) => self.in_force = true,
            Err(error) => self.lack(format!("{what}: {error}")),
        }
    }

    pub(crate) fn lack(&mut self, line: impl Into<String>) {
        self.lines.push(line.into());
    }

    pub(crate) fn isolation(self) -> Isolation {
        let text = self.lines.join(", ");
        match (text.is_empty(), self.in_force) {
            (true, _) => Isolation::Full,
            (false, true) => Isolation::Partial(text),
            (false, false) => Isolation::None(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        let partial = Isolation::Partial("no Landlock (the kernel has none)".into());
        for isolation in [Isolation::Full, partial, Isolation::None("macOS".into())] {
            assert_eq!(isolation.to_string().parse(), Ok(isolation));
        }
        for text in ["", "fully", "partial", "partial (", "none"] {
            assert!(text.parse::<Isolation>().is_err(), "{text}");
        }
        for text in [
            "none (\u{1b}[2J)",
            "partial (\n)",
            "none (\u{9b}2J)",
            "full\n",
        ] {
            let error = text.parse::<Isolation>().unwrap_err();
            assert!(error.to_string().contains("plain text"), "{text:?}");
        }
    }

    #[test]
    fn together_they_are_as_good_as_the_worst_and_say_which() {
        let of = |net| Isolation::of_all(&[("secure", Isolation::Full), ("net", net)]);
        assert_eq!(of(Isolation::Full), Isolation::Full);
        let text = of(Isolation::Partial("no Landlock".into())).to_string();
        assert_eq!(text, "partial (net: no Landlock)");
        let none = Isolation::None("not on macOS yet".into());
        let text = of(none.clone()).to_string();
        assert_eq!(text, "partial (net: not confined: not on macOS yet)");
        let text = Isolation::of_all(&[("net", none)]).to_string();
        assert!(text.starts_with("none ("), "{text}");
    }
}
