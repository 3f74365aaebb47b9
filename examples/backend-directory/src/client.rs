//! The calls to the file system. They block, so that the backend makes them on threads for that.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use storage_core::apply::{Next, apply};
use storage_core::{
    Address, Atomicity, Batch, CollectionName, Cursor, Error, ErrorKind, Key, Mutation, Page, Record, Result,
    Scan, Timestamp, Version, Written,
};

use crate::convert;
use crate::error::system;

/// Soft limit of a page's size in bytes: a page ends once it is passed.
const PAGE_BYTES: usize = 4 << 20;

/// A store's directory: in it one for each collection, and in these the files of the records.
///
/// Names that begin with a dot are none of a collection: `.lock`, and `.new`, which is being written.
#[derive(Debug)]
pub(crate) struct Client {
    root: PathBuf,
    /// The locked file that keeps other processes out; `None` once the store is closed. Readers share it, and a
    /// writer has it alone, so that nobody gets between its looking at a record and replacing it.
    lock: RwLock<Option<File>>,
    /// Different each time that a store is opened, so that its versions are new ones.
    session: u64,
    sequence: AtomicU64,
}

impl Client {
    pub(crate) fn open(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(&root).map_err(|error| system(error, &root))?;
        let path = root.join(".lock");
        let file =
            OpenOptions::new().create(true).append(true).open(&path).map_err(|error| system(error, &path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(system(error, &path)),
            Err(TryLockError::WouldBlock) => {
                let message = format!("{} is open already: close it there first", root.display());
                return Err(Error::new(ErrorKind::Busy, message));
            }
        }
        let (lock, sequence) = (RwLock::new(Some(file)), AtomicU64::new(0));
        Ok(Self { root, lock, session: fastrand::u64(..), sequence })
    }

    pub(crate) fn get(&self, keys: &[Address]) -> Result<Vec<Option<Record>>> {
        let _reading = self.reading()?;
        keys.iter().map(|address| self.read(address)).collect()
    }

    pub(crate) fn write(&self, batch: &Batch) -> Result<Vec<Result<Written>>> {
        let _writing = self.writing()?;
        let results = batch.mutations.iter().map(|mutation| self.mutate(mutation));
        if batch.atomicity == Atomicity::Independent {
            return Ok(results.collect());
        }
        // Atomic batches are not offered, so that this has one mutation at most.
        results.map(|result| result.map(Ok).map_err(|error| error.mutation(0))).collect()
    }

    pub(crate) fn scan(&self, scan: &Scan) -> Result<Page<Record>> {
        self.page(scan, |key| {
            let record = self.read(&Address { collection: scan.collection.clone(), key: key.clone() })?;
            Ok(record.map(|record| (record.size(), record)))
        })
    }

    pub(crate) fn keys(&self, scan: &Scan) -> Result<Page<Key>> {
        self.page(scan, |key| Ok(Some((0, key.clone()))))
    }

    pub(crate) fn count(&self, collection: &CollectionName) -> Result<u64> {
        let _reading = self.reading()?;
        Ok(self.list(collection)?.len() as u64)
    }

    pub(crate) fn collections(&self) -> Result<Vec<CollectionName>> {
        let _reading = self.reading()?;
        let mut collections = Vec::new();
        for entry in entries(&self.root)? {
            if entry.is_directory
                && let Ok(collection) = CollectionName::new(entry.name)
                && !self.list(&collection)?.is_empty()
            {
                collections.push(collection);
            }
        }
        collections.sort_unstable();
        Ok(collections)
    }

    pub(crate) fn clear(&self, collection: &CollectionName) -> Result<u64> {
        let _writing = self.writing()?;
        let keys = self.list(collection)?;
        for key in &keys {
            self.remove(&convert::path(&self.directory(collection), key))?;
        }
        Ok(keys.len() as u64)
    }

    /// An error if the store is closed.
    pub(crate) fn check_open(&self) -> Result<()> {
        self.reading().map(drop)
    }

    /// Looks whether the directory can be read.
    pub(crate) fn probe(&self) -> Result<()> {
        let _reading = self.reading()?;
        entries(&self.root).map(drop)
    }

    /// Waits for what is under way, and lets go of the directory.
    pub(crate) fn close(&self) {
        *self.lock.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn reading(&self) -> Result<RwLockReadGuard<'_, Option<File>>> {
        // A panic elsewhere leaves nothing half done: each change is one step of the file system.
        let guard = self.lock.read().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() { Ok(guard) } else { Err(closed()) }
    }

    fn writing(&self) -> Result<RwLockWriteGuard<'_, Option<File>>> {
        let guard = self.lock.write().unwrap_or_else(PoisonError::into_inner);
        if guard.is_some() { Ok(guard) } else { Err(closed()) }
    }

