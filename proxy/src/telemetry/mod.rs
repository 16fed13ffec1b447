//! What the proxy tells of its traffic.
//!
//! Owns: counters, their labels, access log lines, and the admin server that shows them.
//! In:   one record a request and connection, from the worker that served it.
//! Out:  Istio's metrics in Prometheus' text form, JSON lines.
//!
//! - A worker counts in its own shard; shards are merged when somebody looks. A shard's mutex is taken by its worker
//!   and by the scrape only.
//! - Label sets are bounded; beyond the bound they share the unknown one.
//! - Writing a log line never waits: a full queue drops it, and the drop is counted.

mod access_log;
mod admin;
mod metrics;
mod party;
mod trouble;

use std::{
    io,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;

pub(crate) use access_log::{AccessLine, AccessLog};
pub(crate) use admin::{Admin, AdminState};
pub(crate) use metrics::{Gauges, RequestKey, RequestProtocol, TcpKey};
pub(crate) use party::{Own, Party, PartyId};
pub(crate) use trouble::Trouble;

use self::{metrics::Shard, party::Parties, trouble::Troubles};
use crate::settings::{AccessLogTarget, Limits};

/// Everything that is told, of all workers.
pub(crate) struct Telemetry {
    own: Own,
    parties: Mutex<Parties>,
    shards: Box<[Mutex<Shard>]>,
    access_log: Option<AccessLog>,
    troubles: Troubles,
    pub(crate) gauges: Gauges,
}

impl Telemetry {
    pub(crate) fn new(own: Own, limits: &Limits, target: Option<&AccessLogTarget>) -> io::Result<Self> {
        let access_log = target.map(|target| AccessLog::open(target, limits.access_log_queue)).transpose()?;
        Ok(Self {
            own,
            parties: Mutex::new(Parties::new(limits.metric_label_sets_max)),
            shards: (0..limits.worker_count()).map(|_| Mutex::default()).collect(),
            access_log,
            troubles: Troubles::default(),
            gauges: Gauges::default(),
        })
    }

    pub(crate) fn workers(&self) -> usize {
        self.shards.len()
    }

    /// Gives a party its number. Called when a connection or a cluster is made, not for requests.
    pub(crate) fn party(&self, party: Party) -> PartyId {
        self.parties.lock().intern(party)
    }

    /// Counts a request.
    pub(crate) fn request(&self, worker: usize, key: RequestKey, duration: Duration, received: u64, sent: u64) {
        self.shards[worker].lock().request(key, duration, received, sent);
    }

    /// Counts a TCP connection that begins.
    pub(crate) fn tcp_opened(&self, worker: usize, key: TcpKey) {
        self.shards[worker].lock().tcp(key, |counts| counts.opened += 1);
    }

    /// Counts bytes of a TCP connection.
    pub(crate) fn tcp_bytes(&self, worker: usize, key: TcpKey, received: u64, sent: u64) {
        self.shards[worker].lock().tcp(key, |counts| {
            counts.received += received;
            counts.sent += sent;
        });
    }

    /// Counts a TCP connection that has ended.
    pub(crate) fn tcp_closed(&self, worker: usize, key: TcpKey) {
        self.shards[worker].lock().tcp(key, |counts| counts.closed += 1);
    }

    pub(crate) fn logs_access(&self) -> bool {
        self.access_log.is_some()
    }

    pub(crate) fn log(&self, line: &AccessLine) {
        if let Some(log) = &self.access_log {
            log.write(line);
        }
    }

    fn dropped_lines(&self) -> u64 {
        self.access_log.as_ref().map_or(0, AccessLog::dropped)
    }
}

/// A counter of events that are rare.
#[derive(Debug, Default)]
pub(crate) struct Rare(AtomicU64);

impl Rare {
    pub(crate) fn add(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Something that is or is not so.
#[derive(Debug, Default)]
pub(crate) struct Switch(AtomicBool);

impl Switch {
    pub(crate) fn set(&self, on: bool) {
        self.0.store(on, Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.load(Relaxed)
    }
}
