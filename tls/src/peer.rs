//! Who a certificate says its bearer is.
//!
//! webpki checks the chain and the validity; what SPIFFE adds to that is checked here.
//! Source: SPIFFE X509-SVID, sections 2 to 5.

use rustls::pki_types::CertificateDer;
use types::{IdentityError, SpiffeId, TrustDomain};
use x509_parser::{
    certificate::X509Certificate,
    extensions::GeneralName,
    prelude::{FromDer, ParsedExtension},
};

/// Why a certificate does not prove the identity of a peer in the mesh.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// The peer showed nothing.
    #[error("no certificate")]
    Missing,
    /// Not strict DER, not X.509, or an extension twice.
    #[error("malformed certificate")]
    Malformed,
    /// Two URIs would be two identities.
    #[error("{0} URI names, exactly one is allowed")]
    UriNames(usize),
    /// The one URI is no workload's identity.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Only leaves prove identity.
    #[error("the certificate is an authority's")]
    Authority,
    /// The key may not sign handshakes, or may sign certificates.
    #[error("key usage must be present, allow digital signatures, and not allow signing certificates")]
    KeyUsage,
    /// Another trust domain, signed by our own root all the same.
    #[error("trust domain {found} is not ours, {ours}")]
    TrustDomain {
        /// The peer's.
        found: TrustDomain,
        /// The one whose roots we trust.
        ours: TrustDomain,
    },
    /// A genuine peer, but not the one that was meant.
    #[error("peer is {0}, which is not expected here")]
    Unexpected(SpiffeId),
}

/// The identity that a chain, leaf first, states. Checks the leaf's form, and neither signature nor validity:
/// give it chains whose handshake our verifier has passed.
pub fn peer_id(chain: &[CertificateDer<'_>]) -> Result<SpiffeId, PeerError> {
    leaf_id(&parse(chain.first().ok_or(PeerError::Missing)?)?)
}

/// Reads one certificate; bytes after its end are an error.
pub(crate) fn parse<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, PeerError> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(PeerError::Malformed),
    }
}

pub(crate) fn leaf_id(leaf: &X509Certificate<'_>) -> Result<SpiffeId, PeerError> {
    check_constraints(leaf)?;
    check_key_usage(leaf)?;
    Ok(SpiffeId::parse(one_uri(leaf)?)?)
}

/// The trust domain that an authority's certificate states in its one URI, `spiffe://TRUST_DOMAIN`.
pub(crate) fn authority_trust_domain(authority: &X509Certificate<'_>) -> Result<TrustDomain, PeerError> {
    let uri = one_uri(authority)?;
    let name = uri.strip_prefix("spiffe://").ok_or_else(|| IdentityError::SpiffeId(uri.to_owned()))?;
    Ok(TrustDomain::parse(name)?)
}

fn check_constraints(leaf: &X509Certificate<'_>) -> Result<(), PeerError> {
    let constraints = leaf.basic_constraints().map_err(|_| PeerError::Malformed)?;
    if constraints.is_some_and(|constraints| constraints.value.ca) { Err(PeerError::Authority) } else { Ok(()) }
}

fn check_key_usage(leaf: &X509Certificate<'_>) -> Result<(), PeerError> {
    let usage = leaf.key_usage().map_err(|_| PeerError::Malformed)?.ok_or(PeerError::KeyUsage)?.value;
    if usage.digital_signature() && !usage.key_cert_sign() && !usage.crl_sign() {
        Ok(())
    } else {
        Err(PeerError::KeyUsage)
    }
}

fn one_uri<'a>(certificate: &'a X509Certificate<'_>) -> Result<&'a str, PeerError> {
    // An extension that x509-parser could not read is kept as an error; it must not pass for an absent one.
    let unreadable = |extension: &ParsedExtension<'_>| matches!(extension, ParsedExtension::ParseError { .. });
    if certificate.iter_extensions().any(|extension| unreadable(extension.parsed_extension())) {
        return Err(PeerError::Malformed);
    }
    let names = certificate.subject_alternative_name().map_err(|_| PeerError::Malformed)?;
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let uris: Vec<_> = names.iter().filter_map(uri).collect();
    match uris[..] {
        [uri] => Ok(uri),
        _ => Err(PeerError::UriNames(uris.len())),
    }
}

fn uri<'a>(name: &GeneralName<'a>) -> Option<&'a str> {
    match name {
        GeneralName::URI(uri) => Some(uri),
        _ => None,
    }
}

/// The subject's common name of a chain's leaf; `None` if it has none, or an empty one.
pub(crate) fn common_name(chain: &[CertificateDer<'_>]) -> Option<String> {
    let (_, leaf) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    let name = leaf.subject().iter_common_name().next()?.as_str().ok()?.to_owned();
    Some(name).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Authority;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_are_refused(bytes in any::<Vec<u8>>()) {
            prop_assert!(peer_id(&[CertificateDer::from(bytes)]).is_err());
        }

        #[test]
        fn a_damaged_certificate_never_panics(at in any::<prop::sample::Index>(), byte: u8) {
            let (chain, _) = Authority::new("cluster.local").issue("a", |_| ()).der();
            let mut bytes = chain[0].to_vec();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _either = peer_id(&[CertificateDer::from(bytes)]);
        }
    }

    #[test]
    fn bytes_after_the_certificate_are_refused() {
        let (chain, _) = Authority::new("cluster.local").issue("a", |_| ()).der();
        assert!(peer_id(&chain).is_ok());
        let longer = [&chain[0][..], &[0]].concat();
        assert_eq!(peer_id(&[CertificateDer::from(longer)]), Err(PeerError::Malformed));
        assert_eq!(peer_id(&[]), Err(PeerError::Missing));
    }
}
