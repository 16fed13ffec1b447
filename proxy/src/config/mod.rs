//! Envoy's resources, compiled.
//!
//! Owns: the meaning of each resource, and the snapshot that requests read.
//! In:   resources from `xds`, already unpacked from their envelope.
//! Out:  an immutable [`Snapshot`] and the listeners that should exist.
//!
//! - A resource compiles wholly or is refused with its reason; what is not built is refused, never skipped.
//! - A snapshot is never changed, only replaced; a request sees one snapshot from its first look to its last.
//! - Make before break: a route table that names clusters which are still on their way waits for them while its
//!   predecessor serves; a cluster that a serving table names outlives its removal.

mod action;
mod book;
mod cluster;
mod dns;
mod fault;
mod hosts;
mod listener;
mod matcher;
mod mutation;
mod retry;
mod route;
mod tls_context;
mod wire;

use std::{collections::HashMap, sync::Arc};

pub(crate) use action::{Action, Forward, Redirect, Target, to_https};
pub(crate) use book::{Book, Kind};
pub(crate) use cluster::{
    Balance, ClusterConfig, Discovery, EndpointConfig, Keepalive, Outlier, Protocol, Service, Thresholds, Workload,
};
#[cfg(test)]
pub(crate) use dns::HostPort;
pub(crate) use dns::{Dns, Family, Pick, Refresh};
pub(crate) use fault::{Abort, Fault};
pub(crate) use listener::{
    Chain, ClientCert, Codec, Direction, Filter, HttpConfig, ListenerConfig, Routes, TcpConfig, Wire,
};
pub(crate) use matcher::Subject;
pub(crate) use retry::RetryPolicy;
pub(crate) use route::{Route, RouteTable, is_grpc};
pub(crate) use tls_context::{DownstreamTls, Peers, Transport};
pub(crate) use wire::Invalid;

use crate::upstream::Cluster;

/// What requests are routed by.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) clusters: HashMap<Arc<str>, Arc<Cluster>>,
    pub(crate) routes: HashMap<Arc<str>, Arc<RouteTable>>,
}
