//! What is kept on whose account, beside the chunks it is the sum of.

use std::collections::{BTreeMap, BTreeSet};

use proto::{GrantId, Name};
use relay_core::store::{Account, Usage};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::rows::to_sql;

/// What a transaction does to the accounts, written at its end.
#[derive(Default)]
pub(super) struct Ledger {
    added: BTreeMap<Account, Usage>,
    removed: BTreeMap<Account, Usage>,
    pub(super) bytes_added: u64,
    pub(super) bytes_removed: u64,
}

impl Ledger {
    pub(super) fn add(&mut self, name: Name, grant: GrantId, usage: Usage) {
        self.bytes_added += usage.bytes;
        for account in Account::of(name, grant) {
            self.added.entry(account).or_default().add(usage);
        }
    }

    pub(super) fn remove(&mut self, name: Name, grant: GrantId, usage: Usage) {
        self.bytes_removed += usage.bytes;
        for account in Account::of(name, grant) {
            self.removed.entry(account).or_default().add(usage);
        }
    }

    pub(super) fn write(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let none = Usage::default();
        let accounts: BTreeSet<_> = self.added.keys().chain(self.removed.keys()).collect();
        for account in accounts {
            let mut usage = read_usage(transaction, *account)?;
            usage.add(*self.added.get(account).unwrap_or(&none));
            usage.take(*self.removed.get(account).unwrap_or(&none));
            if usage == none {
                transaction
                    .prepare_cached("DELETE FROM accounts WHERE account = ?1")?
                    .execute([account.key().as_slice()])?;
            } else {
                transaction
                    .prepare_cached(
                        "INSERT INTO accounts (account, bytes, weight) VALUES (?1, ?2, ?3)
                         ON CONFLICT (account) DO UPDATE
                         SET bytes = excluded.bytes, weight = excluded.weight",
                    )?
                    .execute(params![
                        account.key().as_slice(),
                        to_sql(usage.bytes),
                        usage.weight.to_be_bytes().as_slice()
                    ])?;
            }
        }
        Ok(())
    }
}

/// What is kept on one.
pub(super) fn read_usage(connection: &Connection, account: Account) -> rusqlite::Result<Usage> {
    let usage = connection
        .prepare_cached("SELECT bytes, weight FROM accounts WHERE account = ?1")?
        .query_row([account.key().as_slice()], |row| {
            Ok(Usage {
                bytes: row.get::<_, i64>(0)? as u64,
                weight: u128::from_be_bytes(row.get(1)?),
            })
        })
        .optional()?;
    Ok(usage.unwrap_or_default())
}

/// Bytes of all chunks.
pub(super) fn all_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    let bytes: i64 = connection.query_row(
        "SELECT coalesce(sum(bytes), 0) FROM accounts WHERE account >= x'02'",
        [],
        |row| row.get(0),
    )?;
    Ok(bytes as u64)
}
