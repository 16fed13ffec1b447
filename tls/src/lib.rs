//! TLS: our certificate shown, the peer's SPIFFE ID checked, both replaced live.
//!
//! Owns: credentials in memory, the verifier of peers, and the two ends of a TLS connection.
//! In:   certificates, keys and roots, as PEM or DER; sockets.
//! Out:  configurations for `rustls`, connections that know their peer.
//!
//! - Inside the mesh a peer is who its certificate's one URI says, within our trust domain; host names mean nothing.
//! - Credentials are read at each handshake: replacing them needs no new configuration and no restart.
//! - Each connection is a full handshake: no session is resumed, so none outlives the roots it was checked against.
//! - TLS 1.3 only, with the aws-lc provider passed explicitly; the process-wide default is neither read nor set.
//! - A key is never printed: `Debug` shows who the credentials are for, and errors name files, not their content.
//!
//! Envoy as a client offers TLS 1.2 at most unless its `tls_params` raise `tls_maximum_protocol_version` to `TLSv1_3`.

mod bundle;
mod config;
mod connector;
mod credentials;
mod error;
mod incoming;
mod peer;
mod pem;
mod pinned;
mod policy;
mod stream;
mod svid;
mod verifier;
pub mod web;

pub use bundle::TrustBundle;
pub use config::{ClientAuth, H2, H2_AND_HTTP1, client_config, provider, server_config};
pub use connector::{ClientStream, Connector, ConnectorError};
pub use credentials::Credentials;
pub use error::CredentialsError;
pub use incoming::{Incoming, Limits, Security, Turn, Turns};
pub use peer::{PeerError, peer_id};
pub use pem::{certificate_pem, private_key_pem, write_private};
pub use pinned::{AuthorityHash, pinned_client_config};
pub use policy::{Policy, Version};
pub use stream::{Connection, PeerInfo};
pub use svid::{Svid, Validity};
pub use verifier::Expect;

#[cfg(test)]
mod testing;
