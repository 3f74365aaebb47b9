//! Power cuts.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use storage_testkit::crash;

    crash::main(
        &storage_file::FILE,
        [crash::power_cuts("file:{dir}"), crash::power_cuts_unsynced("file:{dir}?durability=none")],
    )
}

#[cfg(not(unix))]
fn main() {}
