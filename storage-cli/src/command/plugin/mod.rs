//! `storage plugin …`: the plugins of the plugin directory, their keys, and what authors of plugins need.

mod change;
mod inspect;
mod keys;
mod list;
mod pack;
mod test;

use clap::Subcommand;
use storage_core::{Error, ErrorKind};

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

/// Install, check, sign and test plugins: storage types in shared libraries.
#[derive(Debug, Subcommand)]
pub(crate) enum Plugin {
    List(list::List),
    Install(change::Install),
    Uninstall(change::Uninstall),
    Update(change::Update),
    Rollback(change::Rollback),
    Verify(list::Verify),
    Enable(change::Enable),
    Disable(change::Disable),
    Inspect(inspect::Inspect),
    Test(test::Test),
    Pack(pack::Pack),
    Keygen(keys::Keygen),
    Sign(keys::Sign),
    Trust(keys::Trust),
    Untrust(keys::Untrust),
    Keys(keys::Keys),
}

impl Plugin {
    pub(crate) fn run(self, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        match self {
            Self::List(list) => list.run(plugins, out),
            Self::Install(install) => install.run(plugins, out),
            Self::Uninstall(uninstall) => uninstall.run(plugins, out),
            Self::Update(update) => update.run(plugins, out),
            Self::Rollback(rollback) => rollback.run(plugins, out),
            Self::Verify(verify) => verify.run(plugins, out),
            Self::Enable(enable) => enable.run(plugins, out),
            Self::Disable(disable) => disable.run(plugins, out),
            Self::Inspect(inspect) => inspect.run(plugins, out),
            Self::Test(test) => test.run(plugins, out),
            Self::Pack(pack) => pack.run(plugins, out),
            Self::Keygen(keygen) => keygen.run(out),
            Self::Sign(sign) => sign.run(out),
            Self::Trust(trust) => trust.run(plugins, out),
            Self::Untrust(untrust) => untrust.run(plugins, out),
            Self::Keys(keys) => keys.run(plugins, out),
        }
    }
}

/// A failure of `operation` on a plugin or key that is known by its name. Messages about plugins say themselves what to
/// do next.
fn failed(operation: &'static str) -> impl Fn(Error) -> Failure {
    move |error| Failure::from(error.operation(operation)).without_hint()
}

/// As [`failed`], on a file that was named: that it is not there is bad input, and nothing that is missing in the
/// plugin directory.
fn failed_on_file(operation: &'static str) -> impl Fn(Error) -> Failure {
    let failed = failed(operation);
    move |error| {
        let missing = error.kind() == ErrorKind::NotFound;
        let failure = failed(error);
        if missing { failure.with_status(Status::BadInput) } else { failure }
    }
}
