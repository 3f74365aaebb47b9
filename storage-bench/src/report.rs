//! The results as JSON or as Markdown.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use crate::border::BorderCost;
use crate::import::Import;
use crate::layers::LayerCost;
use crate::limit::Limit;
use crate::machine::Machine;
use crate::measure::{Measurement, median};
use crate::peer::{Durability, PeerInfo};
use crate::target::{self, Target};
use crate::workload::Workload;

/// Everything that one run found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) command: String,
    pub(crate) machine: Machine,
    pub(crate) baseline: String,
    pub(crate) records: u64,
    pub(crate) rounds: u64,
    pub(crate) seconds_each: f64,
    pub(crate) peers: Vec<PeerInfo>,
    pub(crate) measurements: Vec<Measurement>,
    pub(crate) layers: Option<LayerCost>,
    pub(crate) border: Option<BorderCost>,
    pub(crate) targets: Vec<Target>,
    /// What the server's own load generator reaches, if there is a server.
    pub(crate) limits: Vec<Limit>,
    /// The version and settings of a server that is not as it comes.
    pub(crate) server: Option<String>,
    pub(crate) import: Option<Import>,
}

impl Report {
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// One table for each workload: a row for each peer, a column for each number of tasks.
    pub(crate) fn markdown(&self) -> Result<String> {
        let mut out = String::new();
        let machine = &self.machine;
        writeln!(out, "Command: `{}`\n", self.command)?;
        writeln!(
            out,
            "Machine: {} cores, {}, {} of memory, Linux {}, {}; {}, {} build; load before the run {}.\n",
            machine.cores,
            machine.cpu,
            machine.memory,
            machine.kernel,
            machine.file_system,
            machine.rustc,
            machine.build,
            machine.load
        )?;
        if let Some(server) = &self.server {
            writeln!(out, "Server: {server}.\n")?;
        }
        if !self.measurements.is_empty() {
            self.explain(&mut out)?;
        }
        let mut seen: Vec<Workload> = Vec::new();
        for measurement in &self.measurements {
            if !seen.contains(&measurement.workload) {
                seen.push(measurement.workload);
                self.table(&mut out, measurement.workload)?;
            }
        }
        if let Some(cost) = &self.layers {
            writeln!(out, "\n### Layers\n\nA get of one record in memory, on one thread.\n")?;
            writeln!(out, "| through | ns a call | over the backend's own method |\n|---|--:|--:|")?;
            for (what, ns) in [
                ("the backend's own method".to_owned(), cost.backend_ns),
                (format!("its layers: {}", cost.layers), cost.layered_ns),
                ("`Store`".to_owned(), cost.store_ns),
            ] {
                writeln!(out, "| {what} | {ns:.0} | {:+.0} |", ns - cost.backend_ns)?;
            }
        }
        if let Some(BorderCost { linked_ns, inline_ns }) = self.border {
            writeln!(
                out,
                "\n### The border\n\nA get of one record of 100 bytes in memory, on one thread.\n"
            )?;
            writeln!(out, "| the memory backend | ns a call |\n|---|--:|\n| linked in | {linked_ns:.0} |")?;
            writeln!(out, "| from a shared library, inline | {inline_ns:.0} |")?;
        }
        if !self.limits.is_empty() {
            writeln!(
                out,
                "\n### The server's own load generator\n\n| command | | a second |\n|---|---|--:|"
            )?;
            for Limit { command, workload, per_second, .. } in &self.limits {
                writeln!(out, "| `{command}` | {} | {} |", workload.title(), thousands(*per_second))?;
            }
        }
        if let Some(import) = &self.import {
            self.imported(&mut out, import)?;
        }
        if !self.targets.is_empty() {
            writeln!(out, "\n### Targets\n\n{}", target::markdown(&self.targets)?)?;
        }
        Ok(out)
    }

