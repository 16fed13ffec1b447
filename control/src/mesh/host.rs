//! Host names: short and full, exact and wildcard; and who may see what.

use std::{cmp::Ordering, collections::BTreeMap};

use crate::model::{Id, Kind};

/// The DNS domain of the cluster's services.
pub(crate) const DOMAIN: &str = "cluster.local";
/// Resources here without a selector hold for the whole mesh.
pub(crate) const ROOT_NAMESPACE: &str = "istio-system";

/// The gateway that stands for all sidecars.
pub(crate) const MESH: &str = "mesh";

/// A host as a resource of `namespace` writes it, in full: a name without a dot is a service of that namespace.
pub(crate) fn full_name(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.svc.{DOMAIN}")
    }
}

/// Whether `pattern`, a host or `*.suffix` or `*`, covers all that `host`, another such, covers.
pub(crate) fn covers(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        None => pattern == host,
        Some(suffix) => host.strip_prefix('*').unwrap_or(host).ends_with(suffix),
    }
}

/// Orders patterns that cover the same host, the more specific first: exact, then the longer suffix.
pub(crate) fn more_specific(left: &str, right: &str) -> Ordering {
    let rank = |pattern: &str| (pattern.starts_with('*'), std::cmp::Reverse(pattern.len()));
    rank(left).cmp(&rank(right))
}

/// Whether an `exportTo` list of a resource in `owner` lets `viewer` see it.
pub(crate) fn visible(export_to: &[String], owner: &str, viewer: &str) -> bool {
    let shows = |to: &String| match to.as_str() {
        "*" => true,
        "." => owner == viewer,
        "~" => false,
        namespace => namespace == viewer,
    };
    export_to.is_empty() || export_to.iter().any(shows)
}

/// Whether `labels` has all of `selector`.
pub(crate) fn selects(selector: &BTreeMap<String, String>, labels: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// The gateway that a virtual service of `namespace` calls `name`.
pub(crate) fn gateway_id(name: &str, namespace: &str) -> Id {
    let (namespace, name) = match name.split_once('/') {
        None => (namespace, name),
        Some((".", own)) => (namespace, own),
        Some((other, name)) => (other, name),
    };
    Id { kind: Kind::Gateway, namespace: namespace.to_owned(), name: name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_belong_to_the_namespace_of_the_rule() {
        for (host, expected) in [
            ("reviews", "reviews.ns.svc.cluster.local"),
            ("reviews.other", "reviews.other"),
            ("*", "*"),
            ("*.com", "*.com"),
            ("10.0.0.1", "10.0.0.1"),
        ] {
            assert_eq!(full_name(host, "ns"), expected);
        }
    }

    #[test]
    fn wildcards_cover_suffixes() {
        for (pattern, host, expected) in [
            ("a.com", "a.com", true),
            ("a.com", "b.a.com", false),
            ("*.a.com", "b.a.com", true),
            ("*.a.com", "a.com", false),
            ("*.com", "*.a.com", true),
            ("*.a.com", "*.com", false),
            ("*", "x", true),
        ] {
            assert_eq!(covers(pattern, host), expected, "{pattern} {host}");
        }
        let mut patterns = ["*", "*.com", "a.b.com", "*.b.com"];
        patterns.sort_by(|left, right| more_specific(left, right));
        assert_eq!(patterns, ["a.b.com", "*.b.com", "*.com", "*"]);
    }

    #[test]
    fn export_lists_show_and_hide() {
        for (list, viewer, expected) in [
            (vec![], "b", true),
            (vec!["*"], "b", true),
            (vec!["."], "b", false),
            (vec!["."], "a", true),
            (vec!["b"], "b", true),
            (vec!["~"], "a", false),
        ] {
            let list: Vec<String> = list.into_iter().map(str::to_owned).collect();
            assert_eq!(visible(&list, "a", viewer), expected, "{list:?}");
        }
    }
}
