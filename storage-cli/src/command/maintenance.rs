//! `clear`, `verify` and `compact`.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::sync::Arc;

use clap::Args;
use serde_json::json;
use storage_core::{Backend, CollectionName, ErrorKind, Maintenance};

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::output::Output;

/// Remove all records of a collection. Its indexes stay.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage clear sessions --yes")]
pub(crate) struct Clear {
    /// The collection
    collection: CollectionName,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Clear {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        if !self.yes && !self.asked()? {
            return Err(Failure::invalid("clear", "nothing was removed: it was not confirmed"));
        }
        let removed = backend.clear(&self.collection).await?;
        out.either(
            &json!({"collection": self.collection, "removed": removed}),
            format!("{removed} removed"),
        )?;
        Ok(Status::Done)
    }

    fn asked(&self) -> Result<bool, Failure> {
        let (stdin, mut stderr) = (std::io::stdin(), std::io::stderr());
        if !stdin.is_terminal() || !stderr.is_terminal() {
            let message =
                format!("this would remove all records of {}: repeat it with --yes", self.collection);
            return Err(Failure::invalid("clear", message));
        }
        let failed = |error: std::io::Error| Failure::io("clear", &error);
        write!(stderr, "Remove all records of {}? [y/N] ", self.collection).map_err(failed)?;
        let mut answer = String::new();
        stdin.lock().read_line(&mut answer).map_err(failed)?;
        Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
    }
}

/// Read the whole store and check it: checksums, indexes, counts.
///
/// Problems are listed, and the exit status is then 5.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage verify")]
pub(crate) struct Verify {}

pub(crate) async fn verify(backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
    let report = backend.maintain(Maintenance::Verify).await?;
    if out.is_json() {
        out.json(&json!({"examined": report.examined, "problems": report.problems}))?;
    } else {
        for problem in &report.problems {
            out.line(problem.replace(char::is_control, " "))?;
        }
        if report.problems.is_empty() {
            out.line(format!("{} records examined, no problems", report.examined))?;
        }
    }
    if report.problems.is_empty() {
        return Ok(Status::Done);
    }
    let message = format!(
        "{} problems in {} records; import the last export into a new store",
        report.problems.len(),
        report.examined
    );
    Err(Failure::new(ErrorKind::Corrupt, "verify", message))
}

/// Give room back to the operating system.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  storage compact")]
pub(crate) struct Compact {}

pub(crate) async fn compact(backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
    let report = backend.maintain(Maintenance::Compact).await?;
    let told = json!({
        "examined": report.examined, "removed": report.removed, "freed_bytes": report.freed_bytes,
    });
    out.either(&told, format!("{} bytes given back", report.freed_bytes))?;
    Ok(Status::Done)
}
