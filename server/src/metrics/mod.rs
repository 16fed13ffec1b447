//! What a member counts and measures, in Prometheus' text format, under the names that etcd's dashboards and alerts use.
//!
//! Owns: the counters that nobody else keeps, and the page.
//!
//! - What a room knows anyway is read when the page is asked for; only what passes is counted as it passes.
//! - A name that has no value here is absent.

mod process;
mod rpc;
mod text;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::HeaderValue;
use parking_lot::Mutex;
use proto::etcdserverpb as pb;
use raft::{Leadership, MemberId};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use types::Durations;

pub(crate) use rpc::Calls;
pub use rpc::{Answer, Answering, GrpcFace};
use text::Page;

use crate::{
    core::Core,
    peers::{Counts, Traffic},
    upgrade::{etcd_api, etcd_minor, program_version},
    wire,
};

/// The content type of the page.
pub(crate) const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// What a member counts as it passes.
#[derive(Debug)]
pub(crate) struct Metrics {
    /// Writes of applied entries to the state's engine.
    pub(crate) commits: Durations,
    /// How long it took to take over another member's state.
    pub(crate) installed: Durations,
    pub(crate) proposals_failed: AtomicU64,
    pub(crate) proposals_pending: AtomicU64,
    pub(crate) health: Health,
    /// What passes between members.
    pub(crate) traffic: Arc<Traffic>,
    leader_changes: AtomicU64,
}

impl Metrics {
    pub(crate) fn new(traffic: Arc<Traffic>) -> Self {
        Self {
            traffic,
            commits: Durations::new(Durations::DISK),
            installed: Durations::new(Durations::DISK),
            proposals_failed: AtomicU64::default(),
            proposals_pending: AtomicU64::default(),
            health: Health::default(),
            leader_changes: AtomicU64::default(),
        }
    }

    /// Counts how often there is another leader than before, until `stop`.
    pub(crate) async fn watch_leaders(&self, mut leadership: watch::Receiver<Leadership>, stop: CancellationToken) {
        let mut last = None;
        loop {
            let leader = leadership.borrow_and_update().leader;
            if leader.is_some() && leader != last {
                last = leader;
                self.leader_changes.fetch_add(1, Ordering::Relaxed);
            }
            match stop.run_until_cancelled(leadership.changed()).await {
                Some(Ok(())) => {}
                Some(Err(_)) | None => return,
            }
        }
    }
}

/// A proposal on its way, counted as pending until it is dropped: as failed then, unless it was answered.
#[derive(Debug)]
pub(crate) struct Pending<'a> {
    metrics: &'a Metrics,
    answered: bool,
}

impl<'a> Pending<'a> {
    pub(crate) fn new(metrics: &'a Metrics) -> Self {
        metrics.proposals_pending.fetch_add(1, Ordering::Relaxed);
        Self { metrics, answered: false }
    }

