//! `-w simple`.

use super::{EndpointHealth, EndpointStatus, Response, Shown, alarm, size, text};
use client::{
    DeleteResponse, Event, GetResponse, KeyValue, OpResponse, Permission, PermissionKind, PutResponse, RoleGetResponse,
    TimeToLiveResponse, TxnResponse,
};
use std::io::{self, Result, Write};
use types::KeyRange;

pub(crate) fn print(response: &Response<'_>, hex: bool, out: &mut dyn Write) -> Result<()> {
    match response {
        Response::Get(response, shown) => get(response, *shown, hex, out),
        Response::Put(response) => put(response, hex, out),
        Response::Delete(response) => delete(response, hex, out),
        Response::Txn(response) => txn(response, hex, out),
        Response::Watch(batch) if batch.events.is_empty() => {
            writeln!(out, "progress notify: {}", batch.revision)
        }
        Response::Watch(batch) => batch.events.iter().try_for_each(|one| event(one, hex, out)),
        Response::Grant(grant) => writeln!(out, "lease {} granted with TTL({}s)", grant.id, grant.ttl.as_secs()),
        Response::KeepAlive(kept) => writeln!(out, "lease {} keepalived with TTL({})", kept.id, kept.ttl.as_secs()),
        Response::TimeToLive(response, keys) => time_to_live(response, *keys, out),
        Response::Leases(response) => {
            writeln!(out, "found {} leases", response.leases.len())?;
            response.leases.iter().try_for_each(|id| writeln!(out, "{id}"))
        }
        Response::Members(response) => {
            response.members.iter().try_for_each(|member| writeln!(out, "{}", row(&super::table::member(member))))
        }
        Response::Status(all) => all.iter().try_for_each(|status| writeln!(out, "{}", row(&endpoint_status(status)))),
        Response::Health(all) => all.iter().try_for_each(|health| endpoint_health(health, out)),
        Response::Hash(all) => all.iter().try_for_each(|one| writeln!(out, "{}, {}", one.endpoint, one.hash.hash)),
        Response::MemberAdded(added) => {
            let (id, cluster) = (added.member.id, added.all.header.cluster_id);
            writeln!(out, "Member {id:16x} added to cluster {cluster:16x}")
        }
        Response::MembersChanged(_, line) | Response::Done(_, line) => {
            if line.is_empty() {
                Ok(())
            } else {
                writeln!(out, "{line}")
            }
        }
        Response::Alarms(response) => response
            .alarms
            .iter()
            .try_for_each(|one| writeln!(out, "memberID:{} alarm:{} ", one.member_id, alarm(one.kind))),
        Response::AuthStatus(status) => {
            writeln!(out, "Authentication Status: {}\nAuthRevision: {}", status.enabled, status.auth_revision)
        }
        Response::User(response, user) => {
            writeln!(out, "User: {user}")?;
            write!(out, "Roles:")?;
            response.names.iter().try_for_each(|role| write!(out, " {role}"))?;
            writeln!(out)
        }
        Response::Users(response) | Response::Roles(response) => {
            response.names.iter().try_for_each(|name| writeln!(out, "{name}"))
        }
        Response::Role(response, name) => role(response, name, out),
    }
}

fn role(response: &RoleGetResponse, name: &str, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "Role {name}")?;
    for (title, other) in [("KV Read:", PermissionKind::Write), ("KV Write:", PermissionKind::Read)] {
        writeln!(out, "{title}")?;
        let granted = response.permissions.iter().filter(|permission| permission.kind != other);
        granted.into_iter().try_for_each(|permission| line(&permitted(permission), out))?;
    }
    Ok(())
}

/// The keys of a permission: one, or a range, and which prefix that is.
fn permitted(permission: &Permission) -> Vec<u8> {
    let (key, end) = permission.range.to_wire();
    match &permission.range {
        KeyRange::One(key) => [b"\t", &key[..]].concat(),
        KeyRange::AtLeast(key) => [b"\t[", &key[..], b", <open ended>"].concat(),
        KeyRange::Between(..) => {
            let range = [b"\t[", &key[..], b", ", &end[..], b")"].concat();
            let is_prefix = KeyRange::prefix(key.clone()) == permission.range;
            if is_prefix { [&range[..], b" (prefix ", &key[..], b")"].concat() } else { range }
        }
    }
}

