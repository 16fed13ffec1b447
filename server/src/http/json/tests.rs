use proptest::{collection::vec, prelude::*};
use prost_reflect::DescriptorPool;
use proto::etcdserverpb as pb;
use serde_json::{Value, json};

use super::*;

fn message(name: &str) -> MessageDescriptor {
    DescriptorPool::decode(proto::ETCD_DESCRIPTORS).unwrap().get_message_by_name(name).unwrap()
}

fn range(json: &str) -> Result<pb::RangeRequest, Malformed> {
    let encoded = read(&message("etcdserverpb.RangeRequest"), json.as_bytes())?;
    Ok(pb::RangeRequest::decode(encoded).unwrap())
}

#[test]
fn requests_are_read_as_etcd_reads_them() {
    let foo = || pb::RangeRequest { key: "foo".into(), ..Default::default() };
    let cases = [
        ("", Some(pb::RangeRequest::default())),
        (" \n", Some(pb::RangeRequest::default())),
        ("{}", Some(pb::RangeRequest::default())),
        (r#"{"key":"Zm9v"}"#, Some(foo())),
        (r#"{"key":"Zm9v"}x"#, Some(foo())),
        (r#"{"key":"Zm8"}"#, Some(pb::RangeRequest { key: "fo".into(), ..foo() })),
        (r#"{"key":"Zm8="}"#, Some(pb::RangeRequest { key: "fo".into(), ..foo() })),
        (r#"{"key":"_-__"}"#, Some(pb::RangeRequest { key: (&[0xff, 0xef, 0xff][..]).into(), ..foo() })),
        (r#"{"key":"/+//"}"#, Some(pb::RangeRequest { key: (&[0xff, 0xef, 0xff][..]).into(), ..foo() })),
        (r#"{"key":null}"#, Some(pb::RangeRequest::default())),
        (r#"{"key":"Zm9v","revision":"99"}"#, Some(pb::RangeRequest { revision: 99, ..foo() })),
        (r#"{"key":"Zm9v","revision":99}"#, Some(pb::RangeRequest { revision: 99, ..foo() })),
        (r#"{"key":"Zm9v","limit":1.0}"#, Some(pb::RangeRequest { limit: 1, ..foo() })),
        (
            r#"{"key":"Zm9v","unknown":{"a":[1]},"rangeEnd":"Zm9w","sortOrder":"DESCEND","sort_target":1}"#,
            Some(pb::RangeRequest { range_end: "fop".into(), sort_order: 2, sort_target: 1, ..foo() }),
        ),
        (r#"{"key":"Zm9v","sort_order":"NOPE"}"#, Some(foo())),
        ("{", None),
        ("null", None),
        ("[]", None),
        (r#""x""#, None),
        (r#"{"key":"!!"}"#, None),
        (r#"{"key":5}"#, None),
        (r#"{"key":"Zm9v","limit":"x"}"#, None),
        (r#"{"key":"Zm9v","limit":1.5}"#, None),
        (r#"{"key":"Zm9v","limit":"9223372036854775808"}"#, None),
        (r#"{"key":"Zm9v","keys_only":"true"}"#, None),
    ];
    for (json, expected) in cases {
        assert_eq!(range(json).ok(), expected, "{json}");
    }
    assert_eq!(range("{"), Err(Malformed::Truncated));
}

#[test]
fn answers_are_written_as_etcd_writes_them() {
    let header = pb::ResponseHeader { cluster_id: u64::MAX, member_id: 1, revision: 2, raft_term: 0 };
    let pair = proto::mvccpb::KeyValue { key: "foo".into(), value: (&[0xff, 0xef][..]).into(), ..Default::default() };
    let response = pb::RangeResponse { header: Some(header), kvs: vec![pair], more: false, count: 1 };
    let mut text = Vec::new();
    write(&message("etcdserverpb.RangeResponse"), &response.encode_to_vec()[..], &mut text).unwrap();
    let expected = json!({
        "header": { "cluster_id": "18446744073709551615", "member_id": "1", "revision": "2" },
        "kvs": [{ "key": "Zm9v", "value": "/+8=" }],
        "count": "1",
    });
    assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), expected);

    let member = pb::Member { id: 7, peer_ur_ls: vec!["http://p".into()], is_learner: true, ..Default::default() };
    let mut text = Vec::new();
    write(&message("etcdserverpb.Member"), &member.encode_to_vec()[..], &mut text).unwrap();
    assert_eq!(text, br#"{"ID":"7","peerURLs":["http://p"],"isLearner":true}"#);
}

#[test]
fn objects_are_cut_out_however_they_arrive() {
    let stream = br#" {"a":"}{\"\\"} {"b":[{}]}
{}"#;
    for step in 1..stream.len() {
        let mut objects = Objects::new(64);
        let mut found = Vec::new();
        for part in stream.chunks(step) {
            objects.push(part);
            while let Some(object) = objects.next().unwrap() {
                found.push(object);
            }
        }
        assert_eq!(found, [&br#"{"a":"}{\"\\"}"#[..], br#"{"b":[{}]}"#, b"{}"], "{step}");
        assert!(objects.is_complete());
    }
}

#[test]
fn what_is_no_object_ends_a_stream() {
    for (stream, expected) in [
        ("x", Malformed::Invalid("expected an object".to_owned())),
        ("]", Malformed::Invalid("expected an object".to_owned())),
        (r#"{"a":"0123456789"#, Malformed::TooLong(8)),
    ] {
        let mut objects = Objects::new(8);
        objects.push(stream.as_bytes());
        assert_eq!(objects.next(), Err(expected), "{stream}");
    }
    let mut objects = Objects::new(8);
    objects.push(b"{\"a\"");
    assert_eq!(objects.next(), Ok(None));
    assert!(!objects.is_complete());
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        key in vec(any::<u8>(), 0..20),
        value in vec(any::<u8>(), 0..20),
        lease in any::<i64>(),
        prev_kv in any::<bool>(),
    ) {
        let put = pb::PutRequest { key: key.into(), value: value.into(), lease, prev_kv, ..Default::default() };
        let mut text = Vec::new();
        write(&message("etcdserverpb.PutRequest"), &put.encode_to_vec()[..], &mut text).unwrap();
        let encoded = read(&message("etcdserverpb.PutRequest"), &text).unwrap();
        prop_assert_eq!(pb::PutRequest::decode(encoded).unwrap(), put);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in vec(any::<u8>(), 0..200)) {
        let _either = read(&message("etcdserverpb.TxnRequest"), &bytes);
    }

    #[test]
    fn how_a_stream_arrives_does_not_matter(stream in r#"[ {}\[\]"\\a]{0,60}"#, cuts in vec(0..60_usize, 0..10)) {
        let whole = cut(&[stream.as_bytes()]);
        let mut cuts: Vec<_> = cuts.into_iter().filter(|cut| *cut < stream.len()).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let parts: Vec<_> = cuts.windows(2).map(|ends| &stream.as_bytes()[ends[0]..ends[1]]).collect();
        prop_assert_eq!(cut(&parts), whole);
    }
}

/// The objects of a stream, until what is none.
fn cut(parts: &[&[u8]]) -> (Vec<Bytes>, Option<Malformed>) {
    let (mut objects, mut found) = (Objects::new(1024), Vec::new());
    for part in parts {
        objects.push(part);
        loop {
            match objects.next() {
                Ok(Some(object)) => found.push(object),
                Ok(None) => break,
                Err(malformed) => return (found, Some(malformed)),
            }
        }
    }
    (found, None)
}
