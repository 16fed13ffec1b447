//! The request headers that every app passes on to the services it calls.
//!
//! Owns: the list. A sidecar can trace and route a call only by what the app copies from the request it is serving.

use http::{HeaderMap, HeaderName};

/// The signed-in user, as Istio's tour matches it.
pub(super) const END_USER: HeaderName = HeaderName::from_static("end-user");

const PASSED_ON: [&str; 13] = [
    "x-request-id",
    "traceparent",
    "tracestate",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "end-user",
    "user-agent",
    "cookie",
    "x-ot-span-context",
];

/// What to send onwards of what came in.
pub(super) fn passed_on(incoming: &HeaderMap) -> HeaderMap {
    let mut outgoing = HeaderMap::new();
    for name in PASSED_ON {
        for value in incoming.get_all(name) {
            outgoing.append(HeaderName::from_static(name), value.clone());
        }
    }
    outgoing
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn passes_on_what_the_mesh_needs_and_nothing_else() {
        let mut incoming = HeaderMap::new();
        for name in ["x-request-id", "traceparent", "end-user", "authorization", "host", "content-length"] {
            incoming.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        }
        let outgoing = passed_on(&incoming);
        let mut names: Vec<_> = outgoing.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["end-user", "traceparent", "x-request-id"]);
    }
}
