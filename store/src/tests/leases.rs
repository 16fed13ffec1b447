//! Leases in the log, by example.

use super::*;
use crate::layout;

fn revoked(at: i64, ids: &[i64]) -> Answer {
    let revoked = ids.iter().copied().map(lease).collect();
    Answer::LeaseRevoke(LeaseRevokeAnswer { revision: revision(at), revoked, left: Vec::new() })
}

#[test]
fn a_revoke_deletes_its_keys_in_key_order_in_one_revision() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![grant(1), put_with_lease("b", 1), put_with_lease("a", 1), put("c", "stays")]);
    let answer = rig.run(revoke(&[1]));
    assert_eq!(answer, Ok(revoked(5, &[1])));
    assert_eq!(rig.show(KeyRange::all()), ["c=stays"]);
    assert_eq!(rig.view().leases(), []);
    assert!(matches!(rig.view().lease_keys(lease(1)), Err(Failure::Refused(Refusal::LeaseNotFound(_)))));
    let history: Vec<_> = rig.rows(layout::HISTORY).into_iter().skip(3).map(|(_, row)| row).collect();
    assert!(history[0].ends_with(b"a") && history[1].ends_with(b"b"), "{history:?}");
}

#[test]
fn many_leases_end_at_once_and_the_unknown_are_passed_over() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![grant(1), grant(2), grant(3), put_with_lease("a", 1), put_with_lease("c", 3)]);
    let answer = rig.run(revoke(&[3, 9, 2, 1, 1]));
    assert_eq!(answer, Ok(revoked(5, &[3, 2, 1])));
    assert_eq!(rig.run(revoke(&[9, 1])), Err(Refusal::LeaseNotFound(lease(9))));
}

#[test]
fn a_command_ends_as_many_leases_as_it_may_delete_keys_of() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![grant(1), grant(2), grant(3), grant(4)]);
    let keys = [("a", 1), ("b", 1), ("c", 2), ("d", 3), ("e", 3), ("f", 3)];
    rig.apply(keys.into_iter().map(|(key, id)| put_with_lease(key, id)).collect());
    let answer = |at, ended: &[i64], left: &[i64]| {
        let [revoked, left] = [ended, left].map(|ids| ids.iter().copied().map(lease).collect());
        Ok(Answer::LeaseRevoke(LeaseRevokeAnswer { revision: revision(at), revoked, left }))
    };
    assert_eq!(rig.run(revoke(&[2, 1, 4, 3])), answer(8, &[2, 4], &[1, 3]));
    assert_eq!(rig.run(revoke(&[3, 1])), answer(9, &[3], &[1]), "the first ends, however many keys it has");
    assert_eq!(rig.run(revoke(&[1])), answer(10, &[1], &[]));
    assert_eq!(rig.show(KeyRange::all()), Vec::<String>::new());
}

#[test]
fn a_checkpoint_is_kept_until_the_lease_has_all_of_its_time_again() {
    let mut rig = Rig::in_memory();
    rig.run(grant(1)).expect("new");
    let noted = |rig: &Rig| rig.view().lease(lease(1)).expect("it exists").remaining;
    let mut note = |remaining: Option<u64>| {
        let remaining = [1, 2].map(|id| (lease(id), remaining.map(Duration::from_secs))).to_vec();
        let answer = rig.run(Command::LeaseCheckpoint(LeaseCheckpoint { remaining })).expect("it is never refused");
        let Answer::LeaseCheckpoint(answer) = answer else { panic!("{answer:?}") };
        assert_eq!(answer.remaining.len(), 1, "there is no lease 2");
        rig.reopen();
        noted(&rig)
    };
    assert_eq!(note(Some(20)), Some(Duration::from_secs(20)));
    assert_eq!(note(Some(60)), None, "all of a minute");
    assert_eq!(note(Some(0)), Some(Duration::ZERO));
    assert_eq!(note(None), None);
}

#[test]
fn a_key_belongs_to_its_last_lease_only() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![grant(1), grant(2), put_with_lease("a", 1), put_with_lease("a", 2), put_with_lease("b", 1)]);
    rig.apply(vec![put("b", "free"), put_with_lease("c", 1), delete(one("c"))]);
    rig.reopen();
    assert_eq!(rig.view().lease_keys(lease(1)).expect("it exists"), Vec::<Bytes>::new());
    assert_eq!(rig.view().lease_keys(lease(2)).expect("it exists"), [bytes("a")]);
    rig.run(revoke(&[1])).expect("it exists");
    assert_eq!(rig.show(KeyRange::all()), ["a=v", "b=free"]);
}

