//! Predicates over text, headers, paths and query parameters.
//!
//! - A predicate is compiled once, when its resource arrives; matching allocates nothing.
//! - Regular expressions run in linear time, are bounded in size, and match the whole text.
//! - A header that is sent more than once matches when one of its values does; values are never joined.

use http::{HeaderMap, HeaderName, Method};
use proto::envoy::{
    config::route::v3::{
        HeaderMatcher, QueryParameterMatcher, header_matcher::HeaderMatchSpecifier,
        query_parameter_matcher::QueryParameterMatchSpecifier,
    },
    r#type::{
        matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
        v3::FractionalPercent,
    },
};
use regex::bytes::{Regex, RegexBuilder};

use super::wire::{Invalid, nothing_left};

/// Longest regular expression taken, characters.
const REGEX_CHARS_MAX: usize = 1_024;
/// Largest compiled program of one regular expression, bytes.
const REGEX_BYTES_MAX: usize = 1 << 20;

/// What a request shows to predicates, after normalization.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) method: &'a Method,
    pub(crate) scheme: &'a str,
    pub(crate) authority: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

/// A predicate over text.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pattern: Pattern,
    ignore_case: bool,
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(Box<str>),
    Prefix(Box<str>),
    Suffix(Box<str>),
    Contains(Box<str>),
    Regex(Regex),
}

impl Text {
    pub(crate) fn exact(text: &str) -> Self {
        Self { pattern: Pattern::Exact(text.into()), ignore_case: false }
    }

