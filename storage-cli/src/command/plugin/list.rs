//! `plugin list` and `plugin verify`.

use clap::Args;
use serde_json::json;
use storage_core::ErrorKind;
use storage_registry::plugins::{PluginInfo, PluginState};

use super::failed;
use crate::command::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

/// List the plugins of the plugin directory, with why a file is refused.
///
/// A plugin is used if its state is `enabled`. One is `disabled` by the command of that name or by `rollback`,
/// `quarantined` if it ended a program while it was loaded or opened, and `refused` if a check fails; the last column
/// says why. Nothing is loaded to find out.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage plugin list
  storage --json plugin list
  storage --plugin-dir ./plugins plugin list")]
pub(crate) struct List {}

/// Check all plugins again: hashes, signatures, and what the lock file pins.
///
/// Nothing is loaded. The exit status is 5 if a plugin has a problem.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage plugin verify")]
pub(crate) struct Verify {}

impl List {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let manager = plugins.manager()?;
        let list = manager.list().map_err(failed("plugin list"))?;
        if out.is_json() {
            out.json(&json!({"directory": manager.directory(), "plugins": list}))?;
        } else if list.is_empty() {
            out.note(format!("no plugins in {}", manager.directory().display()))?;
        } else {
            let row = |plugin: &PluginInfo| {
                let file = plugin.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
                vec![
                    or_dash(plugin.name.as_ref().map(ToString::to_string)),
                    or_dash(plugin.version.as_ref().map(ToString::to_string)),
                    plugin.state.as_str().to_owned(),
                    file,
                    plugin.reason.as_deref().unwrap_or_default().replace(char::is_control, " "),
                ]
            };
            out.table(&["NAME", "VERSION", "STATE", "FILE", "WHY"], list.iter().map(row).collect())?;
        }
        Ok(Status::Done)
    }
}

impl Verify {
    pub(crate) fn run(&self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        const OPERATION: &str = "plugin verify";

        let list = plugins.manager()?.verify().map_err(failed(OPERATION))?;
        let wrong: Vec<&PluginInfo> =
            list.iter().filter(|plugin| plugin.state == PluginState::Refused).collect();
        if out.is_json() {
            out.json(&json!({"examined": list.len(), "problems": wrong}))?;
        } else {
            for plugin in &wrong {
                let reason = plugin.reason.as_deref().unwrap_or_default().replace(char::is_control, " ");
                out.line(format!("{plugin}: {reason}"))?;
            }
            if wrong.is_empty() {
                out.line(format!("{} plugins examined, no problems", list.len()))?;
            }
        }
        if wrong.is_empty() {
            return Ok(Status::Done);
        }
        let message = format!("{} of {} plugins are refused; install them again", wrong.len(), list.len());
        Err(Failure::new(ErrorKind::Corrupt, OPERATION, message))
    }
}
