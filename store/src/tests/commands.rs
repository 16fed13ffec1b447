//! Commands and what is refused, by example.

use types::KeyRange;

use super::*;

fn txn(success: Vec<Op>) -> Txn {
    Txn { success, ..Txn::default() }
}

fn put_in(key: &str) -> Op {
    Op::Put(put_op(key, "v"))
}

fn delete_in(keys: KeyRange) -> Op {
    Op::DeleteRange(DeleteRange { keys, prev_kv: false })
}

fn nested(success: Vec<Op>, failure: Vec<Op>) -> Op {
    Op::Txn(Txn { success, failure, ..Txn::default() })
}

#[test]
fn a_transaction_may_write_each_key_once() {
    let open = |key| KeyRange::AtLeast(bytes(key));
    let between = |start, end| KeyRange::Between(bytes(start), bytes(end));
    let allowed = [
        vec![put_in("a"), put_in("b")],
        vec![delete_in(one("a")), delete_in(one("a"))],
        vec![put_in("c"), delete_in(between("a", "c"))],
        vec![nested(vec![put_in("a")], vec![put_in("a")])],
        vec![nested(vec![put_in("a")], vec![delete_in(one("a"))])],
    ];
    for ops in allowed {
        let command = Command::Txn(txn(ops));
        assert_eq!(validate(&command, &Limits::default()), Ok(()), "{command:?}");
        assert!(Rig::in_memory().run(command).is_ok());
    }
    let refused = [
        vec![put_in("a"), put_in("a")],
        vec![put_in("a"), delete_in(one("a"))],
        vec![delete_in(one("a")), put_in("a")],
        vec![put_in("b"), delete_in(between("a", "c"))],
        vec![put_in("b"), delete_in(open("a"))],
        vec![put_in("a"), nested(vec![], vec![put_in("a")])],
        vec![nested(vec![put_in("a")], vec![]), nested(vec![], vec![put_in("a")])],
        vec![nested(vec![put_in("a")], vec![]), nested(vec![delete_in(open("a"))], vec![])],
        vec![nested(vec![delete_in(one("a"))], vec![]), put_in("a")],
        vec![nested(vec![nested(vec![], vec![put_in("a")])], vec![]), put_in("a")],
    ];
    for ops in refused {
        let command = Command::Txn(txn(ops));
        assert_eq!(validate(&command, &Limits::default()), Err(Refusal::DuplicateKey), "{command:?}");
        assert_eq!(Rig::in_memory().run(command), Err(Refusal::DuplicateKey));
    }
}

#[test]
fn shapes_are_checked_before_the_log() {
    let limits = Limits { txn_ops_max: 3, ..Limits::default() };
    let puts = |count: usize| (0..count).map(|index| put_in(&index.to_string())).collect::<Vec<_>>();
    let compare = Compare { keys: one(""), result: CompareResult::Equal, target: CompareTarget::Version(0) };
    let cases = [
        (put("", "v"), Err(Refusal::KeyNotProvided)),
        (delete(KeyRange::all()), Err(Refusal::KeyNotProvided)),
        (Command::Txn(txn(puts(3))), Ok(())),
        (Command::Txn(txn(puts(4))), Err(Refusal::TooManyOps)),
        (Command::Txn(txn(vec![nested(puts(2), vec![])])), Ok(())),
        (Command::Txn(txn(vec![nested(puts(3), vec![])])), Err(Refusal::TooManyOps)),
        (Command::Txn(Txn { failure: vec![put_in("")], ..Txn::default() }), Err(Refusal::KeyNotProvided)),
        (Command::Txn(Txn { compares: vec![compare], ..Txn::default() }), Err(Refusal::KeyNotProvided)),
        (compact(-7), Ok(())),
    ];
    for (command, expected) in cases {
        assert_eq!(validate(&command, &limits), expected, "{command:?}");
    }
    assert_eq!(PutValue::from_wire(bytes("v"), true), Err(Refusal::ValueProvided));
    assert_eq!(PutLease::from_wire(1, true), Err(Refusal::LeaseProvided));
    assert_eq!(validate_range(&Range::new(KeyRange::all())), Err(Refusal::KeyNotProvided));
}

#[test]
fn nothing_is_written_by_what_is_refused() {
    let mut rig = Rig::in_memory();
    let keep = Put { value: PutValue::Keep, ..put_op("missing", "") };
    let future = Range { revision: Some(revision(2)), ..Range::new(one("a")) };
    let refused = [
        (Op::Put(keep), Refusal::KeyNotFound),
        (Op::Put(Put { lease: PutLease::Set(Some(lease(9))), ..put_op("b", "v") }), Refusal::LeaseNotFound(lease(9))),
        (Op::Range(future), Refusal::FutureRevision { asked: 2, current: revision(1) }),
    ];
    for (op, refusal) in refused {
        assert_eq!(rig.run(Command::Txn(txn(vec![put_in("a"), op]))), Err(refusal));
    }
    assert_eq!(rig.view().revision(), revision(1));
    for &space in Store::SPACES {
        assert_eq!(rig.rows(space), [], "{}", space.name());
    }
}

#[test]
fn what_changes_nothing_takes_no_revision() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![delete(KeyRange::all()), Command::Txn(txn(vec![delete_in(one("a"))])), grant(1), revoke(&[1])]);
    assert_eq!(rig.view().revision(), revision(1));
}

#[test]
fn a_compaction_is_decided_by_the_log() {
    let mut rig = Rig::in_memory();
    let future = |asked, current| Err(Refusal::FutureRevision { asked, current: revision(current) });
    let compacted = |asked, oldest| Err(Refusal::Compacted { asked, oldest });
    let at = |value| Ok(Answer::Compact(CompactAnswer { revision: revision(value) }));
    let answers =
        rig.apply(vec![compact(2), compact(0), compact(0), put("a", "1"), compact(2), compact(1), compact(2)]);
    let answers: Vec<_> = answers.into_iter().filter(|answer| !matches!(answer, Ok(Answer::Put(_)))).collect();
    assert_eq!(answers, [future(2, 1), at(1), compacted(0, 0), at(2), compacted(1, 2), compacted(2, 2)]);
    assert_eq!(Rig::in_memory().run(compact(-1)), compacted(-1, -1));
}

#[test]
fn a_read_only_transaction_answers_as_the_log_would() {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1"), put("b", "2")]);
    let compare =
        |version| Compare { keys: one("a"), result: CompareResult::Equal, target: CompareTarget::Version(version) };
    for version in [1, 2] {
        let txn = Txn {
            compares: vec![compare(version)],
            success: vec![Op::Range(Range::new(one("a")))],
            failure: vec![Op::Range(Range::new(one("b"))), Op::Range(Range::new(KeyRange::all()))],
        };
        let read = rig.view().txn_read_only(&txn.read_only().expect("it only reads")).expect("readable");
        assert_eq!(rig.run(Command::Txn(txn)), Ok(Answer::Txn(read)));
    }
    assert_eq!(txn(vec![put_in("a")]).read_only(), None);
    assert_eq!(txn(vec![nested(vec![], vec![])]).read_only(), None);
}
