//! etcd's `Maintenance` service.

use std::{sync::Arc, time::Duration};

use proto::etcdserverpb::{
    self as pb, AlarmType, alarm_request::AlarmAction, downgrade_request::DowngradeAction,
    maintenance_server::Maintenance,
};
use raft::{ChangeError, MemberId};
use store::{Alarm, AlarmAnswer, AlarmChange, AlarmKind, Answer, Command};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use types::Revision;

use crate::{
    auth::Caller,
    core::Core,
    kv::mismatched,
    snapshot::{self, Snapshots},
    status::{
        bad_leader_transferee, broken, downgrades_by_export, invalid_downgrade_version, no_downgrade_in_progress,
        not_changed, not_leader, unknown_enum, unknown_method, wrong_downgrade_version_format,
    },
    upgrade::{etcd_api, etcd_minor},
};

/// How long a defragmentation waits for what a compaction left dead to be swept.
const SWEEP_WAIT: Duration = Duration::from_secs(1);

/// How the member is, and what is done to keep it so.
#[derive(Clone, Debug)]
pub(crate) struct MaintenanceFace {
    pub(crate) core: Arc<Core>,
    pub(crate) state: engine::Home,
    pub(crate) snapshots: Snapshots,
}

#[tonic::async_trait]
impl Maintenance for MaintenanceFace {
    async fn status(&self, _request: Request<pb::StatusRequest>) -> Result<Response<pb::StatusResponse>, Status> {
        let core = &self.core;
        let raft = core.raft.status();
        let in_use = core.space.measure().map_err(|error| broken(&error))?;
        let on_disk = core.space.disk_bytes().map_err(|error| broken(&error))?.max(in_use);
        let no_leader = raft.leader.is_none().then(|| "etcdserver: no leader".to_owned());
        let alarms = core.view.alarms().into_iter().map(alarm_text);
        Ok(Response::new(pb::StatusResponse {
            header: Some(core.header(core.view.revision())),
            version: etcd_api(core.config.release).to_owned(),
            db_size: bytes(on_disk),
            leader: raft.leader.map_or(0, |leader| leader.0),
            raft_index: raft.commit_index,
            raft_term: raft.term,
            raft_applied_index: raft.applied_index,
            errors: no_leader.into_iter().chain(alarms).collect(),
            db_size_in_use: bytes(in_use),
            is_learner: core.raft.is_learner(),
            storage_version: format!("{}.0", etcd_minor(core.version())),
            db_size_quota: core.space.quota_bytes().map_or(-1, bytes),
            downgrade_info: Some(pb::DowngradeInfo::default()),
        }))
    }

    async fn alarm(&self, request: Request<pb::AlarmRequest>) -> Result<Response<pb::AlarmResponse>, Status> {
        let caller = Caller::of(&request);
        let request = request.into_inner();
        if request.action != i32::from(AlarmAction::Get) {
            self.core.require_root(&caller)?;
        }
        let kind = alarm_kind(request.alarm)?;
        let raised = match AlarmAction::try_from(request.action) {
            Ok(AlarmAction::Get) => return self.alarms(kind).await,
            Ok(AlarmAction::Activate) => true,
            Ok(AlarmAction::Deactivate) => false,
            Err(_) => return Err(unknown_enum("AlarmRequest.action", request.action)),
        };
        let Some(kind) = kind else { return Ok(self.alarm_response(self.core.view.revision(), [])) };
        let change = AlarmChange { alarm: Alarm { kind, member: request.member_id }, raised };
        let AlarmAnswer { revision, alarm } = change_alarm(&self.core, change, &caller).await?;
        Ok(self.alarm_response(revision, alarm))
    }

    /// Space comes back without it; it only has that done now.
    async fn defragment(
        &self,
        _request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        let core = &self.core;
        // What is not swept by then is reclaimed in its time.
        let _elapsed = timeout(SWEEP_WAIT, core.view.swept()).await.is_err();
        core.space.reclaim_swept(&core.view).await;
        Ok(Response::new(pb::DefragmentResponse::default()))
    }

    async fn hash(&self, _request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let hash = self.core.read(true, store::View::hash_all).await?;
        let header = Some(self.core.header(hash.revision));
        Ok(Response::new(pb::HashResponse { header, hash: hash.hash }))
    }

    async fn hash_kv(&self, request: Request<pb::HashKvRequest>) -> Result<Response<pb::HashKvResponse>, Status> {
        let at = Revision::new(request.into_inner().revision);
        let hash = self.core.read(true, move |view| view.hash_keys(at)).await?;
        Ok(Response::new(pb::HashKvResponse {
            header: Some(self.core.header(hash.revision)),
            hash: hash.hash,
            compact_revision: hash.compacted,
            hash_revision: hash.hashed.get(),
        }))
    }

