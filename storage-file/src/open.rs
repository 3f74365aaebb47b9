//! Opening and making the file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable};
use storage_core::{CollectionName, Error, ErrorKind, IndexSpec, Result, Retry};

use crate::config::{CheckOnOpen, FileConfig};
use crate::convert;
use crate::disk::{Disk, DiskState, Trouble};
use crate::error::{contain, engine, system};
use crate::index::{Catalog, Index, StoredIndex};
use crate::schema::{
    self, ENTRIES, EXPIRY, FILE_NAME, FORMAT, INDEXES, ITEMS, META, META_FORMAT, META_SEQUENCE, RECORDS,
};
use crate::writer::Sequence;

/// Files up to this size are checked whole on opening, under [`CheckOnOpen::Auto`].
const AUTO_CHECK_BYTES: u64 = 64 << 20;

/// How much room there has to be before a store that met a full disk is opened anew.
const PROBE_BYTES: usize = 256 << 10;

/// What opening finds.
pub(crate) struct Opened {
    pub(crate) database: Database,
    pub(crate) disk: Arc<DiskState>,
    pub(crate) indexes: Catalog,
    pub(crate) sequence: Sequence,
}

pub(crate) fn file_path(config: &FileConfig) -> PathBuf {
    config.path.join(FILE_NAME)
}

/// Opens the store, making it if there is none.
pub(crate) fn open(config: &FileConfig, skip_sync: bool) -> Result<Opened> {
    let path = file_path(config);
    make_directory(&config.path)?;
    if !path.try_exists().map_err(|error| system(&error, &shown(&path)))? {
        create(config, &path)?;
    }
    let disk = DiskState::new(skip_sync);
    let mut database = attach(config, &path, Arc::clone(&disk))?;
    remove_leftovers(&config.path);
    let opened = contain(|| {
        check_format(&database)?;
        let small = fs::metadata(&path).is_ok_and(|file| file.len() <= AUTO_CHECK_BYTES);
        if config.check_on_open == CheckOnOpen::Always || (config.check_on_open == CheckOnOpen::Auto && small)
        {
            check_pages(&mut database)?;
        }
        Ok((load_indexes(&database)?, load_sequence(&database)?))
    });
    let (indexes, sequence) = opened.flatten().map_err(|error| at(&path, error))?;
    Ok(Opened { database, disk, indexes, sequence })
}

/// Opens the file as it is. The engine itself checks every page if the file was not closed cleanly.
pub(crate) fn attach(config: &FileConfig, path: &Path, disk: Arc<DiskState>) -> Result<Database> {
    let named = |error: Error| at(path, error);
    let file = options().open(path).map_err(|error| system(&error, &shown(path)))?;
    if file.metadata().is_ok_and(|meta| meta.len() == 0) {
        return Err(named(Error::new(ErrorKind::Corrupt, "the file is empty: it was cut short")));
    }
    let built = contain(|| build(config, file, Arc::clone(&disk))).flatten();
    check_disk(&disk, path)?;
    built.map_err(|error| match error.kind() {
        ErrorKind::Busy => Error::new(
            ErrorKind::Busy,
            format!("the store {} is in use by another process: close it there first", config.path.display()),
        )
        .with_retry(Retry::Never),
        // The engine refuses files that are not its own as invalid data or failed assertions.
        ErrorKind::Internal => named(Error::new(ErrorKind::Corrupt, error.message().to_owned())),
        _ => named(error),
    })
}

/// The engine does not hear of trouble with its file, so whoever uses it asks.
fn check_disk(disk: &DiskState, path: &Path) -> Result<()> {
    match disk.trouble() {
        None => Ok(()),
        Some(Trouble::Write(error) | Trouble::Sync(error)) => Err(system(error, &shown(path))),
    }
}

fn build(config: &FileConfig, file: File, disk: Arc<DiskState>) -> Result<Database> {
    let disk = Disk::new(file, disk).map_err(engine)?;
    redb::Builder::new().set_cache_size(config.cache_bytes).create_with_backend(disk).map_err(engine)
}

