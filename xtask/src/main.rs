//! Every chore of this workspace as `cargo xtask …`.
//!
//! A chore is a list of [`step`]s, each one command that can be run again by hand. The first one that
//! fails ends the chore, and the last lines name it.

// What this program is for is talking to a person at a terminal.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod capabilities;
mod document;
mod features;
mod guide;
mod lint;
mod plugins;
mod readme;
mod secantusdb;
mod services;
mod step;
mod test;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::step::Session;

#[derive(Parser)]
#[command(bin_name = "cargo xtask", about = "Chores of the storage workspace", version)]
struct Args {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Runs every test that this machine can run: unit, integration and doc tests, and the commands of the README and
    /// the guide
    Test {
        /// Also the long variants, which take an hour or more (sets STORAGE_LONG=1)
        #[arg(long)]
        long: bool,
    },
    /// Runs the commands and the Rust example of README.md, and compares the output it shows (part of test)
    Readme,
    /// Runs the commands of docs/writing-a-backend.md, and holds its code against the examples (part of test)
    Guide,
    /// Checks formatting, clippy and rustdoc with warnings denied, and licences and advisories (cargo-deny)
    Lint,
    /// Checks each cargo feature by itself, none, and all
    Features,
    /// Runs test, lint and features
    Ci,
    Plugins(plugins::Plugins),
    Services(services::Services),
    /// Prints what each linked-in storage type offers, as a Markdown table
    Capabilities {
        /// Compares the table with the one in README.md instead of printing it
        #[arg(long, conflicts_with = "write")]
        check: bool,
        /// Writes the table into README.md
        #[arg(long)]
        write: bool,
    },
}

fn main() -> ExitCode {
    let mut session = Session::new();
    let done = match Args::parse().chore {
        Chore::Test { long } => test::run(&mut session, long),
        Chore::Readme => readme::run(&mut session),
        Chore::Guide => guide::run(&mut session),
        Chore::Lint => lint::run(&mut session),
        Chore::Features => features::run(&mut session),
        Chore::Ci => test::run(&mut session, false)
            .and_then(|()| lint::run(&mut session))
            .and_then(|()| features::run(&mut session)),
        Chore::Services(asked) => services::run(&mut session, &asked),
        Chore::Plugins(asked) => plugins::run(&mut session, &asked),
        Chore::Capabilities { check, write } => capabilities::run(&mut session, check, write),
    };
    session.finish(done)
}
