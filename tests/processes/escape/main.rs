//! The escape suite: attacks from inside a process that is confined as each of our roles, by the same
//! function with the same tables as the product, and from one that is not confined, where they must
//! succeed. Prints who was refused what by what.
//!
//! It is a program without the test harness: an attacker must be confined before it has a thread. The
//! program starts itself, once for each attack, as root and (where it is root) as nobody; and once more
//! with a kernel that has no Landlock, and with one that has no seccomp, to see that this is said.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    unsafe_code,
    reason = "attacks are system calls that no safe interface offers"
)]

mod attacks;
mod judge;
mod kernel;
mod scene;
mod table;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["--list", ..] => ExitCode::SUCCESS,
        ["victim", home] => scene::victim(home.as_ref()),
        ["confined", home] => scene::confined(home.as_ref()),
        ["attack", who, name, home, victim] => attacks::run(who, name, home.as_ref(), victim),
        _ => judge::run(),
    }
}
