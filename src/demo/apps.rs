//! The Bookinfo apps: four small HTTP services, one process each.
//!
//! Owns: what is common to them: their arguments, health answers, listening and stopping.
//!
//! - An app knows nothing of the mesh but one address, its sidecar's outbound listener; it names the service it
//!   wants by `Host`. Without a mesh that address may be any HTTP proxy that routes by host.
//! - Calls, paths and answers are those of Istio's Bookinfo sample, so that its tour works here.

mod details;
mod headers;
mod productpage;
mod ratings;
mod reviews;
mod upstream;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio::net::TcpListener;

use self::upstream::Upstream;

/// Which app to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum App {
    /// The page that people see; calls details and reviews.
    Productpage,
    /// Facts about a book.
    Details,
    /// What readers wrote; v2 and v3 call ratings.
    Reviews,
    /// Readers' stars.
    Ratings,
}

impl App {
    /// The service's name, and the app label of its workloads.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Productpage => "productpage",
            Self::Details => "details",
            Self::Reviews => "reviews",
            Self::Ratings => "ratings",
        }
    }
}

/// Which release of an app to be. Only reviews differ: v1 shows no stars, v2 black ones, v3 red ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Version {
    /// The first release.
    V1,
    /// Black stars.
    V2,
    /// Red stars.
    V3,
}

impl Version {
    /// As the version label has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }
}

/// Arguments of one app process.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The app to run.
    app: App,
    /// Its release.
    #[arg(long, default_value = "v1")]
    version: Version,
    /// Name of this instance, shown in its answers.
    #[arg(long)]
    pod: String,
    /// Address to serve HTTP on.
    #[arg(long)]
    listen: SocketAddr,
    /// Outbound HTTP listener of the sidecar, through which other services are called.
    #[arg(long)]
    outbound: SocketAddr,
}

/// Serves until SIGTERM or SIGINT, then lets open requests finish.
pub(crate) async fn run(args: Args) -> anyhow::Result<()> {
    let listener = TcpListener::bind(args.listen).await.with_context(|| format!("cannot listen on {}", args.listen))?;
    let router = router(args.app, args.version, args.pod.into(), Upstream::new(args.outbound));
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    axum::serve(listener, router).with_graceful_shutdown(stop).await.context("cannot serve")
}

fn router(app: App, version: Version, pod: Arc<str>, upstream: Upstream) -> Router {
    let own = match app {
        App::Productpage => productpage::router(pod, upstream),
        App::Details => details::router(pod),
        App::Reviews => reviews::router(version, pod, upstream),
        App::Ratings => ratings::router(),
    };
    let healthy = Json(json!({ "status": format!("{} is healthy", app.name()) }));
    own.route("/health", get(move || async move { healthy }))
}

/// The id of a product in a path: a whole number, as in the original.
fn product_id(text: &str) -> Result<u32, Refusal> {
    text.parse().map_err(|_| Refusal { status: StatusCode::BAD_REQUEST, message: "the product id must be a number" })
}

/// An error answer: a status and `{"error": message}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    message: &'static str,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.status, Json(json!({ "error": self.message }))).into_response()
    }
}

#[cfg(test)]
mod tests;
