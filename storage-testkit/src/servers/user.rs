//! The user as whom servers run that refuse to run as root.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::{fs, io};

use storage_core::{Error, ErrorKind, Result};

/// A user of this machine who is not root.
#[derive(Clone, Copy, Debug)]
pub(super) struct User {
    id: u32,
    group: u32,
}

impl User {
    /// The first of these users that the machine has; `None` if the tests do not run as root, and nobody else is needed.
    pub(super) fn instead_of_root(names: &[&str]) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = names.iter().find_map(|name| users.lines().find_map(|line| Self::parse(line, name)));
        found.map(Some).ok_or_else(|| {
            let message =
                format!("the server refuses to run as root, and there is no user {}", names.join(" or "));
            Error::new(ErrorKind::Unavailable, message)
        })
    }

    /// Has a program run as this user, in none of root's groups.
    pub(super) fn run(self, command: &mut Command) {
        command.uid(self.id).gid(self.group);
    }

    /// Gives a file or a directory to this user.
    pub(super) fn own(self, path: &Path) -> io::Result<()> {
        std::os::unix::fs::chown(path, Some(self.id), Some(self.group))
    }

    /// `name:password:id:group:…`
    fn parse(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.strip_prefix(name)?.strip_prefix(':')?.split(':').skip(1);
        Some(Self { id: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_the_whole_name() {
        let parse = |line| User::parse(line, "postgres").map(|user| (user.id, user.group));
        assert_eq!(parse("postgres:x:101:104:administrator:/var/lib/postgresql:/bin/bash"), Some((101, 104)));
        assert_eq!(parse("postgresql:x:101:104::/:/bin/sh"), None);
        assert_eq!(parse("postgres:x:many:104"), None);
    }
}
