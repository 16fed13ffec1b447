//! Addresses of members, as they are told to the cluster.
//!
//! Source: etcd `client/pkg/types/urls.go`.

/// The URLs in order, if there is at least one and each is one that peers can be reached by: a scheme, a host and a port,
/// and nothing more.
pub(crate) fn peer_urls(urls: &[String]) -> Option<Vec<String>> {
    let mut urls: Vec<String> = urls.iter().map(|url| url.trim().to_owned()).collect();
    urls.sort_unstable();
    (!urls.is_empty() && urls.iter().all(|url| is_peer_url(url))).then_some(urls)
}

/// Whether TLS is spoken there.
pub(crate) fn is_secure(url: &str) -> bool {
    url.starts_with("https://")
}

fn is_peer_url(url: &str) -> bool {
    let Some((scheme, authority)) = url.split_once("://") else { return false };
    let Some((host, port)) = authority.rsplit_once(':') else { return false };
    let is_host = !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']) && brackets_are_whole(host);
    let is_port = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    matches!(scheme, "http" | "https" | "unix" | "unixs") && is_host && is_port
}

/// An IPv6 address is in brackets, and nothing else has a colon.
fn brackets_are_whole(host: &str) -> bool {
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| !address.contains(['[', ']'])),
        None => !host.contains([':', '[', ']']),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_url_has_a_scheme_a_host_and_a_port() {
        let good = ["http://127.0.0.1:2380", "https://a.b:1", "http://[::1]:2380", "unix://sock:1"];
        let bad = [
            "",
            "foo",
            "http://nohost",
            "http://a/b",
            "http://a:1/b",
            "http://:1",
            "http://a:",
            "http://a:x",
            "http://a:99999",
            "ftp://a:1",
            "http://::1:2380",
            "http://[::1:2380",
            "//a:1",
            "http://a:1?b",
        ];
        for url in good {
            assert_eq!(peer_urls(&[url.to_owned()]), Some(vec![url.to_owned()]), "{url}");
        }
        for url in bad {
            assert_eq!(peer_urls(&[good[0].to_owned(), url.to_owned()]), None, "{url}");
        }
        assert_eq!(peer_urls(&[]), None);
        let sorted = peer_urls(&["http://b:1".to_owned(), " http://a:1".to_owned()]);
        assert_eq!(sorted, Some(vec!["http://a:1".to_owned(), "http://b:1".to_owned()]));
    }
}
