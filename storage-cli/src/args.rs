//! The command line itself.

use std::ffi::OsString;

use clap::Parser;

use crate::command::Command;
use crate::plugins::PluginArgs;

const AFTER: &str = "\
Exit status:
  0  done
  1  a record, collection or index is not there
  2  bad input or usage
  3  a precondition failed, or another writer got in between
  4  the backend is unavailable, busy, or took too long
  5  anything else

Environment:
  STORAGE_URL         the store, unless --store names one
  STORAGE_PLUGIN_DIR  the plugin directory, unless --plugin-dir names one
  NO_COLOR            no colours on a terminal

Examples:
  storage import countries countries.ndjson --key code
  storage get countries CH
  storage query countries --filter '{\"region\":\"Europe\"}' --sort population.count:desc
  storage export --output backup.ndjson

A key that begins with a dash follows `--`: storage get users -- -ada";

/// Keep, find and move records in any store.
#[derive(Debug, Parser)]
#[command(name = "storage", version, after_long_help = AFTER, arg_required_else_help = true)]
#[command(propagate_version = true, max_term_width = 110, infer_subcommands = false)]
pub(crate) struct Cli {
    /// The store's URL, such as file:./data or memory:
    #[arg(
        long,
        global = true,
        value_name = "URL",
        env = "STORAGE_URL",
        default_value = "file:./storage-data"
    )]
    #[arg(hide_env_values = true, help_heading = "Global options")]
    pub(crate) store: String,
    /// Print JSON of a documented, stable shape, errors included
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) plugins: PluginArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whether errors of the command line itself are to be JSON, told before it is understood.
pub(crate) fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        let examples = |command: &clap::Command| {
            let mut command = command.clone();
            command.render_long_help().to_string().contains("Example")
        };
        for command in Cli::command().get_subcommands() {
            let nested: Vec<_> = command.get_subcommands().collect();
            for command in if nested.is_empty() { vec![command] } else { nested } {
                assert!(examples(command), "{} has no example", command.get_name());
            }
        }
    }
}
