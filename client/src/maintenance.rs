//! The state and the care of single members: status, alarms, hashes, defragmentation, leadership.

use crate::{
    Client, ClientError, Header,
    transport::{Link, Repeat},
};
use proto::etcdserverpb::{self as pb, alarm_request::AlarmAction, maintenance_client::MaintenanceClient};
use types::Revision;

/// The state of the member that answered. Source: etcd v3 `StatusResponse`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision on this member.
    pub revision: Revision,
    /// The version of etcd that it is compatible with.
    pub version: String,
    /// Bytes on its disk.
    pub db_size_bytes: i64,
    /// Bytes of them in use.
    pub db_size_in_use_bytes: i64,
    /// The member that leads; 0 when none does.
    pub leader: u64,
    /// The last index in its log.
    pub raft_index: u64,
    /// Its term.
    pub raft_term: u64,
    /// The last index that it has applied.
    pub raft_applied_index: u64,
    /// What is wrong with it.
    pub errors: Vec<String>,
    /// Whether it has no vote.
    pub is_learner: bool,
}

/// What makes a cluster refuse writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlarmKind {
    /// A member has no space left.
    NoSpace,
    /// A member's data are not what the others have.
    Corrupt,
    /// One that this client does not know.
    Unknown(i32),
}

impl AlarmKind {
    fn from_wire(value: i32) -> Self {
        match pb::AlarmType::try_from(value) {
            Ok(pb::AlarmType::Nospace) => Self::NoSpace,
            Ok(pb::AlarmType::Corrupt) => Self::Corrupt,
            Ok(pb::AlarmType::None) | Err(_) => Self::Unknown(value),
        }
    }

    /// Its number on the wire.
    pub fn number(self) -> i32 {
        match self {
            Self::NoSpace => pb::AlarmType::Nospace.into(),
            Self::Corrupt => pb::AlarmType::Corrupt.into(),
            Self::Unknown(value) => value,
        }
    }
}

/// An alarm, and the member that raised it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alarm {
    /// The member.
    pub member_id: u64,
    /// What is wrong.
    pub kind: AlarmKind,
}

/// Alarms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlarmsResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision, where the server names it.
    pub revision: Option<Revision>,
    /// Those raised, or those that were disarmed.
    pub alarms: Vec<Alarm>,
}

/// A hash of a member's keys and their history. Members whose `compact_revision` is the same must have the same hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKvResponse {
    /// Who answered.
    pub header: Header,
    /// The store's revision on this member.
    pub revision: Revision,
    /// The hash of everything up to the revision that was asked for.
    pub hash: u32,
    /// The revision up to which history was given up; `None` when none was, or the server does not say.
    pub compact_revision: Option<Revision>,
}

fn maintenance_client(link: Link) -> MaintenanceClient<Link> {
    MaintenanceClient::new(link)
}

impl Client {
    /// Asks the preferred endpoint for its state. Source: etcd v3 `Maintenance.Status`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn status(&self) -> Result<StatusResponse, ClientError> {
        let status = |link| async move { maintenance_client(link).status(pb::StatusRequest {}).await };
        let response: pb::StatusResponse = self.transport.call(Repeat::Always, status).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        Ok(StatusResponse {
            header,
            revision,
            version: response.version,
            db_size_bytes: response.db_size,
            db_size_in_use_bytes: response.db_size_in_use,
            leader: response.leader,
            raft_index: response.raft_index,
            raft_term: response.raft_term,
            raft_applied_index: response.raft_applied_index,
            errors: response.errors,
            is_learner: response.is_learner,
        })
    }

    /// Lists all alarms. Source: etcd v3 `Maintenance.Alarm`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn alarms(&self) -> Result<AlarmsResponse, ClientError> {
        let request = pb::AlarmRequest { action: AlarmAction::Get.into(), member_id: 0, alarm: 0 };
        self.alarm(Repeat::Always, request).await
    }

    /// Ends an alarm, and answers it; it comes back if its cause is still there. Source: etcd v3 `Maintenance.Alarm`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn alarm_disarm(&self, alarm: Alarm) -> Result<AlarmsResponse, ClientError> {
        let action = AlarmAction::Deactivate.into();
        let request = pb::AlarmRequest { action, member_id: alarm.member_id, alarm: alarm.kind.number() };
        self.alarm(Repeat::IfUnsent, request).await
    }

    async fn alarm(&self, repeat: Repeat, request: pb::AlarmRequest) -> Result<AlarmsResponse, ClientError> {
        let alarm = |link| async move { maintenance_client(link).alarm(request).await };
        let response: pb::AlarmResponse = self.transport.call(repeat, alarm).await?;
        let (header, revision) = Header::from_wire(response.header);
        let alarm =
            |alarm: pb::AlarmMember| Alarm { member_id: alarm.member_id, kind: AlarmKind::from_wire(alarm.alarm) };
        Ok(AlarmsResponse { header, revision, alarms: response.alarms.into_iter().map(alarm).collect() })
    }

    /// Gives space back, where a server does not do that by itself. An etcd answers nothing else meanwhile. Source: etcd
    /// v3 `Maintenance.Defragment`.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub async fn defragment(&self) -> Result<(), ClientError> {
        let defragment = |link| async move { maintenance_client(link).defragment(pb::DefragmentRequest {}).await };
        self.transport.call(Repeat::Always, defragment).await?;
        Ok(())
    }

    /// Hashes a member's keys and their history, up to `revision` or to the latest. Source: etcd v3 `Maintenance.HashKV`.
    ///
    /// # Errors
    /// [`ClientError::Compacted`] when `revision` is gone; `Refused` when it is still to come.
    pub async fn hash_kv(&self, revision: Option<Revision>) -> Result<HashKvResponse, ClientError> {
        let request = pb::HashKvRequest { revision: revision.map_or(0, Revision::get) };
        let hash = |link| async move { maintenance_client(link).hash_kv(request).await };
        let response: pb::HashKvResponse = self.transport.call(Repeat::Always, hash).await?;
        let (header, revision) = Header::with_revision(response.header, None)?;
        let compact_revision = Revision::new(response.compact_revision);
        Ok(HashKvResponse { header, revision, hash: response.hash, compact_revision })
    }

    /// Has the leader hand over to another member. Only the leader does that. Source: etcd v3 `Maintenance.MoveLeader`.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the endpoint does not lead or `target` is no voting member.
    pub async fn move_leader(&self, target: u64) -> Result<(), ClientError> {
        let request = pb::MoveLeaderRequest { target_id: target };
        let move_leader = |link| async move { maintenance_client(link).move_leader(request).await };
        self.transport.call(Repeat::IfUnsent, move_leader).await?;
        Ok(())
    }
}
