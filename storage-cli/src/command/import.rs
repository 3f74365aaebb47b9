//! `import`: records from a file into the store, in constant memory.

use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use storage_core::{Address, Backend, CollectionName, Limits, Mutation, Path, Timestamp};
use tokio::sync::mpsc;

use super::batches::{Batches, Entry, Numbered};
use super::{Outcome, pick};
use crate::exit::{Failure, Status};
use crate::exported::{Content, Line, Part};
use crate::input;
use crate::output::Output;
use crate::split::Splitter;

/// Read records from a file into the store.
///
/// The file is NDJSON (one JSON value a line) or one JSON array, told apart by the first byte. Memory stays
/// flat, whatever the size. A record replaces the one that has its key. With --exported the file is what
/// `storage export` wrote, each line with its collection and key; naming a collection then takes only its lines.
#[derive(Debug, Args)]
#[command(override_usage = "storage import [OPTIONS] <COLLECTION> <FILE> --key <PATH>
       storage import [OPTIONS] --exported [COLLECTION] <FILE>")]
#[command(after_long_help = "\
Examples:
  storage import countries countries.ndjson --key code
  curl -s https://example.org/users.json | storage import users - --key account.id --on-error skip
  storage import sessions sessions.ndjson --key id --ttl 30m
  storage import --exported backup.ndjson
  storage import --exported users backup.ndjson")]
pub(crate) struct Import {
    /// The collection; with --exported it may be left out
    #[arg(value_name = "COLLECTION")]
    first: PathBuf,
    /// The file, or - for standard input
    #[arg(value_name = "FILE")]
    second: Option<PathBuf>,
    /// Where each record has its key, as a dotted path; a string is taken as it is, an integer in decimal
    #[arg(long, value_name = "PATH", required_unless_present = "exported")]
    key: Option<Path>,
    /// The file is what `storage export` wrote
    #[arg(long, conflicts_with_all = ["key", "ttl"])]
    exported: bool,
    /// What to do about a record that cannot be imported
    #[arg(long, value_enum, default_value_t = OnError::Stop, value_name = "WHAT")]
    on_error: OnError,
    /// Let each record expire after this time
    #[arg(long, value_name = "DURATION", value_parser = input::ttl)]
    ttl: Option<Duration>,
    /// Leave records alone that are there already
    #[arg(long)]
    if_absent: bool,
}

/// What to do about a record that cannot be imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum OnError {
    /// End with status 2; what came before is imported
    Stop,
    /// Report the line and go on
    Skip,
}

/// What the reading thread has to tell.
enum Event {
    Records(Vec<Numbered>),
    /// A record whose time had passed already.
    Expired,
    Bad(u64, Failure),
    /// The input itself failed.
    Broken(Failure),
}

/// What a record of the input becomes.
enum Form {
    /// A record of this collection with its key at this path.
    Keyed { collection: CollectionName, path: Path, ttl: Option<Duration> },
    /// A line of an export, if it is of this collection.
    Exported { only: Option<CollectionName> },
}

impl Import {
    pub(crate) async fn run(self, backend: &Arc<dyn Backend>, out: &mut Output) -> Outcome {
        let (form, file) = self.form()?;
        let (reader, size) = input::open(&file)?;
        let bar = progress(size, out);
        let stop = self.on_error == OnError::Stop;
        let limits = backend.info().capabilities.limits;
        let (events, mut inbox) = mpsc::channel(2);
        let counted = bar.wrap_read(reader);
        // A thread of its own: a read of standard input may never end, and must not hold up the process.
        let reading = move || read(counted, &file, &form, &limits, stop, &events);
        std::thread::Builder::new()
            .name("import".to_owned())
            .spawn(reading)
            .map_err(|error| Failure::io("import", &error))?;

        let began = Instant::now();
        let mut batches = Batches::new(Arc::clone(backend), self.if_absent);
        let (mut skipped, mut expired) = (0u64, 0u64);
        let mut end = Ok(());
        while let Some(event) = inbox.recv().await {
            match event {
                Event::Records(records) => end = batches.send(records).await,
                Event::Expired => expired += 1,
                Event::Broken(failure) => end = Err(failure),
                Event::Bad(line, failure) if stop => end = Err(failure.prefixed(format!("line {line}"))),
                Event::Bad(line, failure) => {
                    skipped += 1;
                    bar.suspend(|| out.warn(&failure.prefixed(format!("line {line}"))))?;
                }
            }
            if end.is_ok() {
                end = settle(&mut batches, stop, &mut skipped, &bar, out);
            }
            if end.is_err() {
                break;
            }
            bar.set_message(format!("{} records", batches.tally.imported));
        }
        // What is in flight gets to its end, and is counted.
        let drained = batches.drain().await;
        let end = end.and(drained).and_then(|()| settle(&mut batches, stop, &mut skipped, &bar, out));
        bar.finish_and_clear();
        let imported = batches.tally.imported;
        end.map_err(|failure| failure.suffixed(format!("{imported} records were imported before")))?;

        let existing = batches.tally.existing;
        let seconds = began.elapsed().as_secs_f64();
        let rate = (imported as f64 / seconds.max(1e-6)).round() as u64;
        let told = json!({
            "imported": imported, "skipped": skipped, "existing": existing, "expired": expired,
            "seconds": (seconds * 1e3).round() / 1e3, "per_second": rate,
        });
        let mut text = format!("{imported} imported, {skipped} skipped");
        for (count, what) in [(existing, "there already"), (expired, "expired")] {
            if count > 0 {
                text.push_str(&format!(", {count} {what}"));
            }
        }
        out.either(&told, format!("{text} in {seconds:.2} s ({rate} a second)"))?;
        Ok(Status::Done)
    }

