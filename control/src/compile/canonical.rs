//! One encoding for one message: map entries in the order of their bytes.
//!
//! Protobuf leaves the order of a map's entries open, and `prost` writes them in the order of a `HashMap`, which differs
//! from run to run. A resource's version follows from its bytes, so equal resources must have equal bytes.
//!
//! - Only the order of map entries changes; a reader sees the same message.
//! - Bytes that are no message come back as they were.

use bytes::Buf;
use prost::encoding::{WireType, decode_key, decode_varint};

/// Which fields of a message hold maps, or messages that do.
struct Shape(&'static [(u32, Field)]);

enum Field {
    /// A map: its entries are to be in order, and their values (field 2) are shaped so.
    Map(&'static Shape),
    Message(&'static Shape),
}
use Field::{Map, Message};

static LEAF: Shape = Shape(&[]);
static STRUCT: Shape = Shape(&[(1, Map(&VALUE))]);
static VALUE: Shape = Shape(&[(5, Message(&STRUCT)), (6, Message(&LIST_VALUE))]);
static LIST_VALUE: Shape = Shape(&[(1, Message(&VALUE))]);
/// `envoy.config.core.v3.Metadata`
static METADATA: Shape = Shape(&[(1, Map(&STRUCT)), (2, Map(&LEAF))]);
static LB_ENDPOINT: Shape = Shape(&[(3, Message(&METADATA))]);
static LOCALITY: Shape = Shape(&[(2, Message(&LB_ENDPOINT)), (9, Message(&METADATA))]);
static ASSIGNMENT: Shape = Shape(&[(2, Message(&LOCALITY))]);
static SOCKET_MATCH: Shape = Shape(&[(2, Message(&STRUCT))]);
static CLUSTER: Shape =
    Shape(&[(25, Message(&METADATA)), (33, Message(&ASSIGNMENT)), (36, Map(&LEAF)), (43, Message(&SOCKET_MATCH))]);
static ROUTE: Shape = Shape(&[(4, Message(&METADATA)), (13, Map(&LEAF))]);
static VIRTUAL_HOST: Shape = Shape(&[(3, Message(&ROUTE)), (15, Map(&LEAF))]);
static ROUTES: Shape = Shape(&[(2, Message(&VIRTUAL_HOST))]);
static CONNECTION_MANAGER: Shape = Shape(&[(4, Message(&ROUTES))]);

/// The canonical form of an encoded message called `name` in full.
pub(super) fn canonical(name: &str, message: &[u8]) -> Vec<u8> {
    let shape = match name {
        "envoy.config.cluster.v3.Cluster" => &CLUSTER,
        "envoy.config.endpoint.v3.ClusterLoadAssignment" => &ASSIGNMENT,
        "envoy.config.route.v3.RouteConfiguration" => &ROUTES,
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager" => &CONNECTION_MANAGER,
        _ => return message.to_vec(),
    };
    sorted(shape, message).unwrap_or_else(|| message.to_vec())
}

/// `None` when the bytes are no message.
fn sorted(shape: &Shape, message: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(message.len());
    let mut maps = Vec::<(u32, Vec<u8>)>::new();
    let mut rest = message;
    while rest.has_remaining() {
        let start = rest;
        let (tag, wire) = decode_key(&mut rest).ok()?;
        let body = skip(wire, &mut rest)?;
        let whole = &start[..start.len() - rest.len()];
        match shape.0.iter().find(|(field, _)| *field == tag).map(|(_, field)| field) {
            Some(Message(inner)) => delimited(tag, &sorted(inner, body)?, &mut output),
            Some(Map(inner)) => {
                let mut entry = Vec::with_capacity(whole.len());
                delimited(tag, &sorted_entry(inner, body)?, &mut entry);
                maps.push((tag, entry));
            }
            None => output.extend_from_slice(whole),
        }
    }
    maps.sort();
    for (_, entry) in maps {
        output.extend_from_slice(&entry);
    }
    Some(output)
}

/// A map's entry: its key as it is, its value in canonical form.
fn sorted_entry(value: &'static Shape, entry: &[u8]) -> Option<Vec<u8>> {
    let mut output = Vec::with_capacity(entry.len());
    let mut rest = entry;
    while rest.has_remaining() {
        let start = rest;
        let (tag, wire) = decode_key(&mut rest).ok()?;
        let body = skip(wire, &mut rest)?;
        if tag == 2 && wire == WireType::LengthDelimited {
            delimited(tag, &sorted(value, body)?, &mut output);
        } else {
            output.extend_from_slice(&start[..start.len() - rest.len()]);
        }
    }
    Some(output)
}

fn delimited(tag: u32, body: &[u8], output: &mut Vec<u8>) {
    prost::encoding::encode_key(tag, WireType::LengthDelimited, output);
    prost::encoding::encode_varint(body.len() as u64, output);
    output.extend_from_slice(body);
}

/// Moves past a field's value; returns the bytes of a length-delimited one.
fn skip<'a>(wire: WireType, rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match wire {
        WireType::Varint => {
            decode_varint(rest).ok()?;
            0
        }
        WireType::ThirtyTwoBit => 4,
        WireType::SixtyFourBit => 8,
        WireType::LengthDelimited => usize::try_from(decode_varint(rest).ok()?).ok()?,
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let (body, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::{Message as _, Name};
    use proto::{envoy::config::cluster::v3::Cluster, google::protobuf::Struct};

    use crate::compile::wire::{fields, list, metadata, structure, text};

    fn cluster() -> Cluster {
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let inner = || structure(fields(names.map(|name| (name, text(name)))));
        let one: Struct = fields(names.map(|name| (name, list(vec![inner(), text("x")]))));
        Cluster {
            name: "c".to_owned(),
            metadata: Some(metadata([("x", one.clone()), ("y", one)])),
            ..Default::default()
        }
    }

    #[test]
    fn equal_messages_have_equal_bytes() {
        let bytes = |message: &Cluster| canonical(&Cluster::full_name(), &message.encode_to_vec());
        let first = bytes(&cluster());
        for _ in 0..20 {
            assert_eq!(bytes(&cluster()), first);
        }
        assert_eq!(Cluster::decode(&first[..]).expect("a message"), cluster());
    }

    proptest! {
        #[test]
        fn any_bytes_survive(bytes in any::<Vec<u8>>()) {
            let _ = canonical(&Cluster::full_name(), &bytes);
        }
    }
}