    /// The leader alone lets another member lead, as in etcd.
    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        let (member, leader) = (self.core.member, self.core.raft.status().leader);
        if leader != Some(member) {
            return Err(not_leader());
        }
        let target = MemberId(request.into_inner().target_id);
        if target != member {
            self.core.raft.transfer(target).await.map_err(|error| match error {
                ChangeError::NotFound(_) | ChangeError::NotVoter(_) => bad_leader_transferee(),
                error => not_changed(&error),
            })?;
        }
        Ok(Response::new(pb::MoveLeaderResponse::default()))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        let request = request.into_inner();
        match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => {
                downgrade_target(&request.version)?;
                let header = Some(self.core.header(self.core.view.revision()));
                let version = format!("{}.{}", API.0, API.1);
                Ok(Response::new(pb::DowngradeResponse { header, version }))
            }
            Ok(DowngradeAction::Enable) => {
                downgrade_target(&request.version)?;
                Err(downgrades_by_export())
            }
            Ok(DowngradeAction::Cancel) => Err(no_downgrade_in_progress()),
            Err(_) => Err(unknown_method()),
        }
    }

    type SnapshotStream = ReceiverStream<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(&self, _request: Request<pb::SnapshotRequest>) -> Result<Response<Self::SnapshotStream>, Status> {
        Ok(Response::new(snapshot::stream(&self.core, self.state.clone(), &self.snapshots)))
    }
}

impl MaintenanceFace {
    /// The alarms of a kind, or all; whichever member is asked for. Source: etcd `AlarmStore.Get`.
    async fn alarms(&self, kind: Option<AlarmKind>) -> Result<Response<pb::AlarmResponse>, Status> {
        self.core.confirm_read().await?;
        let asked = |alarm: &Alarm| kind.is_none_or(|kind| alarm.kind == kind);
        let alarms = self.core.view.alarms().into_iter().filter(asked);
        Ok(self.alarm_response(self.core.view.revision(), alarms))
    }

    fn alarm_response(
        &self,
        revision: Revision,
        alarms: impl IntoIterator<Item = Alarm>,
    ) -> Response<pb::AlarmResponse> {
        let member = |alarm: Alarm| pb::AlarmMember { member_id: alarm.member, alarm: alarm_type(alarm.kind).into() };
        let alarms = alarms.into_iter().map(member).collect();
        Response::new(pb::AlarmResponse { header: Some(self.core.header(revision)), alarms })
    }
}

/// Raises or clears an alarm through the log.
pub(crate) async fn change_alarm(core: &Core, change: AlarmChange, caller: &Caller) -> Result<AlarmAnswer, Status> {
    match core.propose(&Command::Alarm(change), caller, &core.config.store).await? {
        Answer::Alarm(answer) => Ok(answer),
        other => Err(mismatched(&other)),
    }
}

/// `None` is any. etcd 3.5.30 dies of a number that is no alarm.
fn alarm_kind(number: i32) -> Result<Option<AlarmKind>, Status> {
    match AlarmType::try_from(number) {
        Ok(AlarmType::None) => Ok(None),
        Ok(AlarmType::Nospace) => Ok(Some(AlarmKind::NoSpace)),
        Ok(AlarmType::Corrupt) => Ok(Some(AlarmKind::Corrupt)),
        Err(_) => Err(unknown_enum("AlarmRequest.alarm", number)),
    }
}

fn alarm_type(kind: AlarmKind) -> AlarmType {
    match kind {
        AlarmKind::NoSpace => AlarmType::Nospace,
        AlarmKind::Corrupt => AlarmType::Corrupt,
    }
}

/// As etcd prints the message `AlarmMember`: a member of 0 is left out, and a space ends it.
fn alarm_text(alarm: Alarm) -> String {
    let kind = alarm_type(alarm.kind).as_str_name();
    if alarm.member == 0 { format!("alarm:{kind} ") } else { format!("memberID:{} alarm:{kind} ", alarm.member) }
}

/// Major and minor version of the API.
const API: (u64, u64) = (3, 6);

/// Refuses any version but the minor one before this. Source: etcd `server/etcdserver/version`.
fn downgrade_target(version: &str) -> Result<(), Status> {
    let asked = major_and_minor(version).ok_or_else(wrong_downgrade_version_format)?;
    if asked == (API.0, API.1 - 1) { Ok(()) } else { Err(invalid_downgrade_version()) }
}

/// `3.5`, `3.5.1` and `3.5.1-rc.0` are all 3.5.
fn major_and_minor(version: &str) -> Option<(u64, u64)> {
    let (release, _) = version.split_once(['-', '+']).unwrap_or((version, ""));
    let numbers: Vec<u64> = release.split('.').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    match numbers[..] {
        [major, minor] | [major, minor, _] => Some((major, minor)),
        _ => None,
    }
}

fn bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_before_is_a_target() {
        let words = |version| downgrade_target(version).map_err(|status| status.message().to_owned());
        let format = Err("etcdserver: wrong downgrade target version format".to_owned());
        let invalid = Err("etcdserver: invalid downgrade target version".to_owned());
        for version in ["3.5", "3.5.0", "3.5.7-rc.1", "03.5"] {
            assert_eq!(words(version), Ok(()), "{version}");
        }
        for version in ["", "3", "abc", "v3.5", "3.5.", "3.5.0.1"] {
            assert_eq!(words(version), format, "{version}");
        }
        for version in ["3.6", "3.4", "4.0", "3.7.1"] {
            assert_eq!(words(version), invalid, "{version}");
        }
    }

    #[test]
    fn alarms_are_told_as_etcd_prints_them() {
        let alarm = |kind, member| alarm_text(Alarm { kind, member });
        assert_eq!(alarm(AlarmKind::NoSpace, 0), "alarm:NOSPACE ");
        assert_eq!(alarm(AlarmKind::Corrupt, 77), "memberID:77 alarm:CORRUPT ");
    }
}
