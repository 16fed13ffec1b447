//! The little of DER that certificates need.
//!
//! - Writing is a pure function of its arguments: one value, one encoding. Source: ITU-T X.690, section 10.
//! - Reading is strict, and only looks into public keys.

use crate::time::Time;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OID: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// A tag, the length, the content.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(u8::try_from(short).expect("below 0x80")),
        long => {
            let length = long.to_be_bytes();
            let significant = &length[length.iter().position(|&byte| byte != 0).unwrap_or(0)..];
            out.push(0x80 | u8::try_from(significant.len()).expect("at most 8"));
            out.extend_from_slice(significant);
        }
    }
    out.extend_from_slice(content);
    out
}

pub(crate) fn sequence(items: &[Vec<u8>]) -> Vec<u8> {
    element(SEQUENCE, &items.concat())
}

pub(crate) fn set(item: &[u8]) -> Vec<u8> {
    element(SET, item)
}

/// Context-specific, constructed: `[number] { … }`.
pub(crate) fn explicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0xa0 | number, content)
}

/// Context-specific, primitive: `[number] IMPLICIT`.
pub(crate) fn implicit(number: u8, content: &[u8]) -> Vec<u8> {
    element(0x80 | number, content)
}

/// An unsigned integer, big endian, as few octets as it takes.
pub(crate) fn integer(magnitude: &[u8]) -> Vec<u8> {
    let first = magnitude.iter().position(|&byte| byte != 0).unwrap_or(magnitude.len());
    let significant = &magnitude[first..];
    if significant.first().is_none_or(|&byte| byte >= 0x80) {
        return element(INTEGER, &[&[0], significant].concat());
    }
    element(INTEGER, significant)
}

/// `content`: the arcs, as X.690 writes them.
pub(crate) fn oid(content: &[u8]) -> Vec<u8> {
    element(OID, content)
}

pub(crate) fn bit_string(unused_bits: u8, bits: &[u8]) -> Vec<u8> {
    element(BIT_STRING, &[&[unused_bits], bits].concat())
}

pub(crate) fn octet_string(bytes: &[u8]) -> Vec<u8> {
    element(OCTET_STRING, bytes)
}

pub(crate) fn utf8_string(text: &str) -> Vec<u8> {
    element(UTF8_STRING, text.as_bytes())
}

pub(crate) fn printable_string(text: &str) -> Vec<u8> {
    element(PRINTABLE_STRING, text.as_bytes())
}

pub(crate) fn boolean_true() -> Vec<u8> {
    vec![0x01, 0x01, 0xff]
}

pub(crate) fn time(time: Time) -> Vec<u8> {
    element(if time.is_generalized() { GENERALIZED_TIME } else { UTC_TIME }, time.x509_text().as_bytes())
}

/// The key bits of a `SubjectPublicKeyInfo`: a sequence of a sequence and a bit string without unused bits, in strict
/// DER, and nothing after it. `None` for anything else.
pub(crate) fn public_key_bits(spki: &[u8]) -> Option<&[u8]> {
    let (content, []) = read(spki, SEQUENCE)? else { return None };
    let (_algorithm, rest) = read(content, SEQUENCE)?;
    let (bits, []) = read(rest, BIT_STRING)? else { return None };
    match bits {
        [0, key @ ..] if !key.is_empty() => Some(key),
        _ => None,
    }
}

/// The content of the first element of `bytes`, which must have the tag, and what follows it.
fn read(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => match rest.split_first()? {
            (&length @ 0x80.., rest) => (usize::from(length), rest),
            _ => return None,
        },
        0x82 => match rest {
            [high @ 1..=0xff, low, rest @ ..] => (usize::from(u16::from_be_bytes([*high, *low])), rest),
            _ => return None,
        },
        _ => return None,
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn lengths_and_integers_are_minimal() {
        for (length, header) in [
            (0, &[4, 0][..]),
            (0x7f, &[4, 0x7f]),
            (0x80, &[4, 0x81, 0x80]),
            (0x100, &[4, 0x82, 1, 0]),
            (0xffff, &[4, 0x82, 0xff, 0xff]),
        ] {
            assert!(octet_string(&vec![0; length]).starts_with(header), "{length}");
        }
        for (magnitude, expected) in [
            (&[][..], &[2, 1, 0][..]),
            (&[0, 0], &[2, 1, 0]),
            (&[0, 1], &[2, 1, 1]),
            (&[0x80], &[2, 2, 0, 0x80]),
            (&[0x7f], &[2, 1, 0x7f]),
        ] {
            assert_eq!(integer(magnitude), expected, "{magnitude:?}");
        }
    }

    #[test]
    fn a_public_key_is_read_strictly() {
        let spki = |bits: Vec<u8>| sequence(&[sequence(&[oid(&[1])]), bits]);
        assert_eq!(public_key_bits(&spki(bit_string(0, &[7; 300]))), Some(&[7; 300][..]));
        assert_eq!(public_key_bits(&spki(bit_string(1, b"key"))), None);
        assert_eq!(public_key_bits(&spki(bit_string(0, b""))), None);
        assert_eq!(public_key_bits(&[spki(bit_string(0, b"key")), vec![0]].concat()), None);
        assert_eq!(public_key_bits(&[0x30, 0x81, 0x03, 0x30, 0, 3]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_key_and_no_panic(bytes: Vec<u8>) {
            let _either = public_key_bits(&bytes);
        }

        #[test]
        fn what_is_written_is_read(content in prop::collection::vec(any::<u8>(), 0..70_000), tail: Vec<u8>) {
            let bytes = [octet_string(&content), tail.clone()].concat();
            if u16::try_from(content.len()).is_ok() {
                prop_assert_eq!(read(&bytes, OCTET_STRING), Some((&content[..], &tail[..])));
            } else {
                prop_assert_eq!(read(&bytes, OCTET_STRING), None);
            }
        }
    }
}
