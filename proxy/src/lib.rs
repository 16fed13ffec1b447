//! The data plane: moves connections the way xDS says.
//!
//! Owns: listeners, connection pools, and the proxy's own identity, configuration cache and telemetry.
//! In:   Envoy resources by delta ADS, certificates from the mesh's authority, connections from workloads and peers.
//! Out:  connections to upstream endpoints, metrics, access logs.
//!
//! - A request reads one configuration snapshot and never waits for a lock that another core holds.
//! - A resource that asks for what is not built here is refused by name; the others apply.
//! - What was last accepted, and the proxy's certificate, are on disk: neither the server's absence nor a restart
//!   stops traffic.
//! - One thread and one runtime per core: sockets, pools and counters stay on the core that accepted the connection.
//!
//! The way of a connection: `listener` accepts and picks a filter chain, `http` or `tcp` routes by the `config`
//! snapshot, `upstream` balances and connects. The way of a change: `xds` receives and keeps, `config` compiles and
//! publishes, `resolve` finds what is told by name.

mod config;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod http;
mod identity;
mod listener;
mod register;
mod resolve;
mod run;
mod settings;
mod state_dir;
mod tcp;
mod telemetry;
mod upstream;
mod worker;
mod xds;

pub use identity::IdentityError;
pub use run::{ProxyError, run};
pub use settings::{AccessLogTarget, Config, InboundPort, JoinToken, Limits, Role, TcpOutbound};
