//! A store that goes on from another's state is as if it had applied the log itself, to whoever was looking.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use proptest::{collection::vec, prelude::*};
use types::{KeyRange, Revision};

use super::{
    Rig,
    agreement::same_view,
    bytes, compact, delete, grant, lease,
    model::Model,
    one, put, put_op, put_with_lease, revision, revoke,
    strategy::{command, range},
};
use crate::{layout, *};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn adopting_is_as_good_as_applying(
        commands in vec(command(), 1..60), cuts in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        sweeps in (0..4_usize, 0..4_usize), ranges in vec(range(), 8),
    ) {
        let cuts = (cuts.0.index(commands.len() + 1), cuts.1.index(commands.len() + 1));
        let (here, there) = (cuts.0.min(cuts.1), cuts.0.max(cuts.1));
        let limits = Limits { sweep_rows: 3, ..Limits::default() };
        let (mut rig, mut other) = (Rig::with_limits(limits.clone()), Rig::with_limits(limits));
        let mut model = Model::default();
        for command in &commands {
            let _answer = model.apply(command);
        }
        let view = rig.view();
        rig.apply(commands[..here].to_vec());
        for _ in 0..sweeps.0 {
            rig.sweep();
        }
        other.apply_alone(commands[..there].to_vec());
        for _ in 0..sweeps.1 {
            other.sweep();
        }

        rig.adopt(&other);
        for rig in [&mut rig, &mut other] {
            rig.apply(commands[there..].to_vec());
        }
        same_view(&view, &model, &ranges);
        for at in view.compacted().map_or(1, Revision::get)..=view.revision().get() {
            let hash = |rig: &Rig| rig.view().hash_keys(Some(revision(at))).expect("readable");
            prop_assert_eq!(hash(&rig), hash(&other), "at {}", at);
        }
        prop_assert_eq!(view.hash_all().expect("readable"), other.view().hash_all().expect("readable"));
        rig.sweep_all();
        other.sweep_all();
        for &space in Store::SPACES {
            prop_assert_eq!(rig.rows(space), other.rows(space), "{}", space.name());
        }
    }
}

#[test]
fn leases_alarms_and_users_are_those_of_the_new_state() {
    let (mut rig, mut other) = (Rig::in_memory(), Rig::in_memory());
    let view = rig.view();
    let alarm = Alarm { kind: AlarmKind::NoSpace, member: 7 };
    rig.apply(vec![grant(1), grant(2), put_with_lease("a", 1)]);
    other.apply(vec![
        grant(1),
        grant(2),
        put_with_lease("a", 1),
        revoke(&[1]),
        put_with_lease("b", 2),
        Command::Auth(AuthCommand::RoleAdd { name: "r".to_owned() }),
        Command::Alarm(AlarmChange { alarm, raised: true }),
    ]);
    rig.adopt(&other);
    assert_eq!(view.leases(), other.view().leases());
    assert_eq!((view.lease(lease(1)), view.lease_keys(lease(2)).expect("it exists")), (None, vec![bytes("b")]));
    assert_eq!(view.alarms(), vec![alarm]);
    assert_eq!(view.auth(), other.view().auth());
    assert!(view.auth().role("r").is_some());
    assert_eq!(rig.run(put("c", "1")), Err(Refusal::NoSpace), "the alarm counts at apply, too");
}

#[test]
fn an_earlier_state_is_refused() {
    let (mut rig, other) = (Rig::in_memory(), Rig::in_memory());
    rig.apply(vec![put("a", "1")]);
    let image = other.image();
    assert!(rig.parts().store.reopen(image).is_err());
    assert_eq!(rig.show(one("a")), ["a=1"]);
}

/// Both keys are always written together, with the same value, and all that is superseded is compacted and swept at once:
/// who looks at the keys of one state and the rows of another finds nothing, or something else.
#[test]
fn no_reader_sees_half_of_both() {
    const ROUNDS: i64 = 300;
    let (mut rig, mut other) = (Rig::in_memory(), Rig::in_memory());
    let both = |value: i64| {
        let value = value.to_string();
        let success = ["a", "b"].map(|key| Op::Put(put_op(key, &value))).to_vec();
        Command::Txn(Txn { compares: vec![], success, failure: vec![] })
    };
    other.apply(vec![both(0), put("c", "0")]);
    rig.adopt(&other);
    let (view, done) = (rig.view(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let keys = |keys: KeyRange| Range::new(keys);
                    let whole = view.range(&keys(KeyRange::all())).expect("readable");
                    assert_eq!((whole.kvs.len(), &whole.kvs[0].value), (3, &whole.kvs[1].value));
                    assert!(whole.kvs.iter().all(|kv| kv.mod_revision <= whole.revision));
                    let single = view.range(&keys(one("a"))).expect("readable");
                    assert!(
                        single.revision >= whole.revision && single.kvs[0].mod_revision >= whole.kvs[0].mod_revision
                    );
                    let txn = ReadOnlyTxn {
                        compares: vec![],
                        success: vec![keys(one("a")), keys(one("b"))],
                        failure: vec![],
                    };
                    let txn = view.txn_read_only(&txn).expect("readable");
                    let value = |op: &OpAnswer| match op {
                        OpAnswer::Range(range) => range.kvs[0].value.clone(),
                        other => panic!("{other:?}"),
                    };
                    assert_eq!(value(&txn.ops[0]), value(&txn.ops[1]));
                    seen += 1;
                }
                assert!(seen > 0);
            });
        }
        for round in 1..=ROUNDS {
            other.apply(vec![both(round), put("c", "x"), both(round)]);
            other.run(compact(other.view().revision().get())).expect("not compacted yet");
            other.sweep_all();
            rig.adopt(&other);
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(rig.show(one("a")), [format!("a={ROUNDS}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_on_the_old_state_waits_on_the_new_one() {
    let (mut rig, mut other) = (Rig::in_memory(), Rig::in_memory());
    let view = rig.view();
    let sweeping = tokio::spawn(rig.take_sweeper().run());
    let unsettled = tokio::spawn({
        let view = view.clone();
        async move { view.unsettled().await }
    });
    other.apply(vec![grant(1)]);
    other.apply((0..5).map(|key| put_with_lease(&format!("k{key}"), 1)).collect());
    other.apply(vec![put("a", "1"), put("a", "2")]);
    other.apply_alone(vec![revoke(&[1]), compact(8)]);
    rig.adopt(&other);
    unsettled.await.expect("it was told of the lease that is about to end");

    let hash = tokio::task::spawn_blocking({
        let view = view.clone();
        move || view.hash_keys(None).expect("readable")
    });
    tokio::task::yield_now().await;
    other.settle();
    rig.adopt(&other);
    assert_eq!(hash.await.expect("it went on"), other.view().hash_keys(None).expect("readable"));
    rig.run(delete(one("a"))).expect("applied");
    rig.run(compact(rig.view().revision().get())).expect("not compacted yet");
    tokio::time::timeout(Duration::from_secs(30), view.swept()).await.expect("the sweeper went on");
    sweeping.abort();
    assert!(rig.rows(layout::KEYS).len() <= 1);
}
