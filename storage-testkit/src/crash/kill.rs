//! SIGKILL at any moment.

use std::path::Path;
use std::time::Duration;

use super::ledger::Ledger;
use super::parent::Program;
use super::{Failure, Outcome, Test, rounds};

/// Every so many rounds a new store is made, so that kills also hit the making.
const FRESH: usize = 10;

/// Kills the writer 50 times (1,000 in the long run) and checks after each: the store opens, no acknowledged
/// write is lost, no batch is torn, verifying finds nothing, and the next write works.
pub fn kills(url: &'static str) -> Test {
    Test { name: "kill_9_loses_no_acknowledged_write", run, url }
}

fn run(program: &Program) -> Outcome {
    let directory = tempfile::tempdir().map_err(Failure::broken)?;
    let done = kill_often(program, directory.path());
    if done.is_err() {
        // To be looked at.
        let _ = directory.keep();
    }
    done
}

fn kill_often(program: &Program, directory: &Path) -> Outcome {
    let rounds = rounds(50, 1000);
    let mut acknowledged = 0;
    let (mut ledger, mut path) = (Ledger::default(), directory.to_owned());
    for round in 0..rounds {
        let fresh = round % FRESH == 0;
        if fresh {
            path = directory.join(format!("store-{round}"));
            ledger = Ledger::default();
        }
        let counted = ledger.acknowledged;
        let mut writer = program.start(&path)?;
        // Some are killed while they make the store, or recover it.
        if !fresh && fastrand::u8(..4) > 0 {
            writer.until_ready()?;
        }
        std::thread::sleep(Duration::from_micros(fastrand::u64(..200_000)));
        ledger.hold(&writer.kill()?, None, format_args!("{}: up to kill {round}", path.display()))?;
        acknowledged += ledger.acknowledged - counted;
        if (round + 1) % FRESH == 0 || round + 1 == rounds {
            ledger.hold(
                &program.finish(&path)?,
                None,
                format_args!("{}: after kill {round}", path.display()),
            )?;
        }
    }
    // Fewer would mean that next to nothing was tried.
    if acknowledged < 2 * rounds as u64 {
        return Err(Failure::broken(format!(
            "only {acknowledged} writes were acknowledged in {rounds} rounds"
        )));
    }
    Ok(format!("{rounds} kills, {acknowledged} acknowledged writes, none lost"))
}