/// Whether the disk takes writes: writes as much as a commit may need, syncs, and removes it again.
pub(crate) fn probe(config: &FileConfig) -> io::Result<()> {
    let path = config.path.join(format!("{FILE_NAME}.{}.new", std::process::id()));
    let probed = options().create(true).truncate(true).open(&path).and_then(|mut file| {
        io::Write::write_all(&mut file, &[0; PROBE_BYTES])?;
        file.sync_data()
    });
    fs::remove_file(&path).and(probed)
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_directory(path: &Path) -> Result<()> {
    let failed = |error: io::Error| system(&error, &shown(path));
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path).map_err(failed)?;
    sync_directory(path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
        .map_err(failed)
}

/// Makes a new file under another name and gives it its own only when it is complete, so that an empty or
/// half-made file is never taken for a store, nor a store that was cut short for a new one.
fn create(config: &FileConfig, path: &Path) -> Result<()> {
    let temporary = config.path.join(format!("{FILE_NAME}.{}.new", std::process::id()));
    let made = options()
        .create(true)
        .truncate(true)
        .open(&temporary)
        .map_err(|error| system(&error, &shown(&temporary)));
    let disk = DiskState::new(false);
    let made = made.and_then(|file| {
        contain(|| initialise(build(config, file, Arc::clone(&disk))?))
            .flatten()
            .map_err(|error| at(path, error))
    });
    let made = made.and(check_disk(&disk, path));
    let linked = made.and_then(|()| match fs::hard_link(&temporary, path) {
        Ok(()) => Ok(()),
        // Another process was faster; it holds the file, and opening it will say so.
        Err(_) if path.exists() => Ok(()),
        Err(_) => fs::rename(&temporary, path).map_err(|error| system(&error, &shown(path))),
    });
    let _ = fs::remove_file(&temporary);
    linked?;
    sync_directory(&config.path).map_err(|error| system(&error, &shown(&config.path)))
}

fn initialise(database: Database) -> Result<()> {
    let transaction = database.begin_write().map_err(engine)?;
    {
        transaction.open_table(RECORDS).map_err(engine)?;
        transaction.open_table(ITEMS).map_err(engine)?;
        transaction.open_table(EXPIRY).map_err(engine)?;
        transaction.open_table(INDEXES).map_err(engine)?;
        transaction.open_table(ENTRIES).map_err(engine)?;
        let mut meta = transaction.open_table(META).map_err(engine)?;
        meta.insert(META_FORMAT, FORMAT).map_err(engine)?;
        meta.insert(META_SEQUENCE, 0).map_err(engine)?;
    }
    transaction.commit().map_err(engine)
}

fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Removes what a process that died while making a store left behind. Whoever gets here holds the store.
fn remove_leftovers(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.strip_prefix(FILE_NAME).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".new")) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

fn check_format(database: &Database) -> Result<()> {
    let read = database.begin_read().map_err(engine)?;
    let meta = read.open_table(META).map_err(|error| match error {
        redb::TableError::TableDoesNotExist(_) => {
            Error::new(ErrorKind::Corrupt, "the file is no store of this software")
        }
        error => engine(error),
    })?;
    match meta.get(META_FORMAT).map_err(engine)?.map(|format| format.value()) {
        Some(FORMAT) => Ok(()),
        Some(newer) if newer > FORMAT => Err(Error::new(
            ErrorKind::Corrupt,
            format!("the store has format {newer}, newer than this program's {FORMAT}: use a newer program"),
        )),
        _ => Err(Error::new(ErrorKind::Corrupt, "the store has no valid format number")),
    }
}

/// Has the engine check every page against its checksum.
pub(crate) fn check_pages(database: &mut Database) -> Result<()> {
    if database.check_integrity().map_err(engine)? {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Corrupt,
        "the file was damaged, and the engine went back to the last state that is whole: verify it or restore a backup",
    ))
}

fn load_indexes(database: &Database) -> Result<Catalog> {
    let read = database.begin_read().map_err(engine)?;
    let table = read.open_table(INDEXES).map_err(engine)?;
    let mut indexes = Vec::new();
    for entry in table.iter().map_err(engine)? {
        let (key, value) = entry.map_err(engine)?;
        let index = parse_index(key.value(), value.value());
        indexes.push(index.ok_or_else(|| convert::damaged(key.value()))?);
    }
    Ok(Catalog(indexes))
}

fn parse_index(key: &[u8], value: &[u8]) -> Option<Index> {
    let (collection, path) = schema::split_key(key)?;
    let StoredIndex { id, unique } = rmp_serde::from_slice(value).ok()?;
    let spec = IndexSpec {
        collection: CollectionName::new(collection).ok()?,
        path: storage_core::Path::new(path).ok()?,
        unique,
    };
    Some(Index { spec, id })
}

fn load_sequence(database: &Database) -> Result<Sequence> {
    let read = database.begin_read().map_err(engine)?;
    let meta = read.open_table(META).map_err(engine)?;
    let ceiling = meta.get(META_SEQUENCE).map_err(engine)?.map(|ceiling| ceiling.value());
    ceiling
        .map(Sequence::after)
        .ok_or_else(|| Error::new(ErrorKind::Corrupt, "the store has lost its sequence number"))
}

fn at(path: &Path, error: Error) -> Error {
    Error::new(error.kind(), format!("{}: {}", path.display(), error.message())).with_retry(error.retry())
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}
