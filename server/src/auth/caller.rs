//! On whose behalf a request is handled.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use http::{HeaderMap, Request as HttpRequest};
use store::Actor;
use tls::PeerInfo;
use tonic::Request;

use crate::deadline::Deadline;

/// Where gRPC clients carry their token, and where HTTP clients do. Source: etcd `rpctypes/metadatafields.go`.
const TOKEN_FIELDS: [&str; 2] = ["token", "authorization"];
/// Set by a gateway that speaks for others: the certificate is its own, and not theirs.
const GATEWAY_FIELD: &str = "grpcgateway-accept";
/// Longest token that is looked at, bytes: more than a JWT of a 4096-bit RSA key has.
const TOKEN_BYTES_MAX: usize = 8 << 10;

/// Who stands behind a request.
#[derive(Clone, Debug)]
pub(crate) enum Caller {
    /// The member's own control plane, which has authenticated whoever it acts for; and the member itself.
    ControlPlane,
    /// Whoever reaches the client port.
    Client {
        /// Who they are, as the gate recognized them.
        actor: Actor,
        /// What they showed, for streams that recognize them anew.
        credential: Option<Credential>,
        /// How long they wait for this call.
        until: Option<Deadline>,
    },
}

impl Caller {
    /// The caller that the gate put beside a request; who did not pass a gate is nobody.
    pub(crate) fn of<T>(request: &Request<T>) -> Self {
        let caller = request.extensions().get().cloned();
        caller.unwrap_or_else(|| {
            let until = request.extensions().get().copied();
            Self::Client { actor: Actor::Nobody, credential: None, until }
        })
    }

    /// On whose behalf its commands and reads run.
    pub(crate) fn actor(&self) -> Actor {
        match self {
            Self::ControlPlane => Actor::Trusted,
            Self::Client { actor, .. } => actor.clone(),
        }
    }

    /// When the call is dropped that it makes.
    pub(crate) fn until(&self) -> Option<Deadline> {
        match self {
            Self::ControlPlane => None,
            Self::Client { until, .. } => *until,
        }
    }

    /// For what goes on when the call has ended.
    pub(crate) fn forget_deadline(&mut self) {
        if let Self::Client { until, .. } = self {
            *until = None;
        }
    }

    pub(crate) fn is_client(&self) -> bool {
        matches!(self, Self::Client { .. })
    }
}

/// What a client shows to be recognized.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    /// What it was given for its password.
    Token(Token),
    /// The common name of its certificate, which the listener has verified.
    CommonName(Arc<str>),
}

impl Credential {
    /// What a request shows; a token counts before a certificate. Whatever shows a token is not shown by `Debug` after.
    pub(crate) fn of<B>(request: &mut HttpRequest<B>, certificates_count: bool) -> Option<Self> {
        if let Some(token) = Token::of(request.headers_mut()) {
            return Some(Self::Token(token));
        }
        if !certificates_count || request.headers().contains_key(GATEWAY_FIELD) {
            return None;
        }
        let peer = request.extensions().get::<PeerInfo>()?;
        peer.common_name.clone().map(Self::CommonName)
    }
}

/// A token, shown by `Debug` as a fingerprint only.
#[derive(Clone)]
pub(crate) struct Token(Arc<str>);

impl Token {
    fn of(headers: &mut HeaderMap) -> Option<Self> {
        for field in TOKEN_FIELDS {
            headers.get_mut(field).into_iter().for_each(|value| value.set_sensitive(true));
        }
        let value = TOKEN_FIELDS.into_iter().find_map(|field| headers.get(field))?;
        // What is no token of ours at all is one that nobody has, which is refused as such.
        let text = value.to_str().ok().filter(|text| text.len() <= TOKEN_BYTES_MAX).unwrap_or_default();
        Some(Self(text.strip_prefix("Bearer ").unwrap_or(text).into()))
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(")?;
        let fingerprint = digest(&SHA256, self.0.as_bytes());
        fingerprint.as_ref().iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(fields: &[(&str, &str)], common_name: Option<&str>) -> Option<Credential> {
        let mut request = HttpRequest::new(());
        for (field, value) in fields {
            let field: http::HeaderName = field.parse().expect("a field");
            request.headers_mut().insert(field, value.parse().expect("a value"));
        }
        let addr = ([127, 0, 0, 1], 1).into();
        let common_name = common_name.map(Into::into);
        request.extensions_mut().insert(PeerInfo { addr, spiffe_id: None, common_name });
        let credential = Credential::of(&mut request, true);
        for (field, value) in fields.iter().filter(|(field, _)| TOKEN_FIELDS.contains(field)) {
            let debug = format!("{:?} {credential:?}", request.headers().get(*field));
            assert!(!debug.contains(value) && credential.is_some(), "{debug}");
        }
        credential
    }

    #[test]
    fn a_token_counts_before_a_certificate_and_a_gateways_certificate_does_not() {
        let text = |credential: Option<Credential>| match credential {
            Some(Credential::Token(token)) => format!("token {}", token.text()),
            Some(Credential::CommonName(name)) => format!("name {name}"),
            None => "nothing".to_owned(),
        };
        assert_eq!(text(shown(&[("token", "aa.1")], Some("cn"))), "token aa.1");
        assert_eq!(text(shown(&[("authorization", "bb.2")], None)), "token bb.2");
        assert_eq!(text(shown(&[("authorization", "Bearer cc.3")], None)), "token cc.3");
        assert_eq!(text(shown(&[("token", "aa.1"), ("authorization", "bb.2")], None)), "token aa.1");
        assert_eq!(text(shown(&[], Some("cn"))), "name cn");
        assert_eq!(text(shown(&[("grpcgateway-accept", "*/*")], Some("cn"))), "nothing");
        assert_eq!(text(shown(&[], None)), "nothing");
        assert_eq!(text(shown(&[("token", &"x".repeat(TOKEN_BYTES_MAX + 1))], None)), "token ");
        let mut plain = HttpRequest::new(());
        assert!(Credential::of(&mut plain, true).is_none());
    }

    #[test]
    fn who_passed_no_gate_is_nobody() {
        assert_eq!(Caller::of(&Request::new(())).actor(), Actor::Nobody);
    }
}
