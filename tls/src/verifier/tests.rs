use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};
use rustls::{ClientConfig, ServerConfig, version::TLS13};

use super::*;
use crate::{
    H2, TrustBundle, client_config, peer_id, server_config,
    testing::{Authority, Issued, handshake, say_hello, uri},
};

fn any_client(credentials: &Credentials) -> Arc<ClientConfig> {
    client_config(credentials, Expect::AnyInTrustDomain, H2)
}

/// A server that shows whatever it is given.
fn careless_server(issued: &Issued) -> Arc<ServerConfig> {
    let (chain, key) = issued.der();
    let builder = ServerConfig::builder_with_provider(config::provider()).with_protocol_versions(&[&TLS13]).unwrap();
    config::finish_server(builder.with_no_client_auth().with_single_cert(chain, key).unwrap(), H2)
}

/// A client that shows whatever it is given, and checks servers as all do.
fn careless_client(issued: &Issued, credentials: &Credentials) -> Arc<ClientConfig> {
    let (chain, key) = issued.der();
    let builder = ClientConfig::builder_with_provider(config::provider()).with_protocol_versions(&[&TLS13]).unwrap();
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(Verifier::of_servers(credentials, Expect::AnyInTrustDomain));
    config::finish_client(builder.with_client_auth_cert(chain, key).unwrap(), H2)
}

#[test]
fn both_sides_learn_who_the_other_is() {
    let authority = Authority::new("cluster.local");
    let server = server_config(&authority.credentials("server"), ClientAuth::Required, H2);
    let (mut server, mut client) = handshake(server, any_client(&authority.credentials("client"))).unwrap();
    assert_eq!(peer_id(server.peer_certificates().unwrap()), Ok(authority.id("client")));
    assert_eq!(peer_id(client.peer_certificates().unwrap()), Ok(authority.id("server")));
    assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(client.protocol_version(), Some(rustls::ProtocolVersion::TLSv1_3));
    say_hello(&mut server, &mut client);
}

#[test]
fn a_certificate_of_the_wrong_form_is_refused_in_both_directions() {
    type Change = fn(&mut CertificateParams);
    let cases: [(&str, Change, &str); 13] = [
        ("another trust domain", |p| p.subject_alt_names = vec![uri("spiffe://other/ns/a/sa/b")], "TrustDomain"),
        ("two identities", |p| p.subject_alt_names.push(uri("spiffe://cluster.local/ns/a/sa/b")), "UriNames(2)"),
        ("no identity", |p| p.subject_alt_names = vec![SanType::DnsName("a.b".try_into().unwrap())], "UriNames(0)"),
        ("no names at all", |p| p.subject_alt_names = vec![], "UriNames(0)"),
        ("another scheme", |p| p.subject_alt_names = vec![uri("https://cluster.local/ns/a/sa/b")], "Identity"),
        ("no path", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local")], "Identity"),
        ("dots in the path", |p| p.subject_alt_names = vec![uri("spiffe://cluster.local/ns/../sa/b")], "Identity"),
        ("an authority", |p| p.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "CaUsedAsEndEntity"),
        ("signs certificates", |p| p.key_usages.push(KeyUsagePurpose::KeyCertSign), "KeyUsage"),
        ("signs revocations", |p| p.key_usages.push(KeyUsagePurpose::CrlSign), "KeyUsage"),
        ("no key usage", |p| p.key_usages.clear(), "KeyUsage"),
        ("expired", |p| p.not_after = p.not_before + std::time::Duration::from_secs(1), "Expired"),
        ("for other uses", |p| p.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning], "InvalidPurpose"),
    ];
    let authority = Authority::new("cluster.local");
    let ours = authority.credentials("ours");
    let strict = server_config(&ours, ClientAuth::Optional, H2);
    for (case, change, expected) in cases {
        let issued = authority.issue("theirs", change);
        let as_server = handshake(careless_server(&issued), any_client(&ours)).unwrap_err();
        let as_client = handshake(strict.clone(), careless_client(&issued, &ours)).unwrap_err();
        assert!(format!("{as_server:?}").contains(expected), "{case}: {as_server:?}");
        assert!(format!("{as_client:?}").contains(expected), "{case}: {as_client:?}");
    }
    let fine = authority.issue("theirs", |_| ());
    handshake(careless_server(&fine), any_client(&ours)).unwrap();
    handshake(strict, careless_client(&fine, &ours)).unwrap();
}

