//! Who is signed in: a cookie that holds the user's name.
//!
//! - A name that is not plain enough for a cookie, a header and a page alike is refused at sign-in, and ignored in a cookie.

use http::{HeaderMap, HeaderValue, header};

const COOKIE: &str = "session";
const USER_BYTES_MAX: usize = 64;

/// `Set-Cookie` of signing out.
pub(super) const SIGNED_OUT: &str = "session=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax";

/// A user's name: 1 to 64 letters, digits and `. _ - @`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User(String);

impl User {
    /// `None` when the text is not a name.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        let valid = (1..=USER_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
        valid.then(|| Self(text.to_owned()))
    }

    /// As signed in with.
    pub(super) fn name(&self) -> &str {
        &self.0
    }

    /// As a header's value.
    pub(super) fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("a user's name is of visible ASCII characters")
    }
}

/// `Set-Cookie` of signing in.
pub(super) fn signed_in(user: &User) -> String {
    format!("{COOKIE}={}; Path=/; HttpOnly; SameSite=Lax", user.name())
}

/// The user that the request's cookie names.
pub(super) fn user(headers: &HeaderMap) -> Option<User> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find_map(|(name, value)| if name == COOKIE { User::parse(value) } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["jason", "a.b-c_d@example.com", "X"] {
            assert!(User::parse(name).is_some(), "{name:?}");
        }
        for name in ["", "a b", "a;b", "<b>", "a\r\nset-cookie: x", "käse", &"x".repeat(65)] {
            assert!(User::parse(name).is_none(), "{name:?}");
        }
    }

    #[test]
    fn a_cookie_names_the_user_it_was_set_for() {
        let jason = User::parse("jason").unwrap();
        let cookie = signed_in(&jason);
        let pair = cookie.split(';').next().unwrap();
        let cases = [
            (pair, Some(jason.clone())),
            ("theme=dark; session=jason", Some(jason)),
            ("session=", None),
            ("session=<script>", None),
            ("sessions=jason", None),
            ("", None),
        ];
        for (value, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::COOKIE, HeaderValue::from_str(value).unwrap());
            assert_eq!(user(&headers), expected, "{value:?}");
        }
    }
}
