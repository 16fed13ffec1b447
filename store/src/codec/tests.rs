//! Commands are read as they were written, and nothing makes the reader panic.

use std::{num::NonZeroU64, time::Duration};

use bytes::Bytes;
use proptest::{collection::vec, option, prelude::*};
use types::{KeyRange, LeaseId, Revision};

use crate::{validate::TXN_DEPTH_MAX, *};

fn bytes() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..6).prop_map(Bytes::from)
}

fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        bytes().prop_map(KeyRange::One),
        (bytes(), bytes()).prop_map(|(start, end)| KeyRange::Between(start, end)),
        bytes().prop_map(KeyRange::AtLeast),
    ]
}

fn lease() -> impl Strategy<Value = LeaseId> {
    any::<i64>().prop_filter_map("0 is no lease", LeaseId::new)
}

fn put() -> impl Strategy<Value = Put> {
    let value = prop_oneof![Just(PutValue::Keep), bytes().prop_map(PutValue::Set)];
    let lease = prop_oneof![Just(PutLease::Keep), option::of(lease()).prop_map(PutLease::Set)];
    (bytes(), value, lease, any::<bool>()).prop_map(|(key, value, lease, prev_kv)| Put { key, value, lease, prev_kv })
}

fn delete_range() -> impl Strategy<Value = DeleteRange> {
    (keys(), any::<bool>()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv })
}

fn bounds() -> impl Strategy<Value = Bounds> {
    (option::of(any::<i64>()), option::of(any::<i64>())).prop_map(|(min, max)| Bounds { min, max })
}

fn range() -> impl Strategy<Value = Range> {
    let by = proptest::sample::select(vec![
        OrderBy::Key,
        OrderBy::Version,
        OrderBy::CreateRevision,
        OrderBy::ModRevision,
        OrderBy::Value,
    ]);
    let order = (by, any::<bool>()).prop_map(|(by, descending)| Order { by, descending });
    let show = proptest::sample::select(vec![Show::Whole, Show::KeysOnly, Show::CountOnly]);
    let revision = any::<i64>().prop_map(Revision::new);
    let limit = any::<u64>().prop_map(NonZeroU64::new);
    (keys(), revision, limit, order, show, bounds(), bounds()).prop_map(
        |(keys, revision, limit, order, show, mod_revisions, create_revisions)| Range {
            keys,
            revision,
            limit,
            order,
            show,
            mod_revisions,
            create_revisions,
        },
    )
}

fn compare() -> impl Strategy<Value = Compare> {
    let result = proptest::sample::select(vec![
        CompareResult::Equal,
        CompareResult::Greater,
        CompareResult::Less,
        CompareResult::NotEqual,
    ]);
    let target = prop_oneof![
        any::<i64>().prop_map(CompareTarget::Version),
        any::<i64>().prop_map(CompareTarget::CreateRevision),
        any::<i64>().prop_map(CompareTarget::ModRevision),
        bytes().prop_map(CompareTarget::Value),
        any::<i64>().prop_map(CompareTarget::Lease),
    ];
    (keys(), result, target).prop_map(|(keys, result, target)| Compare { keys, result, target })
}

fn txn() -> impl Strategy<Value = Txn> {
    let simple =
        prop_oneof![range().prop_map(Op::Range), put().prop_map(Op::Put), delete_range().prop_map(Op::DeleteRange),];
    let op = simple.prop_recursive(3, 16, 3, |op| {
        (vec(compare(), 0..2), vec(op.clone(), 0..3), vec(op, 0..3))
            .prop_map(|(compares, success, failure)| Op::Txn(Txn { compares, success, failure }))
    });
    (vec(compare(), 0..3), vec(op.clone(), 0..4), vec(op, 0..4)).prop_map(|(compares, success, failure)| Txn {
        compares,
        success,
        failure,
    })
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        put().prop_map(Command::Put),
        delete_range().prop_map(Command::DeleteRange),
        txn().prop_map(Command::Txn),
        any::<i64>().prop_map(|revision| Command::Compact(Compact { revision })),
        (lease(), any::<u64>())
            .prop_map(|(id, ttl)| Command::LeaseGrant(LeaseGrant { id, ttl: Duration::from_secs(ttl) })),
        vec((lease(), option::of(any::<u64>().prop_map(Duration::from_secs))), 0..4)
            .prop_map(|remaining| Command::LeaseCheckpoint(LeaseCheckpoint { remaining })),
        vec(lease(), 0..5).prop_map(|ids| Command::LeaseRevoke(LeaseRevoke { ids })),
        (any::<bool>(), any::<u64>(), any::<bool>()).prop_map(|(corrupt, member, raised)| {
            let kind = if corrupt { AlarmKind::Corrupt } else { AlarmKind::NoSpace };
            Command::Alarm(AlarmChange { alarm: Alarm { kind, member }, raised })
        }),
        Just(Command::Settle),
        auth().prop_map(Command::Auth),
    ]
}

