//! The printed table: attack by role, refused by what.

use std::collections::BTreeSet;

use confinement::Role;

/// Rows of equal cells are one row when they are one attack with many faces.
pub const FAMILY: &str = "socket of family ";

pub struct Table {
    rows: Vec<(String, Vec<String>)>,
    families: Vec<Vec<String>>,
}

impl Table {
    pub fn new() -> Self {
        Self {
            rows: Vec::new(),
            families: Vec::new(),
        }
    }

    pub fn add(&mut self, name: &str, cells: Vec<String>) {
        if name.starts_with(FAMILY) {
            self.families.push(cells);
        } else {
            self.rows.push((name.to_owned(), cells));
        }
    }

    pub fn print(mut self) {
        let columns = Role::ALL.len() + 1;
        let cells = (0..columns).map(|column| {
            let kinds: BTreeSet<_> = self
                .families
                .iter()
                .map(|row| row[column].clone())
                .collect();
            if kinds.len() > 3 {
                format!("{} ways", kinds.len())
            } else {
                kinds.into_iter().collect::<Vec<_>>().join("/")
            }
        });
        let name = format!("sockets of {} more families", self.families.len());
        let cells = cells.collect();
        self.rows.push((name, cells));
        let roles = Role::ALL.iter().map(|role| role.name().to_owned());
        let heads: Vec<_> = std::iter::once("control".to_owned()).chain(roles).collect();
        self.rows.insert(0, ("attack".into(), heads));
        let width = |column: usize| {
            self.rows
                .iter()
                .map(|(_, row)| row[column].len())
                .max()
                .unwrap()
        };
        let widths: Vec<_> = (0..columns).map(width).collect();
        let first = self.rows.iter().map(|(name, _)| name.len()).max().unwrap();
        for (name, row) in &self.rows {
            let cells = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            println!("{name:<first$} | {}", cells.collect::<Vec<_>>().join(" | "));
        }
    }
}

/// The usual name of an error.
pub fn errno(number: i32) -> String {
    let names = [
        (0, "nothing"),
        (libc::EPERM, "EPERM"),
        (libc::ENOENT, "ENOENT"),
        (libc::ESRCH, "ESRCH"),
        (libc::EIO, "EIO"),
        (libc::EBADF, "EBADF"),
        (libc::EACCES, "EACCES"),
        (libc::EINVAL, "EINVAL"),
        (libc::ENOSYS, "ENOSYS"),
        (libc::EXDEV, "EXDEV"),
        (libc::EAFNOSUPPORT, "EAFNOSUPPORT"),
        (libc::ESOCKTNOSUPPORT, "ESOCKTNOSUPPORT"),
        (libc::EPROTONOSUPPORT, "EPROTONOSUPPORT"),
        (libc::EPROTOTYPE, "EPROTOTYPE"),
        (libc::ECONNREFUSED, "ECONNREFUSED"),
    ];
    let name = names.iter().find(|(value, _)| *value == number);
    name.map_or_else(|| format!("error {number}"), |(_, name)| (*name).to_owned())
}
