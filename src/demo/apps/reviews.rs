//! reviews: what readers wrote. v1 alone; v2 with black stars and v3 with red ones, which it asks ratings for.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::HeaderMap,
    routing::get,
};
use serde_json::{Value, json};

use super::{Refusal, Version, headers, product_id, upstream::Upstream};

const REVIEWS: [(&str, &str); 2] = [
    ("Reviewer1", "Two pairs of twins, one town, a hundred mistakes: I laughed from the first scene to the last."),
    (
        "Reviewer2",
        "Quick and warm and over too soon. Not the deepest of the plays, but surely the lightest on its feet.",
    ),
];

/// Stars, and how long a release waits for them; the waits are those of the original.
#[derive(Clone, Copy, Debug)]
struct Stars {
    color: &'static str,
    deadline: Duration,
}

#[derive(Debug)]
struct Reviews {
    pod: Arc<str>,
    stars: Option<Stars>,
    upstream: Upstream,
}

pub(super) fn router(version: Version, pod: Arc<str>, upstream: Upstream) -> Router {
    let stars = match version {
        Version::V1 => None,
        Version::V2 => Some(Stars { color: "black", deadline: Duration::from_secs(10) }),
        Version::V3 => Some(Stars { color: "red", deadline: Duration::from_millis(2500) }),
    };
    Router::new().route("/reviews/{id}", get(reviews)).with_state(Arc::new(Reviews { pod, stars, upstream }))
}

async fn reviews(
    State(app): State<Arc<Reviews>>,
    Path(id): Path<String>,
    incoming: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let id = product_id(&id)?;
    let mut reviews: Vec<Value> =
        REVIEWS.iter().map(|(reviewer, text)| json!({ "reviewer": reviewer, "text": text })).collect();
    if let Some(stars) = app.stars {
        let ratings = app.ratings(id, stars, &incoming).await;
        for review in &mut reviews {
            review["rating"] = rating(ratings.as_ref(), stars, &review["reviewer"]);
        }
    }
    Ok(Json(json!({ "id": id.to_string(), "podname": &*app.pod, "reviews": reviews })))
}

impl Reviews {
    /// `None` when ratings could not be had: the reviews are shown without.
    async fn ratings(&self, id: u32, stars: Stars, incoming: &HeaderMap) -> Option<Value> {
        let path = format!("/ratings/{id}");
        let answer = self.upstream.json("ratings", &path, headers::passed_on(incoming), stars.deadline).await;
        answer.ok().map(|mut answer| answer["ratings"].take())
    }
}

fn rating(ratings: Option<&Value>, stars: Stars, reviewer: &Value) -> Value {
    let given = ratings.and_then(|ratings| ratings.get(reviewer.as_str()?)?.as_u64());
    match given {
        Some(given) => json!({ "stars": given, "color": stars.color }),
        None => json!({ "error": "ratings are not available right now" }),
    }
}
