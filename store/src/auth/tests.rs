//! Users and roles by example, and the bypasses that etcd had, by name.

use bytes::Bytes;
use types::KeyRange;

use crate::{
    tests::{Rig, bytes, delete, grant, lease, one, put, put_op, put_with_lease, revoke},
    *,
};

type Outcome = Result<Answer, Refusal>;

/// Names that may be put into a command.
fn name(text: &str) -> String {
    text.to_owned()
}

fn keys(key: &str, end: &str) -> KeyRange {
    KeyRange::from_wire(bytes(key), bytes(end))
}

fn user_add(user: &str) -> AuthCommand {
    AuthCommand::UserAdd { name: name(user), password: Some(PasswordHash::new("hash")) }
}

fn grant_role(user: &str, role: &str) -> AuthCommand {
    AuthCommand::UserGrantRole { user: name(user), role: name(role) }
}

fn permit(role: &str, kind: Kind, key: &str, end: &str) -> AuthCommand {
    AuthCommand::RoleGrantPermission { role: name(role), permission: Permission { kind, keys: keys(key, end) } }
}

fn authenticate(user: &str, checked_at: u64) -> AuthCommand {
    AuthCommand::Authenticate { user: name(user), checked_at, token: Some([7; 32]) }
}

impl Rig {
    fn auth(&mut self, command: AuthCommand) -> Result<u64, AuthRefusal> {
        match self.run_as(&Actor::Trusted, Command::Auth(command)) {
            Ok(Answer::Auth(answer)) => Ok(answer.auth_revision),
            Err(Refusal::Auth(refusal)) => Err(refusal),
            other => panic!("{other:?}"),
        }
    }

    /// The user as they are recognized now.
    fn actor(&self, user: &str) -> Actor {
        Actor::User { name: user.into(), revision: self.view().auth_revision() }
    }

    fn run_by(&mut self, user: &str, command: Command) -> Outcome {
        let actor = self.actor(user);
        self.run_as(&actor, command)
    }

    fn read_by(&self, user: &str, keys: KeyRange) -> Result<usize, Failure> {
        let range = Range::new(keys);
        let may = |access: &Access<'_>| Ok(access.read(&range.keys)?);
        self.view().read_as(&self.actor(user), may, |view| view.range(&range)).map(|answer| answer.kvs.len())
    }
}

/// Auth enabled, with root, and `user` who writes `w…`, reads `r…`, and does both to `b…`.
fn guarded() -> Rig {
    let mut rig = Rig::in_memory();
    for command in [
        user_add(ROOT),
        grant_role(ROOT, ROOT),
        user_add("user"),
        AuthCommand::RoleAdd { name: name("role") },
        permit("role", Kind::Write, "w", "x"),
        permit("role", Kind::Read, "r", "s"),
        permit("role", Kind::ReadWrite, "b", "c"),
        grant_role("user", "role"),
        AuthCommand::Enable,
    ] {
        rig.auth(command).expect("it is in order");
    }
    rig
}

#[track_caller]
fn denied(outcome: &Outcome) {
    assert_eq!(*outcome, Err(Refusal::Auth(AuthRefusal::PermissionDenied)));
}

#[track_caller]
fn allowed(outcome: &Outcome) {
    assert!(outcome.is_ok(), "{outcome:?}");
}

fn range_op(keys: KeyRange) -> Op {
    Op::Range(Range::new(keys))
}

fn txn(success: Vec<Op>, failure: Vec<Op>) -> Txn {
    Txn { compares: Vec::new(), success, failure }
}

/// A transaction inside a transaction inside a transaction.
fn nested(op: Op) -> Command {
    let inner = txn(vec![], vec![op]);
    Command::Txn(txn(vec![Op::Txn(txn(vec![], vec![Op::Txn(inner)]))], vec![]))
}

