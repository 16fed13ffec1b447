//! Every RPC as everybody, and logins from their beginning to their end.

mod table;

use std::time::Duration;

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proto::{
    authpb,
    etcdserverpb::{
        self as pb, alarm_request::AlarmAction, auth_client::AuthClient, kv_client::KvClient,
        lease_client::LeaseClient, maintenance_client::MaintenanceClient, watch_client::WatchClient,
        watch_request::RequestUnion,
    },
};
use tempfile::TempDir;
use tls::PeerInfo;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, Request, Status, Streaming, service::Routes};

use super::{AuthConfig, JwtConfig, SignMethod, TokenConfig};
use crate::{Config, Member};

const USER_EMPTY: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
const OLD_REVISION: (Code, &str) = (Code::InvalidArgument, "etcdserver: revision of auth store is old");
const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
const INVALID_TOKEN: (Code, &str) = (Code::Unauthenticated, "etcdserver: invalid auth token");
const AUTH_FAILED: (Code, &str) =
    (Code::InvalidArgument, "etcdserver: authentication failed, invalid user ID or password");

/// A member with `root`, whose password is `root`, and `user`, whose is `user` and who may do all to `b…`.
struct Server {
    dir: TempDir,
    member: Member,
}

/// What somebody shows with their requests.
#[derive(Clone, Debug)]
enum Shown {
    Nothing,
    Token(String),
    Certificate(&'static str),
}

impl Shown {
    fn with<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        match self {
            Self::Nothing => {}
            Self::Token(token) => {
                request.metadata_mut().insert("token", token.parse().expect("a token is text"));
            }
            Self::Certificate(name) => {
                let addr = ([127, 0, 0, 1], 1).into();
                let common_name = Some((*name).into());
                request.extensions_mut().insert(PeerInfo { addr, spiffe_id: None, common_name });
            }
        }
        request
    }
}

fn refused<T>(outcome: Result<T, Status>) -> (Code, String) {
    let status = outcome.err().expect("it is refused");
    (status.code(), status.message().to_owned())
}

#[track_caller]
fn assert_refused<T>(outcome: Result<T, Status>, (code, message): (Code, &str)) {
    assert_eq!(refused(outcome), (code, message.to_owned()));
}

impl Server {
    /// Auth is enabled.
    async fn start() -> Self {
        let server = Self::with(AuthConfig::default()).await;
        server.enable().await;
        server
    }

    async fn with(auth: AuthConfig) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let auth = AuthConfig { bcrypt_cost: 4, ..auth };
        let config = Config { data_dir: dir.path().join("data"), auth, ..Config::default() };
        let member = Member::start(config).await.expect("the member starts");
        let server = Self { dir, member };
        server.add_users().await;
        server
    }

    /// Ends the member, so that nothing of it runs when the test's process ends.
    async fn stop(self) {
        self.member.shutdown().await.expect("it stops");
    }

    async fn add_users(&self) {
        let mut auth = self.auth();
        for name in ["root", "user"] {
            let add = pb::AuthUserAddRequest { name: name.into(), password: name.into(), ..Default::default() };
            auth.user_add(add).await.expect("new");
        }
        auth.role_add(pb::AuthRoleAddRequest { name: "role".into() }).await.expect("new");
        let all = authpb::Permission { perm_type: authpb::permission::Type::Readwrite.into(), ..permission("b", "c") };
        auth.role_grant_permission(pb::AuthRoleGrantPermissionRequest { name: "role".into(), perm: Some(all) })
            .await
            .expect("a range");
        for (user, role) in [("root", "root"), ("user", "role")] {
            let grant = pb::AuthUserGrantRoleRequest { user: user.into(), role: role.into() };
            auth.user_grant_role(grant).await.expect("both are there");
        }
    }

    async fn enable(&self) {
        self.auth().auth_enable(pb::AuthEnableRequest {}).await.expect("root is there");
    }

    fn auth(&self) -> AuthClient<Routes> {
        AuthClient::new(self.member.routes())
    }

    fn kv(&self) -> KvClient<Routes> {
        KvClient::new(self.member.routes())
    }

    fn lease(&self) -> LeaseClient<Routes> {
        LeaseClient::new(self.member.routes())
    }

    async fn log_in(&self, name: &str, password: &str) -> Result<String, Status> {
        let request = pb::AuthenticateRequest { name: name.into(), password: password.into() };
        Ok(self.auth().authenticate(request).await?.into_inner().token)
    }

    /// What a user shows whose password is their name.
    async fn as_user(&self, name: &str) -> Shown {
        Shown::Token(self.log_in(name, name).await.expect("the password is right"))
    }

    async fn get(&self, shown: &Shown, key: &str) -> Result<pb::RangeResponse, Status> {
        let request = pb::RangeRequest { key: key.to_owned().into(), ..Default::default() };
        Ok(self.kv().range(shown.with(request)).await?.into_inner())
    }

    async fn put(&self, shown: &Shown, key: &str, lease: i64) -> Result<(), Status> {
        let request = pb::PutRequest { key: key.to_owned().into(), lease, ..Default::default() };
        self.kv().put(shown.with(request)).await.map(drop)
    }

    async fn grant(&self, shown: &Shown, id: i64) {
        self.lease().lease_grant(shown.with(pb::LeaseGrantRequest { ttl: 600, id })).await.expect("free");
    }
}

