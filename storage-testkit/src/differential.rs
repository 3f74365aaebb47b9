//! The differential tester: random sequences of operations run against the backend under test and against
//! the in-memory reference, whose replies must agree.
//!
//! One line in a backend's tests runs it; see [`differential!`](macro@crate::differential). What may rightly
//! differ is set aside: versions count only as equal or different, pages are joined, unsorted results are
//! sorted by key, and of errors only the kind and the blamed mutation count. Expiries lie far in the past or
//! in the future, so a run does not depend on the time. Operations that the backend does not offer are not
//! tried.
//!
//! A sequence that fails is shrunk to the least one that still does, and printed step by step. The
//! environment sets how much is tried:
//!
//! - `STORAGE_DIFFERENTIAL_CASES`: how many sequences, of up to 40 steps; 64 if unset.
//! - `STORAGE_DIFFERENTIAL_SEED`: the seed, as the message of a failure names it; random if unset.

pub(crate) mod arbitrary;
mod reply;
mod sequences;
mod side;
mod step;

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use storage_core::{Backend, Capabilities, Feature, MemoryBackend, Timestamp, Version};

use crate::Harness;
use side::Side;
use step::{COLLECTIONS, Condition, Names, Place, Step, Which};

/// How many sequences are tried if the environment does not say.
const DEFAULT_CASES: u32 = 64;

/// How long a failing sequence is shrunk at most.
const MAX_SHRINK: Duration = Duration::from_secs(60);

/// How much to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// The number of sequences.
    pub cases: u32,
    /// Where the random sequences begin.
    pub seed: u64,
}

impl Effort {
    /// What the environment asks for.
    ///
    /// # Panics
    /// If a variable is set and is not a number.
    pub fn from_env() -> Self {
        let number = |name: &str| {
            let text = std::env::var(name).ok()?;
            Some(text.parse::<u64>().unwrap_or_else(|_| panic!("{name} is {text:?}: set it to a number")))
        };
        let cases = number("STORAGE_DIFFERENTIAL_CASES")
            .map_or(DEFAULT_CASES, |n| u32::try_from(n).unwrap_or(u32::MAX));
        Self { cases, seed: number("STORAGE_DIFFERENTIAL_SEED").unwrap_or_else(fresh_seed) }
    }
}

/// Runs as many sequences as `effort` says, each against a new store of the harness.
///
/// Blocks, on a tokio runtime of its own: call it from a thread that drives none.
///
/// # Errors
/// The least sequence found on which the backend and the reference disagree, and how they do; or that a store
/// could not be made, opened or closed.
pub fn run(harness: &dyn Harness, effort: Effort) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    let (offered, persistent) = runtime.block_on(probe(harness)).map_err(|error| error.to_string())?;
    let config = Config {
        cases: effort.cases,
        rng_seed: RngSeed::Fixed(effort.seed),
        failure_persistence: None,
        max_shrink_time: MAX_SHRINK.as_millis() as u32,
        ..Config::default()
    };
    let sequences = sequences::sequences(&both_offer(offered), persistent);
    let tried = TestRunner::new(config).run(&sequences, |steps| {
        runtime.block_on(Box::pin(compare(&steps, harness))).map_err(TestCaseError::fail)
    });
    match tried {
        Ok(()) => Ok(()),
        Err(TestError::Abort(reason)) => Err(format!("no sequences could be made: {reason}")),
        Err(TestError::Fail(reason, steps)) => Err(format!(
            "the backend and the reference disagree (STORAGE_DIFFERENTIAL_SEED={})\n{}{reason}",
            effort.seed,
            Listed(&steps)
        )),
    }
}

/// What the backend offers, and whether it keeps what it was given when it is closed.
async fn probe(harness: &dyn Harness) -> storage_core::Result<(Capabilities, bool)> {
    let fixture = harness.create().await?;
    let backend = fixture.open().await?;
    let offered = backend.info().capabilities.clone();
    backend.close().await?;
    fixture.discard().await?;
    Ok((offered, fixture.persistent()))
}

/// What the backend and the reference both offer.
fn both_offer(mut offered: Capabilities) -> Capabilities {
    let reference = MemoryBackend::new();
    offered.features.retain(|feature, _| reference.info().capabilities.has(*feature) || is_chore(*feature));
    offered
}

/// Chores are compared only by whether they find something wrong, so one side's are enough.
fn is_chore(feature: Feature) -> bool {
    matches!(feature, Feature::Sweep | Feature::Analyse | Feature::Compact | Feature::Verify)
}

