//! What the JSON gateway reads and writes.

use std::{collections::BTreeMap, sync::LazyLock};

use bytes::Bytes;
use prost_reflect::{DescriptorPool, MessageDescriptor};

use crate::http::json::{Malformed, Objects, read, write};

/// Every message that a client may send, and every one that it may be answered.
static MESSAGES: LazyLock<Vec<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(proto::ETCD_DESCRIPTORS).expect("the descriptors are checked in");
    let methods = pool.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    let messages = methods.flat_map(|method| [method.input(), method.output()]);
    messages
        .map(|message| (message.full_name().to_owned(), message))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect()
});

/// Reads `bytes` as the JSON of every message of etcd's services, and as that message's encoding: what is read says the
/// same once it was written and read again. And as a stream of objects, which are the same however they arrive.
///
/// # Panics
/// If not.
pub fn json(bytes: &[u8]) {
    for message in &*MESSAGES {
        if let Ok(encoded) = read(message, bytes) {
            assert_eq!(read(message, &written(message, &encoded)), Ok(encoded), "{}", message.full_name());
        }
        let mut text = Vec::new();
        if write(message, bytes, &mut text).is_ok() {
            let encoded = read(message, &text).expect("what was written is read");
            assert_eq!(written(message, &encoded), text, "{}", message.full_name());
        }
    }
    let whole = objects(bytes, bytes.len().max(1));
    for step in [1, 2, 7] {
        assert_eq!(objects(bytes, step), whole, "in pieces of {step}");
    }
}

fn written(message: &MessageDescriptor, encoded: &Bytes) -> Vec<u8> {
    let mut text = Vec::new();
    write(message, &encoded[..], &mut text).expect("what was read is written");
    text
}

/// The objects of a stream that arrives in pieces of `step` bytes, and how it ends.
fn objects(bytes: &[u8], step: usize) -> (Vec<Bytes>, Result<bool, Malformed>) {
    let (mut objects, mut found) = (Objects::new(usize::MAX), Vec::new());
    for piece in bytes.chunks(step) {
        objects.push(piece);
        loop {
            match objects.next() {
                Ok(Some(object)) => found.push(object),
                Ok(None) => break,
                Err(malformed) => return (found, Err(malformed)),
            }
        }
    }
    (found, Ok(objects.is_complete()))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::Index};

    use super::*;

    const SAMPLES: [&str; 6] = [
        r#"{"key":"Zm9v","range_end":"Zm9w","limit":"5","sort_order":"DESCEND","keysOnly":true}"#,
        r#"{"compare":[{"key":"YQ==","target":"VALUE","result":"EQUAL","value":"Yg=="}],
            "success":[{"request_put":{"key":"YQ==","lease":-1}}],"failure":[{"requestRange":{"key":"YQ=="}}]}"#,
        r#"{"create_request":{"key":"YQ","filters":["NOPUT",1],"progress_notify":true}} {"cancel_request":{"watch_id":1}}"#,
        r#"{"name":"r","perm":{"permType":"READWRITE","key":"\"\\u00e4\ud83d\ude00"}}"#,
        r#"{"action":"ACTIVATE","memberID":"18446744073709551615","alarm":7,"unknown":[{}]}"#,
        "{}\n{\"a\":{\"b\":[]}}",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        #[test]
        fn any_text_is_a_message_or_an_error(text in "[\\[\\]{}:,\"\\\\a-z0-9 .-]{0,80}") {
            json(text.as_bytes());
        }

        #[test]
        fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..120)) {
            json(&bytes);
        }

        #[test]
        fn damaged_json_is_a_message_or_an_error(
            sample in 0..SAMPLES.len(), damage in vec((any::<Index>(), any::<u8>()), 0..4),
        ) {
            let mut text = SAMPLES[sample].as_bytes().to_vec();
            for (at, byte) in damage {
                let at = at.index(text.len());
                text[at] = byte;
            }
            json(&text);
        }
    }
}
