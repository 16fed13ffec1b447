//! The circuit breaker over requests.

use tower::Layer;

use super::Handle;
use crate::{
    http::{
        exchange::{Exchange, Outcome},
        reply::Failure,
    },
    upstream::Resource,
};

pub(crate) struct AdmitLayer;

pub(crate) struct Admitted<S>(S);

impl<S> Layer<S> for AdmitLayer {
    type Service = Admitted<S>;
    fn layer(&self, inner: S) -> Admitted<S> {
        Admitted(inner)
    }
}

impl<S: Handle> Handle for Admitted<S> {
    async fn handle(&self, exchange: &mut Exchange) -> Outcome {
        let cluster = exchange.cluster.as_ref().map_err(|status| Failure::NoCluster(*status))?;
        let limit = cluster.config.thresholds.requests;
        let permit = cluster.breakers.acquire(Resource::Requests, limit).ok_or(Failure::Overflow)?;
        exchange.permit = Some(permit);
        self.0.handle(exchange).await
    }
}
