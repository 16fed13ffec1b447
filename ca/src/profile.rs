//! What our certificates look like.
//!
//! Owns: the bytes to be signed, as a pure function of what they say. A change to them is a new [`Profile`], since
//! every member must build the same bytes from the same entry.
//! Source: SPIFFE X509-SVID, sections 2 to 5; RFC 5280, section 4.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use types::{SpiffeId, TrustDomain};

use crate::{der, time::Time};

/// Names a key: the leftmost 160 bits of SHA-256 over its bits. Source: RFC 7093, section 2, method 1.
pub(crate) type KeyId = [u8; 20];
/// Positive, drawn at random by whoever proposes.
pub(crate) type Serial = [u8; 16];

const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x01];
const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];

/// Bit 0, digitalSignature: seven of the octet's bits are unused.
const DIGITAL_SIGNATURE: (u8, u8) = (7, 0x80);
/// Bits 5 and 6, keyCertSign and cRLSign.
const CERTIFICATE_SIGNING: (u8, u8) = (1, 0x06);

/// A leaf, before it is signed.
pub(crate) struct Leaf<'a> {
    pub(crate) serial: &'a Serial,
    /// The issuing certificate's subject, DER.
    pub(crate) issuer: &'a [u8],
    pub(crate) issuer_key: &'a KeyId,
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
    pub(crate) spiffe_id: &'a SpiffeId,
    pub(crate) dns: &'a [String],
    pub(crate) ips: &'a [IpAddr],
    /// `SubjectPublicKeyInfo`, DER.
    pub(crate) spki: &'a [u8],
    pub(crate) subject_key: &'a KeyId,
}

/// The bytes of a leaf that are signed: an X509-SVID without subject, for servers and clients alike.
pub(crate) fn leaf_tbs(leaf: &Leaf<'_>) -> Vec<u8> {
    let extensions = [
        key_usage(DIGITAL_SIGNATURE),
        extension(BASIC_CONSTRAINTS, true, &der::sequence(&[])),
        extension(EXTENDED_KEY_USAGE, false, &der::sequence(&[der::oid(SERVER_AUTH), der::oid(CLIENT_AUTH)])),
        subject_key_id(leaf.subject_key),
        authority_key_id(leaf.issuer_key),
        // Critical, as it must be where the subject is empty.
        extension(SUBJECT_ALT_NAME, true, &leaf_names(leaf)),
    ];
    let names = Names { issuer: leaf.issuer, subject: &der::sequence(&[]) };
    tbs(leaf.serial, names, (leaf.not_before, leaf.not_after), leaf.spki, &extensions)
}

fn leaf_names(leaf: &Leaf<'_>) -> Vec<u8> {
    let mut names = vec![uri(&leaf.spiffe_id.to_string())];
    names.extend(leaf.dns.iter().map(|name| der::implicit(2, name.as_bytes())));
    names.extend(leaf.ips.iter().map(|ip| match ip {
        IpAddr::V4(ip) => der::implicit(7, &ip.octets()),
        IpAddr::V6(ip) => der::implicit(7, &ip.octets()),
    }));
    der::sequence(&names)
}

/// Which tier of the authority a certificate is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Root,
    Issuing,
}

/// The certificate of an authority, before it is signed.
pub(crate) struct AuthorityCertificate<'a> {
    pub(crate) tier: Tier,
    pub(crate) serial: &'a Serial,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
    pub(crate) spki: &'a [u8],
    pub(crate) subject_key: &'a KeyId,
    /// The root's key, also for the root itself.
    pub(crate) root_key: &'a KeyId,
}

/// The bytes of an authority's certificate that are signed.
pub(crate) fn authority_tbs(certificate: &AuthorityCertificate<'_>) -> Vec<u8> {
    let mut constraints = vec![der::boolean_true()];
    let mut extensions = vec![key_usage(CERTIFICATE_SIGNING)];
    if certificate.tier == Tier::Issuing {
        constraints.push(der::integer(&[0])); // it may sign leaves only
    }
    extensions.push(extension(BASIC_CONSTRAINTS, true, &der::sequence(&constraints)));
    extensions.push(subject_key_id(certificate.subject_key));
    if certificate.tier == Tier::Issuing {
        extensions.push(authority_key_id(certificate.root_key));
    }
    let name = der::sequence(&[uri(&format!("spiffe://{}", certificate.trust_domain))]);
    extensions.push(extension(SUBJECT_ALT_NAME, false, &name));
    let names = Names {
        issuer: &authority_name(Tier::Root, certificate.root_key),
        subject: &authority_name(certificate.tier, certificate.subject_key),
    };
    let validity = (certificate.not_before, certificate.not_after);
    tbs(certificate.serial, names, validity, certificate.spki, &extensions)
}

/// An authority's name: one for each key, so that path building never has to try several of one name.
pub(crate) fn authority_name(tier: Tier, key: &KeyId) -> Vec<u8> {
    let title = match tier {
        Tier::Root => "meshstore root",
        Tier::Issuing => "meshstore issuing",
    };
    let attribute = |kind, value| der::set(&der::sequence(&[der::oid(kind), value]));
    der::sequence(&[
        attribute(COMMON_NAME, der::utf8_string(title)),
        attribute(SERIAL_NUMBER, der::printable_string(&hex(key))),
    ])
}

/// A certificate: what was signed, and the signature.
pub(crate) fn certificate(tbs: &[u8], signature: &[u8]) -> Vec<u8> {
    der::sequence(&[tbs.to_vec(), algorithm(), der::bit_string(0, signature)])
}

/// The key's name; `None` if `spki` is no public key in DER.
pub(crate) fn key_id(spki: &[u8]) -> Option<KeyId> {
    let digest = Sha256::digest(der::public_key_bits(spki)?);
    Some(digest[..20].try_into().expect("SHA-256 has 32 bytes"))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let nibbles = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    nibbles.map(|nibble| char::from_digit(nibble.into(), 16).expect("a nibble is below 16")).collect()
}

#[derive(Clone, Copy)]
struct Names<'a> {
    issuer: &'a [u8],
    subject: &'a [u8],
}

fn tbs(serial: &Serial, names: Names<'_>, validity: (Time, Time), spki: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    der::sequence(&[
        der::explicit(0, &der::integer(&[2])), // version 3
        der::integer(serial),
        algorithm(),
        names.issuer.to_vec(),
        der::sequence(&[der::time(validity.0), der::time(validity.1)]),
        names.subject.to_vec(),
        spki.to_vec(),
        der::explicit(3, &der::sequence(extensions)),
    ])
}

fn algorithm() -> Vec<u8> {
    der::sequence(&[der::oid(ECDSA_WITH_SHA256)])
}

fn extension(id: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::boolean_true() } else { Vec::new() };
    der::sequence(&[der::oid(id), critical, der::octet_string(value)])
}

fn key_usage((unused_bits, bits): (u8, u8)) -> Vec<u8> {
    extension(KEY_USAGE, true, &der::bit_string(unused_bits, &[bits]))
}

fn subject_key_id(key: &KeyId) -> Vec<u8> {
    extension(SUBJECT_KEY_ID, false, &der::octet_string(key))
}

fn authority_key_id(key: &KeyId) -> Vec<u8> {
    extension(AUTHORITY_KEY_ID, false, &der::sequence(&[der::implicit(0, key)]))
}

fn uri(uri: &str) -> Vec<u8> {
    der::implicit(6, uri.as_bytes())
}

#[cfg(test)]
mod tests;
