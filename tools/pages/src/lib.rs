//! `completion` and `manpage`: a program's own words for shells and for man. Programs on both sides of the
//! wall between plaintext and network have the two commands, so this crate knows neither side.

#![forbid(unsafe_code)]

use std::fs;
use std::io;
use std::path::PathBuf;

use clap::{CommandFactory, Subcommand};
use clap_complete::Shell;

/// The two commands.
#[derive(Debug, Clone, Subcommand)]
pub enum Pages {
    /// Print what makes a shell complete this program's words
    Completion {
        /// Which shell.
        shell: Shell,
    },
    /// Write a man page for the program and one for each command
    Manpage {
        /// Where to; made when it is not there.
        dir: PathBuf,
    },
}

impl Pages {
    /// Prints or writes the pages of the program whose command line is `C`.
    ///
    /// # Errors
    /// One line: the directory that cannot be written to.
    pub fn write<C: CommandFactory>(&self) -> Result<(), String> {
        let mut command = C::command();
        match self {
            Self::Completion { shell } => {
                let name = command.get_name().to_owned();
                clap_complete::generate(*shell, &mut command, name, &mut io::stdout().lock());
                Ok(())
            }
            Self::Manpage { dir } => fs::create_dir_all(dir)
                .and_then(|()| clap_mangen::generate_to(command, dir))
                .map_err(|error| format!("cannot write to {}: {error}", dir.display())),
        }
    }
}
