//! What alarms stop, and what they let pass.

use super::*;

fn alarm(kind: AlarmKind, member: u64) -> Alarm {
    Alarm { kind, member }
}

fn change(alarm: Alarm, raised: bool) -> Command {
    Command::Alarm(AlarmChange { alarm, raised })
}

fn txn(success: Vec<Op>, failure: Vec<Op>) -> Command {
    Command::Txn(Txn { compares: Vec::new(), success, failure })
}

fn nested_put() -> Command {
    let inner = Txn { success: vec![Op::Put(put_op("n", "1"))], ..Txn::default() };
    txn(vec![], vec![Op::Txn(inner)])
}

fn no_puts() -> Command {
    txn(vec![Op::Range(Range::new(one("a"))), Op::DeleteRange(DeleteRange { keys: one("a"), prev_kv: false })], vec![])
}

/// The commands, and whether each passes when space is out.
fn commands() -> Vec<(Command, bool)> {
    vec![
        (put("a", "2"), false),
        (txn(vec![], vec![Op::Put(put_op("a", "2"))]), false),
        (nested_put(), false),
        (grant(9), false),
        (no_puts(), true),
        (put("b", "1"), false),
        (delete(one("b")), true),
        (compact(2), true),
        (revoke(&[1]), true),
    ]
}

fn rig() -> Rig {
    let mut rig = Rig::in_memory();
    rig.apply(vec![put("a", "1"), put("b", "1"), grant(1)]);
    rig
}

#[test]
fn without_space_what_may_grow_is_refused_and_all_else_goes_on() {
    let mut rig = rig();
    rig.run(change(alarm(AlarmKind::NoSpace, 5), true)).expect("raised");
    for (command, passes) in commands() {
        let answer = rig.run(command.clone());
        assert_eq!(answer == Err(Refusal::NoSpace), !passes, "{command:?}: {answer:?}");
    }
    rig.run(change(alarm(AlarmKind::NoSpace, 5), false)).expect("cleared");
    rig.run(put("a", "2")).expect("space is back");
}

#[test]
fn with_a_corrupt_member_nothing_is_written_and_reads_go_on() {
    let mut rig = rig();
    rig.apply(vec![change(alarm(AlarmKind::NoSpace, 5), true), change(alarm(AlarmKind::Corrupt, 6), true)]);
    for (command, _) in commands() {
        assert_eq!(rig.run(command.clone()), Err(Refusal::Corrupt), "{command:?}");
    }
    assert_eq!(rig.show(KeyRange::all()), ["a=1", "b=1"]);
}

#[test]
fn an_alarm_counts_from_its_place_in_the_log_and_survives_a_restart() {
    let mut rig = rig();
    let no_space = alarm(AlarmKind::NoSpace, 5);
    let answers = rig.apply(vec![put("a", "2"), change(no_space, true), put("a", "3"), change(no_space, true)]);
    assert_eq!(answers[2], Err(Refusal::NoSpace));
    let raised = AlarmAnswer { revision: revision(4), alarm: Some(no_space) };
    assert_eq!((&answers[1], &answers[3]), (&Ok(Answer::Alarm(raised.clone())), &Ok(Answer::Alarm(raised.clone()))));
    rig.reopen();
    assert_eq!(rig.view().alarms(), [no_space]);
    assert_eq!(rig.run(put("a", "3")), Err(Refusal::NoSpace));
    assert_eq!(rig.run(change(no_space, false)), Ok(Answer::Alarm(raised.clone())));
    assert_eq!(rig.run(change(no_space, false)), Ok(Answer::Alarm(AlarmAnswer { alarm: None, ..raised })));
    rig.reopen();
    assert_eq!(rig.view().alarms(), []);
}

#[test]
fn one_members_alarm_is_not_anothers() {
    let mut rig = rig();
    let (one, other) = (alarm(AlarmKind::NoSpace, 1), alarm(AlarmKind::NoSpace, 2));
    rig.apply(vec![change(other, true), change(one, true), change(other, false)]);
    assert_eq!(rig.view().alarms(), [one]);
    assert_eq!(rig.run(put("a", "2")), Err(Refusal::NoSpace));
}
