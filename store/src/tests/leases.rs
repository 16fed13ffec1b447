//! Leases in the log, by example.

use super::*;
use crate::layout;

#[test]
fn a_revoke_deletes_its_keys_in_key_order_in_one_revision() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![grant(1), put_with_lease("b", 1), put_with_lease("a", 1), put("c", "stays")]);
    let answer = rig.run(revoke(&[1]));
    assert_eq!(answer, Ok(Answer::LeaseRevoke(LeaseRevokeAnswer { revision: revision(5), revoked: vec![lease(1)] })));
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
    let revoked = vec![lease(3), lease(2), lease(1)];
    assert_eq!(answer, Ok(Answer::LeaseRevoke(LeaseRevokeAnswer { revision: revision(5), revoked })));
    assert_eq!(rig.run(revoke(&[9, 1])), Err(Refusal::LeaseNotFound(lease(9))));
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
    assert_eq!(rig.view().leases(), [Lease { id: lease(1), ttl: Duration::from_mins(1) }]);
}
