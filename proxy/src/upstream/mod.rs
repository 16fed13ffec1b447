//! Clusters at run time.
//!
//! Owns: endpoints and their connections, the choice between them, circuit breakers, and ejections.
//! In:   configured clusters and endpoints; requests and connections to send.
//! Out:  responses, byte streams, and failures that say whether anything was sent.
//!
//! - Pools are per worker: a connection is used only on the thread that opened it.
//! - An endpoint that stays the same across an update keeps its connections, counters and ejection.
//! - Every count of a circuit breaker is held by a guard, and given back when the guard is dropped.

mod balancer;
mod breaker;
mod build;
mod connect;
mod endpoint;
mod outlier;
mod pool;
mod send;

pub(crate) use balancer::Balancer;
pub(crate) use breaker::{Breakers, Permit, Resource};
pub(crate) use build::{Builder, Cluster};
pub(crate) use connect::{ConnectFailure, Io};
pub(crate) use endpoint::Endpoint;
pub(crate) use pool::Lease;
pub(crate) use send::{SendFailure, Sent, send};
