//! `-w json`: the shapes of etcdctl's, which leaves zeros out here and not there.

use super::{EndpointHash, EndpointHealth, EndpointStatus, Response};
use bytes::Bytes;
use client::{
    AlarmsResponse, DeleteResponse, Event, GetResponse, Header, KeyValue, MemberInfo, MemberListResponse,
    NamesResponse, OpResponse, Permission, PermissionKind, PutResponse, RoleGetResponse, TimeToLiveResponse,
    TxnResponse, WatchBatch,
};
use serde_json::{Map, Value, json};
use std::io::{Result, Write};
use types::{LeaseId, Revision};

/// `hex`: the IDs of members and their cluster are hexadecimal text, as etcdctl tells them where it is asked for members.
pub(crate) fn print(response: &Response<'_>, hex: bool, out: &mut dyn Write) -> Result<()> {
    let of_members = matches!(response, Response::Members(_) | Response::MembersChanged(..) | Response::MemberAdded(_));
    let mut value = value(response);
    if hex && of_members {
        ids_in_hexadecimal(&mut value);
    }
    serde_json::to_writer(&mut *out, &value)?;
    writeln!(out)
}

/// Every ID, wherever it stands.
fn ids_in_hexadecimal(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(ids_in_hexadecimal),
        Value::Object(members) => members.iter_mut().for_each(|(name, value)| match value.as_u64() {
            Some(id) if ["cluster_id", "member_id", "ID"].contains(&name.as_str()) => *value = json!(format!("{id:x}")),
            _ => ids_in_hexadecimal(value),
        }),
        _ => {}
    }
}

fn value(response: &Response<'_>) -> Value {
    match response {
        Response::Get(response, _) => get(response),
        Response::Put(response) => put(response),
        Response::Delete(response) => delete(response),
        Response::Txn(response) => txn(response),
        Response::Watch(batch) => watch(batch),
        Response::Grant(grant) => {
            let rest = json!({"ID": grant.id.get(), "TTL": grant.ttl.as_secs(), "Error": ""});
            beside(header(grant.header, Some(grant.revision)), rest)
        }
        Response::KeepAlive(kept) => {
            let rest = json!({"ID": kept.id.get(), "TTL": kept.ttl.as_secs()});
            beside(header(kept.header, Some(kept.revision)), rest)
        }
        Response::TimeToLive(response, _) => time_to_live(response),
        Response::Leases(response) => {
            let leases: Vec<_> = response.leases.iter().map(|id| json!({"id": id.get()})).collect();
            beside(header(response.header, Some(response.revision)), json!({"leases": leases}))
        }
        Response::Members(response) | Response::MembersChanged(response, _) => members(response),
        Response::MemberAdded(added) => {
            let all: Vec<_> = added.all.members.iter().map(member).collect();
            json!({"header": header(added.all.header, None), "member": member(&added.member), "members": all})
        }
        Response::Status(all) => all.iter().map(status).collect(),
        Response::Health(all) => all.iter().map(health).collect(),
        Response::Hash(all) => all.iter().map(hash).collect(),
        Response::Alarms(response) => alarms(response),
        Response::AuthStatus(status) => nonzero(json!({
            "header": header(status.header, Some(status.revision)),
            "enabled": status.enabled,
            "authRevision": status.auth_revision,
        })),
        Response::User(response, _) | Response::Roles(response) => names("roles", response),
        Response::Users(response) => names("users", response),
        Response::Role(response, _) => role(response),
        Response::Done(by, _) => nonzero(json!({"header": by.map(|(by, revision)| header(by, Some(revision)))})),
    }
}

fn time_to_live(response: &TimeToLiveResponse) -> Value {
    let ttl = response.remaining.map_or(json!(-1), |ttl| json!(ttl.as_secs()));
    let keys: Value = if response.keys.is_empty() { Value::Null } else { response.keys.iter().map(base64).collect() };
    let rest = json!({"id": response.id.get(), "ttl": ttl, "granted-ttl": response.granted.as_secs(), "keys": keys});
    beside(header(response.header, Some(response.revision)), rest)
}

fn members(response: &MemberListResponse) -> Value {
    let all: Vec<_> = response.members.iter().map(member).collect();
    json!({"header": header(response.header, None), "members": all})
}

fn names(field: &str, response: &NamesResponse) -> Value {
    nonzero(json!({"header": header(response.header, Some(response.revision)), field: response.names}))
}

fn role(response: &RoleGetResponse) -> Value {
    let all: Vec<_> = response.permissions.iter().map(permission).collect();
    nonzero(json!({"header": header(response.header, Some(response.revision)), "perm": all}))
}

fn permission(permission: &Permission) -> Value {
    let kind = match permission.kind {
        PermissionKind::Read => 0,
        PermissionKind::Write => 1,
        PermissionKind::ReadWrite => 2,
    };
    let (key, end) = permission.range.to_wire();
    nonzero(json!({"permType": kind, "key": base64(&key), "range_end": base64(&end)}))
}

fn alarms(response: &AlarmsResponse) -> Value {
    let all = response.alarms.iter().map(|one| nonzero(json!({"memberID": one.member_id, "alarm": one.kind.number()})));
    let header = header(response.header, response.revision);
    nonzero(json!({"header": header, "alarms": all.collect::<Vec<_>>()}))
}

