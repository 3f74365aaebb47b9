//! Health, statistics and maintenance.

use std::time::Duration;

use serde_json::Value as Tree;
use smol_str::SmolStr;
use storage_core::{Health, HealthStatus, Maintenance, MaintenanceReport, Result, Stats};

use super::{Reader, Wire, Writer};

impl Wire for Health {
    fn write(&self, to: &mut Writer) {
        to.map(3);
        to.entry("status", &self.status);
        to.entry("latency_us", &u64::try_from(self.latency.as_micros()).unwrap_or(u64::MAX));
        to.entry("detail", &self.detail);
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut status, mut latency, mut detail) = (None, None, None);
        from.map(|from| {
            match from.name()? {
                b"status" => status = Some(from.read()?),
                b"latency_us" => latency = Some(Duration::from_micros(from.uint()?)),
                b"detail" => detail = Some(from.read()?),
                _ => from.skip()?,
            }
            Ok(())
        })?;
        Ok(Self {
            status: status.ok_or_else(|| from.missing(at, "status"))?,
            latency: latency.ok_or_else(|| from.missing(at, "latency_us"))?,
            detail: detail.ok_or_else(|| from.missing(at, "detail"))?,
        })
    }
}

impl Wire for HealthStatus {
    fn write(&self, to: &mut Writer) {
        to.str(match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        });
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        match from.name()? {
            b"up" => Ok(Self::Up),
            b"degraded" => Ok(Self::Degraded),
            b"down" => Ok(Self::Down),
            other => Err(from.unknown(at, "\"up\", \"degraded\" or \"down\"", other)),
        }
    }
}

impl Wire for Stats {
    fn write(&self, to: &mut Writer) {
        let optional = [self.records.is_some(), self.bytes.is_some(), !self.details.is_empty()];
        to.map(2 + optional.into_iter().filter(|there| *there).count());
        to.entry("reads", &self.reads);
        to.entry("writes", &self.writes);
        if let Some(records) = &self.records {
            to.entry("records", records);
        }
        if let Some(bytes) = &self.bytes {
            to.entry("bytes", bytes);
        }
        if !self.details.is_empty() {
            let details = self.details.iter().map(|(name, detail)| (name.to_string(), detail.clone()));
            to.text_entry("details", &Tree::Object(details.collect()).to_string());
        }
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        let at = from.position();
        let (mut reads, mut writes, mut stats) = (None, None, Self::default());
        from.map(|from| {
            match from.name()? {
                b"reads" => reads = Some(from.read()?),
                b"writes" => writes = Some(from.read()?),
                b"records" => stats.records = from.read()?,
                b"bytes" => stats.bytes = from.read()?,
                b"details" if !from.nil() => match from.json_text()? {
                    Tree::Object(details) => {
                        stats.details =
                            details.into_iter().map(|(name, d)| (SmolStr::from(name), d)).collect();
                    }
                    _ => return Err(from.invalid(at, &"its details are no object")),
                },
                b"details" => {}
                _ => from.skip()?,
            }
            Ok(())
        })?;
        stats.reads = reads.ok_or_else(|| from.missing(at, "reads"))?;
        stats.writes = writes.ok_or_else(|| from.missing(at, "writes"))?;
        Ok(stats)
    }
}

impl Wire for Maintenance {
    fn write(&self, to: &mut Writer) {
        to.str(self.as_str());
    }

    fn read(from: &mut Reader<'_>) -> Result<Self> {
        const TASKS: [Maintenance; 4] =
            [Maintenance::Sweep, Maintenance::Analyse, Maintenance::Compact, Maintenance::Verify];

        let at = from.position();
        let name = from.name()?;
        TASKS
            .into_iter()
            .find(|task| task.as_str().as_bytes() == name)
            .ok_or_else(|| from.unknown(at, "the name of a maintenance task", name))
    }
}

wire_map!(MaintenanceReport {
    required examined: "examined",
    required removed: "removed",
    required freed_bytes: "freed_bytes",
    defaulted problems: "problems",
});
