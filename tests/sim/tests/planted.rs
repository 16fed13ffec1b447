//! Each bug that is planted in the rooms is found, by some seed of few; without the bug the same seed finds nothing.

mod processes;

use processes::{in_parallel, run};
use types::Bug;

/// Seeds that are tried.
const SEEDS_MAX: u64 = 300;

#[test]
fn every_planted_bug_is_found() {
    let found = in_parallel(&Bug::ALL, |bug| {
        let name = format!("{bug:?}");
        let failed = (1..=SEEDS_MAX).map(|seed| (seed, run(seed, Some(&name), None))).find(|(_, ran)| !ran.passed);
        let Some((seed, ran)) = failed else {
            println!("{name}: NOT FOUND");
            return false;
        };
        let what = ran.said.lines().find(|line| line.starts_with("- ")).unwrap_or("it crashed");
        println!("{name}: seed {seed}: {what}");
        let control = run(seed, None, None);
        assert!(control.passed, "seed {seed} fails without {name}, too:\n{}", control.said);
        true
    });
    let missed: Vec<_> = Bug::ALL.iter().zip(found).filter(|(_, found)| !found).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}
