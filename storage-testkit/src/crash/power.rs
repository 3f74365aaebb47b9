//! Power cuts.

use std::path::Path;
use std::time::Duration;

use super::disk::Image;
use super::ledger::{Ledger, Problem};
use super::parent::{Event, Program};
use super::{Failure, Outcome, Test, rounds};

/// Room for several stores.
const IMAGE_BYTES: u64 = 256 << 20;
/// Every so many cuts a new store is made, so that cuts also hit the making.
const FRESH: usize = 10;

/// Cuts the power under the writer 20 times (500 in the long run) and checks after each what
/// [`kills`](super::kills) does. Needs root, a loop device, `mkfs.ext4` and `cc`.
pub fn power_cuts(url: &'static str) -> Test {
    Test { name: "a_power_cut_loses_no_acknowledged_write", run, url }
}

/// The same, 10 times (100 in the long run), with a store that acknowledges before it syncs. It may lose
/// acknowledged writes, the last ones; all else holds, as that no batch is torn.
pub fn power_cuts_eventual(url: &'static str) -> Test {
    Test { name: "a_power_cut_with_eventual_durability_tears_nothing", run: run_eventual, url }
}

/// [`power_cuts`] with a store that does not sync, which must be found to lose acknowledged writes: proof that
/// [`power_cuts`] can fail.
pub fn power_cuts_unsynced(url: &'static str) -> Test {
    Test { name: "a_power_cut_without_sync_is_caught", run: run_unsynced, url }
}

fn run(program: &Program) -> Outcome {
    let cuts = rounds(20, 500);
    let acknowledged = cut_often(program, cuts, true)?;
    // Fewer would mean that next to nothing was tried.
    if acknowledged < 2 * cuts as u64 {
        return Err(Failure::broken(format!(
            "only {acknowledged} writes were acknowledged before {cuts} cuts"
        )));
    }
    Ok(format!("{cuts} power cuts, {acknowledged} acknowledged writes, none lost"))
}

fn run_eventual(program: &Program) -> Outcome {
    let cuts = rounds(10, 100);
    cut_often(program, cuts, false).map(|_| format!("{cuts} power cuts, nothing torn"))
}

/// Cuts the power again and again; how many acknowledgements were held against the store, if they are `promised`.
fn cut_often(program: &Program, cuts: usize, promised: bool) -> Outcome<u64> {
    let mut image = Image::new(IMAGE_BYTES)?;
    let (mut ledger, mut path) = (Ledger::default(), image.path().join("store"));
    let mut acknowledged = 0;
    for cut in 0..cuts {
        let fresh = cut % FRESH == 0;
        if fresh {
            let _ = std::fs::remove_dir_all(&path);
            ledger = Ledger::default();
            path = image.path().join(format!("store-{cut}"));
        }
        let counted = ledger.acknowledged;
        let wait = !fresh && fastrand::u8(..6) > 0;
        let (mut events, at) = cut_once(program, &mut image, &path, wait)?;
        if !promised {
            events.iter_mut().for_each(Event::after_the_cut);
        }
        ledger.hold(&events, Some(at), format_args!("up to power cut {cut}"))?;
        acknowledged += ledger.acknowledged - counted;
        if (cut + 1) % FRESH == 0 || cut + 1 == cuts {
            ledger.hold(&program.finish(&path)?, None, format_args!("after power cut {cut}"))?;
        }
    }
    Ok(acknowledged)
}

fn run_unsynced(program: &Program) -> Outcome {
    let mut image = Image::new(IMAGE_BYTES)?;
    let cuts = 5;
    let (mut losing, mut lost, mut damaged) = (0, 0, 0);
    for cut in 0..cuts {
        let path = image.path().join(format!("store-{cut}"));
        let mut ledger = Ledger::default();
        let (events, at) = cut_once(program, &mut image, &path, true)?;
        ledger.hold(&events, Some(at), format_args!("up to power cut {cut}"))?;
        let problems = ledger.read(&program.finish(&path)?, None);
        let lanes = problems.iter().filter(|problem| matches!(problem, Problem::Lost(_))).count();
        lost += lanes;
        losing += usize::from(lanes > 0);
        damaged += problems.len() - lanes;
    }
    if losing == 0 {
        return Err(Failure::broken(format!(
            "{cuts} power cuts without a sync, and no lost write was found ({damaged} other problems)"
        )));
    }
    Ok(format!(
        "caught: {losing} of {cuts} cuts lost acknowledged writes, in {lost} lanes; {damaged} other problems"
    ))
}

/// Lets a writer run on the image and cuts the power; what it said, and when the cut began.
fn cut_once(program: &Program, image: &mut Image, path: &Path, wait: bool) -> Outcome<(Vec<Event>, u64)> {
    let mut writer = program.start(path)?;
    if wait {
        writer.until_ready()?;
    }
    std::thread::sleep(Duration::from_micros(5_000 + fastrand::u64(..195_000)));
    let at = image.cut().map_err(Failure::Broken)?;
    // A store that takes failed writes for done shows itself now.
    std::thread::sleep(Duration::from_millis(10));
    let mut events = writer.kill()?;
    // With its disk gone a writer may end; only before that would it be trouble.
    events.retain(|event| !matches!(event, Event::Trouble { at: 0, .. }));
    image.recover()?;
    Ok((events, at))
}
