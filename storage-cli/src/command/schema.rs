//! `schema status` and `schema apply`.

use clap::{Args, Subcommand};
use serde_json::{Value as Tree, json};
use storage_core::Timestamp;
use storage_postgres::PostgresConfig;
use storage_postgres::schema::{Migration, apply, status};
use storage_registry::ErrorKind;

use super::{Outcome, plan};
use crate::exit::{Failure, Status};
use crate::output::Output;
use crate::plugins::PluginArgs;

/// Show and upgrade the tables that a store keeps its records in.
#[derive(Debug, Subcommand)]
pub(crate) enum Schema {
    Status(Show),
    Apply(Apply),
}

/// Tell which migrations the store's tables have seen, and which this program needs. Changes nothing.
///
/// Only stores of the type postgres have a schema.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage --store postgres://localhost/app schema status")]
pub(crate) struct Show {}

/// Make the store's tables, or upgrade them. Safe while programs run, and when several do it at once.
///
/// Needed where programs open the store with create_schema=false; otherwise the first of them does it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage --store postgres://localhost/app schema apply")]
pub(crate) struct Apply {}

impl Schema {
    /// Looks at the tables themselves: a store whose tables are missing or too old does not open.
    pub(crate) async fn run(self, url: &str, plugins: &PluginArgs, out: &mut Output) -> Outcome {
        let plan = plan(url, plugins, out)?;
        let name = &plan.entry().name;
        if name != "postgres" {
            let message =
                format!("a store of the type {name} has no schema: only those of the type postgres do");
            return Err(Failure::new(ErrorKind::Unsupported, "schema", message));
        }
        let config = PostgresConfig::decode(plan.config())?;
        let told =
            |error: storage_core::Error| Failure::from(error.operation("schema").backend(name.as_str()));
        match self {
            Self::Status(_) => {
                let found = status(&config).await.map_err(told)?;
                if out.is_json() {
                    let migrations: Vec<Tree> = found.migrations.iter().map(shape).collect();
                    out.json(&json!({
                        "version": found.version, "wanted": found.wanted, "current": found.is_current(),
                        "migrations": migrations,
                    }))?;
                } else {
                    let when = |at: Option<Timestamp>| at.map_or("pending".to_owned(), |at| at.to_string());
                    let row = |m: &Migration| vec![m.version.to_string(), m.name.clone(), when(m.applied_at)];
                    out.table(&["VERSION", "NAME", "APPLIED"], found.migrations.iter().map(row).collect())?;
                }
            }
            Self::Apply(_) => {
                let applied = apply(&config).await.map_err(told)?;
                if out.is_json() {
                    let applied: Vec<Tree> = applied.iter().map(shape).collect();
                    out.json(&json!({"applied": applied}))?;
                } else if applied.is_empty() {
                    out.line("nothing to do")?;
                } else {
                    for Migration { version, name, .. } in applied {
                        out.line(format!("applied {version} {name}"))?;
                    }
                }
            }
        }
        Ok(Status::Done)
    }
}

fn shape(migration: &Migration) -> Tree {
    let at = migration.applied_at.map(|at| at.to_string());
    json!({"version": migration.version, "name": migration.name, "applied_at": at})
}
