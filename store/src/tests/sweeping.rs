//! What a sweep takes and leaves.

use super::*;
use crate::layout;

fn sizes(rig: &mut Rig) -> (usize, usize) {
    (rig.rows(layout::KEYS).len(), rig.rows(layout::HISTORY).len())
}

#[test]
fn only_dead_rows_go() {
    let mut rig = Rig::in_memory();
    // Revisions 2 to 7; at 5 the living versions are a@4 and c@5, and b was deleted at 6.
    rig.apply(vec![put("a", "1"), put("b", "1"), put("a", "2"), put("c", "1"), delete(one("b")), put("a", "3")]);
    rig.run(compact(5)).expect("a compaction");
    rig.sweep_all();
    assert_eq!(sizes(&mut rig), (5, 5), "a@2 is dead");
    rig.run(compact(6)).expect("a compaction");
    rig.sweep_all();
    assert_eq!(sizes(&mut rig), (4, 4), "b@3 is dead, its delete at 6 is not");
    rig.run(compact(7)).expect("a compaction");
    rig.sweep_all();
    assert_eq!(sizes(&mut rig), (2, 2), "a@4 and the delete are dead");
    assert_eq!(rig.show(KeyRange::all()), ["a=3", "c=1"]);
}

#[test]
fn the_revision_never_goes_back_even_if_nothing_is_left() {
    let mut rig = Rig::on_disk();
    rig.apply(vec![put("a", "1"), delete(one("a"))]);
    rig.run(compact(3)).expect("a compaction");
    rig.sweep_all();
    rig.reopen();
    assert_eq!(rig.view().revision(), revision(3));
    assert_eq!(rig.run(put("a", "2")), Ok(Answer::Put(PutAnswer { revision: revision(4), previous: None })));
    rig.run(compact(4)).expect("a compaction");
    rig.sweep_all();
    assert_eq!(sizes(&mut rig), (1, 1));
}

#[test]
fn a_sweep_goes_on_after_a_restart() {
    let mut rig = Rig::with_limits(Limits { sweep_rows: 7, ..Limits::default() });
    for value in 0..50 {
        rig.run(put("a", &value.to_string())).expect("a put");
    }
    rig.run(compact(51)).expect("a compaction");
    for _ in 0..3 {
        assert_eq!(rig.sweep(), Sweep::More);
    }
    rig.reopen();
    assert_eq!(sizes(&mut rig), (30, 30));
    rig.sweep_all();
    assert_eq!(sizes(&mut rig), (1, 1));
    rig.reopen();
    assert_eq!(rig.sweep(), Sweep::Done);
}

#[test]
fn a_revision_larger_than_a_step_is_swept_too() {
    let mut rig = Rig::with_limits(Limits { sweep_rows: 3, ..Limits::default() });
    let keys: Vec<String> = (0..20).map(|key| format!("k{key:02}")).collect();
    rig.apply(keys.iter().map(|key| put(key, "v")).collect());
    rig.run(delete(KeyRange::all())).expect("a delete");
    rig.run(put("after", "v")).expect("a put");
    rig.run(compact(23)).expect("a compaction");
    rig.sweep_all();
    assert_eq!(sizes(&mut rig), (1, 1));
}

#[tokio::test]
async fn a_running_sweeper_follows_compactions() {
    let limits = Limits { sweep_rows: 2, sweep_pause: Duration::from_millis(1), ..Limits::default() };
    let mut rig = Rig::with_limits(limits);
    let sweeper = rig.parts().store.sweeper();
    let sweeping = tokio::spawn(sweeper.run());
    for value in 0..10 {
        rig.run(put("a", &value.to_string())).expect("a put");
    }
    for (asked, left) in [(5, 7), (11, 1)] {
        rig.run(compact(asked)).expect("a compaction");
        rig.view().swept().await;
        assert_eq!(sizes(&mut rig), (left, left));
    }
    sweeping.abort();
}
