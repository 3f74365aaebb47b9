//! Damaged libraries that nothing vouches for: only the checks of their tables and the trial stand between them and the
//! host.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use storage_registry::plugins::PluginManager;

use crate::common::{Place, flipped};

/// How many damaged libraries a process looks at, which keeps those that it has loaded.
const SEEDS_A_PROCESS: u64 = 40;
const SEEDS: u64 = 240;
/// Names the first of the seeds in the other process.
const FIRST: &str = "PLUGIN_TEST_FIRST_SEED";

/// A place where nothing that hangs takes long, and a plugin.
fn place() -> (Place, Vec<u8>) {
    let mut place = Place::lenient();
    place.options.limits.init = Duration::from_secs(2);
    place.options.trial.limit = Duration::from_secs(5);
    let whole = fs::read(place.compile_build("flipped@1.0.0", "the same", &[])).unwrap();
    (place, whole)
}

/// Where the code of a library is in its file.
fn code(library: &[u8]) -> Range<usize> {
    let number =
        |at: usize| usize::try_from(u64::from_le_bytes(library[at..at + 8].try_into().unwrap())).unwrap();
    let headers = library[number(32)..].chunks_exact(56).take(library[56].into());
    let mut positions = headers.enumerate().map(|(index, header)| (number(32) + 56 * index, header));
    // The segment to load that is to be executed.
    let (at, _) = positions.find(|(_, header)| header[0] == 1 && header[4] & 1 == 1).unwrap();
    number(at + 8)..number(at + 8) + number(at + 32)
}

#[test]
fn a_host_of_its_own() {
    let Ok(first) = env::var(FIRST) else { return };
    let first: u64 = first.parse().unwrap();
    let (place, whole) = place();
    let (mut loaded, mut refused) = (0, 0);
    for seed in first..first + SEEDS_A_PROCESS {
        fs::write(place.inside("flipped.so"), flipped(&whole, seed, &code(&whole))).unwrap();
        let (registry, report) = place.load();
        let [plugin] = &report.plugins[..] else { panic!("{seed}: {report:?}") };
        match &plugin.reason {
            None => loaded += 1,
            Some(reason) => {
                assert!(registry.list().is_empty() && !reason.is_empty(), "{seed}: {report:?}");
                refused += 1;
            }
        }
    }
    writeln!(io::stdout(), "\noutcome {loaded} {refused}").unwrap();
}

/// A process that loads code can be ended by it; but not by what is around the code.
#[test]
fn damaged_libraries_never_end_the_host() {
    let (mut loaded, mut refused) = (0, 0);
    for first in (0..SEEDS).step_by(usize::try_from(SEEDS_A_PROCESS).unwrap()) {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "flips::a_host_of_its_own"]).env(FIRST, first.to_string());
        let output = command.output().unwrap();
        let out = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "seeds from {first} on: {}\n{out}", output.status);
        let outcome = out.lines().find_map(|line| line.strip_prefix("outcome ")).unwrap();
        let (these, those) = outcome.split_once(' ').unwrap();
        loaded += these.parse::<u32>().unwrap();
        refused += those.parse::<u32>().unwrap();
    }
    assert_eq!(u64::from(loaded + refused), SEEDS);
    assert!(loaded > 0 && refused > 0, "{loaded} loaded, {refused} refused: that tests nothing");
}

/// With damage in the code as well, a trial ends as one that is refused or in order, and nothing else.
#[test]
fn a_trial_of_a_damaged_library_has_an_end() {
    let (place, whole) = place();
    let manager: PluginManager = place.manager();
    let file = place.path("damaged.so");
    let mut refused = 0;
    for seed in 0..80 {
        // As many as in a whole file, all of them in the code.
        let range = code(&whole);
        let mut bytes = whole.clone();
        bytes[range.clone()].copy_from_slice(&flipped(&whole[range], seed, &(0..0)));
        fs::write(&file, &bytes).unwrap();
        if let Err(error) = manager.trial(&file) {
            assert!(error.message().contains("damaged.so"), "{seed}: {error}");
            refused += 1;
        }
    }
    assert!(refused > 0, "that tests nothing");
}
