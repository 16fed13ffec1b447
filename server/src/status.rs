//! The one file that builds a `Status`: etcd's codes and exact words, because clients compare them.
//!
//! Source: etcd `api/v3rpc/rpctypes/error.go`.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::Frame;
use raft::{ChangeError, MemberId, ProposeError, ReadError};
use store::{AuthRefusal, Failure, Refusal};
use tonic::Status;
use tracing::error;

use crate::{SnapshotError, http::Malformed, upgrade::NotAgreed};

/// What the store refused, as etcd says it.
pub(crate) fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::KeyNotProvided => Status::invalid_argument("etcdserver: key is not provided"),
        Refusal::KeyNotFound => Status::invalid_argument("etcdserver: key not found"),
        Refusal::ValueProvided => Status::invalid_argument("etcdserver: value is provided"),
        Refusal::LeaseProvided => Status::invalid_argument("etcdserver: lease is provided"),
        Refusal::TooManyOps => Status::invalid_argument("etcdserver: too many operations in txn request"),
        Refusal::DuplicateKey => Status::invalid_argument("etcdserver: duplicate key given in txn request"),
        Refusal::InvalidSortOption => Status::invalid_argument("etcdserver: invalid sort option"),
        Refusal::RequestTooLarge => Status::invalid_argument("etcdserver: request is too large"),
        Refusal::Compacted { .. } => compacted(),
        Refusal::FutureRevision { .. } => {
            Status::out_of_range("etcdserver: mvcc: required revision is a future revision")
        }
        Refusal::LeaseNotFound(_) => Status::not_found("etcdserver: requested lease not found"),
        Refusal::LeaseExists(_) => Status::failed_precondition("etcdserver: lease already exists"),
        Refusal::LeaseTtlTooLarge => Status::out_of_range("etcdserver: too large lease TTL"),
        Refusal::NoSpace => Status::resource_exhausted("etcdserver: mvcc: database space exceeded"),
        Refusal::Corrupt => Status::data_loss("etcdserver: corrupt cluster"),
        Refusal::Auth(refusal) => auth_refused(*refusal),
    }
}

/// What is not permitted, and users and roles that cannot be changed as asked.
pub(crate) fn auth_refused(refusal: AuthRefusal) -> Status {
    match refusal {
        AuthRefusal::UserEmpty => Status::invalid_argument("etcdserver: user name is empty"),
        AuthRefusal::OldRevision => Status::invalid_argument("etcdserver: revision of auth store is old"),
        AuthRefusal::PermissionDenied => Status::permission_denied("etcdserver: permission denied"),
        AuthRefusal::RootUserNotExist => Status::failed_precondition("etcdserver: root user does not exist"),
        AuthRefusal::RootRoleNotExist => Status::failed_precondition("etcdserver: root user does not have root role"),
        AuthRefusal::UserAlreadyExists => Status::failed_precondition("etcdserver: user name already exists"),
        AuthRefusal::UserNotFound => Status::failed_precondition("etcdserver: user name not found"),
        AuthRefusal::RoleEmpty => Status::invalid_argument("etcdserver: role name is empty"),
        AuthRefusal::RoleAlreadyExists => Status::failed_precondition("etcdserver: role name already exists"),
        AuthRefusal::RoleNotFound => Status::failed_precondition("etcdserver: role name not found"),
        AuthRefusal::AuthFailed => {
            Status::invalid_argument("etcdserver: authentication failed, invalid user ID or password")
        }
        AuthRefusal::PermissionNotGiven => Status::invalid_argument("etcdserver: permission not given"),
        AuthRefusal::RoleNotGranted => Status::failed_precondition("etcdserver: role is not granted to the user"),
        AuthRefusal::PermissionNotGranted => {
            Status::failed_precondition("etcdserver: permission is not granted to the role")
        }
        AuthRefusal::NotEnabled => Status::failed_precondition("etcdserver: authentication is not enabled"),
        AuthRefusal::InvalidToken => Status::unauthenticated("etcdserver: invalid auth token"),
        AuthRefusal::InvalidManagement => Status::invalid_argument("etcdserver: invalid auth management"),
    }
}