#[test]
fn changes_are_refused_as_etcd_refuses_them() {
    use AuthCommand as C;
    use AuthRefusal as R;
    let (u, r) = (|| name("u"), || name("r"));
    let steps = [
        (C::Enable, Err(R::RootUserNotExist)),
        (user_add(""), Err(R::UserEmpty)),
        (user_add(ROOT), Ok(2)),
        (C::Enable, Err(R::RootRoleNotExist)),
        (user_add(ROOT), Err(R::UserAlreadyExists)),
        (grant_role(ROOT, ROOT), Ok(3)),
        (grant_role(ROOT, ROOT), Ok(3)),
        (authenticate(ROOT, 3), Err(R::NotEnabled)),
        (C::Disable, Ok(3)),
        (C::Enable, Ok(3)),
        (C::Enable, Ok(3)),
        (authenticate(ROOT, 3), Ok(3)),
        (authenticate(ROOT, 2), Err(R::OldRevision)),
        (authenticate("u", 3), Err(R::AuthFailed)),
        (user_add("u"), Ok(4)),
        (C::UserAdd { name: name("certified"), password: None }, Ok(5)),
        (authenticate("certified", 5), Err(R::AuthFailed)),
        (C::UserChangePassword { name: u(), password: PasswordHash::new("other") }, Ok(6)),
        (C::UserChangePassword { name: name("?"), password: PasswordHash::new("other") }, Err(R::UserNotFound)),
        (grant_role("u", "r"), Err(R::RoleNotFound)),
        (grant_role("?", "r"), Err(R::UserNotFound)),
        (C::RoleAdd { name: name("") }, Err(R::RoleEmpty)),
        (C::RoleAdd { name: r() }, Ok(7)),
        (C::RoleAdd { name: r() }, Err(R::RoleAlreadyExists)),
        (permit("?", Kind::Read, "a", ""), Err(R::RoleNotFound)),
        (permit("r", Kind::Read, "z", "a"), Err(R::InvalidManagement)),
        (permit("?", Kind::Read, "", "a"), Err(R::InvalidManagement)),
        (permit("r", Kind::Read, "a", "c"), Ok(8)),
        (permit("r", Kind::ReadWrite, "a", "c"), Ok(9)),
        (C::RoleRevokePermission { role: r(), keys: keys("a", "b") }, Err(R::PermissionNotGranted)),
        (C::RoleRevokePermission { role: name("?"), keys: keys("a", "b") }, Err(R::RoleNotFound)),
        (C::RoleRevokePermission { role: r(), keys: keys("a", "c") }, Ok(10)),
        (grant_role("u", "r"), Ok(11)),
        (C::UserRevokeRole { user: u(), role: name("?") }, Err(R::RoleNotGranted)),
        (C::UserRevokeRole { user: name("?"), role: r() }, Err(R::UserNotFound)),
        (C::UserRevokeRole { user: u(), role: r() }, Ok(12)),
        (C::RoleDelete { name: name("?") }, Err(R::RoleNotFound)),
        (C::RoleDelete { name: r() }, Ok(13)),
        (C::UserDelete { name: u() }, Ok(14)),
        (C::UserDelete { name: u() }, Err(R::UserNotFound)),
        (C::UserDelete { name: name(ROOT) }, Err(R::InvalidManagement)),
        (C::RoleDelete { name: name(ROOT) }, Err(R::InvalidManagement)),
        (C::UserRevokeRole { user: name(ROOT), role: name(ROOT) }, Err(R::InvalidManagement)),
        (C::Disable, Ok(15)),
        (C::UserRevokeRole { user: name(ROOT), role: name(ROOT) }, Ok(16)),
        (C::UserDelete { name: name(ROOT) }, Ok(17)),
    ];
    let mut rig = Rig::in_memory();
    assert_eq!(rig.view().auth_revision(), 1);
    for (command, expected) in steps {
        assert_eq!(rig.auth(command.clone()), expected, "{command:?}");
    }
    assert_eq!(rig.view().revision(), revision(1), "users and roles do not move the store's revision");
}

fn revision(value: i64) -> types::Revision {
    types::Revision::new(value).expect("positive")
}

