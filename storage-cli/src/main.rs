//! The `storage` command: one interface to every store. What it promises to scripts stands in `docs/cli.md`.

mod args;
mod command;
mod conformance;
mod exit;
mod exported;
mod input;
mod output;
mod plugins;
mod split;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;
use storage_registry::plugins::run_trial_if_asked;

use crate::args::Cli;
use crate::exit::Failure;
use crate::output::Output;

fn main() -> ExitCode {
    // Does not return if this process is the trial of a plugin.
    run_trial_if_asked();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let json = args::wants_json(&arguments);
    let status = match Cli::try_parse_from(arguments) {
        Ok(cli) => run(cli),
        Err(error) => exit::usage(&error),
    };
    match status {
        Ok(status) => status.into(),
        Err(failure) => failure.report(json),
    }
}

fn run(cli: Cli) -> Result<exit::Status, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start", &error))?;
    let mut out = Output::new(cli.json);
    let status = runtime.block_on(cli.command.run(&cli.store, &cli.plugins, &mut out));
    // What was printed before a failure is printed all the same.
    let flushed = out.finish();
    let status = status?;
    flushed.map(|()| status)
}
