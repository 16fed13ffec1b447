//! The ledger's rows, and their keys.

use std::fmt;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use types::SpiffeId;

use super::merkle::Tree;
use crate::{
    codec::{DecodeError, Reader, Writer},
    profile::{KeyId, Serial},
    time::Time,
};

pub(super) type RequestId = [u8; 32];

/// An entry's number in the ledger, from 0: its leaf in the Merkle tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place(u64);

impl Place {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0
    }

    pub(super) fn encode(self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        bytes.try_into().map(|bytes| Self(u64::from_be_bytes(bytes))).map_err(|_| DecodeError("place"))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One issued certificate, as the ledger remembers it until it has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedRecord {
    /// Where the ledger has it.
    pub place: Place,
    /// Where the replicated log has the command.
    pub log_index: u64,
    /// Unique among what has not expired.
    pub serial: [u8; 16],
    /// Whom it names.
    pub spiffe_id: SpiffeId,
    /// SHA-256 of the public key's `SubjectPublicKeyInfo`.
    pub spki_hash: [u8; 32],
    pub(super) request: RequestId,
    /// The key that signs it.
    pub issuer_key: [u8; 20],
    /// First moment of its validity.
    pub not_before: Time,
    /// Last moment of its validity.
    pub not_after: Time,
    /// The bytes to be signed, DER.
    pub tbs: Bytes,
}

impl IssuedRecord {
    pub(super) fn tbs_hash(&self) -> [u8; 32] {
        Sha256::digest(&self.tbs).into()
    }

    pub(super) fn encode(&self) -> Bytes {
        let (serial, issuer_key): (&Serial, &KeyId) = (&self.serial, &self.issuer_key);
        let mut out = Writer::default();
        out.u64(self.place.0).u64(self.log_index).array(serial).text(&self.spiffe_id);
        out.array(&self.spki_hash).array(&self.request).array(issuer_key);
        out.time(self.not_before).time(self.not_after).bytes(&self.tbs).array(&self.tbs_hash());
        out.finish()
    }

    /// Reads a row; its bytes to be signed must be those that were written.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, "issued row");
        let record = Self {
            place: Place(input.u64()?),
            log_index: input.u64()?,
            serial: input.array()?,
            spiffe_id: input.spiffe_id()?,
            spki_hash: input.array()?,
            request: input.array()?,
            issuer_key: input.array()?,
            not_before: input.time()?,
            not_after: input.time()?,
            tbs: input.bytes()?,
        };
        let hash: [u8; 32] = input.array()?;
        if hash != record.tbs_hash() {
            return Err(input.error());
        }
        input.finish().map(|()| record)
    }
}

/// A join token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) spiffe_id: SpiffeId,
    pub(super) expires: Time,
    pub(super) used: bool,
}

impl Token {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        out.text(&self.spiffe_id).time(self.expires).byte(self.used.into());
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, "token row");
        let (spiffe_id, expires) = (input.spiffe_id()?, input.time()?);
        let used = match input.byte()? {
            0 => false,
            1 => true,
            _ => return Err(input.error()),
        };
        input.finish().map(|()| Self { spiffe_id, expires, used })
    }
}

/// Where the ledger stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) time: Time,
    pub(super) tree: Tree,
}

impl Head {
    pub(super) fn empty() -> Self {
        Self { time: Time::new(0).expect("1970 can be written"), tree: Tree::default() }
    }

    pub(super) fn encode(&self) -> Bytes {
        let mut out = Writer::default();
        self.tree.write(out.time(self.time));
        out.finish()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes, "head row");
        let head = Self { time: input.time()?, tree: Tree::read(&mut input)? };
        input.finish().map(|()| head)
    }
}

/// Keys: one letter for the kind of row, then what names it.
pub(super) mod key {
    use super::{Place, RequestId, Serial, Time};

    pub(in crate::ledger) const HEAD: &[u8] = b"h";
    pub(in crate::ledger) const GENESIS: &[u8] = b"g";
    pub(in crate::ledger) const ISSUED: u8 = b'i';
    /// Expiry rows of tokens, certificates and invitations, each ordered by time.
    pub(in crate::ledger) const TOKEN_EXPIRY: u8 = b'x';
    pub(in crate::ledger) const ISSUED_EXPIRY: u8 = b'y';
    pub(in crate::ledger) const INVITATION_EXPIRY: u8 = b'z';
    pub(in crate::ledger) const INVITATION: u8 = b'm';

    fn join(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        [&[kind], &parts.concat()[..]].concat()
    }

    pub(in crate::ledger) fn issued(place: Place) -> Vec<u8> {
        join(ISSUED, &[&place.get().to_be_bytes()])
    }

    pub(in crate::ledger) fn serial(serial: &Serial) -> Vec<u8> {
        join(b's', &[serial])
    }

    pub(in crate::ledger) fn request(request: &RequestId) -> Vec<u8> {
        join(b'r', &[request])
    }

    pub(in crate::ledger) fn token(hash: &[u8; 32]) -> Vec<u8> {
        join(b't', &[hash])
    }

    pub(in crate::ledger) fn token_expiry(expires: Time, hash: &[u8; 32]) -> Vec<u8> {
        join(TOKEN_EXPIRY, &[&expires.get().to_be_bytes(), hash])
    }

    pub(in crate::ledger) fn invitation(hash: &[u8; 32]) -> Vec<u8> {
        join(INVITATION, &[hash])
    }

    pub(in crate::ledger) fn invitation_expiry(expires: Time, hash: &[u8; 32]) -> Vec<u8> {
        join(INVITATION_EXPIRY, &[&expires.get().to_be_bytes(), hash])
    }

    pub(in crate::ledger) fn issued_expiry(not_after: Time, place: Place) -> Vec<u8> {
        join(ISSUED_EXPIRY, &[&not_after.get().to_be_bytes(), &place.get().to_be_bytes()])
    }

    /// All expiry rows of a kind before `time`, as a range without its end.
    pub(in crate::ledger) fn expired(kind: u8, time: Time) -> (Vec<u8>, Vec<u8>) {
        (vec![kind], join(kind, &[&time.get().to_be_bytes()]))
    }

    /// What follows the time in an expiry row's key.
    pub(in crate::ledger) fn after_time(key: &[u8]) -> &[u8] {
        key.get(9..).unwrap_or_default()
    }
}
