//! The gRPC faces: Istio's CSR service, and the administration of the authority.
//!
//! - Who a caller is comes from its join token, or from the certificate that its connection proved; nothing else.
//! - Administration is for the administrator's identity alone.
//! - What a refused caller is told does not say which part of its proof was wrong.

use std::{sync::Arc, time::Duration};

use proto::{
    ca::{
        CreateJoinTokenRequest, CreateJoinTokenResponse, IssuedCertificate, ListIssuedRequest, ListIssuedResponse,
        certificate_authority_server::{CertificateAuthority, CertificateAuthorityServer},
    },
    istio_ca::{
        IstioCertificateRequest, IstioCertificateResponse,
        istio_certificate_service_server::{IstioCertificateService, IstioCertificateServiceServer},
    },
};
use tls::PeerInfo;
use tonic::{Request, Response, Status};
use tracing::info;
use types::{Namespace, ServiceAccount, SpiffeId};

use crate::{
    authority::SignError,
    csr::CSR_BYTES_MAX,
    issuer::{IssueError, Issuer},
    ledger::{IssuedRecord, Refusal},
    log::LogError,
    profile,
    token::JoinToken,
};

/// Longest message that is read: a request for a certificate, and room for Istio's metadata.
const MESSAGE_BYTES_MAX: usize = 2 * CSR_BYTES_MAX;
/// Rows listed if the caller does not say, and at most.
const LIST_DEFAULT: usize = 100;
const LIST_MAX: usize = 1000;
/// Istio's ztunnel asks by this for identities other than its own, which is not offered.
const IMPERSONATED: &str = "ImpersonatedIdentity";

