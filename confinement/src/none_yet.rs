//! A platform without an implementation. docs/threats.md has the plan for each.

use crate::isolation::Missing;
use crate::{Places, Role};

pub(crate) fn enclose(_: Role, _: &Places, missing: &mut Missing) {
    lack(missing);
}

pub(crate) fn seal(_: Role, _: &mut Missing) {}

pub(crate) fn hide(missing: &mut Missing) {
    lack(missing);
}

fn lack(missing: &mut Missing) {
    missing.lack(format!("none yet on {}", std::env::consts::OS));
}
