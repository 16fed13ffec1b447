//! Each bug that is planted in the rooms is found, by some seed of few.

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
        match &failed {
            Some((seed, ran)) => {
                let what = ran.said.lines().find(|line| line.starts_with("- ")).unwrap_or("it crashed");
                println!("{name}: seed {seed}: {what}");
            }
            None => println!("{name}: NOT FOUND"),
        }
        failed.is_some()
    });
    let missed: Vec<_> = Bug::ALL.iter().zip(found).filter(|(_, found)| !found).map(|(bug, _)| bug).collect();
    assert!(missed.is_empty(), "not found in {SEEDS_MAX} seeds: {missed:?}");
}
