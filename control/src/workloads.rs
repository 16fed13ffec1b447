//! The registry of workloads: who is there, for as long as it says so.
//!
//! Owns: the lease behind each registration.
//! In:   a stream of each proxy: its workload, then proofs of life.
//! Out:  `WorkloadEntry` resources under leases.
//!
//! - A proxy registers its own identity only, and never takes over the name of another account's workload.
//! - A broken connection leaves the registration to its lease: a proxy that comes back in time is never missed, and one
//!   that comes back to another or a restarted server finds its key and puts it under a new lease.
//! - Only a stream that ends in good order takes its workload away at once.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use client::{Client, ClientError, Code, Compare, Get, Op, Put, Txn};
use futures_util::{Stream, stream};
use proto::mesh::{RegisterRequest, RegisterResponse, Workload, register_request, workloads_server};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use tracing::{info, warn};
use types::{LeaseId, SpiffeId};

use crate::{
    api::status,
    compile::TLS_MODE_LABEL,
    model::{Id, Kind, Problem, Resource, Spec, Typed, service_entry::WorkloadEntry},
    validate::validate_workload,
};

/// How often a registration is tried again because its key moved.
const ATTEMPTS: usize = 8;

/// The workload registry. Source: `proto/meshstore/mesh.proto`.
#[derive(Clone, Debug)]
pub struct Workloads {
    client: Client,
    ttl: Duration,
    stop: CancellationToken,
}

impl Workloads {
    pub(crate) fn new(client: Client, ttl: Duration, stop: CancellationToken) -> Self {
        Self { client, ttl, stop }
    }
}

type Responses = Pin<Box<dyn Stream<Item = Result<RegisterResponse, Status>> + Send>>;

#[tonic::async_trait]
impl workloads_server::Workloads for Workloads {
    type RegisterStream = Responses;