#[test]
fn a_certificate_of_another_root_is_refused() {
    let (ours, theirs) = (Authority::new("cluster.local"), Authority::new("cluster.local"));
    let server = server_config(&theirs.credentials("server"), ClientAuth::None, H2);
    let error = handshake(server, any_client(&ours.credentials("client"))).unwrap_err();
    assert!(
        format!("{error:?}").contains("UnknownIssuer") || format!("{error:?}").contains("BadSignature"),
        "{error:?}"
    );
}

#[test]
fn only_the_expected_server_is_accepted() {
    let authority = Authority::new("cluster.local");
    let server = server_config(&authority.credentials("reviews"), ClientAuth::None, H2);
    let ours = authority.credentials("client");
    let expecting = |ids: &[&str]| {
        let expect = Expect::OneOf(ids.iter().map(|id| authority.id(id)).collect());
        handshake(server.clone(), client_config(&ours, expect, H2)).is_ok()
    };
    assert!(expecting(&["reviews"]));
    assert!(expecting(&["ratings", "reviews"]));
    assert!(!expecting(&["ratings"]));
    assert!(!expecting(&[]));
}

#[test]
fn a_client_without_a_certificate_is_treated_as_the_server_says() {
    let authority = Authority::new("cluster.local");
    let ours = authority.credentials("server");
    let nobody = any_client(&Credentials::new(authority.bundle(), None).unwrap());
    for (client_auth, accepted) in
        [(ClientAuth::None, true), (ClientAuth::Optional, true), (ClientAuth::Required, false)]
    {
        let result = handshake(server_config(&ours, client_auth, H2), nobody.clone());
        assert_eq!(result.is_ok(), accepted, "{client_auth:?}: {:?}", result.err());
    }
}

#[test]
fn a_server_without_a_certificate_yet_refuses() {
    let authority = Authority::new("cluster.local");
    let bare = Credentials::new(authority.bundle(), None).unwrap();
    let server = server_config(&bare, ClientAuth::None, H2);
    let client = any_client(&authority.credentials("client"));
    assert!(handshake(server.clone(), client.clone()).is_err());
    bare.replace(authority.bundle(), Some(authority.svid("server"))).unwrap();
    assert!(handshake(server, client).is_ok());
}

#[test]
fn what_is_replaced_counts_from_the_next_handshake() {
    let (old, new) = (Authority::new("cluster.local"), Authority::new("cluster.local"));
    let (server, client) = (old.credentials("server"), old.credentials("client"));
    let (server_config, client_config) = (server_config(&server, ClientAuth::Required, H2), any_client(&client));
    let shake = || handshake(server_config.clone(), client_config.clone());
    shake().unwrap();

    server.replace(new.bundle(), Some(new.svid("server"))).unwrap();
    assert!(shake().is_err(), "the client still trusts the old root only, and no session is resumed");

    client.replace(new.bundle(), Some(new.svid("renewed"))).unwrap();
    let (server, _client) = shake().unwrap();
    assert_eq!(peer_id(server.peer_certificates().unwrap()), Ok(new.id("renewed")));
}

#[test]
fn two_roots_are_trusted_at_once_while_one_replaces_the_other() {
    let (old, new) = (Authority::new("cluster.local"), Authority::new("cluster.local"));
    let both = TrustBundle::from_pem((old.pem() + &new.pem()).as_bytes()).unwrap();
    let client = any_client(&Credentials::new(both, None).unwrap());
    for authority in [&old, &new] {
        handshake(server_config(&authority.credentials("server"), ClientAuth::None, H2), client.clone()).unwrap();
    }
}
