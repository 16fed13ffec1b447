//! Which virtual host an authority belongs to.

use std::collections::HashMap;

use super::wire::Invalid;

/// Domains of one route table. Order of preference, as in Envoy: exact, longest `*suffix`, longest `prefix*`, `*`.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostIndex {
    exact: HashMap<Box<str>, usize>,
    /// Longest first; without the star.
    suffixes: Vec<(Box<str>, usize)>,
    prefixes: Vec<(Box<str>, usize)>,
    any: Option<usize>,
}

impl HostIndex {
    /// Adds a domain of virtual host `at`; refuses one that is taken.
    pub(crate) fn add(&mut self, domain: &str, at: usize) -> Result<(), Invalid> {
        let domain = domain.to_ascii_lowercase();
        let taken = || Invalid::bad("domains", format!("{domain:?} is listed twice"));
        if domain == "*" {
            return if self.any.replace(at).is_some() { Err(taken()) } else { Ok(()) };
        }
        let (list, text) = match (domain.strip_prefix('*'), domain.strip_suffix('*')) {
            (Some(suffix), _) => (&mut self.suffixes, suffix),
            (None, Some(prefix)) => (&mut self.prefixes, prefix),
            (None, None) => {
                let free = self.exact.insert(domain.as_str().into(), at).is_none();
                return if free { Ok(()) } else { Err(taken()) };
            }
        };
        if text.is_empty() || text.contains('*') || list.iter().any(|(other, _)| **other == *text) {
            return Err(taken());
        }
        list.push((text.into(), at));
        list.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        Ok(())
    }

    /// The virtual host of an authority in lower case, with its port when it has one.
    pub(crate) fn find(&self, authority: &str) -> Option<usize> {
        let longer = |text: &str| authority.len() > text.len();
        let suffix = || self.suffixes.iter().find(|(suffix, _)| longer(suffix) && authority.ends_with(&**suffix));
        let prefix = || self.prefixes.iter().find(|(prefix, _)| longer(prefix) && authority.starts_with(&**prefix));
        let exact = self.exact.get(authority).copied();
        exact.or_else(|| suffix().map(|(_, at)| *at)).or_else(|| prefix().map(|(_, at)| *at)).or(self.any)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_domain_wins() {
        let domains = ["*", "*.com", "*.foo.com", "bar.*", "bar.foo.*", "a.foo.com", "a.foo.com:80", "UPPER.com"];
        let mut index = HostIndex::default();
        for (at, domain) in domains.iter().enumerate() {
            index.add(domain, at).expect("free");
        }
        for (authority, expected) in [
            ("a.foo.com", "a.foo.com"),
            ("a.foo.com:80", "a.foo.com:80"),
            ("b.foo.com", "*.foo.com"),
            ("foo.com", "*.com"),
            (".foo.com", "*.com"),
            ("upper.com", "UPPER.com"),
            ("bar.x", "bar.*"),
            ("bar.foo.x", "bar.foo.*"),
            ("bar.foo.com", "*.foo.com"),
            ("b.foo.com:80", "*"),
            ("", "*"),
        ] {
            assert_eq!(index.find(authority).map(|at| domains[at]), Some(expected), "{authority}");
        }
    }

    #[test]
    fn a_domain_belongs_to_one_host() {
        let mut index = HostIndex::default();
        for domain in ["*", "*.x", "x.*", "x"] {
            index.add(domain, 0).expect("free");
            assert!(index.add(domain, 1).is_err(), "{domain}");
        }
        assert_eq!(HostIndex::default().find("x"), None);
    }
}
