//! Where plugins come from, and which of them are loaded.

use std::env;
use std::path::PathBuf;
use std::time::Duration;

use storage_plugin::host::LoadLimits;

/// Where plugins come from, and which of them are loaded.
#[derive(Clone, Debug, Default)]
pub struct PluginOptions {
    /// The plugin directory; see [`directory`](Self::directory) for where it is otherwise.
    pub dir: Option<PathBuf>,
    /// Loads plugins that nobody who is trusted has signed, too. For development: a plugin runs with all rights of the
    /// program.
    pub allow_unsigned: bool,
    /// How much patience the program has with plugins.
    pub limits: LoadLimits,
    /// How a plugin that was never loaded here is tried.
    pub trial: TrialOptions,
}

/// How a plugin that was never loaded here is tried: in a process of its own, which it may end without harm.
#[derive(Clone, Debug)]
pub struct TrialOptions {
    /// The program that is run for it: one that calls [`run_trial_if_asked`](super::run_trial_if_asked). Without it,
    /// it is the one that `STORAGE_PLUGIN_TRIAL_PROGRAM` names, else this program itself if it has called that
    /// function, else `storage-plugin-trial` or `storage` in the directory of this program.
    pub program: Option<PathBuf>,
    /// How long the process may take. Then it is killed, and the plugin refused.
    pub limit: Duration,
}

impl Default for TrialOptions {
    /// 20 seconds.
    fn default() -> Self {
        Self { program: None, limit: Duration::from_secs(20) }
    }
}

impl PluginOptions {
    /// The environment variable that names the plugin directory.
    pub const DIR_VARIABLE: &'static str = "STORAGE_PLUGIN_DIR";

    /// The plugin directory: the option, else `STORAGE_PLUGIN_DIR`, else `storage/plugins` in the user's data directory
    /// (`XDG_DATA_HOME`, else `~/.local/share`). None if there is no option and no variable, and the user has no home.
    pub fn directory(&self) -> Option<PathBuf> {
        let dir = self.dir.clone().or_else(|| variable(Self::DIR_VARIABLE)).or_else(|| {
            let data = variable("XDG_DATA_HOME").filter(|path| path.is_absolute());
            let data = data.or_else(|| Some(env::home_dir()?.join(".local/share")));
            data.map(|data| data.join("storage/plugins"))
        })?;
        Some(std::path::absolute(&dir).unwrap_or(dir))
    }
}

/// A path from the environment; an empty one counts as none.
pub(super) fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}
