use std::time::Duration;

use rcgen::{CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ClientConnection, ProtocolVersion, ServerConnection};

use super::*;
use crate::{Version, testing::handshake};

struct Ca(CertifiedIssuer<'static, KeyPair>);

impl Ca {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Writes NAME.crt and NAME.key for a host.
    fn write(&self, dir: &Path, name: &str, host: &str) -> ServerFiles {
        self.write_numbered(dir, name, host, 1)
    }

    fn write_numbered(&self, dir: &Path, name: &str, host: &str, serial: u64) -> ServerFiles {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.serial_number = Some(serial.into());
        params.distinguished_name.push(rcgen::DnType::CommonName, host);
        let files = ServerFiles::new(dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        fs::write(&files.cert, params.signed_by(&key, &self.0).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    }

    /// A list of one revoked certificate.
    fn revoke(&self, serial: u64) -> String {
        let now = SystemTime::now();
        let revoked = rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let list = rcgen::CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_hours(1)).into(),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().pem().unwrap()
    }

    fn write_root(&self, dir: &Path) -> PathBuf {
        let path = dir.join("ca.crt");
        fs::write(&path, self.0.pem()).unwrap();
        path
    }
}

type Handshake = Result<(ServerConnection, ClientConnection), Error>;

#[test]
fn a_server_is_checked_by_its_host_name() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let root = Trust::File(ca.write_root(dir.path()));
    for (host, accepted) in [("not-checked.example", true), ("other.example", false)] {
        let server = server_config(ca.write(dir.path(), "server", host), &Policy::default(), &[]).unwrap();
        let result: Handshake = handshake(server, client_config(&root, None, &[]).unwrap());
        assert_eq!(result.is_ok(), accepted, "{host}");
    }
}

#[test]
fn a_self_signed_certificate_that_is_trusted_proves_its_host_name() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, host: &str, change: fn(&mut CertificateParams)| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        change(&mut params);
        let files = ServerFiles::new(dir.path().join(format!("{name}.crt")), dir.path().join(format!("{name}.key")));
        fs::write(&files.cert, params.self_signed(&key).unwrap().pem()).unwrap();
        fs::write(&files.key, key.serialize_pem()).unwrap();
        files
    };
    let good = write("good", "not-checked.example", |_| {});
    let foreign = write("foreign", "not-checked.example", |_| {});
    let other = write("other", "other.example", |_| {});
    let old =
        write("old", "not-checked.example", |params| params.not_after = params.not_before + Duration::from_secs(1));
    for (server, trusted, accepted) in
        [(&good, &good, true), (&foreign, &good, false), (&other, &other, false), (&old, &old, false)]
    {
        let config = server_config(server.clone(), &Policy::default(), &[]).unwrap();
        let client = client_config(&Trust::File(trusted.cert.clone()), None, &[]).unwrap();
        let outcome: Handshake = handshake(config, client);
        assert_eq!(outcome.is_ok(), accepted, "{server:?}");
    }
}

#[test]
fn whom_to_trust_is_a_choice() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let server = server_config(ca.write(dir.path(), "server", "other.example"), &Policy::default(), &[]).unwrap();
    let shake = |trust| -> Handshake { handshake(server.clone(), client_config(&trust, None, &[]).unwrap()) };
    assert!(shake(Trust::Anybody).is_ok());
    assert!(shake(Trust::File(ca.write_root(dir.path()))).is_err());
}

#[test]
fn a_client_authority_demands_certificates_of_its_own() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let root = ca.write_root(dir.path());
    let files = ServerFiles { client_ca: Some(root.clone()), ..ca.write(dir.path(), "server", "not-checked.example") };
    let server = server_config(files, &Policy::default(), &[]).unwrap();
    let (ours, theirs) = (ca.write(dir.path(), "ours", "a"), Ca::new().write(dir.path(), "theirs", "b"));
    let shake = |identity| handshake(server.clone(), client_config(&Trust::File(root.clone()), identity, &[]).unwrap());
    assert!(shake(Some((&ours.cert, &ours.key))).is_ok());
    assert!(shake(Some((&theirs.cert, &theirs.key))).is_err());
    assert!(shake(None).is_err());
}

#[test]
fn a_client_whose_certificate_was_taken_back_is_refused() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let root = ca.write_root(dir.path());
    let crl = dir.path().join("clients.crl");
    fs::write(&crl, ca.revoke(7)).unwrap();
    let files = ca.write(dir.path(), "server", "not-checked.example");
    let files = ServerFiles { client_ca: Some(root.clone()), client_crl: Some(crl), ..files };
    let server = server_config(files, &Policy::default(), &[]).unwrap();
    for (serial, accepted) in [(7, false), (8, true)] {
        let client = ca.write_numbered(dir.path(), "client", "a", serial);
        let outcome = handshake(
            server.clone(),
            client_config(&Trust::File(root.clone()), Some((&client.cert, &client.key)), &[]).unwrap(),
        );
        assert_eq!(outcome.is_ok(), accepted, "{serial}");
    }
}

