//! `kill -9` at any moment.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use storage_testkit::crash;

    crash::main(&storage_file::FILE, [crash::kills("file:{dir}")])
}

#[cfg(not(unix))]
fn main() {}