/// Runs one sequence on both sides, and in the end reads everything.
async fn compare(steps: &[Step], harness: &dyn Harness) -> Result<(), String> {
    let names = Names::new().map_err(explain("naming the collections"))?;
    let fixture = harness.create().await.map_err(explain("making a store"))?;
    let mut reference = Side::new(Arc::new(MemoryBackend::new()), names.clone());
    let mut tested = Side::new(fixture.open().await.map_err(explain("opening the store"))?, names);
    let audit = audit(steps, &both_offer(tested.backend.info().capabilities.clone()));
    let all = steps.iter().enumerate().map(|(i, step)| (format!("step {}", i + 1), step));
    for (at, step) in all.chain(audit.iter().map(|step| ("in the end".to_owned(), step))) {
        match step {
            Step::Reopen => {
                tested.backend.close().await.map_err(explain(&format!("{at}, close")))?;
                tested.reopened(fixture.open().await.map_err(explain(&format!("{at}, open again")))?);
            }
            _ => agree(&at, step, &mut reference, &mut tested).await?,
        }
    }
    tested.backend.close().await.map_err(explain("in the end, close"))?;
    fixture.discard().await.map_err(explain("removing the store"))
}

/// Makes a message of an error.
fn explain(what: &str) -> impl Fn(storage_core::Error) -> String + use<'_> {
    move |error| format!("{what}: {error} ({error:?})")
}

/// Lets the clock move on, so that times that are kept differ from times that are set anew.
async fn tick() {
    let before = Timestamp::now();
    while Timestamp::now() <= before {
        tokio::task::yield_now().await;
    }
}

/// Runs one step on both sides.
async fn agree(at: &str, step: &Step, reference: &mut Side, tested: &mut Side) -> Result<(), String> {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    if let Step::Write { mutations, .. } = step {
        tick().await;
        for planned in mutations {
            let resolved = match &planned.on {
                Some(Condition::Version(which)) => resolve(&planned.place, which, reference, tested),
                _ => None,
            };
            let (our, their) = resolved.unzip();
            ours.push(our);
            theirs.push(their);
        }
    }
    let expected = reference.run(step, &ours).await;
    let expected = expected.map_err(|broken| format!("{at}, {step:?}\n  the reference: {broken}"))?;
    let found = tested.run(step, &theirs).await;
    let found = found.map_err(|broken| format!("{at}, {step:?}\n  the backend: {broken}"))?;
    if expected == found {
        return Ok(());
    }
    Err(format!("{at}, {step:?}\n  the reference: {expected:?}\n  the backend:   {found:?}"))
}

/// The versions that a symbol stands for, if it stands for one on both sides.
fn resolve(place: &Place, which: &Which, a: &Side, b: &Side) -> Option<(Version, Version)> {
    a.resolve(place, which).zip(b.resolve(place, which))
}

/// Reads all that a sequence may have touched, so that no difference stays unseen.
fn audit(steps: &[Step], offered: &Capabilities) -> Vec<Step> {
    let places: BTreeSet<&Place> = steps.iter().flat_map(Step::places).collect();
    let mut audit = Vec::new();
    if offered.has(Feature::Get) && !places.is_empty() {
        audit.push(Step::Get(places.iter().map(|place| (*place).clone()).collect()));
    }
    if offered.has(Feature::Lists) {
        let from = |place: &Place, start, limit| Step::ListRange { place: place.clone(), start, limit };
        audit.extend(places.iter().flat_map(|place| [from(place, 0, 1_000), from(place, 3, 2)]));
    }
    if offered.has(Feature::Scan) {
        let all = |slot| Step::Scan { slot, prefix: String::new(), limit: 1_000 };
        audit.extend((0..COLLECTIONS.len()).map(all));
    }
    audit
}

/// A sequence, a line for each step.
struct Listed<'a>(&'a [Step]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().enumerate().try_for_each(|(i, step)| writeln!(f, "  {}. {step:?}", i + 1))
    }
}

/// Another seed each time.
fn fresh_seed() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// [`run`] as a test: as much as the environment asks for.
///
/// # Panics
/// If the backend and the reference disagree.
pub fn run_as_test(harness: impl Harness) {
    if let Err(difference) = run(&harness, Effort::from_env()) {
        panic!("{difference}");
    }
}

/// Makes the test `agrees_with_the_reference` of a [`Harness`](crate::Harness): the one line in a backend's
/// `tests/differential.rs`. See the [module](mod@crate::differential) for what it does.
#[macro_export]
macro_rules! differential {
    ($harness:expr) => {
        #[test]
        fn agrees_with_the_reference() {
            $crate::differential::run_as_test($harness);
        }
    };
}
