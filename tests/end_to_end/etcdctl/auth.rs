//! Users and roles: etcdctl as root, as a user with a role, and as nobody.
//!
//! Expected texts and exit codes were taken from etcd 3.5.30.

use super::*;

const DENIED: &str = "etcdserver: permission denied";
const FAILED: &str = "etcdserver: authentication failed, invalid user ID or password";
const ROOT: &str = "root:rootpw";
const ALICE: &str = "alice:secret";

/// etcdctl as somebody.
struct As<'a> {
    etcdctl: &'a Etcdctl,
    user: Option<&'a str>,
}

impl As<'_> {
    fn run(&self, arguments: &[&str], input: &str) -> Printed {
        let user = self.user.map(|user| ["--user", user]);
        self.etcdctl.run_with_input(&[user.as_ref().map_or(&[][..], |user| &user[..]), arguments].concat(), input)
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str], expected: &str) {
        let printed = self.run(arguments, "");
        assert_eq!(
            (printed.code, printed.out.as_str()),
            (0, expected),
            "{:?} {arguments:?}: {}",
            self.user,
            printed.error
        );
    }

    #[track_caller]
    fn refused(&self, arguments: &[&str], expected: &str) {
        let printed = self.run(arguments, "");
        // etcdctl cannot make a client without a login, and then says so by another code.
        let code = if expected == FAILED { 2 } else { 1 };
        let last = printed.error.lines().last().unwrap_or_default();
        assert_eq!(
            (printed.code, last),
            (code, format!("Error: {expected}").as_str()),
            "{:?} {arguments:?}",
            self.user
        );
    }
}

/// Root; alice, who may do all to `app/…` and read `shared`; and auth enabled.
fn enable(nobody: &As<'_>) {
    nobody.ok(&["user", "add", ROOT], "User root created\n");
    nobody.ok(&["user", "add", ALICE], "User alice created\n");
    nobody.ok(&["role", "add", "app"], "Role app created\n");
    nobody.ok(&["role", "grant-permission", "app", "readwrite", "app/", "app0"], "Role app updated\n");
    nobody.ok(&["role", "grant-permission", "app", "read", "shared"], "Role app updated\n");
    nobody.ok(&["user", "grant-role", "alice", "app"], "Role app is granted to user alice\n");
    nobody.ok(&["auth", "enable"], "Authentication Enabled\n");
}

const APP: &str =
    "Role app\nKV Read:\n\t[app/, app0) (prefix app/)\n\tshared\nKV Write:\n\t[app/, app0) (prefix app/)\n";

#[tokio::test]
async fn users_do_what_their_roles_permit() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    let by = |user| As { etcdctl: &etcdctl, user };
    let (nobody, alice, root) = (by(None), by(Some(ALICE)), by(Some(ROOT)));
    enable(&nobody);

    nobody.refused(&["get", "app/x"], "etcdserver: user name is empty");
    by(Some("alice:wrong")).refused(&["get", "app/x"], FAILED);
    by(Some("nobody:secret")).refused(&["get", "app/x"], FAILED);

    alice.ok(&["put", "app/x", "1"], "OK\n");
    alice.ok(&["get", "--prefix", "app/"], "app/x\n1\n");
    alice.ok(&["get", "shared"], "");
    alice.refused(&["put", "shared", "1"], DENIED);
    alice.refused(&["get", "app/", "app1"], DENIED);
    alice.refused(&["get", "--prefix", ""], DENIED);
    alice.ok(&["del", "--prefix", "app/", "--prev-kv"], "1\napp/x\n1\n");
    let hidden = alice.run(&["txn"], "\nput app/x 2\n\nget secret\n\n");
    assert_eq!(hidden.error.lines().last(), Some("Error: etcdserver: permission denied"));
    let watch = alice.run(&["watch", "other"], "");
    let expected = "watch was canceled (rpc error: code = PermissionDenied desc = etcdserver: permission denied)";
    assert!(watch.error.contains(expected), "{watch:?}");

    alice.ok(&["user", "get", "alice"], "User: alice\nRoles: app\n");
    alice.ok(&["role", "get", "app"], APP);
    for administration in [
        &["user", "list"][..],
        &["role", "list"],
        &["user", "get", "root"],
        &["role", "get", "root"],
        &["user", "add", "eve:x"],
        &["compact", "1"],
        &["auth", "disable"],
    ] {
        alice.refused(administration, DENIED);
    }
    root.ok(&["put", "secret", "1"], "OK\n");
    root.ok(&["get", "secret"], "secret\n1\n");
}

#[tokio::test]
async fn root_administers_and_cannot_lock_itself_out() {
    let server = Server::start().await;
    let etcdctl = Etcdctl::new(&server);
    let by = |user| As { etcdctl: &etcdctl, user };
    let (nobody, alice, root) = (by(None), by(Some(ALICE)), by(Some(ROOT)));
    nobody.refused(&["user", "grant-role", "alice", "app"], "etcdserver: user name not found");
    nobody.refused(&["role", "get", "app"], "etcdserver: role name not found");
    enable(&nobody);

    root.ok(&["user", "list"], "alice\nroot\n");
    root.ok(&["role", "list"], "app\nroot\n");
    root.refused(&["user", "add", "alice:other"], "etcdserver: user name already exists");
    root.refused(&["role", "add", "app"], "etcdserver: role name already exists");
    for suicide in
        [&["user", "delete", "root"][..], &["user", "revoke-role", "root", "root"], &["role", "delete", "root"]]
    {
        root.refused(suicide, "etcdserver: invalid auth management");
    }
    root.ok(&["user", "revoke-role", "alice", "app"], "Role app is revoked from user alice\n");
    alice.refused(&["get", "app/x"], DENIED);
    root.refused(&["user", "revoke-role", "alice", "app"], "etcdserver: role is not granted to the user");
    let revoke = ["role", "revoke-permission", "app", "shared"];
    root.ok(&revoke, "Permission of key shared is revoked from role app\n");
    root.refused(&revoke, "etcdserver: permission is not granted to the role");
    root.ok(&["role", "delete", "app"], "Role app deleted\n");
    root.ok(&["user", "delete", "alice"], "User alice deleted\n");
    alice.refused(&["get", "app/x"], FAILED);
    root.ok(&["auth", "disable"], "Authentication Disabled\n");
    nobody.ok(&["put", "app/x", "1"], "OK\n");
}

#[tokio::test]
async fn users_outlive_a_crash() {
    let mut server = Server::start().await;
    enable(&As { etcdctl: &Etcdctl::new(&server), user: None });
    server.crash_and_restart().await;
    let etcdctl = Etcdctl::new(&server);
    As { etcdctl: &etcdctl, user: Some(ALICE) }.ok(&["put", "app/x", "1"], "OK\n");
    As { etcdctl: &etcdctl, user: Some(ALICE) }.refused(&["get", "secret"], DENIED);
    As { etcdctl: &etcdctl, user: None }.refused(&["get", "secret"], "etcdserver: user name is empty");
}
