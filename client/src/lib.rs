//! An etcd v3 client, and a client of the mesh API: over the network or inside one process, with the same calls.
//!
//! Owns: which endpoint is spoken to, when a call is repeated, where a watch resumes, and who the client is.
//! In:   calls on a [`Client`], which is cheap to clone and shared freely.
//! Out:  typed answers, or a [`ClientError`] that says what the caller can do.
//!
//! - A read is repeated, on the next endpoint, until it is answered or its time is up.
//! - A write is repeated only when it is certain that nothing was sent; otherwise its outcome is reported as
//!   [`ClientError::Uncertain`] and the caller decides.
//! - A [`Watch`] yields each matching event once, in revision order, whole revisions at a time, whatever connections
//!   and endpoints do meanwhile.
//! - No task runs but those whose handle the caller holds ([`LeaseKeeper`], [`Session`]).
//!
//! ```no_run
//! # async fn example() -> Result<(), meshstore_client::ClientError> {
//! use meshstore_client::{Client, Compare, Config, Get, Op, Put, Txn};
//!
//! let client = Client::connect(&Config::new(["127.0.0.1:2379"]))?;
//! let written = client.put(Put::new("lock", "held")).await?;
//! let txn = Txn::new()
//!     .when(Compare::mod_revision("lock").equal(written.revision.get()))
//!     .then(Op::delete("lock"))
//!     .otherwise(Op::get("lock"));
//! assert!(client.txn(txn).await?.succeeded);
//! let all = client.get(Get::prefix("config/")).await?;
//! println!("{} keys at revision {}", all.count, all.revision);
//! # Ok(())
//! # }
//! ```

mod auth;
mod backoff;
pub mod ca;
mod cluster;
mod config;
mod election;
mod error;
mod kv;
mod lease;
mod lock;
mod login;
mod maintenance;
pub mod membership;
pub mod mesh;
mod metrics;
mod mirror;
mod session;
mod snapshot;
mod transport;
mod txn;
mod upgrade;
mod watch;

pub use auth::{AuthStatusResponse, NamesResponse, Permission, PermissionKind, RoleGetResponse};
pub use cluster::{MemberAddResponse, MemberInfo, MemberListResponse};
pub use config::Config;
pub use election::Leadership;
pub use error::ClientError;
pub use kv::{
    CompactResponse, Delete, DeleteResponse, Get, GetResponse, Header, KeyValue, Put, PutResponse, SortBy, SortOrder,
};
pub use lease::{GrantResponse, KeepAliveResponse, LeaseKeeper, LeaseLost, LeasesResponse, TimeToLiveResponse};
pub use lock::Lock;
pub use login::{Password, User};
pub use maintenance::{Alarm, AlarmKind, AlarmsResponse, HashKvResponse, StatusResponse};
pub use mirror::{Mirror, Mirrored};
pub use session::Session;
pub use snapshot::Snapshot;
pub use tonic::Code;
pub use txn::{Compare, CompareTarget, Comparison, Op, OpResponse, Txn, TxnResponse};
pub use upgrade::{Probed, Versions};
pub use watch::{Event, EventFilter, Progress, Watch, WatchBatch, WatchOptions};

use tonic::{service::Routes, transport::Channel};
use transport::Transport;

/// A client of one cluster. Clones share connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

impl Client {
    /// A client of the cluster behind `config.endpoints`. Connects on first use, and again whenever it must.
    ///
    /// # Errors
    /// [`ClientError::Config`] when there is no endpoint or one is not an address.
    pub fn connect(config: &Config) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::network(config)? })
    }

    /// A client of the cluster behind `config.endpoints` by way of `dial`, which makes a lazy and reconnecting channel to
    /// each of them: for a network that is not the system's. It must give up on a connection by itself, after
    /// `config.connect_timeout`; TLS and keepalive are its own affair too.
    ///
    /// # Errors
    /// [`ClientError::Config`] when there is no endpoint.
    pub fn dialed(config: &Config, dial: impl Fn(&str) -> Channel) -> Result<Self, ClientError> {
        Ok(Self { transport: Transport::dialed(config, dial)? })
    }

    /// A client of services in this process: the same calls, without a socket.
    pub fn in_process(routes: Routes) -> Self {
        Self { transport: Transport::in_process(routes) }
    }
}
