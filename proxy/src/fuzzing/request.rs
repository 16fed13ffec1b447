//! What clients ask for.

use http::{Method, Request, Uri, Version, header::HOST};

use crate::http::normalize::{Rules, normalize};

/// Normalizes a request: `bytes` are a byte for what kind it is, its `host` header, a zero and its target. What is
/// accepted has one form, which means one thing also to who decodes it again.
///
/// # Panics
/// If not.
pub fn request(bytes: &[u8]) {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let (host, target) = match rest.iter().position(|byte| *byte == 0) {
        Some(end) => (Some(&rest[..end]), &rest[end + 1..]),
        None => (None, rest),
    };
    let Ok(uri) = Uri::try_from(target) else { return };
    let mut request = Request::builder()
        .method(if kind & 1 == 0 { Method::GET } else { Method::OPTIONS })
        .version(if kind & 2 == 0 { Version::HTTP_11 } else { Version::HTTP_2 })
        .uri(uri);
    if let Some(host) = host {
        request = request.header(HOST, host);
    }
    let Ok(request) = request.body(()) else { return };
    let (mut parts, ()) = request.into_parts();
    let rules = Rules { uri_bytes_max: 8 << 10, keep_escaped_slashes: kind & 4 != 0 };
    if normalize(&mut parts, rules).is_err() {
        return;
    }
    let (uri, headers) = (parts.uri.clone(), parts.headers.clone());
    assert_eq!(normalize(&mut parts, rules), Ok(()), "{uri:?}");
    assert_eq!((&parts.uri, &parts.headers), (&uri, &headers));
    assert!(uri.authority().is_none() && uri.scheme().is_none(), "{uri:?}");
    let host = headers[HOST].to_str().expect("text");
    assert!(!host.bytes().any(|byte| byte.is_ascii_uppercase()), "{host:?}");
    let path = uri.path();
    if path != "*" {
        assert!(path.starts_with('/') && !path.contains("//") && !path.contains('\\'), "{path:?}");
        assert!(!path.split('/').any(|segment| matches!(segment, "." | "..")), "{path:?}");
        assert!(rules.keep_escaped_slashes || !path.contains("%2F"), "{path:?}");
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// Much that is special in a target.
    fn piece() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-z0-9]{1,3}",
            Just("/".to_owned()),
            Just("..".to_owned()),
            Just("%25".to_owned()),
            Just("%2".to_owned()),
            "%[2-7][0-9a-fA-F]",
            "[?#*@:;\\\\]",
            Just("http://".to_owned()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn a_request_has_one_form(kind: u8, host in "[aZ.:0\\[\\]-]{0,6}", target in vec(piece(), 0..12)) {
            let host = if host.is_empty() { String::new() } else { host + "\0/" };
            let target = target.concat();
            request(&[&[kind], host.as_bytes(), target.as_bytes()].concat());
        }

        #[test]
        fn any_bytes_are_a_request_or_none(bytes in vec(any::<u8>(), 0..60)) {
            request(&bytes);
        }
    }
}
