//! Headers that belong to one hop, and those that the proxy sets.

use std::{cell::Cell, fmt::Write, net::SocketAddr};

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
};

use super::connection::Peer;
use crate::config::{ClientCert, HttpConfig};

pub(crate) static X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
pub(crate) static X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
static KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
static PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Headers of ours and of the message's framing that a `connection` header can not remove.
const PROTECTED: [&str; 6] =
    ["host", "content-length", "x-forwarded-client-cert", "x-forwarded-for", "x-forwarded-proto", "x-request-id"];

/// The protocol that a request asks to switch to, if it does so well formed.
pub(crate) fn upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(UPGRADE)?;
    let tokens = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    let asks = tokens.flat_map(|value| value.split(',')).any(|token| token.trim().eq_ignore_ascii_case("upgrade"));
    asks.then(|| value.clone())
}

/// Removes what is meant for this hop only.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let listed: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|token| token.trim().parse().ok())
            .filter(|name: &HeaderName| !PROTECTED.contains(&name.as_str()))
            .collect();
        for name in listed {
            headers.remove(name);
        }
        headers.remove(CONNECTION);
    }
    for name in [
        &KEEP_ALIVE,
        &PROXY_CONNECTION,
        &PROXY_AUTHENTICATE,
        &PROXY_AUTHORIZATION,
        &TRAILER,
        &UPGRADE,
        &TRANSFER_ENCODING,
    ] {
        headers.remove(name);
    }
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

/// Sets what upstream is told about the client and the request; what the client claimed of it is removed first.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, config: &HttpConfig, peer: &Peer) {
    if config.edge {
        headers.remove(&X_FORWARDED_FOR);
        if let Ok(client) = HeaderValue::from_str(&peer.address.ip().to_string()) {
            headers.insert(&X_FORWARDED_FOR, client);
        }
    }
    if config.edge || !headers.contains_key(&X_FORWARDED_PROTO) {
        headers.insert(&X_FORWARDED_PROTO, HeaderValue::from_static(if peer.tls { "https" } else { "http" }));
    }
    headers.remove(&X_FORWARDED_CLIENT_CERT);
    if config.client_cert == ClientCert::Set
        && let Some(claim) = &peer.client_cert
    {
        headers.insert(&X_FORWARDED_CLIENT_CERT, claim.clone());
    }
    if !headers.contains_key(&X_REQUEST_ID) {
        headers.insert(&X_REQUEST_ID, request_id());
    }
}

/// `x-forwarded-client-cert` for a peer that proved its identity, in Envoy's form.
pub(crate) fn client_cert_claim(own: &str, peer: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("By={own};URI={peer}")).ok()
}

/// A random UUID of version 4. It names a request in logs, and guards nothing.
fn request_id() -> HeaderValue {
    thread_local!(static TEXT: Cell<String> = Cell::new(String::with_capacity(36)));
    let bits = (rand::random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let group = |shift: u32, digits: u32| (bits >> shift) & ((1 << (digits * 4)) - 1);
    let [first, second, third] = [group(96, 8), group(80, 4), group(64, 4)];
    let [fourth, fifth] = [group(48, 4), group(0, 12)];
    TEXT.with(|cell| {
        let mut text = cell.take();
        text.clear();
        let value = match write!(text, "{first:08x}-{second:04x}-{third:04x}-{fourth:04x}-{fifth:012x}") {
            Ok(()) => HeaderValue::from_str(&text).ok(),
            Err(_) => None,
        };
        cell.set(text);
        value.unwrap_or(HeaderValue::from_static("00000000-0000-4000-8000-000000000000"))
    })
}

/// The client's address when a trusted hop named it, else the peer's.
pub(crate) fn client_address(headers: &HeaderMap, peer: SocketAddr) -> String {
    let named = headers.get(&X_FORWARDED_FOR).and_then(|value| value.to_str().ok());
    named.map_or_else(|| peer.ip().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_one_hop_is_removed() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, x-mine, host"),
            ("keep-alive", "1"),
            ("proxy-connection", "x"),
            ("transfer-encoding", "chunked"),
            ("te", "gzip"),
            ("x-mine", "1"),
            ("host", "h"),
            ("x-other", "1"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "x-other"]);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        strip_hop_by_hop(&mut headers);
        assert!(headers.contains_key(TE));
    }

    #[test]
    fn a_request_id_is_a_uuid() {
        let (one, two) = (request_id(), request_id());
        let text = one.to_str().expect("text");
        assert_eq!((text.len(), &text[14..15]), (36, "4"));
        assert!(matches!(&text[19..20], "8" | "9" | "a" | "b"), "{text}");
        assert_ne!(one, two);
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        let mut headers = HeaderMap::new();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        assert_eq!(upgrade(&headers), None);
        headers.insert(CONNECTION, HeaderValue::from_static("keep-alive, Upgrade"));
        assert_eq!(upgrade(&headers), Some(HeaderValue::from_static("websocket")));
    }
}
