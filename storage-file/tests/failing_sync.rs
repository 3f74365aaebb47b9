//! A disk that fails.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use storage_testkit::crash;

    let small_cache = "file:{dir}?cache_bytes=65536";
    crash::main(&storage_file::FILE, [crash::failing_syncs(small_cache), crash::failing_writes(small_cache)])
}

#[cfg(not(unix))]
fn main() {}