    pub(crate) fn compile(matcher: StringMatcher) -> Result<Self, Invalid> {
        let ignore_case = matcher.ignore_case;
        let pattern = match matcher.match_pattern.ok_or(Invalid::Missing("match_pattern"))? {
            MatchPattern::Exact(text) => Pattern::Exact(text.into()),
            MatchPattern::Prefix(text) => Pattern::Prefix(text.into()),
            MatchPattern::Suffix(text) => Pattern::Suffix(text.into()),
            MatchPattern::Contains(text) => Pattern::Contains(text.into()),
            MatchPattern::SafeRegex(regex) => Pattern::Regex(whole_regex(regex)?),
            MatchPattern::Custom(_) => return Err(Invalid::Unsupported("a custom string matcher".to_owned())),
        };
        Ok(Self { pattern, ignore_case })
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        let same = |a: &[u8], b: &[u8]| if self.ignore_case { a.eq_ignore_ascii_case(b) } else { a == b };
        match &self.pattern {
            Pattern::Exact(exact) => same(text, exact.as_bytes()),
            Pattern::Prefix(prefix) => text.get(..prefix.len()).is_some_and(|start| same(start, prefix.as_bytes())),
            Pattern::Suffix(suffix) => {
                text.len().checked_sub(suffix.len()).is_some_and(|at| same(&text[at..], suffix.as_bytes()))
            }
            Pattern::Contains(part) => {
                part.is_empty() || text.windows(part.len()).any(|window| same(window, part.as_bytes()))
            }
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Compiles a regular expression that must match the whole text.
pub(crate) fn whole_regex(matcher: RegexMatcher) -> Result<Regex, Invalid> {
    build_regex(&format!("^(?:{})$", checked(matcher)?))
}

/// Compiles a regular expression that may match anywhere, for substitution.
pub(crate) fn part_regex(matcher: RegexMatcher) -> Result<Regex, Invalid> {
    build_regex(&checked(matcher)?)
}

fn checked(matcher: RegexMatcher) -> Result<String, Invalid> {
    if matcher.regex.is_empty() || matcher.regex.chars().count() > REGEX_CHARS_MAX {
        return Err(Invalid::bad("regex", format!("is not 1 to {REGEX_CHARS_MAX} characters long")));
    }
    Ok(matcher.regex)
}

fn build_regex(text: &str) -> Result<Regex, Invalid> {
    RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build().map_err(|error| Invalid::bad("regex", error))
}

/// A predicate over a header, or over a part of the request line that Envoy names as one.
#[derive(Clone, Debug)]
pub(crate) struct HeaderMatch {
    of: Source,
    test: Test,
    invert: bool,
    missing_is_empty: bool,
}

#[derive(Clone, Debug)]
enum Source {
    Method,
    Scheme,
    Authority,
    Path,
    Header(HeaderName),
}

#[derive(Clone, Debug)]
enum Test {
    Present(bool),
    Text(Text),
    /// From the first number up to, and without, the second.
    Range(i64, i64),
}

impl HeaderMatch {
    #[expect(deprecated, reason = "control planes still send the old forms")]
    pub(crate) fn compile(mut matcher: HeaderMatcher) -> Result<Self, Invalid> {
        let specifier = matcher.header_match_specifier.take();
        let plain = |pattern| Test::Text(Text { pattern, ignore_case: false });
        let test = match specifier {
            None => Test::Present(true),
            Some(HeaderMatchSpecifier::PresentMatch(present)) => Test::Present(present),
            Some(HeaderMatchSpecifier::ExactMatch(exact)) => Test::Text(Text::exact(&exact)),
            Some(HeaderMatchSpecifier::PrefixMatch(part)) => plain(Pattern::Prefix(part.into())),
            Some(HeaderMatchSpecifier::SuffixMatch(part)) => plain(Pattern::Suffix(part.into())),
            Some(HeaderMatchSpecifier::ContainsMatch(part)) => plain(Pattern::Contains(part.into())),
            Some(HeaderMatchSpecifier::SafeRegexMatch(regex)) => plain(Pattern::Regex(whole_regex(regex)?)),
            Some(HeaderMatchSpecifier::StringMatch(matcher)) => Test::Text(Text::compile(matcher)?),
            Some(HeaderMatchSpecifier::RangeMatch(range)) => Test::Range(range.start, range.end),
        };
        let of = match matcher.name.as_str() {
            ":method" => Source::Method,
            ":scheme" => Source::Scheme,
            ":authority" | "host" | "Host" => Source::Authority,
            ":path" => Source::Path,
            name => Source::Header(name.parse().map_err(|error| Invalid::bad("name", error))?),
        };
        Ok(Self { of, test, invert: matcher.invert_match, missing_is_empty: matcher.treat_missing_header_as_empty })
    }

    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        match &self.of {
            Source::Method => self.judge(std::iter::once(subject.method.as_str().as_bytes())),
            Source::Scheme => self.judge(std::iter::once(subject.scheme.as_bytes())),
            Source::Authority => self.judge(std::iter::once(subject.authority.as_bytes())),
            Source::Path => self.judge_path(subject),
            Source::Header(name) => self.judge(subject.headers.get_all(name).iter().map(http::HeaderValue::as_bytes)),
        }
    }

    /// `:path` holds the query string too.
    fn judge_path(&self, subject: &Subject<'_>) -> bool {
        match subject.query {
            None => self.judge(std::iter::once(subject.path.as_bytes())),
            Some(query) => self.judge(std::iter::once(format!("{}?{query}", subject.path).as_bytes())),
        }
    }

    fn judge<'a>(&self, mut values: impl Iterator<Item = &'a [u8]>) -> bool {
        let holds = |value: &[u8]| match &self.test {
            Test::Present(_) => true,
            Test::Text(text) => text.matches(value),
            Test::Range(start, end) => {
                let number = std::str::from_utf8(value).ok().and_then(|text| text.parse::<i64>().ok());
                number.is_some_and(|number| (*start..*end).contains(&number))
            }
        };
        let first = values.next();
        let matched = match (&self.test, first) {
            (Test::Present(present), first) => first.is_some() == *present,
            (_, Some(first)) => holds(first) || values.any(holds),
            (_, None) if self.missing_is_empty => holds(b""),
            // Envoy: an absent header matches nothing, and so satisfies an inverted match.
            (_, None) => false,
        };
        matched != self.invert
    }
}

/// A predicate over one parameter of the query string, compared as sent.
#[derive(Clone, Debug)]
pub(crate) struct QueryMatch {
    name: Box<str>,
    text: Option<Text>,
}

impl QueryMatch {
    pub(crate) fn compile(mut matcher: QueryParameterMatcher) -> Result<Self, Invalid> {
        let text = match matcher.query_parameter_match_specifier.take() {
            None | Some(QueryParameterMatchSpecifier::PresentMatch(true)) => None,
            Some(QueryParameterMatchSpecifier::StringMatch(matcher)) => Some(Text::compile(matcher)?),
            Some(QueryParameterMatchSpecifier::PresentMatch(false)) => {
                return Err(Invalid::Unsupported("QueryParameterMatcher.present_match: false".to_owned()));
            }
        };
        let name = std::mem::take(&mut matcher.name).into();
        nothing_left(&matcher)?;
        Ok(Self { name, text })
    }

    pub(crate) fn matches(&self, query: Option<&str>) -> bool {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        let mut pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        // As Envoy does: the first parameter of the name decides.
        let found = pairs.find(|(name, _)| *name == &*self.name);
        found.is_some_and(|(_, value)| self.text.as_ref().is_none_or(|text| text.matches(value.as_bytes())))
    }
}

/// A share of requests, in millionths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share(u32);

impl Share {
    const WHOLE: u32 = 1_000_000;

    pub(crate) fn compile(percent: FractionalPercent) -> Result<Self, Invalid> {
        let unit = match percent.denominator {
            0 => 10_000,
            1 => 100,
            2 => 1,
            other => return Err(Invalid::bad("denominator", other)),
        };
        Ok(Self(percent.numerator.saturating_mul(unit).min(Self::WHOLE)))
    }

