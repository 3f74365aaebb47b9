//! Running the cases, several at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use storage_testkit::{Case, Harness, Outcome, TIME_LIMIT};

/// How many cases run at once: most of them wait.
const AT_ONCE: usize = 4;
/// A store can block every thread that it is given, so that no time limit of the suite strikes.
const SILENCE: Duration = TIME_LIMIT.saturating_mul(3);

/// How a case ended.
pub(crate) struct Verdict {
    pub(crate) case: &'static Case,
    pub(crate) outcome: Outcome,
}

/// Runs `cases` and gives their verdicts in the same order; `each` hears of each as it comes.
///
/// A case has threads and a runtime of its own: one that blocks or panics harms no other. Those that never end are
/// left behind as failures, so that this returns.
///
/// # Errors
/// What the operating system says if it gives no threads.
pub(crate) fn run(
    harness: &Arc<dyn Harness>,
    cases: &[&'static Case],
    mut each: impl FnMut(&Verdict),
) -> std::io::Result<Vec<Verdict>> {
    // The suite tells failures by panics, which the verdicts hold.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let receiving = start(harness, cases);
    let outcomes = receiving.map(|ended| {
        let mut outcomes: Vec<Option<Outcome>> = cases.iter().map(|_| None).collect();
        while let Ok((position, outcome)) = ended.recv_timeout(SILENCE) {
            let verdict = Verdict { case: cases[position], outcome };
            each(&verdict);
            outcomes[position] = Some(verdict.outcome);
        }
        outcomes
    });
    std::panic::set_hook(hook);
    let outcomes = outcomes?.into_iter();
    let ended = outcomes.map(|outcome| {
        outcome.unwrap_or_else(|| {
            Outcome::Failed(format!("did not end within {SILENCE:?}: the store blocks its threads"))
        })
    });
    Ok(cases.iter().zip(ended).map(|(&case, outcome)| Verdict { case, outcome }).collect())
}

/// Starts the threads that run the cases, and gives where the outcomes arrive with the cases' positions.
fn start(harness: &Arc<dyn Harness>, cases: &[&'static Case]) -> std::io::Result<Receiver<(usize, Outcome)>> {
    let (ended, receiving) = mpsc::channel();
    let next = Arc::new(AtomicUsize::new(0));
    for _ in 0..AT_ONCE.min(cases.len()) {
        let (harness, cases, next, ended) =
            (Arc::clone(harness), cases.to_vec(), Arc::clone(&next), ended.clone());
        std::thread::Builder::new().name("conformance".to_owned()).spawn(move || {
            loop {
                let position = next.fetch_add(1, Ordering::Relaxed);
                let Some(case) = cases.get(position) else { break };
                if ended.send((position, run_one(case, &*harness))).is_err() {
                    break;
                }
            }
        })?;
    }
    Ok(receiving)
}

fn run_one(case: &Case, harness: &dyn Harness) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Outcome::Failed(format!("no runtime could be made for the case: {error}")),
    };
    let outcome = runtime.block_on(Box::pin(case.run(harness)));
    // Dropping it would wait for what the store blocks.
    runtime.shutdown_background();
    outcome
}

#[cfg(test)]
mod tests {
    use storage_registry::Registry;
    use storage_testkit::cases;

    use super::*;
    use crate::conformance::Stores;

    fn harness(pattern: &str, persistent: bool) -> Arc<dyn Harness> {
        Arc::new(Stores::new(Arc::new(Registry::linked()), pattern.to_owned(), persistent))
    }

    #[test]
    fn verdicts_come_in_order_and_each_is_told() {
        let some: Vec<&Case> = cases().iter().filter(|case| case.group == "counters").collect();
        let mut told = 0;
        let verdicts = run(&harness("memory:", false), &some, |_| told += 1).unwrap();
        assert_eq!(told, some.len());
        for (verdict, case) in verdicts.iter().zip(&some) {
            assert_eq!(verdict.case.name, case.name);
            assert_eq!(verdict.outcome, Outcome::Passed, "{case:?}");
        }
    }

    #[test]
    fn a_lie_about_persistence_is_found() {
        let some: Vec<&Case> =
            cases().iter().filter(|case| case.name == "reopened_store_is_as_it_was").collect();
        let verdicts = run(&harness("memory:", true), &some, |_| {}).unwrap();
        assert!(matches!(&verdicts[0].outcome, Outcome::Failed(why) if why.contains("after the restart")));
    }
}
