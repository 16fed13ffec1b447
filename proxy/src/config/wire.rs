//! Reading Envoy messages without overlooking anything.
//!
//! - A reader takes the fields that it understands out of a message; what is then left must be empty, else the
//!   resource asks for something that would not happen, and is refused.

use std::{
    collections::BTreeMap,
    fmt::{self, Debug},
    net::SocketAddr,
    time::Duration,
};

use prost::{Message, Name};
use proto::{
    envoy::config::core::v3::{
        Address, HeaderValueOption, Metadata, address::Address as AddressKind, socket_address::PortSpecifier,
    },
    google::protobuf::{Any, BoolValue, Duration as WireDuration, Struct, UInt32Value, value::Kind},
};

/// Why a resource can not be applied. The text goes back to the server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Invalid {
    #[error("{0} is not supported")]
    Unsupported(String),
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{field}: {reason}")]
    Bad { field: &'static str, reason: String },
    #[error("expected a {expected}, got {got}")]
    Type { expected: String, got: String },
    #[error("{within}: {reason}")]
    Within { within: String, reason: Box<Invalid> },
}

impl Invalid {
    pub(crate) fn bad(field: &'static str, reason: impl fmt::Display) -> Self {
        Self::Bad { field, reason: format!("{reason}") }
    }

    pub(crate) fn within(self, within: impl Into<String>) -> Self {
        Self::Within { within: within.into(), reason: Box::new(self) }
    }
}

/// Names the part of the resource in which an error lies.
pub(crate) trait Within<T> {
    fn within(self, place: impl FnOnce() -> String) -> Result<T, Invalid>;
}

impl<T> Within<T> for Result<T, Invalid> {
    fn within(self, place: impl FnOnce() -> String) -> Self {
        self.map_err(|error| error.within(place()))
    }
}

/// Refuses a message that still says something, naming the first field.
pub(crate) fn nothing_left<M: Message + Default + PartialEq + Debug>(rest: &M) -> Result<(), Invalid> {
    let empty = M::default();
    if *rest == empty {
        return Ok(());
    }
    let (rest, empty) = (format!("{rest:#?}"), format!("{empty:#?}"));
    let kind = empty.split_whitespace().next().unwrap_or("message").to_owned();
    let field = fields(&rest).find(|line| !fields(&empty).any(|other| other == *line));
    let field = field.and_then(|line| line.split(':').next()).unwrap_or("a field");
    Err(Invalid::Unsupported(format!("{kind}.{}", field.trim())))
}

/// The lines of a pretty-printed message that open its own fields.
fn fields(pretty: &str) -> impl Iterator<Item = &str> {
    pretty.lines().filter(|line| line.starts_with("    ") && !line[4..].starts_with([' ', '}', ']', ')']))
}

/// Unpacks an `Any` that must hold an `M`.
pub(crate) fn unpack<M: Message + Default + Name>(any: &Any) -> Result<M, Invalid> {
    if any.type_url != M::type_url() {
        return Err(Invalid::Type { expected: M::full_name(), got: any.type_url.clone() });
    }
    M::decode(any.value.as_slice()).map_err(|error| Invalid::Bad { field: "typed_config", reason: error.to_string() })
}

/// Longest duration, seconds. Source: `google.protobuf.Duration`.
const SECONDS_MAX: u64 = 315_576_000_000;

/// A duration that is not negative.
pub(crate) fn duration(field: &'static str, wire: WireDuration) -> Result<Duration, Invalid> {
    let negative = || Invalid::bad(field, "is negative or out of range");
    let seconds = u64::try_from(wire.seconds).map_err(|_| negative())?;
    let nanos = u32::try_from(wire.nanos).map_err(|_| negative())?;
    if nanos >= 1_000_000_000 || seconds > SECONDS_MAX {
        return Err(negative());
    }
    Ok(Duration::new(seconds, nanos))
}

