//! Loads a shared library, for good.

#![expect(unsafe_code, reason = "loads foreign code")]

use std::mem;
use std::path::Path;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use storage_core::{Error, ErrorKind, Result};

use crate::abi::{Descriptor, ENTRY, Entry};

/// Loads the library and calls its entry symbol. The library is never unloaded.
///
/// # Errors
/// [`InvalidInput`](ErrorKind::InvalidInput) if the dynamic loader refuses the file, or the symbol is missing.
///
/// # Safety
/// The file is a storage plugin that keeps to the ABI: code in it runs.
pub(super) unsafe fn load(path: &Path) -> Result<*const Descriptor> {
    // A name without a directory would be looked up in the system's library path.
    let file = std::path::absolute(path).map_err(|error| {
        Error::new(ErrorKind::InvalidInput, format!("plugin {}: {error}", path.display())).with_source(error)
    })?;
    // SAFETY: the caller's promise about what runs when the library is loaded.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_LOCAL) };
    let library = library.map_err(|error| refused(path, "the dynamic loader refuses it", error))?;
    // SAFETY: the ABI says which type the symbol of this name has.
    let entry = unsafe { library.get::<Entry>(ENTRY) };
    let entry = match entry {
        Ok(entry) => *entry,
        Err(error) => {
            // Threads that its constructors started may still run its code.
            mem::forget(library);
            return Err(refused(path, "it does not export `storage_plugin_entry`", error));
        }
    };
    mem::forget(library);
    // SAFETY: the library stays loaded, and the caller promised that it keeps to the ABI.
    Ok(unsafe { entry() })
}

fn refused(path: &Path, why: &str, error: libloading::Error) -> Error {
    // The loader's text names the file and what it lacks; it stands in the source of the error.
    let detail = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
    Error::new(ErrorKind::InvalidInput, format!("plugin {}: {why}: {detail}", path.display()))
        .with_source(error)
}
