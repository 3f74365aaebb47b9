//! Import and export take the same memory, whatever the size of the file.

use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::process::{Child, Stdio};
use std::time::Duration;

use crate::shell::Shell;

/// The most memory that `import` and `export` may take here: the store's page cache (set to 8 MiB below), the
/// batches in flight and the program itself. `docs/cli.md` names it.
const BOUND_KIB: u64 = 64 << 10;

/// About 200 bytes a record.
fn records() -> u64 {
    if std::env::var_os("STORAGE_LONG").is_some() { 1_000_000 } else { 200_000 }
}

/// The most memory that a process took until now, in KiB.
fn peak(id: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Waits for a process to end well, and gives the most memory that it took.
fn watched(mut child: Child) -> u64 {
    let mut most = 0;
    loop {
        most = most.max(peak(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            assert!(status.success());
            assert!(most > 0, "the memory was never read");
            return most;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn memory_stays_flat() {
    let shell = Shell::new();
    let command = || {
        let mut command = shell.command();
        command.env("STORAGE_URL", "file:./store?durability=eventual&cache_bytes=8388608");
        command.stdout(Stdio::null());
        command
    };
    let path = shell.directory.path().join("big.json");
    let mut file = BufWriter::new(std::fs::File::create(&path).unwrap());
    let pad = "x".repeat(160);
    for i in 0..records() {
        let open = if i == 0 { "[" } else { ",\n" };
        write!(file, "{open}{{\"id\":\"record-{i:08}\",\"n\":{i},\"pad\":\"{pad}\"}}").unwrap();
    }
    file.write_all(b"]").unwrap();
    drop(file);

    let import = watched(command().args(["import", "c", "big.json", "--key", "id"]).spawn().unwrap());
    assert!(import < BOUND_KIB, "import took {import} KiB");
    let export = watched(command().args(["export", "--output", "out.ndjson"]).spawn().unwrap());
    assert!(export < BOUND_KIB, "export took {export} KiB");
    let exported = BufReader::new(std::fs::File::open(shell.directory.path().join("out.ndjson")).unwrap());
    assert_eq!(exported.lines().count() as u64, records());
    let again = watched(command().args(["import", "--exported", "out.ndjson"]).spawn().unwrap());
    assert!(again < BOUND_KIB, "import of the export took {again} KiB");
}
