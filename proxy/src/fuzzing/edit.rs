//! Changes of messages whose types are not known here: what is changed is a message again, all of its lengths are right.

use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use proto::envoy::service::discovery::v3::Resource;

/// Bytes of one edit: the resource, two for the field in it, what happens to it, and a number for that.
pub(super) const EDIT_BYTES: usize = 5;

/// Numbers that have a meaning somewhere, or are at an end.
const NUMBERS: [u64; 12] = [0, 1, 2, 3, 80, 100, 65_535, 65_536, u32::MAX as u64, i64::MAX as u64, 1 << 63, u64::MAX];

/// Texts that have a meaning somewhere, or none.
const TEXTS: [&str; 20] = [
    "",
    "*",
    "/",
    "*.x",
    "x.*",
    "host",
    ":authority",
    "%REQ(a)%",
    "100%%",
    "(a|b",
    "/a/(.*)",
    "\\1\\9",
    "127.0.0.1",
    "::1",
    "a.example",
    "spiffe://cluster.local/ns/a/sa/b",
    "spiffe://other/ns/a",
    "5xx,reset,503",
    "\n",
    "h2",
];

/// A field as it is on the wire.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Number(u64),
    Fixed(WireType, Vec<u8>),
    Bytes(Vec<u8>),
    /// Bytes that read as a message, which other bytes may do too.
    Message(Vec<Field>),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    number: u32,
    value: Value,
}

/// Changes resources as `edits` say.
pub(super) fn apply(resources: &mut [Resource], edits: &[u8]) {
    for edit in edits.chunks_exact(EDIT_BYTES) {
        let place = usize::from(edit[0]) % resources.len().max(1);
        let Some(any) = resources.get_mut(place).and_then(|resource| resource.resource.as_mut()) else { continue };
        let Some(mut message) = read(&any.value) else { continue };
        let mut field = usize::from(u16::from_be_bytes([edit[1], edit[2]])) % count(&message).max(1);
        change(&mut message, &mut field, (edit[3], edit[4]));
        any.value = write(&message);
    }
}

fn count(message: &[Field]) -> usize {
    let inner = |field: &Field| if let Value::Message(fields) = &field.value { count(fields) } else { 0 };
    message.iter().map(|field| 1 + inner(field)).sum()
}

/// Changes the field of that number, counted from the first one on, each before those in it.
fn change(message: &mut Vec<Field>, at: &mut usize, (what, number): (u8, u8)) {
    for place in 0..message.len() {
        if *at == 0 {
            return changed(message, place, what, number.into());
        }
        *at -= 1;
        if let Value::Message(fields) = &mut message[place].value {
            let inside = count(fields);
            if *at < inside {
                return change(fields, at, (what, number));
            }
            *at -= inside;
        }
    }
}

fn changed(message: &mut Vec<Field>, place: usize, what: u8, number: usize) {
    let text = || TEXTS[number % TEXTS.len()].as_bytes().to_vec();
    match what % 7 {
        0 => drop(message.remove(place)),
        1 => message.insert(place, message[place].clone()),
        2 => message[place].value = Value::Number(NUMBERS[number % NUMBERS.len()]),
        3 => message[place].number = u32::try_from(number).unwrap_or_default().max(1),
        4 => message[place].value = Value::Bytes(text()),
        5 => message[place].value = message[number % message.len()].value.clone(),
        _ => message
            .push(Field { number: u32::try_from(number).unwrap_or_default().max(1), value: Value::Bytes(text()) }),
    }
}

/// `None` if it is no message.
fn read(mut from: &[u8]) -> Option<Vec<Field>> {
    let mut message = Vec::new();
    while !from.is_empty() {
        let (number, kind) = decode_key(&mut from).ok()?;
        let value = match kind {
            WireType::Varint => Value::Number(decode_varint(&mut from).ok()?),
            WireType::SixtyFourBit => Value::Fixed(kind, take(&mut from, 8)?),
            WireType::ThirtyTwoBit => Value::Fixed(kind, take(&mut from, 4)?),
            WireType::LengthDelimited => {
                let length = usize::try_from(decode_varint(&mut from).ok()?).ok()?;
                let bytes = take(&mut from, length)?;
                match read(&bytes) {
                    Some(fields) if write(&fields) == bytes => Value::Message(fields),
                    _ => Value::Bytes(bytes),
                }
            }
            WireType::StartGroup | WireType::EndGroup => return None,
        };
        message.push(Field { number, value });
    }
    Some(message)
}

fn take(from: &mut &[u8], length: usize) -> Option<Vec<u8>> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken.to_vec())
}

fn write(message: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    let delimited = |number: u32, bytes: &[u8], out: &mut Vec<u8>| {
        encode_key(number, WireType::LengthDelimited, out);
        encode_varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    };
    for Field { number, value } in message {
        match value {
            Value::Number(value) => {
                encode_key(*number, WireType::Varint, &mut out);
                encode_varint(*value, &mut out);
            }
            Value::Fixed(kind, bytes) => {
                encode_key(*number, *kind, &mut out);
                out.extend_from_slice(bytes);
            }
            Value::Bytes(bytes) => delimited(*number, bytes, &mut out),
            Value::Message(fields) => delimited(*number, &write(fields), &mut out),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_and_a_change_keeps_it_a_message() {
        let bytes = [&[8, 1, 18, 4, 10, 2][..], b"ab", &[26, 1, 255]].concat();
        let message = read(&bytes).expect("a message");
        assert_eq!((write(&message), count(&message)), (bytes, 4));
        for field in 0..4 {
            for what in 0..7 {
                let (mut message, mut field) = (message.clone(), field);
                change(&mut message, &mut field, (what, 4));
                assert_eq!(read(&write(&message)), Some(message), "{field} {what}");
            }
        }
    }
}
