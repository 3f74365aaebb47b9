//! SecantusDB, the MongoDB server that tests start, in a Python environment of its own: nobody packages `mongod` where
//! everybody can install it from.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::step::Session;

/// The version with which the tests pass. What is known of it is in docs/mongodb-stand-in.md.
const VERSION: &str = "0.7.0b3";

/// Where `storage_testkit::servers::MongoServer` looks for it, below cargo's target directory and `services`.
const DIRECTORY: &str = "secantusdb";

/// Installs it from PyPI, unless it is there in this version.
pub(crate) fn install(session: &mut Session, services: &Path) -> Result<()> {
    let directory = services.join(DIRECTORY);
    // Written last, so that what is there without it is the rest of an installation that failed.
    let stamp = directory.join("version");
    if fs::read_to_string(&stamp).is_ok_and(|version| version == VERSION) {
        return Ok(());
    }
    session.run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&directory))?;
    let mut pip = Command::new(directory.join("bin/pip"));
    session.run(pip.args(["install", "--quiet", "--no-input", &format!("secantusdb=={VERSION}")]))?;
    fs::write(&stamp, VERSION).with_context(|| stamp.display().to_string())
}