fn auth() -> impl Strategy<Value = AuthCommand> {
    let name = || "[a-zé]{0,3}";
    let hash = || bytes().prop_map(PasswordHash::new);
    let kind = proptest::sample::select(vec![Kind::Read, Kind::Write, Kind::ReadWrite]);
    let permission = (kind, keys()).prop_map(|(kind, keys)| Permission { kind, keys });
    prop_oneof![
        Just(AuthCommand::Enable),
        Just(AuthCommand::Disable),
        (name(), option::of(hash())).prop_map(|(name, password)| AuthCommand::UserAdd { name, password }),
        name().prop_map(|name| AuthCommand::UserDelete { name }),
        (name(), hash()).prop_map(|(name, password)| AuthCommand::UserChangePassword { name, password }),
        (name(), name()).prop_map(|(user, role)| AuthCommand::UserGrantRole { user, role }),
        (name(), name()).prop_map(|(user, role)| AuthCommand::UserRevokeRole { user, role }),
        name().prop_map(|name| AuthCommand::RoleAdd { name }),
        name().prop_map(|name| AuthCommand::RoleDelete { name }),
        (name(), permission).prop_map(|(role, permission)| AuthCommand::RoleGrantPermission { role, permission }),
        (name(), keys()).prop_map(|(role, keys)| AuthCommand::RoleRevokePermission { role, keys }),
        (name(), any::<u64>(), any::<Option<[u8; 32]>>())
            .prop_map(|(user, checked_at, token)| AuthCommand::Authenticate { user, checked_at, token }),
    ]
}

fn actor() -> impl Strategy<Value = Actor> {
    let user = ("[a-zé]{0,3}", any::<u64>()).prop_map(|(name, revision)| Actor::User { name: name.into(), revision });
    prop_oneof![Just(Actor::Nobody), Just(Actor::Trusted), user]
}

fn entry() -> impl Strategy<Value = Entry> {
    (actor(), command()).prop_map(|(actor, command)| Entry { actor, command })
}

proptest! {
    #[test]
    fn an_entry_is_read_as_it_was_written(entry in entry()) {
        prop_assert_eq!(Entry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>, known in option::of(super::FORMAT..=super::FORMAT_WITH_ACTOR)) {
        if let (Some(format), Some(known)) = (bytes.first_mut(), known) {
            *format = known;
        }
        let _ = Entry::decode(&bytes.into()).is_ok();
    }

    #[test]
    fn a_damaged_entry_is_refused_or_another_one(entry in entry(), at: prop::sample::Index, byte: u8) {
        let mut bytes = entry.encode().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let bytes = Bytes::from(bytes);
        if let Ok(read) = Entry::decode(&bytes) {
            prop_assert_eq!(Entry::decode(&read.encode()), Ok(read));
        }
    }

    #[test]
    fn an_entry_that_is_cut_short_is_refused(entry in entry(), at: prop::sample::Index) {
        let bytes = entry.encode();
        prop_assert!(Entry::decode(&bytes.slice(..at.index(bytes.len()))).is_err());
    }
}

#[test]
fn the_log_of_this_version_stays_readable() {
    let put = Put {
        key: Bytes::from_static(b"k"),
        value: PutValue::Set(Bytes::from_static(b"vv")),
        lease: PutLease::Set(LeaseId::new(7)),
        prev_kv: true,
    };
    let written: &[u8] = b"\x01\x01\x01k\x01\x02vv\x01\0\0\0\0\0\0\0\x07\x01";
    let nobodys = Entry { actor: Actor::Nobody, command: Command::Put(put) };
    assert_eq!(&nobodys.encode()[..], written);
    assert_eq!(Entry::decode(&Bytes::from_static(written)), Ok(nobodys.clone()));
    let written: &[u8] = b"\x02\x02\x02me\x05\x01\x01k\x01\x02vv\x01\0\0\0\0\0\0\0\x07\x01";
    let mine = Entry { actor: Actor::User { name: "me".into(), revision: 5 }, ..nobodys };
    assert_eq!(&mine.encode()[..], written);
    assert_eq!(Entry::decode(&Bytes::from_static(written)), Ok(mine));
    assert_eq!(Entry::decode(&Bytes::from_static(b"\x03\x01")), Err(DecodeError::Format(3)));
    assert_eq!(Entry::decode(&Bytes::from_static(b"\x01\x7f")), Err(DecodeError::Kind(0x7f)));
}

#[test]
fn depth_is_bounded() {
    let nest = |depth: usize| {
        let mut txn = Txn::default();
        for _ in 1..depth {
            txn = Txn { success: vec![Op::Txn(txn)], ..Txn::default() };
        }
        Entry::from(Command::Txn(txn))
    };
    let deepest = nest(TXN_DEPTH_MAX);
    assert_eq!(Entry::decode(&deepest.encode()), Ok(deepest.clone()));
    assert_eq!(validate(&deepest.command, &Limits::default()), Ok(()));
    let too_deep = nest(TXN_DEPTH_MAX + 1);
    assert!(Entry::decode(&too_deep.encode()).is_err());
    assert_eq!(validate(&too_deep.command, &Limits::default()), Err(Refusal::TooManyOps));
}
