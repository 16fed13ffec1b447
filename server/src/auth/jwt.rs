//! JSON web tokens: signed claims about a login.
//!
//! Owns: the keys, and the form: a user's name, the auth revision at the login, and when it ends.
//!
//! - The configured way of signing is the only one there is; what a token says of itself must say the same.
//! - Nothing of a token is looked at before its signature is found to be ours.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair, ParsedPublicKey},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls_pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use store::Actor;
use tonic::Status;
use zeroize::Zeroizing;

use super::{JwtConfig, SignMethod};
use crate::{
    clock,
    status::{token_cannot_be_signed, tokens_are_only_verified},
};

/// Why tokens cannot be signed or verified as configured.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold such a key.
    #[error("{} holds no {what} for {method}", .path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// `private key` or `public key`.
        what: &'static str,
        /// The configured way of signing.
        method: &'static str,
    },
    /// The way of signing needs a key that was not given.
    #[error("a token signed by {0} needs priv-key, or pub-key to be verified only")]
    Missing(&'static str),
    /// The keys given are not of one pair.
    #[error("pub-key and priv-key do not belong together")]
    Mismatch,
}

impl KeyError {
    /// The file that is to blame, where it is one alone.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Read { path, .. } | Self::Unusable { path, .. } => Some(path),
            Self::Missing(_) | Self::Mismatch => None,
        }
    }
}

/// Signs and verifies tokens.
pub(crate) struct Jwt {
    method: SignMethod,
    ttl: Duration,
    signer: Option<Signer>,
    verifier: Verifier,
}

enum Signer {
    Hmac(Box<hmac::Key>),
    Rsa(rsa::KeyPair, &'static dyn signature::RsaEncoding),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

enum Verifier {
    Hmac(Box<hmac::Key>),
    Key(ParsedPublicKey),
}

#[derive(Serialize, Deserialize)]
struct Header<'a> {
    alg: &'a str,
    typ: &'a str,
}

/// What is claimed. Numbers may come with a fraction, as JSON has them.
#[derive(Serialize, Deserialize)]
struct Claims {
    username: String,
    revision: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    exp: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nbf: Option<f64>,
}

/// No key and no token is shown.
impl fmt::Debug for Jwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwt").field("method", &self.method).field("ttl", &self.ttl).finish_non_exhaustive()
    }
}

impl Jwt {
    /// Reads the keys.
    pub(crate) fn load(config: &JwtConfig) -> Result<Self, KeyError> {
        let JwtConfig { sign_method: method, ttl, .. } = *config;
        let read = |path: &Option<PathBuf>| path.clone().map(|path| Ok((read(&path)?, path))).transpose();
        let (private, public) = (read(&config.private_key)?, read(&config.public_key)?);
        if let Some(algorithm) = hmac_of(method) {
            let (secret, _) = private.ok_or(KeyError::Missing(method.name()))?;
            let key = || Box::new(hmac::Key::new(algorithm, &secret));
            return Ok(Self { method, ttl, signer: Some(Signer::Hmac(key())), verifier: Verifier::Hmac(key()) });
        }
        let unusable = |path, what| KeyError::Unusable { path, what, method: method.name() };
        let signer = private.map(|(pem, path)| Signer::read(method, &pem).ok_or_else(|| unusable(path, "private key")));
        let signer = signer.transpose()?;
        let given = public
            .map(|(pem, path)| public_key(method, &pem).ok_or_else(|| unusable(path, "public key")))
            .transpose()?;
        let own = signer.as_ref().and_then(|signer| signer.public_key(method));
        let verifier = Verifier::Key(given.or(own).ok_or(KeyError::Missing(method.name()))?);
        if signer.as_ref().is_some_and(|signer| !verifier.accepts(signer)) {
            return Err(KeyError::Mismatch);
        }
        Ok(Self { method, ttl, signer, verifier })
    }

    /// A token for who has logged in.
    pub(crate) fn sign(&self, username: &str, revision: u64) -> Result<String, Status> {
        self.sign_at(username, revision, clock::unix_time())
    }

    /// Who a token was given to; `None` if it is none of ours, or has ended.
    pub(crate) fn verify(&self, token: &str) -> Option<Actor> {
        self.verify_at(token, clock::unix_time())
    }

    fn sign_at(&self, username: &str, revision: u64, now: Duration) -> Result<String, Status> {
        let signer = self.signer.as_ref().ok_or_else(tokens_are_only_verified)?;
        let end = now.saturating_add(self.ttl).as_secs();
        #[expect(clippy::cast_precision_loss, reason = "a time in seconds is far below 2^53")]
        let claims = Claims { username: username.to_owned(), revision, exp: Some(end as f64), nbf: None };
        let header = Header { alg: self.method.name(), typ: "JWT" };
        let mut token = [part(&header)?, part(&claims)?].join(".");
        let signature = signer.sign(token.as_bytes()).ok_or_else(token_cannot_be_signed)?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token)
    }

    fn verify_at(&self, token: &str, now: Duration) -> Option<Actor> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        if !self.verifier.verify(signed.as_bytes(), &signature) {
            return None;
        }
        let header = URL_SAFE_NO_PAD.decode(header).ok()?;
        let header: Header<'_> = serde_json::from_slice(&header).ok()?;
        let claims: Claims = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let now = now.as_secs_f64();
        let lives = claims.exp.is_none_or(|end| now < end) && claims.nbf.is_none_or(|begin| begin <= now);
        let valid = header.alg == self.method.name() && lives;
        valid.then(|| Actor::User { name: claims.username.into(), revision: claims.revision })
    }
}

