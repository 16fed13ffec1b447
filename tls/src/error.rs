//! Why credentials cannot be used.

use std::{
    io,
    path::{Path, PathBuf},
};

use types::TrustDomain;

use crate::PeerError;

/// Why credentials were refused. What was in use before stays in use.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// The file is missing or unreadable.
    #[error("cannot read {path}: {source}")]
    Read {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What was made could not be kept.
    #[error("cannot write to {path}: {source}")]
    Write {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    SelfSigned(String),
    /// A key that others on the machine may read is no secret.
    #[error("{path} has mode {mode:03o}: others may read it; set it to 600")]
    KeyMode {
        /// The key's file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The text is not what its place demands.
    #[error("{origin}: {problem}")]
    Pem {
        /// The file, or what the text was given as.
        origin: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A root certificate that webpki cannot use, or whose trust domain is not stated.
    #[error("unusable root certificate: {0}")]
    Root(String),
    /// The certificate is not one that a peer in the mesh would accept.
    #[error("unusable certificate: {0}")]
    Leaf(#[from] PeerError),
    /// The key is of a kind that cannot sign handshakes, or does not belong to the certificate.
    #[error("unusable private key: {0}")]
    Key(&'static str),
    /// What a server is to speak makes no sense.
    #[error("{0}")]
    Policy(String),
    /// Certificate and roots, or the roots among themselves, disagree.
    #[error("trust domain {found} where {expected} is expected")]
    TrustDomain {
        /// What the certificate says.
        found: TrustDomain,
        /// What the roots say.
        expected: TrustDomain,
    },
}

impl CredentialsError {
    /// The file that is to blame, where it is one alone.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. } | Self::Write { path, .. } | Self::KeyMode { path, .. } => Some(path),
            Self::Pem { origin, .. } => Some(Path::new(origin)),
            Self::SelfSigned(_)
            | Self::Root(_)
            | Self::Leaf(_)
            | Self::Key(_)
            | Self::Policy(_)
            | Self::TrustDomain { .. } => None,
        }
    }
}