    fn form(&self) -> Result<(Form, PathBuf), Failure> {
        let collection = || CollectionName::new(self.first.to_string_lossy());
        match (self.exported, &self.second, &self.key) {
            (true, None, _) => Ok((Form::Exported { only: None }, self.first.clone())),
            (true, Some(file), _) => Ok((Form::Exported { only: Some(collection()?) }, file.clone())),
            (false, Some(file), Some(path)) => {
                let collection = collection()?;
                Ok((Form::Keyed { collection, path: path.clone(), ttl: self.ttl }, file.clone()))
            }
            (false, ..) => Err(Failure::invalid(
                "usage",
                "name the collection and the file: storage import COLLECTION FILE --key PATH (or --exported FILE)",
            )),
        }
    }
}

/// Tells about records that the store refused: the first one ends the import, or each is reported.
fn settle(
    batches: &mut Batches,
    stop: bool,
    skipped: &mut u64,
    bar: &ProgressBar,
    out: &mut Output,
) -> Result<(), Failure> {
    for (line, failure) in std::mem::take(&mut batches.tally.refused) {
        let failure = failure.prefixed(format!("line {line}"));
        if stop {
            return Err(failure.with_status(Status::BadInput));
        }
        *skipped += 1;
        bar.suspend(|| out.warn(&failure))?;
    }
    Ok(())
}

/// Reads the whole input and sends it on in batches; ends early when nobody listens.
fn read(
    reader: impl Read,
    file: &std::path::Path,
    form: &Form,
    limits: &Limits,
    stop: bool,
    events: &mpsc::Sender<Event>,
) {
    // An exported line holds base64 and names beside the value.
    let longest = match form {
        Form::Keyed { .. } => limits.value_bytes,
        Form::Exported { .. } => (limits.value_bytes / 3).saturating_mul(4).saturating_add(1 << 20),
    };
    // A list takes two mutations.
    let (most, bytes) = ((limits.batch_len / 2).clamp(1, 1_000), limits.batch_bytes.clamp(1, 4 << 20));
    let mut splitter = Splitter::new(input::buffered(reader), longest);
    let (mut batch, mut size) = (Vec::new(), 0);
    let send = |event| events.blocking_send(event).is_ok();
    loop {
        let piece = match splitter.next() {
            Ok(Some(piece)) => piece,
            Ok(None) => break,
            Err(error) => {
                let _ = send(Event::Records(batch)) && send(Event::Broken(input::unreadable(file, &error)));
                return;
            }
        };
        let entry = piece.text.and_then(|text| entry(text, form));
        let sent = match entry {
            Ok(Some(Entry::More { append, .. })) if expired(&append) => true,
            Ok(Some(Entry::Put(mutation) | Entry::Head(mutation))) if expired(&mutation) => {
                send(Event::Expired)
            }
            Ok(None) => true,
            Ok(Some(entry)) => {
                let mutation = entry.mutation().size();
                // A batch of its own for what would make this one too large.
                let full = batch.len() >= most || size + mutation > bytes;
                let sent = !full || batch.is_empty() || send(Event::Records(std::mem::take(&mut batch)));
                size = if full { mutation } else { size + mutation };
                batch.push((piece.line, entry));
                sent
            }
            // What came before is imported.
            Err(failure) if stop => {
                let _ = send(Event::Records(batch)) && send(Event::Bad(piece.line, failure));
                return;
            }
            Err(failure) => send(Event::Bad(piece.line, failure)),
        };
        if !sent {
            return;
        }
    }
    send(Event::Records(batch));
}

fn expired(mutation: &Mutation) -> bool {
    use storage_core::Change;

    match mutation.change {
        Change::Put { expires_at, .. } | Change::Append { expires_at, .. } => {
            expires_at.is_some_and(|at| at <= Timestamp::now())
        }
        _ => false,
    }
}

/// What the text of a record becomes; `None`: it is not wanted.
fn entry(text: Vec<u8>, form: &Form) -> Result<Option<Entry>, Failure> {
    match form {
        Form::Keyed { collection, path, ttl } => {
            let json = storage_core::Json::parse(text).map_err(|error| error.operation("import"))?;
            let key = pick::key(json.as_bytes(), path)?;
            let address = Address { collection: collection.clone(), key };
            let expires_at = ttl.map(Timestamp::after).transpose()?;
            Ok(Some(Entry::Put(Mutation::put(address, json).expiring(expires_at))))
        }
        Form::Exported { only } => {
            let Content { address, part, expires_at } = Line::parse(&text)?;
            if only.as_ref().is_some_and(|only| *only != address.collection) {
                return Ok(None);
            }
            Ok(match part {
                Part::Whole(value) => Some(Entry::Put(Mutation::put(address, value).expiring(expires_at))),
                Part::Items { items, .. } if items.is_empty() => None,
                Part::Items { items, start } => {
                    let append = Mutation::append(address, items).expiring(expires_at);
                    Some(if start == 0 { Entry::Head(append) } else { Entry::More { append, start } })
                }
            })
        }
    }
}

/// A progress bar if a person looks at standard error; it hides itself elsewhere.
fn progress(size: Option<u64>, out: &Output) -> ProgressBar {
    if out.is_json() {
        return ProgressBar::hidden();
    }
    let (bar, template) = match size {
        Some(size) => {
            (ProgressBar::new(size), "{bar:30} {bytes}/{total_bytes} {msg} {bytes_per_sec} eta {eta}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {bytes} {msg} {bytes_per_sec}"),
    };
    bar.with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
