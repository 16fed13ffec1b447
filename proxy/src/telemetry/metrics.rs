//! Istio's metrics, by their names and labels.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

use super::{PartyId, Rare, Switch, Telemetry, party::Party};
use crate::{config::Direction, http::Flags};

/// Upper edges of the histograms. Source: Istio's dashboards; milliseconds and bytes alike.
const EDGES: [f64; 19] = [
    0.5,
    1.0,
    5.0,
    10.0,
    25.0,
    50.0,
    100.0,
    250.0,
    500.0,
    1_000.0,
    2_500.0,
    5_000.0,
    10_000.0,
    30_000.0,
    60_000.0,
    300_000.0,
    600_000.0,
    1_800_000.0,
    3_600_000.0,
];
/// Different label sets that one worker counts apart; more share one.
const SERIES_MAX: usize = 20_000;
const UNKNOWN: &str = "unknown";

/// What tells requests apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RequestKey {
    pub(crate) direction: Direction,
    pub(crate) source: PartyId,
    pub(crate) destination: PartyId,
    pub(crate) protocol: RequestProtocol,
    pub(crate) status: u16,
    pub(crate) grpc_status: Option<u32>,
    pub(crate) flags: Flags,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum RequestProtocol {
    Http,
    Grpc,
}

/// What tells TCP connections apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct TcpKey {
    pub(crate) direction: Direction,
    pub(crate) source: PartyId,
    pub(crate) destination: PartyId,
    pub(crate) flags: Flags,
}

/// The proxy's own state. Rare events only: all workers share them.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) xds_accepted: Rare,
    pub(crate) xds_rejected: Rare,
    pub(crate) xds_connected: Switch,
    pub(crate) certificates_issued: Rare,
    pub(crate) certificate_failures: Rare,
    pub(crate) dns_failures: Rare,
}

/// The counts of one worker.
#[derive(Default)]
pub(super) struct Shard {
    requests: HashMap<RequestKey, RequestCounts>,
    connections: HashMap<TcpKey, TcpCounts>,
}

#[derive(Clone, Default)]
struct RequestCounts {
    duration: Histogram,
    received: Histogram,
    sent: Histogram,
}

#[derive(Clone, Copy, Default)]
pub(super) struct TcpCounts {
    pub(super) opened: u64,
    pub(super) closed: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
}

#[derive(Clone, Default)]
struct Histogram {
    sum: f64,
    count: u64,
    buckets: [u64; EDGES.len()],
}

