//! productpage: the page that people open; it asks details and reviews, and shows what it got.
//!
//! Owns: the session cookie. Any name signs in with any password: this is a demo of routing by user, not of sign-in.
//!
//! - The signed-in user goes to the other services as header `end-user`, and only this app sets it.
//! - A service that fails costs its part of the page, never the page.

mod session;
mod view;

use std::{sync::Arc, time::Duration};

use axum::{
    Form, Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use self::session::User;
use super::{
    Refusal, headers, product_id,
    upstream::{Upstream, UpstreamError},
};

/// How long to wait for another service; the original's.
const DEADLINE: Duration = Duration::from_secs(3);
/// How often reviews are asked before giving up; the original's.
const REVIEWS_ATTEMPTS: u32 = 2;
/// The one book in the shop.
const PRODUCT: u32 = 0;
const TITLE: &str = "The Comedy of Errors";
const DESCRIPTION: &str = "One of Shakespeare's first plays and his shortest: twin brothers, each with a twin servant, \
     come to the same town unknown to one another, and everybody in it takes one for the other.";

#[derive(Debug)]
struct ProductPage {
    pod: Arc<str>,
    upstream: Upstream,
}

type Shared = State<Arc<ProductPage>>;

pub(super) fn router(pod: Arc<str>, upstream: Upstream) -> Router {
    Router::new()
        .route("/", get(|| async { Redirect::to("/productpage") }))
        .route("/productpage", get(page))
        .route("/login", post(login))
        .route("/logout", get(logout))
        .route("/api/v1/products", get(products))
        .route("/api/v1/products/{id}", get(product))
        .route("/api/v1/products/{id}/reviews", get(product_reviews))
        .route("/api/v1/products/{id}/ratings", get(product_ratings))
        .with_state(Arc::new(ProductPage { pod, upstream }))
}

async fn page(State(app): Shared, incoming: HeaderMap) -> Html<String> {
    let user = session::user(&incoming);
    let outgoing = outgoing(&incoming, user.as_ref());
    let (details, reviews) = tokio::join!(app.details(PRODUCT, &outgoing), app.reviews(PRODUCT, &outgoing));
    Html(view::page(&view::Page {
        title: TITLE,
        description: DESCRIPTION,
        user: user.as_ref().map(User::name),
        pod: &app.pod,
        details: details.map_err(|error| error.status()),
        reviews: reviews.map_err(|error| error.status()),
    }))
}

#[derive(Debug, serde::Deserialize)]
struct Login {
    username: String,
}

async fn login(Form(form): Form<Login>) -> Result<Response, Refusal> {
    let user = User::parse(&form.username).ok_or(Refusal {
        status: StatusCode::BAD_REQUEST,
        message: "a user name has 1 to 64 letters, digits and . _ - @",
    })?;
    Ok(back_to_page(session::signed_in(&user)))
}

async fn logout() -> Response {
    back_to_page(session::SIGNED_OUT.to_owned())
}

fn back_to_page(cookie: String) -> Response {
    (StatusCode::FOUND, [(header::LOCATION, "/productpage".to_owned()), (header::SET_COOKIE, cookie)]).into_response()
}

async fn products() -> Json<Value> {
    Json(json!([{ "id": PRODUCT, "title": TITLE, "descriptionHtml": DESCRIPTION }]))
}

async fn product(State(app): Shared, Path(id): Path<String>, incoming: HeaderMap) -> Result<Json<Value>, Refusal> {
    let (id, outgoing) = (known(&id)?, outgoing(&incoming, session::user(&incoming).as_ref()));
    app.details(id, &outgoing).await.map(Json).map_err(|error| unavailable(&error))
}

async fn product_reviews(
    State(app): Shared,
    Path(id): Path<String>,
    incoming: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let (id, outgoing) = (known(&id)?, outgoing(&incoming, session::user(&incoming).as_ref()));
    app.reviews(id, &outgoing).await.map(Json).map_err(|error| unavailable(&error))
}

async fn product_ratings(
    State(app): Shared,
    Path(id): Path<String>,
    incoming: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let (id, outgoing) = (known(&id)?, outgoing(&incoming, session::user(&incoming).as_ref()));
    let ratings = app.upstream.json("ratings", &format!("/ratings/{id}"), outgoing, DEADLINE).await;
    ratings.map(Json).map_err(|error| unavailable(&error))
}

impl ProductPage {
    async fn details(&self, id: u32, outgoing: &HeaderMap) -> Result<Value, UpstreamError> {
        self.upstream.json("details", &format!("/details/{id}"), outgoing.clone(), DEADLINE).await
    }

    async fn reviews(&self, id: u32, outgoing: &HeaderMap) -> Result<Value, UpstreamError> {
        let path = format!("/reviews/{id}");
        let mut attempt = 1;
        loop {
            let answer = self.upstream.json("reviews", &path, outgoing.clone(), DEADLINE).await;
            if answer.is_ok() || attempt == REVIEWS_ATTEMPTS {
                return answer;
            }
            attempt += 1;
        }
    }
}

/// What to send onwards: an `end-user` from outside is dropped, the session's is set.
fn outgoing(incoming: &HeaderMap, user: Option<&User>) -> HeaderMap {
    let mut outgoing = headers::passed_on(incoming);
    outgoing.remove(headers::END_USER);
    if let Some(user) = user {
        outgoing.insert(headers::END_USER, user.header());
    }
    outgoing
}

fn known(id: &str) -> Result<u32, Refusal> {
    match product_id(id)? {
        PRODUCT => Ok(PRODUCT),
        _ => Err(Refusal { status: StatusCode::NOT_FOUND, message: "no such product" }),
    }
}

fn unavailable(error: &UpstreamError) -> Refusal {
    Refusal { status: error.status(), message: "the service behind this is not available right now" }
}
