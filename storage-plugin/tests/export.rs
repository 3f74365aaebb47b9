//! What the macros emit, in a crate that forbids unsafe code as backend crates do.

#![forbid(unsafe_code)]

use std::{env, fs};

use storage_plugin::note;

mod backend {
    storage_plugin::export_backend!(storage_core::MEMORY, name = "memory", version = "1.0.0", inline);
}

mod plugin {
    storage_plugin::export_plugin!(storage_core::MEMORY, name = "memory", version = "1.0.0", inline);
}

#[test]
fn the_note_can_be_read_from_the_file() {
    let program = fs::read(env::current_exe().unwrap()).unwrap();
    let note = note::read(&program).unwrap();
    assert_eq!(
        (note.abi, note.name.as_str(), note.version.to_string().as_str()),
        ((1, 0), "memory", "1.0.0")
    );
    assert_eq!(note.build, concat!("storage-plugin ", env!("CARGO_PKG_VERSION")));
}
