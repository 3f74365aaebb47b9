//! `types`, `stats`, `health` and `completions`.

use std::sync::Arc;

use clap::{Args, ValueEnum as _};
use serde_json::json;
use storage_core::{Backend, ErrorKind, HealthStatus, Support};
use storage_registry::{Origin, Registry, TypeEntry};

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

/// List the storage types: name, version, origin, status, schemes and capabilities.
///
/// Those of the plugin directory are among them, but not those that are refused: `storage plugin list` tells why.
///
/// A capability with a star is not the database's own, but made up for at some cost; --json tells which.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage types
  storage --json types")]
pub(crate) struct Types {}

pub(crate) fn types(plugins: &PluginArgs, out: &mut Output) -> Outcome {
    plugins.load().warn_of_directory(out)?;
    let types = Registry::global().list();
    if out.is_json() {
        let types: Vec<&TypeEntry> = types.iter().map(AsRef::as_ref).collect();
        out.json(&json!({"types": types}))?;
        return Ok(Status::Done);
    }
    let row = |entry: &Arc<TypeEntry>| {
        let features: Vec<String> = (entry.capabilities.features.iter())
            .map(|(feature, support)| match support {
                Support::Native => feature.to_string(),
                Support::Emulated(_) => format!("{feature}*"),
            })
            .collect();
        let origin = match &entry.origin {
            Origin::Linked => "linked".to_owned(),
            Origin::Plugin { path, .. } => path.display().to_string(),
        };
        vec![
            entry.name.to_string(),
            entry.version.to_string(),
            origin,
            entry.status.to_string(),
            entry.schemes.join(" "),
            features.join(" "),
        ]
    };
    let rows = types.iter().map(row).collect();
    out.table(&["NAME", "VERSION", "ORIGIN", "STATUS", "SCHEMES", "CAPABILITIES"], rows)?;
    Ok(Status::Done)
}

/// Tell what the store holds, and where it is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage stats")]
pub(crate) struct ShowStats {}

pub(crate) async fn stats(backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
    let (info, stats) = (backend.info(), backend.stats().await?);
    if out.is_json() {
        out.json(&json!({
            "backend": {"name": info.name, "version": info.version, "location": info.location},
            "records": stats.records, "bytes": stats.bytes, "reads": stats.reads, "writes": stats.writes,
            "details": stats.details,
        }))?;
        return Ok(Status::Done);
    }
    let known = |number: Option<u64>| number.map_or("unknown".to_owned(), |number| number.to_string());
    let mut rows = vec![
        vec!["backend".to_owned(), format!("{} {}", info.name, info.version)],
        vec!["location".to_owned(), info.location.clone()],
        vec!["records".to_owned(), known(stats.records)],
        vec!["bytes".to_owned(), known(stats.bytes)],
    ];
    rows.extend(stats.details.iter().map(|(name, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
        vec![name.to_string(), value]
    }));
    out.table(&["WHAT", "VALUE"], rows)?;
    Ok(Status::Done)
}

/// Tell whether the store does its work.
///
/// The exit status is 0 if it is up, and 4 if it is degraded or down.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage health || echo \"the store is not up\"")]
pub(crate) struct ShowHealth {}

pub(crate) async fn health(backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
    let health = backend.health().await?;
    let millis = health.latency.as_secs_f64() * 1e3;
    let millis = (millis * 1e3).round() / 1e3;
    let status = match health.status {
        HealthStatus::Up => "up",
        HealthStatus::Degraded => "degraded",
        HealthStatus::Down => "down",
    };
    let told = json!({"status": health.status, "latency_ms": millis, "detail": health.detail});
    out.either(&told, format!("{status} ({millis} ms): {}", health.detail))?;
    if health.status == HealthStatus::Up {
        return Ok(Status::Done);
    }
    let message = format!("the store is {status}: {}", health.detail);
    Err(Failure::new(ErrorKind::Unavailable, "health", message))
}

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage completions bash > ~/.local/share/bash-completion/completions/storage
  storage completions zsh > \"${fpath[1]}/_storage\"
  storage completions fish > ~/.config/fish/completions/storage.fish")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

pub(crate) fn completions(wanted: &Completions, command: &mut clap::Command, out: &mut Output) -> Outcome {
    // Into memory first: the generator panics on output that cannot be written.
    let mut script = Vec::new();
    clap_complete::generate(wanted.shell, command, "storage", &mut script);
    if out.is_json() {
        let shell = wanted.shell.to_possible_value().map(|value| value.get_name().to_owned());
        out.json(&json!({"shell": shell, "script": String::from_utf8_lossy(&script)}))?;
    } else {
        out.raw(&script)?;
    }
    Ok(Status::Done)
}
