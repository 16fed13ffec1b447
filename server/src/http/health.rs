//! Whether a member is well, for probes.
//!
//! - A check of reads reads one key that need not be there: it costs the same however much is stored.
//! - Checks are made as the member itself: they need no user, and tell nothing of what is stored.
//!
//! Source: etcd `server/etcdserver/api/etcdhttp/health.go`.

use std::{collections::BTreeSet, fmt::Write, sync::Arc};

use futures_util::{StreamExt, stream};
use http::{Response, StatusCode};
use proto::etcdserverpb as pb;
use serde_json::json;
use store::{Alarm, AlarmKind};
use tonic::{Status, body::Body};
use tracing::warn;

use super::reply;
use crate::{core::Core, wire};

/// One thing that can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Check {
    DataCorruption,
    SerializableRead,
    LinearizableRead,
    NonLearner,
}

use Check::{DataCorruption, LinearizableRead, NonLearner, SerializableRead};

/// The groups of checks, by path.
const GROUPS: [(&str, &[Check]); 2] =
    [("/livez", &[SerializableRead]), ("/readyz", &[DataCorruption, SerializableRead, LinearizableRead, NonLearner])];

impl Check {
    const fn name(self) -> &'static str {
        match self {
            DataCorruption => "data_corruption",
            SerializableRead => "serializable_read",
            LinearizableRead => "linearizable_read",
            NonLearner => "non_learner",
        }
    }

    async fn run(self, core: &Core) -> Result<(), String> {
        let worded = |status: Status| status.message().to_owned();
        match self {
            DataCorruption if alarms(core).contains(&pb::AlarmType::Corrupt) => {
                Err("alarm activated: CORRUPT".to_owned())
            }
            NonLearner if core.raft.is_learner() => Err("the member is a learner".to_owned()),
            DataCorruption | NonLearner => Ok(()),
            SerializableRead => read(core, true).await.map_err(worded),
            LinearizableRead => read(core, false).await.map_err(worded),
        }
    }
}

/// Whether `path` is a group of checks, or one check of a group.
pub(super) fn is_check(path: &str) -> bool {
    found(path).is_some()
}

/// The group's name, and those of its checks that `path` means.
fn found(path: &str) -> Option<(&'static str, Vec<Check>)> {
    GROUPS.iter().find_map(|&(group, checks)| match path.strip_prefix(group)? {
        "" => Some((group, checks.to_vec())),
        rest => {
            let check = checks.iter().find(|check| rest.strip_prefix('/') == Some(check.name()))?;
            Some((group, vec![*check]))
        }
    })
}

/// `/livez`, `/readyz` and their checks.
pub(super) async fn checks(core: &Arc<Core>, path: &str, query: &str) -> Response<Body> {
    let Some((group, checks)) = found(path) else { return reply::not_found() };
    let excluded = excluded(query);
    let is_group = path == group;
    let asked = checks.into_iter().filter(|check| !(is_group && excluded.contains(check.name())));
    let outcomes: Vec<_> =
        stream::iter(asked).then(|check| async move { (check, check.run(core).await) }).collect().await;
    let mut report = String::new();
    for (check, outcome) in &outcomes {
        core.metrics.health.checked(group.trim_start_matches('/'), check.name(), outcome.is_ok());
        // Writing to a string does not fail.
        let _ = match outcome {
            Ok(()) => writeln!(report, "[+]{} ok", check.name()),
            Err(reason) => writeln!(report, "[-]{} failed: {reason}", check.name()),
        };
    }
    if outcomes.iter().any(|(_, outcome)| outcome.is_err()) {
        warn!(path, %report, "health check failed");
        report.push('\n');
        return reply::text(StatusCode::SERVICE_UNAVAILABLE, report);
    }
    if !parameters(query).any(|(name, _)| name == "verbose") {
        report.clear();
    }
    report.push_str("ok\n");
    reply::text(StatusCode::OK, report)
}

/// `/health`: alarms, a leader, and a read.
pub(super) async fn health(core: &Arc<Core>, query: &str) -> Response<Body> {
    let serializable = parameters(query).any(|(name, value)| (name, value) == ("serializable", "true"));
    let reason = trouble(core, serializable, &excluded(query)).await;
    core.metrics.health.answered(reason.is_none());
    match reason {
        None => reply::full(StatusCode::OK, reply::TEXT, r#"{"health":"true","reason":""}"#),
        Some(reason) => {
            warn!(%reason, "health check failed");
            let text = json!({ "health": "false", "reason": reason }).to_string();
            reply::text(StatusCode::SERVICE_UNAVAILABLE, text + "\n")
        }
    }
}

async fn trouble(core: &Core, serializable: bool, excluded: &BTreeSet<&str>) -> Option<String> {
    let alarm = alarms(core).into_iter().find(|alarm| !excluded.contains(alarm.as_str_name()));
    if let Some(alarm) = alarm {
        return Some(format!("ALARM {}", alarm.as_str_name()));
    }
    if !serializable && core.raft.status().leader.is_none() {
        return Some("RAFT NO LEADER".to_owned());
    }
    read(core, serializable).await.err().map(|status| format!("RANGE ERROR:{}", status.message()))
}

/// The alarms that are raised anywhere in the cluster.
fn alarms(core: &Core) -> Vec<pb::AlarmType> {
    let named = |alarm: Alarm| match alarm.kind {
        AlarmKind::NoSpace => pb::AlarmType::Nospace,
        AlarmKind::Corrupt => pb::AlarmType::Corrupt,
    };
    core.view.alarms().into_iter().map(named).collect()
}

/// Reads as a client would.
async fn read(core: &Core, serializable: bool) -> Result<(), Status> {
    if !serializable {
        core.confirm_read().await?;
    }
    let range = wire::range(pb::RangeRequest { key: "health".into(), keys_only: true, ..Default::default() })?;
    core.read(false, move |view| view.range(&range)).await.map(drop)
}

/// What the query wants left out: `exclude=NAME`, as often as needed.
fn excluded(query: &str) -> BTreeSet<&str> {
    parameters(query).filter(|(name, value)| *name == "exclude" && !value.is_empty()).map(|(_, value)| value).collect()
}

/// The parameters of a query. What is asked for here is made of letters and `_`, which nobody escapes.
fn parameters(query: &str) -> impl Iterator<Item = (&str, &str)> {
    query.split('&').filter(|one| !one.is_empty()).map(|one| one.split_once('=').unwrap_or((one, "")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_groups_and_checks() {
        let cases = [
            ("/livez", Some(1)),
            ("/readyz", Some(4)),
            ("/readyz/data_corruption", Some(1)),
            ("/livez/data_corruption", None),
            ("/livez/", None),
            ("/livezz", None),
            ("/readyz/serializable_read/x", None),
        ];
        for (path, checks) in cases {
            assert_eq!(found(path).map(|(_, checks)| checks.len()), checks, "{path}");
        }
    }

    #[test]
    fn what_is_excluded_is_named_as_often_as_needed() {
        assert_eq!(
            excluded("exclude=NOSPACE&verbose&exclude=CORRUPT&exclude="),
            BTreeSet::from(["CORRUPT", "NOSPACE"])
        );
        assert!(excluded("").is_empty());
    }
}
