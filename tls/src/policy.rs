//! Which versions and cipher suites of TLS a server outside the mesh speaks.

use std::sync::Arc;

use rustls::{
    SupportedCipherSuite, SupportedProtocolVersion,
    crypto::CryptoProvider,
    version::{TLS12, TLS13},
};

use crate::{CredentialsError, config};

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// TLS 1.2.
    Tls12,
    /// TLS 1.3.
    Tls13,
}

/// What a server agrees to speak. The default: TLS 1.2 and 1.3 with every suite there is, all of which have forward
/// secrecy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The oldest version.
    pub min: Version,
    /// The newest.
    pub max: Version,
    /// Names of cipher suites as IANA has them, `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`; empty: all. Those of TLS 1.3
    /// are all spoken unless one of them is named, as Go has it.
    pub suites: Vec<String>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { min: Version::Tls12, max: Version::Tls13, suites: Vec::new() }
    }
}

impl Policy {
    /// # Errors
    /// [`CredentialsError::Policy`] if it allows nothing, or names a suite that there is not.
    pub fn check(&self) -> Result<(), CredentialsError> {
        let (provider, versions) = (self.provider()?, self.versions()?);
        let speaks = |suite: &SupportedCipherSuite| versions.contains(&suite.version());
        if provider.cipher_suites.iter().any(speaks) {
            return Ok(());
        }
        Err(CredentialsError::Policy("no cipher suite that is named is one of the TLS versions allowed".to_owned()))
    }

    pub(crate) fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, CredentialsError> {
        let within = |version: Version| (self.min..=self.max).contains(&version);
        let versions = [(Version::Tls12, &TLS12), (Version::Tls13, &TLS13)];
        let versions: Vec<_> =
            versions.into_iter().filter(|(version, _)| within(*version)).map(|(_, rustls)| rustls).collect();
        if versions.is_empty() {
            return Err(CredentialsError::Policy("the oldest TLS version allowed is newer than the newest".to_owned()));
        }
        Ok(versions)
    }

    pub(crate) fn provider(&self) -> Result<Arc<CryptoProvider>, CredentialsError> {
        let provider = config::provider();
        if self.suites.is_empty() {
            return Ok(provider);
        }
        let known = |name: &String| provider.cipher_suites.iter().copied().find(|suite| self::name(*suite) == *name);
        let named = self.suites.iter().map(|name| known(name).ok_or_else(|| unknown(name, &provider)));
        let mut cipher_suites = named.collect::<Result<Vec<_>, _>>()?;
        if cipher_suites.iter().all(|suite| suite.tls13().is_none()) {
            cipher_suites.extend(provider.cipher_suites.iter().filter(|suite| suite.tls13().is_some()));
        }
        Ok(Arc::new(CryptoProvider { cipher_suites, ..(*provider).clone() }))
    }
}

fn unknown(name: &str, provider: &CryptoProvider) -> CredentialsError {
    let known: Vec<_> = provider.cipher_suites.iter().map(|suite| self::name(*suite)).collect();
    CredentialsError::Policy(format!("there is no cipher suite {name}: there are {}", known.join(", ")))
}

/// IANA's name; rustls marks those of TLS 1.3.
fn name(suite: SupportedCipherSuite) -> String {
    let name = format!("{:?}", suite.suite());
    name.strip_prefix("TLS13_").map_or(name.clone(), |rest| format!("TLS_{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_a_range_that_is_not_empty() {
        use Version::{Tls12, Tls13};
        for (min, max, count) in [(Tls12, Tls13, 2), (Tls12, Tls12, 1), (Tls13, Tls13, 1), (Tls13, Tls12, 0)] {
            let policy = Policy { min, max, ..Policy::default() };
            assert_eq!(policy.versions().map_or(0, |versions| versions.len()), count, "{min:?} {max:?}");
        }
    }

    #[test]
    fn a_policy_that_allows_nothing_is_refused() {
        use Version::{Tls12, Tls13};
        let suites = |suites: &[&str]| suites.iter().map(ToString::to_string).collect();
        let (old, new) = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384");
        for (min, max, named, expected) in [
            (Tls12, Tls13, suites(&[]), true),
            (Tls13, Tls12, suites(&[]), false),
            (Tls12, Tls13, suites(&["none"]), false),
            (Tls12, Tls12, suites(&[old]), true),
            (Tls12, Tls12, suites(&[new]), false),
            (Tls13, Tls13, suites(&[new]), true),
        ] {
            let policy = Policy { min, max, suites: named };
            assert_eq!(policy.check().is_ok(), expected, "{policy:?}");
        }
    }

    #[test]
    fn suites_have_the_names_that_etcd_gives_them() {
        let policy =
            |suites: &[&str]| Policy { suites: suites.iter().map(ToString::to_string).collect(), ..Policy::default() };
        let two = policy(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"]);
        assert_eq!(two.provider().unwrap().cipher_suites.len(), 2);
        let of_tls12 = policy(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]).provider().unwrap();
        assert_eq!(of_tls12.cipher_suites.len(), 4, "TLS 1.3 keeps its three");
        let error = policy(&["TLS_RSA_WITH_AES_128_CBC_SHA"]).provider().unwrap_err().to_string();
        assert!(error.contains("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"), "{error}");
    }
}
