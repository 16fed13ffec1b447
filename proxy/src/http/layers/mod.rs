//! The way of a request to an endpoint, as a list of layers.
//!
//! Layers are tower's, and so is the list. The services are not: tower's have a named future, which here would mean
//! one allocation a layer and request; [`Handle`] composes without any.

mod admit;
mod balance;
mod fault;
mod retry;
mod timeout;

use tower::ServiceBuilder;

use super::exchange::{Exchange, Outcome};

/// One layer's work on a request.
pub(crate) trait Handle: Send + Sync {
    /// Brings the exchange to an outcome. When the future is dropped, so is what it holds upstream.
    fn handle(&self, exchange: &mut Exchange) -> impl Future<Output = Outcome> + Send;
}

/// The request path of one cluster, outermost first. The order is the design.
pub(crate) fn stack() -> impl Handle {
    ServiceBuilder::new()
        .layer(fault::FaultLayer) // may delay or refuse before anything upstream is touched
        .layer(timeout::TimeoutLayer) // covers all attempts together, and the response's body
        .layer(retry::RetryLayer) // judges each attempt
        .layer(admit::AdmitLayer) // a full cluster refuses now rather than queues
        .layer(timeout::TryTimeoutLayer) // covers one attempt up to its response's head
        .service(balance::Balance) // picks an endpoint and sends
}
