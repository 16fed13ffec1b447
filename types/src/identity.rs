//! Who a workload is: SPIFFE IDs in Istio's form.
//!
//! Source: the SPIFFE-ID standard, section 2; the path form `/ns/NAMESPACE/sa/ACCOUNT` is Istio's.

use std::{fmt, str::FromStr};

/// Longest SPIFFE ID that is read or made, bytes. Source: SPIFFE-ID, section 2.3.
const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// Longest trust domain, bytes. Source: SPIFFE-ID, section 2.1.
const TRUST_DOMAIN_BYTES_MAX: usize = 255;
/// Longest namespace or service account, bytes: a DNS label and a DNS subdomain, as in Kubernetes.
const NAMESPACE_BYTES_MAX: usize = 63;
const SERVICE_ACCOUNT_BYTES_MAX: usize = 253;

/// Why a text does not name an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Neither empty nor too long, and of the allowed characters only.
    #[error("trust domain {0:?} is not 1 to 255 characters of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// A DNS label.
    #[error(
        "namespace {0:?} is not a DNS label: 1 to 63 characters of a-z, 0-9 and '-', not starting or ending with '-'"
    )]
    Namespace(String),
    /// A DNS subdomain.
    #[error(
        "service account {0:?} is not a DNS name: 1 to 253 characters of a-z, 0-9, '-' and '.', starting and ending with a letter or digit"
    )]
    ServiceAccount(String),
    /// Not `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT`.
    #[error("{0:?} is not of the form spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT")]
    SpiffeId(String),
}

macro_rules! name_type {
    ($(#[$doc:meta])* $name:ident, $valid:path, $error:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// Checks the spelling; see the type.
            pub fn parse(text: &str) -> Result<Self, IdentityError> {
                if $valid(text) { Ok(Self(text.to_owned())) } else { Err($error(text.to_owned())) }
            }

            /// The name as it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdentityError;
            fn from_str(text: &str) -> Result<Self, IdentityError> {
                Self::parse(text)
            }
        }
    };
}

name_type!(
    /// The namespace of a cluster's identities: 1 to 255 characters of `a-z 0-9 . - _`.
    TrustDomain,
    is_trust_domain,
    IdentityError::TrustDomain
);
name_type!(
    /// A namespace of resources and workloads: a DNS label.
    Namespace,
    is_namespace,
    IdentityError::Namespace
);
name_type!(
    /// The account that a workload runs as: a DNS name.
    ServiceAccount,
    is_service_account,
    IdentityError::ServiceAccount
);

/// A workload's identity, `spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/SERVICE_ACCOUNT`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: Namespace,
    service_account: ServiceAccount,
}

impl SpiffeId {
    /// The identity of a service account; valid because its parts are.
    pub fn new(trust_domain: TrustDomain, namespace: Namespace, service_account: ServiceAccount) -> Self {
        Self { trust_domain, namespace, service_account }
    }

    /// Reads the URI form. Refuses every other path, so that two identities never share a spelling.
    pub fn parse(uri: &str) -> Result<Self, IdentityError> {
        let malformed = || IdentityError::SpiffeId(uri.chars().take(SPIFFE_ID_BYTES_MAX).collect());
        if uri.len() > SPIFFE_ID_BYTES_MAX {
            return Err(malformed());
        }
        let rest = uri.strip_prefix("spiffe://").ok_or_else(malformed)?;
        let mut parts = rest.split('/');
        let mut next = || parts.next().ok_or_else(malformed);
        let (trust_domain, ns, namespace, sa, account) = (next()?, next()?, next()?, next()?, next()?);
        if ns != "ns" || sa != "sa" || parts.next().is_some() {
            return Err(malformed());
        }
        Ok(Self::new(TrustDomain::parse(trust_domain)?, Namespace::parse(namespace)?, ServiceAccount::parse(account)?))
    }

    /// The trust domain that vouches for the identity.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The namespace it lives in.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// The account it runs as.
    pub fn service_account(&self) -> &ServiceAccount {
        &self.service_account
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.service_account)
    }
}

impl FromStr for SpiffeId {
    type Err = IdentityError;
    fn from_str(text: &str) -> Result<Self, IdentityError> {
        Self::parse(text)
    }
}

fn is_trust_domain(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-_".contains(&byte);
    (1..=TRUST_DOMAIN_BYTES_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

fn is_namespace(text: &str) -> bool {
    text.len() <= NAMESPACE_BYTES_MAX && is_dns_label(text)
}

fn is_service_account(text: &str) -> bool {
    text.len() <= SERVICE_ACCOUNT_BYTES_MAX && text.split('.').all(is_dns_label)
}

fn is_dns_label(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.bytes().all(allowed) && !text.starts_with('-') && !text.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SpiffeId::parse("spiffe://cluster.local/ns/default/sa/bookinfo-reviews").expect("valid");
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!(id.namespace().as_str(), "default");
        assert_eq!(id.service_account().as_str(), "bookinfo-reviews");
        assert_eq!(id.to_string(), "spiffe://cluster.local/ns/default/sa/bookinfo-reviews");
    }

    #[test]
    fn what_is_not_an_id_is_refused() {
        for uri in [
            "",
            "spiffe://",
            "spiffe://td",
            "spiffe://td/",
            "https://td/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "spiffe://TD/ns/a/sa/b",
            "spiffe://td:1/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/b/c",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe://td/ns/../sa/b",
            "spiffe://td/ns/a/sa/b?q",
            "spiffe://td/ns/a/sa/b#f",
            "spiffe://td/ns/%61/sa/b",
            "spiffe://u@td/ns/a/sa/b",
        ] {
            assert!(SpiffeId::parse(uri).is_err(), "{uri}");
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_to_itself_or_not_at_all(uri in "(spiffe://)?[a-z0-9./_-]{0,40}") {
            if let Ok(id) = SpiffeId::parse(&uri) {
                prop_assert_eq!(id.to_string(), uri);
            }
        }
    }
}