fn permission(key: &str, end: &str) -> authpb::Permission {
    authpb::Permission { perm_type: 0, key: key.to_owned().into(), range_end: end.to_owned().into() }
}

#[tokio::test]
async fn a_login_gives_a_token_of_etcds_form() {
    let server = Server::start().await;
    let token = server.log_in("user", "user").await.expect("the password is right");
    let (word, index) = token.split_once('.').expect("two parts");
    assert!(word.len() == 16 && word.bytes().all(|byte| byte.is_ascii_alphabetic()));
    assert!(index.parse::<u64>().expect("a number") > 0);
    assert!(server.get(&Shown::Token(token), "b").await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn it_is_not_told_what_was_wrong_with_a_login() {
    let server = Server::start().await;
    let add = pb::AuthUserAddRequest {
        name: "certified".into(),
        options: Some(authpb::UserAddOptions { no_password: true }),
        ..Default::default()
    };
    server.auth().user_add(server.as_user("root").await.with(add)).await.expect("new");
    for (name, password) in [("user", "wrong"), ("user", ""), ("nobody", "user"), ("", ""), ("certified", "")] {
        assert_refused(server.log_in(name, password).await, AUTH_FAILED);
    }
    let long = "x".repeat(100);
    assert_refused(server.log_in("user", &long).await, AUTH_FAILED);
    server.stop().await;
}

#[tokio::test]
async fn without_auth_there_is_no_login_and_tokens_are_not_looked_at() {
    let server = Server::with(AuthConfig::default()).await;
    let disabled = (Code::FailedPrecondition, "etcdserver: authentication is not enabled");
    assert_refused(server.log_in("root", "root").await, disabled);
    server.put(&Shown::Token("bad.1".into()), "x", 0).await.expect("everybody may");
    let status = server.auth().auth_status(pb::AuthStatusRequest {}).await.expect("public").into_inner();
    assert_eq!((status.enabled, status.auth_revision), (false, 7));
    server.stop().await;
}

#[tokio::test]
async fn a_token_ends_with_its_password_its_user_and_with_auth() {
    let server = Server::start().await;
    let root = server.as_user("root").await;
    let user = server.as_user("user").await;
    let change =
        pb::AuthUserChangePasswordRequest { name: "user".into(), password: "user".into(), ..Default::default() };
    server.auth().user_change_password(root.with(change)).await.expect("there");
    assert_refused(server.get(&user, "b").await, INVALID_TOKEN);
    let user = server.as_user("user").await;
    assert!(server.get(&user, "b").await.is_ok());
    server.auth().user_delete(root.with(pb::AuthUserDeleteRequest { name: "user".into() })).await.expect("there");
    assert_refused(server.get(&user, "b").await, INVALID_TOKEN);
    assert_refused(server.log_in("user", "user").await, AUTH_FAILED);
    server.auth().auth_disable(root.with(pb::AuthDisableRequest {})).await.expect("enabled");
    assert!(server.get(&user, "anything").await.is_ok());
    server.enable().await;
    assert_refused(server.get(&root, "b").await, INVALID_TOKEN);
    server.stop().await;
}

#[tokio::test]
async fn a_simple_token_speaks_for_its_user_as_they_are_now() {
    let server = Server::start().await;
    let (root, user) = (server.as_user("root").await, server.as_user("user").await);
    server.put(&user, "b1", 0).await.expect("permitted");
    let revoke = pb::AuthUserRevokeRoleRequest { name: "user".into(), role: "role".into() };
    server.auth().user_revoke_role(root.with(revoke)).await.expect("granted");
    assert_refused(server.put(&user, "b1", 0).await, DENIED);
    assert_refused(server.get(&user, "b1").await, DENIED);
    server.stop().await;
}

#[tokio::test]
async fn a_jwt_speaks_for_its_user_as_of_its_login() {
    let keys = tempfile::tempdir().expect("a folder");
    let key = Ed25519KeyPair::generate().expect("a key").to_pkcs8().expect("encoded");
    let path = keys.path().join("key");
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(key.as_ref()));
    std::fs::write(&path, pem).expect("written");
    let jwt = JwtConfig { private_key: Some(path), ..JwtConfig::new(SignMethod::EdDSA) };
    let server = Server::with(AuthConfig { tokens: TokenConfig::Jwt(jwt), ..AuthConfig::default() }).await;
    server.enable().await;
    let (root, user) = (server.as_user("root").await, server.as_user("user").await);
    server.put(&user, "b1", 0).await.expect("permitted");
    for name in ["one", "two"] {
        let add = pb::AuthRoleAddRequest { name: name.into() };
        server.auth().role_add(root.with(add)).await.expect("an administrator goes on");
    }
    assert_refused(server.put(&user, "b1", 0).await, OLD_REVISION);
    assert_refused(server.get(&user, "b1").await, OLD_REVISION);
    assert!(server.get(&server.as_user("user").await, "b1").await.is_ok());
    let forged = Shown::Token("eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InJvb3QiLCJyZXZpc2lvbiI6OX0.".into());
    assert_refused(server.get(&forged, "b1").await, INVALID_TOKEN);
    server.stop().await;
}

#[tokio::test]
async fn a_certificates_name_is_a_user_where_that_is_asked_for() {
    let named = Shown::Certificate("user");
    let server = Server::with(AuthConfig { client_cert_auth: true, ..AuthConfig::default() }).await;
    server.enable().await;
    server.put(&named, "b1", 0).await.expect("permitted");
    assert_refused(server.put(&named, "a", 0).await, DENIED);
    assert_refused(server.put(&Shown::Certificate("stranger"), "b1", 0).await, DENIED);
    assert_refused(server.put(&Shown::Nothing, "b1", 0).await, USER_EMPTY);
    // A token counts before the certificate, and a gateway's certificate is not its users'.
    let mut both = Shown::Token("bad.1".into()).with(pb::RangeRequest { key: "b1".into(), ..Default::default() });
    *both.extensions_mut() = named.with(()).into_parts().1;
    assert_refused(server.kv().range(both).await, INVALID_TOKEN);
    let mut gateway = named.with(pb::RangeRequest { key: "b1".into(), ..Default::default() });
    gateway.metadata_mut().insert("grpcgateway-accept", "*/*".parse().expect("text"));
    assert_refused(server.kv().range(gateway).await, USER_EMPTY);

    let elsewhere = Server::start().await;
    assert_refused(elsewhere.put(&named, "b1", 0).await, USER_EMPTY);
    elsewhere.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn users_see_themselves_and_administrators_see_all() {
    let server = Server::start().await;
    let (root, user) = (server.as_user("root").await, server.as_user("user").await);
    let get_user = |name: &str| pb::AuthUserGetRequest { name: name.into() };
    let get_role = |role: &str| pb::AuthRoleGetRequest { role: role.into() };
    let mut auth = server.auth();
    assert_eq!(auth.user_get(user.with(get_user("user"))).await.expect("own").into_inner().roles, ["role"]);
    assert_refused(auth.user_get(user.with(get_user("root"))).await, DENIED);
    let role = auth.role_get(user.with(get_role("role"))).await.expect("own").into_inner();
    assert_eq!((role.perm[0].key.as_ref(), role.perm[0].range_end.as_ref()), (&b"b"[..], &b"c"[..]));
    assert_refused(auth.role_get(user.with(get_role("root"))).await, DENIED);
    assert_refused(auth.role_get(user.with(get_role("unknown"))).await, DENIED);
    let not_found = (Code::FailedPrecondition, "etcdserver: role name not found");
    assert_refused(auth.role_get(root.with(get_role("unknown"))).await, not_found);
    assert_eq!(auth.user_get(root.with(get_user("user"))).await.expect("root").into_inner().roles, ["role"]);
    let users = auth.user_list(root.with(pb::AuthUserListRequest {})).await.expect("root").into_inner().users;
    let roles = auth.role_list(root.with(pb::AuthRoleListRequest {})).await.expect("root").into_inner().roles;
    assert_eq!((users, roles), (vec!["root".to_owned(), "user".to_owned()], vec!["role".to_owned()]));
    auth.role_add(root.with(pb::AuthRoleAddRequest { name: "root".into() })).await.expect("new");
    let everything = auth.role_get(root.with(get_role("root"))).await.expect("root").into_inner().perm;
    assert_eq!((everything[0].key.as_ref(), everything[0].range_end.as_ref()), (&b""[..], &b"\0"[..]));
    server.stop().await;
}

#[tokio::test]
async fn any_user_sees_the_alarms_and_root_alone_changes_them() {
    let server = Server::start().await;
    let (root, user) = (server.as_user("root").await, server.as_user("user").await);
    let change = async |shown: &Shown, action: AlarmAction| {
        let alarm = pb::AlarmType::Nospace.into();
        let request = pb::AlarmRequest { action: action.into(), alarm, ..Default::default() };
        MaintenanceClient::new(server.member.routes()).alarm(shown.with(request)).await
    };
    for action in [AlarmAction::Activate, AlarmAction::Deactivate] {
        assert_refused(change(&user, action).await, DENIED);
        assert_refused(change(&Shown::Nothing, action).await, USER_EMPTY);
    }
    change(&root, AlarmAction::Activate).await.expect("root");
    assert_eq!(change(&user, AlarmAction::Get).await.expect("any user").into_inner().alarms.len(), 1);
    assert_refused(change(&Shown::Nothing, AlarmAction::Get).await, USER_EMPTY);
    change(&root, AlarmAction::Deactivate).await.expect("root");
    server.stop().await;
}

#[tokio::test]
async fn a_hash_may_be_sent_in_place_of_a_password() {
    let server = Server::start().await;
    let root = server.as_user("root").await;
    let add = |hash: &str| pb::AuthUserAddRequest {
        name: "hashed".into(),
        hashed_password: STANDARD.encode(hash),
        ..Default::default()
    };
    let malformed = (Code::InvalidArgument, "etcdserver: invalid auth management");
    for hash in ["", "secret", "$2b$04$short", &bcrypt_hash("secret").replace("$04$", "$31$")] {
        let outcome = server.auth().user_add(root.with(add(hash))).await;
        match hash {
            // Nothing was sent: the user has an empty password, as in etcd.
            "" => drop(outcome.expect("an empty password")),
            _ => assert_refused(outcome, malformed),
        }
        if hash.is_empty() {
            server.log_in("hashed", "").await.expect("an empty password");
            let delete = pb::AuthUserDeleteRequest { name: "hashed".into() };
            server.auth().user_delete(root.with(delete)).await.expect("there");
        }
    }
    server.auth().user_add(root.with(add(&bcrypt_hash("secret")))).await.expect("a hash");
    server.log_in("hashed", "secret").await.expect("the password is right");
    assert_refused(server.log_in("hashed", "").await, AUTH_FAILED);
    server.stop().await;
}

fn bcrypt_hash(password: &str) -> String {
    bcrypt::hash(password, 4).expect("hashed")
}

/// A watch stream's requests and responses.
async fn watch(server: &Server, shown: &Shown) -> (mpsc::Sender<pb::WatchRequest>, Streaming<pb::WatchResponse>) {
    let (requests, stream) = mpsc::channel(8);
    let mut client = WatchClient::new(server.member.routes());
    (requests, client.watch(shown.with(ReceiverStream::new(stream))).await.expect("open").into_inner())
}

/// What a watch that is refused says.
fn reason((code, message): (Code, &str)) -> String {
    format!("rpc error: code = {code:?} desc = {message}")
}

fn create(key: &str, end: &str) -> pb::WatchRequest {
    let create =
        pb::WatchCreateRequest { key: key.to_owned().into(), range_end: end.to_owned().into(), ..Default::default() };
    pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

async fn next<T>(stream: &mut Streaming<T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), stream.next())
        .await
        .expect("in time")
        .expect("more")
        .expect("no error")
}

#[tokio::test]
async fn a_watch_of_one_key_is_a_watch_of_that_key_alone() {
    let server = Server::start().await;
    let root = server.as_user("root").await;
    let one = authpb::Permission { perm_type: 0, ..permission("k", "") };
    let grant = pb::AuthRoleGrantPermissionRequest { name: "role".into(), perm: Some(one) };
    server.auth().role_grant_permission(root.with(grant)).await.expect("a key");
    let (requests, mut responses) = watch(&server, &server.as_user("user").await).await;
    for (key, end) in [("k", "\0"), ("k", "l"), ("k\0", ""), ("l", ""), ("", ""), ("\0", "\0")] {
        requests.send(create(key, end)).await.expect("open");
        let refused = next(&mut responses).await;
        assert!(refused.created && refused.canceled && refused.watch_id == -1, "{key:?} {end:?}");
        assert_eq!(refused.cancel_reason, "rpc error: code = PermissionDenied desc = etcdserver: permission denied");
    }
    requests.send(create("k", "")).await.expect("open");
    let created = next(&mut responses).await;
    assert!(created.created && !created.canceled);
    for key in ["k\0", "l", "secret", "k"] {
        server.put(&root, key, 0).await.expect("root");
    }
    let events = next(&mut responses).await.events;
    assert_eq!(events.iter().map(|event| event.kv.as_ref().expect("a key").key.as_ref()).collect::<Vec<_>>(), [b"k"]);
    server.stop().await;
}

#[tokio::test]
async fn a_stream_recognizes_its_caller_anew() {
    let server = Server::with(AuthConfig::default()).await;
    let (anonymous, mut to_anonymous) = watch(&server, &Shown::Nothing).await;
    anonymous.send(create("x", "")).await.expect("open");
    assert!(!next(&mut to_anonymous).await.canceled);
    server.enable().await;
    anonymous.send(create("y", "")).await.expect("open");
    assert_eq!(next(&mut to_anonymous).await.cancel_reason, reason(USER_EMPTY));

    let root = server.as_user("root").await;
    let (requests, mut responses) = watch(&server, &server.as_user("user").await).await;
    requests.send(create("b", "c")).await.expect("open");
    assert!(!next(&mut responses).await.canceled);
    let change =
        pb::AuthUserChangePasswordRequest { name: "user".into(), password: "new".into(), ..Default::default() };
    server.auth().user_change_password(root.with(change)).await.expect("there");
    requests.send(create("b", "c")).await.expect("open");
    assert_eq!(next(&mut responses).await.cancel_reason, reason(INVALID_TOKEN));
    server.stop().await;
}

#[tokio::test]
async fn a_lease_is_renewed_by_those_who_write_all_its_keys() {
    let server = Server::start().await;
    let (root, user) = (server.as_user("root").await, server.as_user("user").await);
    server.grant(&user, 1).await;
    server.put(&user, "b1", 1).await.expect("permitted");
    let renew = async |shown: &Shown, id| {
        let requests = tokio_stream::iter([pb::LeaseKeepAliveRequest { id }]);
        let mut answers = server.lease().lease_keep_alive(shown.with(requests)).await?.into_inner();
        answers.next().await.expect("an answer").map(|answer| answer.ttl)
    };
    assert_eq!(renew(&user, 1).await.expect("own keys"), 600);
    assert_eq!(renew(&user, 99).await.expect("no keys"), 0);
    server.put(&root, "secret", 1).await.expect("root");
    assert_refused(renew(&user, 1).await, DENIED);
    assert_refused(renew(&Shown::Nothing, 1).await, USER_EMPTY);
    assert_refused(renew(&Shown::Nothing, 99).await, USER_EMPTY);
    assert_refused(renew(&Shown::Token("bad.1".into()), 1).await, INVALID_TOKEN);
    assert_eq!(renew(&root, 1).await.expect("root"), 600);

    assert_refused(server.put(&user, "b2", 1).await, DENIED);
    assert_refused(server.lease().lease_revoke(user.with(pb::LeaseRevokeRequest { id: 1 })).await, DENIED);
    let time_to_live = |keys| pb::LeaseTimeToLiveRequest { id: 1, keys };
    assert_refused(server.lease().lease_time_to_live(user.with(time_to_live(true))).await, DENIED);
    let without_keys = server.lease().lease_time_to_live(user.with(time_to_live(false))).await.expect("any user");
    assert_eq!(without_keys.into_inner().granted_ttl, 600);
    assert_refused(server.lease().lease_leases(user.with(pb::LeaseLeasesRequest {})).await, DENIED);
    server.stop().await;
}

#[tokio::test]
async fn users_outlive_a_restart_and_simple_tokens_need_not() {
    let server = Server::start().await;
    server.as_user("user").await;
    let Server { dir, member } = server;
    member.shutdown().await.expect("it stops");
    let config = Config { data_dir: dir.path().join("data"), ..Config::default() };
    let server = Server { member: Member::start(config).await.expect("the member starts"), dir };
    assert_refused(server.get(&Shown::Nothing, "b").await, USER_EMPTY);
    assert!(server.get(&server.as_user("user").await, "b").await.is_ok());
    server.stop().await;
}
