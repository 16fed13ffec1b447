//! Injected faults.

use tower::Layer;

use super::Handle;
use crate::{
    config::Fault,
    http::{
        exchange::{Exchange, Outcome},
        reply::{Failure, Flags},
    },
};

pub(crate) struct FaultLayer;

pub(crate) struct WithFault<S>(S);

impl<S> Layer<S> for FaultLayer {
    type Service = WithFault<S>;
    fn layer(&self, inner: S) -> WithFault<S> {
        WithFault(inner)
    }
}

impl<S: Handle> Handle for WithFault<S> {
    async fn handle(&self, exchange: &mut Exchange) -> Outcome {
        let (delay, abort) = match plan(exchange) {
            Some(fault) => (
                fault.delay.filter(|(share, _)| share.draw()).map(|(_, delay)| delay),
                fault.abort.filter(|(share, _)| share.draw()).map(|(_, abort)| abort),
            ),
            None => (None, None),
        };
        if let Some(delay) = delay {
            exchange.notes.flags.add(Flags::DELAYED);
            tokio::time::sleep(delay).await;
        }
        match abort {
            Some(abort) => Err(Failure::Fault(abort)),
            None => self.0.handle(exchange).await,
        }
    }
}

/// The route's fault, else the listener's, if it is for this request.
fn plan(exchange: &Exchange) -> Option<&Fault> {
    let fault = exchange.route.fault.as_ref().or(exchange.listener.fault.as_ref())?;
    exchange.subject().filter(|subject| fault.applies(subject)).map(|_| fault)
}
