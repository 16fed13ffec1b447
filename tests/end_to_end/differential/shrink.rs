//! A failing sequence made short: what is left is what a person has to read.

use std::time::{Duration, Instant};

use super::{Excused, Mismatch, run};

/// When to be content with what was found.
const BUDGET: Duration = Duration::from_secs(90);

/// The shortest sequence found that fails, and how; `numbers` fails at its last.
pub(super) async fn shortest(mut numbers: Vec<u64>, users: bool, mut mismatch: Mismatch) -> Mismatch {
    let deadline = Instant::now() + BUDGET;
    let mut cut = numbers.len() / 2;
    while cut > 0 {
        let mut start = 0;
        while start + cut < numbers.len() {
            if Instant::now() > deadline {
                return mismatch;
            }
            let mut shorter = [&numbers[..start], &numbers[start + cut..]].concat();
            match run(&shorter, users, &mut Excused::new()).await {
                Ok(()) => start += cut,
                Err(again) => {
                    shorter.truncate(again.asked.len());
                    (numbers, mismatch) = (shorter, again);
                }
            }
        }
        cut /= 2;
    }
    mismatch
}