    /// There is an answer.
    pub(crate) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.metrics.proposals_pending.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.metrics.proposals_failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Health checks that were made.
#[derive(Debug, Default)]
pub(crate) struct Health {
    well: AtomicU64,
    unwell: AtomicU64,
    checks: Mutex<Checks>,
}

/// By group and check: whether the last one succeeded, how many did, how many did not.
type Checks = BTreeMap<(String, &'static str), (bool, u64, u64)>;

impl Health {
    /// `/health` was answered.
    pub(crate) fn answered(&self, well: bool) {
        let counter = if well { &self.well } else { &self.unwell };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// A check of a group was made.
    pub(crate) fn checked(&self, group: &str, check: &'static str, well: bool) {
        let mut checks = self.checks.lock();
        let (last, successes, failures) = checks.entry((group.to_owned(), check)).or_default();
        *last = well;
        *(if well { successes } else { failures }) += 1;
    }

    fn write(&self, page: &mut Page) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        page.counter("etcd_server_health_success", "Health requests that were answered well.").is(count(&self.well));
        page.counter("etcd_server_health_failures", "Health requests that were not.").is(count(&self.unwell));
        let checks = self.checks.lock();
        let mut family = page.gauge("etcd_server_healthcheck", "Whether each check succeeded when it was last made.");
        for ((group, check), (last, ..)) in &*checks {
            family.with(&[("type", group), ("name", check)], u8::from(*last));
        }
        let mut family = page.counter("etcd_server_healthchecks_total", "Checks made, by outcome.");
        for ((group, check), (_, successes, failures)) in &*checks {
            for (status, count) in [("success", successes), ("error", failures)] {
                family.with(&[("type", group), ("name", check), ("status", status)], count);
            }
        }
    }
}

/// The page. Reads the disk's size, so it belongs on a thread that may block.
pub(crate) fn exposition(core: &Core) -> String {
    let mut page = Page::default();
    write_member(core, &mut page);
    write_round_trips(&core.raft.round_trips(), &mut page);
    write_traffic(&core.metrics.traffic, &mut page);
    write_disk(core, &mut page);
    write_store(core, &mut page);
    core.metrics.health.write(&mut page);
    core.calls.write(&mut page);
    process::write(&mut page);
    page.into_text()
}

fn write_member(core: &Core, page: &mut Page) {
    let (status, metrics) = (core.raft.status(), &core.metrics);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let id = status.member.to_string();
    page.gauge("etcd_server_id", "The member's ID, as a label.").with(&[("server_id", &id)], 1);
    page.gauge("etcd_server_version", "The version of etcd's API, as a label.")
        .with(&[("server_version", etcd_api(core.config.release))], 1);
    page.gauge("etcd_cluster_version", "The version of the cluster's API, as a label.")
        .with(&[("cluster_version", etcd_minor(core.version()))], 1);
    page.gauge("meshstore_build_info", "The version of meshstore, as a label.")
        .with(&[("version", &program_version(core.config.release))], 1);
    page.gauge("meshstore_cluster_version", "The release of meshstore that the cluster is at, as a label.")
        .with(&[("cluster_version", &core.version().to_string())], 1);
    page.gauge("etcd_server_has_leader", "Whether this member knows of a leader.")
        .is(u8::from(status.leader.is_some()));
    page.gauge("etcd_server_is_leader", "Whether this member leads.")
        .is(u8::from(status.leader == Some(status.member)));
    page.gauge("etcd_server_is_learner", "Whether this member is a learner.").is(u8::from(core.raft.is_learner()));
    page.counter("etcd_server_leader_changes_seen_total", "How often there was another leader.")
        .is(count(&metrics.leader_changes));
    page.gauge("etcd_server_proposals_committed_total", "The last log entry that is committed.")
        .is(status.commit_index);
    page.gauge("etcd_server_proposals_applied_total", "The last log entry that is applied.").is(status.applied_index);
    page.gauge("etcd_server_proposals_pending", "Writes that wait for the log.").is(count(&metrics.proposals_pending));
    page.counter("etcd_server_proposals_failed_total", "Writes that the log gave no answer to.")
        .is(count(&metrics.proposals_failed));
}

/// A label in upper case is etcd's.
fn write_round_trips(taken: &[(MemberId, Arc<Durations>)], page: &mut Page) {
    let name = "etcd_network_peer_round_trip_time_seconds";
    let mut family = page.histogram(name, "How long other members took to answer a greeting.");
    for (member, taken) in taken {
        family.durations(&[("To", &member.to_string())], taken);
    }
}

/// The labels in upper case are etcd's.
fn write_traffic(traffic: &Traffic, page: &mut Page) {
    let all: Vec<_> = traffic.all().into_iter().map(|(member, counts)| (member.to_string(), counts)).collect();
    let mut write = |name: &str, help: &str, label: &'static str, count: fn(&Counts) -> &AtomicU64| {
        let mut family = page.counter(name, help);
        for (member, counts) in &all {
            family.with(&[(label, member)], count(counts).load(Ordering::Relaxed));
        }
    };
    write("etcd_network_peer_sent_bytes_total", "Bytes sent to other members.", "To", |counts| &counts.sent_bytes);
    write("etcd_network_peer_received_bytes_total", "Bytes received from other members.", "From", |counts| {
        &counts.received_bytes
    });
    write(
        "etcd_network_peer_sent_failures_total",
        "Connections to other members that could not be made, or broke while they were written to.",
        "To",
        |counts| &counts.failures,
    );
}

fn write_disk(core: &Core, page: &mut Page) {
    page.histogram(
        "etcd_disk_wal_fsync_duration_seconds",
        "How long writes of the log took until they were on stable storage.",
    )
    .durations(&[], core.raft.log_syncs());
    page.histogram("etcd_disk_backend_commit_duration_seconds", "How long writes of applied entries took.")
        .durations(&[], &core.metrics.commits);
    page.histogram("etcd_snap_db_save_total_duration_seconds", "How long it took to take over another member's state.")
        .durations(&[], &core.metrics.installed);
    // Below 0, as etcd says it: alerts divide by it.
    let quota = core.space.quota_bytes().map_or(-1, u64::cast_signed);
    page.gauge("etcd_server_quota_backend_bytes", "Disk space that keys and history may need; -1: any.").is(quota);
    match core.space.disk_bytes().and_then(|taken| Ok((taken, core.space.measure()?))) {
        Ok((taken, needed)) => {
            let taken = taken.max(needed);
            page.gauge("etcd_mvcc_db_total_size_in_bytes", "Disk space that the state takes.").is(taken);
            page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Disk space that keys and history need.").is(needed);
        }
        Err(error) => warn!(%error, "cannot tell how much disk space the state takes"),
    }
}

fn write_store(core: &Core, page: &mut Page) {
    let (view, watches) = (&core.view, core.view.watches().load());
    page.gauge("etcd_debugging_mvcc_current_revision", "The store's revision.").is(view.revision().get());
    let compacted = view.compacted().map_or(0, types::Revision::get);
    page.gauge("etcd_debugging_mvcc_compact_revision", "The compacted revision.").is(compacted);
    if let Some(keys) = keys(core) {
        page.gauge("etcd_debugging_mvcc_keys_total", "Keys that live.").is(keys);
    }
    page.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams that are open.").is(watches.streams);
    page.gauge("etcd_debugging_mvcc_watcher_total", "Watches that are open.").is(watches.watchers);
    page.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watches that are behind, and read history.")
        .is(watches.lagging);
    page.gauge("etcd_debugging_mvcc_pending_events_total", "Events that wait to be sent to watchers.")
        .is(watches.pending_events);
    page.gauge("etcd_debugging_auth_revision", "How often users and roles were changed.").is(view.auth_revision());
    page.gauge("etcd_debugging_lease_total", "Leases that live.").is(view.leases().len());
}

/// How many keys live: counting visits none of them.
fn keys(core: &Core) -> Option<u64> {
    let (key, range_end) = (Bytes::from_static(b"\0"), Bytes::from_static(b"\0"));
    let all = pb::RangeRequest { key, range_end, count_only: true, ..Default::default() };
    let counted = wire::range(all).ok().and_then(|all| core.view.range(&all).ok());
    counted.map(|counted| counted.count)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_way_to_each_member_is_measured_under_etcds_name() {
        let taken = Arc::new(Durations::new(Durations::NETWORK));
        taken.record(Duration::from_micros(150));
        let mut page = Page::default();
        write_round_trips(&[(MemberId(0xb2), taken)], &mut page);
        let page = page.into_text();
        let name = "etcd_network_peer_round_trip_time_seconds";
        for line in [
            format!("# TYPE {name} histogram"),
            format!("{name}_bucket{{To=\"b2\",le=\"0.0001\"}} 0"),
            format!("{name}_bucket{{To=\"b2\",le=\"0.0002\"}} 1"),
            format!("{name}_bucket{{To=\"b2\",le=\"3.2768\"}} 1"),
            format!("{name}_sum{{To=\"b2\"}} 0.00015"),
            format!("{name}_count{{To=\"b2\"}} 1"),
        ] {
            assert!(page.lines().any(|one| one == line), "{line} is not in\n{page}");
        }
    }

    #[tokio::test]
    async fn a_leader_is_counted_once_until_there_is_another() {
        let leader = |id: Option<u64>, term| Leadership { term, leader: id.map(MemberId), acting: false };
        let (sender, leadership) = watch::channel(leader(None, 1));
        let metrics = Metrics::new(Arc::default());
        let watching = metrics.watch_leaders(leadership, CancellationToken::new());
        let steps = async {
            for (id, term) in [(Some(1), 1), (Some(1), 2), (None, 3), (Some(1), 3), (Some(2), 4)] {
                sender.send_replace(leader(id, term));
                tokio::task::yield_now().await;
            }
            drop(sender);
        };
        tokio::join!(watching, steps);
        assert_eq!(metrics.leader_changes.load(Ordering::Relaxed), 2);
    }
}
