//! Time limits: of a request as a whole, and of one attempt.

use tokio::time::{Instant, timeout, timeout_at};
use tower::Layer;

use super::Handle;
use crate::http::{
    exchange::{Exchange, Outcome},
    reply::Failure,
};

/// All attempts, back-off between them, and the whole response.
pub(crate) struct TimeoutLayer;

pub(crate) struct WithTimeout<S>(S);

impl<S> Layer<S> for TimeoutLayer {
    type Service = WithTimeout<S>;
    fn layer(&self, inner: S) -> WithTimeout<S> {
        WithTimeout(inner)
    }
}

impl<S: Handle> Handle for WithTimeout<S> {
    async fn handle(&self, exchange: &mut Exchange) -> Outcome {
        let Some(limit) = exchange.timeout else { return self.0.handle(exchange).await };
        let deadline = Instant::now() + limit;
        let mut response = timeout_at(deadline, self.0.handle(exchange)).await.map_err(|_| Failure::Timeout)??;
        response.body_mut().until(deadline);
        Ok(response)
    }
}

/// One attempt, up to its response's head.
pub(crate) struct TryTimeoutLayer;

pub(crate) struct WithTryTimeout<S>(S);

impl<S> Layer<S> for TryTimeoutLayer {
    type Service = WithTryTimeout<S>;
    fn layer(&self, inner: S) -> WithTryTimeout<S> {
        WithTryTimeout(inner)
    }
}

impl<S: Handle> Handle for WithTryTimeout<S> {
    async fn handle(&self, exchange: &mut Exchange) -> Outcome {
        match exchange.retry.as_ref().and_then(|policy| policy.per_try_timeout) {
            None => self.0.handle(exchange).await,
            Some(limit) => timeout(limit, self.0.handle(exchange)).await.map_err(|_| Failure::TryTimeout)?,
        }
    }
}
