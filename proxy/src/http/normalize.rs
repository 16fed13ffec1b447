//! The one form of a request by which it is judged, routed and forwarded.
//!
//! - Normalizing twice changes nothing more.
//! - What could mean two things to two readers is refused.

use std::borrow::Cow;

use http::{HeaderValue, Method, Uri, header::HOST, request::Parts, uri::PathAndQuery};

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("more than one host, or hosts that differ")]
    Host,
    #[error("no host")]
    NoHost,
    #[error("the host is not a name or address with an optional port")]
    HostSyntax,
    #[error("the request target is too long")]
    TooLong,
    #[error("the path is not absolute")]
    Target,
    #[error("an escape that is incomplete, a control character, or escaped twice")]
    Escape,
    #[error("an escaped slash or backslash")]
    EscapedSlash,
    #[error("CONNECT is not served")]
    Connect,
}

/// What is configurable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    pub(crate) uri_bytes_max: usize,
    /// `%2F` and `%5C` stay as they are instead of being refused.
    pub(crate) keep_escaped_slashes: bool,
}

/// Brings a request into the form that the rest of the proxy relies on: the URI is a path and query only, and exactly
/// one `host` header holds the authority in lower case.
pub(crate) fn normalize(parts: &mut Parts, rules: Rules) -> Result<(), Malformed> {
    if parts.method == Method::CONNECT {
        return Err(Malformed::Connect);
    }
    let host = authority(parts)?;
    if let Some(host) = host {
        parts.headers.insert(HOST, host);
    }
    let origin = parts.uri.scheme().is_none() && parts.uri.authority().is_none();
    let path = match parts.uri.path() {
        "*" if parts.method == Method::OPTIONS => return Ok(()),
        "" => Cow::Borrowed("/"),
        path => normal_path(path, rules)?,
    };
    let target = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    if target > rules.uri_bytes_max {
        return Err(Malformed::TooLong);
    }
    if origin && matches!(path, Cow::Borrowed(same) if same.len() == parts.uri.path().len()) {
        return Ok(());
    }
    let target = match parts.uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.into_owned(),
    };
    // What was not escaped before may have become longer by it.
    if target.len() > rules.uri_bytes_max {
        return Err(Malformed::TooLong);
    }
    let target = PathAndQuery::try_from(target).map_err(|_| Malformed::Target)?;
    parts.uri = Uri::from(target);
    Ok(())
}

/// The authority when it differs from the `host` header that is there.
fn authority(parts: &Parts) -> Result<Option<HeaderValue>, Malformed> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let (header, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Malformed::Host);
    }
    let text = match (parts.uri.authority(), header) {
        // A request in absolute form: its target counts, and the header is replaced (RFC 9112, section 3.2.2); over
        // HTTP/2 the two must agree.
        (Some(target), header) => {
            let differ =
                header.is_some_and(|header| !header.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes()));
            if parts.version == http::Version::HTTP_2 && differ {
                return Err(Malformed::Host);
            }
            target.as_str()
        }
        (None, Some(header)) => header.to_str().map_err(|_| Malformed::HostSyntax)?,
        (None, None) => return Err(Malformed::NoHost),
    };
    let normal = normal_host(text)?;
    if header.is_some_and(|header| header.as_bytes() == normal.as_bytes()) {
        return Ok(None);
    }
    HeaderValue::from_str(&normal).map(Some).map_err(|_| Malformed::HostSyntax)
}

/// Lower case, without one trailing dot; `host`, `host:port`, `[v6]` or `[v6]:port`.
fn normal_host(text: &str) -> Result<Cow<'_, str>, Malformed> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let end = rest.find(']').ok_or(Malformed::HostSyntax)? + 2;
            (&text[..end], &text[end..])
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok());
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(named),
    };
    if !port_ok || !host_ok || port.starts_with(":+") {
        return Err(Malformed::HostSyntax);
    }
    let bare = host.strip_suffix('.').unwrap_or(host);
    if bare.is_empty() || bare.ends_with('.') {
        return Err(Malformed::HostSyntax);
    }
    if bare.len() == host.len() && !host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Ok(Cow::Borrowed(text));
    }
    Ok(Cow::Owned(format!("{}{port}", bare.to_ascii_lowercase())))
}

