//! Answers that the proxy gives itself, worded as Envoy words them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;
use crate::{config::Abort, upstream::ConnectFailure};

/// What became of a request, as the letters of Envoy's `%RESPONSE_FLAGS%`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Flags(u16);

macro_rules! flags {
    ($($name:ident = $bit:literal, $text:literal;)*) => {
        impl Flags {
            $(pub(crate) const $name: Self = Self(1 << $bit);)*

            fn names(self) -> impl Iterator<Item = &'static str> {
                [$((Self::$name, $text)),*].into_iter().filter(move |(flag, _)| self.0 & flag.0 != 0).map(|(_, text)| text)
            }
        }
    };
}

flags! {
    NO_ROUTE = 0, "NR";
    NO_CLUSTER = 1, "NC";
    NO_HEALTHY = 2, "UH";
    OVERFLOW = 3, "UO";
    CONNECT = 4, "UF";
    TERMINATED = 5, "UC";
    TIMEOUT = 6, "UT";
    RETRY_LIMIT = 7, "URX";
    DELAYED = 8, "DI";
    FAULT = 9, "FI";
    DOWNSTREAM = 10, "DC";
    REFUSED_STREAM = 11, "UR";
    PROTOCOL = 12, "DPE";
}

impl Flags {
    pub(crate) fn add(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// The letters, separated by commas; `-` for none.
    pub(crate) fn text(self) -> String {
        let names: Vec<_> = self.names().collect();
        if names.is_empty() { "-".to_owned() } else { names.join(",") }
    }
}

/// Why a request gets no answer from an endpoint.
#[derive(Debug)]
pub(crate) enum Failure {
    Malformed(super::normalize::Malformed),
    NoRoute,
    NoCluster(StatusCode),
    NoHealthy,
    Overflow,
    Connect(ConnectFailure),
    /// The connection ended before the request was sent.
    Unsent,
    RefusedStream,
    Reset,
    /// The route's time, or one attempt's, is over.
    Timeout,
    TryTimeout,
    Fault(Abort),
    UpgradeRefused,
}

impl Failure {
    pub(crate) fn flags(&self) -> Flags {
        match self {
            Self::Malformed(_) | Self::UpgradeRefused => Flags::PROTOCOL,
            Self::NoRoute => Flags::NO_ROUTE,
            Self::NoCluster(_) => Flags::NO_CLUSTER,
            Self::NoHealthy => Flags::NO_HEALTHY,
            Self::Overflow => Flags::OVERFLOW,
            Self::Connect(_) => Flags::CONNECT,
            Self::Unsent | Self::Reset => Flags::TERMINATED,
            Self::RefusedStream => Flags::REFUSED_STREAM,
            Self::Timeout | Self::TryTimeout => Flags::TIMEOUT,
            Self::Fault(_) => Flags::FAULT,
        }
    }

    fn status_and_text(&self) -> (StatusCode, Bytes) {
        const RESET: &str = "upstream connect error or disconnect/reset before headers. reset reason: ";
        let unavailable = |text: String| (StatusCode::SERVICE_UNAVAILABLE, Bytes::from(text));
        match self {
            Self::Malformed(why) => (StatusCode::BAD_REQUEST, Bytes::from(format!("bad request: {why}"))),
            Self::NoRoute => (StatusCode::NOT_FOUND, Bytes::new()),
            Self::NoCluster(status) => (*status, Bytes::new()),
            Self::NoHealthy => unavailable("no healthy upstream".to_owned()),
            Self::Overflow => unavailable(format!("{RESET}overflow")),
            Self::Connect(ConnectFailure::Timeout) => unavailable(format!("{RESET}connection timeout")),
            Self::Connect(_) => unavailable(format!("{RESET}remote connection failure")),
            Self::Unsent | Self::Reset => unavailable(format!("{RESET}connection termination")),
            Self::RefusedStream => unavailable(format!("{RESET}remote refused stream reset")),
            Self::Timeout | Self::TryTimeout => {
                (StatusCode::GATEWAY_TIMEOUT, Bytes::from_static(b"upstream request timeout"))
            }
            Self::Fault(Abort::Http(status)) => (*status, Bytes::from_static(b"fault filter abort")),
            Self::Fault(Abort::Grpc(_)) => (StatusCode::OK, Bytes::from_static(b"fault filter abort")),
            Self::UpgradeRefused => (StatusCode::FORBIDDEN, Bytes::new()),
        }
    }

    /// The answer; a gRPC client gets its status in gRPC's own form.
    pub(crate) fn reply(&self, grpc_client: bool) -> Response<ResponseBody> {
        let (status, text) = self.status_and_text();
        let grpc = match self {
            Self::Fault(Abort::Grpc(status)) => Some(*status),
            _ => grpc_client.then(|| grpc_status(status)),
        };
        match grpc {
            Some(code) => grpc_reply(code, &text),
            None => plain(status, text),
        }
    }
}

/// A plain answer.
pub(crate) fn plain(status: StatusCode, text: Bytes) -> Response<ResponseBody> {
    let typed = !text.is_empty();
    let mut response = Response::new(ResponseBody::full(text));
    *response.status_mut() = status;
    if typed {
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

fn grpc_reply(code: u32, text: &[u8]) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::full(Bytes::new()));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(code));
    if let Ok(message) = HeaderValue::from_bytes(text) {
        headers.insert("grpc-message", message);
    }
    response
}

/// Source: gRPC's mapping of HTTP to gRPC status codes.
fn grpc_status(status: StatusCode) -> u32 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_envoys_letters() {
        let mut flags = Flags::default();
        assert_eq!(flags.text(), "-");
        flags.add(Flags::DELAYED);
        flags.add(Flags::OVERFLOW);
        assert_eq!(flags.text(), "UO,DI");
    }

    #[test]
    fn a_grpc_client_reads_grpc() {
        assert_eq!(Failure::NoHealthy.reply(false).status(), 503);
        let reply = Failure::NoHealthy.reply(true);
        assert_eq!((reply.status().as_u16(), &reply.headers()["grpc-status"]), (200, &HeaderValue::from(14)));
        assert_eq!(reply.headers()["grpc-message"], "no healthy upstream");
    }
}
