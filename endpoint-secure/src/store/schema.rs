//! The tables of `secure.db`, and nothing that reads or writes them.
//!
//! In the clear stand only what relays see or could know (a feed's device and
//! number, when a message was sent), how far it came, and ciphertext that relays hold too. Row keys of everything
//! else are hidden, values are sealed (`seal`).

/// The version of these tables, in SQLite's `user_version`.
pub const VERSION: i64 = 1;

/// How a connection is set up: FULL, because NORMAL loses acknowledged rows on a power cut.
pub const PRAGMAS: &str = "
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA secure_delete = ON;
PRAGMA foreign_keys = ON;
PRAGMA temp_store = MEMORY;
";

/// All tables.
pub const TABLES: &str = "
CREATE TABLE record (
    kind INTEGER NOT NULL,
    row BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (kind, row)
) STRICT, WITHOUT ROWID;

CREATE TABLE mls (
    namespace INTEGER NOT NULL,
    row BLOB NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (namespace, row)
) STRICT, WITHOUT ROWID;

CREATE TABLE message (
    channel INTEGER NOT NULL,
    device INTEGER NOT NULL,
    number INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    sent_ms INTEGER NOT NULL,
    shown INTEGER NOT NULL,
    own INTEGER NOT NULL,
    delivery INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (channel, device, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX message_time ON message (channel, shown, sent_ms, device, number);

CREATE TABLE outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    name BLOB NOT NULL UNIQUE,
    chunk BLOB NOT NULL,
    tier INTEGER NOT NULL,
    channel INTEGER NOT NULL,
    device INTEGER NOT NULL,
    first INTEGER NOT NULL
) STRICT;
CREATE INDEX outbox_message ON outbox (channel, device, first);

CREATE TABLE pending (
    name BLOB PRIMARY KEY,
    chunk BLOB NOT NULL
) STRICT, WITHOUT ROWID;
";