/// Escapes decoded where they need not be, in upper case where they must; slashes merged; dot segments resolved.
fn normal_path(path: &str, rules: Rules) -> Result<Cow<'_, str>, Malformed> {
    if !path.starts_with('/') {
        return Err(Malformed::Target);
    }
    if is_plain(path.as_bytes()) {
        return Ok(Cow::Borrowed(path));
    }
    let decoded = decode(path.as_bytes(), rules)?;
    Ok(Cow::Owned(resolve(&decoded)))
}

/// Whether nothing in a path needs a closer look.
fn is_plain(path: &[u8]) -> bool {
    let plain = |byte: u8| byte > b' ' && byte < 0x7f && byte != b'%' && byte != b'\\';
    path.iter().all(|byte| plain(*byte))
        && !path.windows(2).any(|pair| pair[0] == b'/' && matches!(pair[1], b'/' | b'.'))
}

fn decode(path: &[u8], rules: Rules) -> Result<String, Malformed> {
    let mut text = String::with_capacity(path.len());
    let mut at = 0;
    while let Some(&byte) = path.get(at) {
        at += 1;
        match byte {
            b'%' => {
                let escaped = escape(path, at)?;
                at += 2;
                match escaped {
                    0..=0x1f | 0x7f => return Err(Malformed::Escape),
                    b'/' | b'\\' if !rules.keep_escaped_slashes => return Err(Malformed::EscapedSlash),
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => text.push(char::from(byte)),
                    byte => push_escape(&mut text, byte),
                }
            }
            b'\\' => return Err(Malformed::EscapedSlash),
            0..=b' ' | 0x7f => return Err(Malformed::Escape),
            0x80.. => push_escape(&mut text, byte),
            byte => text.push(char::from(byte)),
        }
    }
    if is_escaped_twice(text.as_bytes()) { Err(Malformed::Escape) } else { Ok(text) }
}

/// Whether what was decoded would be an escape again to a reader that decodes twice. Both of its digits may have been
/// escaped themselves, so only what has been decoded shows it.
fn is_escaped_twice(decoded: &[u8]) -> bool {
    (0..decoded.len()).any(|at| decoded[at..].starts_with(b"%25") && escape(decoded, at + 3).is_ok())
}

fn push_escape(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.extend([byte >> 4, byte & 0xf].map(|digit| char::from(DIGITS[usize::from(digit)])));
}

/// The byte that two hexadecimal digits at `at` stand for.
fn escape(path: &[u8], at: usize) -> Result<u8, Malformed> {
    let digit = |at: usize| path.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let (high, low) = (digit(at).ok_or(Malformed::Escape)?, digit(at + 1).ok_or(Malformed::Escape)?);
    u8::try_from(high * 16 + low).map_err(|_| Malformed::Escape)
}

fn resolve(path: &str) -> String {
    let mut segments: Vec<&str> = Vec::new();
    let mut open = true;
    for segment in path.split('/').skip(1) {
        open = true;
        match segment {
            "" | "." => {}
            ".." => {
                segments.pop();
            }
            named => {
                segments.push(named);
                open = false;
            }
        }
    }
    let mut text = String::with_capacity(path.len());
    for segment in &segments {
        text.push('/');
        text.push_str(segment);
    }
    if open || segments.is_empty() {
        text.push('/');
    }
    text
}

#[cfg(test)]
mod tests {
    use http::Request;
    use proptest::prelude::*;

    use super::*;

    const RULES: Rules = Rules { uri_bytes_max: 8_192, keep_escaped_slashes: false };

    fn run(request: http::request::Builder) -> Result<(String, String), Malformed> {
        let (mut parts, ()) = request.body(()).expect("a request").into_parts();
        normalize(&mut parts, RULES)?;
        Ok((parts.headers[HOST].to_str().expect("text").to_owned(), parts.uri.to_string()))
    }

