//! From a document's tree to typed resources, by serde, collecting all that is wrong on the way.
//!
//! - Unknown and not yet supported fields are findings, not the end: one pass reports all of them.
//! - A value of the wrong type ends its document, with the line and path of the value.

use std::{borrow::Cow, cell::RefCell, fmt};

use serde::{
    de::{
        self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess, SeqAccess,
        VariantAccess, Visitor,
        value::{StrDeserializer, StringDeserializer},
    },
    forward_to_deserialize_any,
};

use super::{
    node::{Entry, Node, Value},
    problem::closest,
    unsupported,
};

/// One thing wrong in a document.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Finding {
    pub(crate) line: u32,
    pub(crate) field: String,
    pub(crate) message: String,
    pub(crate) suggestion: String,
}

/// Reads `node` as a `T`. `None` when findings say why not; findings may also accompany a value.
/// `snake_case`: whether field names may also be spelled in their protobuf form.
pub(crate) fn decode<T: DeserializeOwned>(node: &Node, snake_case: bool, findings: &mut Vec<Finding>) -> Option<T> {
    let scope = Scope { snake_case, findings: RefCell::default() };
    let result = T::deserialize(Decoder { node, path: &Path::Root, scope: &scope });
    findings.extend(scope.findings.into_inner());
    result.map_err(|failure| findings.push(failure.finding(node))).ok()
}

/// A field's JSON name from its protobuf name: `host_redirect` is `hostRedirect`.
pub(crate) fn camel_case(name: &str) -> Cow<'_, str> {
    if !name.contains('_') {
        return Cow::Borrowed(name);
    }
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    Cow::Owned(camel)
}

struct Scope {
    snake_case: bool,
    findings: RefCell<Vec<Finding>>,
}

/// Where the decoder stands, as a list on the stack.
enum Path<'a> {
    Root,
    Field(&'a Path<'a>, &'a str),
    Item(&'a Path<'a>, usize),
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Field(Self::Root, name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Why a value could not be read; serde makes it without a place, the nearest decoder adds one.
#[derive(Debug)]
struct Failure {
    message: String,
    suggestion: String,
    at: Option<(u32, String)>,
}

impl Failure {
    fn finding(self, root: &Node) -> Finding {
        let (line, field) = self.at.unwrap_or((root.line, String::new()));
        Finding { line, field, message: self.message, suggestion: self.suggestion }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl de::Error for Failure {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self { message: message.to_string(), suggestion: String::new(), at: None }
    }
}

#[derive(Clone, Copy)]
struct Decoder<'a> {
    node: &'a Node,
    path: &'a Path<'a>,
    scope: &'a Scope,
}

impl Decoder<'_> {
    fn locate(self, failure: Failure) -> Failure {
        let at = failure.at.unwrap_or_else(|| (self.node.line, self.path.to_string()));
        Failure { at: Some(at), ..failure }
    }

    fn expected(self, what: &str, suggestion: String) -> Failure {
        let message = format!("expected {what}, found {}", self.node.describe());
        self.locate(Failure { message, suggestion, at: None })
    }

    fn report(self, line: u32, name: &str, message: String, suggestion: String) {
        let field = Path::Field(self.path, name).to_string();
        self.scope.findings.borrow_mut().push(Finding { line, field, message, suggestion });
    }

    /// The whole number that this is; protobuf's JSON form also allows it as text.
    fn integer(self) -> Option<i64> {
        match &self.node.value {
            Value::Integer(value) => Some(*value),
            Value::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// The entries that `fields` knows, by their JSON names; the others become findings.
    fn known_fields<'n>(
        &'n self,
        name: &'static str,
        fields: &'static [&'static str],
    ) -> Vec<(Cow<'n, str>, &'n Node)> {
        let Value::Map(entries) = &self.node.value else { return Vec::new() };
        entries.iter().filter_map(|entry| self.known_field(name, fields, entry)).collect()
    }

    fn known_field<'n>(
        &self,
        name: &'static str,
        fields: &'static [&'static str],
        entry: &'n Entry,
    ) -> Option<(Cow<'n, str>, &'n Node)> {
        let key = if self.scope.snake_case { camel_case(&entry.key) } else { Cow::Borrowed(&*entry.key) };
        if unsupported::is_owned_by_server(name, &key) || entry.node.value == Value::Null && fields.contains(&&*key) {
            return None;
        }
        if fields.contains(&&*key) {
            return Some((key, &entry.node));
        }
        if unsupported::fields(name).contains(&&*key) {
            self.report(entry.line, &key, format!("field {key:?} is not supported yet"), "remove it".to_owned());
        } else {
            let meant = closest(&key, fields.iter().copied());
            let suggestion = meant.map(|meant| format!("did you mean {meant:?}?")).unwrap_or_default();
            self.report(entry.line, &key, format!("unknown field {key:?}"), suggestion);
        }
        None
    }
}

macro_rules! integers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
            let value = self.integer().ok_or_else(|| self.expected("a whole number", String::new()))?;
            visitor.visit_i64(value).map_err(|failure| self.locate(failure))
        }
    )*};
}

