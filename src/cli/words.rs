//! Words of a transaction's lines: bare, in single quotes, or in double quotes with Go's escapes.

use bytes::Bytes;
use std::{iter::Peekable, str::Chars};

/// How a comparison compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    NotEqual,
    Greater,
    Less,
}

/// What is left of a line.
pub(crate) struct Words<'a> {
    rest: Peekable<Chars<'a>>,
}

/// All words of a line.
pub(crate) fn all(line: &str) -> Result<Vec<Bytes>, &'static str> {
    let mut words = Words::new(line);
    std::iter::from_fn(|| words.next_word().transpose()).collect()
}

/// A word as text, if it is UTF-8.
pub(crate) fn text(word: &Bytes) -> Option<&str> {
    std::str::from_utf8(word).ok()
}

impl<'a> Words<'a> {
    pub(crate) fn new(line: &'a str) -> Self {
        Self { rest: line.chars().peekable() }
    }

    /// The next word; `None` at the end.
    pub(crate) fn next_word(&mut self) -> Result<Option<Bytes>, &'static str> {
        if self.is_at_end() { Ok(None) } else { self.word(char::is_whitespace).map(Some) }
    }

    /// A word, and the `end` after it.
    pub(crate) fn next_until(&mut self, end: char) -> Result<Bytes, &'static str> {
        self.skip_spaces();
        let word = self.word(|c| c == end || c.is_whitespace())?;
        self.skip_spaces();
        self.rest.next_if_eq(&end).map(|_| word).ok_or("an end is missing")
    }

    /// `=`, `!=`, `>` or `<`.
    pub(crate) fn operator(&mut self) -> Option<Operator> {
        self.skip_spaces();
        let operator = match self.rest.next()? {
            '=' => Operator::Equal,
            '>' => Operator::Greater,
            '<' => Operator::Less,
            '!' => self.rest.next_if_eq(&'=').map(|_| Operator::NotEqual)?,
            _ => return None,
        };
        if self.rest.peek() == Some(&'=') { None } else { Some(operator) }
    }

    pub(crate) fn is_at_end(&mut self) -> bool {
        self.skip_spaces();
        self.rest.peek().is_none()
    }

    fn skip_spaces(&mut self) {
        while self.rest.next_if(|c| c.is_whitespace()).is_some() {}
    }

    fn word(&mut self, is_end: impl Fn(char) -> bool) -> Result<Bytes, &'static str> {
        match self.rest.peek() {
            Some('"') => self.double_quoted(),
            Some('\'') => self.single_quoted(),
            _ => {
                let bare: String = std::iter::from_fn(|| self.rest.next_if(|&c| !is_end(c))).collect();
                Ok(bare.into())
            }
        }
    }

    fn single_quoted(&mut self) -> Result<Bytes, &'static str> {
        self.rest.next();
        let text: String = std::iter::from_fn(|| self.rest.next_if(|&c| c != '\'')).collect();
        self.rest.next().map(|_| text.into()).ok_or("a quote is not closed")
    }

    fn double_quoted(&mut self) -> Result<Bytes, &'static str> {
        self.rest.next();
        let mut word = Vec::new();
        loop {
            match self.rest.next().ok_or("a quote is not closed")? {
                '"' => return Ok(word.into()),
                '\\' => self.escape(&mut word)?,
                c => push(&mut word, c),
            }
        }
    }

    fn escape(&mut self, word: &mut Vec<u8>) -> Result<(), &'static str> {
        const UNKNOWN: &str = "an escape is not one of Go's";
        let c = self.rest.next().ok_or("a quote is not closed")?;
        let control = match c {
            'a' => 7,
            'b' => 8,
            'f' => 12,
            'n' => b'\n',
            'r' => b'\r',
            't' => b'\t',
            'v' => 11,
            '\\' | '"' => c as u8,
            'x' => u8::try_from(self.number(2, 16)?).map_err(|_| UNKNOWN)?,
            'u' | 'U' => {
                let code = self.number(if c == 'u' { 4 } else { 8 }, 16)?;
                push(word, char::from_u32(code).ok_or(UNKNOWN)?);
                return Ok(());
            }
            '0'..='7' => {
                let rest = self.number(2, 8)?;
                u8::try_from(c.to_digit(8).ok_or(UNKNOWN)? * 64 + rest).map_err(|_| UNKNOWN)?
            }
            _ => return Err(UNKNOWN),
        };
        word.push(control);
        Ok(())
    }

    fn number(&mut self, digits: usize, radix: u32) -> Result<u32, &'static str> {
        let text: String = self.rest.by_ref().take(digits).collect();
        let complete = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u32::from_str_radix(&text, radix).ok().filter(|_| complete).ok_or("an escape is cut short")
    }
}

fn push(word: &mut Vec<u8>, c: char) {
    word.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_be_quoted() {
        let cases: [(&str, &[&[u8]]); 6] = [
            ("  put a  b ", &[b"put", b"a", b"b"]),
            (r#"put "a b" 'c "d'"#, &[b"put", b"a b", b"c \"d"]),
            (r#""\n\t\"\\" "\x00\xff" "\101" "\u00fc""#, &[b"\n\t\"\\", b"\0\xff", b"A", "ü".as_bytes()]),
            (r#""" ''"#, &[b"", b""]),
            ("ü→", &["ü→".as_bytes()]),
            ("", &[]),
        ];
        for (line, expected) in cases {
            assert_eq!(all(line).unwrap(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_not_closed_or_not_an_escape_is_refused() {
        for line in [r#""a"#, "'a", r#""\"#, r#""\q""#, r#""\x1""#, r#""\400""#, r#""\ud800""#, r#""\u+123""#] {
            assert!(all(line).is_err(), "{line}");
        }
    }
}
