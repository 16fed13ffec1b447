//! Certificate signing requests: proof that the caller holds the private key, and which public key it is.
//!
//! Of a request only the public key is used. Names, attributes and extensions in it are not read.
//! Source: RFC 2986; key and signature kinds: RFC 5758, 8410, 4055.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use bytes::Bytes;
use x509_parser::{asn1_rs::Tag, certification_request::X509CertificationRequest, pem::Pem, prelude::FromDer};

use crate::der;

/// Longest request that is read, bytes of PEM.
pub(crate) const CSR_BYTES_MAX: usize = 16 << 10;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// More than is read.
    #[error("the request is longer than {CSR_BYTES_MAX} bytes")]
    TooLong,
    /// Neither one PEM block `CERTIFICATE REQUEST` nor strict DER in it.
    #[error("the request is not one PKCS#10 request in PEM")]
    Malformed,
    /// Weak, or not known.
    #[error("the key or signature is of no accepted kind: ECDSA P-256 or P-384, Ed25519, RSA of 2048 bits or more")]
    Kind,
    /// The caller does not hold the private key, or something was changed on the way.
    #[error("the request's signature does not verify")]
    Signature,
}

/// Checks the request's own signature; gives its `SubjectPublicKeyInfo`, DER.
pub(crate) fn public_key(pem: &str) -> Result<Bytes, CsrError> {
    if pem.len() > CSR_BYTES_MAX {
        return Err(CsrError::TooLong);
    }
    let request = request_der(pem)?;
    let Ok(([], request)) = X509CertificationRequest::from_der(&request) else { return Err(CsrError::Malformed) };
    let info = &request.certification_request_info;
    let spki = info.subject_pki.raw;
    let key = der::public_key_bits(spki).ok_or(CsrError::Malformed)?;
    let key_kind = info.subject_pki.algorithm.algorithm.to_id_string();
    // `as_oid` does not look at the tag: RSA's parameters are a NULL, which must not pass for an empty name of a curve.
    let parameters = info.subject_pki.algorithm.parameters.as_ref().filter(|parameters| parameters.tag() == Tag::Oid);
    let curve = parameters.and_then(|parameters| parameters.as_oid().ok()).map(|curve| curve.to_id_string());
    let signed_with = request.signature_algorithm.algorithm.to_id_string();
    let algorithm = algorithm(&key_kind, curve.as_deref(), &signed_with).ok_or(CsrError::Kind)?;
    UnparsedPublicKey::new(algorithm, key)
        .verify(info.raw, &request.signature_value.data)
        .map_err(|_| CsrError::Signature)?;
    Ok(Bytes::copy_from_slice(spki))
}

/// The content of the one block of PEM.
fn request_der(pem: &str) -> Result<Vec<u8>, CsrError> {
    let mut blocks = Pem::iter_from_buffer(pem.as_bytes());
    match (blocks.next(), blocks.next()) {
        (Some(Ok(block)), None) if matches!(&block.label[..], "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST") => {
            Ok(block.contents)
        }
        _ => Err(CsrError::Malformed),
    }
}

/// How a signature is checked, by the kind of key, its curve, and the signature's algorithm. RSA keys below 2048 bits
/// fail in the check itself.
fn algorithm(key: &str, curve: Option<&str>, signed_with: &str) -> Option<&'static dyn VerificationAlgorithm> {
    const EC: &str = "1.2.840.10045.2.1";
    const P256: Option<&str> = Some("1.2.840.10045.3.1.7");
    const P384: Option<&str> = Some("1.3.132.0.34");
    const ED25519: &str = "1.3.101.112";
    const RSA: &str = "1.2.840.113549.1.1.1";
    const ECDSA_SHA256: &str = "1.2.840.10045.4.3.2";
    const ECDSA_SHA384: &str = "1.2.840.10045.4.3.3";
    const RSA_SHA256: &str = "1.2.840.113549.1.1.11";
    const RSA_SHA384: &str = "1.2.840.113549.1.1.12";
    const RSA_SHA512: &str = "1.2.840.113549.1.1.13";
    Some(match (key, curve, signed_with) {
        (EC, P256, ECDSA_SHA256) => &signature::ECDSA_P256_SHA256_ASN1,
        (EC, P256, ECDSA_SHA384) => &signature::ECDSA_P256_SHA384_ASN1,
        (EC, P384, ECDSA_SHA256) => &signature::ECDSA_P384_SHA256_ASN1,
        (EC, P384, ECDSA_SHA384) => &signature::ECDSA_P384_SHA384_ASN1,
        (ED25519, None, ED25519) => &signature::ED25519,
        (RSA, None, RSA_SHA256) => &signature::RSA_PKCS1_2048_8192_SHA256,
        (RSA, None, RSA_SHA384) => &signature::RSA_PKCS1_2048_8192_SHA384,
        (RSA, None, RSA_SHA512) => &signature::RSA_PKCS1_2048_8192_SHA512,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
