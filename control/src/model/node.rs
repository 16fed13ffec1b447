//! A YAML document as a tree that remembers its lines.
//!
//! Owns: reading a stream of documents within its limits. JSON is read as the YAML that it also is.
//!
//! - Depth, size, anchors and aliases are bounded before anything is built from them.
//! - A key appears once in its map; the parser refuses the second.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

/// Largest source that is read, bytes: what a gRPC message carries by default.
pub(crate) const SOURCE_BYTES_MAX: usize = 4 << 20;
/// Deepest nesting of lists and maps. The deepest published field lies at about 12.
const DEPTH_MAX: usize = 40;

/// A value, and the line it starts on (from 1; 0 when unknown).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    pub(crate) line: u32,
    pub(crate) value: Value,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A key with its value, and the line of the key.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) line: u32,
    pub(crate) key: String,
    pub(crate) node: Node,
}

/// Why a source is no YAML, or too much of it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: u32,
    pub(crate) message: String,
}

impl Node {
    /// The documents of a source, empty ones left out.
    pub(crate) fn documents(text: &str) -> Result<Vec<Self>, SyntaxError> {
        if text.len() > SOURCE_BYTES_MAX {
            let message = format!("the source has {} bytes, more than {SOURCE_BYTES_MAX}", text.len());
            return Err(SyntaxError { line: 0, message });
        }
        let options = serde_saphyr::options! {
            strict_booleans: true,
            emit_comments: false,
            with_snippet: false,
            budget: serde_saphyr::budget! {
                max_depth: DEPTH_MAX,
                flow_nesting_limit: DEPTH_MAX,
                max_aliases: 1_000,
                max_anchors: 1_000,
                max_documents: 10_000,
            },
            alias_limits: serde_saphyr::alias_limits! {
                max_total_replayed_events: 100_000,
                max_replay_stack_depth: 16,
            },
        };
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| SyntaxError {
            line: error.location().map_or(0, |location| line(location.line())),
            message: error.without_snippet().to_string(),
        })
    }

    /// The value under `key`, when this is a map that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The text that this is, if it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What this is, in a word for people.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing".to_owned(),
            Value::Bool(value) => format!("the boolean {value}"),
            Value::Integer(value) => format!("the number {value}"),
            Value::Float(value) => format!("the number {value}"),
            Value::Text(text) => format!("the text {text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a map".to_owned(),
        }
    }

    /// The line of the field at `path` (`spec.http[0].route`), or of its nearest ancestor that is there.
    pub(crate) fn line_of(&self, path: &str) -> u32 {
        let (mut node, mut line) = (self, self.line);
        let mut rest = path;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            let Some((next, at, after)) = node.step(rest) else { break };
            (node, line, rest) = (next, at, after);
        }
        line
    }

    /// One step along a path: the child, its line, and what is left of the path.
    fn step<'a, 'p>(&'a self, path: &'p str) -> Option<(&'a Node, u32, &'p str)> {
        match &self.value {
            Value::List(items) => {
                let (index, after) = path.strip_prefix('[')?.split_once(']')?;
                let item = items.get(index.parse::<usize>().ok()?)?;
                Some((item, item.line, after))
            }
            // Keys may themselves hold dots, as labels do: the longest key that fits is meant.
            Value::Map(entries) => {
                let fits = |entry: &&Entry| {
                    let key = super::decode::camel_case(&entry.key);
                    path.strip_prefix(&*key).is_some_and(|after| after.is_empty() || after.starts_with(['.', '[']))
                };
                let entry = entries.iter().filter(fits).max_by_key(|entry| entry.key.len())?;
                let taken = super::decode::camel_case(&entry.key).len();
                Some((&entry.node, entry.line, &path[taken..]))
            }
            _ => None,
        }
    }
}

fn line(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX)
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { line: line(spanned.referenced.line()), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        i64::try_from(value).map(Value::Integer).map_err(|_| E::custom(format_args!("the number {value} is too large")))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = map.next_key::<Spanned<Key>>()? {
            let node = map.next_value::<Node>()?;
            let line = match line(key.referenced.line()) {
                0 => node.line,
                known => known,
            };
            entries.push(Entry { line, key: key.value.0, node });
        }
        Ok(Value::Map(entries))
    }
}

/// A map's key: any scalar, as text.
struct Key(String);

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Text(text) => Ok(Self(text)),
            Value::Integer(value) => Ok(Self(value.to_string())),
            Value::Float(value) => Ok(Self(value.to_string())),
            Value::Bool(value) => Ok(Self(value.to_string())),
            Value::Null | Value::List(_) | Value::Map(_) => Err(de::Error::custom("a key must be text")),
        }
    }
}