#[test]
fn users_and_roles_outlive_a_restart() {
    let mut rig = guarded();
    rig.auth(AuthCommand::UserAdd { name: name("certified"), password: None }).expect("new");
    rig.auth(user_add("gone")).expect("new");
    rig.auth(AuthCommand::UserDelete { name: name("gone") }).expect("there");
    let before = rig.view().auth();
    rig.reopen();
    assert_eq!(rig.view().auth(), before);
    let exported = Auth::new(
        before.is_enabled(),
        before.revision(),
        before.users().cloned().collect::<Vec<_>>(),
        before.roles().cloned().collect::<Vec<_>>(),
    );
    let mut restored = Rig::in_memory();
    restored.restore_auth(&exported);
    restored.reopen();
    assert_eq!(restored.view().auth(), exported.into());
    allowed(&restored.run_by("user", put("w1", "v")));
    denied(&restored.run_by("user", put("r1", "v")));
}

#[test]
fn while_disabled_everybody_may_do_everything() {
    let mut rig = guarded();
    rig.auth(AuthCommand::Disable).expect("enabled");
    for actor in [Actor::Nobody, Actor::User { name: "?".into(), revision: 0 }] {
        allowed(&rig.run_as(&actor, put("x", "v")));
        rig.view().auth().require_root(&actor).expect("disabled");
    }
}

#[test]
fn an_actor_is_judged_by_the_state_that_the_log_has_reached() {
    let mut rig = guarded();
    let early = rig.actor("user");
    let revoke = AuthCommand::UserRevokeRole { user: name("user"), role: name("role") };
    // In one batch: the put was permitted when it was proposed.
    let outcomes = rig.apply_as(vec![
        (early.clone(), put("w1", "v")),
        (Actor::Trusted, Command::Auth(revoke)),
        (early, put("w2", "v")),
        (Actor::Nobody, put("w3", "v")),
        (Actor::Trusted, put("w4", "v")),
    ]);
    let refusals: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
    assert_eq!(refusals, [AuthRefusal::OldRevision.into(), AuthRefusal::UserEmpty.into()]);
    assert_eq!(rig.show(KeyRange::all()), ["w1=v", "w4=v"]);
    denied(&rig.run_by("user", put("w1", "v")));
    denied(&rig.run_by("nobody of that name", put("w1", "v")));
}

#[test]
fn keys_need_the_permission_that_their_request_uses() {
    let mut rig = guarded();
    let prev_kv = |key: &str| Command::Put(Put { prev_kv: true, ..put_op(key, "v") });
    let delete_prev = |keys| Command::DeleteRange(DeleteRange { keys, prev_kv: true });
    allowed(&rig.run_by("user", put("w1", "v")));
    denied(&rig.run_by("user", put("r1", "v")));
    allowed(&rig.run_by("user", delete(keys("w", "x"))));
    denied(&rig.run_by("user", delete(keys("w", "x\0"))));
    denied(&rig.run_by("user", delete(keys("w", "\0"))));
    allowed(&rig.run_by("user", prev_kv("b1")));
    allowed(&rig.run_by("user", delete_prev(keys("b", "c"))));
    denied(&rig.run_by("user", prev_kv("w1")));
    denied(&rig.run_by("user", delete_prev(keys("w", "x"))));
    for (range, expected) in [(keys("r", "s"), true), (one("r"), true), (keys("r", "t"), false), (one("w"), false)] {
        assert_eq!(rig.read_by("user", range.clone()).is_ok(), expected, "{range:?}");
        assert!(rig.read_by(ROOT, range).is_ok());
    }
}

#[test]
fn roles_add_up() {
    let mut rig = guarded();
    for command in [
        AuthCommand::RoleAdd { name: name("more") },
        permit("more", Kind::Read, "s", "t"),
        permit("more", Kind::Read, "b", "c"),
        grant_role("user", "more"),
    ] {
        rig.auth(command).expect("it is in order");
    }
    assert!(rig.read_by("user", keys("r", "t")).is_ok());
    rig.auth(permit("more", Kind::Write, "s", "t")).expect("it replaces the read");
    assert!(rig.read_by("user", keys("r", "t")).is_err());
    rig.auth(AuthCommand::RoleDelete { name: name("role") }).expect("there");
    assert!(rig.read_by("user", one("r")).is_err());
    assert_eq!(rig.view().auth().user("user").expect("there").roles, ["more"]);
}