    fn directory(&self, collection: &CollectionName) -> PathBuf {
        self.root.join(collection.as_str())
    }

    fn path(&self, address: &Address) -> PathBuf {
        convert::path(&self.directory(&address.collection), &address.key)
    }

    fn read(&self, address: &Address) -> Result<Option<Record>> {
        let path = self.path(address);
        match fs::read(&path) {
            Ok(file) => convert::decode(address, &path, file.into()).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(system(error, &path)),
        }
    }

    fn mutate(&self, mutation: &Mutation) -> Result<Written> {
        let current = self.read(&mutation.address)?;
        let outcome = apply(mutation, current.as_ref(), Timestamp::now(), self.next_version()?)?;
        match outcome.next {
            Next::Keep => {}
            Next::Remove => self.remove(&self.path(&mutation.address))?,
            Next::Store { record, .. } => {
                self.store(&self.path(&mutation.address), &convert::encode(&record)?)?
            }
        }
        Ok(outcome.written)
    }

    fn next_version(&self) -> Result<Version> {
        Version::new(format!("{:016x}-{:x}", self.session, self.sequence.fetch_add(1, Ordering::Relaxed)))
    }

    /// Puts a file in its place by a rename, so that readers and crashes find the old one or the new one.
    fn store(&self, path: &Path, file: &[u8]) -> Result<()> {
        let fresh = self.root.join(".new");
        fs::write(&fresh, file).map_err(|error| system(error, &fresh))?;
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory).map_err(|error| system(error, directory))?;
        }
        fs::rename(&fresh, path).map_err(|error| system(error, path))
    }

    /// Removes a file, and the directories that it leaves empty.
    fn remove(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|error| system(error, path))?;
        for directory in path.ancestors().skip(1).take_while(|directory| *directory != self.root) {
            if fs::remove_dir(directory).is_err() {
                break; // There is something in it.
            }
        }
        Ok(())
    }

    /// The keys of a collection, in order.
    fn list(&self, collection: &CollectionName) -> Result<Vec<Key>> {
        let (top, mut keys) = (self.directory(collection), Vec::new());
        let mut found = vec![(String::new(), top.clone())];
        while let Some((head, directory)) = found.pop() {
            for entry in entries(&directory)? {
                let path = directory.join(&entry.name);
                match entry.name.strip_suffix(convert::GOES_ON) {
                    Some(part) if entry.is_directory => found.push((format!("{head}{part}"), path)),
                    // What others have put there is none of ours.
                    _ => {
                        let key = convert::key(&format!("{head}{}", entry.name));
                        keys.extend(key.filter(|key| convert::path(&top, key) == path));
                    }
                }
            }
        }
        keys.sort_unstable();
        Ok(keys)
    }

    /// A page of what `load` makes of the keys of a scan; it says how many bytes that takes.
    fn page<T>(&self, scan: &Scan, load: impl Fn(&Key) -> Result<Option<(usize, T)>>) -> Result<Page<T>> {
        let _reading = self.reading()?;
        let after: Option<Key> =
            scan.after.as_ref().map(|cursor| cursor.open(&scan.identity())).transpose()?;
        let mut keys = self.list(&scan.collection)?;
        keys.retain(|key| {
            key.as_str().starts_with(&scan.prefix) && after.as_ref().is_none_or(|after| key > after)
        });
        let (mut items, mut bytes) = (Vec::new(), 0);
        for (position, key) in keys.iter().enumerate() {
            if let Some((size, item)) = load(key)? {
                items.push(item);
                bytes += size;
            }
            let is_full = items.len() >= scan.limit as usize || bytes > PAGE_BYTES;
            if is_full && position + 1 < keys.len() {
                return Ok(Page { items, next: Some(Cursor::seal(&scan.identity(), key)?) });
            }
        }
        Ok(Page::last(items))
    }
}

struct Entry {
    name: String,
    is_directory: bool,
}

/// What is in a directory, without names that are not UTF-8; nothing if there is no directory.
fn entries(directory: &Path) -> Result<Vec<Entry>> {
    let listed = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed,
    };
    let entry = |entry: fs::DirEntry| {
        let is_directory = entry.file_type()?.is_dir();
        Ok(entry.file_name().into_string().ok().map(|name| Entry { name, is_directory }))
    };
    let entries =
        listed.and_then(|listed| listed.filter_map(|found| found.and_then(entry).transpose()).collect());
    entries.map_err(|error| system(error, directory))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the store has been closed")
}