/// A duration where 0 means "off".
pub(crate) fn optional_duration(field: &'static str, wire: Option<WireDuration>) -> Result<Option<Duration>, Invalid> {
    Ok(wire.map(|wire| duration(field, wire)).transpose()?.filter(|duration| !duration.is_zero()))
}

pub(crate) fn number(wire: Option<UInt32Value>) -> Option<u32> {
    wire.map(|number| number.value)
}

pub(crate) fn flag(wire: Option<BoolValue>) -> bool {
    wire.is_some_and(|flag| flag.value)
}

/// An IP address and a TCP port.
pub(crate) fn socket_address(wire: Option<Address>) -> Result<SocketAddr, Invalid> {
    let (host, port) = host_port(wire)?;
    let ip = host.parse().map_err(|_| Invalid::bad("address", format!("{host:?} is no IP address")))?;
    Ok(SocketAddr::new(ip, port))
}

/// An IP address or a name, and a TCP port.
pub(crate) fn host_port(wire: Option<Address>) -> Result<(String, u16), Invalid> {
    let Some(AddressKind::SocketAddress(address)) = wire.and_then(|address| address.address) else {
        return Err(Invalid::Unsupported("an address that is not a socket address".to_owned()));
    };
    let port = match address.port_specifier {
        Some(PortSpecifier::PortValue(port)) => u16::try_from(port).map_err(|error| Invalid::bad("port", error))?,
        _ => return Err(Invalid::Missing("port_value")),
    };
    if address.protocol != 0 {
        return Err(Invalid::Unsupported("UDP".to_owned()));
    }
    if !address.resolver_name.is_empty() {
        return Err(Invalid::Unsupported("SocketAddress.resolver_name".to_owned()));
    }
    Ok((address.address, port))
}

/// The string fields of one filter's metadata.
pub(crate) fn metadata_strings(metadata: Option<&Metadata>, filter: &str) -> BTreeMap<String, String> {
    metadata.and_then(|metadata| metadata.filter_metadata.get(filter)).map(struct_strings).unwrap_or_default()
}

/// The string fields of a `Struct`.
pub(crate) fn struct_strings(fields: &Struct) -> BTreeMap<String, String> {
    let text = |kind: Option<&Kind>| match kind {
        Some(Kind::StringValue(text)) => Some(text.clone()),
        _ => None,
    };
    fields.fields.iter().filter_map(|(key, value)| Some((key.clone(), text(value.kind.as_ref())?))).collect()
}

/// Name, value and action of a header mutation.
pub(crate) fn header_option(mut option: HeaderValueOption) -> Result<(String, String, i32, bool), Invalid> {
    let mut header = option.header.take().ok_or(Invalid::Missing("header"))?;
    let (name, value) = (std::mem::take(&mut header.key), std::mem::take(&mut header.value));
    nothing_left(&header)?;
    let (action, keep_empty) =
        (std::mem::take(&mut option.append_action), std::mem::take(&mut option.keep_empty_value));
    nothing_left(&option)?;
    Ok((name, value, action, keep_empty))
}

#[cfg(test)]
mod tests {
    use proto::envoy::config::route::v3::{RouteAction, RouteConfiguration};

    use super::*;

    #[test]
    fn what_is_left_is_named() {
        assert_eq!(nothing_left(&RouteConfiguration::default()), Ok(()));
        let action = RouteAction { append_x_forwarded_host: true, ..RouteAction::default() };
        let refused = Err(Invalid::Unsupported("RouteAction.append_x_forwarded_host".to_owned()));
        assert_eq!(nothing_left(&action), refused);
    }

    #[test]
    fn durations_are_checked() {
        let wire = |seconds, nanos| WireDuration { seconds, nanos };
        assert_eq!(duration("t", wire(1, 500_000_000)), Ok(Duration::from_millis(1_500)));
        assert!(duration("t", wire(-1, 0)).is_err());
        assert!(duration("t", wire(0, 1_000_000_000)).is_err());
        assert!(duration("t", wire(i64::MAX, 0)).is_err());
        assert_eq!(optional_duration("t", Some(wire(0, 0))), Ok(None));
    }
}
