//! The keys that a key verb means, from its arguments and flags.

use super::failure::{Exit, Failure};
use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};
use types::KeyRange;

/// Reads an argument that is a key or a value: bytes, which need not be text.
pub(crate) fn bytes() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().map(|argument| Bytes::from(argument.into_encoded_bytes()))
}

/// Reads `KEY [RANGE_END] [--prefix | --from-key]`.
pub(crate) fn parse(key: &Bytes, end: Option<&Bytes>, prefix: bool, from_key: bool) -> Result<KeyRange, Failure> {
    match (end, prefix, from_key) {
        (_, true, true) => {
            Err(Failure::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"))
        }
        (Some(_), true, _) | (Some(_), _, true) => {
            Err(Failure::bad_args("a range end goes with neither `--prefix` nor `--from-key`"))
        }
        (None, true, false) => Ok(KeyRange::prefix(key.clone())),
        (None, false, true) => Ok(KeyRange::AtLeast(key.clone())),
        (Some(end), false, false) => Ok(KeyRange::from_wire(key.clone(), end.clone())),
        (None, false, false) if key.is_empty() => {
            // The server's words; there is no need to ask it.
            let failure = Failure::new(Exit::Error, "etcdserver: key is not provided");
            Err(failure.next("all keys are `\"\" --prefix`"))
        }
        (None, false, false) => Ok(KeyRange::One(key.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_and_flags_name_a_range() {
        let cases = [
            (("a", None, false, false), Some(KeyRange::One("a".into()))),
            (("a", Some("c"), false, false), Some(KeyRange::Between("a".into(), "c".into()))),
            (("a", Some("\0"), false, false), Some(KeyRange::AtLeast("a".into()))),
            (("a", None, true, false), Some(KeyRange::Between("a".into(), "b".into()))),
            (("a", None, false, true), Some(KeyRange::AtLeast("a".into()))),
            (("", None, true, false), Some(KeyRange::all())),
            (("", None, false, false), None),
            (("a", None, true, true), None),
            (("a", Some("c"), true, false), None),
            (("a", Some("c"), false, true), None),
        ];
        for (arguments, expected) in cases {
            let (key, end, prefix, from_key) = arguments;
            let (key, end): (Bytes, Option<Bytes>) = (key.into(), end.map(Bytes::from));
            assert_eq!(parse(&key, end.as_ref(), prefix, from_key).ok(), expected, "{arguments:?}");
        }
    }
}
