//! Every RPC as nobody, with a bad token, as a user and as root: generated from the table that the gate asks.

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use proto::{
    etcdserverpb::{RequestOp, request_op::Request as Union},
    v3electionpb, v3lockpb,
};
use tonic::{
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
};

use super::*;
use crate::auth::rules::{RULES, Rule};

/// Messages as they are on the wire.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(bytes.copy_to_bytes(bytes.remaining())))
    }
}

/// A call's first answer; what takes longer was let through.
async fn call(server: &Server, shown: &Shown, path: &'static str, message: Bytes) -> Result<Bytes, Status> {
    let mut client = Grpc::new(server.member.routes());
    client.ready().await.expect("in process");
    let request = shown.with(tokio_stream::iter([message]));
    let answer = async {
        let mut answers = client.streaming(request, PathAndQuery::from_static(path), Raw).await?.into_inner();
        match answers.next().await {
            Some(answer) => answer,
            // As in etcd, an observer who may not read is left without a word.
            None if path.ends_with("/Observe") => Err(Status::unknown(DENIED.1)),
            None => Ok(Bytes::new()),
        }
    };
    tokio::time::timeout(Duration::from_secs(2), answer).await.unwrap_or(Ok(Bytes::new()))
}

/// Why a call was turned away, if it was: a watch says so in its answer, and locks and elections without a code.
fn turned_away(path: &str, outcome: &Result<Bytes, Status>) -> Option<&'static str> {
    let known = [USER_EMPTY, DENIED, INVALID_TOKEN].into_iter();
    let known = |is: &dyn Fn((Code, &str)) -> bool| known.clone().find(|one| is(*one)).map(|(_, message)| message);
    match outcome {
        Err(status) if path.starts_with("/v3") => known(&|(_, message)| message == status.message()),
        Err(status) => known(&|(code, message)| (code, message) == (status.code(), status.message())),
        Ok(answer) if path.ends_with("/Watch") => {
            let said = pb::WatchResponse::decode(answer.clone()).expect("a response").cancel_reason;
            known(&|one| reason(one) == said)
        }
        Ok(_) => None,
    }
}

/// A request to a method about a key, or about the lease that it hangs on, and whether it is about a key at all.
fn about(path: &str, key: &str, lease: i64) -> Bytes {
    let key = || Bytes::copy_from_slice(key.as_bytes());
    let leader = || Some(v3electionpb::LeaderKey { name: key(), key: key(), rev: 1, lease });
    let encoded = match path.rsplit('/').next().expect("a method") {
        "Range" | "RangeStream" => pb::RangeRequest { key: key(), ..Default::default() }.encode_to_vec(),
        "Put" => pb::PutRequest { key: key(), ..Default::default() }.encode_to_vec(),
        "DeleteRange" => pb::DeleteRangeRequest { key: key(), ..Default::default() }.encode_to_vec(),
        "Txn" => {
            let put = Union::RequestPut(pb::PutRequest { key: key(), ..Default::default() });
            let nest = |op| pb::TxnRequest { failure: vec![RequestOp { request: Some(op) }], ..Default::default() };
            nest(Union::RequestTxn(nest(put))).encode_to_vec()
        }
        "LeaseRevoke" => pb::LeaseRevokeRequest { id: lease }.encode_to_vec(),
        "LeaseKeepAlive" => pb::LeaseKeepAliveRequest { id: lease }.encode_to_vec(),
        "LeaseTimeToLive" => pb::LeaseTimeToLiveRequest { id: lease, keys: true }.encode_to_vec(),
        "LeaseLeases" => pb::LeaseLeasesRequest {}.encode_to_vec(),
        "Watch" => {
            let create = pb::WatchCreateRequest { key: key(), ..Default::default() };
            pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }.encode_to_vec()
        }
        "Lock" => v3lockpb::LockRequest { name: key(), lease }.encode_to_vec(),
        "Unlock" => v3lockpb::UnlockRequest { key: key() }.encode_to_vec(),
        "Campaign" => v3electionpb::CampaignRequest { name: key(), lease, value: key() }.encode_to_vec(),
        "Leader" | "Observe" => v3electionpb::LeaderRequest { name: key() }.encode_to_vec(),
        "Proclaim" => v3electionpb::ProclaimRequest { leader: leader(), value: key() }.encode_to_vec(),
        "Resign" => v3electionpb::ResignRequest { leader: leader() }.encode_to_vec(),
        other => panic!("{other} is about keys, and there is no example of it"),
    };
    encoded.into()
}

