//! Messages as JSON, by their descriptors.
//!
//! - In: both spellings of a field's name, 64-bit integers as numbers or strings, bytes in either base64 alphabet;
//!   fields that the message does not have are ignored.
//! - Out: names as in the `.proto` files, 64-bit integers as strings, nothing for a field at its default.
//!
//! Source: the proto3 JSON mapping, as etcd's gateway sets it.

use bytes::{Buf, Bytes, BytesMut};
use prost::Message;
use prost_reflect::{DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};

/// Why a text is not the message that it should be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// It ends in the middle. The words are Go's, as etcd's gateway says them.
    #[error("unexpected EOF")]
    Truncated,
    /// It is something else.
    #[error("{0}")]
    Invalid(String),
    /// It is longer than any request may be.
    #[error("message larger than max ({0} bytes)")]
    TooLong(usize),
}

/// The message that a request's body stands for. An empty body is an empty message; what follows the first JSON value is
/// not looked at.
pub(crate) fn read(message: &MessageDescriptor, json: &[u8]) -> Result<Bytes, Malformed> {
    if json.iter().all(u8::is_ascii_whitespace) {
        return Ok(Bytes::new());
    }
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let mut text = serde_json::Deserializer::from_slice(json);
    let read = DynamicMessage::deserialize_with_options(message.clone(), &mut text, &options);
    match read {
        Ok(read) => Ok(read.encode_to_vec().into()),
        Err(error) if error.is_eof() => Err(Malformed::Truncated),
        Err(error) => Err(Malformed::Invalid(error.to_string())),
    }
}

/// Appends the JSON of an encoded message.
///
/// # Errors
/// If `encoded` is no such message.
pub(crate) fn write(message: &MessageDescriptor, encoded: impl Buf, json: &mut Vec<u8>) -> Result<(), Malformed> {
    let invalid = |reason: String| Malformed::Invalid(reason);
    let message = DynamicMessage::decode(message.clone(), encoded).map_err(|error| invalid(error.to_string()))?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let mut text = serde_json::Serializer::new(json);
    message.serialize_with_options(&mut text, &options).map_err(|error| invalid(error.to_string()))
}

/// Cuts a stream of JSON objects into the objects, however it arrives.
#[derive(Debug)]
pub(crate) struct Objects {
    bytes_max: usize,
    buffer: BytesMut,
    /// Bytes of `buffer` that were looked at.
    scanned: usize,
    depth: usize,
    string: Text,
}

/// Where in a string the scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Outside,
    Inside,
    Escaped,
}

impl Objects {
    /// `bytes_max`: the longest object.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, buffer: BytesMut::new(), scanned: 0, depth: 0, string: Text::Outside }
    }

    /// Takes in what arrived.
    pub(crate) fn push(&mut self, arrived: &[u8]) {
        self.buffer.extend_from_slice(arrived);
    }

    /// The next object that has arrived whole.
    ///
    /// # Errors
    /// What arrived is no object, or one that is too long. There is no next one then.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Malformed> {
        if self.depth == 0 {
            let blank = self.buffer.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            self.buffer.advance(blank);
            match self.buffer.first() {
                None => return Ok(None),
                Some(b'{') => {}
                Some(_) => return Err(Malformed::Invalid("expected an object".to_owned())),
            }
        }
        while let Some(&byte) = self.buffer.get(self.scanned) {
            self.scanned += 1;
            if self.ends_with(byte) {
                let object = self.buffer.split_to(self.scanned).freeze();
                self.scanned = 0;
                return Ok(Some(object));
            }
        }
        if self.buffer.len() > self.bytes_max { Err(Malformed::TooLong(self.bytes_max)) } else { Ok(None) }
    }

    /// Whether nothing of an object is left when the stream ends.
    pub(crate) fn is_complete(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Steps over one byte; true if the object is whole then.
    fn ends_with(&mut self, byte: u8) -> bool {
        match (self.string, byte) {
            (Text::Inside, b'\\') => self.string = Text::Escaped,
            (Text::Inside, b'"') => self.string = Text::Outside,
            (Text::Escaped, _) | (Text::Outside, b'"') => self.string = Text::Inside,
            (Text::Outside, b'{' | b'[') => self.depth += 1,
            (Text::Outside, b'}' | b']') => {
                self.depth -= 1;
                return self.depth == 0;
            }
            (Text::Inside | Text::Outside, _) => {}
        }
        false
    }
}

#[cfg(test)]
mod tests;
