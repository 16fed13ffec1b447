//! How the ledger writes what it keeps and what it is told: fixed fields, lengths in front, nothing left over.
//!
//! - Reading never panics, and refuses what writing would not have produced.

use std::net::IpAddr;

use bytes::Bytes;
use types::{SpiffeId, TrustDomain};

use crate::time::Time;

/// Longest list that is read.
const LIST_MAX: usize = 256;

/// Bytes that are not what was expected in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {0}")]
pub struct DecodeError(pub(crate) &'static str);

#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn finish(self) -> Bytes {
        self.0.into()
    }

    pub(crate) fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    pub(crate) fn u32(&mut self, number: u32) -> &mut Self {
        self.array(&number.to_be_bytes())
    }

    pub(crate) fn u64(&mut self, number: u64) -> &mut Self {
        self.array(&number.to_be_bytes())
    }

    pub(crate) fn time(&mut self, time: Time) -> &mut Self {
        self.u64(time.get())
    }

    /// Bytes of a length that the reader knows.
    pub(crate) fn array(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// Bytes of any length below 4 GiB.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.u32(u32::try_from(bytes.len()).expect("fields are far below 4 GiB")).array(bytes)
    }

    pub(crate) fn text(&mut self, text: &impl ToString) -> &mut Self {
        self.bytes(text.to_string().as_bytes())
    }

    pub(crate) fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Self, &T)) -> &mut Self {
        self.u32(u32::try_from(items.len()).expect("lists are short"));
        for item in items {
            write(self, item);
        }
        self
    }

    pub(crate) fn ip(&mut self, ip: &IpAddr) -> &mut Self {
        match ip {
            IpAddr::V4(ip) => self.byte(4).array(&ip.octets()),
            IpAddr::V6(ip) => self.byte(6).array(&ip.octets()),
        }
    }
}

pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    /// `what` names the whole in errors.
    pub(crate) fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    pub(crate) fn error(&self) -> DecodeError {
        DecodeError(self.what)
    }

    /// Ends the reading; bytes left over are an error.
    pub(crate) fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.error()) }
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(self.error())?;
        self.rest = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N).map(|bytes| bytes.try_into().expect("taken at this length"))
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DecodeError> {
        self.array().map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self) -> Result<bool, DecodeError> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.error()),
        }
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_be_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_be_bytes)
    }

    pub(crate) fn time(&mut self) -> Result<Time, DecodeError> {
        Time::new(self.u64()?).ok_or(self.error())
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes, DecodeError> {
        let length = usize::try_from(self.u32()?).map_err(|_| self.error())?;
        self.take(length).map(Bytes::copy_from_slice)
    }

    pub(crate) fn text(&mut self) -> Result<String, DecodeError> {
        String::from_utf8(self.bytes()?.into()).map_err(|_| self.error())
    }

    pub(crate) fn spiffe_id(&mut self) -> Result<SpiffeId, DecodeError> {
        SpiffeId::parse(&self.text()?).map_err(|_| self.error())
    }

    pub(crate) fn trust_domain(&mut self) -> Result<TrustDomain, DecodeError> {
        TrustDomain::parse(&self.text()?).map_err(|_| self.error())
    }

    pub(crate) fn list<T>(
        &mut self,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let length = usize::try_from(self.u32()?).map_err(|_| self.error())?;
        if length > LIST_MAX {
            return Err(self.error());
        }
        (0..length).map(|_| read(self)).collect()
    }

    pub(crate) fn ip(&mut self) -> Result<IpAddr, DecodeError> {
        match self.byte()? {
            4 => self.array::<4>().map(IpAddr::from),
            6 => self.array::<16>().map(IpAddr::from),
            _ => Err(self.error()),
        }
    }
}