impl<'de> Deserializer<'de> for Decoder<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            Value::Null => visitor.visit_unit(),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::Integer(value) => visitor.visit_i64(*value),
            Value::Float(value) => visitor.visit_f64(*value),
            Value::Text(text) => visitor.visit_str(text),
            Value::List(_) => return self.deserialize_seq(visitor),
            Value::Map(_) => return self.deserialize_map(visitor),
        }
        .map_err(|failure| self.locate(failure))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node.value {
            Value::Bool(value) => visitor.visit_bool(value),
            _ => Err(self.expected("true or false", String::new())),
        }
    }

    integers!(deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);
    integers!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64);

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match &self.node.value {
            #[expect(clippy::cast_precision_loss, reason = "a number beyond 2^53 is out of every field's range")]
            Value::Integer(value) => visitor.visit_f64(*value as f64),
            Value::Float(value) => visitor.visit_f64(*value),
            _ => Err(self.expected("a number", String::new())),
        }
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let quoted = match &self.node.value {
            Value::Text(text) => return visitor.visit_str(text).map_err(|failure| self.locate(failure)),
            Value::Integer(value) => format!("quote it: \"{value}\""),
            Value::Float(value) => format!("quote it: \"{value}\""),
            Value::Bool(value) => format!("quote it: \"{value}\""),
            _ => String::new(),
        };
        Err(self.expected("text", quoted))
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        if self.node.value == Value::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self).map_err(|failure| self.locate(failure))
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Value::List(items) = &self.node.value else { return Err(self.expected("a list", String::new())) };
        visitor.visit_seq(Items { of: self, items: items.iter().enumerate() }).map_err(|failure| self.locate(failure))
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let Value::Map(entries) = &self.node.value else { return Err(self.expected("a map", String::new())) };
        let fields = entries.iter().map(|entry| (Cow::Borrowed(&*entry.key), &entry.node)).collect::<Vec<_>>();
        visitor.visit_map(Fields::of(self, fields)).map_err(|failure| self.locate(failure))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let Value::Map(_) = &self.node.value else { return Err(self.expected("a map", String::new())) };
        let known = self.known_fields(name, fields);
        visitor.visit_map(Fields::of(self, known)).map_err(|failure| self.locate(failure))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        let text =
            self.node.text().ok_or_else(|| self.expected(&format!("one of {}", variants.join(", ")), String::new()))?;
        if variants.contains(&text) {
            return visitor.visit_enum(Variant(text)).map_err(|failure| self.locate(failure));
        }
        let one_of = format!("use one of {}", variants.join(", "));
        let (message, suggestion) = if unsupported::fields(name).contains(&text) {
            (format!("{text} is not supported yet"), one_of)
        } else {
            let meant = closest(text, variants.iter().copied());
            (format!("unknown value {text:?}"), meant.map_or(one_of, |meant| format!("did you mean {meant}?")))
        };
        Err(self.locate(Failure { message, suggestion, at: None }))
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! { i128 u128 char bytes byte_buf unit unit_struct tuple tuple_struct identifier }
}

struct Items<'a, I> {
    of: Decoder<'a>,
    items: I,
}

impl<'de, 'a, I: Iterator<Item = (usize, &'a Node)>> SeqAccess<'de> for Items<'_, I> {
    type Error = Failure;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Failure> {
        let Some((index, node)) = self.items.next() else { return Ok(None) };
        let path = Path::Item(self.of.path, index);
        let item = Decoder { node, path: &path, scope: self.of.scope };
        seed.deserialize(item).map(Some).map_err(|failure| item.locate(failure))
    }
}

struct Fields<'a> {
    of: Decoder<'a>,
    rest: std::vec::IntoIter<(Cow<'a, str>, &'a Node)>,
    current: Option<(Cow<'a, str>, &'a Node)>,
}

impl<'a> Fields<'a> {
    fn of(of: Decoder<'a>, fields: Vec<(Cow<'a, str>, &'a Node)>) -> Self {
        Self { of, rest: fields.into_iter(), current: None }
    }
}

impl<'de> MapAccess<'de> for Fields<'_> {
    type Error = Failure;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Failure> {
        self.current = self.rest.next();
        let Some((key, node)) = &self.current else { return Ok(None) };
        let path = Path::Field(self.of.path, key);
        let of = Decoder { node, path: &path, scope: self.of.scope };
        seed.deserialize(Key(key)).map(Some).map_err(|failure| of.locate(failure))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Failure> {
        let (key, node) = self.current.take().expect("serde asks for a value after its key");
        let path = Path::Field(self.of.path, &key);
        let value = Decoder { node, path: &path, scope: self.of.scope };
        seed.deserialize(value).map_err(|failure| value.locate(failure))
    }
}

/// A map's key; protobuf's JSON form writes number keys as text.
struct Key<'a>(&'a str);

impl<'de> Deserializer<'de> for Key<'_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_str(self.0)
    }

    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        let number =
            self.0.parse().map_err(|_| <Failure as de::Error>::custom(format_args!("{:?} is no number", self.0)))?;
        visitor.visit_u32(number)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Variant<'a>(&'a str);

impl<'de> EnumAccess<'de> for Variant<'_> {
    type Error = Failure;
    type Variant = UnitOnly;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, UnitOnly), Failure> {
        let name: StrDeserializer<'_, Failure> = self.0.into_deserializer();
        Ok((seed.deserialize(name)?, UnitOnly))
    }
}

/// Published enums carry no data.
struct UnitOnly;

impl<'de> VariantAccess<'de> for UnitOnly {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Failure> {
        let nothing: StringDeserializer<Failure> = String::new().into_deserializer();
        seed.deserialize(nothing)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Failure> {
        visitor.visit_unit()
    }
}
