//! Why a command does not do what it was asked: a code of docs/operations.md and one line that says
//! what, where, and what to do.

use std::io;
use std::path::Path;

use relay::client::ClientError;
use relay::link::connect::ConnectError;
use relay::tls::KeyError;
use thiserror::Error;

/// Why a command ends without success.
#[derive(Debug, Error)]
pub enum Failure {
    /// Some of it was done.
    #[error("{0}")]
    Partial(String),
    /// A mistake on the command line, or the system would not.
    #[error("{0}")]
    General(String),
    /// What is asked for is not there.
    #[error("{0}")]
    NotFound(String),
    /// Somebody else is at it.
    #[error("{0}")]
    Locked(String),
    /// Another key than the expected one.
    #[error("{0}")]
    WrongKey(String),
    /// A relay cannot be reached, or does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// Something is not what was signed.
    #[error("{0}")]
    Unsound(String),
    /// The user ended it.
    #[error("interrupted; run the same command again to go on")]
    Interrupted,
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Partial(_) => 1,
            Self::General(_) => 2,
            Self::NotFound(_) => 10,
            Self::Locked(_) => 11,
            Self::WrongKey(_) => 12,
            Self::Unreachable(_) => 13,
            Self::Unsound(_) => 14,
            Self::Interrupted => 130,
        }
    }

    /// What the system said when a file was to be read or written.
    pub fn file(verb: &str, path: &Path, error: &io::Error) -> Self {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room there",
            _ => "check its owner and mode",
        };
        Self::General(format!(
            "cannot {verb} {}: {error}; {advice}",
            path.display()
        ))
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Connect(ConnectError::WrongKey(_)) => Self::WrongKey(error.to_string()),
            ClientError::Connect(_) => Self::Unreachable(error.to_string()),
            ClientError::Closed { .. } => {
                Self::Unreachable(format!("{error}; run the same command again to go on"))
            }
        }
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Length(_) => Self::WrongKey(error.to_string()),
            KeyError::File { .. } => Self::General(error.to_string()),
        }
    }
}
