//! Damaged libraries that nothing vouches for: only the trial stands between them and the host.

use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::ops::Range;
use std::process::Command;
use std::time::Duration;

use crate::common::{Place, flipped};

/// How many damaged libraries a process looks at, which keeps those that it has loaded.
const SEEDS_A_PROCESS: u64 = 40;
const SEEDS: u64 = 240;
/// Names the first of the seeds in the other process.
const FIRST: &str = "PLUGIN_TEST_FIRST_SEED";

/// Returns how many libraries were loaded and how many refused.
fn load_each(seeds: Range<u64>) -> (u32, u32) {
    let mut place = Place::lenient();
    place.options.limits.init = Duration::from_secs(2);
    place.options.trial.limit = Duration::from_secs(5);
    let whole = fs::read(place.compile("flipped@1.0.0", &[])).unwrap();
    let (mut loaded, mut refused) = (0, 0);
    for seed in seeds {
        fs::write(place.inside("flipped.so"), flipped(&whole, seed)).unwrap();
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
    (loaded, refused)
}

#[test]
fn a_host_of_its_own() {
    let Ok(first) = env::var(FIRST) else { return };
    let first = first.parse().unwrap();
    let (loaded, refused) = load_each(first..first + SEEDS_A_PROCESS);
    writeln!(io::stdout(), "\noutcome {loaded} {refused}").unwrap();
}

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