/// Istio's CSR service, for join tokens and renewals.
pub fn issuing_face(issuer: Arc<Issuer>) -> IstioCertificateServiceServer<impl IstioCertificateService> {
    IstioCertificateServiceServer::new(Issuing(issuer)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

/// The administration of the authority.
pub fn admin_face(issuer: Arc<Issuer>) -> CertificateAuthorityServer<impl CertificateAuthority> {
    CertificateAuthorityServer::new(Admin(issuer)).max_decoding_message_size(MESSAGE_BYTES_MAX)
}

struct Issuing(Arc<Issuer>);

#[tonic::async_trait]
impl IstioCertificateService for Issuing {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let token = bearer_token(&request)?;
        let peer = peer_id(&request);
        let IstioCertificateRequest { csr, validity_duration, metadata } = request.into_inner();
        if metadata.is_some_and(|metadata| metadata.fields.contains_key(IMPERSONATED)) {
            return Err(Status::permission_denied("certificates are issued to the caller's own identity only"));
        }
        let ttl = u64::try_from(validity_duration).ok().filter(|&asked| asked > 0).map(Duration::from_secs);
        let issued = match (token, peer) {
            (Some(token), _) => self.0.join(&token, csr, ttl).await,
            (None, Some(id)) => self.0.renew(id, csr, ttl).await,
            (None, None) => return Err(Status::unauthenticated("a join token or a client certificate is required")),
        };
        let cert_chain = issued.map_err(status)?.chain_pem();
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

struct Admin(Arc<Issuer>);

#[tonic::async_trait]
impl CertificateAuthority for Admin {
    async fn create_join_token(
        &self,
        request: Request<CreateJoinTokenRequest>,
    ) -> Result<Response<CreateJoinTokenResponse>, Status> {
        self.require_admin(&request)?;
        let CreateJoinTokenRequest { namespace, service_account, ttl_seconds } = request.into_inner();
        let invalid = |error: types::IdentityError| Status::invalid_argument(error.to_string());
        let namespace = Namespace::parse(&namespace).map_err(invalid)?;
        let service_account = ServiceAccount::parse(&service_account).map_err(invalid)?;
        let ttl = match u64::try_from(ttl_seconds) {
            Ok(0) => None,
            Ok(asked) => Some(Duration::from_secs(asked)),
            Err(_) => return Err(Status::invalid_argument("ttl_seconds is negative")),
        };
        let made = self.0.create_token(namespace, service_account, ttl).await;
        let (token, spiffe_id, expires) = made.map_err(status)?;
        Ok(Response::new(CreateJoinTokenResponse {
            token: token.reveal().to_owned(),
            spiffe_id: spiffe_id.to_string(),
            expires_at: expires.to_wire(),
        }))
    }

    async fn list_issued(&self, request: Request<ListIssuedRequest>) -> Result<Response<ListIssuedResponse>, Status> {
        self.require_admin(&request)?;
        let limit = match usize::try_from(request.get_ref().limit) {
            Ok(0) => LIST_DEFAULT,
            Ok(asked) => asked.min(LIST_MAX),
            Err(_) => return Err(Status::invalid_argument("limit is negative")),
        };
        let ledger = self.0.ledger().clone();
        let records = tokio::task::spawn_blocking(move || ledger.latest(limit)).await;
        let records = records.map_err(|_| status(IssueError::Cut))?.map_err(|error| status(error.into()))?;
        Ok(Response::new(ListIssuedResponse { certificates: records.iter().map(listed).collect() }))
    }
}

impl Admin {
    fn require_admin<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let peer = peer_id(request).ok_or_else(|| Status::unauthenticated("a client certificate is required"))?;
        let admin = Issuer::admin_id(&self.0.trust_domain().map_err(status)?);
        if peer == admin {
            return Ok(());
        }
        info!(spiffe_id = %peer, "administration of the authority refused");
        Err(Status::permission_denied("only the cluster's administrator may do this"))
    }
}

fn listed(record: &IssuedRecord) -> IssuedCertificate {
    IssuedCertificate {
        serial: profile::hex(&record.serial),
        spiffe_id: record.spiffe_id.to_string(),
        log_index: record.log_index,
        not_before: record.not_before.to_wire(),
        not_after: record.not_after.to_wire(),
    }
}

/// The identity that the connection has proven.
fn peer_id<T>(request: &Request<T>) -> Option<SpiffeId> {
    request.extensions().get::<PeerInfo>()?.spiffe_id.clone()
}

/// The join token, if the caller sends one; what is sent in its place and is none is refused.
fn bearer_token<T>(request: &Request<T>) -> Result<Option<JoinToken>, Status> {
    let Some(value) = request.metadata().get("authorization") else { return Ok(None) };
    let text = value.to_str().ok().and_then(|value| value.strip_prefix("Bearer "));
    text.and_then(JoinToken::parse).map(Some).ok_or_else(|| status(IssueError::Unauthenticated))
}

/// What a caller is told. The causes that are ours are logged here, as they go no further.
fn status(error: IssueError) -> Status {
    match error {
        IssueError::Csr(error) => Status::invalid_argument(error.to_string()),
        IssueError::Invalid(text) => Status::invalid_argument(text),
        IssueError::Unauthenticated => Status::unauthenticated(error.to_string()),
        IssueError::Busy | IssueError::Log(LogError::Busy) => Status::resource_exhausted(error.to_string()),
        IssueError::Log(LogError::Unavailable(_)) | IssueError::Sign(SignError::NotOurKey) => {
            Status::unavailable(error.to_string())
        }
        IssueError::Refused(refusal) => refused(&refusal),
        IssueError::Sign(_) | IssueError::Ledger(_) | IssueError::Authority(_) | IssueError::Cut => {
            tracing::error!(%error, "cannot issue certificates");
            Status::internal("the authority failed; its log says why")
        }
    }
}

fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::TokenUnknown | Refusal::TokenExpired | Refusal::TokenUsed => {
            info!(reason = %refusal, "join token refused");
            status(IssueError::Unauthenticated)
        }
        Refusal::IdentityNotAllowed(_) | Refusal::NamesNotAllowed => Status::permission_denied(refusal.to_string()),
        Refusal::Malformed(_) => Status::invalid_argument(refusal.to_string()),
        Refusal::NotFounded
        | Refusal::ClockAhead { .. }
        | Refusal::WrongIssuer
        | Refusal::SerialTaken
        | Refusal::TokenExists => Status::unavailable(refusal.to_string()),
        Refusal::Founded | Refusal::IssuerExpires(_) => Status::failed_precondition(refusal.to_string()),
    }
}

#[cfg(test)]
mod tests;