#[test]
fn a_client_must_bear_one_of_the_names_listed() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let root = ca.write_root(dir.path());
    let client_hosts = vec!["a.example".to_owned(), "10.0.0.1".to_owned()];
    let files = ca.write(dir.path(), "server", "not-checked.example");
    let files = ServerFiles { client_ca: Some(root.clone()), client_hosts, ..files };
    let server = server_config(files, &Policy::default(), &[]).unwrap();
    for (name, accepted) in [("a.example", true), ("b.example", false), ("10.0.0.1", true)] {
        let client = ca.write(dir.path(), "client", name);
        let outcome = handshake(
            server.clone(),
            client_config(&Trust::File(root.clone()), Some((&client.cert, &client.key)), &[]).unwrap(),
        );
        assert_eq!(outcome.is_ok(), accepted, "{name}");
    }
}

#[test]
fn a_client_must_have_one_of_the_common_names_listed() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let root = ca.write_root(dir.path());
    let client_names = vec!["a.example".to_owned(), "b.example".to_owned()];
    let files = ca.write(dir.path(), "server", "not-checked.example");
    let files = ServerFiles { client_ca: Some(root.clone()), client_names, ..files };
    let server = server_config(files, &Policy::default(), &[]).unwrap();
    for (name, accepted) in [("a.example", true), ("b.example", true), ("c.example", false), ("a.example.c", false)] {
        let client = ca.write(dir.path(), "client", name);
        let identity = Some((client.cert.as_path(), client.key.as_path()));
        let outcome = handshake(server.clone(), client_config(&Trust::File(root.clone()), identity, &[]).unwrap());
        assert_eq!(outcome.is_ok(), accepted, "{name}");
    }
}

#[test]
fn the_versions_spoken_are_those_allowed() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let root = ca.write_root(dir.path());
    let files = ca.write(dir.path(), "server", "not-checked.example");
    let client = client_config(&Trust::File(root), None, &[]).unwrap();
    for (min, max, spoken) in [
        (Version::Tls12, Version::Tls12, ProtocolVersion::TLSv1_2),
        (Version::Tls12, Version::Tls13, ProtocolVersion::TLSv1_3),
        (Version::Tls13, Version::Tls13, ProtocolVersion::TLSv1_3),
    ] {
        let policy = Policy { min, max, ..Policy::default() };
        let server = server_config(files.clone(), &policy, &[]).unwrap();
        let (server, _) = handshake(server, client.clone()).unwrap();
        assert_eq!(server.protocol_version(), Some(spoken), "{min:?} to {max:?}");
    }
}

#[test]
fn changed_files_are_read_again_and_bad_ones_are_not_used() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let files = ca.write(dir.path(), "server", "old.example");
    let reloading = Reloading::load(files.clone()).unwrap();
    let first = reloading.current();
    assert!(Arc::ptr_eq(&first.certified, &reloading.current().certified));

    ca.write(dir.path(), "server", "a-rather-longer-name.example");
    look_again(&reloading);
    let second = reloading.current();
    assert!(!Arc::ptr_eq(&first.certified, &second.certified));

    fs::write(&files.key, "not a key").unwrap();
    look_again(&reloading);
    assert!(Arc::ptr_eq(&second.certified, &reloading.current().certified));

    ca.write(dir.path(), "server", "yet-another.example");
    look_again(&reloading);
    assert!(!Arc::ptr_eq(&second.certified, &reloading.current().certified));
}

/// Makes the last look at the files one of long ago.
fn look_again(reloading: &Reloading) {
    reloading.seen.lock().at -= CHECK_INTERVAL + Duration::from_secs(1);
}

#[test]
fn what_cannot_be_used_at_start_is_refused() {
    let (ca, dir) = (Ca::new(), tempfile::tempdir().unwrap());
    let files = ca.write(dir.path(), "server", "a.example");
    let other = ca.write(dir.path(), "other", "b.example");
    let mixed = ServerFiles { key: other.key, ..files.clone() };
    assert!(server_config(mixed, &Policy::default(), &[]).is_err());
    let without_ca = ServerFiles { client_ca: Some(dir.path().join("absent")), ..files };
    assert!(server_config(without_ca, &Policy::default(), &[]).is_err());
}

#[test]
fn a_certificate_that_is_made_here_is_kept_as_long_as_it_is_of_use() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("fixtures/client");
    let year = Duration::from_hours(365 * 24);
    let made = |hosts: &[&str], validity| {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let files = self_signed(&folder, &hosts, validity).unwrap();
        (fs::read(&files.cert).unwrap(), files)
    };
    let (first, files) = made(&["not-checked.example", "127.0.0.1"], year);
    let trust = Trust::File(files.cert.clone());
    let server = server_config(files.clone(), &Policy::default(), &[]).unwrap();
    let (_, client): (ServerConnection, ClientConnection) =
        handshake(server, client_config(&trust, None, &[]).unwrap()).unwrap();
    assert!(!client.is_handshaking());
    pem::check_key_mode(&files.key).unwrap();

    assert_eq!(made(&["127.0.0.1"], year).0, first, "it bears that already");
    let second = made(&["127.0.0.1", "::1"], year / 100).0;
    assert_ne!(second, first, "there is another host");
    let third = made(&["127.0.0.1", "::1"], year).0;
    assert_ne!(third, second, "it ends within a month");
    fs::remove_file(&files.key).unwrap();
    assert_ne!(made(&["127.0.0.1", "::1"], year).0, third, "its key is gone");
    let refused = self_signed(&folder, &["no host\u{e9}".to_owned()], year).unwrap_err();
    assert!(refused.to_string().starts_with("cannot make a certificate: "), "{refused}");
}
