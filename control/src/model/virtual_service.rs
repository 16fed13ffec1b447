//! Istio's `VirtualService`.

use std::collections::BTreeMap;

use super::{GoDuration, Percent, StringMatch, field::message};

message! {
    /// Where requests to its hosts go.
    VirtualService {
        hosts: Vec<String>,
        /// `NAMESPACE/NAME`, a name in its own namespace, or `mesh`; empty means `mesh`.
        gateways: Vec<String>,
        http: Vec<HttpRoute>,
        tcp: Vec<TcpRoute>,
        export_to: Vec<String>,
    }
}

message! {
    /// The first entry of which one `match` fits is taken; an entry without `match` fits all.
    HttpRoute {
        name: String,
        r#match: Vec<HttpMatch>,
        route: Vec<HttpDestination>,
        redirect: Option<HttpRedirect>,
        direct_response: Option<HttpDirectResponse>,
        rewrite: Option<HttpRewrite>,
        /// For the whole request; unset or 0 means none.
        timeout: Option<GoDuration>,
        retries: Option<HttpRetry>,
        fault: Option<HttpFault>,
        headers: Option<Headers>,
    }
}

message! {
    /// All that is set must match.
    HttpMatch {
        name: String,
        uri: Option<StringMatch>,
        scheme: Option<StringMatch>,
        method: Option<StringMatch>,
        authority: Option<StringMatch>,
        headers: BTreeMap<String, StringMatch>,
        without_headers: BTreeMap<String, StringMatch>,
        query_params: BTreeMap<String, StringMatch>,
        port: u32,
        ignore_uri_case: bool,
        source_labels: BTreeMap<String, String>,
        source_namespace: String,
        gateways: Vec<String>,
    }
}

message! {
    HttpDestination {
        destination: Option<Destination>,
        /// Share of the requests; a single destination takes all.
        weight: u32,
        headers: Option<Headers>,
    }
}

message! {
    Destination {
        host: String,
        subset: String,
        port: Option<PortSelector>,
    }
}

message! {
    PortSelector {
        number: u32,
    }
}

message! {
    Headers {
        request: Option<HeaderOperations>,
        response: Option<HeaderOperations>,
    }
}

message! {
    HeaderOperations {
        set: BTreeMap<String, String>,
        add: BTreeMap<String, String>,
        remove: Vec<String>,
    }
}

message! {
    HttpRedirect {
        uri: String,
        /// Replaces the prefix that matched.
        prefix_rewrite: String,
        authority: String,
        port: u32,
        scheme: String,
        /// 301 (when 0), 302, 303, 307 or 308.
        redirect_code: u32,
    }
}

message! {
    HttpDirectResponse {
        status: u32,
        body: Option<HttpBody>,
    }
}

message! {
    HttpBody {
        string: Option<String>,
    }
}

message! {
    HttpRewrite {
        uri: String,
        authority: String,
        uri_regex_rewrite: Option<RegexRewrite>,
    }
}

message! {
    RegexRewrite {
        r#match: String,
        rewrite: String,
    }
}

message! {
    HttpRetry {
        /// Retries after the first attempt; 0 means none.
        attempts: u32,
        per_try_timeout: Option<GoDuration>,
        /// Conditions and status codes, separated by commas; empty means those under which nothing was processed.
        retry_on: String,
        retry_ignore_previous_hosts: Option<bool>,
        backoff: Option<GoDuration>,
    }
}

message! {
    HttpFault {
        delay: Option<FaultDelay>,
        abort: Option<FaultAbort>,
    }
}

message! {
    FaultDelay {
        fixed_delay: Option<GoDuration>,
        /// Unset means 0.
        percentage: Option<Percent>,
        /// The older, whole form of `percentage`.
        percent: u32,
    }
}

message! {
    FaultAbort {
        http_status: Option<u32>,
        /// A name as `UNAVAILABLE`, or a number.
        grpc_status: Option<String>,
        /// Unset means 0.
        percentage: Option<Percent>,
    }
}

message! {
    TcpRoute {
        r#match: Vec<L4Match>,
        route: Vec<TcpDestination>,
    }
}

message! {
    L4Match {
        port: u32,
        source_labels: BTreeMap<String, String>,
        source_namespace: String,
        gateways: Vec<String>,
    }
}

message! {
    TcpDestination {
        destination: Option<Destination>,
        weight: u32,
    }
}

/// Setting the authority is a rewrite of it.
pub(crate) fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case(":authority")
}

/// gRPC's status codes by name, each at its number.
const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// A gRPC status by its name, in any case, or its number.
pub(crate) fn grpc_status(text: &str) -> Option<u32> {
    let named = GRPC_STATUSES.iter().position(|name| name.eq_ignore_ascii_case(text));
    let index = named.or_else(|| text.parse().ok().filter(|number| *number < GRPC_STATUSES.len()))?;
    u32::try_from(index).ok()
}
