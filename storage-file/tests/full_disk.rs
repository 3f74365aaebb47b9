//! A disk that fills up.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use storage_testkit::crash;

    crash::main(&storage_file::FILE, [crash::full_disk("file:{dir}")])
}

#[cfg(not(unix))]
fn main() {}
