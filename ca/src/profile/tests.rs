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
const GOLDEN: &str = "\
    308201d8a00302010202105a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a300a06082a8648ce3d040302304f311a30180603550403\
    0c116d65736873746f72652069737375696e673131302f060355040513283037303730373037303730373037303730373037\
    3037303730373037303730373037303730373037301e170d3237303131353037353930305a170d3237303131363038303030\
    305a30003059301306072a8648ce3d020106082a8648ce3d030107034200046b17d1f2e12c4247f8bce6e563a440f277037d\
    812deb33a0f4a13945d898c2964fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5a381e43081\
    e1300e0603551d0f0101ff040403020780300c0603551d130101ff04023000301d0603551d250416301406082b0601050507\
    030106082b06010505070302301d0603551d0e04160414698bea63dc44a344663ff1429aea10842df27b6b301f0603551d23\
    041830168014070707070707070707070707070707070707070730620603551d110101ff04583056862c7370696666653a2f\
    2f636c75737465722e6c6f63616c2f6e732f64656661756c742f73612f72657669657773820e6e6f64652d312e6578616d70\
    6c6587040a000001871000000000000000000000000000000001";

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
