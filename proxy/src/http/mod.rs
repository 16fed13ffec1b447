//! HTTP/1.1 and HTTP/2, from a client's connection to an endpoint's answer.
//!
//! Owns: what a request looks like after it was judged, the choice of its route, and the layers it passes.
//! In:   byte streams from `listener`; the configuration snapshot.
//! Out:  requests to `upstream`, responses to clients, one report a request to `telemetry`.
//!
//! - A request is normalized once; routing and upstream see the same normalized form.
//! - A request is sent again only when nothing of it was processed, or when its route asks for more and its body is
//!   still at hand.
//! - Every request is reported once, whatever became of it.

mod body;
mod connection;
mod exchange;
mod handler;
mod headers;
mod layers;
pub(crate) mod normalize;
mod replay;
mod reply;
mod report;
mod upgrade;

pub(crate) use body::{Meter, RequestBody};
pub(crate) use connection::{HttpConnection, Peer};
pub(crate) use headers::client_cert_claim;
pub(crate) use reply::Flags;
