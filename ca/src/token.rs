//! Join tokens: secrets that are good for one certificate.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::authority::{AuthorityError, random};

/// Marks the text as a secret of ours, for people and for scanners.
const PREFIX: &str = "meshstore-join-";
/// 256 bits.
const RANDOM_BYTES: usize = 32;
/// Longest text that is hashed for comparison, bytes.
const TEXT_BYTES_MAX: usize = 256;

/// A join token's text; cleared when dropped, and never printed by `Debug`.
#[derive(Clone)]
pub struct JoinToken(Zeroizing<String>);

impl JoinToken {
    /// Draws one.
    pub(crate) fn random() -> Result<Self, AuthorityError> {
        let bytes: Zeroizing<[u8; RANDOM_BYTES]> = Zeroizing::new(random()?);
        let mut text = Zeroizing::new(String::with_capacity(TEXT_BYTES_MAX));
        text.push_str(PREFIX);
        URL_SAFE_NO_PAD.encode_string(&bytes[..], &mut text);
        Ok(Self(text))
    }

    /// What a caller has sent; `None` if it cannot be a token.
    pub fn parse(text: &str) -> Option<Self> {
        let of_ours = text.starts_with(PREFIX) && text.len() <= TEXT_BYTES_MAX;
        of_ours.then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The secret itself, to be handed to whoever may join.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What the ledger knows of it. Tokens are found by this hash, so that no comparison tells of their text.
    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_long_random_and_hidden() {
        let (one, other) = (JoinToken::random().unwrap(), JoinToken::random().unwrap());
        assert_ne!(one.reveal(), other.reveal());
        assert_eq!(one.reveal().len(), PREFIX.len() + 43);
        assert_eq!(JoinToken::parse(one.reveal()).unwrap().hash(), one.hash());
        assert!(!format!("{one:?}").contains(&one.reveal()[PREFIX.len()..]));
        assert!(JoinToken::parse("x").is_none());
        assert!(JoinToken::parse(&(PREFIX.to_owned() + &"a".repeat(TEXT_BYTES_MAX))).is_none());
    }
}
