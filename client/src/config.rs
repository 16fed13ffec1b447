//! Where the cluster is, and how long to wait for it.

use crate::User;
use rustls::ClientConfig;
use std::{sync::Arc, time::Duration};

/// How a [`Client`](crate::Client) reaches its cluster.
#[derive(Clone, Debug)]
pub struct Config {
    /// `HOST:PORT`, `http://HOST:PORT` or `https://HOST:PORT`, at least one. The first is preferred until it fails.
    /// Default `127.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// Speaks TLS to all endpoints: as `tls::client_config` makes it, to servers of the mesh by their SPIFFE ID, or
    /// as `tls::web::client_config`, to others by host name. Default none: plain text.
    pub tls: Option<Arc<ClientConfig>>,
    /// Who the client is, where the cluster demands users. Default none.
    pub user: Option<User>,
    /// Longest wait for a connection to one endpoint. Default 2 s.
    pub connect_timeout: Duration,
    /// Longest time for one call, its repetitions included; watches have none. Default 5 s.
    pub request_timeout: Duration,
    /// A silent connection is probed this often. Default 10 s; etcd's servers cut clients that probe more often than
    /// every 5 s.
    pub keepalive_interval: Duration,
    /// A probe not answered within this time ends the connection. Default 5 s.
    pub keepalive_timeout: Duration,
}

impl Config {
    /// The defaults, for the cluster behind `endpoints`.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { endpoints: endpoints.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoints: vec!["127.0.0.1:2379".to_owned()],
            tls: None,
            user: None,
            connect_timeout: Duration::from_secs(2),
            request_timeout: Duration::from_secs(5),
            keepalive_interval: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(5),
        }
    }
}
