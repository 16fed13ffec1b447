//! Who talked to whom, and how: every hop by mutual TLS, each end with the identity it should have.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use http::{HeaderMap, StatusCode};

use super::{
    metrics::{self, Sample},
    report::Row,
};
use crate::demo::{
    apps::App,
    bookinfo::Bookinfo,
    http::{Call, Client, HttpError},
    layout::{GATEWAY, Pod, spiffe_id},
};

const DEADLINE: Duration = Duration::from_secs(5);
const REQUESTS: &str = "istio_requests_total";

/// Every sidecar received requests from the one identity that should call it, by mutual TLS, and from nobody else.
pub(super) async fn identities(bookinfo: &Bookinfo) -> anyhow::Result<Row> {
    let client = Client::new();
    let (mut right, mut wrong) = (BTreeMap::<String, f64>::new(), Vec::new());
    for pod in &bookinfo.layout.pods {
        let expected = Hop::expected(pod);
        let received = received(&client, pod.admin).await?;
        if !received.iter().any(|(hop, _)| *hop == expected) {
            wrong.push(format!("{} received nothing from {:?}", pod.workload.name(), expected.source));
        }
        for (hop, count) in received {
            if hop == expected {
                *right.entry(hop.accounts()).or_default() += count;
            } else {
                wrong.push(format!("{count} times {hop}"));
            }
        }
    }
    let right: Vec<_> = right.into_iter().map(|(accounts, count)| format!("{accounts} {count}")).collect();
    Ok(Row {
        step: "every hop by mutual TLS",
        expected: "every sidecar called by mutual TLS only, and only by the SPIFFE ID that should".to_owned(),
        measured: if wrong.is_empty() { right.join(", ") } else { wrong.join("; ") },
        effect: None,
        passed: wrong.is_empty(),
    })
}

/// How one end of a hop reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hop {
    security: String,
    source: String,
    destination: String,
}

impl Hop {
    /// Who should call a workload: the gateway calls the page, the page calls details and reviews, they call ratings.
    fn expected(pod: &Pod) -> Self {
        let caller = match pod.workload.app {
            App::Productpage => GATEWAY.to_owned(),
            App::Details | App::Reviews => format!("bookinfo-{}", App::Productpage.name()),
            App::Ratings => format!("bookinfo-{}", App::Reviews.name()),
        };
        Self {
            security: "mutual_tls".to_owned(),
            source: spiffe_id(&caller),
            destination: spiffe_id(&pod.workload.service_account()),
        }
    }

    /// The two service accounts, for people.
    fn accounts(&self) -> String {
        let account = |id: &str| id.rsplit('/').next().unwrap_or_default().trim_start_matches("bookinfo-").to_owned();
        format!("{} to {}", account(&self.source), account(&self.destination))
    }

    fn reported(sample: &Sample) -> Self {
        let label = |name| sample.label(name).to_owned();
        Self {
            security: label("connection_security_policy"),
            source: label("source_principal"),
            destination: label("destination_principal"),
        }
    }
}

impl std::fmt::Display for Hop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} to {:?} by {:?}", self.source, self.destination, self.security)
    }
}

/// What the sidecar at `admin` received, by hop.
async fn received(client: &Client, admin: SocketAddr) -> anyhow::Result<Vec<(Hop, f64)>> {
    let host = admin.to_string();
    let call = Call { to: admin, host: &host, path: "/metrics", headers: HeaderMap::new(), deadline: DEADLINE };
    let answer = client.get(call).await.with_context(|| format!("cannot read the metrics of {admin}"))?;
    ensure!(answer.status == StatusCode::OK, "the metrics of {admin} were answered {}", answer.status);
    let samples = metrics::samples(&answer.text(), REQUESTS);
    let received = samples.iter().filter(|sample| sample.label("reporter") == "destination" && sample.value > 0.0);
    Ok(received.map(|sample| (Hop::reported(sample), sample.value)).collect())
}

/// A request without TLS, straight to a sidecar, gets no answer.
pub(super) async fn plain_text_refused(bookinfo: &Bookinfo) -> anyhow::Result<Row> {
    let client = Client::new();
    let mut answered = Vec::new();
    for pod in &bookinfo.layout.pods {
        let host = pod.inbound.to_string();
        let call =
            Call { to: pod.inbound, host: &host, path: "/health", headers: HeaderMap::new(), deadline: DEADLINE };
        let outcome = match client.get(call).await {
            Err(HttpError::Connection(_)) => continue,
            Err(error) => error.to_string(),
            Ok(answer) => format!("answered {}", answer.status),
        };
        answered.push(format!("{}: {outcome}", pod.workload.name()));
    }
    let pods = bookinfo.layout.pods.len();
    Ok(Row {
        step: "plain text straight to a sidecar",
        expected: format!("refused by all {pods}"),
        measured: if answered.is_empty() { format!("refused by all {pods}") } else { answered.join("; ") },
        effect: None,
        passed: answered.is_empty(),
    })
}
