//! People who open the page, many at once, and what they saw.
//!
//! - A visit is a success only when the page came with status 200 and every part of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures_util::{StreamExt, stream};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::demo::http::{Answer, Call, Client, HttpError};

/// Visits under way at once.
const AT_ONCE: usize = 8;
/// Longest a visitor waits.
const DEADLINE: Duration = Duration::from_secs(30);
/// How many different failures are kept for the report.
const FAILURES_SHOWN: usize = 3;

/// What the stars of a page looked like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stars {
    None,
    Black,
    Red,
    /// The page says that there should be some.
    Missing,
}

/// A signed-in visitor's session cookie.
#[derive(Clone, Debug)]
pub(super) struct Session(HeaderValue);

/// What one visitor saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Visit {
    /// The pod that answered for reviews, for example `reviews-v2`.
    pub(super) reviews: String,
    pub(super) stars: Stars,
}

/// What many visitors saw.
#[derive(Clone, Debug, Default)]
pub(super) struct Visits {
    seen: BTreeMap<(String, Stars), usize>,
    times: Vec<Duration>,
    failures: Vec<String>,
    failed: usize,
}

impl Visits {
    fn add(&mut self, time: Duration, outcome: Result<Visit, String>) {
        match outcome {
            Ok(visit) => {
                self.times.push(time);
                *self.seen.entry((visit.reviews, visit.stars)).or_default() += 1;
            }
            Err(failure) => self.fail(failure),
        }
    }

    fn fail(&mut self, failure: String) {
        self.failed += 1;
        if self.failures.len() < FAILURES_SHOWN && !self.failures.contains(&failure) {
            self.failures.push(failure);
        }
    }

    /// Adds what other visitors saw.
    pub(super) fn merge(&mut self, other: Self) {
        for (what, count) in other.seen {
            *self.seen.entry(what).or_default() += count;
        }
        self.times.extend(other.times);
        self.failed += other.failed;
        self.failures.extend(other.failures);
        self.failures.truncate(FAILURES_SHOWN);
    }

    /// Visits in all, failed ones too.
    pub(super) fn total(&self) -> usize {
        self.times.len() + self.failed
    }

    pub(super) fn failed(&self) -> usize {
        self.failed
    }

    /// Visits that saw this pod's reviews.
    pub(super) fn by(&self, pod: &str) -> usize {
        self.seen.iter().filter(|((seen, _), _)| seen == pod).map(|(_, count)| count).sum()
    }

    /// Whether every visit succeeded and saw this pod's reviews with these stars.
    pub(super) fn all_saw(&self, pod: &str, stars: Stars) -> bool {
        self.failed == 0 && self.seen.keys().all(|(seen, seen_stars)| seen == pod && *seen_stars == stars)
    }

    /// The time that half of the successful visits took at most; zero without any.
    pub(super) fn median(&self) -> Duration {
        let mut times = self.times.clone();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// Counts by pod, and what failed, for the report.
    pub(super) fn summary(&self) -> String {
        let mut pods = BTreeMap::<&str, usize>::new();
        for ((pod, _), count) in &self.seen {
            *pods.entry(pod).or_default() += count;
        }
        let mut parts: Vec<_> = pods.into_iter().map(|(pod, count)| format!("{pod} {count}")).collect();
        if self.failed > 0 {
            parts.push(format!("{} failed ({})", self.failed, self.failures.join("; ")));
        }
        parts.join(", ")
    }
}

/// Where visitors come in.
#[derive(Clone, Debug)]
pub(super) struct Visitors {
    page: SocketAddr,
    client: Client,
}

impl Visitors {
    /// `page`: the gateway.
    pub(super) fn new(page: SocketAddr) -> Self {
        Self { page, client: Client::new() }
    }

    /// Signs in by the page's form, as a browser would.
    pub(super) async fn sign_in_as_jason(&self) -> anyhow::Result<Session> {
        let host = self.page.to_string();
        let answer = self.client.post_form(self.call(&host, "/login", None), "username=jason&passwd=jason").await?;
        ensure!(answer.status == StatusCode::FOUND, "signing in was answered {}", answer.status);
        let cookie = answer.headers.get(header::SET_COOKIE).and_then(|value| value.to_str().ok());
        let pair = cookie.and_then(|cookie| cookie.split(';').next()).context("signing in gave no cookie")?;
        Ok(Session(HeaderValue::from_str(pair)?))
    }