    /// Draws whether one request belongs to the share.
    pub(crate) fn draw(self) -> bool {
        self.0 == Self::WHOLE || (self.0 > 0 && rand::random_range(0..Self::WHOLE) < self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject<'a>(method: &'a Method, headers: &'a HeaderMap, query: Option<&'a str>) -> Subject<'a> {
        Subject { method, scheme: "http", authority: "reviews:9080", path: "/a", query, headers }
    }

    fn regex(regex: &str) -> RegexMatcher {
        RegexMatcher { regex: regex.to_owned(), ..RegexMatcher::default() }
    }

    #[test]
    #[expect(deprecated, reason = "control planes still send the old forms")]
    fn headers_match_as_envoy_matches_them() {
        use HeaderMatchSpecifier as M;
        let mut headers = HeaderMap::new();
        for (name, value) in [("end-user", "jason"), ("n", "7"), ("twice", "a"), ("twice", "b"), ("empty", "")] {
            headers.append(name, value.parse().expect("a value"));
        }
        let cases = [
            ("end-user", Some(M::ExactMatch("jason".into())), false, true),
            ("end-user", Some(M::ExactMatch("jaso".into())), false, false),
            ("End-User", Some(M::PrefixMatch("ja".into())), false, true),
            ("end-user", Some(M::SuffixMatch("son".into())), false, true),
            ("end-user", Some(M::ContainsMatch("aso".into())), false, true),
            ("end-user", Some(M::SafeRegexMatch(regex("j.*n"))), false, true),
            ("end-user", Some(M::SafeRegexMatch(regex("j"))), false, false),
            ("end-user", Some(M::ExactMatch("jason".into())), true, false),
            ("absent", Some(M::ExactMatch("x".into())), false, false),
            ("absent", Some(M::ExactMatch("x".into())), true, true),
            ("absent", Some(M::PresentMatch(true)), false, false),
            ("absent", Some(M::PresentMatch(false)), false, true),
            ("absent", Some(M::PresentMatch(true)), true, true),
            ("empty", Some(M::PresentMatch(true)), false, true),
            ("empty", None, false, true),
            ("n", Some(M::RangeMatch(proto::envoy::r#type::v3::Int64Range { start: 0, end: 7 })), false, false),
            ("n", Some(M::RangeMatch(proto::envoy::r#type::v3::Int64Range { start: 7, end: 8 })), false, true),
            ("twice", Some(M::ExactMatch("b".into())), false, true),
            ("twice", Some(M::ExactMatch("a,b".into())), false, false),
            (":method", Some(M::ExactMatch("GET".into())), false, true),
            (":authority", Some(M::PrefixMatch("reviews".into())), false, true),
            (":path", Some(M::ExactMatch("/a?q=1".into())), false, true),
        ];
        for (name, header_match_specifier, invert_match, expected) in cases {
            let matcher =
                HeaderMatcher { name: name.into(), header_match_specifier, invert_match, ..HeaderMatcher::default() };
            let compiled = HeaderMatch::compile(matcher.clone()).expect("valid");
            assert_eq!(compiled.matches(&subject(&Method::GET, &headers, Some("q=1"))), expected, "{matcher:?}");
        }
    }

    #[test]
    fn the_first_parameter_of_a_name_decides() {
        let exact = |text: &str| {
            Some(QueryParameterMatchSpecifier::StringMatch(StringMatcher {
                match_pattern: Some(MatchPattern::Exact(text.into())),
                ignore_case: false,
            }))
        };
        for (name, specifier, query, expected) in [
            ("a", exact("1"), "a=1&b=2", true),
            ("b", exact("2"), "a=1&b=2", true),
            ("a", exact("2"), "a=1&a=2", false),
            ("flag", Some(QueryParameterMatchSpecifier::PresentMatch(true)), "flag", true),
            ("flag", None, "flags=1", false),
            ("a", exact(""), "a", true),
        ] {
            let matcher = QueryParameterMatcher { name: name.into(), query_parameter_match_specifier: specifier };
            let compiled = QueryMatch::compile(matcher).expect("valid");
            assert_eq!(compiled.matches(Some(query)), expected, "{name} {query}");
        }
    }

    #[test]
    fn a_hostile_regex_is_refused() {
        assert!(whole_regex(regex(&"a".repeat(2_000))).is_err());
        assert!(whole_regex(regex("(((a{100}){100}){100})")).is_err());
        assert!(whole_regex(regex("(")).is_err());
        assert!(whole_regex(regex("")).is_err());
    }

    #[test]
    fn a_share_is_drawn_in_proportion() {
        let share = |numerator, denominator| {
            Share::compile(FractionalPercent { numerator, denominator }).expect("a known denominator")
        };
        assert_eq!(share(50, 0), share(5_000, 1));
        assert!((0..1_000).all(|_| share(100, 0).draw() && !share(0, 0).draw()));
        let drawn = (0..10_000).filter(|_| share(10, 0).draw()).count();
        assert!((800..1_200).contains(&drawn), "{drawn}");
    }
}
