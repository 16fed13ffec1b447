//! What holds of every log.

use proptest::{collection::vec, prelude::*};

use super::{
    Rig,
    model::Model,
    strategy::{command, range},
};
use crate::*;

/// What happens to a store between batches.
#[derive(Clone, Debug)]
enum Step {
    Batch(Vec<Command>),
    Reopen,
    Sweep,
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => vec(command(), 1..6).prop_map(Step::Batch),
        1 => Just(Step::Reopen),
        1 => Just(Step::Sweep),
        1 => Just(Step::Settle),
    ]
}

fn agrees(mut rig: Rig, steps: Vec<Step>, ranges: &[Range]) -> Result<(), TestCaseError> {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Batch(commands) => {
                let expected: Vec<_> = commands.iter().map(|command| model.apply(command)).collect();
                prop_assert_eq!(rig.apply_alone(commands), expected);
            }
            Step::Reopen => rig.reopen(),
            Step::Settle => {
                rig.apply_alone(vec![Command::Settle]);
            }
            Step::Sweep => {
                rig.sweep();
            }
        }
        same_view(&rig.view(), &model, ranges)?;
    }
    rig.settle();
    rig.sweep_all();
    same_view(&rig.view(), &model, ranges)?;
    rig.reopen();
    same_view(&rig.view(), &model, ranges)
}

fn same_view(view: &View, model: &Model, ranges: &[Range]) -> Result<(), TestCaseError> {
    prop_assert_eq!(view.revision(), model.revision());
    prop_assert_eq!(view.compacted(), types::Revision::new(model.compacted));
    let leases: Vec<_> = model.leases.iter().map(|(&id, &ttl)| Lease { id, ttl }).collect();
    for &Lease { id, .. } in &leases {
        prop_assert_eq!(view.lease_keys(id).expect("it exists"), model.lease_keys(id));
    }
    prop_assert_eq!(view.leases(), leases);
    for range in ranges {
        let answer = view.range(range).map_err(|failure| match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Broken(error) => panic!("{error}"),
        });
        prop_assert_eq!(answer, model.range(range), "{:?}", range);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_store_agrees_with_a_map(steps in vec(step(), 1..30), ranges in vec(range(), 12)) {
        let limits = Limits { sweep_rows: 3, ..Limits::default() };
        agrees(Rig::with_limits(limits), steps, &ranges)?;
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
        agrees(Rig::on_disk(), steps, &ranges)?;
    }
}
