//! Files of ours, whole and damaged. `tests/end_to_end/snapshot.rs` has etcd's own programs take them, and take theirs.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use proto::etcdserverpb::{PutRequest, RangeRequest, kv_client::KvClient};
use store::{Alarm, AlarmKind, Change, KeyValue, Lease, Step};
use types::{LeaseId, Revision};

use super::{schema::*, *};
use crate::{Config, Member};

fn revision() -> impl Strategy<Value = Revision> {
    (1..=i64::MAX).prop_map(|value| Revision::new(value).expect("positive"))
}

prop_compose! {
    fn step()(
        place: u32, key in proptest::collection::vec(any::<u8>(), 1..40), value: Vec<u8>, lease: i64,
        mod_revision in revision(), create_revision in revision(), version in 1..i64::MAX, deleted: bool,
    ) -> Step {
        let key = Bytes::from(key);
        let lease = LeaseId::new(lease);
        let put = KeyValue { key: key.clone(), value: value.into(), create_revision, mod_revision, version, lease };
        let change = if deleted { Change::Delete { key, revision: mod_revision } } else { Change::Put(put) };
        Step { place, change }
    }
}

proptest! {
    #[test]
    fn a_write_is_read_as_it_was_written(step in step()) {
        let (key, value) = entry(step.clone());
        prop_assert_eq!(read_entry(&key, &value), Ok(Entry::Step(step)));
    }

    #[test]
    fn a_lease_is_read_as_it_was_written(id in any::<i64>().prop_filter_map("0 is none", LeaseId::new), ttl in 0..9_000_000_000_u64, left in 1..20_u64) {
        let (ttl, left) = (Duration::from_secs(ttl), Duration::from_secs(left));
        let lease = Lease { id, ttl, remaining: Some(left).filter(|left| *left < ttl) };
        let (key, value) = lease_entry(lease);
        prop_assert_eq!(read_lease(&key, &value), Some(lease));
    }

    #[test]
    fn no_entry_makes_a_reader_panic(key: Vec<u8>, value: Vec<u8>) {
        let _ = (read_alarm(&key), read_entry(&key, &value), read_lease(&key, &value), Meta::default().read(&key, &value));
        let _ = (read_entry(&revision_key(7, 0), &value), Meta::default().read(b"scheduledCompactRev", &key));
    }
}

#[test]
fn an_alarm_is_read_as_it_was_written() {
    for kind in [AlarmKind::NoSpace, AlarmKind::Corrupt] {
        let alarm = Alarm { kind, member: u64::MAX };
        assert_eq!(read_alarm(&alarm_key(alarm)), Some(alarm));
    }
    assert_eq!(read_alarm(b""), None);
}

