//! The end of a process with calls in flight.

use std::env;
use std::path::Path;
use std::process::{self, Command, Stdio};
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;
use storage_core::{Address, Batch, Mutation, TypeDescriptor, Value};
use storage_plugin::host::{LoadLimits, Plugin};

use crate::build;

/// Tells the test to be the process that ends: which way, with which library, and which file is to tell that the
/// plugin was shut down and closed its stores.
const WAY: &str = "STORAGE_TEST_EXIT_WAY";
const LIBRARY: &str = "STORAGE_TEST_EXIT_LIBRARY";
const CLOSED: &str = "STORAGE_TEST_EXIT_CLOSED";
/// The test harness itself ends with other ones.
const STATUS: i32 = 42;
const TIMES: u32 = 200;
/// The plugins' own limit to end is 5 seconds.
const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn exit_is_clean_with_calls_in_flight() {
    if let (Ok(way), Some(library), Ok(closed)) = (env::var(WAY), env::var_os(LIBRARY), env::var(CLOSED)) {
        leave(way.parse().expect("a number"), Path::new(&library), &closed);
    }
    let library = build::example("misbehaving_plugin");
    let next = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Some(way) = Some(next.fetch_add(1, Relaxed)).filter(|way| *way < TIMES) {
                    check_exit(way, &library);
                }
            });
        }
    });
}

/// Runs this test again as a process that ends, and looks at how it did.
fn check_exit(way: u32, library: &Path) {
    let mut child = Command::new(env::current_exe().expect("this program"));
    child.args(["--exact", "exit::exit_is_clean_with_calls_in_flight", "--nocapture"]);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let closed = directory.path().join("closed");
    child.env(WAY, way.to_string()).env(LIBRARY, library).env(CLOSED, &closed);
    let mut child =
        child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a process");
    let begin = Instant::now();
    while child.try_wait().expect("its status").is_none() {
        if begin.elapsed() > LIMIT {
            child.kill().expect("the process is ended");
            panic!("way {way}: the process did not end");
        }
        thread::sleep(Duration::from_millis(2));
    }
    let output = child.wait_with_output().expect("its output");
    assert_eq!(output.status.code(), Some(STATUS), "way {way}: {}", output.status);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "way {way}");
    assert!(closed.exists() || way % 4 == NOTHING_OPEN, "way {way}: a store that was open was not closed");
}

/// Of the ways to leave, the one that leaves no store open.
const NOTHING_OPEN: u32 = 3;

/// Ends this process while calls hang, and others come and go.
fn leave(way: u32, library: &Path, closed: &str) -> ! {
    let plugin = Plugin::load(library, LoadLimits::default()).expect("the plugin loads");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let at = Address::new("things", "one").expect("an address");
    let (works, hangs) = runtime.block_on(async {
        let works = plugin.open(json!({"closed": closed})).await.expect("a store");
        // Now and then one that cannot even be closed: the plugin waits for it, for a while.
        let hangs = if way.is_multiple_of(50) {
            json!({"fault": "hang"})
        } else {
            json!({"fault": "hang", "at": "get"})
        };
        let hangs = plugin.open(hangs).await.expect("another");
        (works, hangs)
    });
    for _ in 0..32 {
        let (hangs, works, at) = (hangs.clone(), works.clone(), at.clone());
        let key = at.clone();
        runtime.spawn(async move { hangs.get(&[key]).await.map(drop) });
        runtime.spawn(async move {
            let put = Batch::independent(vec![Mutation::put(at.clone(), Value::bytes("value"))]);
            while works.write(&put).await.is_ok() && works.get(std::slice::from_ref(&at)).await.is_ok() {}
        });
    }
    thread::sleep(Duration::from_micros(u64::from(way / 4) * 100));
    match way % 4 {
        // While the host's threads go on calling.
        0 => process::exit(STATUS),
        // From one of them.
        1 => runtime
            .block_on(async { tokio::spawn(async { process::exit(STATUS) }).await })
            .expect("no return"),
        // When they have ended, and dropped their calls.
        2 => drop(runtime),
        // When all stores are dropped too: `NOTHING_OPEN`.
        _ => drop((runtime, works, hangs, plugin)),
    }
    process::exit(STATUS)
}
