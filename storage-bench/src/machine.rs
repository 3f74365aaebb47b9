//! What a reader needs to judge the numbers: the machine, the system, the file system.

use std::path::Path;
use std::process::Command;

use serde::Serialize;

/// Facts of the machine under test; `unknown` where the system does not tell.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory: String,
    pub(crate) kernel: String,
    /// Type of the file system under the measured directory, and its device.
    pub(crate) file_system: String,
    pub(crate) rustc: String,
    /// Runnable processes on average over the last minute, before the first measurement.
    pub(crate) load: String,
    pub(crate) build: &'static str,
}

impl Machine {
    pub(crate) fn look(directory: &Path) -> Self {
        let field = |file: &str, name: &str| {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
            line.map_or_else(|| "unknown".into(), |(_, value)| value.trim().to_owned())
        };
        let first_line = |text: String| text.lines().next().unwrap_or("unknown").trim().to_owned();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu: field("/proc/cpuinfo", "model name"),
            memory: field("/proc/meminfo", "MemTotal"),
            kernel: first_line(std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default()),
            file_system: file_system(directory).unwrap_or_else(|| "unknown".into()),
            rustc: output("rustc", &["--version"]).map_or_else(|| "unknown".into(), first_line),
            load: load.split(' ').next().unwrap_or("unknown").to_owned(),
            build: if cfg!(debug_assertions) { "debug: the numbers mean nothing" } else { "release" },
        }
    }
}

fn file_system(directory: &Path) -> Option<String> {
    let directory = directory.canonicalize().ok()?;
    let told = output("df", &["--output=fstype,source", directory.to_str()?])?;
    Some(told.lines().nth(1)?.split_whitespace().collect::<Vec<_>>().join(" on "))
}

fn output(program: &str, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}