    #[test]
    fn paths_have_one_form() {
        for (target, expected) in [
            ("/", "/"),
            ("/a/b?x=%2F..//", "/a/b?x=%2F..//"),
            ("/a//b", "/a/b"),
            ("/a/./b/../c", "/a/c"),
            ("/../../a", "/a"),
            ("/a/..", "/"),
            ("/a/b/.", "/a/b/"),
            ("/a/.b/..c", "/a/.b/..c"),
            ("/%61%2e%2E/b", "/a../b"),
            ("/%2e%2e/b", "/b"),
            ("/a%20b%c3%a9", "/a%20b%C3%A9"),
            ("/%25", "/%25"),
            ("//a", "/a"),
            ("/a/", "/a/"),
            ("/a;x/b", "/a;x/b"),
        ] {
            let found = run(Request::get(target).header(HOST, "h")).map(|(_, target)| target);
            assert_eq!(found.as_deref(), Ok(expected), "{target}");
        }
    }

    #[test]
    fn what_means_two_things_is_refused() {
        for (target, expected) in [
            ("/%00", Malformed::Escape),
            ("/%0a", Malformed::Escape),
            ("/%", Malformed::Escape),
            ("/%g1", Malformed::Escape),
            ("/%252e%252e/", Malformed::Escape),
            ("/%25%32%65%25%32e/", Malformed::Escape),
            ("/%25%34%31", Malformed::Escape),
            ("/a%2fb", Malformed::EscapedSlash),
            ("/a%5Cb", Malformed::EscapedSlash),
        ] {
            assert_eq!(run(Request::get(target).header(HOST, "h")), Err(expected), "{target}");
        }
        let longer = format!("/{}", "ä".repeat(2_000));
        assert_eq!(run(Request::get(longer).header(HOST, "h")), Err(Malformed::TooLong));
        let mut parts = Request::get("/a%2fb").header(HOST, "h").body(()).expect("a request").into_parts().0;
        assert_eq!(normalize(&mut parts, Rules { keep_escaped_slashes: true, ..RULES }), Ok(()));
        assert_eq!(parts.uri.path(), "/a%2Fb");
    }

    #[test]
    fn hosts_have_one_form() {
        for (host, expected) in [
            ("reviews", Ok("reviews")),
            ("Reviews.Default.:9080", Ok("reviews.default:9080")),
            ("[::1]:80", Ok("[::1]:80")),
            ("a:", Err(Malformed::HostSyntax)),
            ("a:99999", Err(Malformed::HostSyntax)),
            ("a b", Err(Malformed::HostSyntax)),
            ("a..", Err(Malformed::HostSyntax)),
            ("", Err(Malformed::HostSyntax)),
            ("a/b", Err(Malformed::HostSyntax)),
            ("u@h", Err(Malformed::HostSyntax)),
        ] {
            let found = run(Request::get("/").header(HOST, host)).map(|(host, _)| host);
            assert_eq!(found.as_deref(), expected.as_ref().map(|host| *host), "{host}");
        }
        assert_eq!(run(Request::get("/")), Err(Malformed::NoHost));
        assert_eq!(run(Request::get("/").header(HOST, "a").header(HOST, "a")), Err(Malformed::Host));
        let absolute = run(Request::get("http://Details:9080/x?y").header(HOST, "proxy"));
        assert_eq!(absolute, Ok(("details:9080".to_owned(), "/x?y".to_owned())));
        let h2 = Request::get("http://a/").version(http::Version::HTTP_2).header(HOST, "b");
        assert_eq!(run(h2), Err(Malformed::Host));
        assert_eq!(run(Request::connect("a:443").header(HOST, "a")), Err(Malformed::Connect));
    }

    proptest! {
        #[test]
        fn normalizing_twice_changes_nothing(path in "/([a-zA-Z0-9/.;%_~-]|%25|%3[0-9]|%[0-9a-fA-F]{2}){0,40}", host in "[A-Za-z0-9.-]{1,20}(:[0-9]{1,5})?") {
            let Ok(request) = Request::get(&path).header(HOST, host).body(()) else { return Ok(()) };
            let (mut parts, ()) = request.into_parts();
            if normalize(&mut parts, RULES).is_ok() {
                let (uri, headers) = (parts.uri.clone(), parts.headers.clone());
                prop_assert_eq!(normalize(&mut parts, RULES), Ok(()));
                prop_assert_eq!(parts.uri.clone(), uri);
                prop_assert_eq!(parts.headers, headers);
                let dotted = parts.uri.path().split('/').any(|segment| segment == "." || segment == "..");
                prop_assert!(!dotted && !parts.uri.path().contains("//"));
            }
        }
    }
}