#[tokio::test]
async fn every_rpc_keeps_its_rule() {
    const FOREIGN: (&str, i64) = ("secret", 1);
    const OWN: (&str, i64) = ("b1", 2);
    let server = Server::start().await;
    let (root, user) = (server.as_user("root").await, server.as_user("user").await);
    let bad = Shown::Token("bad.1".into());
    let turned = |known: (Code, &'static str)| Some(known.1);
    for (path, rule) in RULES.iter().filter(|(path, _)| !path.ends_with("/AuthDisable")) {
        if matches!(call(&server, &root, path, Bytes::new()).await, Err(status) if status.code() == Code::Unimplemented)
        {
            continue; // there is nothing behind the rule yet
        }
        for (key, id) in [FOREIGN, OWN] {
            // It may be there still, or have ended with its turn.
            let grant = pb::LeaseGrantRequest { ttl: 600, id };
            let _known = server.lease().lease_grant(root.with(grant)).await;
            server.put(&root, key, id).await.expect("root");
        }
        let foreign = match rule {
            // Whom nobody gave a name is refused in the words that nobody is refused in.
            Rule::Root if path.ends_with("/UserAdd") => {
                pb::AuthUserAddRequest { name: "new".into(), ..Default::default() }.encode_to_vec().into()
            }
            Rule::Public | Rule::User | Rule::Root => Bytes::new(),
            Rule::Keys | Rule::KeysOfEachMessage => about(path, FOREIGN.0, FOREIGN.1),
        };
        let as_shown =
            async |shown: &Shown, message: Bytes| turned_away(path, &call(&server, shown, path, message).await);
        let public = *rule == Rule::Public;
        let expected = |known| if public { None } else { turned(known) };
        assert_eq!(as_shown(&Shown::Nothing, foreign.clone()).await, expected(USER_EMPTY), "{path} as nobody");
        assert_eq!(as_shown(&bad, foreign.clone()).await, expected(INVALID_TOKEN), "{path} with a bad token");
        // Of users and roles, who is none sees their own only: an empty name is another's.
        let others = path.ends_with("/UserGet") || path.ends_with("/RoleGet");
        let for_user = match rule {
            Rule::Public => None,
            Rule::User => turned(DENIED).filter(|_| others),
            Rule::Keys | Rule::KeysOfEachMessage | Rule::Root => turned(DENIED),
        };
        assert_eq!(as_shown(&user, foreign.clone()).await, for_user, "{path} as a user");
        if matches!(rule, Rule::Keys | Rule::KeysOfEachMessage) && !path.ends_with("/LeaseLeases") {
            let own = about(path, OWN.0, OWN.1);
            assert_eq!(as_shown(&user, own).await, None, "{path} as a user with the permission");
        }
        assert_eq!(as_shown(&root, foreign).await, None, "{path} as root");
    }
    let disable = "/etcdserverpb.Auth/AuthDisable";
    for (shown, expected) in [(Shown::Nothing, turned(USER_EMPTY)), (user, turned(DENIED)), (root, None)] {
        let outcome = call(&server, &shown, disable, Bytes::new()).await;
        assert_eq!(turned_away(disable, &outcome), expected, "{shown:?}");
    }
    server.stop().await;
}

#[test]
fn nothing_of_maintenance_and_membership_is_public() {
    let public: Vec<_> = RULES.iter().filter(|(_, rule)| *rule == Rule::Public).map(|(path, _)| *path).collect();
    assert_eq!(public, ["/etcdserverpb.Auth/AuthStatus", "/etcdserverpb.Auth/Authenticate"]);
    let users =
        ["/etcdserverpb.Cluster/MemberList", "/etcdserverpb.Maintenance/Alarm", "/etcdserverpb.Maintenance/Status"];
    for (path, rule) in RULES {
        let guarded = path.contains(".Maintenance/") || path.contains(".Cluster/");
        assert!(!guarded || *rule == Rule::Root || (*rule == Rule::User && users.contains(path)), "{path}");
    }
}
