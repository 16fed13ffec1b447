//! Who asks, and whether they may.
//!
//! Owns: tokens, the checking of passwords, the gate before every RPC, and etcd's `Auth` service.
//! In:   the metadata and the client certificate of a request.
//! Out:  a [`Caller`] beside every request, on whose behalf its handler reads and proposes.
//!
//! - Every method passes the gate, and the gate knows a [`Rule`](rules::Rule) for each; one that it does not know is
//!   for administrators.
//! - The gate lets through who may ask at all. What they may do to which keys is decided where it is done: in the log
//!   for writes, with the read for reads.
//! - Passwords and tokens are in no log, no error and no `Debug`. The replicated log holds a hash of either.

mod caller;
mod config;
mod gate;
mod jwt;
mod passwords;
mod rules;
mod service;
mod simple;
mod tokens;

#[cfg(test)]
mod tests;

pub use config::{AuthConfig, JwtConfig, SignMethod, TokenConfig};
pub use jwt::KeyError;

pub(crate) use caller::Caller;
pub(crate) use gate::{Authenticator, Gated, Gates, Side};
pub(crate) use service::AuthFace;
#[cfg(test)]
pub(crate) use simple::{Found, new_word};
pub(crate) use simple::{News, SimpleTokens};
