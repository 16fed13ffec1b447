//! The gate before every RPC.
//!
//! Owns: recognizing who asks, and turning away who may not ask at all.
//!
//! - While auth is disabled it costs one look at that.
//! - A service is offered to clients only through it: [`Gates`] is the only way to make one.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use engine::Workers;
use http::{Request, Response};
use store::{Actor, AuthRefusal};
use tonic::{
    Status,
    body::Body,
    codegen::{BoxFuture, Service},
    server::NamedService,
    service::Routes,
};

use super::{
    AuthConfig, Caller, KeyError, SimpleTokens,
    caller::Credential,
    passwords::Passwords,
    rules::{self, Rule},
    tokens::{Recognized, Tokens},
};
use crate::{
    core::Core,
    deadline::Deadline,
    led::{self, Led},
    status::{auth_refused, no_leader, not_for_learners},
};

/// How a member recognizes users.
#[derive(Debug)]
pub(crate) struct Authenticator {
    pub(super) tokens: Tokens,
    pub(super) passwords: Passwords,
    certificates_count: bool,
}

impl Authenticator {
    /// `workers`: where the work on passwords is done.
    pub(crate) fn new(config: &AuthConfig, simple: Arc<SimpleTokens>, workers: Workers) -> Result<Self, KeyError> {
        Ok(Self {
            tokens: Tokens::new(config, simple)?,
            passwords: Passwords::new(config.bcrypt_cost, workers),
            certificates_count: config.client_cert_auth,
        })
    }
}

impl Core {
    /// Who a caller is now: for streams, which outlive tokens and changes of users.
    pub(crate) async fn recognize_again(&self, caller: &Caller) -> Result<Actor, Status> {
        match caller {
            Caller::ControlPlane => Ok(Actor::Trusted),
            Caller::Client { credential, .. } => self.recognize(credential.as_ref()).await,
        }
    }

    /// Refuses who has no role `root`.
    pub(crate) fn require_root(&self, caller: &Caller) -> Result<(), Status> {
        self.view.auth().require_root(&caller.actor()).map_err(auth_refused)
    }

    async fn recognize(&self, credential: Option<&Credential>) -> Result<Actor, Status> {
        if !self.view.auth_is_enabled() {
            return Ok(Actor::Nobody);
        }
        let token = match credential {
            None => return Ok(Actor::Nobody),
            Some(Credential::CommonName(name)) => {
                return Ok(Actor::User { name: Arc::clone(name), revision: self.view.auth_revision() });
            }
            Some(Credential::Token(token)) => token,
        };
        let look = || {
            let applied = self.raft.status().applied_index;
            self.auth.tokens.recognize(token.text(), &self.view, applied).map_err(auth_refused)
        };
        if let Recognized::As(actor) = look()? {
            return Ok(actor);
        }
        // Given out by another member, whose login this one has yet to apply.
        self.confirm_read().await?;
        match look()? {
            Recognized::As(actor) => Ok(actor),
            Recognized::Later => Err(auth_refused(AuthRefusal::InvalidToken)),
        }
    }

    async fn admit(
        &self,
        rule: Rule,
        credential: Option<Credential>,
        until: Option<Deadline>,
    ) -> Result<Caller, Status> {
        let actor = match rule {
            Rule::Public | Rule::KeysOfEachMessage => Actor::Nobody,
            Rule::User | Rule::Keys | Rule::Root => self.recognize(credential.as_ref()).await?,
        };
        let auth = self.view.auth();
        let admitted = match rule {
            Rule::Keys if actor == Actor::Nobody && auth.is_enabled() => Err(AuthRefusal::UserEmpty),
            Rule::Public | Rule::Keys | Rule::KeysOfEachMessage => Ok(()),
            Rule::User => auth.require_user(&actor),
            Rule::Root => auth.require_root(&actor),
        };
        admitted.map_err(auth_refused)?;
        Ok(Caller::Client { actor, credential, until })
    }
}

/// Services behind the gate, for clients or for the member's own control plane.
pub(crate) struct Gates {
    core: Arc<Core>,
    side: Side,
    routes: Routes,
}

/// Who is on the other side of a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Clients,
    ControlPlane,
}

impl Gates {
    pub(crate) fn new(core: Arc<Core>, side: Side) -> Self {
        Self { core, side, routes: Routes::default() }
    }

    /// Offers a service.
    pub(crate) fn offer<S>(mut self, service: S) -> Self
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answering>
            + NamedService
            + Clone
            + Send
            + Sync
            + 'static,
    {
        let guarded = self.guard(service);
        self.routes = self.routes.add_service(guarded);
        self
    }

    /// A service behind the gate.
    pub(crate) fn guard<S>(&self, service: S) -> Gated<S> {
        Gated { core: Arc::clone(&self.core), side: self.side, service }
    }

    pub(crate) fn into_routes(self) -> Routes {
        self.routes
    }
}

type Answering = BoxFuture<Response<Body>, Infallible>;

/// One service behind the gate.
#[derive(Clone, Debug)]
pub(crate) struct Gated<S> {
    core: Arc<Core>,
    side: Side,
    service: S,
}

impl<S> Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answering>
        + Clone
        + Send
        + 'static,
{
    /// Why a request is not looked at by this member now, whoever asks.
    fn refusal(&self, request: &Request<Body>) -> Option<Status> {
        let raft = &self.core.raft;
        if raft.is_learner() && !rules::is_for_learners(request.uri().path()) {
            return Some(not_for_learners());
        }
        (led::is_wanted(request) && raft.status().leader.is_none()).then(no_leader)
    }

    /// Lets a client's request through that may pass.
    fn let_through(&mut self, mut request: Request<Body>) -> Answering {
        // Nobody else may have put a caller there.
        request.extensions_mut().remove::<Caller>();
        let credential = Credential::of(&mut request, self.core.auth.certificates_count);
        let until = request.extensions().get().copied();
        if !self.core.view.auth_is_enabled() {
            if credential.is_some() {
                request.extensions_mut().insert(Caller::Client { actor: Actor::Nobody, credential, until });
            }
            return self.service.call(request);
        }
        // The service that was polled is called; its clone is polled again.
        let mut service = self.service.clone();
        std::mem::swap(&mut service, &mut self.service);
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            match core.admit(rules::of(request.uri().path()), credential, until).await {
                Ok(caller) => {
                    request.extensions_mut().insert(caller);
                    service.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future = Answering>
        + Clone
        + Send
        + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Answering;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.service.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Answering {
        if self.side == Side::ControlPlane {
            request.extensions_mut().insert(Caller::ControlPlane);
            return self.service.call(request);
        }
        if let Some(refusal) = self.refusal(&request) {
            return Box::pin(async move { Ok(refusal.into_http()) });
        }
        if !led::is_wanted(&request) {
            return self.let_through(request);
        }
        let (core, answering) = (Arc::clone(&self.core), self.let_through(request));
        Box::pin(async move {
            let response = answering.await?;
            Ok(response.map(|body| Body::new(Led::new(body, core))))
        })
    }
}