impl Histogram {
    fn observe(&mut self, value: f64) {
        self.sum += value;
        self.count += 1;
        if let Some(bucket) = self.buckets.get_mut(EDGES.partition_point(|edge| *edge < value)) {
            *bucket += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        self.sum += other.sum;
        self.count += other.count;
        self.buckets.iter_mut().zip(other.buckets).for_each(|(own, other)| *own += other);
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let mut buckets: Vec<(f64, u64)> = EDGES.into_iter().zip(self.buckets).collect();
        buckets.push((f64::MAX, self.count - self.buckets.iter().sum::<u64>()));
        encoder.encode_histogram::<prometheus_client::encoding::NoLabelSet>(self.sum, self.count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

impl Shard {
    pub(super) fn request(&mut self, key: RequestKey, duration: Duration, received: u64, sent: u64) {
        let full = self.requests.len() >= SERIES_MAX && !self.requests.contains_key(&key);
        let key =
            if full { RequestKey { source: PartyId::UNKNOWN, destination: PartyId::UNKNOWN, ..key } } else { key };
        let counts = self.requests.entry(key).or_default();
        counts.duration.observe(duration.as_secs_f64() * 1_000.0);
        counts.received.observe(bytes(received));
        counts.sent.observe(bytes(sent));
    }

    pub(super) fn tcp(&mut self, key: TcpKey, count: impl FnOnce(&mut TcpCounts)) {
        let full = self.connections.len() >= SERIES_MAX && !self.connections.contains_key(&key);
        let key = if full { TcpKey { source: PartyId::UNKNOWN, destination: PartyId::UNKNOWN, ..key } } else { key };
        count(self.connections.entry(key).or_default());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a size in a histogram; 2^53 bytes are exact")]
fn bytes(count: u64) -> f64 {
    count as f64
}

type Labels = Vec<(&'static str, String)>;

impl Telemetry {
    /// All metrics in the text form of `OpenMetrics`.
    pub(crate) fn render(self: &Arc<Self>) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Scrape(self.clone())));
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }

    fn merged(&self) -> (BTreeMap<Labels, RequestCounts>, BTreeMap<Labels, TcpCounts>) {
        let (mut requests, mut connections) = (HashMap::new(), HashMap::new());
        for shard in &self.shards {
            let shard = shard.lock();
            for (key, counts) in &shard.requests {
                let merged: &mut RequestCounts = requests.entry(*key).or_default();
                merged.duration.merge(&counts.duration);
                merged.received.merge(&counts.received);
                merged.sent.merge(&counts.sent);
            }
            for (key, counts) in &shard.connections {
                let merged: &mut TcpCounts = connections.entry(*key).or_default();
                merged.opened += counts.opened;
                merged.closed += counts.closed;
                merged.received += counts.received;
                merged.sent += counts.sent;
            }
        }
        let requests = requests.into_iter().map(|(key, counts)| (self.request_labels(key), counts)).collect();
        let connections = connections.into_iter().map(|(key, counts)| (self.tcp_labels(key), counts)).collect();
        (requests, connections)
    }

    fn request_labels(&self, key: RequestKey) -> Labels {
        let protocol = match key.protocol {
            RequestProtocol::Http => "http",
            RequestProtocol::Grpc => "grpc",
        };
        let mut labels = self.ends(key.direction, key.source, key.destination);
        labels.push(("request_protocol", protocol.to_owned()));
        labels.push(("response_code", key.status.to_string()));
        labels.push(("grpc_response_status", key.grpc_status.map(|status| status.to_string()).unwrap_or_default()));
        labels.push(("response_flags", key.flags.text()));
        labels
    }

    fn tcp_labels(&self, key: TcpKey) -> Labels {
        let mut labels = self.ends(key.direction, key.source, key.destination);
        labels.push(("request_protocol", "tcp".to_owned()));
        labels.push(("response_flags", key.flags.text()));
        labels
    }

    /// Source and destination, as seen from this proxy.
    fn ends(&self, direction: Direction, source: PartyId, destination: PartyId) -> Labels {
        let (source, destination) = {
            let parties = self.parties.lock();
            (parties.get(source), parties.get(destination))
        };
        let own = Party {
            workload: self.own.workload.clone(),
            service: destination.service.clone(),
            principal: self.own.principal.clone(),
            mutual_tls: false,
        };
        let (reporter, from, to, security) = match direction {
            Direction::Outbound => ("source", &own, &*destination, UNKNOWN),
            Direction::Inbound => {
                ("destination", &*source, &own, if source.mutual_tls { "mutual_tls" } else { "none" })
            }
        };
        let mut labels = vec![("reporter", reporter.to_owned())];
        let [names_from, names_to] = END_NAMES;
        end_labels(&mut labels, names_from, from);
        end_labels(&mut labels, names_to, to);
        labels.push(("destination_service", or_unknown(&to.service.host)));
        labels.push(("destination_service_name", or_unknown(&to.service.name)));
        labels.push(("destination_service_namespace", or_unknown(&to.service.namespace)));
        labels.push(("connection_security_policy", security.to_owned()));
        labels
    }
}

const END_NAMES: [[&str; 8]; 2] = [
    [
        "source_workload",
        "source_workload_namespace",
        "source_principal",
        "source_app",
        "source_version",
        "source_canonical_service",
        "source_canonical_revision",
        "source_cluster",
    ],
    [
        "destination_workload",
        "destination_workload_namespace",
        "destination_principal",
        "destination_app",
        "destination_version",
        "destination_canonical_service",
        "destination_canonical_revision",
        "destination_cluster",
    ],
];

fn end_labels(labels: &mut Labels, names: [&'static str; 8], end: &Party) {
    let workload = &end.workload;
    let values = [
        &workload.name,
        &workload.namespace,
        &end.principal,
        &workload.app,
        &workload.version,
        &workload.app,
        &workload.version,
        &workload.cluster,
    ];
    labels.extend(names.into_iter().zip(values.map(|value| or_unknown(value))));
}

fn or_unknown(text: &str) -> String {
    if text.is_empty() { UNKNOWN.to_owned() } else { text.to_owned() }
}

#[derive(Debug)]
struct Scrape(Arc<Telemetry>);

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry").field("own", &self.own).finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (requests, connections) = self.0.merged();
        family(&mut encoder, "istio_requests", "Requests.", &requests, |counts| {
            ConstCounter::new(counts.duration.count)
        })?;
        let name = "istio_request_duration_milliseconds";
        family(&mut encoder, name, "Time until the response was sent.", &requests, |counts| counts.duration.clone())?;
        let name = "istio_request_bytes";
        family(&mut encoder, name, "Request body sizes.", &requests, |counts| counts.received.clone())?;
        let name = "istio_response_bytes";
        family(&mut encoder, name, "Response body sizes.", &requests, |counts| counts.sent.clone())?;
        for (name, help, count) in TCP_FAMILIES {
            family(&mut encoder, name, help, &connections, |counts| ConstCounter::new(count(counts)))?;
        }
        let gauges = &self.0.gauges;
        for (name, help, value) in [
            ("meshstore_xds_accepted", "xDS resources that were accepted.", gauges.xds_accepted.get()),
            ("meshstore_xds_rejected", "xDS resources that were refused.", gauges.xds_rejected.get()),
            ("meshstore_certificates_issued", "Certificates obtained.", gauges.certificates_issued.get()),
            (
                "meshstore_certificate_failures",
                "Requests for a certificate that failed.",
                gauges.certificate_failures.get(),
            ),
            ("meshstore_dns_failures", "DNS lookups that gave no address.", gauges.dns_failures.get()),
            ("meshstore_access_log_dropped", "Access log lines dropped.", self.0.dropped_lines()),
        ] {
            let metric = ConstCounter::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        let unresolved = i64::try_from(self.0.troubles.count()).unwrap_or(i64::MAX);
        for (name, help, value) in [
            ("meshstore_dns_unresolved", "Names that did not resolve when last asked for.", unresolved),
            ("meshstore_xds_connected", "Whether the server is connected.", i64::from(gauges.xds_connected.get())),
        ] {
            let metric = ConstGauge::new(value);
            metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)?;
        }
        Ok(())
    }
}

type TcpFamily = (&'static str, &'static str, fn(&TcpCounts) -> u64);
const TCP_FAMILIES: [TcpFamily; 4] = [
    ("istio_tcp_connections_opened", "TCP connections opened.", |counts| counts.opened),
    ("istio_tcp_connections_closed", "TCP connections closed.", |counts| counts.closed),
    ("istio_tcp_received_bytes", "Bytes received over TCP connections.", |counts| counts.received),
    ("istio_tcp_sent_bytes", "Bytes sent over TCP connections.", |counts| counts.sent),
];

fn family<C, M: EncodeMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    series: &BTreeMap<Labels, C>,
    metric: impl Fn(&C) -> M,
) -> fmt::Result {
    let Some(first) = series.values().next() else { return Ok(()) };
    let mut family = encoder.encode_descriptor(name, help, None, metric(first).metric_type())?;
    for (labels, counts) in series {
        metric(counts).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}
