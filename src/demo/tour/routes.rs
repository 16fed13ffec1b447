//! The steps that change routes: by version, by weight, by user, and with faults.

use std::time::Duration;

use http::StatusCode;

use super::{
    effect::{self, Probe, Sample},
    report::Row,
    visitors::{Session, Stars, Visitors},
};
use crate::demo::{
    apps::{App, Version},
    bookinfo::Bookinfo,
    console::milliseconds,
    examples::{self, Example},
    http::Client,
};

const V1: &str = "reviews-v1";
const V2: &str = "reviews-v2";
const V3: &str = "reviews-v3";
/// Visits of a step that must all see the same.
const SAME_VISITS: usize = 300;
/// Visits of the step that counts a split.
const SPLIT_VISITS: usize = 2_000;
/// Visits, each as slow as the fault.
const DELAYED_VISITS: usize = 24;
/// The delay in `ratings-delay.yaml`.
const DELAY: Duration = Duration::from_secs(2);
/// Answers in a row that rule out chance when all of three versions answered before: (1/3)^20.
const STREAK_OF_ALL: usize = 20;

/// Everything to version 1.
pub(super) async fn all_v1(bookinfo: &mut Bookinfo, visitors: &Visitors) -> anyhow::Result<Row> {
    let effect = reviews_change(bookinfo, examples::ALL_V1, None, STREAK_OF_ALL, V1).await?;
    let visits = visitors.visit(SAME_VISITS, None).await;
    Ok(Row {
        step: "all to v1",
        expected: format!("{SAME_VISITS} of {SAME_VISITS} pages by {V1}, no stars"),
        measured: visits.summary(),
        effect: Some(effect),
        passed: visits.all_saw(V1, Stars::None) && visits.total() == SAME_VISITS,
    })
}

/// Nine in ten to version 1, one to version 3.
pub(super) async fn split(bookinfo: &mut Bookinfo, visitors: &Visitors) -> anyhow::Result<Row> {
    let effect = reviews_change(bookinfo, examples::REVIEWS_90_10, None, 1, V3).await?;
    let visits = visitors.visit(SPLIT_VISITS, None).await;
    let (low, high) = four_sigma(SPLIT_VISITS, 10);
    let (stable, canary) = (visits.by(V1), visits.by(V3));
    Ok(Row {
        step: "90/10 between v1 and v3",
        expected: format!("{low} to {high} of {SPLIT_VISITS} by {V3} (4 sigma), the others by {V1}"),
        measured: visits.summary(),
        effect: Some(effect),
        passed: visits.failed() == 0 && stable + canary == SPLIT_VISITS && (low..=high).contains(&canary),
    })
}

/// User jason to version 2, everybody else to version 1.
pub(super) async fn by_user(bookinfo: &mut Bookinfo, visitors: &Visitors, jason: &Session) -> anyhow::Result<Row> {
    let effect = reviews_change(bookinfo, examples::REVIEWS_JASON_V2, Some("jason"), 1, V2).await?;
    let (his, others) = tokio::join!(visitors.visit(SAME_VISITS, Some(jason)), visitors.visit(SAME_VISITS, None));
    Ok(Row {
        step: "user jason to v2",
        expected: format!("jason: {SAME_VISITS} by {V2}, black stars; others: {SAME_VISITS} by {V1}"),
        measured: format!("jason: {}; others: {}", his.summary(), others.summary()),
        effect: Some(effect),
        passed: his.all_saw(V2, Stars::Black) && others.all_saw(V1, Stars::None),
    })
}

