//! What holds of every log.

use proptest::{collection::vec, prelude::*};

use super::{
    Rig,
    agreement::{Step, agrees},
    strategy::{command, range},
};
use crate::*;

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(command(), 1..6).prop_map(Step::Batch),
        1 => Just(Step::Reopen),
        1 => Just(Step::Sweep),
        1 => Just(Step::Settle),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_store_agrees_with_a_map(steps in vec(step(), 1..30), ranges in vec(range(), 12)) {
        // So little is remembered that rows are read from the engine, too.
        let limits = Limits { sweep_rows: 3, recent_bytes_max: 2 << 10, ..Limits::default() };
        agrees(Rig::with_limits(limits), steps, &ranges);
    }

    #[test]
    fn the_same_log_gives_the_same_bytes(
        commands in vec(command(), 1..60), sizes in (vec(1..9_usize, 60), vec(1..9_usize, 60)),
    ) {
        let (mut one, mut other) = (Rig::in_memory(), Rig::in_memory());
        for (rig, sizes) in [(&mut one, sizes.0), (&mut other, sizes.1)] {
            let mut rest = commands.clone();
            for size in sizes {
                let batch = rest.drain(..size.min(rest.len())).collect();
                rig.apply(batch);
            }
        }
        for _ in 0..2 {
            for &space in Store::SPACES {
                prop_assert_eq!(one.rows(space), other.rows(space), "{}", space.name());
            }
            one.sweep_all();
            other.sweep_all();
        }
    }

    #[test]
    fn a_log_may_be_replayed_from_its_encoding(commands in vec(command(), 1..30)) {
        let (mut one, mut other) = (Rig::in_memory(), Rig::in_memory());
        let decoded = commands.iter().map(|command| Entry::decode(&Entry::from(command.clone()).encode()).expect("our own").command).collect();
        prop_assert_eq!(one.apply(commands), other.apply(decoded));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_store_agrees_with_a_map_on_disk(steps in vec(step(), 1..20), ranges in vec(range(), 12)) {
        agrees(Rig::on_disk(), steps, &ranges);
    }
}