#[test]
fn a_revision_is_written_as_etcd_writes_it() {
    assert_eq!(revision_key(0x0102, 3), *b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
    assert_eq!(read_revision_key(b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t"), Some((0x0102, 3, true)));
    for malformed in
        [&b""[..], b"\0\0\0\0\0\0\x01\x02-\0\0\0\0\0\0\0\x03", b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03tt"]
    {
        assert_eq!(read_revision_key(malformed), None, "{malformed:?}");
    }
}

fn config(data_dir: &Path) -> Config {
    Config {
        data_dir: data_dir.to_owned(),
        election_timeout: Duration::from_millis(200),
        heartbeat: Duration::from_millis(20),
        ..Config::default()
    }
}

async fn put(member: &Member, key: &str, value: &str) {
    let request = PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    KvClient::new(member.routes()).put(request).await.expect("put");
}

async fn get(member: &Member, key: &str, revision: i64) -> Option<Bytes> {
    let request = RangeRequest { key: key.to_owned().into(), revision, ..RangeRequest::default() };
    let mut answer = KvClient::new(member.routes()).range(request).await.expect("get").into_inner();
    answer.kvs.pop().map(|kv| kv.value)
}

/// A folder with a snapshot of a member that wrote `a` twice.
async fn saved() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let member = Member::start(config(&folder.path().join("old"))).await.expect("starts");
    put(&member, "a", "1").await;
    put(&member, "a", "2").await;
    member.save_snapshot(folder.path().join("saved.db")).await.expect("saved");
    member.shutdown().await.expect("stops");
    folder
}

fn restore_of(folder: &Path) -> Restore {
    Restore {
        snapshot: folder.join("saved.db"),
        config: config(&folder.join("new")),
        skip_hash_check: false,
        bump_revision: None,
    }
}

#[tokio::test]
async fn a_snapshot_of_a_later_release_is_refused_and_its_own_release_takes_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("saved.db");
    let member = Member::start(config(&folder.path().join("old"))).await.expect("starts");
    let at_this_release = async {
        loop {
            member.save_snapshot(path.clone()).await.expect("saved");
            let saved = source::Source::open(&path, true, |_| {}).expect("whole").meta().expect("readable");
            if saved.release == Some(Release::THIS) {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), at_this_release).await.expect("the version is agreed on");
    member.shutdown().await.expect("stops");
    let mut asked = restore_of(folder.path());
    asked.config.release = Release::FIRST;
    let error = restore(asked.clone(), |_| {}).await.expect_err("refused");
    assert!(matches!(error, SnapshotError::LaterRelease { of: Release::THIS, release: Release::FIRST }), "{error}");
    asked.config.release = Release::THIS;
    restore(asked, |_| {}).await.expect("restored");
}

#[tokio::test]
async fn what_was_saved_is_restored_with_its_history_and_another_identity() {
    let folder = saved().await;
    let status = snapshot_status(&folder.path().join("saved.db")).expect("whole");
    assert_eq!((status.revision, status.total_keys, status.version.as_str()), (3, 1, crate::ETCD_API_VERSION));
    let mut asked = restore_of(folder.path());
    asked.config.cluster_token = "another".to_owned();
    let restored = restore(asked.clone(), |_| {}).await.expect("restored");
    assert_eq!((restored.revision, restored.writes, restored.trust_domain), (3, 2, None));
    let member = Member::start(asked.config.clone()).await.expect("starts");
    assert_eq!(member.id(), restored.member);
    assert_eq!(get(&member, "a", 0).await.as_deref(), Some(&b"2"[..]));
    assert_eq!(get(&member, "a", 2).await.as_deref(), Some(&b"1"[..]));
    member.shutdown().await.expect("stops");
    assert!(matches!(restore(asked.clone(), |_| {}).await, Err(SnapshotError::NotEmpty(_))));
    let told_otherwise = Config { cluster_token: "etcd-cluster".to_owned(), ..asked.config };
    let member = Member::start(told_otherwise).await.expect("starts as who it is");
    assert_eq!(member.id(), restored.member);
    member.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_bumped_revision_leaves_room_and_forgets_what_was_before() {
    let folder = saved().await;
    let asked = Restore { bump_revision: Some(1_000), ..restore_of(folder.path()) };
    let restored = restore(asked.clone(), |_| {}).await.expect("restored");
    assert_eq!(restored.revision, 1_003);
    let member = Member::start(asked.config).await.expect("starts");
    put(&member, "b", "1").await;
    assert_eq!(get(&member, "b", 1_004).await.as_deref(), Some(&b"1"[..]));
    assert_eq!(get(&member, "a", 1_003).await.as_deref(), Some(&b"2"[..]));
    let old = RangeRequest { key: "a".into(), revision: 3, ..RangeRequest::default() };
    let refused = KvClient::new(member.routes()).range(old).await.expect_err("forgotten");
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    member.shutdown().await.expect("stops");
}

#[tokio::test]
async fn a_damaged_file_restores_nothing() {
    let folder = saved().await;
    let (path, whole) = (folder.path().join("saved.db"), fs::read(folder.path().join("saved.db")).expect("read"));
    let mut flipped = whole.clone();
    flipped[9_000] ^= 1;
    let without_digest = &whole[..whole.len() - 32];
    let cut = &whole[..4096 * 3];
    let cases = [
        (&flipped[..], false, "the snapshot is damaged: its checksum is another"),
        (without_digest, false, "the snapshot has no checksum: it is cut short, or was copied from a data directory"),
        (cut, true, "page 1: the file is shorter than it says"),
        (b"no database", true, "not a bbolt database: neither of its meta pages is valid"),
    ];
    for (bytes, skip_hash_check, expected) in cases {
        fs::write(&path, bytes).expect("written");
        let asked = Restore { skip_hash_check, ..restore_of(folder.path()) };
        let error = restore(asked, |_| {}).await.expect_err("damaged");
        assert_eq!(error.to_string(), expected);
        let left: Vec<_> =
            fs::read_dir(folder.path()).expect("read").map(|entry| entry.expect("read").file_name()).collect();
        assert_eq!(left.len(), 2, "{left:?}");
    }
    fs::write(&path, without_digest).expect("written");
    let asked = Restore { skip_hash_check: true, ..restore_of(folder.path()) };
    assert_eq!(restore(asked, |_| {}).await.expect("restored").revision, 3);
}

#[tokio::test]
async fn what_a_newer_version_has_put_there_is_not_left_out() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = fs::File::create(folder.path().join("saved.db")).expect("made");
    let mut writer = bbolt::Writer::new(file).expect("written");
    writer.bucket(b"meshstore.visitors").expect("once").finish().expect("written");
    writer.finish().expect("written");
    let asked = Restore { skip_hash_check: true, ..restore_of(folder.path()) };
    let error = restore(asked, |_| {}).await.expect_err("newer");
    assert!(matches!(error, SnapshotError::Newer(name) if name == "meshstore.visitors"));
}

#[tokio::test]
async fn what_was_guarded_stays_guarded() {
    use proto::{authpb, etcdserverpb as pb, etcdserverpb::auth_client::AuthClient};

    let folder = tempfile::tempdir().expect("a temporary folder");
    let cheap = |config: Config| Config { auth: crate::AuthConfig { bcrypt_cost: 4, ..config.auth }, ..config };
    let member = Member::start(cheap(config(&folder.path().join("old")))).await.expect("starts");
    let mut auth = AuthClient::new(member.routes());
    for name in ["root", "reader"] {
        let add = pb::AuthUserAddRequest { name: name.into(), password: name.into(), ..Default::default() };
        auth.user_add(add).await.expect("new");
    }
    let certified = pb::AuthUserAddRequest {
        name: "certified".into(),
        options: Some(authpb::UserAddOptions { no_password: true }),
        ..Default::default()
    };
    auth.user_add(certified).await.expect("new");
    auth.role_add(pb::AuthRoleAddRequest { name: "role".into() }).await.expect("new");
    for (perm_type, key, range_end) in [(0, "a", ""), (1, "b", "c"), (2, "d", "\0")] {
        let perm = Some(authpb::Permission { perm_type, key: key.into(), range_end: range_end.into() });
        let grant = pb::AuthRoleGrantPermissionRequest { name: "role".into(), perm };
        auth.role_grant_permission(grant).await.expect("a range");
    }
    for (user, role) in [("root", "root"), ("reader", "role")] {
        let grant = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
        auth.user_grant_role(grant).await.expect("both are there");
    }
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("root is there");
    let before = member.view().auth();
    member.save_snapshot(folder.path().join("saved.db")).await.expect("saved");
    member.shutdown().await.expect("stops");

    let asked = restore_of(folder.path());
    restore(asked.clone(), |_| {}).await.expect("restored");
    let member = Member::start(cheap(asked.config)).await.expect("starts");
    let after = member.view().auth();
    assert!(after.is_enabled() && after.revision() == before.revision());
    assert_eq!(after.users().collect::<Vec<_>>(), before.users().collect::<Vec<_>>());
    assert_eq!(after.roles().collect::<Vec<_>>(), before.roles().collect::<Vec<_>>());
    let request = || RangeRequest { key: "a".into(), ..RangeRequest::default() };
    KvClient::new(member.routes()).range(request()).await.expect_err("nobody");
    let log_in = pb::AuthenticateRequest { name: "reader".into(), password: "reader".into() };
    let token =
        AuthClient::new(member.routes()).authenticate(log_in).await.expect("the password is right").into_inner();
    let mut request = tonic::Request::new(request());
    request.metadata_mut().insert("token", token.token.parse().expect("text"));
    KvClient::new(member.routes()).range(request).await.expect("a reader");
    member.shutdown().await.expect("stops");
}
