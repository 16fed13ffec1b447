//! Envoy's messages, made with fewer words.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use prost::Name;
use proto::{
    envoy::{
        config::core::v3::{
            Address, AggregatedConfigSource, ApiVersion, ConfigSource, Metadata, SocketAddress, TransportSocket,
            address, config_source, socket_address, transport_socket,
        },
        r#type::matcher::v3::{RegexMatcher, StringMatcher, string_matcher},
    },
    google::protobuf::{self as pb, Any, BoolValue, ListValue, Struct, UInt32Value, Value, value},
};

use super::canonical::canonical;
use crate::model::StringMatch;

/// A message packed with its type; maps inside it are in order.
pub(super) fn any<M: Name>(message: &M) -> Any {
    Any { type_url: M::type_url(), value: canonical(&M::full_name(), &message.encode_to_vec()) }
}

#[expect(clippy::cast_possible_wrap, reason = "spans are validated to be at most a day")]
pub(super) fn duration(span: Duration) -> pb::Duration {
    pb::Duration { seconds: span.as_secs() as i64, nanos: span.subsec_nanos() as i32 }
}

/// A field that can also be left unset.
#[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

/// A field that can also be left unset.
#[expect(clippy::unnecessary_wraps, reason = "every field that takes it is optional")]
pub(super) fn boolean(value: bool) -> Option<BoolValue> {
    Some(BoolValue { value })
}

/// "Ask the stream that this came on."
pub(super) fn from_ads() -> ConfigSource {
    ConfigSource {
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..Default::default()
    }
}

pub(super) fn socket(host: impl Into<String>, port: u16) -> Address {
    let port_specifier = Some(socket_address::PortSpecifier::PortValue(port.into()));
    let socket = SocketAddress { address: host.into(), port_specifier, ..Default::default() };
    Address { address: Some(address::Address::SocketAddress(socket)) }
}

pub(super) fn ip_socket(ip: IpAddr, port: u16) -> Address {
    socket(ip.to_string(), port)
}

pub(super) fn transport_socket<M: Name>(name: &str, config: &M) -> TransportSocket {
    let config_type = Some(transport_socket::ConfigType::TypedConfig(any(config)));
    TransportSocket { name: name.to_owned(), config_type }
}

pub(super) fn metadata(entries: impl IntoIterator<Item = (&'static str, Struct)>) -> Metadata {
    let filter_metadata = entries.into_iter().map(|(name, fields)| (name.to_owned(), fields)).collect();
    Metadata { filter_metadata, typed_filter_metadata: HashMap::new() }
}

pub(super) fn fields(entries: impl IntoIterator<Item = (&'static str, Value)>) -> Struct {
    Struct { fields: entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect() }
}

pub(super) fn text(text: &str) -> Value {
    Value { kind: Some(value::Kind::StringValue(text.to_owned())) }
}

pub(super) fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(value::Kind::ListValue(ListValue { values })) }
}

pub(super) fn structure(fields: Struct) -> Value {
    Value { kind: Some(value::Kind::StructValue(fields)) }
}

pub(super) fn exactly(text: impl Into<String>) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(string_matcher::MatchPattern::Exact(text.into())) }
}

pub(super) fn starting_with(text: impl Into<String>) -> StringMatcher {
    StringMatcher { ignore_case: false, match_pattern: Some(string_matcher::MatchPattern::Prefix(text.into())) }
}

/// Matches the whole text, in RE2 syntax: Envoy's only engine, and its default.
pub(super) fn regex(regex: &str) -> RegexMatcher {
    RegexMatcher { regex: regex.to_owned(), ..Default::default() }
}

/// `None` for a match that asks for presence only.
pub(super) fn string_matcher(matched: &StringMatch) -> Option<StringMatcher> {
    let pattern = match matched {
        StringMatch { exact: Some(text), .. } => string_matcher::MatchPattern::Exact(text.clone()),
        StringMatch { prefix: Some(text), .. } => string_matcher::MatchPattern::Prefix(text.clone()),
        StringMatch { regex: Some(text), .. } => string_matcher::MatchPattern::SafeRegex(regex(text)),
        StringMatch { exact: None, prefix: None, regex: None } => return None,
    };
    Some(StringMatcher { ignore_case: false, match_pattern: Some(pattern) })
}