fn row(cells: &[String]) -> String {
    cells.join(", ")
}

fn line(bytes: &[u8], out: &mut dyn Write) -> Result<()> {
    out.write_all(bytes)?;
    out.write_all(b"\n")
}

fn key_value(kv: &KeyValue, shown: Shown, hex: bool, out: &mut dyn Write) -> Result<()> {
    if shown == Shown::KeyAndValue {
        line(&text(&kv.key, hex), out)?;
    }
    line(&text(&kv.value, hex), out)
}

fn get(response: &GetResponse, shown: Shown, hex: bool, out: &mut dyn Write) -> Result<()> {
    if shown == Shown::Count {
        return writeln!(out, "{}", response.count);
    }
    response.kvs.iter().try_for_each(|kv| key_value(kv, shown, hex, out))
}

fn put(response: &PutResponse, hex: bool, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "OK")?;
    response.prev_kv.iter().try_for_each(|kv| key_value(kv, Shown::KeyAndValue, hex, out))
}

fn delete(response: &DeleteResponse, hex: bool, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", response.deleted)?;
    response.prev_kvs.iter().try_for_each(|kv| key_value(kv, Shown::KeyAndValue, hex, out))
}

fn txn(response: &TxnResponse, hex: bool, out: &mut dyn Write) -> Result<()> {
    writeln!(out, "{}", if response.succeeded { "SUCCESS" } else { "FAILURE" })?;
    for op in &response.responses {
        writeln!(out)?;
        match op {
            OpResponse::Get(response) => get(response, Shown::KeyAndValue, hex, out)?,
            OpResponse::Put(response) => put(response, hex, out)?,
            OpResponse::Delete(response) => delete(response, hex, out)?,
            OpResponse::Txn(response) => txn(response, hex, out)?,
        }
    }
    Ok(())
}

/// The kind, what was, and what is: a deleted key has an empty value.
fn event(event: &Event, hex: bool, out: &mut dyn Write) -> Result<()> {
    let (Event::Put { prev, .. } | Event::Delete { prev, .. }) = event;
    line(if matches!(event, Event::Put { .. }) { b"PUT" } else { b"DELETE" }, out)?;
    prev.iter().try_for_each(|kv| key_value(kv, Shown::KeyAndValue, hex, out))?;
    match event {
        Event::Put { kv, .. } => key_value(kv, Shown::KeyAndValue, hex, out),
        Event::Delete { key, .. } => {
            line(&text(key, hex), out)?;
            line(b"", out)
        }
    }
}

fn time_to_live(response: &TimeToLiveResponse, keys: bool, out: &mut dyn Write) -> Result<()> {
    let TimeToLiveResponse { id, granted, .. } = response;
    let Some(remaining) = response.remaining else { return writeln!(out, "lease {id} already expired") };
    write!(out, "lease {id} granted with TTL({}s), remaining({}s)", granted.as_secs(), remaining.as_secs())?;
    if keys {
        let keys: Vec<_> = response.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        write!(out, ", attached keys([{}])", keys.join(" "))?;
    }
    writeln!(out)
}

/// The columns of an endpoint's state.
pub(crate) fn endpoint_status(status: &EndpointStatus) -> [String; 10] {
    let EndpointStatus { endpoint, status } = status;
    [
        endpoint.clone(),
        format!("{:x}", status.header.member_id),
        status.version.clone(),
        size(status.db_size_bytes),
        (status.leader == status.header.member_id).to_string(),
        status.is_learner.to_string(),
        status.raft_term.to_string(),
        status.raft_index.to_string(),
        status.raft_applied_index.to_string(),
        status.errors.join(", "),
    ]
}

fn endpoint_health(health: &EndpointHealth, out: &mut dyn Write) -> Result<()> {
    let EndpointHealth { endpoint, took, error } = health;
    match error {
        None => writeln!(out, "{endpoint} is healthy: successfully committed proposal: took = {took:?}"),
        // As etcdctl does: bad news go where somebody looks when output is piped away.
        Some(error) => writeln!(io::stderr(), "{endpoint} is unhealthy: failed to commit proposal: {error}"),
    }
}
