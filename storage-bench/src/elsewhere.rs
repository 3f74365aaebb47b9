//! A peer in a process of its own, whose dependencies cannot be in this one: it is told what to do, and says how it went.

use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, anyhow, bail};
use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::drive::{Driven, Task};
use crate::peer::{Durability, Feature, Page, Peer, PeerInfo};

/// What the process is told, one in a line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Write so many records.
    Load(u64),
    /// Run, check what was written, and say how it went.
    Run(Task),
}

/// The process; it ends with its standard input.
pub(crate) struct Elsewhere {
    info: PeerInfo,
    process: Mutex<Process>,
}

struct Process {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Elsewhere {
    /// Starts `program`, which is to use the server at `url`, and first says its version.
    pub(crate) fn start(
        program: &Path,
        url: &str,
        name: &'static str,
        durability: Durability,
    ) -> Result<Self> {
        let mut child = Command::new(program)
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| program.display().to_string())?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        let mut process = Process { child, orders, answers };
        let version = process.answer()?;
        let how = "in a process of its own; a command for each call";
        let info = PeerInfo { name, version, durability, how };
        Ok(Self { info, process: Mutex::new(process) })
    }

    /// Writes the records that are read later.
    pub(crate) async fn load(&self, records: u64) -> Result<()> {
        self.ask(&Order::Load(records))
    }

    /// Runs a workload there.
    pub(crate) async fn run(&self, task: Task) -> Result<Driven> {
        self.ask(&Order::Run(task))
    }

    /// Nothing else is to run meanwhile, so that it may as well block.
    fn ask<T: DeserializeOwned>(&self, order: &Order) -> Result<T> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        process.orders.as_mut().context("no standard input")?.write_all(line.as_bytes())?;
        process.answer()
    }
}

impl Process {
    fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("the process has ended: {}", self.child.wait()?);
        }
        serde_json::from_str::<std::result::Result<T, String>>(&line)?.map_err(|message| anyhow!(message))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.orders.take());
        // It was asked to end; how it did is no matter.
        let _ = self.child.wait();
    }
}

/// What a peer of this process does, this one does where it is.
#[async_trait]
impl Peer for Elsewhere {
    fn info(&self) -> &PeerInfo {
        &self.info
    }

    fn has(&self, _: Feature) -> bool {
        false
    }

    async fn get(&self, _: &str) -> Result<Option<Bytes>> {
        bail!(NOT_HERE)
    }

    async fn put(&self, _: String, _: Vec<u8>) -> Result<()> {
        bail!(NOT_HERE)
    }

    async fn get_many(&self, _: &[String]) -> Result<Vec<Option<Bytes>>> {
        bail!(NOT_HERE)
    }

    async fn put_many(&self, _: Vec<(String, Vec<u8>)>) -> Result<()> {
        bail!(NOT_HERE)
    }

    async fn scan(&self, _: &str, _: Option<&str>, _: usize) -> Result<Page> {
        bail!(NOT_HERE)
    }

    async fn increment(&self, _: &str) -> Result<i64> {
        bail!(NOT_HERE)
    }

    fn elsewhere(&self) -> Option<&Elsewhere> {
        Some(self)
    }
}

const NOT_HERE: &str = "this peer is in a process of its own";
