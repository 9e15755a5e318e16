//! Looks at part of the arrival order, by an index where a prefix has one and through a window of all
//! rows where it has not.

use proto::Name;
use relay_core::store::{Direction, Page, Scan};
use rusqlite::{Row, params};

use super::SqliteStore;
use super::rows::{self, Damaged, columns, place, to_sql};

/// Rows that one scan looks at, at most, so that a rare prefix cannot hold up the node.
const ROWS: u64 = 2048;

impl SqliteStore {
    /// The page, and rows that should be in it and are damaged: then it is to be read again without.
    pub(super) fn page(&self, scan: &Scan) -> rusqlite::Result<(Page, Vec<Damaged>)> {
        if scan.prefix.bits() >= Name::TEAM_BITS {
            self.page_of_place(scan)
        } else {
            self.page_of_all(scan)
        }
    }

    /// A prefix within one team's path: its index leads straight to the rows.
    fn page_of_place(&self, scan: &Scan) -> rusqlite::Result<(Page, Vec<Damaged>)> {
        let (sql, from, idle) = match scan.direction {
            Direction::Above(from) => (
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM chunks INDEXED BY chunks_by_place
                     WHERE place = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3"
                ),
                from,
                self.last.max(from),
            ),
            Direction::Below(from) => (
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM chunks INDEXED BY chunks_by_place
                     WHERE place = ?1 AND sequence < ?2 ORDER BY sequence DESC LIMIT ?3"
                ),
                from,
                0,
            ),
        };
        let mut query = self.connection.prepare_cached(sql)?;
        let key = place(scan.prefix.first());
        let mut rows = query.query(params![key.as_slice(), to_sql(from), to_sql(ROWS)])?;
        let mut damaged = Vec::new();
        let mut page = Page {
            position: from,
            ..Page::default()
        };
        let mut seen = 0;
        while page.chunks.len() < scan.limit {
            let Some(row) = rows.next()? else {
                page.end = seen < ROWS;
                if page.end {
                    page.position = idle;
                }
                break;
            };
            seen += 1;
            damaged.extend(collect(row, scan, &mut page)?);
        }
        Ok((page, damaged))
    }

    /// A wider prefix: a window of the arrival order, filtered.
    fn page_of_all(&self, scan: &Scan) -> rusqlite::Result<(Page, Vec<Damaged>)> {
        let (sql, from, to) = match scan.direction {
            Direction::Above(from) => (
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM chunks
                     WHERE sequence > ?1 AND sequence <= ?2 AND +name BETWEEN ?3 AND ?4
                     ORDER BY sequence LIMIT ?5"
                ),
                from,
                from.saturating_add(ROWS),
            ),
            Direction::Below(from) => (
                concat!(
                    "SELECT ",
                    columns!(),
                    " FROM chunks
                     WHERE sequence < ?1 AND sequence >= ?2 AND +name BETWEEN ?3 AND ?4
                     ORDER BY sequence DESC LIMIT ?5"
                ),
                from.min(self.last + 1),
                from.min(self.last + 1).saturating_sub(ROWS),
            ),
        };
        let mut query = self.connection.prepare_cached(sql)?;
        let (first, last) = (scan.prefix.first(), scan.prefix.last());
        let (first, last) = (first.to_bytes(), last.to_bytes());
        let limit = scan.limit as i64;
        let bounds = (first.as_slice(), last.as_slice());
        let values = params![to_sql(from), to_sql(to), bounds.0, bounds.1, limit];
        let mut rows = query.query(values)?;
        let mut damaged = Vec::new();
        let mut page = Page {
            position: from,
            ..Page::default()
        };
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            seen += 1;
            damaged.extend(collect(row, scan, &mut page)?);
        }
        // Rows that have expired count for the limit of the query and are not on the page.
        if seen < scan.limit {
            page.position = match scan.direction {
                Direction::Above(_) => to.min(self.last.max(from)),
                Direction::Below(_) => to,
            };
            page.end = match scan.direction {
                Direction::Above(_) => to >= self.last,
                Direction::Below(_) => to == 0,
            };
        }
        Ok((page, damaged))
    }
}

/// Takes a row into the page if its name fits and it has not expired; returns one that is damaged.
fn collect(row: &Row<'_>, scan: &Scan, page: &mut Page) -> rusqlite::Result<Option<Damaged>> {
    page.position = row.get::<_, i64>(0)? as u64;
    let name = row.get(2).map(|bytes| Name(u128::from_be_bytes(bytes)));
    let expiry = row.get::<_, i64>(3);
    let fits = name.is_ok_and(|name| scan.prefix.contains(name));
    let alive = expiry.is_ok_and(|expiry| expiry as u64 > scan.now.millis());
    if !(fits && alive) {
        return Ok(None);
    }
    match rows::read(row)? {
        Ok(chunk) => page.chunks.push(chunk),
        Err(damaged) => return Ok(Some(damaged)),
    }
    Ok(None)
}
