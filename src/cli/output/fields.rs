//! `-w fields`.

use super::{EndpointHash, EndpointHealth, EndpointStatus, Response, alarm, quote};
use bytes::Bytes;
use client::{
    AlarmsResponse, DeleteResponse, Event, GetResponse, Header, KeyValue, MemberInfo, NamesResponse, OpResponse,
    Permission, PermissionKind, PutResponse, TimeToLiveResponse, TxnResponse,
};
use std::{
    fmt::Display,
    io::{Result, Write},
    time::Duration,
};
use types::{LeaseId, Revision};

/// Keys and values are always quoted: etcdctl has no hexadecimal here.
pub(crate) fn print(response: &Response<'_>, out: &mut dyn Write) -> Result<()> {
    Fields { out }.response(response)
}

struct Fields<'a> {
    out: &'a mut dyn Write,
}

impl Fields<'_> {
    fn field(&mut self, name: &str, value: impl Display) -> Result<()> {
        writeln!(self.out, "\"{name}\" : {value}")
    }

    fn quoted(&mut self, name: &str, text: &str) -> Result<()> {
        self.field(name, quote::quoted(text.as_bytes()))
    }

    fn bytes(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        self.field(name, quote::quoted(bytes))
    }

    fn response(&mut self, response: &Response<'_>) -> Result<()> {
        match response {
            Response::Get(response, _) => self.get(response),
            Response::Put(response) => self.put(response),
            Response::Delete(response) => self.delete(response),
            Response::Txn(response) => self.txn(response),
            Response::Watch(batch) => {
                self.header(batch.header, Some(batch.store_revision))?;
                batch.events.iter().try_for_each(|event| self.event(event))
            }
            Response::Grant(grant) => self.lease(grant.header, grant.revision, grant.id, grant.ttl),
            Response::KeepAlive(kept) => self.lease(kept.header, kept.revision, kept.id, kept.ttl),
            Response::TimeToLive(response, _) => self.time_to_live(response),
            Response::Leases(response) => {
                self.header(response.header, Some(response.revision))?;
                response.leases.iter().try_for_each(|id| self.field("ID", id.get()))
            }
            Response::Members(response) | Response::MembersChanged(response, _) => {
                self.header(response.header, None)?;
                response.members.iter().try_for_each(|member| self.member(member))
            }
            Response::Status(all) => all.iter().try_for_each(|status| self.status(status)),
            Response::Health(all) => all.iter().try_for_each(|health| self.health(health)),
            Response::Hash(all) => all.iter().try_for_each(|hash| self.hash(hash)),
            Response::MemberAdded(added) => {
                self.header(added.all.header, None)?;
                added.all.members.iter().try_for_each(|member| self.member(member))
            }
            Response::Alarms(response) => self.alarms(response),
            Response::Role(response, _) => {
                self.header(response.header, Some(response.revision))?;
                response.permissions.iter().try_for_each(|permission| self.permission(permission))
            }
            Response::Users(response) => self.names("Users", response),
            Response::Roles(response) | Response::User(response, _) => self.names("Roles", response),
            Response::AuthStatus(status) => {
                self.header(status.header, Some(status.revision))?;
                self.field("Enabled", status.enabled)?;
                self.field("AuthRevision", status.auth_revision)
            }
            Response::Done(by, _) => by.map_or(Ok(()), |(header, revision)| self.header(header, Some(revision))),
        }
    }

    fn time_to_live(&mut self, response: &TimeToLiveResponse) -> Result<()> {
        self.header(response.header, Some(response.revision))?;
        self.field("ID", response.id.get())?;
        self.field("TTL", response.remaining.map_or("-1".to_owned(), |ttl| ttl.as_secs().to_string()))?;
        self.field("GrantedTTL", response.granted.as_secs())?;
        response.keys.iter().try_for_each(|key| self.bytes("Key", key))
    }

    fn alarms(&mut self, response: &AlarmsResponse) -> Result<()> {
        self.header(response.header, response.revision)?;
        response.alarms.iter().try_for_each(|one| {
            self.field("MemberID", one.member_id)?;
            self.field("AlarmType", alarm(one.kind))?;
            writeln!(self.out)
        })
    }

    fn names(&mut self, field: &str, response: &NamesResponse) -> Result<()> {
        self.header(response.header, Some(response.revision))?;
        let names = response.names.iter().map(|name| format!(" {}", quote::quoted(name.as_bytes())));
        writeln!(self.out, "\"{field}\" :{}", names.collect::<String>())
    }

    fn permission(&mut self, permission: &Permission) -> Result<()> {
        let kind = match permission.kind {
            PermissionKind::Read => "READ",
            PermissionKind::Write => "WRITE",
            PermissionKind::ReadWrite => "READWRITE",
        };
        let (key, end) = permission.range.to_wire();
        // etcdctl writes two spaces here.
        self.field("PermType", format_args!(" {kind}"))?;
        self.bytes("Key", &key)?;
        self.bytes("RangeEnd", &end)
    }

    fn hash(&mut self, hash: &EndpointHash) -> Result<()> {
        self.header(hash.hash.header, Some(hash.hash.revision))?;
        self.quoted("Endpoint", &hash.endpoint)?;
        self.field("Hash", hash.hash.hash)?;
        writeln!(self.out)
    }

    fn header(&mut self, header: Header, revision: Option<Revision>) -> Result<()> {
        self.field("ClusterID", header.cluster_id)?;
        self.field("MemberID", header.member_id)?;
        self.field("Revision", revision.map_or(0, Revision::get))?;
        self.field("RaftTerm", header.raft_term)
    }

    fn key_value(&mut self, prefix: &str, kv: &KeyValue) -> Result<()> {
        let (create, change) = (kv.create_revision.get(), kv.mod_revision.get());
        self.key(prefix, &kv.key, [create, change, kv.version], &kv.value, kv.lease)
    }

    fn key(
        &mut self,
        prefix: &str,
        key: &Bytes,
        [create, change, version]: [i64; 3],
        value: &Bytes,
        lease: Option<LeaseId>,
    ) -> Result<()> {
        self.bytes(&format!("{prefix}Key"), key)?;
        self.field(&format!("{prefix}CreateRevision"), create)?;
        self.field(&format!("{prefix}ModRevision"), change)?;
        self.field(&format!("{prefix}Version"), version)?;
        self.bytes(&format!("{prefix}Value"), value)?;
        self.field(&format!("{prefix}Lease"), lease.map_or(0, LeaseId::get))
    }

    fn get(&mut self, response: &GetResponse) -> Result<()> {
        self.header(response.header, Some(response.revision))?;
        response.kvs.iter().try_for_each(|kv| self.key_value("", kv))?;
        self.field("More", response.more)?;
        self.field("Count", response.count)
    }

    fn put(&mut self, response: &PutResponse) -> Result<()> {
        self.header(response.header, Some(response.revision))?;
        response.prev_kv.iter().try_for_each(|kv| self.key_value("Prev", kv))
    }

    fn delete(&mut self, response: &DeleteResponse) -> Result<()> {
        self.header(response.header, Some(response.revision))?;
        self.field("Deleted", response.deleted)?;
        response.prev_kvs.iter().try_for_each(|kv| self.key_value("Prev", kv))
    }

    fn txn(&mut self, response: &TxnResponse) -> Result<()> {
        self.header(response.header, Some(response.revision))?;
        self.field("Succeeded", response.succeeded)?;
        response.responses.iter().try_for_each(|op| match op {
            OpResponse::Get(response) => self.get(response),
            OpResponse::Put(response) => self.put(response),
            OpResponse::Delete(response) => self.delete(response),
            OpResponse::Txn(response) => self.txn(response),
        })
    }

    fn event(&mut self, event: &Event) -> Result<()> {
        let (Event::Put { prev, .. } | Event::Delete { prev, .. }) = event;
        self.field("Type", if matches!(event, Event::Put { .. }) { "PUT" } else { "DELETE" })?;
        prev.iter().try_for_each(|kv| self.key_value("Prev", kv))?;
        match event {
            Event::Put { kv, .. } => self.key_value("", kv),
            Event::Delete { key, revision, .. } => self.key("", key, [0, revision.get(), 0], &Bytes::new(), None),
        }
    }

    fn lease(&mut self, header: Header, revision: Revision, id: LeaseId, ttl: Duration) -> Result<()> {
        self.header(header, Some(revision))?;
        self.field("ID", id.get())?;
        self.field("TTL", ttl.as_secs())
    }

    fn member(&mut self, member: &MemberInfo) -> Result<()> {
        self.field("ID", member.id)?;
        self.quoted("Name", &member.name)?;
        member.peer_urls.iter().try_for_each(|url| self.quoted("PeerURL", url))?;
        member.client_urls.iter().try_for_each(|url| self.quoted("ClientURL", url))?;
        self.field("IsLearner", member.is_learner)?;
        writeln!(self.out)
    }

    fn status(&mut self, status: &EndpointStatus) -> Result<()> {
        let EndpointStatus { endpoint, status } = status;
        self.header(status.header, Some(status.revision))?;
        self.quoted("Version", &status.version)?;
        self.field("DBSize", status.db_size_bytes)?;
        self.field("Leader", status.leader)?;
        self.field("IsLearner", status.is_learner)?;
        self.field("RaftIndex", status.raft_index)?;
        self.field("RaftTerm", status.raft_term)?;
        self.field("RaftAppliedIndex", status.raft_applied_index)?;
        self.field("Errors", format_args!("[{}]", status.errors.join(" ")))?;
        self.quoted("Endpoint", endpoint)?;
        writeln!(self.out)
    }

    fn health(&mut self, health: &EndpointHealth) -> Result<()> {
        let EndpointHealth { endpoint, took, error } = health;
        self.quoted("Endpoint", endpoint)?;
        self.field("Health", error.is_none())?;
        self.field("Took", format_args!("{took:?}"))?;
        self.field("Error", error.as_deref().unwrap_or_default())?;
        writeln!(self.out)
    }
}