fn hash(hash: &EndpointHash) -> Value {
    let EndpointHash { endpoint, hash } = hash;
    let value = nonzero(json!({
        "header": header(hash.header, Some(hash.revision)),
        "hash": hash.hash,
        "compact_revision": hash.compact_revision.map_or(0, Revision::get),
    }));
    json!({"Endpoint": endpoint, "HashKV": value})
}

/// An object of those members that are neither zero, false nor empty.
fn nonzero(members: Value) -> Value {
    let is_zero = |value: &Value| match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_i64() == Some(0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    };
    match members {
        Value::Object(members) => Value::Object(members.into_iter().filter(|(_, value)| !is_zero(value)).collect()),
        other => other,
    }
}

/// The members of both objects.
fn beside(first: Value, second: Value) -> Value {
    let members = |value| if let Value::Object(members) = value { members } else { Map::new() };
    Value::Object(members(first).into_iter().chain(members(second)).collect())
}

fn header(header: Header, revision: Option<Revision>) -> Value {
    nonzero(json!({
        "cluster_id": header.cluster_id,
        "member_id": header.member_id,
        "revision": revision.map_or(0, Revision::get),
        "raft_term": header.raft_term,
    }))
}

fn key_value(kv: &KeyValue) -> Value {
    nonzero(json!({
        "key": base64(&kv.key),
        "create_revision": kv.create_revision.get(),
        "mod_revision": kv.mod_revision.get(),
        "version": kv.version,
        "value": base64(&kv.value),
        "lease": kv.lease.map_or(0, LeaseId::get),
    }))
}

fn get(response: &GetResponse) -> Value {
    let kvs: Vec<_> = response.kvs.iter().map(key_value).collect();
    let header = header(response.header, Some(response.revision));
    nonzero(json!({"header": header, "kvs": kvs, "more": response.more, "count": response.count}))
}

fn put(response: &PutResponse) -> Value {
    let header = header(response.header, Some(response.revision));
    nonzero(json!({"header": header, "prev_kv": response.prev_kv.as_ref().map(key_value)}))
}

fn delete(response: &DeleteResponse) -> Value {
    let prev_kvs: Vec<_> = response.prev_kvs.iter().map(key_value).collect();
    let header = header(response.header, Some(response.revision));
    nonzero(json!({"header": header, "deleted": response.deleted, "prev_kvs": prev_kvs}))
}

fn txn(response: &TxnResponse) -> Value {
    let op = |op: &OpResponse| {
        let response = match op {
            OpResponse::Get(response) => json!({"response_range": get(response)}),
            OpResponse::Put(response) => json!({"response_put": put(response)}),
            OpResponse::Delete(response) => json!({"response_delete_range": delete(response)}),
            OpResponse::Txn(response) => json!({"response_txn": txn(response)}),
        };
        json!({"Response": response})
    };
    let responses: Vec<_> = response.responses.iter().map(op).collect();
    let header = header(response.header, Some(response.revision));
    nonzero(json!({"header": header, "succeeded": response.succeeded, "responses": responses}))
}

fn watch(batch: &WatchBatch) -> Value {
    let event = |event: &Event| match event {
        Event::Put { kv, prev } => nonzero(json!({"kv": key_value(kv), "prev_kv": prev.as_ref().map(key_value)})),
        Event::Delete { key, revision, prev } => nonzero(json!({
            "type": 1,
            "kv": {"key": base64(key), "mod_revision": revision.get()},
            "prev_kv": prev.as_ref().map(key_value),
        })),
    };
    let events: Vec<_> = batch.events.iter().map(event).collect();
    let header = header(batch.header, Some(batch.store_revision));
    json!({"Header": header, "Events": events, "CompactRevision": 0, "Canceled": false, "Created": false})
}

fn member(member: &MemberInfo) -> Value {
    nonzero(json!({
        "ID": member.id,
        "name": member.name,
        "peerURLs": member.peer_urls,
        "clientURLs": member.client_urls,
        "isLearner": member.is_learner,
    }))
}

fn status(status: &EndpointStatus) -> Value {
    let EndpointStatus { endpoint, status } = status;
    let status = nonzero(json!({
        "header": header(status.header, Some(status.revision)),
        "version": status.version,
        "dbSize": status.db_size_bytes,
        "leader": status.leader,
        "raftIndex": status.raft_index,
        "raftTerm": status.raft_term,
        "raftAppliedIndex": status.raft_applied_index,
        "errors": status.errors,
        "dbSizeInUse": status.db_size_in_use_bytes,
        "isLearner": status.is_learner,
    }));
    json!({"Endpoint": endpoint, "Status": status})
}

fn health(health: &EndpointHealth) -> Value {
    let EndpointHealth { endpoint, took, error } = health;
    let mut value = json!({"endpoint": endpoint, "health": error.is_none(), "took": format!("{took:?}")});
    if let Some(error) = error {
        value["error"] = json!(error);
    }
    value
}

/// Standard base64 with padding, as JSON carries bytes.
fn base64(bytes: &Bytes) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let encode = |chunk: &[u8]| -> [char; 4] {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        std::array::from_fn(|index| {
            let sextet = bits >> (18 - 6 * index) & 0x3f;
            if index <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' }
        })
    };
    bytes.chunks(3).flat_map(encode).collect()
}
