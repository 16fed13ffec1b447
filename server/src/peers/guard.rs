//! The gate of the peer port.
//!
//! - Each request is marked with the member whose certificate its connection has shown; services hold it against what the
//!   request says of itself.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use http::{Request, Response};
use raft::{ClusterId, MemberId, Sender};
use tls::PeerInfo;
use tonic::{Status, body::Body, codegen::Service, server::NamedService};

use super::{PeerSecurity, Traffic, name, traffic::counted};

/// A service of the peer port behind its gate.
#[derive(Clone, Debug)]
pub(crate) struct Guarded<S> {
    known_by: KnownBy,
    traffic: Arc<Traffic>,
    service: S,
}

/// What a certificate says.
#[derive(Clone, Copy, Debug)]
enum KnownBy {
    /// Which member of this cluster shows it.
    Name(ClusterId),
    /// That a member shows it.
    Authority,
}

impl<S> Guarded<S> {
    pub(crate) fn new(security: &PeerSecurity, traffic: &Arc<Traffic>, service: S) -> Self {
        let known_by = match security {
            PeerSecurity::Own { cluster, .. } => KnownBy::Name(*cluster),
            PeerSecurity::Files(_) => KnownBy::Authority,
        };
        Self { known_by, traffic: Arc::clone(traffic), service }
    }
}

impl KnownBy {
    /// Who asks, as far as the certificate says; an error is nobody who may ask anything here.
    fn sender(self, peer: Option<&PeerInfo>) -> Result<Option<Sender>, Status> {
        let refused = || Status::permission_denied("not a member of this cluster");
        let peer = peer.ok_or_else(refused)?;
        match self {
            Self::Name(cluster) => {
                let member = peer.spiffe_id.as_ref().and_then(|id| name::member(cluster, id));
                member.map(|member| Some(Sender(member))).ok_or_else(refused)
            }
            Self::Authority => Ok(None),
        }
    }
}

impl<S: NamedService> NamedService for Guarded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = tonic::codegen::BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.known_by.sender(request.extensions().get()) {
            Ok(sender) => {
                // Nobody else may have put one there.
                request.extensions_mut().remove::<Sender>();
                if let Some(sender) = sender {
                    request.extensions_mut().insert(sender);
                }
                let counts = self.traffic.with(sender.map_or(MemberId(0), |Sender(member)| member));
                let received = Arc::clone(&counts);
                let request = request.map(|body| counted(body, received, |counts| &counts.received_bytes));
                let answered = self.service.call(request);
                Box::pin(
                    async move { Ok(answered.await?.map(|body| counted(body, counts, |counts| &counts.sent_bytes))) },
                )
            }
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}

#[cfg(test)]
mod tests {
    use types::SpiffeId;

    use super::*;

    #[test]
    fn a_certificate_is_one_members_of_one_cluster() {
        let shown =
            |id: Option<SpiffeId>| PeerInfo { addr: ([127, 0, 0, 1], 1).into(), spiffe_id: id, common_name: None };
        let (ours, theirs) = (ClusterId(1), ClusterId(2));
        let sender = |known_by: KnownBy, id| known_by.sender(Some(&shown(id))).ok();
        let member = MemberId(7);
        let workload = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/0000000000000007").expect("an identity");
        assert_eq!(sender(KnownBy::Name(ours), Some(name::identity(ours, member))), Some(Some(Sender(member))));
        assert_eq!(sender(KnownBy::Name(ours), Some(name::identity(theirs, member))), None);
        assert_eq!(sender(KnownBy::Name(ours), Some(workload)), None);
        assert_eq!(sender(KnownBy::Name(ours), None), None);
        assert_eq!(sender(KnownBy::Authority, None), Some(None));
        assert!(KnownBy::Authority.sender(None).is_err(), "a connection that nobody has looked at");
    }
}