/// Ratings refuse jason.
pub(super) async fn abort(bookinfo: &mut Bookinfo, visitors: &Visitors, jason: &Session) -> anyhow::Result<Row> {
    let refused = |sample: &Sample| sample.status == StatusCode::INTERNAL_SERVER_ERROR;
    let effect =
        effect::of_change(bookinfo.apply(examples::RATINGS_ABORT), &ratings(bookinfo, "jason"), 1, refused).await?;
    let (his, others) = tokio::join!(visitors.visit(SAME_VISITS, Some(jason)), visitors.visit(SAME_VISITS, None));
    let another = ratings(bookinfo, "robin").ask().await?.status;
    Ok(Row {
        step: "ratings abort with 500 for jason",
        expected: "jason's page says that stars are missing; others' pages whole; ratings 200 for others".to_owned(),
        measured: format!("jason: {}; others: {}; ratings for robin: {another}", his.summary(), others.summary()),
        effect: Some(effect),
        passed: his.all_saw(V2, Stars::Missing) && others.all_saw(V1, Stars::None) && another == StatusCode::OK,
    })
}

/// Ratings keep jason waiting.
pub(super) async fn delay(bookinfo: &mut Bookinfo, visitors: &Visitors, jason: &Session) -> anyhow::Result<Row> {
    let delayed = |sample: &Sample| sample.time() >= DELAY;
    let shown =
        effect::of_change(bookinfo.apply(examples::RATINGS_DELAY), &ratings(bookinfo, "jason"), 1, delayed).await?;
    let (his, others) = tokio::join!(visitors.visit(DELAYED_VISITS, Some(jason)), visitors.visit(SAME_VISITS, None));
    let another = ratings(bookinfo, "robin").ask().await?.time();
    Ok(Row {
        step: "ratings delayed for jason",
        expected: format!("jason's p50 at least {}, stars and all; others not delayed", milliseconds(DELAY)),
        measured: format!(
            "p50: jason {}, others {}; ratings for robin {}",
            milliseconds(his.median()),
            milliseconds(others.median()),
            milliseconds(another)
        ),
        // The first delayed answer came this much later than the route that delays it.
        effect: Some(shown.saturating_sub(DELAY)),
        passed: his.all_saw(V2, Stars::Black)
            && his.median() >= DELAY
            && others.all_saw(V1, Stars::None)
            && others.median() < DELAY / 2
            && another < DELAY / 2,
    })
}

/// Applies a route of reviews; the time until `pod` answers productpage's sidecar.
pub(super) async fn reviews_change(
    bookinfo: &Bookinfo,
    example: Example,
    user: Option<&'static str>,
    streak: usize,
    pod: &str,
) -> anyhow::Result<Duration> {
    let probe = Probe {
        pod: bookinfo.layout.pod(App::Productpage, Version::V1),
        host: "reviews:9080",
        path: "/reviews/0",
        user,
        client: Client::new(),
    };
    effect::of_change(bookinfo.apply(example), &probe, streak, |sample| sample.pod().as_deref() == Some(pod)).await
}

/// Ratings as reviews v2 asks for them.
fn ratings<'a>(bookinfo: &'a Bookinfo, user: &'static str) -> Probe<'a> {
    let pod = bookinfo.layout.pod(App::Reviews, Version::V2);
    Probe { pod, host: "ratings:9080", path: "/ratings/0", user: Some(user), client: Client::new() }
}

/// How often an event of `percent` chance may happen in `count` tries: within four standard deviations of its mean.
fn four_sigma(count: usize, percent: usize) -> (usize, usize) {
    let mean = count * percent / 100;
    // The square of 4 * sqrt(n p (1 - p)), in whole numbers.
    let spread = (16 * count * percent * (100 - percent) / 10_000).isqrt();
    (mean - spread.min(mean), mean + spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn four_sigma_of_two_thousand_at_a_tenth() {
        assert_eq!(four_sigma(2_000, 10), (147, 253));
        assert_eq!(four_sigma(10, 1), (0, 1));
    }

    #[test]
    fn the_delay_is_the_one_in_the_example() {
        assert!(examples::RATINGS_DELAY.text.contains(&format!("fixedDelay: {}s\n", DELAY.as_secs())));
    }
}
