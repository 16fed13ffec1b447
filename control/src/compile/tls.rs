//! mTLS inside the mesh, as both ends of a connection are told of it.
//!
//! - A client checks the server's SPIFFE ID, never its host name; a server checks that its client has one at all.
//! - Certificates come from the proxy's own secrets `default` and `ROOTCA`; none ever passes through the store.

use proto::envoy::{
    config::core::v3::TransportSocket,
    extensions::transport_sockets::{
        raw_buffer::v3::RawBuffer,
        tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
            SubjectAltNameMatcher, TlsParameters, UpstreamTlsContext,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            subject_alt_name_matcher::SanType,
            tls_parameters::TlsProtocol,
        },
    },
    r#type::matcher::v3::StringMatcher,
};
use types::TrustDomain;

use super::wire::{boolean, exactly, starting_with, transport_socket};
use crate::mesh::Protocol;

/// The proxy's own certificate and key.
const CERTIFICATE: &str = "default";
/// The roots that the proxy trusts.
const ROOTS: &str = "ROOTCA";

/// Whom a client accepts behind a cluster.
#[derive(Clone, Debug)]
pub(super) enum Accept {
    /// One of these identities, as URIs.
    OneOf(Vec<String>),
    /// Any identity whose URI starts so.
    Under(String),
}

/// The client's side.
pub(super) fn upstream(accept: &Accept, server_name: String, protocol: Protocol) -> TransportSocket {
    let names = match accept {
        Accept::OneOf(uris) => uris.iter().map(|uri| san(exactly(uri))).collect(),
        Accept::Under(prefix) => vec![san(starting_with(prefix))],
    };
    let alpn: &[&str] = match protocol {
        Protocol::Http2 | Protocol::Grpc => &["h2"],
        Protocol::Http | Protocol::Unknown => &["http/1.1"],
        Protocol::Tcp => &[],
    };
    let common_tls_context = Some(common(names, alpn));
    transport_socket(
        "envoy.transport_sockets.tls",
        &UpstreamTlsContext { common_tls_context, sni: server_name, ..Default::default() },
    )
}

/// The server's side: a client must show an identity of the trust domain.
pub(super) fn downstream(trust_domain: &TrustDomain, protocol: Protocol) -> TransportSocket {
    let alpn: &[&str] = if protocol.is_http() { &["h2", "http/1.1"] } else { &[] };
    let names = vec![san(starting_with(format!("spiffe://{trust_domain}/")))];
    let common_tls_context = Some(common(names, alpn));
    let context =
        DownstreamTlsContext { common_tls_context, require_client_certificate: boolean(true), ..Default::default() };
    transport_socket("envoy.transport_sockets.tls", &context)
}

/// No TLS at all.
pub(super) fn plain() -> TransportSocket {
    transport_socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}

fn common(names: Vec<SubjectAltNameMatcher>, alpn: &[&str]) -> CommonTlsContext {
    let validation = CertificateValidationContext { match_typed_subject_alt_names: names, ..Default::default() };
    let combined = CombinedCertificateValidationContext {
        default_validation_context: Some(validation),
        validation_context_sds_secret_config: Some(secret(ROOTS)),
        ..Default::default()
    };
    // Envoy's own maximum as a client is TLS 1.2.
    let tls_params = TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        ..Default::default()
    };
    CommonTlsContext {
        tls_params: Some(tls_params),
        tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE)],
        alpn_protocols: alpn.iter().map(|&protocol| protocol.to_owned()).collect(),
        validation_context_type: Some(ValidationContextType::CombinedValidationContext(combined)),
        ..Default::default()
    }
}

/// Without a source, a secret is one of the proxy's bootstrap.
fn secret(name: &str) -> SdsSecretConfig {
    SdsSecretConfig { name: name.to_owned(), sds_config: None }
}

fn san(matcher: StringMatcher) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher { san_type: SanType::Uri.into(), matcher: Some(matcher), ..Default::default() }
}
