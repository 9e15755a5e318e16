//! `completion` and `manpage`: this program's words for shells and for man.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Arguments, Failure, other};

/// Prints what makes a shell complete this program's words.
///
/// # Errors
/// None today; a closed stdout ends the process as it does for other programs.
pub fn completion(shell: Shell) -> Result<(), Failure> {
    let mut command = Arguments::command();
    let name = command.get_name().to_owned();
    clap_complete::generate(shell, &mut command, name, &mut io::stdout().lock());
    Ok(())
}

/// Writes a man page for the program and one for each command into a directory.
///
/// # Errors
/// [`Failure::Other`] when it cannot be written.
pub fn manpages(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Arguments::command(), directory))
        .map_err(|error| other(format!("cannot write to {}: {error}", directory.display())))
}
