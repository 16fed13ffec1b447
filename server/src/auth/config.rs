//! How users prove who they are.

use std::{path::PathBuf, str::FromStr, time::Duration};

/// Tokens, passwords and certificates. `Default` alone holds the values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthConfig {
    /// What is given to who has shown a password. Default simple tokens.
    pub tokens: TokenConfig,
    /// How long a simple token lives after its last use. Default 300 s.
    pub token_ttl: Duration,
    /// The work of hashing a password: 2 to the power of this, 4 to 31. Default 10.
    pub bcrypt_cost: u32,
    /// The common name of a verified client certificate is a user. Default off.
    pub client_cert_auth: bool,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            tokens: TokenConfig::Simple,
            token_ttl: Duration::from_mins(5),
            bcrypt_cost: 10,
            client_cert_auth: false,
        }
    }
}

/// What is given to who has shown a password. Source: etcd `--auth-token`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenConfig {
    /// Random words that the members remember.
    Simple,
    /// Signed claims that prove themselves.
    Jwt(JwtConfig),
}

/// Keys and form of JSON web tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// How they are signed; a token that was signed otherwise is none.
    pub sign_method: SignMethod,
    /// PEM file of the public key; if it is the only key, tokens are recognized and not given out.
    pub public_key: Option<PathBuf>,
    /// PEM file of the private key, or the secret itself for HMAC.
    pub private_key: Option<PathBuf>,
    /// How long a token lives. Default 5 min.
    pub ttl: Duration,
}

impl JwtConfig {
    /// With no key yet, and the default TTL.
    pub fn new(sign_method: SignMethod) -> Self {
        Self { sign_method, public_key: None, private_key: None, ttl: Duration::from_mins(5) }
    }
}

/// How a JSON web token is signed. Source: RFC 7518, section 3.1; RFC 8037.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the standard's")]
pub enum SignMethod {
    HS256,
    HS384,
    HS512,
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    ES512,
    EdDSA,
}

impl SignMethod {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::HS256,
        Self::HS384,
        Self::HS512,
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::ES512,
        Self::EdDSA,
    ];

    /// The standard's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::HS256 => "HS256",
            Self::HS384 => "HS384",
            Self::HS512 => "HS512",
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::ES512 => "ES512",
            Self::EdDSA => "EdDSA",
        }
    }
}

impl FromStr for SignMethod {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|method| method.name() == text);
        known.ok_or_else(|| format!("{text:?} is no sign-method: say {}", Self::ALL.map(Self::name).join(", ")))
    }
}
