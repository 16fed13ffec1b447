//! details: the facts about a book.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::{Path, State},
    routing::get,
};
use serde_json::{Value, json};

use super::{Refusal, product_id};

pub(super) fn router(pod: Arc<str>) -> Router {
    Router::new().route("/details/{id}", get(details)).with_state(pod)
}

async fn details(State(pod): State<Arc<str>>, Path(id): Path<String>) -> Result<Json<Value>, Refusal> {
    let id = product_id(&id)?;
    Ok(Json(json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
        "podname": &*pod,
    })))
}