impl Signer {
    fn read(method: SignMethod, pem: &[u8]) -> Option<Self> {
        let key = PrivateKeyDer::from_pem_slice(pem).ok()?;
        if let Some(padding) = rsa_padding(method) {
            let pair = match &key {
                PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der()),
                other => rsa::KeyPair::from_pkcs8(other.secret_der()),
            };
            return Some(Self::Rsa(pair.ok()?, padding));
        }
        if let Some(algorithm) = ecdsa_of(method) {
            let pair = match &key {
                PrivateKeyDer::Sec1(der) => EcdsaKeyPair::from_private_key_der(algorithm, der.secret_sec1_der()),
                other => EcdsaKeyPair::from_pkcs8(algorithm, other.secret_der()),
            };
            return pair.ok().map(Self::Ecdsa);
        }
        Ed25519KeyPair::from_pkcs8(key.secret_der()).ok().map(Self::Ed25519)
    }

    fn public_key(&self, method: SignMethod) -> Option<ParsedPublicKey> {
        let bytes = match self {
            Self::Hmac(_) => return None,
            Self::Rsa(pair, _) => pair.public_key().as_ref(),
            Self::Ecdsa(pair) => pair.public_key().as_ref(),
            Self::Ed25519(pair) => pair.public_key().as_ref(),
        };
        ParsedPublicKey::new(verification(method)?, bytes).ok()
    }

    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(key) => Some(hmac::sign(key, message).as_ref().to_vec()),
            Self::Rsa(pair, padding) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(*padding, &random, message, &mut signature).ok()?;
                Some(signature)
            }
            Self::Ecdsa(pair) => Some(pair.sign(&random, message).ok()?.as_ref().to_vec()),
            Self::Ed25519(pair) => Some(pair.sign(message).as_ref().to_vec()),
        }
    }
}

impl Verifier {
    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hmac(key) => hmac::verify(key, message, signature).is_ok(),
            Self::Key(key) => key.verify_sig(message, signature).is_ok(),
        }
    }

    /// Whether it is of one pair with the signer.
    fn accepts(&self, signer: &Signer) -> bool {
        let message = b"of one pair";
        signer.sign(message).is_some_and(|signature| self.verify(message, &signature))
    }
}

fn read(path: &PathBuf) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    fs::read(path).map(Zeroizing::new).map_err(|source| KeyError::Read { path: path.clone(), source })
}

fn part(value: &impl Serialize) -> Result<String, Status> {
    let json = serde_json::to_vec(value).map_err(|_| token_cannot_be_signed())?;
    Ok(URL_SAFE_NO_PAD.encode(json))
}

fn public_key(method: SignMethod, pem: &[u8]) -> Option<ParsedPublicKey> {
    let key = SubjectPublicKeyInfoDer::from_pem_slice(pem).ok()?;
    ParsedPublicKey::new(verification(method)?, &key[..]).ok()
}

fn hmac_of(method: SignMethod) -> Option<hmac::Algorithm> {
    match method {
        SignMethod::HS256 => Some(hmac::HMAC_SHA256),
        SignMethod::HS384 => Some(hmac::HMAC_SHA384),
        SignMethod::HS512 => Some(hmac::HMAC_SHA512),
        _ => None,
    }
}

fn rsa_padding(method: SignMethod) -> Option<&'static dyn signature::RsaEncoding> {
    match method {
        SignMethod::RS256 => Some(&signature::RSA_PKCS1_SHA256),
        SignMethod::RS384 => Some(&signature::RSA_PKCS1_SHA384),
        SignMethod::RS512 => Some(&signature::RSA_PKCS1_SHA512),
        SignMethod::PS256 => Some(&signature::RSA_PSS_SHA256),
        SignMethod::PS384 => Some(&signature::RSA_PSS_SHA384),
        SignMethod::PS512 => Some(&signature::RSA_PSS_SHA512),
        _ => None,
    }
}

fn ecdsa_of(method: SignMethod) -> Option<&'static EcdsaSigningAlgorithm> {
    match method {
        SignMethod::ES256 => Some(&signature::ECDSA_P256_SHA256_FIXED_SIGNING),
        SignMethod::ES384 => Some(&signature::ECDSA_P384_SHA384_FIXED_SIGNING),
        SignMethod::ES512 => Some(&signature::ECDSA_P521_SHA512_FIXED_SIGNING),
        _ => None,
    }
}

/// How signatures by a key pair are verified; none for HMAC, which has no pair.
fn verification(method: SignMethod) -> Option<&'static dyn signature::VerificationAlgorithm> {
    Some(match method {
        SignMethod::HS256 | SignMethod::HS384 | SignMethod::HS512 => return None,
        SignMethod::RS256 => &signature::RSA_PKCS1_2048_8192_SHA256,
        SignMethod::RS384 => &signature::RSA_PKCS1_2048_8192_SHA384,
        SignMethod::RS512 => &signature::RSA_PKCS1_2048_8192_SHA512,
        SignMethod::PS256 => &signature::RSA_PSS_2048_8192_SHA256,
        SignMethod::PS384 => &signature::RSA_PSS_2048_8192_SHA384,
        SignMethod::PS512 => &signature::RSA_PSS_2048_8192_SHA512,
        SignMethod::ES256 => &signature::ECDSA_P256_SHA256_FIXED,
        SignMethod::ES384 => &signature::ECDSA_P384_SHA384_FIXED,
        SignMethod::ES512 => &signature::ECDSA_P521_SHA512_FIXED,
        SignMethod::EdDSA => &signature::ED25519,
    })
}

#[cfg(test)]
mod tests;
