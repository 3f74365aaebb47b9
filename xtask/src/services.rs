//! The servers that tests run against: what has to be installed for them.
//!
//! Tests start the servers themselves (`storage_testkit::servers`) and end them.

use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::step::Session;

/// A program that tests start, and the Debian package that has it.
const PROGRAMS: [(&str, &str); 2] = [("redis-server", "redis-server"), ("redis-cli", "redis-tools")];

/// Installs what is missing where this may be done: as root on Debian and its like. Elsewhere says what is missing.
pub(crate) fn install(session: &mut Session) -> Result<()> {
    let missing: Vec<_> = PROGRAMS.iter().filter(|(program, _)| !installed(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    if !(installed("apt-get") && is_root()) {
        bail!("missing: {}. To have them: sudo apt-get install {}", names(&missing), packages.join(" "));
    }
    let apt = |arguments: &[&str]| {
        let mut apt = Command::new("apt-get");
        apt.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    session.run(&mut apt(&["update", "--quiet"]))?;
    let mut arguments = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
    arguments.extend(&packages);
    session.run(&mut apt(&arguments))?;
    match missing.iter().find(|(program, _)| !installed(program)) {
        Some((program, package)) => bail!("the package {package} is installed, and brought no {program}"),
        None => Ok(()),
    }
}

fn names(programs: &[&(&str, &str)]) -> String {
    programs.iter().map(|(program, _)| *program).collect::<Vec<_>>().join(", ")
}

fn installed(program: &str) -> bool {
    let quiet = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    quiet.is_ok_and(|status| status.success())
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").stdin(Stdio::null()).output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
