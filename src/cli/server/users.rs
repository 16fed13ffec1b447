//! The flags of those who log in.

mod auth_token;

use std::time::Duration;

use server::{AuthConfig, TokenConfig};

/// Its users.
#[derive(Debug, Default, clap::Args)]
#[command(next_help_heading = "Users")]
pub(super) struct AuthFlags {
    /// What is given to who has shown a password: simple, or
    /// jwt,sign-method=RS256,pub-key=FILE,priv-key=FILE,ttl=TIME [default: simple]
    #[arg(long, value_name = "FORM", env = "ETCD_AUTH_TOKEN", value_parser = auth_token::parse)]
    auth_token: Option<TokenConfig>,
    /// Seconds that a simple token lives after its last use [default: 300]
    #[arg(long, value_name = "SECONDS", env = "ETCD_AUTH_TOKEN_TTL", value_parser = clap::value_parser!(u32).range(1..))]
    auth_token_ttl: Option<u32>,
    /// Work of hashing a password; each step doubles it [default: 10]
    #[arg(long, value_name = "4-31", env = "ETCD_BCRYPT_COST", value_parser = clap::value_parser!(u32).range(4..=31))]
    bcrypt_cost: Option<u32>,
}

impl AuthFlags {
    /// `client_cert_auth`: as the ports' flag says.
    pub(super) fn resolve(self, client_cert_auth: bool) -> AuthConfig {
        let default = AuthConfig::default();
        let ttl = self.auth_token_ttl.map(|seconds| Duration::from_secs(seconds.into()));
        AuthConfig {
            tokens: self.auth_token.unwrap_or(default.tokens),
            token_ttl: ttl.unwrap_or(default.token_ttl),
            bcrypt_cost: self.bcrypt_cost.unwrap_or(default.bcrypt_cost),
            client_cert_auth,
        }
    }
}
