use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;
use crate::testing::Authority;

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap() }
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

#[test]
fn files_are_read() {
    let (authority, files) = (Authority::new("cluster.local"), Files::new());
    let issued = authority.issue("server", |_| ());
    let (cert, ca) = (files.write("cert", &issued.chain, 0o644), files.write("ca", &authority.pem(), 0o644));
    let key = files.write("key", &issued.key, 0o600);
    let credentials = Credentials::from_files(&cert, &key, &ca).unwrap();
    assert_eq!(credentials.id(), Some(authority.id("server")));
    assert_eq!(credentials.trust_domain().as_str(), "cluster.local");
    let validity = credentials.svid().unwrap().validity();
    assert_eq!(validity.half_life().duration_since(validity.not_before).unwrap().as_secs(), 1830);
}

#[test]
fn what_is_wrong_is_said_and_secrets_are_not() {
    let (authority, files) = (Authority::new("cluster.local"), Files::new());
    let (issued, other) = (authority.issue("server", |_| ()), authority.issue("other", |_| ()));
    let cert = files.write("cert", &issued.chain, 0o644);
    let ca = files.write("ca", &authority.pem(), 0o644);
    let key = files.write("key", &issued.key, 0o600);
    let cases = [
        (files.dir.path().join("absent"), key.clone(), ca.clone(), "cannot read"),
        (cert.clone(), files.write("open", &issued.key, 0o640), ca.clone(), "has mode 640"),
        (cert.clone(), files.write("other", &other.key, 0o600), ca.clone(), "does not belong to the certificate"),
        (cert.clone(), files.write("cert-as-key", &issued.chain, 0o600), ca.clone(), "holds no PRIVATE KEY"),
        (files.write("empty", "", 0o644), key.clone(), ca.clone(), "holds no CERTIFICATE"),
        (files.write("cut", &issued.chain[..100], 0o644), key.clone(), ca.clone(), "not well-formed PEM"),
        (ca.clone(), key.clone(), ca.clone(), "the certificate is an authority's"),
        (cert.clone(), key.clone(), cert.clone(), "unusable root certificate"),
        (cert, key, files.write("foreign", &Authority::new("foreign").pem(), 0o644), "where foreign is expected"),
    ];
    for (cert, key, ca, expected) in cases {
        let error = Credentials::from_files(&cert, &key, &ca).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected:?}");
        assert!(!error.contains(&issued.key[40..60]), "{error}");
    }
}

#[test]
fn roots_of_two_trust_domains_make_no_bundle() {
    let both = Authority::new("one").pem() + &Authority::new("two").pem();
    let error = TrustBundle::from_pem(both.as_bytes()).unwrap_err();
    assert!(matches!(error, CredentialsError::TrustDomain { .. }), "{error}");
}

#[test]
fn a_refused_replacement_changes_nothing() {
    let (ours, foreign) = (Authority::new("ours"), Authority::new("foreign"));
    let credentials = ours.credentials("a");
    assert!(credentials.replace(ours.bundle(), Some(foreign.svid("b"))).is_err());
    assert_eq!(credentials.id(), Some(ours.id("a")));
}

#[test]
fn debug_shows_no_key() {
    let authority = Authority::new("cluster.local");
    let issued = authority.issue("a", |_| ());
    let credentials = Credentials::new(authority.bundle(), Some(issued.svid())).unwrap();
    let shown =
        format!("{credentials:?} {:?}", crate::client_config(&credentials, crate::Expect::AnyInTrustDomain, &[]));
    assert!(shown.contains("cluster.local"), "{shown}");
    let (_, key) = issued.der();
    let scalar = format!("{:?}", &key.secret_der()[36..68]);
    let as_bytes = scalar.trim_matches(['[', ']']);
    assert!(!shown.contains(as_bytes) && !shown.contains(&issued.key[60..90]));
}
