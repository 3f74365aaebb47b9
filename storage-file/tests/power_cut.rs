//! Power cuts.

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    use storage_testkit::crash;

    let tests = [
        crash::power_cuts("file:{dir}"),
        crash::power_cuts_eventual("file:{dir}?durability=eventual&flush_interval=20ms"),
        crash::power_cuts_unsynced("file:{dir}?durability=none"),
    ];
    crash::main(&storage_file::FILE, tests)
}

#[cfg(not(unix))]
fn main() {}
