//! Running commands one after the other, with the time each took and a summary at the end.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The steps of one run of `cargo xtask`.
pub(crate) struct Session {
    started: Instant,
    done: Vec<(String, Duration)>,
    notes: Vec<String>,
}

impl Session {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), done: Vec::new(), notes: Vec::new() }
    }

    /// Says something in the summary, such as what was not run.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// Runs a command with its output on the terminal; an error if it fails.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<()> {
        self.timed(command, |command| {
            let status = command.status()?;
            Ok((status.success(), ()))
        })
    }

    /// As [`run`](Self::run), and hands each line of the command's output to `look` while passing it on.
    pub(crate) fn watch(&mut self, command: &mut Command, look: impl FnMut(&str) + Send) -> Result<()> {
        let look = std::sync::Mutex::new(look);
        self.timed(command, |command| {
            let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            let (out, err) = (child.stdout.take(), child.stderr.take());
            std::thread::scope(|scope| {
                scope.spawn(|| pass_on(out, std::io::stdout(), &look));
                pass_on(err, std::io::stderr(), &look);
            });
            Ok((child.wait()?.success(), ()))
        })
    }

    /// Runs a command and returns what it wrote to its standard output.
    pub(crate) fn output(&mut self, command: &mut Command) -> Result<String> {
        self.timed(command, |command| {
            let output = command.stderr(Stdio::inherit()).output()?;
            Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
        })
    }

    fn timed<T>(
        &mut self,
        command: &mut Command,
        run: impl FnOnce(&mut Command) -> std::io::Result<(bool, T)>,
    ) -> Result<T> {
        let shown = show(command);
        eprintln!("\n\u{25b8} {shown}");
        let started = Instant::now();
        let (ok, result) = run(command).with_context(|| format!("cannot start: {shown}"))?;
        if !ok {
            bail!("failed. To run it again: {shown}");
        }
        self.done.push((shown, started.elapsed()));
        Ok(result)
    }

    /// Prints the summary and turns the result into an exit status.
    pub(crate) fn finish(self, result: Result<()>) -> ExitCode {
        eprintln!();
        for (command, took) in &self.done {
            eprintln!("{:>8.1} s  {command}", took.as_secs_f64());
        }
        for note in &self.notes {
            eprintln!("{note}");
        }
        let total = self.started.elapsed().as_secs_f64();
        match result {
            Ok(()) => {
                eprintln!("{total:>8.1} s  all passed");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{total:>8.1} s  FAILED\n{error:#}");
                ExitCode::FAILURE
            }
        }
    }
}

/// The cargo that runs this program.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args);
    forget_package(&mut command);
    command.current_dir(crate::workspace::root());
    command
}

/// Leaves out the settings of the package under which `cargo run` started this program: they are not those of the
/// next one.
pub(crate) fn forget_package(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR") {
            command.env_remove(name);
        }
    }
}

fn pass_on(from: Option<impl Read>, mut to: impl Write, look: &std::sync::Mutex<impl FnMut(&str)>) {
    let Some(from) = from else { return };
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while matches!(from.read_until(b'\n', &mut line), Ok(n) if n > 0) {
        // A closed terminal is no reason to stop the tests.
        let _ = to.write_all(&line).and_then(|()| to.flush());
        if let Ok(mut look) = look.lock() {
            look(String::from_utf8_lossy(&line).trim_end());
        }
        line.clear();
    }
}

/// The command as one would type it: variables it sets, program without its directory, arguments.
fn show(command: &Command) -> String {
    let word = |text: &OsStr| {
        let text = text.to_string_lossy();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,+@%^".contains(c);
        if !text.is_empty() && text.chars().all(plain) {
            text.into_owned()
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    };
    // Where programs are found is a matter of this program, and too long to read.
    let sets = command
        .get_envs()
        .filter(|(name, _)| *name != "PATH")
        .filter_map(|(name, value)| value.map(|value| format!("{}={}", name.to_string_lossy(), word(value))));
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program());
    let args: Vec<_> = command.get_args().collect();
    let words: Vec<String> = match args.as_slice() {
        // A line for the shell is shown as the line.
        [.., flag, line] if *flag == "-c" => vec![line.to_string_lossy().into_owned()],
        _ => std::iter::once(program).chain(args).map(word).collect(),
    };
    sets.chain(words).collect::<Vec<_>>().join(" ")
}