/// Said of a revision that is no longer readable; a watch that starts below it is cancelled with the same words.
pub(crate) const COMPACTED: &str = "etcdserver: mvcc: required revision has been compacted";

/// A revision that is no longer readable, or never was.
pub(crate) fn compacted() -> Status {
    Status::out_of_range(COMPACTED)
}

/// An enum value that this version of the API does not have.
pub(crate) fn unknown_enum(field: &str, value: i32) -> Status {
    Status::invalid_argument(format!("etcdserver: {field} {value} is not known"))
}

/// A read that the store refused, or could not serve.
pub(crate) fn failed(failure: &Failure) -> Status {
    match failure {
        Failure::Refused(refusal) => refused(refusal),
        Failure::Broken(broken) => {
            error!(error = %broken, "the store cannot read its disk");
            Status::unknown(format!("etcdserver: {broken}"))
        }
    }
}

/// A question about this member's own disk that has no answer.
pub(crate) fn broken(error: &engine::EngineError) -> Status {
    error!(%error, "the engine cannot be asked");
    Status::unknown(format!("etcdserver: {error}"))
}

/// A write that has no answer.
pub(crate) fn not_agreed(error: &NotAgreed) -> Status {
    match error {
        NotAgreed::TooEarly(error) => Status::failed_precondition(error.to_string()),
        NotAgreed::Raft(error) => not_proposed(error),
    }
}

fn not_proposed(error: &ProposeError) -> Status {
    match error {
        ProposeError::NoLeader => no_leader(),
        ProposeError::Busy => Status::resource_exhausted("etcdserver: too many requests"),
        ProposeError::TooLarge { .. } => Status::invalid_argument("etcdserver: request is too large"),
        ProposeError::Late => timed_out(),
        ProposeError::Unknown => {
            Status::unavailable("etcdserver: request timed out, possibly due to previous leader failure")
        }
        ProposeError::Stopped => Status::unavailable("etcdserver: server stopped"),
    }
}

/// A read that could not be made linearizable.
pub(crate) fn not_confirmed(error: &ReadError) -> Status {
    match error {
        ReadError::NoLeader => no_leader(),
        ReadError::NoQuorum => Status::unavailable("etcdserver: request timed out"),
        ReadError::Busy => Status::resource_exhausted("etcdserver: too many requests"),
        ReadError::Stopped => Status::unavailable("etcdserver: server stopped"),
    }
}

/// Another member leads now.
pub(crate) fn leader_changed() -> Status {
    Status::unavailable("etcdserver: leader changed")
}

/// A change of the members that was not made, or may not have been.
pub(crate) fn not_changed(error: &ChangeError) -> Status {
    match error {
        ChangeError::NoLeader => no_leader(),
        ChangeError::Unknown => timed_out(),
        ChangeError::InProgress => too_many_requests(),
        ChangeError::Exists(_) => Status::failed_precondition("etcdserver: member ID already exist"),
        ChangeError::NameTaken { name, by } => name_taken(name, *by),
        ChangeError::NotFound(_) | ChangeError::Removed(_) => member_not_found(),
        ChangeError::NotLearner(_) => not_a_learner(),
        ChangeError::NotVoter(_) => bad_leader_transferee(),
        ChangeError::NotReady { .. } => {
            Status::failed_precondition("etcdserver: can only promote a learner member which is in sync with leader")
        }
        ChangeError::WouldLoseQuorum => not_enough_started_members(),
        ChangeError::Invalid(reason) => Status::invalid_argument(format!("etcdserver: {reason}")),
        ChangeError::Stopped => server_stopped(),
    }
}