#[test]
fn a_lease_is_known_within_its_batch() {
    let mut rig = Rig::in_memory();
    let answers = rig.apply(vec![
        put_with_lease("a", 1),
        grant(1),
        grant(1),
        put_with_lease("a", 1),
        put_with_lease("b", 1),
        delete(one("b")),
        revoke(&[1]),
        revoke(&[1]),
        grant(1),
    ]);
    let refusals: Vec<_> = answers.into_iter().filter_map(Result::err).collect();
    let expected = [Refusal::LeaseNotFound(lease(1)), Refusal::LeaseExists(lease(1)), Refusal::LeaseNotFound(lease(1))];
    assert_eq!(refusals, expected);
    assert_eq!(rig.show(KeyRange::all()), Vec::<String>::new());
    rig.reopen();
    assert_eq!(rig.view().leases(), [Lease { id: lease(1), ttl: Duration::from_mins(1), remaining: None }]);
}

/// A lease with more keys than are deleted at once, which has just ended.
fn ended(keys: usize) -> Rig {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("other", "1"), grant(1)]);
    rig.apply((0..keys).map(|key| put_with_lease(&format!("k{key}"), 1)).collect());
    rig.apply_alone(vec![revoke(&[1])]);
    rig
}

#[test]
fn the_keys_of_a_lease_are_gone_before_they_are_deleted() {
    let mut rig = ended(9);
    assert_eq!(rig.show(KeyRange::all()), ["other=1"]);
    let before = Range { revision: Some(revision(11)), ..Range::new(KeyRange::all()) };
    assert_eq!(rig.view().range(&before).expect("readable").count, 10);
    rig.apply_alone(vec![put("k3", "new"), Command::Settle, put("k8", "new"), Command::Settle]);
    assert_eq!(rig.show(KeyRange::all()), ["k3=new", "k8=new", "other=1"]);
    rig.reopen();
    assert_eq!(rig.show(KeyRange::all()), ["k3=new", "k8=new", "other=1"]);
    rig.settle();
    assert_eq!(rig.show(KeyRange::all()), ["k3=new", "k8=new", "other=1"]);
    assert!(rig.rows(layout::ATTACHED).is_empty() && rig.rows(layout::ENDINGS).is_empty());
    let new = rig.view().range(&Range::new(one("k3"))).expect("readable").kvs.remove(0);
    assert_eq!((new.version, new.create_revision), (1, revision(13)));
}

#[test]
fn a_lease_of_the_same_name_finds_nothing_left_of_the_one_before() {
    let mut rig = ended(9);
    rig.apply_alone(vec![grant(1), put_with_lease("k5", 1)]);
    assert!(rig.rows(layout::ENDINGS).is_empty(), "all was deleted before the grant");
    assert_eq!(rig.view().lease_keys(lease(1)).expect("it is there"), ["k5"]);
    assert_eq!(rig.show(KeyRange::all()), ["k5=v", "other=1"]);
}

#[test]
fn pieces_leave_the_rows_that_one_step_would_have_left() {
    let (mut slow, mut quick) = (ended(9), ended(9));
    quick.settle();
    slow.apply_alone(vec![Command::Settle]);
    slow.apply_alone(vec![Command::Settle, Command::Settle]);
    slow.settle();
    for space in Store::SPACES {
        assert_eq!(slow.rows(*space), quick.rows(*space), "{space:?}");
    }
    let deletes = quick
        .rows(layout::HISTORY)
        .into_iter()
        .filter(|(key, _)| layout::history_point(key).expect("well formed").revision == revision(12));
    assert_eq!(deletes.count(), 9);
}

#[test]
fn a_sweep_does_not_pass_by_what_is_not_deleted_yet() {
    let mut rig = ended(5);
    rig.apply_alone(vec![put("other", "2"), compact(9)]);
    rig.sweep_all();
    rig.settle();
    rig.sweep_all();
    let versions = rig.rows(layout::KEYS).len();
    assert_eq!((versions, rig.show(KeyRange::all())), (1, vec!["other=2".to_owned()]));
}
