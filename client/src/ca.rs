//! Administration of the issuing authority.
//!
//! Its messages are those of `meshstore/ca.proto`, which documents them. The server demands the administrator's
//! certificate on a connection.

use crate::{Client, ClientError, transport::Repeat};
pub use proto::ca::IssuedCertificate;
use proto::ca::{
    CreateJoinTokenRequest, CreateJoinTokenResponse, ListIssuedRequest, ListIssuedResponse,
    certificate_authority_client::CertificateAuthorityClient,
};
use std::{fmt, time::Duration};
use types::{Namespace, ServiceAccount, SpiffeId};

/// A single-use secret by which a workload obtains its first certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The secret.
    pub token: String,
    /// The identity that its bearer is given.
    pub spiffe_id: SpiffeId,
    /// When it expires, Unix seconds.
    pub expires_at: i64,
}

/// Without the secret.
impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("spiffe_id", &self.spiffe_id)
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a join token for one workload identity. `ttl`: whole seconds; `None` takes the server's hour.
    ///
    /// # Errors
    /// [`ClientError::Denied`] unless the caller is the administrator.
    pub async fn create_join_token(
        &self,
        namespace: &Namespace,
        service_account: &ServiceAccount,
        ttl: Option<Duration>,
    ) -> Result<JoinToken, ClientError> {
        let request = CreateJoinTokenRequest {
            namespace: namespace.to_string(),
            service_account: service_account.to_string(),
            ttl_seconds: ttl.map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
        };
        let create = |link| {
            let request = request.clone();
            async move { CertificateAuthorityClient::new(link).create_join_token(request).await }
        };
        let made: CreateJoinTokenResponse = self.transport.call(Repeat::IfUnsent, create).await?;
        let spiffe_id =
            SpiffeId::parse(&made.spiffe_id).map_err(|_| ClientError::Protocol("a join token is for no identity"))?;
        Ok(JoinToken { token: made.token, spiffe_id, expires_at: made.expires_at })
    }

    /// The certificates that were issued and have not expired, newest first; at most `limit`, or the server's 100.
    ///
    /// # Errors
    /// [`ClientError::Denied`] unless the caller is the administrator.
    pub async fn list_issued(&self, limit: Option<u32>) -> Result<Vec<IssuedCertificate>, ClientError> {
        let limit = limit.map_or(0, i64::from);
        let list =
            |link| async move { CertificateAuthorityClient::new(link).list_issued(ListIssuedRequest { limit }).await };
        let response: ListIssuedResponse = self.transport.call(Repeat::Always, list).await?;
        Ok(response.certificates)
    }
}
