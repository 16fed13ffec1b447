//! What is given to who has shown a password.

use std::sync::Arc;

use store::{Actor, AuthRefusal, TokenDigest, View};
use tonic::Status;

use super::{AuthConfig, KeyError, SimpleTokens, TokenConfig, jwt::Jwt, simple};

/// The member's kind of tokens.
#[derive(Debug)]
pub(crate) enum Tokens {
    /// See [`SimpleTokens`].
    Simple(Arc<SimpleTokens>),
    /// See [`Jwt`].
    Jwt(Box<Jwt>),
}

/// A token in the making: the login is still to be agreed on.
pub(crate) struct Draft {
    word: Option<String>,
    /// What the log is told of it.
    pub(crate) digest: Option<TokenDigest>,
}

/// What became of recognizing a token.
pub(crate) enum Recognized {
    /// Whose it is.
    As(Actor),
    /// It may be of a login that this member has not applied yet.
    Later,
}

impl Tokens {
    /// `simple`: where applied logins are told.
    pub(crate) fn new(config: &AuthConfig, simple: Arc<SimpleTokens>) -> Result<Self, KeyError> {
        match &config.tokens {
            TokenConfig::Simple => Ok(Self::Simple(simple)),
            TokenConfig::Jwt(config) => Jwt::load(config).map(|jwt| Self::Jwt(Box::new(jwt))),
        }
    }

    pub(crate) fn draft(&self) -> Draft {
        match self {
            Self::Simple(_) => {
                let (word, digest) = simple::new_word();
                Draft { word: Some(word), digest: Some(digest) }
            }
            Self::Jwt(_) => Draft { word: None, digest: None },
        }
    }

    /// The token of a login that was agreed on at `index`, and at an auth revision.
    pub(crate) fn finish(&self, draft: Draft, user: &str, index: u64, auth_revision: u64) -> Result<String, Status> {
        match self {
            Self::Simple(_) => Ok(format!("{}.{index}", draft.word.unwrap_or_default())),
            Self::Jwt(jwt) => jwt.sign(user, auth_revision),
        }
    }

    /// Who a token was given to. A simple one speaks for its user as they are now, a signed one as of its login.
    pub(crate) fn recognize(&self, token: &str, view: &View, applied: u64) -> Result<Recognized, AuthRefusal> {
        let tokens = match self {
            Self::Simple(tokens) => tokens,
            Self::Jwt(jwt) => return jwt.verify(token).map(Recognized::As).ok_or(AuthRefusal::InvalidToken),
        };
        // Read first: a change that comes between is seen as one.
        let revision = view.auth_revision();
        match tokens.find(token) {
            simple::Found::User(name) => Ok(Recognized::As(Actor::User { name, revision })),
            simple::Found::Unknown { index } if index > applied => Ok(Recognized::Later),
            simple::Found::Unknown { .. } | simple::Found::Malformed => Err(AuthRefusal::InvalidToken),
        }
    }
}