    fn imported(&self, out: &mut String, import: &Import) -> Result<()> {
        let Import { records, batch, in_flight, .. } = import;
        writeln!(
            out,
            "\n### Import\n\n{records} records of 200 bytes into an empty table, {} rounds in alternation. Through \
             `Store`: {in_flight} calls of {batch} records under way at once. `psql \\copy` reads the same rows from \
             a file into a table of the same columns, constraints and indexes.\n",
            self.rounds
        )?;
        writeln!(out, "| | records a second | seconds in each round |\n|---|--:|---|")?;
        for (what, seconds) in [("through `Store`", &import.store), ("`psql \\copy`", &import.copy)] {
            let speeds = seconds.iter().map(|seconds| *records as f64 / seconds).collect();
            let each: Vec<String> = seconds.iter().map(|seconds| format!("{seconds:.2}")).collect();
            writeln!(out, "| {what} | {} | {} |", thousands(median(speeds)), each.join(", "))?;
        }
        writeln!(
            out,
            "\nTo `\\copy`: {:.2}x. A page of 1,000 through `Store`: {} at the start of the collection, {} at its end.",
            import.ratio,
            duration(import.first_pages_us),
            duration(import.last_pages_us)
        )?;
        Ok(())
    }

    /// How to read the tables, and what the peers are.
    fn explain(&self, out: &mut String) -> Result<()> {
        writeln!(
            out,
            "{} records of 200 bytes. {} rounds of {} s; in each round every peer in turn. A cell is calls a second \
             (the median of the rounds), the ratio to `{}` (the median of the ratios within a round), and the \
             time of a call, p50 / p99. Every value read is checked against what was written.\n",
            self.records, self.rounds, self.seconds_each, self.baseline
        )?;
        if self.measurements.iter().any(|m| m.commands_per_call.is_some()) {
            writeln!(out, "What is sent is commands to the server for each call.\n")?;
        }
        writeln!(out, "| peer | version | acknowledges | how |\n|---|---|---|---|")?;
        for peer in &self.peers {
            let when = match peer.durability {
                Durability::Synced => "after the sync",
                Durability::NotSynced => "**before** the sync",
            };
            writeln!(out, "| {} | {} | {when} | {} |", peer.name, peer.version, peer.how)?;
        }
        Ok(())
    }

    fn table(&self, out: &mut String, workload: Workload) -> Result<()> {
        let rows: Vec<_> = self.measurements.iter().filter(|m| m.workload == workload).collect();
        let mut tasks: Vec<u64> = rows.iter().map(|m| m.tasks).collect();
        tasks.sort_unstable();
        tasks.dedup();
        writeln!(out, "\n### {}\n", workload.title())?;
        write!(out, "| peer |")?;
        for count in &tasks {
            write!(out, " {count} {} |", if *count == 1 { "task" } else { "tasks" })?;
        }
        writeln!(out, "\n|---|{}", "--:|".repeat(tasks.len()))?;
        for peer in &self.peers {
            let mark = if workload.writes() && peer.durability == Durability::NotSynced {
                " (not synced)"
            } else {
                ""
            };
            write!(out, "| {}{mark} |", peer.name)?;
            for count in &tasks {
                match rows.iter().find(|m| m.tasks == *count && m.peer == peer.name) {
                    None => write!(out, " – |")?,
                    Some(m) => write!(
                        out,
                        " {}{} {} / {}{} |",
                        thousands(m.calls_per_second),
                        m.ratio.map_or(String::new(), |ratio| format!(" ({ratio:.2}x)")),
                        duration(m.p50_us),
                        duration(m.p99_us),
                        m.commands_per_call.map_or(String::new(), |sent| format!(", {sent:.3} sent"))
                    )?,
                }
            }
            writeln!(out)?;
        }
        Ok(())
    }
}

/// Three digits that count: 512, 5.12k, 51.2k, 512k.
pub(crate) fn thousands(value: f64) -> String {
    match value {
        v if v < 1e3 => format!("{v:.0}"),
        v if v < 1e4 => format!("{:.2}k", v / 1e3),
        v if v < 1e5 => format!("{:.1}k", v / 1e3),
        v if v < 1e6 => format!("{:.0}k", v / 1e3),
        v => format!("{:.2}M", v / 1e6),
    }
}

/// Microseconds, or milliseconds from one on.
pub(crate) fn duration(us: f64) -> String {
    match us {
        us if us < 10.0 => format!("{us:.1} µs"),
        us if us < 1e3 => format!("{us:.0} µs"),
        us => format!("{:.1} ms", us / 1e3),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!([512.4, 5_123.0, 51_234.0, 512_345.0].map(thousands), ["512", "5.12k", "51.2k", "512k"]);
        assert_eq!([1.64, 164.2, 1_640.0].map(duration), ["1.6 µs", "164 µs", "1.6 ms"]);
    }
}
