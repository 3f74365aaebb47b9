//! `export`: records as lines of JSON, in constant memory.

use std::io::{BufWriter, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use storage_core::{Backend, CollectionName, ListRange, Record, Scan, Value};
use tempfile::NamedTempFile;

use super::Outcome;
use crate::exit::{Failure, Status};
use crate::exported::Line;
use crate::output::{Output, base64, one_line};

/// Write records as lines of JSON.
///
/// Every kind of value and every expiry is kept; `storage import --exported` reads it back. Without a
/// collection all are written. A file appears under its name only when it is complete.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  storage export > backup.ndjson
  storage export users sessions --output backup.ndjson
  storage --store file:./a export | storage --store file:./b import --exported -")]
pub(crate) struct Export {
    /// The collections; all if none is named
    collections: Vec<CollectionName>,
    /// Write to this file rather than standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Export {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let collections = match self.collections.as_slice() {
            [] => backend.collections().await?,
            named => named.to_vec(),
        };
        let began = Instant::now();
        let Some(path) = &self.output else {
            let mut target = Target::Output(out);
            let exported = Exporter::new(backend, &mut target).all(&collections).await?;
            if !out.is_terminal() && std::io::stderr().is_terminal() {
                out.note(summary(exported, &began))?;
            }
            return Ok(Status::Done);
        };
        let broken = |error: &std::io::Error| {
            Failure::io("export", error).prefixed(format!("{} cannot be written", path.display()))
        };
        let file = beside(path).map_err(|error| broken(&error))?;
        let mut target = Target::File(BufWriter::with_capacity(256 << 10, file), path);
        let exported = Exporter::new(backend, &mut target).all(&collections).await?;
        if let Target::File(writer, _) = target {
            publish(writer, path).map_err(|error| broken(&error))?;
        }
        let told =
            json!({"exported": exported, "collections": collections, "output": path.to_string_lossy()});
        out.either(&told, summary(exported, &began))?;
        Ok(Status::Done)
    }
}

fn summary(exported: u64, began: &Instant) -> String {
    let seconds = began.elapsed().as_secs_f64();
    format!("{exported} exported in {seconds:.2} s ({:.0} a second)", exported as f64 / seconds.max(1e-6))
}

/// A temporary file that can be renamed to `path`.
fn beside(path: &Path) -> std::io::Result<NamedTempFile> {
    if path.is_dir() {
        return Err(std::io::Error::new(std::io::ErrorKind::IsADirectory, "it is a directory: name a file"));
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    tempfile::Builder::new().prefix(".storage-export-").tempfile_in(directory.unwrap_or(Path::new(".")))
}

fn publish(writer: BufWriter<NamedTempFile>, path: &Path) -> std::io::Result<()> {
    let file = writer.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

enum Target<'o> {
    Output(&'o mut Output),
    File(BufWriter<NamedTempFile>, &'o Path),
}

impl Target<'_> {
    fn line(&mut self, line: &Line) -> Result<(), Failure> {
        match self {
            Self::Output(out) => out.json(line),
            Self::File(file, path) => {
                let written = serde_json::to_writer(&mut *file, line).map_err(std::io::Error::from);
                written.and_then(|()| file.write_all(b"\n")).map_err(|error| {
                    Failure::io("export", &error).prefixed(format!("{} cannot be written", path.display()))
                })
            }
        }
    }
}

struct Exporter<'a, 'o> {
    backend: &'a Arc<dyn Backend>,
    target: &'a mut Target<'o>,
    bar: ProgressBar,
    exported: u64,
}

impl<'a, 'o> Exporter<'a, 'o> {
    fn new(backend: &'a Arc<dyn Backend>, target: &'a mut Target<'o>) -> Self {
        let quiet = match target {
            Target::Output(out) => out.is_json() || out.is_terminal(),
            Target::File(..) => false,
        };
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
        Self { backend, target, bar, exported: 0 }
    }

    async fn all(mut self, collections: &[CollectionName]) -> Result<u64, Failure> {
        for collection in collections {
            self.collection(collection).await?;
        }
        self.bar.finish_and_clear();
        Ok(self.exported)
    }

    async fn collection(&mut self, collection: &CollectionName) -> Result<(), Failure> {
        let mut pages = Pace::new(self.backend.info().capabilities.limits.page_len);
        let mut scan = Scan::new(collection.clone());
        loop {
            scan.limit = pages.limit;
            let page = self.backend.scan(&scan).await?;
            pages.adapt(page.items.len(), page.items.iter().map(Record::size).sum());
            for record in &page.items {
                self.record(record).await?;
            }
            self.exported += page.items.len() as u64;
            self.bar.set_message(format!("{} records", self.exported));
            self.bar.tick();
            match page.next {
                Some(next) => scan.after = Some(next),
                None => return Ok(()),
            }
        }
    }

    async fn record(&mut self, record: &Record) -> Result<(), Failure> {
        let mut line = Line {
            collection: record.address.collection.clone().into(),
            key: record.address.key.clone().into(),
            kind: Some(record.value.kind()),
            expires_at: record.expires_at.map(|at| at.to_string()),
            ..Line::default()
        };
        match &record.value {
            Value::Json(json) => line.json = Some(one_line(json)),
            Value::Bytes(blob) => {
                line.bytes = Some(base64(&blob.data));
                line.media_type = Some(blob.media_type.clone());
            }
            Value::Counters(fields) => line.counters = Some(fields.clone()),
            Value::List { .. } => return self.list(record, line).await,
        }
        self.target.line(&line)
    }

    /// The items of a list, a page a line.
    async fn list(&mut self, record: &Record, mut line: Line) -> Result<(), Failure> {
        let mut pages = Pace::new(self.backend.info().capabilities.limits.page_len);
        let address = record.address.clone();
        loop {
            let range = ListRange { address: address.clone(), start: line.start, limit: pages.limit };
            // Gone meanwhile: what was written of it stays, as of the moment it was read.
            let Some(page) = self.backend.list_range(&range).await? else { return Ok(()) };
            if page.items.is_empty() {
                return Ok(());
            }
            let count = page.items.len();
            pages.adapt(count, page.items.iter().map(storage_core::Json::size).sum());
            line.items = Some(page.items.iter().map(one_line).collect());
            self.target.line(&line)?;
            line.start += count as u64;
            if line.start >= page.length {
                return Ok(());
            }
        }
    }
}

/// How many items to ask for, so that a page takes about four mebibytes.
struct Pace {
    limit: u32,
    most: u32,
}

impl Pace {
    const BYTES: usize = 4 << 20;

    fn new(most: u32) -> Self {
        let most = most.clamp(1, 1_000);
        Self { limit: most.min(16), most }
    }

    /// Grows slowly and shrinks at once: large values tend to come together.
    fn adapt(&mut self, items: usize, bytes: usize) {
        let fitting = Self::BYTES / (bytes / items.max(1)).max(1);
        let fitting = u32::try_from(fitting).unwrap_or(u32::MAX);
        self.limit = fitting.min(self.limit.saturating_mul(4)).clamp(1, self.most);
    }
}
