//! How long a change of configuration takes to show in traffic.
//!
//! - The time runs from sending the apply call to the first answer that only the new route can give, so it contains
//!   validation, commit, compilation, the proxy's update and one request.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::Value;

use crate::demo::{
    http::{Answer, Call, Client},
    layout::Pod,
};

/// Longest wait for a change to show.
const DEADLINE: Duration = Duration::from_secs(30);
const END_USER: HeaderName = HeaderName::from_static("end-user");

/// Requests through one pod's sidecar, sent as its app would.
#[derive(Debug)]
pub(super) struct Probe<'a> {
    pub(super) pod: &'a Pod,
    /// For example `reviews:9080`.
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) user: Option<&'static str>,
    pub(super) client: Client,
}

/// One answer to a probe, and when it was asked and answered.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    pub(super) status: StatusCode,
    answer: Answer,
}

impl Sample {
    /// The pod that answered, where the app says so.
    pub(super) fn pod(&self) -> Option<String> {
        let body: Value = serde_json::from_slice(&self.answer.body).ok()?;
        body["podname"].as_str().map(str::to_owned)
    }

    pub(super) fn time(&self) -> Duration {
        self.answered - self.asked
    }
}

impl Probe<'_> {
    pub(super) async fn ask(&self) -> anyhow::Result<Sample> {
        let user = self.user.map(|user| (END_USER, HeaderValue::from_static(user)));
        let headers = HeaderMap::from_iter(user);
        let call = Call { to: self.pod.outbound, host: self.host, path: self.path, headers, deadline: DEADLINE };
        let asked = Instant::now();
        let answer = self.client.get(call).await.with_context(|| format!("cannot reach {}", self.host))?;
        Ok(Sample { asked, answered: Instant::now(), status: answer.status, answer })
    }

    /// Asks until `streak` answers in a row are `new`; when the first of them came.
    async fn until(&self, streak: usize, new: impl Fn(&Sample) -> bool) -> anyhow::Result<Instant> {
        let mut first = None;
        let mut length = 0;
        loop {
            let sample = self.ask().await?;
            if !new(&sample) {
                (first, length) = (None, 0);
                continue;
            }
            length += 1;
            let since = *first.get_or_insert(sample.answered);
            if length >= streak {
                return Ok(since);
            }
        }
    }
}

/// Applies a change while probing, and returns the time until it showed.
///
/// `streak`: how many answers in a row must be `new` before chance is ruled out.
pub(super) async fn of_change(
    apply: impl Future<Output = anyhow::Result<()>>,
    probe: &Probe<'_>,
    streak: usize,
    new: impl Fn(&Sample) -> bool,
) -> anyhow::Result<Duration> {
    let start = Instant::now();
    let shown = async {
        let shown = tokio::time::timeout(DEADLINE, probe.until(streak, new)).await;
        shown.map_err(|_| anyhow!("the change did not show in traffic within {} s", DEADLINE.as_secs()))?
    };
    let ((), shown) = tokio::try_join!(apply, shown)?;
    Ok(shown.saturating_duration_since(start))
}