#[test]
fn only_root_administers() {
    let mut rig = guarded();
    allowed(&rig.run_by("user", put("b1", "v")));
    let compact = || Command::Compact(Compact { revision: 2 });
    denied(&rig.run_by("user", Command::Auth(user_add("x"))));
    denied(&rig.run_by("user", compact()));
    let unknown = rig.run_by("nobody of that name", Command::Auth(user_add("x")));
    assert_eq!(unknown, Err(AuthRefusal::UserNotFound.into()));
    assert_eq!(rig.run(Command::Auth(user_add("x"))), Err(AuthRefusal::UserEmpty.into()));
    allowed(&rig.run_by(ROOT, compact()));
    // What root does one after the other, it may also propose at once.
    let root = rig.actor(ROOT);
    for outcome in
        rig.apply_as(vec![(root.clone(), Command::Auth(user_add("x"))), (root.clone(), Command::Auth(user_add("y")))])
    {
        allowed(&outcome);
    }
}

#[test]
fn an_administrators_token_does_not_outlive_its_password() {
    let mut rig = guarded();
    let stolen = rig.actor(ROOT);
    rig.auth(AuthCommand::UserChangePassword { name: name(ROOT), password: PasswordHash::new("new") }).expect("there");
    let outcome = rig.run_as(&stolen, Command::Auth(user_add("x")));
    assert_eq!(outcome, Err(AuthRefusal::OldRevision.into()));
    rig.auth(user_add("y")).expect("new");
    allowed(&rig.run_by(ROOT, Command::Auth(user_add("x"))));
}

#[test]
fn a_nested_transaction_is_checked_in_all_its_branches() {
    let mut rig = guarded();
    rig.apply_as(vec![(Actor::Trusted, put("secret", "v"))]);
    for op in [
        range_op(one("secret")),
        Op::Put(put_op("secret", "mine")),
        Op::DeleteRange(DeleteRange { keys: one("secret"), prev_kv: false }),
        Op::DeleteRange(DeleteRange { keys: one("w"), prev_kv: true }),
        Op::Put(Put { prev_kv: true, ..put_op("w", "v") }),
    ] {
        denied(&rig.run_by("user", nested(op.clone())));
        denied(&rig.run_by("user", Command::Txn(txn(vec![], vec![op.clone()]))));
        denied(&rig.run_by("user", Command::Txn(txn(vec![op], vec![]))));
    }
    let compare = |key| Compare { keys: one(key), result: CompareResult::Equal, target: CompareTarget::Version(0) };
    let comparing = |key| Txn { compares: vec![compare(key)], ..Txn::default() };
    denied(&rig.run_by("user", Command::Txn(comparing("secret"))));
    denied(&rig.run_by("user", nested(Op::Txn(comparing("secret")))));
    allowed(&rig.run_by("user", Command::Txn(comparing("r"))));
    allowed(&rig.run_by("user", nested(range_op(one("r")))));
    allowed(&rig.run_by("user", nested(Op::Put(put_op("w", "v")))));
    let read_only = txn(vec![range_op(one("r"))], vec![range_op(one("secret"))]).read_only().expect("it only reads");
    let auth = rig.view().auth();
    let access = auth.access(&rig.actor("user")).expect("a user");
    assert_eq!(access.read_only(&read_only), Err(AuthRefusal::PermissionDenied));
    assert_eq!(rig.show(one("secret")), ["secret=v"]);
}

#[test]
fn previous_versions_are_for_those_who_may_read() {
    let mut rig = guarded();
    allowed(&rig.run_by("user", put("w1", "v")));
    denied(&rig.run_by("user", Command::Put(Put { prev_kv: true, ..put_op("w1", "v") })));
    denied(&rig.run_by("user", Command::DeleteRange(DeleteRange { keys: one("w1"), prev_kv: true })));
}

