//! TLS contexts: whose certificates, shown by whom.
//!
//! - The only certificate is the proxy's own (`default`) and the only roots are the mesh's (`ROOTCA`): both are static
//!   secrets of the bootstrap. A context that names another is refused.

use std::mem;

use proto::envoy::{
    config::core::v3::{TransportSocket, transport_socket::ConfigType},
    extensions::transport_sockets::{
        raw_buffer::v3::RawBuffer,
        tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, UpstreamTlsContext,
            common_tls_context::ValidationContextType, subject_alt_name_matcher::SanType,
        },
    },
    r#type::matcher::v3::string_matcher::MatchPattern,
};
use types::SpiffeId;

use super::wire::{Invalid, flag, nothing_left, unpack};

const OWN_CERTIFICATE: &str = "default";
const MESH_ROOTS: &str = "ROOTCA";

/// How an endpoint is spoken to below HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Plain,
    Tls(UpstreamTls),
}

/// Mutual TLS towards an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct UpstreamTls {
    pub(crate) sni: Option<String>,
    /// Who may answer.
    pub(crate) peers: Peers,
    pub(crate) alpn: Vec<Vec<u8>>,
}

/// TLS towards a client.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DownstreamTls {
    pub(crate) require_client_certificate: bool,
    /// Who may connect, of those that show a certificate.
    pub(crate) peers: Peers,
    pub(crate) alpn: Vec<Vec<u8>>,
}

/// Which identities of the trust domain are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Peers {
    Any,
    OneOf(Vec<SpiffeId>),
    /// Those whose URI begins so.
    Under(String),
}

impl Peers {
    pub(crate) fn accept(&self, peer: &SpiffeId) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(peers) => peers.contains(peer),
            Self::Under(prefix) => peer.to_string().starts_with(prefix),
        }
    }
}

/// Reads an upstream transport socket.
pub(crate) fn upstream(mut socket: TransportSocket) -> Result<Transport, Invalid> {
    let Some(ConfigType::TypedConfig(config)) = socket.config_type.take() else {
        return match socket.name.as_str() {
            "envoy.transport_sockets.raw_buffer" => Ok(Transport::Plain),
            name => Err(Invalid::Unsupported(format!("transport socket {name:?}"))),
        };
    };
    if unpack::<RawBuffer>(&config).is_ok() {
        return Ok(Transport::Plain);
    }
    let mut context: UpstreamTlsContext = unpack(&config)?;
    let (alpn, peers) = common(context.common_tls_context.take().ok_or(Invalid::Missing("common_tls_context"))?)?;
    let sni = Some(mem::take(&mut context.sni)).filter(|sni| !sni.is_empty());
    nothing_left(&context)?;
    Ok(Transport::Tls(UpstreamTls { sni, peers, alpn }))
}

/// Reads a downstream transport socket; `None` is plain text.
pub(crate) fn downstream(socket: Option<TransportSocket>) -> Result<Option<DownstreamTls>, Invalid> {
    let Some(mut socket) = socket else { return Ok(None) };
    let Some(ConfigType::TypedConfig(config)) = socket.config_type.take() else {
        return match socket.name.as_str() {
            "envoy.transport_sockets.raw_buffer" => Ok(None),
            name => Err(Invalid::Unsupported(format!("transport socket {name:?}"))),
        };
    };
    if unpack::<RawBuffer>(&config).is_ok() {
        return Ok(None);
    }
    let mut context: DownstreamTlsContext = unpack(&config)?;
    let (alpn, peers) = common(context.common_tls_context.take().ok_or(Invalid::Missing("common_tls_context"))?)?;
    let require_client_certificate = flag(context.require_client_certificate.take());
    nothing_left(&context)?;
    Ok(Some(DownstreamTls { require_client_certificate, peers, alpn }))
}

fn common(mut wire: CommonTlsContext) -> Result<(Vec<Vec<u8>>, Peers), Invalid> {
    let alpn = mem::take(&mut wire.alpn_protocols).into_iter().map(String::into_bytes).collect();
    if let Some(mut parameters) = wire.tls_params.take() {
        // TLS 1.3 is what is spoken; a context must allow it.
        if matches!(mem::take(&mut parameters.tls_minimum_protocol_version), 0 | 3 | 4)
            && matches!(mem::take(&mut parameters.tls_maximum_protocol_version), 0 | 4)
        {
            nothing_left(&parameters)?;
        } else {
            return Err(Invalid::Unsupported("TlsParameters without TLS 1.3".to_owned()));
        }
    }
    for secret in mem::take(&mut wire.tls_certificate_sds_secret_configs) {
        static_secret(&secret, OWN_CERTIFICATE)?;
    }
    let peers = match wire.validation_context_type.take() {
        None => Peers::Any,
        Some(ValidationContextType::ValidationContextSdsSecretConfig(secret)) => {
            static_secret(&secret, MESH_ROOTS)?;
            Peers::Any
        }
        Some(ValidationContextType::CombinedValidationContext(mut combined)) => {
            let secret = combined.validation_context_sds_secret_config.take();
            static_secret(&secret.ok_or(Invalid::Missing("validation_context_sds_secret_config"))?, MESH_ROOTS)?;
            let peers = peers(combined.default_validation_context.take().unwrap_or_default())?;
            nothing_left(&combined)?;
            peers
        }
        Some(_) => return Err(Invalid::Unsupported("a validation context other than ROOTCA".to_owned())),
    };
    nothing_left(&wire)?;
    Ok((alpn, peers))
}

fn static_secret(secret: &SdsSecretConfig, expected: &str) -> Result<(), Invalid> {
    match (&secret.sds_config, secret.name == expected) {
        (None, true) => Ok(()),
        (Some(_), _) => Err(Invalid::Unsupported(format!("secret {:?} by SDS", secret.name))),
        (None, false) => Err(Invalid::Unsupported(format!("secret {:?} where {expected:?} belongs", secret.name))),
    }
}

fn peers(mut wire: CertificateValidationContext) -> Result<Peers, Invalid> {
    let (mut exact, mut prefixes) = (Vec::new(), Vec::new());
    for name in mem::take(&mut wire.match_typed_subject_alt_names) {
        let pattern = name.matcher.and_then(|matcher| matcher.match_pattern);
        match pattern.filter(|_| name.san_type == i32::from(SanType::Uri)) {
            Some(MatchPattern::Exact(uri)) => {
                let id = SpiffeId::parse(&uri).map_err(|error| Invalid::bad("match_typed_subject_alt_names", error))?;
                exact.push(id);
            }
            Some(MatchPattern::Prefix(prefix)) => prefixes.push(prefix),
            _ => return Err(Invalid::Unsupported("a subject alternative name other than a URI".to_owned())),
        }
    }
    nothing_left(&wire)?;
    exact.sort();
    exact.dedup();
    match (exact.is_empty(), prefixes.pop()) {
        (true, None) => Ok(Peers::Any),
        (false, None) => Ok(Peers::OneOf(exact)),
        (true, Some(prefix)) if prefixes.is_empty() => Ok(Peers::Under(prefix)),
        _ => Err(Invalid::Unsupported("more than one prefix of subject alternative names".to_owned())),
    }
}
