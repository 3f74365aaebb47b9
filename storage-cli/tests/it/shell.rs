//! Runs the binary against a store of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value as Tree;

/// A store in a temporary directory.
pub(crate) struct Shell {
    pub(crate) directory: tempfile::TempDir,
}

/// What a run of the binary left.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) status: i32,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Shell {
    pub(crate) fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    /// The binary, on this store.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_storage"));
        // What is checked here is not power cuts: syncing would only take time.
        command.env("STORAGE_URL", "file:./store?durability=eventual").env("STORAGE_PLUGIN_DIR", "plugins");
        command.env_remove("NO_COLOR").current_dir(self.directory.path());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        self.fed(arguments, b"")
    }

    /// Runs with this on standard input.
    pub(crate) fn fed(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = input.to_vec();
        // The command may end before it has read all.
        let feeding = std::thread::spawn(move || drop(stdin.write_all(&input)));
        let output = child.wait_with_output().unwrap();
        feeding.join().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(!err.contains("panicked"), "{arguments:?}: {err}");
        let status = output.status.code().unwrap_or_else(|| panic!("{arguments:?} was killed: {err}"));
        Run { status, out: output.stdout, err }
    }

    /// Runs what must succeed, and gives its output as text.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).expect(0).text()
    }

    /// Runs what must succeed with `--json`, and gives its output.
    pub(crate) fn json(&self, arguments: &[&str]) -> Tree {
        let arguments: Vec<&str> = ["--json"].iter().chain(arguments).copied().collect();
        serde_json::from_str(&self.ok(&arguments)).unwrap()
    }

    pub(crate) fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        // Failures are told in one line; warnings of skipped lines come before.
        if status != 0 {
            assert!(self.err.ends_with('\n') && !self.err.trim().is_empty(), "{self:?}");
        }
        self
    }

    #[track_caller]
    pub(crate) fn says(self, words: &str) -> Self {
        assert!(self.err.contains(words), "{words:?} is not in {:?}", self.err);
        self
    }

    pub(crate) fn text(self) -> String {
        String::from_utf8(self.out).unwrap()
    }
}
