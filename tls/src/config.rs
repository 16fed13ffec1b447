//! Configurations for `rustls` that read [`Credentials`] at each handshake.

use std::sync::{Arc, LazyLock};

use rustls::{
    ClientConfig, ServerConfig, SignatureScheme,
    client::{ResolvesClientCert, Resumption},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
    version::TLS13,
};

use crate::{Credentials, Expect, verifier::Verifier};

/// ALPN of gRPC and HTTP/2.
pub const H2: &[&[u8]] = &[b"h2"];

/// ALPN of servers that speak HTTP/1.1 too.
pub const H2_AND_HTTP1: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Whether a server asks its clients for a certificate. One that is shown is always checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// It does not ask.
    None,
    /// It asks; a client without one is served as nobody in particular.
    Optional,
    /// A client without one is refused.
    Required,
}

/// The cryptography that every configuration here uses.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));
    PROVIDER.clone()
}

/// For clients inside the mesh: shows our certificate if we have one, and accepts only the servers that `expect` names.
/// `alpn`: protocols in order of preference, none to offer none.
pub fn client_config(credentials: &Credentials, expect: Expect, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
        .dangerous()
        .with_custom_certificate_verifier(Verifier::of_servers(credentials, expect));
    finish_client(builder.with_client_cert_resolver(Arc::new(Ours(credentials.clone()))), alpn)
}

/// For servers inside the mesh: shows our certificate, and checks the clients' as `client_auth` says.
/// A handshake fails while the credentials hold no certificate.
pub fn server_config(credentials: &Credentials, client_auth: ClientAuth, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3 suites")
        .with_client_cert_verifier(Verifier::of_clients(credentials, client_auth));
    finish_server(builder.with_cert_resolver(Arc::new(Ours(credentials.clone()))), alpn)
}

pub(crate) fn finish_client(mut config: ClientConfig, alpn: &[&[u8]]) -> Arc<ClientConfig> {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

pub(crate) fn finish_server(mut config: ServerConfig, alpn: &[&[u8]]) -> Arc<ServerConfig> {
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// Shows the certificate that the credentials hold at the moment.
#[derive(Debug)]
struct Ours(Credentials);

impl Ours {
    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.0.state().svid.as_ref().map(|svid| svid.certified.clone())
    }
}

impl ResolvesServerCert for Ours {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for Ours {
    fn resolve(&self, _root_hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }

    /// Always, so that a certificate obtained later is shown without a new configuration.
    fn has_certs(&self) -> bool {
        true
    }
}
