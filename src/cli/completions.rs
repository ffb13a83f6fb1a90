//! `completions` and `man`: the command line, described for shells and `man`.

use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Args, Command, CommandFactory};
use clap_complete::Shell;

use super::{Cli, Context, Exit};
use crate::error::Error;

/// Print a completion script for a shell; it knows the names of the tables too.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl completions bash > ~/.local/share/bash-completion/completions/samsara-etl
  samsara-etl completions zsh > ~/.zfunc/_samsara-etl
  samsara-etl completions fish > ~/.config/fish/completions/samsara-etl.fish")]
pub(super) struct Completions {
    /// The shell
    shell: Shell,
}

/// Arguments that are names of tables.
const TABLES: &[&str] = &[
    "table",
    "days_of",
    "full_refresh",
    "accept_shrunken",
    "accept_duplicates",
];

impl Completions {
    pub(super) fn execute(self, context: &Context) -> Result<Exit, Error> {
        let catalog = context.catalog()?;
        // clap keeps names for as long as the program runs, which ends with this.
        let names = catalog.models().map(|model| &*model.name.clone().leak());
        let mut tables: Vec<&'static str> = names.collect();
        tables.sort_unstable();
        let mut command = with_tables(Cli::command(), &tables);
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, "samsara-etl", &mut script);
        super::output::print_exact(String::from_utf8_lossy(&script))?;
        Ok(Exit::Success)
    }
}

/// The same command line, with the names of all tables.
fn with_tables(command: Command, tables: &[&'static str]) -> Command {
    let command = command.mut_subcommands(|command| with_tables(command, tables));
    command.mut_args(|argument| {
        if TABLES.contains(&argument.get_id().as_str()) {
            argument.value_parser(PossibleValuesParser::new(tables.to_vec()))
        } else {
            argument
        }
    })
}

/// Print the manual page, or write one for each command.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  samsara-etl man | man -l -
  samsara-etl man --out-dir ~/.local/share/man/man1")]
pub(super) struct Man {
    /// Write samsara-etl.1, samsara-etl-run.1 and so on into this folder
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
}

impl Man {
    pub(super) fn execute(self) -> Result<Exit, Error> {
        let command = Cli::command();
        let fault = |what: &str| {
            let what = what.to_string();
            move |source| Error::System { what, source }
        };
        match self.out_dir {
            Some(folder) => {
                std::fs::create_dir_all(&folder)
                    .and_then(|()| clap_mangen::generate_to(command, &folder))
                    .map_err(fault(&format!(
                        "cannot write manual pages to {}",
                        folder.display()
                    )))?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(command)
                    .render(&mut page)
                    .map_err(fault("cannot write the manual page"))?;
                super::output::print_exact(String::from_utf8_lossy(&page))?;
            }
        }
        Ok(Exit::Success)
    }
}
