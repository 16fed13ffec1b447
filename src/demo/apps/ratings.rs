//! ratings: how many stars each reader gave.

use axum::{Json, Router, extract::Path, routing::get};
use serde_json::{Value, json};

use super::{Refusal, product_id};

pub(super) fn router() -> Router {
    Router::new().route("/ratings/{id}", get(ratings))
}

async fn ratings(Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = product_id(&id)?;
    Ok(Json(json!({ "id": id, "ratings": { "Reviewer1": 5, "Reviewer2": 4 } })))
}
