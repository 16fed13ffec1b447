//! What we show and whom we trust, replaceable while in use.

use std::{fmt, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use types::{SpiffeId, TrustDomain};

use crate::{CredentialsError, Svid, TrustBundle};

/// Our certificate, if we have one yet, and the roots that we trust. A clone shares: a replacement through one is
/// seen by all, and by every configuration made from them, at their next handshake.
#[derive(Clone)]
pub struct Credentials(Arc<ArcSwap<State>>);

pub(crate) struct State {
    pub(crate) bundle: TrustBundle,
    pub(crate) svid: Option<Svid>,
}

impl State {
    fn new(bundle: TrustBundle, svid: Option<Svid>) -> Result<Self, CredentialsError> {
        if let Some(svid) = &svid {
            let (found, expected) = (svid.id().trust_domain(), bundle.trust_domain());
            if found != expected {
                return Err(CredentialsError::TrustDomain { found: found.clone(), expected: expected.clone() });
            }
        }
        Ok(Self { bundle, svid })
    }
}

impl Credentials {
    /// Credentials of a member of the bundle's trust domain; without `svid`, of one that can only check others.
    pub fn new(bundle: TrustBundle, svid: Option<Svid>) -> Result<Self, CredentialsError> {
        Ok(Self(Arc::new(ArcSwap::from_pointee(State::new(bundle, svid)?))))
    }

    /// Reads PEM files: our chain and key, and the roots.
    pub fn from_files(chain: &Path, key: &Path, roots: &Path) -> Result<Self, CredentialsError> {
        Self::new(TrustBundle::from_file(roots)?, Some(Svid::from_files(chain, key)?))
    }

    /// Puts others in their place from the next handshake on. Connections that exist are left alone.
    ///
    /// # Errors
    /// [`CredentialsError::TrustDomain`] if `svid` is not of the bundle's trust domain; nothing is replaced then.
    pub fn replace(&self, bundle: TrustBundle, svid: Option<Svid>) -> Result<(), CredentialsError> {
        self.0.store(Arc::new(State::new(bundle, svid)?));
        Ok(())
    }

    /// Who we are, once we have a certificate.
    pub fn id(&self) -> Option<SpiffeId> {
        self.svid().map(|svid| svid.id().clone())
    }

    /// The certificate that we show now.
    pub fn svid(&self) -> Option<Svid> {
        self.0.load().svid.clone()
    }

    /// The roots that we trust now.
    pub fn bundle(&self) -> TrustBundle {
        self.0.load().bundle.clone()
    }

    /// The trust domain that we belong to.
    pub fn trust_domain(&self) -> TrustDomain {
        self.0.load().bundle.trust_domain().clone()
    }

    pub(crate) fn state(&self) -> Arc<State> {
        self.0.load_full()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.load();
        f.debug_struct("Credentials").field("bundle", &state.bundle).field("svid", &state.svid).finish()
    }
}

#[cfg(test)]
mod tests;