    /// Opens the page `count` times, several at once.
    pub(super) async fn visit(&self, count: usize, session: Option<&Session>) -> Visits {
        let mut visits = Visits::default();
        let mut outcomes = stream::iter(0..count).map(|_| self.once(session)).buffer_unordered(AT_ONCE);
        while let Some((time, outcome)) = outcomes.next().await {
            visits.add(time, outcome);
        }
        visits
    }

    /// Opens the page again and again, one visit after the other, as long as `on` says.
    pub(super) async fn keep_visiting(&self, on: impl Fn() -> bool, visited: impl Fn()) -> Visits {
        let mut visits = Visits::default();
        while on() {
            let (time, outcome) = self.once(None).await;
            visits.add(time, outcome);
            visited();
        }
        visits
    }

    async fn once(&self, session: Option<&Session>) -> (Duration, Result<Visit, String>) {
        let start = Instant::now();
        let host = self.page.to_string();
        let answer = self.client.get(self.call(&host, "/productpage", session)).await;
        (start.elapsed(), seen(answer))
    }

    fn call<'a>(&self, host: &'a str, path: &'a str, session: Option<&Session>) -> Call<'a> {
        let headers = session.map(|Session(cookie)| (header::COOKIE, cookie.clone()));
        Call { to: self.page, host, path, headers: HeaderMap::from_iter(headers), deadline: DEADLINE }
    }
}

fn seen(answer: Result<Answer, HttpError>) -> Result<Visit, String> {
    let answer = answer.map_err(|error| error.to_string())?;
    let html = answer.text();
    if answer.status != StatusCode::OK {
        return Err(format!("status {}", answer.status.as_u16()));
    }
    if let Some(code) = between(&html, "data-failed=\"", "\"") {
        return Err(format!("a part of the page failed with status {code}"));
    }
    let reviews = between(&html, "data-service=\"reviews\" data-pod=\"", "\"").ok_or("a page without reviews")?;
    Ok(Visit { reviews: reviews.to_owned(), stars: stars(&html) })
}

fn stars(html: &str) -> Stars {
    let marks =
        [("class=\"missing\"", Stars::Missing), ("class=\"black\"", Stars::Black), ("class=\"red\"", Stars::Red)];
    marks.into_iter().find(|(mark, _)| html.contains(mark)).map_or(Stars::None, |(_, stars)| stars)
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn page(status: StatusCode, body: &'static str) -> Result<Visit, String> {
        seen(Ok(Answer { status, headers: HeaderMap::new(), body: Bytes::from_static(body.as_bytes()) }))
    }

    #[test]
    fn only_a_whole_page_is_a_success() {
        let whole = "<section data-service=\"reviews\" data-pod=\"reviews-v3\"><span class=\"red\">";
        let expected = Visit { reviews: "reviews-v3".to_owned(), stars: Stars::Red };
        assert_eq!(page(StatusCode::OK, whole), Ok(expected));
        assert!(page(StatusCode::BAD_GATEWAY, whole).is_err());
        assert!(page(StatusCode::OK, "<section data-service=\"details\" data-failed=\"503\">").is_err());
        assert!(page(StatusCode::OK, "").is_err());
    }

    #[test]
    fn visits_add_up() {
        let visit = |pod: &str| Ok(Visit { reviews: pod.to_owned(), stars: Stars::None });
        let mut visits = Visits::default();
        for (milliseconds, outcome) in [(1, visit("a")), (9, visit("a")), (5, visit("b")), (7, Err("x".to_owned()))] {
            visits.add(Duration::from_millis(milliseconds), outcome);
        }
        let mut twice = visits.clone();
        twice.merge(visits.clone());
        assert_eq!((visits.total(), visits.failed(), visits.by("a"), visits.by("b")), (4, 1, 2, 1));
        assert_eq!(visits.median(), Duration::from_millis(5));
        assert_eq!(visits.summary(), "a 2, b 1, 1 failed (x)");
        assert_eq!((twice.total(), twice.failed(), twice.by("a")), (8, 2, 4));
        assert!(!visits.all_saw("a", Stars::None));
    }
}
