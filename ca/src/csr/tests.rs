use proptest::prelude::*;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519};

use super::*;
use crate::testing::{csr, csr_of};

/// RSA keys take seconds to make in a debug build, and rcgen makes none below 2048 bits: these are openssl's.
fn rsa(bits: u32) -> String {
    let dir = tempfile::tempdir().unwrap();
    let key = dir.path().join("key");
    let output = std::process::Command::new("openssl")
        .args(["req", "-new", "-nodes", "-subj", "/CN=a", "-newkey", &format!("rsa:{bits}"), "-keyout"])
        .arg(&key)
        .output()
        .expect("openssl is installed");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn strong_keys_are_accepted() {
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let spki = public_key(&csr_of(&key, &CertificateParams::default())).unwrap();
        assert_eq!(der::public_key_bits(&spki), Some(key.public_key_raw()));
    }
    assert!(public_key(&rsa(2048)).is_ok());
}

#[test]
fn weak_foreign_and_broken_requests_are_refused() {
    assert!(public_key(&rsa(1024)).is_err(), "RSA below 2048 bits");
    let good = csr();
    assert_eq!(public_key(&format!("{good}{good}")), Err(CsrError::Malformed));
    assert_eq!(public_key(&good.replace("CERTIFICATE REQUEST", "CERTIFICATE")), Err(CsrError::Malformed));
    assert_eq!(public_key(&good[..good.len() / 2]), Err(CsrError::Malformed));
    assert_eq!(public_key(""), Err(CsrError::Malformed));
    assert_eq!(public_key(&" ".repeat(CSR_BYTES_MAX + 1)), Err(CsrError::TooLong));
}

#[test]
fn a_request_signed_by_another_key_is_refused() {
    let (ours, theirs) = (request_der(&csr()).unwrap(), request_der(&csr()).unwrap());
    let (_, ours) = X509CertificationRequest::from_der(&ours).unwrap();
    let (_, theirs) = X509CertificationRequest::from_der(&theirs).unwrap();
    let mixed = crate::profile::certificate(ours.certification_request_info.raw, &theirs.signature_value.data);
    let pem = tls::certificate_pem(&mixed).replace("CERTIFICATE", "CERTIFICATE REQUEST");
    assert_eq!(public_key(&pem), Err(CsrError::Signature));
}

proptest! {
    #[test]
    fn arbitrary_text_is_refused(text: String) {
        prop_assert!(public_key(&text).is_err());
    }

    #[test]
    fn arbitrary_der_is_refused(bytes: Vec<u8>) {
        let pem = tls::certificate_pem(&bytes).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        prop_assert!(public_key(&pem).is_err());
    }

    #[test]
    fn a_damaged_request_never_passes_for_another_key(at: prop::sample::Index, flip in 1..=255_u8) {
        let der = request_der(&csr()).unwrap();
        let mut damaged = der.clone();
        let at = at.index(der.len());
        damaged[at] ^= flip;
        let pem = |der: &[u8]| tls::certificate_pem(der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        if let Ok(key) = public_key(&pem(&damaged)) {
            prop_assert_eq!(Ok(key), public_key(&pem(&der)));
        }
    }
}
