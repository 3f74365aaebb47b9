//! What listings and reports say about plugins.

use std::error::Error as _;
use std::fmt;
use std::path::{Path, PathBuf};

use semver::Version as Semver;
use serde::Serialize;
use smol_str::SmolStr;
use storage_core::Error;

use super::{Digest, Problem, ProblemKind, SignatureState};

/// Whether a plugin of the directory is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PluginState {
    /// It passed all checks; in a [`LoadReport`], it is loaded.
    Enabled,
    /// Switched off by an operator.
    Disabled,
    /// It ended a program while it was loaded or opened.
    Quarantined,
    /// A check failed.
    Refused,
}

impl PluginState {
    /// The stable name, such as `quarantined`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Quarantined => "quarantined",
            Self::Refused => "refused",
        }
    }
}

/// A plugin of the plugin directory, or a file there that is none.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct PluginInfo {
    /// The library, or the directory of the package.
    pub path: PathBuf,
    /// The type's name; none if it cannot be read.
    pub name: Option<SmolStr>,
    /// The type's version; none if it cannot be read.
    pub version: Option<Semver>,
    /// The library's digest; none if it cannot be read.
    pub sha256: Option<Digest>,
    /// Whether it is used.
    pub state: PluginState,
    /// Why it is not used: one line for people.
    pub reason: Option<String>,
    /// The kind of the problem, if one of its checks failed.
    pub problem: Option<ProblemKind>,
    /// Whether somebody who is trusted vouches for it.
    pub signature: Option<SignatureState>,
    /// When it was installed, in RFC 3339; none if it was put there by hand.
    pub installed_at: Option<String>,
    /// What it was installed from.
    pub source: Option<String>,
}

impl PluginInfo {
    /// Of a file of which nothing is known yet.
    pub(super) fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            name: None,
            version: None,
            sha256: None,
            state: PluginState::Enabled,
            reason: None,
            problem: None,
            signature: None,
            installed_at: None,
            source: None,
        }
    }

    pub(super) fn refuse(&mut self, problem: Problem) {
        self.problem = Some(problem.kind);
        self.set(PluginState::Refused, problem.message);
    }

    /// As [`refuse`](Self::refuse), for what was met when it was tried and loaded.
    pub(super) fn fail(&mut self, error: &Error) {
        let problem = error.source().and_then(|source| source.downcast_ref::<Problem>());
        self.problem = problem.map(|problem| problem.kind);
        self.set(PluginState::Refused, error.message());
    }

    pub(super) fn disable(&mut self) {
        self.set(PluginState::Disabled, "it was disabled; `storage plugin enable` lets it be loaded again");
    }

    pub(super) fn set(&mut self, state: PluginState, reason: impl Into<String>) {
        self.state = state;
        self.reason = Some(reason.into());
    }

    /// Whether it is the plugin of this name and, if one is given, version.
    pub(super) fn is(&self, name: &str, version: Option<&Semver>) -> bool {
        self.name.as_deref() == Some(name)
            && version.is_none_or(|version| self.version.as_ref() == Some(version))
    }
}

impl fmt::Display for PluginInfo {
    /// Name and version, such as `redis@1.2.0`; the path if they are not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.version) {
            (Some(name), Some(version)) => write!(f, "{name}@{version}"),
            _ => write!(f, "{}", self.path.display()),
        }
    }
}

/// What [`Registry::load_plugins`](crate::Registry::load_plugins) did.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct LoadReport {
    /// The plugin directory; none if it could not be told where it is.
    pub directory: Option<PathBuf>,
    /// Every plugin, and every file that should be one, in the order in which they were looked at.
    pub plugins: Vec<PluginInfo>,
}

impl LoadReport {
    /// Those that are loaded.
    pub fn loaded(&self) -> impl Iterator<Item = &PluginInfo> {
        self.in_state(PluginState::Enabled)
    }

    /// Those that are refused; each says why.
    pub fn refused(&self) -> impl Iterator<Item = &PluginInfo> {
        self.in_state(PluginState::Refused)
    }

    fn in_state(&self, state: PluginState) -> impl Iterator<Item = &PluginInfo> {
        self.plugins.iter().filter(move |plugin| plugin.state == state)
    }
}