#[test]
fn a_lease_is_attached_only_by_those_who_write_all_its_keys() {
    let mut rig = guarded();
    rig.apply_as(vec![(Actor::Trusted, grant(1)), (Actor::Trusted, put_with_lease("secret", 1))]);
    let attach = Put { lease: PutLease::Set(Some(lease(1))), ..put_op("w1", "v") };
    denied(&rig.run_by("user", Command::Put(attach.clone())));
    denied(&rig.run_by("user", nested(Op::Put(attach))));
    // What the same batch has attached counts, and what it has detached does not.
    let user = rig.actor("user");
    let outcomes = rig.apply_as(vec![
        (user.clone(), grant(2)),
        (user.clone(), put_with_lease("w1", 2)),
        (Actor::Trusted, put_with_lease("secret", 2)),
        (user.clone(), put_with_lease("w2", 2)),
        (user.clone(), put_with_lease("w2", 1)),
    ]);
    let permitted: Vec<bool> = outcomes.iter().map(Result::is_ok).collect();
    assert_eq!(permitted, [true, true, true, false, true]);
    assert_eq!(rig.run_by("user", put_with_lease("w2", 9)), Err(Refusal::LeaseNotFound(lease(9))));
}

#[test]
fn a_lease_is_ended_and_renewed_only_by_those_who_write_all_its_keys() {
    let mut rig = guarded();
    rig.apply_as(vec![
        (Actor::Trusted, grant(1)),
        (Actor::Trusted, put_with_lease("b1", 1)),
        (Actor::Trusted, put_with_lease("w1", 1)),
        (Actor::Trusted, grant(2)),
        (Actor::Trusted, put_with_lease("b2", 2)),
        (Actor::Trusted, put_with_lease("r1", 2)),
    ]);
    let touch = |rig: &Rig, id| rig.view().may_touch_lease(&rig.actor("user"), lease(id)).is_ok();
    assert!(touch(&rig, 1) && !touch(&rig, 2) && touch(&rig, 9));
    let see = |rig: &Rig, id| {
        let auth = rig.view().auth();
        let access = auth.access(&rig.actor("user")).expect("a user");
        rig.view().may_see_lease(&access, lease(id)).is_ok()
    };
    assert!(!see(&rig, 1) && see(&rig, 2));
    denied(&rig.run_by("user", revoke(&[2])));
    denied(&rig.run_by("user", revoke(&[1, 2])));
    assert_eq!(rig.run(revoke(&[1])), Err(AuthRefusal::UserEmpty.into()));
    allowed(&rig.run_by("user", revoke(&[1])));
    allowed(&rig.run_as(&Actor::Trusted, revoke(&[2])));
    assert_eq!(rig.run_by("user", revoke(&[1])), Err(Refusal::LeaseNotFound(lease(1))));
}

#[test]
fn whoever_is_no_user_gets_no_lease() {
    let mut rig = guarded();
    denied(&rig.run_by("nobody of that name", grant(1)));
    assert_eq!(rig.run(grant(1)), Err(AuthRefusal::UserEmpty.into()));
    allowed(&rig.run_by("user", grant(1)));
}

#[test]
fn secrets_are_not_shown() {
    let hash = PasswordHash::new(Bytes::from_static(b"$2a$10$secret"));
    let command = AuthCommand::UserAdd { name: name("u"), password: Some(hash.clone()) };
    let user = User { name: name("u"), password_hash: hash, roles: vec![], no_password: false };
    for shown in [format!("{command:?}"), format!("{user:?}")] {
        assert!(!shown.contains("$2a$"), "{shown}");
    }
}

proptest::proptest! {
    #[test]
    fn a_lease_is_within_a_set_if_each_of_its_keys_is(
        attached in proptest::collection::btree_set("[a-e]{1,2}", 0..8),
        ranges in proptest::collection::vec(("[a-e]{1,2}", "[a-e]{0,2}"), 0..4),
        in_one_batch: bool,
    ) {
        let mut rig = guarded();
        for (key, end) in &ranges {
            // An inverted range is refused, and permits nothing.
            let _ = rig.auth(permit("role", Kind::Write, key, end));
        }
        let mut entries = vec![(Actor::Trusted, grant(1))];
        entries.extend(attached.iter().map(|key| (Actor::Trusted, put_with_lease(key, 1))));
        if !in_one_batch {
            rig.apply_as(std::mem::take(&mut entries));
        }
        entries.push((rig.actor("user"), revoke(&[1])));
        let outcome = rig.apply_as(entries).pop().expect("one each");
        let auth = rig.view().auth();
        let access = auth.access(&rig.actor("user")).expect("a user");
        let expected = attached.iter().all(|key| access.write(&one(key)).is_ok());
        proptest::prop_assert_eq!(outcome.is_ok(), expected);
    }
}
