use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use super::*;
use crate::{
    Time,
    testing::{House, empty_custody, traces_of, trust_domain},
};

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn keys_are_made_once() {
    let (_dir, custody) = empty_custody();
    assert!(!custody.exists());
    let first = custody.found(&trust_domain(), Time::now()).unwrap();
    assert!(custody.exists());
    let again = custody.found(&trust_domain(), Time::now().plus(std::time::Duration::from_hours(1))).unwrap();
    assert_eq!(first, again, "an interrupted bootstrap is taken up");
    let other = types::TrustDomain::parse("other").unwrap();
    assert!(matches!(custody.found(&other, Time::now()), Err(AuthorityError::TrustDomain { .. })));
}

#[test]
fn what_an_interrupted_bootstrap_left_is_replaced() {
    let (dir, custody) = empty_custody();
    let leftover = dir.path().join("ca.new");
    fs::create_dir(&leftover).unwrap();
    fs::write(leftover.join("root.der"), "half").unwrap();
    custody.found(&trust_domain(), Time::now()).unwrap();
    assert!(!leftover.exists());
}

#[test]
fn files_are_for_the_owner_alone() {
    let house = House::new();
    let modes = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let dir = house.dir.path().join("ca");
    assert_eq!(modes(&dir), 0o700);
    assert_eq!(modes(&house.dir.path().join("kek")), 0o600);
    let files: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 4);
    for file in files {
        assert_eq!(modes(&file), 0o600, "{}", file.display());
    }
}

#[test]
fn files_that_others_may_touch_are_refused() {
    for (name, mode) in [("ca", 0o755), ("ca", 0o710), ("kek", 0o644), ("kek", 0o620), ("ca/issuing.key.sealed", 0o604)]
    {
        let house = House::new();
        set_mode(&house.dir.path().join(name), mode);
        let error = Authority::open(&house.custody, house.ledger.clone()).unwrap_err();
        assert!(matches!(&error, AuthorityError::Mode { mode: found, .. } if *found == mode), "{name}: {error}");
    }
}

#[test]
fn links_damage_and_the_wrong_key_are_refused() {
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 6] = [
        ("a link to a key", |dir| {
            fs::rename(dir.join("ca/issuing.key.sealed"), dir.join("elsewhere")).unwrap();
            symlink(dir.join("elsewhere"), dir.join("ca/issuing.key.sealed")).unwrap();
        }),
        ("a flipped bit", |dir| {
            let path = dir.join("ca/issuing.key.sealed");
            let mut bytes = fs::read(&path).unwrap();
            *bytes.last_mut().unwrap() ^= 1;
            fs::write(path, bytes).unwrap();
        }),
        ("a short file", |dir| fs::write(dir.join("ca/issuing.key.sealed"), "meshstore-sealed-1\n").unwrap()),
        ("the root's key in its place", |dir| {
            fs::copy(dir.join("ca/root.key.sealed"), dir.join("ca/issuing.key.sealed")).map(|_| ()).unwrap();
        }),
        ("another key-encryption key", |dir| fs::write(dir.join("kek"), [1; 32]).unwrap()),
        ("a short key-encryption key", |dir| fs::write(dir.join("kek"), [1; 31]).unwrap()),
    ];
    for (case, harm) in cases {
        let house = House::new();
        harm(house.dir.path());
        let error = Authority::open(&house.custody, house.ledger.clone());
        assert!(error.is_err(), "{case}");
    }
}

#[test]
fn a_place_without_a_certificate_is_not_signed() {
    let house = House::new();
    let authority = Authority::open(&house.custody, house.ledger.clone()).unwrap();
    for place in [0, 1, u64::MAX] {
        let place = Place::new(place);
        assert!(matches!(authority.sign(place), Err(SignError::NotIssued(_))), "{place}");
    }
}

#[tokio::test]
async fn what_another_key_is_to_sign_is_not_signed() {
    let (house, other) = (House::new(), House::new());
    let admin = crate::Issuer::admin_id(&trust_domain());
    let issued = house.issuer.issue_own(admin, vec![], vec![], std::time::Duration::from_hours(1)).await.unwrap();
    let stranger = Authority::open(&other.custody, house.ledger.clone()).unwrap();
    assert!(matches!(stranger.sign(issued.certificate().record.place), Err(SignError::NotOurKey)));
}

#[tokio::test]
async fn keys_leave_no_trace() {
    let house = House::new();
    let admin = crate::Issuer::admin_id(&trust_domain());
    let issued = house.issuer.issue_own(admin, vec![], vec![], std::time::Duration::from_hours(1)).await.unwrap();
    let authority = Authority::open(&house.custody, house.ledger.clone()).unwrap();
    let issuing = house.custody.issuing_key().unwrap().to_pkcs8v1().unwrap();
    let ours = rustls::pki_types::pem::PemObject::from_pem_slice(issued.key_pem().as_bytes());
    let ours: rustls::pki_types::PrivatePkcs8KeyDer<'_> = ours.unwrap();

    let mut seen: Vec<Vec<u8>> = house.log.rows().into_iter().flat_map(|(key, value)| [key, value]).collect();
    seen.push(format!("{authority:?} {issued:?} {:?} {:?}", house.custody, issued.certificate()).into_bytes());
    for file in fs::read_dir(house.dir.path().join("ca")).unwrap() {
        seen.push(fs::read(file.unwrap().path()).unwrap());
    }
    for trace in [traces_of(issuing.as_ref()), traces_of(ours.secret_pkcs8_der())].concat() {
        assert!(!seen.iter().any(|bytes| bytes.windows(trace.len()).any(|window| window == trace)));
    }
}
