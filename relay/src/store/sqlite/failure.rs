//! What SQLite says, as one line for people: what, where, what to do.

use relay_core::store::StoreError;
use rusqlite::ErrorCode;

pub(super) fn damaged(path: &str, why: impl std::fmt::Display) -> StoreError {
    let why = why.to_string().replace('\n', " ");
    StoreError::Damaged(format!(
        "the store {path} is damaged ({why}); move it away and start again, or restore a backup"
    ))
}

pub(super) fn explain(path: &str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full(format!(
            "no room for the store {path}: nothing new is accepted until its disk has some"
        )),
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::Busy(format!(
            "the store {path} is in use by another process; stop that one, or choose another \
             directory"
        )),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => damaged(path, error),
        None if is_of_another_type(&error) => damaged(path, error),
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            StoreError::Broken(format!(
                "cannot open the store {path} ({error}); check its directory's owner and mode"
            ))
        }
        _ => StoreError::Broken(format!("the store {path} failed: {error}")),
    }
}

/// Whether a column holds what nobody writes there.
fn is_of_another_type(error: &rusqlite::Error) -> bool {
    matches!(
        error,
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..)
    )
}