/// A member that would be called as another one is: etcd has no such error, since it lets both have the name.
pub(crate) fn name_taken(name: &str, by: MemberId) -> Status {
    Status::already_exists(ChangeError::NameTaken { name: name.to_owned(), by }.to_string())
}

/// Nobody leads, as far as this member knows.
pub(crate) fn no_leader() -> Status {
    Status::unavailable("etcdserver: no leader")
}

/// A learner that is to stay one, where there are enough of them.
pub(crate) fn too_many_learners() -> Status {
    Status::failed_precondition("etcdserver: too many learner members in cluster")
}

/// No member of this id.
pub(crate) fn member_not_found() -> Status {
    Status::not_found("etcdserver: member not found")
}

/// Another member has a peer address.
pub(crate) fn peer_url_exists() -> Status {
    Status::failed_precondition("etcdserver: Peer URLs already exists")
}

/// A request that a member without a vote does not answer.
pub(crate) fn not_for_learners() -> Status {
    Status::failed_precondition("etcdserver: rpc not supported for learner")
}

/// A member that is to be added where no peer port is open.
pub(crate) fn no_way_to_members() -> Status {
    Status::failed_precondition(
        "etcdserver: this member has no way to others: bootstrap it by 'meshstore cluster bootstrap', or give \
         --peer-cert-file, --peer-key-file and --peer-trusted-ca-file; and --initial-advertise-peer-urls https://HOST:2380",
    )
}

/// More renewals in one message than members ask of one another.
pub(crate) fn too_many_at_once() -> Status {
    Status::invalid_argument("too many leases at once")
}

/// A request that waited longer than the server lets it.
pub(crate) fn timed_out() -> Status {
    Status::unavailable("etcdserver: request timed out")
}

/// A call whose client waits no more. What it wrote may be written, or never.
pub(crate) fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("context deadline exceeded")
}

/// A client's time for a call that is none. Source: grpc-go `http2_server.go`.
pub(crate) fn malformed_timeout(text: &[u8]) -> Status {
    Status::internal(format!("malformed grpc-timeout: {:?}", String::from_utf8_lossy(text)))
}

/// The same where HTTP clients tell it. Source: grpc-gateway `annotateContext`.
pub(crate) fn invalid_timeout(field: &HeaderValue) -> Status {
    Status::invalid_argument(format!("invalid grpc-timeout: {}", String::from_utf8_lossy(field.as_bytes())))
}

/// A snapshot that cannot be written or sent: the data directory's disk is full, say.
pub(crate) fn no_snapshot(error: &SnapshotError) -> Status {
    Status::unknown(format!("etcdserver: cannot make a snapshot: {error}"))
}

/// A write to the mesh's own keys from where nobody is authenticated.
pub(crate) fn mesh_keys_are_reserved() -> Status {
    Status::permission_denied(
        "keys under /mesh/ are written only through the mesh API: use 'meshstore mesh apply' or 'meshstore mesh delete'",
    )
}

/// A question that only the leader answers.
pub(crate) fn not_leader() -> Status {
    Status::failed_precondition("etcdserver: not leader")
}

/// The leadership cannot go to who was named.
pub(crate) fn bad_leader_transferee() -> Status {
    Status::failed_precondition("etcdserver: bad leader transferee")
}

/// A version that is not spelled as one.
pub(crate) fn wrong_downgrade_version_format() -> Status {
    Status::invalid_argument("etcdserver: wrong downgrade target version format")
}

/// A version that is not the one before this.
pub(crate) fn invalid_downgrade_version() -> Status {
    Status::invalid_argument("etcdserver: invalid downgrade target version")
}

/// There is no downgrade to cancel.
pub(crate) fn no_downgrade_in_progress() -> Status {
    Status::failed_precondition("etcdserver: no inflight downgrade job")
}

/// A downgrade that etcd could do and this store cannot: its data is in no version of etcd's own format.
pub(crate) fn downgrades_by_export() -> Status {
    Status::failed_precondition(
        "etcdserver: this member's data is not in etcd's own format: use 'meshstore snapshot export' to move to etcd",
    )
}