    async fn register(&self, request: Request<Streaming<RegisterRequest>>) -> Result<Response<Responses>, Status> {
        let peer = crate::peer::identity(&request)?;
        let registration = Registration {
            client: self.client.clone(),
            ttl: self.ttl,
            stop: self.stop.clone(),
            peer,
            requests: request.into_inner(),
            held: None,
        };
        let responses = stream::unfold(Some(registration), |registration| async {
            let mut registration = registration?;
            match registration.response().await {
                Ok(Some(response)) => Some((Ok(response), Some(registration))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(Response::new(Box::pin(responses)))
    }
}

/// What a stream has registered.
struct Held {
    resource: Resource,
    lease: LeaseId,
}

struct Registration {
    client: Client,
    ttl: Duration,
    stop: CancellationToken,
    peer: SpiffeId,
    requests: Streaming<RegisterRequest>,
    held: Option<Held>,
}

impl Registration {
    /// The answer to the next request; `None` when the stream ended in good order.
    async fn response(&mut self) -> Result<Option<RegisterResponse>, Status> {
        let next = self.stop.run_until_cancelled(self.requests.message()).await;
        let next = next.ok_or_else(|| Status::unavailable("the server is stopping"))?;
        let Some(request) = next? else {
            self.leave().await;
            return Ok(None);
        };
        let ttl = match (request.request, &self.held) {
            (Some(register_request::Request::Workload(workload)), _) => self.enter(workload).await?,
            (Some(register_request::Request::KeepAlive(_)), Some(_)) => self.renew().await?,
            (Some(register_request::Request::KeepAlive(_)), None) => {
                return Err(Status::failed_precondition("the first message registers the workload"));
            }
            (None, _) => return Err(Status::invalid_argument("an empty request")),
        };
        Ok(Some(RegisterResponse { ttl_seconds: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX) }))
    }

    async fn enter(&mut self, workload: Workload) -> Result<Duration, Status> {
        let own = (self.peer.namespace().as_str(), self.peer.service_account().as_str());
        if own != (&*workload.namespace, &*workload.service_account) {
            let text =
                format!("{} registers no workload of {}/{}", self.peer, workload.namespace, workload.service_account);
            return Err(Status::permission_denied(text));
        }
        let resource = resource(workload);
        if let Some(problem) = validate_workload(&resource).into_iter().next() {
            return Err(Status::invalid_argument(said(&problem)));
        }
        let earlier = self.held.take();
        let ttl = self.store(resource).await?;
        if let Some(earlier) = earlier
            && self.held.as_ref().is_some_and(|held| held.lease != earlier.lease)
        {
            self.revoke(earlier.lease).await;
        }
        Ok(ttl)
    }

    /// Puts the workload under a new lease.
    async fn store(&mut self, resource: Resource) -> Result<Duration, Status> {
        let granted = self.client.lease_grant(self.ttl, None).await.map_err(|error| status(&error))?;
        let stored = self.put(&resource, granted.id).await;
        if let Err(error) = stored {
            self.revoke(granted.id).await;
            return Err(error);
        }
        info!(peer = %self.peer, workload = %resource.id, lease = %granted.id, "workload registered");
        self.held = Some(Held { resource, lease: granted.id });
        Ok(granted.ttl)
    }

    /// Writes the key, unless it belongs to somebody else.
    async fn put(&self, resource: &Resource, lease: LeaseId) -> Result<(), Status> {
        let key = resource.id.key();
        for _ in 0..ATTEMPTS {
            let found = self.client.get(Get::key(key.clone())).await.map_err(|error| status(&error))?;
            let found = found.kvs.first();
            if let Some(kv) = found {
                let owner = Resource::from_json(&resource.id, &kv.value).ok();
                let owner = owner.as_ref().and_then(|owner| WorkloadEntry::of(&owner.spec));
                let is_ours = owner.is_some_and(|owner| owner.service_account == self.peer.service_account().as_str());
                if kv.lease.is_none() || !is_ours {
                    return Err(Status::already_exists(format!("{} exists and is not this workload's", resource.id)));
                }
            }
            let put = Op::Put(Put { lease: Some(lease), ..Put::new(key.clone(), resource.to_json()) });
            let seen = found.map_or(0, |kv| kv.mod_revision.get());
            let txn = Txn::new().when(Compare::mod_revision(key.clone()).equal(seen)).then(put);
            if self.client.txn(txn).await.map_err(|error| status(&error))?.succeeded {
                return Ok(());
            }
        }
        Err(Status::aborted("the registration kept changing meanwhile, try again"))
    }

    /// Renews the lease; one that ran out meanwhile is replaced, and the workload put back.
    async fn renew(&mut self) -> Result<Duration, Status> {
        let Some(held) = self.held.take() else { return Err(Status::internal("nothing is registered")) };
        match self.client.lease_keep_alive_once(held.lease).await {
            Ok(renewed) => {
                self.held = Some(held);
                Ok(renewed.ttl)
            }
            Err(ClientError::Refused { code: Code::NotFound, .. }) => {
                warn!(workload = %held.resource.id, lease = %held.lease, "a registration ran out, renewing it");
                self.store(held.resource).await
            }
            Err(error) => {
                self.held = Some(held);
                Err(status(&error))
            }
        }
    }

    async fn leave(&mut self) {
        if let Some(held) = self.held.take() {
            info!(peer = %self.peer, workload = %held.resource.id, "workload deregistered");
            self.revoke(held.lease).await;
        }
    }

    /// A lease that can not be revoked runs out by itself.
    async fn revoke(&self, lease: LeaseId) {
        if let Err(error) = self.client.lease_revoke(lease).await {
            warn!(%lease, %error, "a lease was not revoked and will run out");
        }
    }
}

fn said(problem: &Problem) -> String {
    format!("{}: {}", problem.field, problem.message)
}

fn resource(workload: Workload) -> Resource {
    let mut labels: BTreeMap<_, _> = workload.labels.into_iter().collect();
    labels.insert(TLS_MODE_LABEL.to_owned(), "istio".to_owned());
    let id = Id { kind: Kind::WorkloadEntry, namespace: workload.namespace, name: workload.name };
    let spec = WorkloadEntry {
        address: workload.address,
        ports: workload.ports.into_iter().collect(),
        labels: labels.clone(),
        service_account: workload.service_account,
        ..WorkloadEntry::default()
    };
    Resource { id, labels, annotations: BTreeMap::new(), spec: Spec::WorkloadEntry(spec) }
}

#[cfg(test)]
mod tests;
