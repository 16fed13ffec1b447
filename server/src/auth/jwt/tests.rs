//! Tokens signed by one key and verified by its other half, and what is no token.

use std::path::Path;

use aws_lc_rs::{encoding::AsDer, rsa::KeySize};
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;

use super::*;

const NOW: Duration = Duration::from_secs(1_700_000_000);

fn pem(dir: &TempDir, name: &str, label: &str, der: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der));
    fs::write(&path, text).expect("written");
    path
}

/// A new key pair as files: private and public.
fn pair(dir: &TempDir, method: SignMethod, name: &str) -> (PathBuf, PathBuf) {
    let (private, public) = if rsa_padding(method).is_some() {
        let pair = rsa::KeyPair::generate(KeySize::Rsa2048).expect("a key");
        let private: aws_lc_rs::encoding::Pkcs8V1Der<'_> = pair.as_der().expect("encoded");
        (private.as_ref().to_vec(), pair.public_key().as_der().expect("encoded").as_ref().to_vec())
    } else if let Some(algorithm) = ecdsa_of(method) {
        let pair = EcdsaKeyPair::generate(algorithm).expect("a key");
        let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().expect("encoded");
        (pair.to_pkcs8v1().expect("encoded").as_ref().to_vec(), public.as_ref().to_vec())
    } else {
        let pair = Ed25519KeyPair::generate().expect("a key");
        let public: aws_lc_rs::encoding::PublicKeyX509Der<'_> = pair.public_key().as_der().expect("encoded");
        (pair.to_pkcs8().expect("encoded").as_ref().to_vec(), public.as_ref().to_vec())
    };
    let private = pem(dir, &format!("{name}.key"), "PRIVATE KEY", &private);
    (private, pem(dir, &format!("{name}.pub"), "PUBLIC KEY", &public))
}

fn load(method: SignMethod, private: Option<&Path>, public: Option<&Path>) -> Result<Jwt, KeyError> {
    let owned = |path: Option<&Path>| path.map(Path::to_owned);
    let config = JwtConfig { private_key: owned(private), public_key: owned(public), ..JwtConfig::new(method) };
    Jwt::load(&config)
}

fn actor(name: &str, revision: u64) -> Actor {
    Actor::User { name: name.into(), revision }
}

#[test]
fn a_token_is_verified_by_the_key_that_signed_it_and_by_no_other() {
    let dir = tempfile::tempdir().expect("a folder");
    for method in SignMethod::ALL {
        let name = method.name();
        let (jwt, other) = if hmac_of(method).is_some() {
            let secret = |name: &str| pem(&dir, name, "SECRET", name.as_bytes());
            let load = |path: PathBuf| load(method, Some(&path), None).expect(name);
            (load(secret("one")), load(secret("other")))
        } else {
            let (private, public) = pair(&dir, method, name);
            let (_, foreign) = pair(&dir, method, "foreign");
            let verify_only = load(method, None, Some(&public)).expect(name);
            let refused = verify_only.sign_at("u", 7, NOW).expect_err("no private key");
            assert_eq!(refused.message(), "auth: token signing attempted with verify-only key");
            let mismatch = load(method, Some(&private), Some(&foreign));
            assert!(matches!(mismatch, Err(KeyError::Mismatch)), "{name}");
            let private_only = load(method, Some(&private), None).expect(name);
            let token = private_only.sign_at("u", 7, NOW).expect("signed");
            assert_eq!(verify_only.verify_at(&token, NOW), Some(actor("u", 7)), "{name}");
            let both = load(method, Some(&private), Some(&public)).expect(name);
            (both, load(method, None, Some(&foreign)).expect(name))
        };
        let token = jwt.sign_at("u", 7, NOW).expect("signed");
        assert_eq!(jwt.verify_at(&token, NOW), Some(actor("u", 7)), "{name}");
        assert_eq!(other.verify_at(&token, NOW), None, "{name}");
        assert!(jwt.verify_at(&token, NOW + Duration::from_millis(299_999)).is_some());
        assert!(jwt.verify_at(&token, NOW + Duration::from_mins(5)).is_none());
    }
}

#[test]
fn a_token_is_signed_as_configured_or_it_is_none() {
    let dir = tempfile::tempdir().expect("a folder");
    let secret = dir.path().join("secret");
    fs::write(&secret, b"secret").expect("written");
    let jwt = load(SignMethod::HS256, Some(&secret), None).expect("a secret");
    let signer = jwt.signer.as_ref().expect("it signs");
    let token = |header: &str, claims: &str| {
        let parts = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = signer.sign(parts.as_bytes()).expect("a signature");
        format!("{parts}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    let hs256 = r#"{"alg":"HS256","typ":"JWT"}"#;
    let claims = r#"{"username":"u","revision":3,"exp":1700000001}"#;
    let valid = token(hs256, claims);
    assert_eq!(jwt.verify_at(&valid, NOW), Some(actor("u", 3)));
    // Source: golang-jwt, as etcd uses it, which writes the claims in this order.
    assert_eq!(
        jwt.verify_at(&token(hs256, r#"{"exp":1700000001,"revision":3,"username":"u"}"#), NOW),
        Some(actor("u", 3))
    );
    let (unsigned, _) = valid.rsplit_once('.').expect("three parts");
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
    let forged = [
        token(r#"{"alg":"HS512","typ":"JWT"}"#, claims),
        token(r#"{"alg":"none","typ":"JWT"}"#, claims),
        format!("{none}.{}.", URL_SAFE_NO_PAD.encode(claims)),
        format!("{unsigned}."),
        unsigned.to_owned(),
        token(hs256, r#"{"username":"u","exp":1700000001}"#),
        token(hs256, r#"{"revision":3,"exp":1700000001}"#),
        token(hs256, r#"{"username":"u","revision":-3,"exp":1700000001}"#),
        token(hs256, r#"{"username":"u","revision":3,"exp":1699999999}"#),
        token(hs256, r#"{"username":"u","revision":3,"exp":1700000001,"nbf":1700000001}"#),
        String::new(),
        "..".to_owned(),
        "a.b.c".to_owned(),
    ];
    for token in forged {
        assert_eq!(jwt.verify_at(&token, NOW), None, "{token}");
    }
}

#[test]
fn keys_that_do_not_fit_are_told_of_and_not_shown() {
    let dir = tempfile::tempdir().expect("a folder");
    let (private, public) = pair(&dir, SignMethod::ES256, "es256");
    assert!(matches!(load(SignMethod::RS256, Some(&private), None), Err(KeyError::Unusable { .. })));
    assert!(matches!(load(SignMethod::EdDSA, None, Some(&public)), Err(KeyError::Unusable { .. })));
    assert!(matches!(load(SignMethod::ES256, None, None), Err(KeyError::Missing(_))));
    assert!(matches!(load(SignMethod::HS256, None, Some(&public)), Err(KeyError::Missing(_))));
    let absent = dir.path().join("absent");
    assert!(matches!(load(SignMethod::ES256, Some(&absent), None), Err(KeyError::Read { .. })));
    let jwt = load(SignMethod::ES256, Some(&private), None).expect("a pair");
    assert_eq!(format!("{jwt:?}"), "Jwt { method: ES256, ttl: 300s, .. }");
}
