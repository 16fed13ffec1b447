//! The certificate authority: a proven identity becomes a short-lived certificate.
//!
//! Owns: the ledger of what was issued (a deterministic state machine on the replicated log), the keys that sign, and
//! the gRPC faces that take requests.
//! In:   certificate requests with the proof of who asks; committed ledger commands.
//! Out:  certificates, each of which the log knew before it was signed.
//!
//! - The intent is committed first, and signed afterwards: [`Authority::sign`] takes a place in the ledger, not bytes, so
//!   that no certificate exists that the log does not know.
//! - [`Ledger::apply`] is pure: time, serial and public key arrive in the command; no clock, no randomness, no key.
//! - The identity comes from who asks, never from the request; of the request only the public key is used.
//! - No private key and no token is in the ledger, in a log line, in an error or in `Debug`.
//!
//! Limits of this version: the issuing certificate lives for a year and is not rotated; certificates expire and cannot be
//! revoked; the tree head is kept, and its proofs are not served. A signature is not recorded: asking twice for the
//! same entry may give two signatures over the same bytes, both valid, since ECDSA here draws a fresh nonce. That costs
//! nothing: what a certificate says is fixed by its entry, and recording signatures would cost every issue a second one.

mod authority;
mod codec;
mod csr;
mod der;
mod faces;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod issuer;
mod ledger;
mod log;
mod profile;
mod time;
mod token;

pub use authority::{Authority, AuthorityError, Custody, Handover, MemberAuthority, SignError};
pub use csr::CsrError;
pub use faces::{admin_face, issuing_face};
pub use issuer::{Certificate, Config, Credential, IssueError, Issuer, keep_time};
pub use ledger::{
    Admit, Caller, CreateToken, DecodeError, Genesis, Invitation, Invite, Issue, IssuedRecord, Ledger, LedgerAnswer,
    LedgerCommand, LedgerError, LedgerView, Outcome, Place, Profile, Refusal, TreeHead,
};
pub use log::{Log, LogError};
pub use time::Time;
pub use token::JoinToken;

#[cfg(test)]
mod testing;
