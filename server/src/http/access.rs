//! Who may ask over HTTP: browsers by origin, and plain text by the name that was asked for.
//!
//! - Over plain text, a request for a host that is not on the list is refused: it is how a web page reaches a server that
//!   only its victim's browser can reach. Under TLS the certificate answers for the name.

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use tonic::body::Body;

use super::reply;

/// Stands for every origin, or every host.
const ANY: &str = "*";

/// Whom the HTTP faces answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Origins whose pages may read answers, as in `https://ui.example`; `*` or an empty list: all.
    pub cors: Vec<String>,
    /// Hosts that plain text may be asked for; `*` or an empty list: all.
    pub host_whitelist: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        Self { cors: vec![ANY.to_owned()], host_whitelist: vec![ANY.to_owned()] }
    }
}

impl Access {
    /// The answer to a request for a host that is not ours to answer for; `None` if it is.
    pub(super) fn refuse_host<B>(&self, request: &Request<B>) -> Option<Response<Body>> {
        let host = host(request);
        let text = format!(
            "\nthe request was refused: {host:?} is not a host that this server answers for in plain text\n\n\
             Either\n- use TLS, under which every host is answered for, or\n- start the server with --host-whitelist {host:?}\n\n\
             Without this check any web page could reach the server through a browser (CVE-2018-5702).\n\n"
        );
        (!lists(&self.host_whitelist, &host)).then(|| reply::text(StatusCode::MISDIRECTED_REQUEST, text))
    }

    /// Says to browsers which origin may read the answer to a request with these headers.
    pub(super) fn allow_origin(&self, request: &HeaderMap, response: &mut HeaderMap) {
        let origin = if lists(&self.cors, ANY) {
            Some(HeaderValue::from_static(ANY))
        } else {
            request
                .get(header::ORIGIN)
                .filter(|origin| origin.to_str().is_ok_and(|one| lists(&self.cors, one)))
                .cloned()
        };
        let Some(origin) = origin else { return };
        response.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
        response.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        let headers = HeaderValue::from_static("accept, content-type, authorization");
        response.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, headers);
    }
}

fn lists(list: &[String], one: &str) -> bool {
    list.is_empty() || list.iter().any(|listed| listed == ANY || listed == one)
}

/// The host that was asked for, without its port.
fn host<B>(request: &Request<B>) -> String {
    let header = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let asked = request.uri().authority().map(http::uri::Authority::as_str).or(header).unwrap_or_default();
    match asked.parse::<http::uri::Authority>() {
        Ok(authority) => authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
        Err(_) => asked.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn plain_text_is_answered_for_the_hosts_listed() {
        let cases = [
            (list(&["*"]), "evil.example", true),
            (list(&[]), "evil.example", true),
            (list(&["localhost"]), "localhost:2379", true),
            (list(&["localhost"]), "evil.example", false),
            (list(&["localhost", "10.0.0.1"]), "10.0.0.1", true),
            (list(&["::1"]), "[::1]:2379", true),
            (list(&["localhost"]), "", false),
        ];
        for (host_whitelist, host, answered) in cases {
            let access = Access { host_whitelist, ..Access::default() };
            let request = Request::builder().header("host", host).body(()).unwrap();
            let refused = access.refuse_host(&request).map(|response| response.status());
            assert_eq!(refused, (!answered).then_some(StatusCode::MISDIRECTED_REQUEST), "{access:?} {host}");
        }
    }

    #[test]
    fn pages_of_the_origins_listed_may_read() {
        let cases = [
            (list(&["*"]), None, Some("*")),
            (list(&[]), Some("https://a"), Some("*")),
            (list(&["https://a"]), Some("https://a"), Some("https://a")),
            (list(&["https://a"]), Some("https://b"), None),
            (list(&["https://a"]), None, None),
        ];
        for (cors, origin, allowed) in cases {
            let access = Access { cors, ..Access::default() };
            let (mut asked, mut answered) = (HeaderMap::new(), HeaderMap::new());
            if let Some(origin) = origin {
                asked.insert("origin", origin.parse().unwrap());
            }
            access.allow_origin(&asked, &mut answered);
            let found = answered.get("access-control-allow-origin").map(|value| value.to_str().unwrap());
            assert_eq!(found, allowed, "{access:?} {origin:?}");
        }
    }
}
