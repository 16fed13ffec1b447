//! Certificates of members, as an operator would make them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};

/// An authority and a certificate for loopback, as PEM files in `folder`, and the flags that name them.
pub(crate) fn peer_certificates(folder: &Path) -> Vec<String> {
    peer_certificates_for(&[Ipv4Addr::LOCALHOST.into()], folder)
}

/// The same, for these addresses.
pub(crate) fn peer_certificates_for(addresses: &[IpAddr], folder: &Path) -> Vec<String> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let mut params = CertificateParams::new(addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>()).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    vec![
        format!("--peer-cert-file={}", write("peer.crt", certificate.pem())),
        format!("--peer-key-file={}", write("peer.key", key.serialize_pem())),
        format!("--peer-trusted-ca-file={}", write("peers.crt", authority.pem())),
    ]
}
