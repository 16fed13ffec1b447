//! A store beside its model.

use super::{Rig, model::Model};
use crate::*;

/// What happens to a store between batches.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Batch(Vec<Command>),
    Reopen,
    Sweep,
    Settle,
}

/// Does to the store and to its model what the steps say, and holds every answer against the model's; after each step and
/// at the end also what can be read: the `ranges`, the leases, and where the store stands.
///
/// # Panics
/// If they differ.
pub(crate) fn agrees(mut rig: Rig, steps: Vec<Step>, ranges: &[Range]) {
    let mut model = Model::default();
    for step in steps {
        match step {
            Step::Batch(commands) => {
                let expected: Vec<_> = commands.iter().map(|command| model.apply(command)).collect();
                assert_eq!(rig.apply_alone(commands), expected);
            }
            Step::Reopen => rig.reopen(),
            Step::Settle => {
                rig.apply_alone(vec![Command::Settle]);
            }
            Step::Sweep => {
                rig.sweep();
            }
        }
        same_view(&rig.view(), &model, ranges);
    }
    rig.settle();
    rig.sweep_all();
    same_view(&rig.view(), &model, ranges);
    rig.reopen();
    same_view(&rig.view(), &model, ranges);
}

pub(super) fn same_view(view: &View, model: &Model, ranges: &[Range]) {
    assert_eq!(view.revision(), model.revision());
    assert_eq!(view.compacted(), types::Revision::new(model.compacted));
    let leases: Vec<_> = model.leases.values().copied().collect();
    for &Lease { id, .. } in &leases {
        assert_eq!(view.lease_keys(id).expect("it exists"), model.lease_keys(id));
    }
    assert_eq!(view.leases(), leases);
    for range in ranges {
        let answer = view.range(range).map_err(|failure| match failure {
            Failure::Refused(refusal) => refusal,
            Failure::Broken(error) => unreachable!("the engine works: {error}"),
        });
        if let Some(at_once) = view.range_at_once(range, usize::MAX).expect("the engine works") {
            assert_eq!(Ok(&at_once), answer.as_ref(), "{range:?}");
        }
        assert_eq!(answer, model.range(range), "{range:?}");
    }
}