/// An action that the API does not have.
pub(crate) fn unknown_method() -> Status {
    Status::unknown("etcdserver: unknown method")
}

/// A streamed range in another order than that of the keys.
pub(crate) fn stream_in_key_order_only() -> Status {
    Status::unimplemented("RangeStream does not support custom sort orders")
}

/// A streamed range of some revisions only.
pub(crate) fn stream_without_filters_only() -> Status {
    Status::unimplemented("RangeStream does not support revision filters")
}

/// The member is about to end.
pub(crate) fn server_stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// What etcd's lock and election services say of an error of the services below them: its words, without its code.
pub(crate) fn without_code(status: &Status) -> Status {
    Status::unknown(status.message())
}

/// A lock's waiter whose key has gone meanwhile.
pub(crate) fn session_expired() -> Status {
    Status::unknown("mutex: session is expired")
}

/// An election that nobody has won.
pub(crate) fn no_leader_elected() -> Status {
    Status::unknown("election: no leader")
}

/// A leader that is none, or none any more.
pub(crate) fn not_elected() -> Status {
    Status::unknown("election: not leader")
}

/// A request of a leader that does not say which.
pub(crate) fn no_leader_key() -> Status {
    Status::unknown(r#""leader" field must be provided"#)
}

/// Addresses that are none.
pub(crate) fn bad_member_urls() -> Status {
    Status::invalid_argument("etcdserver: given member URLs are invalid")
}

/// A change of the members after which they could agree on nothing.
pub(crate) fn not_enough_started_members() -> Status {
    Status::failed_precondition("etcdserver: re-configuration failed due to not enough started members")
}

/// A promotion of who votes already.
pub(crate) fn not_a_learner() -> Status {
    Status::failed_precondition("etcdserver: can only promote a learner member")
}

/// More wait for the same than the server keeps waiting.
pub(crate) fn too_many_requests() -> Status {
    Status::resource_exhausted("etcdserver: too many requests")
}

/// A password of which bcrypt would not see the end.
pub(crate) fn password_too_long() -> Status {
    Status::unknown("bcrypt: password length exceeds 72 bytes")
}

/// A login at a member that has the public key alone.
pub(crate) fn tokens_are_only_verified() -> Status {
    Status::unknown("auth: token signing attempted with verify-only key")
}

/// The key does not sign.
pub(crate) fn token_cannot_be_signed() -> Status {
    Status::unknown("auth: failed to sign a token")
}

/// How a stream ends with a status.
pub(crate) fn trailers(status: &Status) -> Result<Frame<Bytes>, Status> {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(Frame::trailers(trailers))
}

/// A status as text, where etcd has it so: its clients look for these very words in a watch's cancel reason.
///
/// Source: grpc-go `status.Error.Error`; etcd `clientv3/watch.go`, `shouldRetryWatch`.
pub(crate) fn as_go_prints(status: &Status) -> String {
    format!("rpc error: code = {:?} desc = {}", status.code(), status.message())
}

/// The JSON gateway has no such path.
pub(crate) fn no_such_path() -> Status {
    Status::not_found("Not Found")
}

/// A path of the JSON gateway was asked by another method than `POST`.
pub(crate) fn only_post() -> Status {
    Status::unimplemented("Method Not Allowed")
}

/// A body that is not the JSON of the request that its path takes.
pub(crate) fn unreadable_request(malformed: &Malformed) -> Status {
    match malformed {
        Malformed::Truncated | Malformed::Invalid(_) => Status::invalid_argument(malformed.to_string()),
        Malformed::TooLong(_) => Status::resource_exhausted(malformed.to_string()),
    }
}

/// An answer that cannot be shown as JSON: our own bug, told rather than hidden.
pub(crate) fn unreadable_answer(malformed: &Malformed) -> Status {
    Status::internal(malformed.to_string())
}
